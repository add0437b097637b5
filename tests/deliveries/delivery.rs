//! A history as a changefeed may deliver it: over partitions, at least once, in any allowed order.

use tidemill::sources::formats::{Op, RowChange, Said};

use crate::history::{History, Random, key, mix};

const PARTITIONS_MAX: usize = 4;
/// Replays grow a partition up to this, about.
const MESSAGES_MAX: usize = 250;

/// For each partition what its messages say, in order.
pub struct Delivery {
    pub partitions: Vec<Vec<Vec<Said>>>,
    pub last_watermark: u64,
}

/// Which partition a row goes to.
#[derive(Clone, Copy)]
enum Dispatch {
    Table,
    IndexValue,
    Ts,
}

/// How wild one stream is: each is a chance of one in so many.
struct Wildness {
    duplicate: usize,
    replay: usize,
    early: usize,
    shuffle: usize,
    without_watermark: usize,
    /// A copy in a partition where the original is not: the partitions' number was changed and changed back.
    astray: usize,
}

impl Delivery {
    pub fn random(random: &mut Random, history: &History, rows_per_message: usize) -> Delivery {
        let mut wild = |from: usize, to: usize| from + random.below(to - from);
        let wildness = Wildness {
            duplicate: wild(2, 20),
            replay: wild(2, 12),
            early: wild(1, 4),
            shuffle: wild(1, 4),
            without_watermark: wild(2, 8),
            astray: wild(5, 200),
        };
        let events = dispatched(random, history, &wildness);
        let mut watermarks: Vec<u64> = Vec::new();
        for commit in &history.commits {
            if random.once_in(3) {
                // At a commit, just past it, or just before it.
                watermarks.push(commit.at + random.below(3) as u64 - 1);
            }
        }
        watermarks.sort();
        let last_watermark = history.last_commit() + 1 + random.below(3) as u64;
        watermarks.push(last_watermark);
        let partitions = events
            .into_iter()
            .map(|events| {
                let said = partition(random, events, &watermarks, &wildness);
                in_messages(random, said, rows_per_message)
            })
            .collect();
        Delivery { partitions, last_watermark }
    }
}

/// What each partition is sent once, by commit.
fn dispatched(random: &mut Random, history: &History, wildness: &Wildness) -> Vec<Vec<(u64, Said)>> {
    let count = 1 + random.below(PARTITIONS_MAX);
    let seed = random.next();
    let mut dispatch = || [Dispatch::Table, Dispatch::IndexValue, Dispatch::Ts][random.below(3)];
    // One for all tables, or one for each.
    let of_table = match seed % 2 {
        0 => [dispatch(); 3],
        _ => [dispatch(), dispatch(), dispatch()],
    };
    let everywhere = random.once_in(2);
    let mut partitions = vec![Vec::new(); count];
    for commit in &history.commits {
        for row in &commit.rows {
            let said = (commit.at, Said::Row(row.clone()));
            if row.op == Op::Truncate {
                let copies = if everywhere { count } else { 1 };
                partitions[..copies].iter_mut().for_each(|partition| partition.push(said.clone()));
                continue;
            }
            partitions[place(of_table[row.table], row, commit.at, seed) % count].push(said.clone());
            if random.once_in(wildness.astray) {
                partitions[random.below(count)].push(said);
            }
        }
        let copies = if everywhere { count } else { 1 };
        for (i, partition) in partitions[..copies].iter_mut().enumerate() {
            let mut statements = commit.statements.clone();
            if i > 0 {
                // Only partition 0 tells the order of several at one commit.
                random.shuffle(&mut statements);
            }
            partition.extend(statements.into_iter().map(|statement| (commit.at, Said::Schema(statement))));
        }
    }
    partitions
}

fn place(dispatch: Dispatch, row: &RowChange, commit: u64, seed: u64) -> usize {
    let table = mix(seed ^ row.table as u64);
    let by = match (dispatch, &row.op) {
        (Dispatch::IndexValue, Op::Put(values) | Op::Insert(values) | Op::Update(values) | Op::Delete(values)) => {
            mix(table ^ key(values) as u64)
        }
        (Dispatch::Ts, _) => commit,
        _ => table,
    };
    (by % (1 << 31)) as usize
}

/// What a partition says: everything below a watermark at least once before it, and what the wildness adds.
fn partition(random: &mut Random, mut events: Vec<(u64, Said)>, watermarks: &[u64], wildness: &Wildness) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    for watermark in watermarks {
        let is_last = watermark == watermarks.last().expect("this one");
        let mut due = events.partition_point(|(commit, _)| commit < watermark);
        if random.once_in(wildness.early) {
            due = (due + random.below(4)).min(events.len());
        }
        let mut batch: Vec<Said> = events.drain(..due).map(|(_, said)| said).collect();
        if random.once_in(wildness.shuffle) {
            // The first sendings come in order, but after a retry of the producer. The order of several statements
            // of one commit is told by nothing else.
            shuffle_rows(random, &mut batch);
        }
        for one in batch {
            said.push(one);
            if random.once_in(wildness.duplicate) && said.len() < MESSAGES_MAX {
                said.push(said[random.below(said.len())].clone());
            }
        }
        if random.once_in(wildness.replay) && !said.is_empty() {
            let from = if random.once_in(5) { 0 } else { random.below(said.len()) };
            let to = if random.once_in(2) { said.len() } else { from + random.below(said.len() - from) };
            let room = MESSAGES_MAX.saturating_sub(said.len());
            said.extend_from_within(from..to.min(from + room));
        }
        if is_last || !random.once_in(wildness.without_watermark) {
            said.push(Said::Watermark(*watermark));
        }
    }
    assert!(events.is_empty(), "the last watermark is above all");
    said
}

/// Statements of one commit keep their order, statements of different commits need not.
fn shuffle_rows(random: &mut Random, batch: &mut [Said]) {
    let in_order = |batch: &[Said]| -> Vec<Said> {
        batch.iter().filter(|said| matches!(said, Said::Schema(_))).cloned().collect()
    };
    let mut statements = in_order(batch);
    random.shuffle(batch);
    let commit = |said: &Said| match said {
        Said::Schema(change) => change.commit,
        _ => None,
    };
    for said in batch.iter_mut().filter(|said| matches!(said, Said::Schema(_))) {
        let same = |other: &Said| commit(other) == commit(said);
        let next = statements.iter().position(same).expect("each is in the list once");
        *said = statements.remove(next);
    }
}

/// Neighbours share a message, as the open protocol sends them.
fn in_messages(random: &mut Random, said: Vec<Said>, rows_per_message: usize) -> Vec<Vec<Said>> {
    let mut messages: Vec<Vec<Said>> = Vec::new();
    for one in said {
        let is_row = |said: &Said| matches!(said, Said::Row(_));
        match messages.last_mut() {
            Some(last) if is_row(&one) && is_row(&last[0]) && last.len() < rows_per_message && random.once_in(2) => {
                last.push(one);
            }
            _ => messages.push(vec![one]),
        }
    }
    messages
}
