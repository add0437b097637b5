//! Reads a delivery through the window, restarts at will, and holds what comes against the history.

use std::sync::Arc;

use tidemill::sources::changefeed::spill::StoreSpill;
use tidemill::sources::collect::window::{Limits, Window};
use tidemill::sources::collect::{Collect, Complete};
use tidemill::sources::formats::{RowChange, Said, SchemaChange};
use tidemill::sources::log::Partition;
use tidemill::store::Store;

use crate::delivery::Delivery;
use crate::history::{History, Random, State};

const RESTARTS_MAX: u64 = 8;
/// How many completes a crash may lose.
const LOST_MAX: usize = 4;
/// Offsets grow but are not gapless.
const OFFSET_FIRST: i64 = 7;
const OFFSET_STEP: i64 = 3;

pub struct Reader<'a> {
    random: &'a mut Random,
    history: &'a History,
    delivery: &'a Delivery,
    limits: Limits,
    window: Window,
    /// Behind the window's spill; outlives the windows, as a server's does.
    store: Arc<Store>,
    /// For each partition the next message to read.
    at: Vec<usize>,
    /// For each partition the watermark that the window knows.
    watermarks: Vec<u64>,
    /// This partition is not read for so many steps.
    silent: (usize, usize),
    receiver: Receiver,
    /// The last states that were made durable, each with what is needed to go on from it.
    durable: Vec<Point>,
    seen: Seen,
}

#[derive(Clone)]
struct Point {
    receiver: Receiver,
    resume: Vec<i64>,
    state: Option<u64>,
}

/// The state so far, and how many of the history's boundaries it has passed.
#[derive(Clone)]
struct Receiver {
    state: State,
    passed: usize,
    /// Nothing has come since a restart: the rows of a commit whose statements are to come may come again.
    fresh: bool,
}

/// What has been met, to see that the generator does what it says.
#[derive(Debug, Default)]
pub struct Seen {
    completes: u64,
    statements: u64,
    rows_again: u64,
    restarts: u64,
    lost: u64,
    reopened: u64,
    held_back: u64,
    late: u64,
    duplicates: u64,
    copies: u64,
    fallen_back: u64,
    spilled: u64,
}

impl Seen {
    pub fn each(&self) -> [(&'static str, u64); 12] {
        [
            ("completes", self.completes),
            ("statements", self.statements),
            // Rare: a restart between the rows and the statements of a commit.
            ("rows again", self.rows_again * 50),
            ("restarts", self.restarts),
            ("lost", self.lost),
            ("reopened", self.reopened),
            ("held back", self.held_back),
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("copies", self.copies),
            ("fallen back", self.fallen_back),
            ("spilled", self.spilled),
        ]
    }

    pub fn add(&mut self, other: &Seen) {
        self.completes += other.completes;
        self.statements += other.statements;
        self.rows_again += other.rows_again;
        self.restarts += other.restarts;
        self.lost += other.lost;
        self.reopened += other.reopened;
        self.held_back += other.held_back;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.copies += other.copies;
        self.fallen_back += other.fallen_back;
        self.spilled += other.spilled;
    }
}

impl<'a> Reader<'a> {
    pub fn new(random: &'a mut Random, history: &'a History, delivery: &'a Delivery) -> Reader<'a> {
        let count = delivery.partitions.len();
        let limits = Limits {
            soft_bytes: [500, 3_000, usize::MAX][random.below(3)],
            memory_bytes: [1_000, 4_000, usize::MAX][random.below(3)],
            window_bytes: usize::MAX,
            complete_bytes: [1, 1_500, usize::MAX][random.below(3)],
        };
        let silent = (random.below(count), random.below(120));
        let receiver = Receiver { state: State::empty(), passed: 0, fresh: true };
        let resume = vec![OFFSET_FIRST; count];
        let store = Arc::new(Store::in_memory());
        let window = window(&resume, None, limits, &store);
        let durable = vec![Point { receiver: receiver.clone(), resume, state: None }];
        let (at, watermarks) = (vec![0; count], vec![0; count]);
        let seen = Seen::default();
        Reader { random, history, delivery, limits, window, store, at, watermarks, silent, receiver, durable, seen }
    }

    /// Reads all of it.
    pub fn run(mut self) -> Seen {
        let mut restarts_left = RESTARTS_MAX;
        while let Some(partition) = self.choose() {
            self.read(partition);
            if !self.random.once_in(3) {
                self.drain();
            }
            if restarts_left > 0 && self.random.once_in(12) {
                restarts_left -= 1;
                self.restart();
            }
        }
        while let Some(complete) = self.window.next() {
            self.receive(complete);
        }
        assert_eq!(self.receiver.passed, self.history.boundaries.len(), "all has come");
        let ends: Vec<i64> = self.delivery.partitions.iter().map(|p| offset(p.len()) - OFFSET_STEP + 1).collect();
        assert_eq!(self.window.resume(), ends, "no message is needed any more");
        assert_eq!(self.window.state(), Some(self.delivery.last_watermark));
        assert_eq!(self.window.bytes(), 0, "nothing is held");
        self.count();
        self.seen
    }

    /// A partition that has messages; `None` at the end.
    fn choose(&mut self) -> Option<usize> {
        let unread = |i: &usize| self.at[*i] < self.delivery.partitions[*i].len();
        let unread: Vec<usize> = (0..self.at.len()).filter(unread).collect();
        if unread.is_empty() {
            return None;
        }
        let ahead = self.window.ahead();
        let wanted: Vec<usize> = unread.iter().copied().filter(|i| !ahead.contains(i)).collect();
        assert!(!wanted.is_empty(), "the reader would wait for ever: {ahead:?} are ahead, {unread:?} unread");
        self.seen.held_back += (wanted.len() < unread.len()) as u64;
        let (silent, steps) = self.silent;
        self.silent.1 = steps.saturating_sub(1);
        let spoken: Vec<usize> = wanted.iter().copied().filter(|i| steps == 0 || *i != silent).collect();
        let among = if spoken.is_empty() { &wanted } else { &spoken };
        Some(among[self.random.below(among.len())])
    }

    fn read(&mut self, partition: usize) {
        for _ in 0..1 + self.random.below(8) {
            let index = self.at[partition];
            let Some(said) = self.delivery.partitions[partition].get(index) else { return };
            self.window.take(partition, offset(index), said.clone()).expect("the window follows");
            self.at[partition] += 1;
            for one in said {
                if let Said::Watermark(watermark) = one {
                    self.watermarks[partition] = self.watermarks[partition].max(*watermark);
                }
            }
        }
    }

    /// Takes what is complete, all of it or a part.
    fn drain(&mut self) {
        let most = if self.random.once_in(3) { self.random.below(3) } else { usize::MAX };
        for _ in 0..most {
            let Some(complete) = self.window.next() else {
                let closed = *self.watermarks.iter().min().expect("there are partitions");
                let next = self.history.boundaries.get(self.receiver.passed);
                assert!(next.is_none_or(|b| b.commit >= closed), "what is below {closed} must have come");
                return;
            };
            self.receive(complete);
            self.durable.push(self.point());
            if self.durable.len() > LOST_MAX {
                self.durable.remove(0);
            }
        }
    }

    fn receive(&mut self, complete: Complete) {
        self.seen.completes += 1;
        match complete {
            Complete::Rows { rows, committed_ms } => {
                self.seen.rows_again += self.receiver.receive_rows(self.history, &rows) as u64;
                assert_eq!(committed_ms, rows.last().and_then(|row| row.committed_ms));
            }
            Complete::Schema(changes) => {
                self.seen.statements += changes.len() as u64;
                self.receiver.receive_statements(self.history, &changes);
            }
        }
    }

    fn point(&self) -> Point {
        Point { receiver: self.receiver.clone(), resume: self.window.resume(), state: self.window.state() }
    }

    fn restart(&mut self) {
        self.seen.restarts += 1;
        if self.random.once_in(4) {
            // The link was lost, not the window.
            self.seen.reopened += 1;
            self.at = self.window.resume().iter().map(|offset| index(*offset)).collect();
            return;
        }
        let mut point = self.point();
        if self.random.once_in(2) {
            // What came after the last durable state is lost with it.
            self.seen.lost += 1;
            self.durable.truncate(1 + self.random.below(self.durable.len()));
            point = self.durable.last().expect("the first stays").clone();
        }
        self.count();
        self.window = window(&point.resume, point.state, self.limits, &self.store);
        self.watermarks.fill(point.state.unwrap_or(0));
        self.at = point.resume.iter().map(|offset| index(*offset)).collect();
        self.receiver = point.receiver;
        self.receiver.fresh = true;
    }

    fn count(&mut self) {
        let counts = self.window.counts();
        self.seen.late += counts.late;
        self.seen.duplicates += counts.duplicates;
        self.seen.copies += counts.copies;
        self.seen.fallen_back += counts.fallen_back;
        self.seen.spilled += counts.spilled;
    }
}

impl Receiver {
    /// True when they are the rows of a commit that came before the restart, again.
    fn receive_rows(&mut self, history: &History, rows: &[RowChange]) -> bool {
        assert!(rows.is_sorted_by_key(|row| row.commit), "rows come by commit: {rows:?}");
        rows.iter().for_each(|row| self.state.apply(row));
        let last = rows.last().and_then(|row| row.commit).expect("there is a row and it has a commit");
        let reached = history.boundaries.iter().position(|b| b.commit == last && b.row_count > 0);
        let reached = reached.expect("a commit of the history") + 1;
        // A statement that is still to come may have the rows before it come again after a restart, and only those.
        let statement_next = history.boundaries.get(reached).is_some_and(|b| b.commit == last);
        let again = self.fresh && statement_next && reached == self.passed;
        assert!(reached > self.passed || again, "back from boundary {} to {reached}", self.passed);
        let from = if again { reached - 1 } else { self.passed };
        let boundaries = &history.boundaries[from..reached];
        assert!(boundaries.iter().all(|b| b.statements.is_empty()), "a statement was left out");
        assert_eq!(rows.len(), boundaries.iter().map(|b| b.row_count).sum::<usize>(), "rows up to {last}: {rows:?}");
        self.arrive(history, reached);
        again
    }

    fn receive_statements(&mut self, history: &History, changes: &[SchemaChange]) {
        changes.iter().for_each(|change| self.state.apply_statement(change));
        let next = history.boundaries.get(self.passed).map(|b| &b.statements[..]);
        assert_eq!(Some(changes), next, "statements come in their order, once");
        self.arrive(history, self.passed + 1);
    }

    fn arrive(&mut self, history: &History, passed: usize) {
        assert_eq!(self.state, history.boundaries[passed - 1].state, "the state at boundary {passed}");
        self.passed = passed;
        self.fresh = false;
    }
}

fn window(resume: &[i64], state: Option<u64>, limits: Limits, store: &Arc<Store>) -> Window {
    let partition = |(number, next): (usize, &i64)| Partition {
        topic: "feed".to_string(),
        number: number as i32,
        next: *next,
        end: i64::MAX,
    };
    let partitions: Vec<Partition> = resume.iter().enumerate().map(partition).collect();
    Window::with(&partitions, state, limits, Some(Box::new(StoreSpill::new(store))))
}

fn offset(index: usize) -> i64 {
    OFFSET_FIRST + index as i64 * OFFSET_STEP
}

/// The first message at or after an offset.
fn index(offset: i64) -> usize {
    (offset - OFFSET_FIRST + OFFSET_STEP - 1).div_euclid(OFFSET_STEP) as usize
}
