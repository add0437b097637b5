//! Reductions against recomputation from plain rows, with random churn.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::arrange::arrange;
use crate::dataflow::arrange::fixture::{Counts, Random, Update, rows_at, run, schema, types};
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::edge::Edge;
use crate::dataflow::reduce::{Reduction, doubled_keys, reduce};
use crate::plan::ir::{Aggregate, AggregateFunction};

use AggregateFunction::{Avg, Count, CountAll, Max, Min, Sum};

fn aggregate(function: AggregateFunction, input: Option<usize>) -> Aggregate {
    Aggregate { function, input }
}

/// Runs `reduction` over churn and compares it, at each time, with `expected` of each group's numbers.
fn check(
    workers: usize,
    updates: Vec<Update>,
    reduction: Reduction,
    expected: impl Fn(&[(Option<i64>, i64)]) -> Option<String>,
) {
    let (keyed, last) = (!reduction.keys.is_empty(), updates.iter().map(|u| u.1).max().unwrap_or(0));
    let collected = run(workers, [updates.clone(), vec![]], move |[stream, _], collected, probe| {
        let reduced = reduce(stream, "test", reduction.clone());
        collected.edges(reduced.rows, probe);
        collected.faults(reduced.faults, probe);
    });
    for at in 0..=last {
        let mut groups: BTreeMap<Option<i64>, Vec<(Option<i64>, i64)>> = BTreeMap::new();
        for ((key, number, _), count) in rows_at(&updates, at) {
            groups.entry(key.filter(|_| keyed)).or_default().push((number, count));
        }
        let mut rows = Counts::new();
        for (key, numbers) in groups {
            let key = if keyed { key.map_or("NULL ".to_string(), |key| format!("{key} ")) } else { String::new() };
            rows.extend(expected(&numbers).map(|row| (format!("{key}{row}").trim().to_string(), 1)));
        }
        assert_eq!(collected.at(at), rows, "at {at}");
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or("NULL".to_string(), |value| value.to_string())
}

fn present(numbers: &[(Option<i64>, i64)]) -> Vec<(i64, i64)> {
    numbers.iter().filter_map(|(number, count)| number.map(|n| (n, *count))).collect()
}

/// Half away from zero, two digits behind the point.
fn average(numbers: &[(i64, i64)]) -> String {
    let (sum, count) = numbers.iter().fold((0, 0), |(s, c), (n, count)| (s + n * count, c + count));
    if count == 0 {
        return "NULL".to_string();
    }
    let digits = (sum.abs() * 200 + count) / (2 * count);
    let sign = if sum < 0 && digits > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", digits / 100, digits % 100)
}

fn reduction(keys: Vec<usize>, aggregates: Vec<Aggregate>, outputs: &[DataType]) -> Reduction {
    let mut columns: Vec<DataType> = keys.iter().map(|k| types()[*k].clone()).collect();
    columns.extend_from_slice(outputs);
    Reduction { types: types(), keys, aggregates, schema: schema(&columns), seeded: false }
}

#[test]
fn counts_sums_and_averages() {
    for (seed, workers, keys) in [(1, 1, vec![0]), (2, 2, vec![0]), (3, 1, vec![]), (4, 2, vec![])] {
        let aggregates = vec![aggregate(CountAll, None), aggregate(Count, Some(1)), aggregate(Sum, Some(1))];
        let aggregates = [aggregates, vec![aggregate(Avg, Some(1))]].concat();
        let outputs = [DataType::Int64, DataType::Int64, DataType::Decimal128(38, 0), DataType::Decimal128(20, 2)];
        check(workers, Random::new(seed).churn(2000, 30, 20), reduction(keys, aggregates, &outputs), |numbers| {
            let there = present(numbers);
            let all: i64 = numbers.iter().map(|(_, count)| count).sum();
            let count: i64 = there.iter().map(|(_, count)| count).sum();
            let sum = (count > 0).then(|| there.iter().map(|(n, count)| n * count).sum::<i64>());
            Some(format!("{all} {count} {} {}", text(sum), average(&there)))
        });
    }
}

#[test]
fn least_greatest_and_mixed() {
    for (seed, workers) in [(1, 1), (2, 2)] {
        let aggregates = vec![aggregate(Min, Some(1)), aggregate(Max, Some(1)), aggregate(Sum, Some(1))];
        let aggregates = [aggregates, vec![aggregate(CountAll, None), aggregate(Max, Some(2))]].concat();
        let numbers = [DataType::Int64, DataType::Int64, DataType::Decimal128(38, 0), DataType::Int64];
        let with_text = [numbers.to_vec(), vec![DataType::Utf8]].concat();
        let updates: Vec<Update> = Random::new(seed).churn(1000, 20, 15);
        let no_text = |((key, number, _), time, diff): Update| ((key, number, Some("m".to_string())), time, diff);
        let updates = updates.into_iter().map(no_text).collect();
        check(workers, updates, reduction(vec![0], aggregates, &with_text), |numbers| {
            let there = present(numbers);
            let (min, max) = (there.iter().map(|n| n.0).min(), there.iter().map(|n| n.0).max());
            let all: i64 = numbers.iter().map(|(_, count)| count).sum();
            let sum = (!there.is_empty()).then(|| there.iter().map(|(n, count)| n * count).sum::<i64>());
            Some(format!("{} {} {} {all} m", text(min), text(max), text(sum)))
        });
    }
}

#[test]
fn distinct_keys() {
    let distinct = reduction(vec![0], vec![], &[]);
    check(2, Random::new(9).churn(1500, 300, 20), distinct, |_| Some(String::new()));
}

#[test]
fn a_seed_makes_a_row_over_no_input() {
    let mut seeded = reduction(
        vec![],
        vec![aggregate(CountAll, None), aggregate(Sum, Some(1))],
        &[DataType::Int64, DataType::Decimal128(38, 0)],
    );
    seeded.seeded = true;
    let updates = vec![((None, None, None), 1, 1), ((Some(1), Some(5), None), 2, 1), ((Some(1), Some(5), None), 3, -1)];
    let collected = run(1, [updates, vec![]], move |[stream, _], collected, probe| {
        collected.edges(reduce(stream, "seeded", seeded.clone()).rows, probe);
    });
    let one = |text: &str| Counts::from([(text.to_string(), 1)]);
    assert_eq!([collected.at(1), collected.at(2), collected.at(3)], [one("0 NULL"), one("1 5"), one("0 NULL")]);
}

/// Number column as Int64 or Float64 times 2^61, so that sums pass 64 bits.
fn scaled<'s>(stream: Stream<'s, u64, Edge>, to: DataType) -> Stream<'s, u64, Edge> {
    stream.unary::<CapacityContainerBuilder<Edge>, _, _, _>(Pipeline, "scale", move |_, _| {
        move |input, output| {
            input.for_each(|time, edge| {
                let numbers = edge.rows.column(1);
                let numbers = numbers.as_any().downcast_ref::<Int64Array>().expect("numbers");
                let large = numbers.iter().map(|n| n.map(|n| n << 58)).collect::<Int64Array>();
                let large = cast(&large, &to).expect("a number");
                let columns = vec![edge.rows.column(0).clone(), large];
                let rows = RecordBatch::try_new(schema(&[DataType::Int64, to.clone()]), columns).expect("two columns");
                let (times, diffs) = (std::mem::take(&mut edge.times), std::mem::take(&mut edge.diffs));
                output.session(&time).give_container(&mut Edge { rows, times, diffs });
            });
        }
    })
}

#[test]
fn sums_are_exact_beyond_64_bits_and_overflow_is_a_fault() {
    let updates: Vec<Update> =
        (0..40).map(|i| ((Some(i % 2), Some(if i % 2 == 0 { 10 } else { -10 }), None), 1 + i as u64 / 20, 1)).collect();
    let expected = |n: i128| (n * 10) << 58;
    for (precision, fits) in [(38, true), (19, false)] {
        let mut sums = reduction(vec![0], vec![aggregate(Sum, Some(1))], &[DataType::Decimal128(precision, 0)]);
        sums.types = vec![DataType::Int64, DataType::Int64];
        let collected = run(1, [updates.clone(), vec![]], move |[stream, _], collected, probe| {
            let reduced = reduce(scaled(stream, DataType::Int64), "sum", sums.clone());
            collected.edges(reduced.rows, probe);
            collected.faults(reduced.faults, probe);
        });
        let at_end = collected.at(2);
        if fits {
            let rows = [format!("0 {}", expected(20)), format!("1 {}", -expected(20))];
            assert_eq!(at_end, rows.into_iter().map(|row| (row, 1)).collect());
        } else {
            assert_eq!(at_end.len(), 2);
            assert!(at_end.keys().all(|fault| fault.starts_with("Overflow { aggregate: 0 }")), "{at_end:?}");
        }
    }
}

#[test]
fn float_sums_forget_what_is_retracted() {
    let updates: Vec<Update> =
        vec![((Some(1), Some(1), None), 1, 1), ((Some(1), Some(30), None), 2, 1), ((Some(1), Some(30), None), 3, -1)];
    let mut sums = reduction(vec![0], vec![aggregate(Sum, Some(1))], &[DataType::Float64]);
    sums.types = vec![DataType::Int64, DataType::Float64];
    let collected = run(1, [updates, vec![]], move |[stream, _], collected, probe| {
        collected.edges(reduce(scaled(stream, DataType::Float64), "sum", sums.clone()).rows, probe);
    });
    assert_eq!(collected.at(1), collected.at(3));
    assert_eq!(collected.at(2).len(), 1);
}

#[test]
fn doubled_keys_and_negative_counts_are_faults_that_heal() {
    let row = |n| (Some(1), Some(n), None);
    let updates = vec![(row(1), 1, 1), (row(2), 2, 1), (row(1), 3, -1), (row(2), 4, -2), (row(2), 5, 1)];
    let collected = run(1, [updates, vec![]], |[stream, _], collected, probe| {
        let layout = Arc::new(Layout::new(&types(), vec![0], vec![1, 2]));
        collected.faults(doubled_keys(arrange(stream, "unique", layout.clone()), "unique", &layout), probe);
    });
    let kinds = |at| collected.at(at).into_keys().map(|k| k.split(' ').next().unwrap_or("").to_string()).collect();
    let found: Vec<Vec<String>> = (1..=5).map(kinds).collect();
    assert_eq!(found, [vec![], vec!["DoubledKey".to_string()], vec![], vec!["NegativeCount".to_string()], vec![]]);
}
