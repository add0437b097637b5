//! Joins against nested loops over plain rows.

use std::sync::Arc;

use crate::dataflow::arrange::arrange;
use crate::dataflow::arrange::fixture::{Counts, Random, Update, edge, rows_at, run, schema, text_of, types};
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::join::{JOIN_ROWS_MAX, JoinColumn, JoinOutput, join};

/// All columns of both sides, left first, as one join makes them.
fn check(workers: usize, keyed: bool, left: Vec<Update>, right: Vec<Update>) {
    let last = left.iter().chain(&right).map(|u| u.1).max().unwrap_or(0);
    let collected = run(workers, [left.clone(), right.clone()], move |[left, right], collected, probe| {
        let (keys, values) = if keyed { (vec![0], vec![1, 2]) } else { (vec![], vec![0, 1, 2]) };
        let layout = Arc::new(Layout::new(&types(), keys, values).drop_null_keys());
        let (left, right) = (arrange(left, "left", layout.clone()), arrange(right, "right", layout.clone()));
        let side = |of: fn(usize) -> JoinColumn| match keyed {
            true => vec![JoinColumn::Key(0), of(0), of(1)],
            false => vec![of(0), of(1), of(2)],
        };
        let columns = [side(JoinColumn::Left), side(JoinColumn::Right)].concat();
        let output = JoinOutput::new(&layout, &layout, columns, schema(&[types(), types()].concat()));
        collected.edges(join(left, right, "join", output), probe);
    });
    assert!(*collected.widest.lock().expect("no test thread panicked") <= JOIN_ROWS_MAX);
    for at in 0..=last {
        let (left, right) = (rows_at(&left, at), rows_at(&right, at));
        let mut expected = Counts::new();
        for (l, l_count) in &left {
            for (r, r_count) in right.iter().filter(|(r, _)| !keyed || (r.0 == l.0 && r.0.is_some())) {
                let text = |row| text_of(&edge(&[(row, 0, 1)]).rows, 0);
                let pair = format!("{} {}", text(l.clone()), text(r.clone()));
                *expected.entry(pair).or_default() += l_count * r_count;
            }
        }
        assert_eq!(collected.at(at), expected, "at {at}");
    }
}

#[test]
fn random_churn_on_one_and_two_workers() {
    for (seed, workers) in [(1, 1), (2, 1), (3, 2)] {
        let mut random = Random::new(seed);
        check(workers, true, random.churn(800, 60, 12), random.churn(800, 60, 12));
    }
}

#[test]
fn a_hot_key_comes_in_bounded_containers() {
    let hot = |n: i64| (0..n).map(|i| ((Some(1), Some(i), None), 1 + i as u64 % 2, 1)).collect::<Vec<_>>();
    check(1, true, hot(250), hot(150));
}

#[test]
fn without_a_key_every_row_meets_every_row() {
    let mut random = Random::new(5);
    check(1, false, random.churn(120, 5, 3), random.churn(90, 5, 3));
    check(2, false, random.churn(60, 5, 3), random.churn(50, 5, 3));
}

#[test]
fn rows_above_64_kib() {
    let long = |n: i64| ((Some(n % 3), Some(n), Some("x".repeat(100_000 + n as usize))), 1 + n as u64 % 2, 1);
    check(1, true, (0..12).map(long).collect(), (0..6).map(long).collect());
}
