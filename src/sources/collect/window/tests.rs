//! What the window gives, message by message.

use std::collections::BTreeMap;

use crate::row::datum::Datum;
use crate::sources::Stop;
use crate::sources::collect::window::spill::Spill;
use crate::sources::collect::window::{Counts, Limits, Window};
use crate::sources::collect::{Collect, Complete};
use crate::sources::formats::{Op, RowChange, Said, SchemaChange};
use crate::sources::log::Partition;

fn partitions(next: &[i64]) -> Vec<Partition> {
    let partition =
        |(i, next): (usize, &i64)| Partition { topic: "t".to_string(), number: i as i32, next: *next, end: i64::MAX };
    next.iter().enumerate().map(partition).collect()
}

/// Keeps the rows in memory after all.
#[derive(Debug, Default)]
struct InMemory {
    commits: BTreeMap<u64, Vec<RowChange>>,
}

impl Spill for InMemory {
    fn append(&mut self, commit: u64, rows: Vec<RowChange>) -> Result<(), Stop> {
        self.commits.entry(commit).or_default().extend(rows);
        Ok(())
    }

    fn first(&self) -> Option<u64> {
        self.commits.keys().next().copied()
    }

    fn drain(&mut self, commit: u64, each: &mut dyn FnMut(RowChange) -> Result<(), Stop>) -> Result<(), Stop> {
        self.commits.remove(&commit).unwrap_or_default().into_iter().try_for_each(each)
    }
}

/// In the production's limits, all of it in memory.
fn resume(partitions: &[Partition], state: Option<u64>) -> Window {
    Window::with(partitions, state, Limits::default(), None)
}

fn window(count: usize) -> Window {
    resume(&partitions(&vec![0; count]), None)
}

fn row(commit: u64, op: Op) -> Said {
    Said::Row(RowChange { table: 0, op, commit: Some(commit), transaction: None, committed_ms: None })
}

fn put(commit: u64, key: i64, value: &str) -> Said {
    row(commit, Op::Put(vec![Datum::Int(key), Datum::Text(value.to_string())]))
}

fn delete(commit: u64, key: i64) -> Said {
    row(commit, Op::Delete(vec![Datum::Int(key), Datum::Null]))
}

fn statement(commit: u64, sql: &str) -> Said {
    Said::Schema(SchemaChange {
        commit: Some(commit),
        database: "shop".to_string(),
        table: "orders".to_string(),
        sql: sql.to_string(),
    })
}

/// Takes messages of (partition, what it says), each at the next offset of its partition.
fn take(window: &mut Window, offsets: &mut [i64], messages: &[(usize, Said)]) {
    for (partition, said) in messages {
        window.take(*partition, offsets[*partition], vec![said.clone()]).expect("the window follows");
        offsets[*partition] += 1;
    }
}

/// A text for everything that is complete: a line each.
fn given(window: &mut Window) -> Vec<String> {
    let text = |complete| match complete {
        Complete::Rows { rows, .. } => rows.iter().map(row_text).collect::<Vec<_>>().join(" "),
        Complete::Schema(changes) => changes.iter().map(|c| c.sql.clone()).collect::<Vec<_>>().join("; "),
    };
    std::iter::from_fn(|| window.next()).map(text).collect()
}

fn row_text(row: &RowChange) -> String {
    let key = |row: &[Datum]| match row {
        [Datum::Int(key), Datum::Text(value)] => format!("{key}={value}"),
        [Datum::Int(key), ..] => key.to_string(),
        _ => panic!("no key"),
    };
    match &row.op {
        Op::Put(row) | Op::Insert(row) | Op::Update(row) => format!("+{}", key(row)),
        Op::Delete(row) => format!("-{}", key(row)),
        Op::Truncate => "0".to_string(),
    }
}

#[test]
fn a_commit_waits_until_every_partition_is_past_it() {
    let (mut window, mut at) = (window(3), [0; 3]);
    take(&mut window, &mut at, &[(0, put(20, 1, "b")), (1, put(10, 1, "a")), (2, put(20, 2, "c"))]);
    take(&mut window, &mut at, &[(0, Said::Watermark(30)), (1, Said::Watermark(30))]);
    assert_eq!(window.next(), None, "partition 2 has said nothing");
    assert_eq!(window.slowest(), Some((2, None)));
    let waits_for = |window: &Window| window.waits_for(&|partition| format!("p{partition}"));
    assert_eq!(waits_for(&window).as_deref(), Some("the first watermark of p2"));
    take(&mut window, &mut at, &[(2, Said::Watermark(20))]);
    assert_eq!(given(&mut window), ["+1=a"]);
    let said = "the next watermark of p2; its last one is of 1970-01-01 00:00:00.000 UTC";
    assert_eq!(waits_for(&window).as_deref(), Some(said));
    assert_eq!((window.state(), window.resume()), (Some(20), vec![0, 1, 0]));
    // Equal to the watermark: a row of 20 may still come.
    take(&mut window, &mut at, &[(2, put(20, 3, "d")), (2, Said::Watermark(21))]);
    assert_eq!(given(&mut window), ["+1=b +2=c +3=d"]);
    assert_eq!((window.state(), window.resume()), (Some(21), vec![1, 1, 4]), "watermarks 30 are still needed");
    take(&mut window, &mut at, &[(2, Said::Watermark(30))]);
    assert_eq!((window.state(), window.resume(), window.bytes()), (Some(30), vec![2, 2, 5], 0));
}

#[test]
fn a_row_is_late_only_below_what_was_given() {
    let (mut window, mut at) = (window(1), [0]);
    // The producer lost A and sends again from it: B, A, B.
    take(&mut window, &mut at, &[(0, put(20, 1, "b")), (0, put(10, 1, "a")), (0, put(20, 1, "b"))]);
    take(&mut window, &mut at, &[(0, Said::Watermark(20))]);
    assert_eq!(given(&mut window), ["+1=a"]);
    take(&mut window, &mut at, &[(0, put(10, 1, "a")), (0, Said::Watermark(5)), (0, put(20, 1, "b"))]);
    assert_eq!(given(&mut window), Vec::<String>::new());
    take(&mut window, &mut at, &[(0, Said::Watermark(21))]);
    assert_eq!(given(&mut window), ["+1=b"]);
    assert_eq!(window.counts(), Counts { late: 1, duplicates: 2, fallen_back: 1, ..Counts::default() });
}

#[test]
fn within_a_commit_deletes_come_first_and_a_truncate_last() {
    let (mut window, mut at) = (window(2), [0; 2]);
    // Two rows exchange their keys, split into deletes and inserts, over two partitions.
    take(&mut window, &mut at, &[(0, put(10, 2, "a")), (0, row(10, Op::Truncate)), (0, delete(10, 1))]);
    take(&mut window, &mut at, &[(1, row(10, Op::Truncate)), (1, put(10, 1, "b")), (1, delete(10, 2))]);
    take(&mut window, &mut at, &[(0, Said::Watermark(11)), (1, Said::Watermark(11))]);
    assert_eq!(given(&mut window), ["-1 -2 +2=a +1=b 0"]);
}

#[test]
fn statements_are_told_once_in_order_by_partition_0() {
    let (mut window, mut at) = (window(2), [0; 2]);
    let (later, a, b) = (statement(30, "later"), statement(20, "a"), statement(20, "b"));
    for said in [&later, &a, &b, &a, &statement(20, "only in 1")] {
        take(&mut window, &mut at, &[(1, said.clone())]);
    }
    for said in [&later, &put(20, 1, "at"), &put(21, 1, "after"), &a, &b, &a, &later, &put(10, 1, "before")] {
        take(&mut window, &mut at, &[(0, said.clone())]);
    }
    take(&mut window, &mut at, &[(0, Said::Watermark(30)), (1, Said::Watermark(30))]);
    assert_eq!(given(&mut window), ["+1=before +1=at", "a; b", "+1=after"]);
    take(&mut window, &mut at, &[(0, Said::Watermark(31)), (1, Said::Watermark(31))]);
    assert_eq!(given(&mut window), ["later"]);
    take(&mut window, &mut at, &[(0, later)]);
    assert_eq!(window.counts(), Counts { late: 1, duplicates: 2, copies: 5, ..Counts::default() });
}

#[test]
fn a_restart_between_rows_and_their_statement_gives_all_of_the_rows_again() {
    let messages = [
        (0, put(10, 1, "a")),
        (1, delete(10, 1)),
        (0, statement(10, "s")),
        (0, put(9, 7, "z")),
        (0, Said::Watermark(11)),
        (1, Said::Watermark(11)),
    ];
    let mut first = window(2);
    take(&mut first, &mut [0; 2], &messages);
    assert!(matches!(first.next(), Some(Complete::Rows { rows, .. }) if rows.len() == 3));
    // A copy of one of the rows given does not come alone.
    take(&mut first, &mut [4, 2], &[(1, delete(10, 1))]);
    assert_eq!((first.resume(), first.state()), (vec![0, 0], Some(10)));
    let mut second = resume(&partitions(&first.resume()), first.state());
    take(&mut second, &mut [0; 2], &messages);
    assert_eq!(given(&mut second), ["-1 +1=a", "s"]);
    assert_eq!(given(&mut first), ["s"]);
    for window in [&first, &second] {
        assert_eq!(window.state(), Some(11));
    }
    assert_eq!((first.resume(), second.resume()), (vec![4, 3], vec![4, 2]));
}

#[test]
fn every_topic_tells_its_statements_in_its_partition_0() {
    let mut partitions = partitions(&[0, 0]);
    partitions[1].number = 0;
    partitions[1].topic = "other".to_string();
    let mut window = resume(&partitions, None);
    let messages = [(1, statement(10, "a")), (0, Said::Watermark(11)), (1, Said::Watermark(11))];
    take(&mut window, &mut [0; 2], &messages);
    assert_eq!(given(&mut window), ["a"]);
}

#[test]
fn a_complete_is_bounded_and_never_a_part_of_a_commit() {
    let limits = Limits { complete_bytes: 2_000, ..Limits::default() };
    let mut window = Window::with(&partitions(&[0]), None, limits, None);
    let mut at = [0];
    for commit in 10..20 {
        take(&mut window, &mut at, &[(0, put(commit, commit as i64, "small"))]);
    }
    for key in 0..50 {
        take(&mut window, &mut at, &[(0, put(20, key, "large"))]);
    }
    take(&mut window, &mut at, &[(0, Said::Watermark(99))]);
    let rows: Vec<usize> = given(&mut window).iter().map(|line| line.split(' ').count()).collect();
    assert!(rows.len() > 2 && rows.iter().sum::<usize>() == 60, "{rows:?}");
    assert_eq!(rows.last(), Some(&50));
}

#[test]
fn rows_beyond_memory_are_spilled_and_come_back_in_order() {
    let limits = Limits { memory_bytes: 4_000, complete_bytes: 1, ..Limits::default() };
    let mut window = Window::with(&partitions(&[0]), None, limits, Some(Box::new(InMemory::default())));
    let mut at = [0];
    for _ in 0..2 {
        for i in 0..100_u64 {
            let commit = 10 + i * 37 % 100;
            take(&mut window, &mut at, &[(0, put(commit, 1, &commit.to_string())), (0, delete(commit, 1))]);
            assert!(window.memory_bytes() <= limits.memory_bytes);
        }
    }
    assert!(window.counts().spilled > 100 && window.bytes() > limits.memory_bytes, "{:?}", window.counts());
    take(&mut window, &mut at, &[(0, Said::Watermark(200))]);
    let wanted: Vec<String> = (10..110).map(|commit| format!("-1 +1={commit}")).collect();
    assert_eq!(given(&mut window), wanted);
    assert_eq!((window.bytes(), window.memory_bytes(), window.resume()), (0, 0, at.to_vec()));
}

#[test]
fn a_window_that_grows_without_end_stops() {
    let limits = Limits { window_bytes: 10_000, memory_bytes: 10_000, ..Limits::default() };
    let mut full = Window::with(&partitions(&[0]), None, limits, None);
    let stop = (0..1_000).find_map(|i| full.take(0, i, vec![put(10, i, "row")]).err()).expect("it is full");
    assert_eq!(stop.code, "WINDOW_TOO_LARGE");
    assert_eq!(full.take(0, 1_000, Vec::new()), Err(stop), "it stays stopped");
    assert_eq!((full.next(), full.resume()), (None, vec![0]));

    // With a spill only a commit that cannot be given whole.
    let limits = Limits { memory_bytes: 2_000, ..limits };
    let mut full = Window::with(&partitions(&[0]), None, limits, Some(Box::new(InMemory::default())));
    for i in 0..1_000 {
        full.take(0, i, vec![put(10 + i as u64 / 900, i, "row")]).expect("it is spilled");
    }
    full.take(0, 1_000, vec![Said::Watermark(99)]).expect("nothing is given yet");
    assert_eq!(full.next(), None);
    let stop = full.take(0, 1_001, Vec::new()).expect_err("the fault of next");
    assert_eq!((stop.code, full.state()), ("WINDOW_TOO_LARGE", None));
    assert!(stop.message.contains("commit 10 alone"), "{}", stop.message);
}

#[test]
fn partitions_ahead_are_named_once_much_waits() {
    let limits = Limits { soft_bytes: 1_000, ..Limits::default() };
    let mut window = Window::with(&partitions(&[0, 0, 0]), Some(5), limits, None);
    let mut at = [0; 3];
    take(&mut window, &mut at, &[(0, Said::Watermark(9)), (1, Said::Watermark(50)), (2, Said::Watermark(9))]);
    assert_eq!(window.ahead(), Vec::<usize>::new(), "little waits");
    for key in 0..20 {
        take(&mut window, &mut at, &[(1, put(20, key, "row"))]);
    }
    assert_eq!(window.ahead(), [1]);
    take(&mut window, &mut at, &[(0, Said::Watermark(50))]);
    assert_eq!(window.ahead(), [0, 1]);
    take(&mut window, &mut at, &[(2, Said::Watermark(50))]);
    assert_eq!(window.ahead(), Vec::<usize>::new(), "all are level");
}

#[test]
fn a_feed_without_commit_timestamps_is_refused() {
    let Said::Row(mut change) = put(1, 1, "a") else { panic!("it is a row") };
    change.commit = None;
    let stop = window(1).take(0, 0, vec![Said::Row(change)]).expect_err("no commit");
    assert_eq!(stop.code, "FEED_WITHOUT_TIME");
}

#[test]
fn a_row_that_an_added_partition_had_too_early_ends_the_window_and_any_later_one_does_not() {
    let mut window = resume(&partitions(&[7, 0]), Some(50)).added(vec![0, 50]);
    window.take(0, 7, vec![put(49, 1, "again"), Said::Watermark(60)]).unwrap();
    window.take(1, 0, vec![put(50, 2, "new")]).unwrap();
    assert_eq!(window.next(), None, "the added partition has said no watermark");
    window.take(1, 1, vec![Said::Watermark(60)]).unwrap();
    let Some(Complete::Rows { rows, .. }) = window.next() else { panic!("commit 50 is whole") };
    assert_eq!((rows.len(), window.counts().late), (1, 1));
    window.take(1, 2, vec![put(50, 2, "again")]).expect("it was read from this partition before");
    let stop = window.take(1, 3, vec![put(49, 3, "lost")]).unwrap_err();
    assert!(stop.code == "ROW_LATE" && stop.message.contains("commit 49"), "{stop:?}");
}
