//! What tests of arrangements share: seeded rows, a dataflow, its output as text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::{ProbeHandle, Stream};

use crate::dataflow::edge::Edge;
use crate::dataflow::reduce::Fault;

/// A row of the streams in tests: two numbers and a text.
pub type Row = (Option<i64>, Option<i64>, Option<String>);
pub type Update = (Row, u64, i64);
/// Rows as text, with their counts.
pub type Counts = BTreeMap<String, i64>;

pub fn types() -> Vec<DataType> {
    vec![DataType::Int64, DataType::Int64, DataType::Utf8]
}

pub fn schema(types: &[DataType]) -> SchemaRef {
    let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub struct Random(u64);

impl Random {
    /// Prints the seed, for the one who sees the test fail.
    pub fn new(seed: u64) -> Random {
        println!("seed {seed}");
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A row of few keys, some NULL.
    pub fn row(&mut self, keys: u64) -> Row {
        let key = (!self.one_in(10)).then(|| self.below(keys) as i64 - 2);
        let number = (!self.one_in(5)).then(|| self.below(20) as i64 - 10);
        let text = (!self.one_in(5)).then(|| "t".repeat(self.below(40) as usize));
        (key, number, text)
    }

    /// Insertions at times from 1 to `times`, and retractions of what was inserted before.
    pub fn churn(&mut self, updates: usize, keys: u64, times: u64) -> Vec<Update> {
        let mut live: Vec<Row> = Vec::new();
        let mut churn: Vec<Update> = Vec::new();
        for i in 0..updates {
            let time = 1 + i as u64 * times / updates as u64;
            if !live.is_empty() && self.one_in(3) {
                let row = live.swap_remove(self.below(live.len() as u64) as usize);
                churn.push((row, time, -1));
            } else {
                let row = self.row(keys);
                live.push(row.clone());
                churn.push((row, time, 1));
            }
        }
        churn
    }
}

pub fn edge(updates: &[Update]) -> Edge {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(updates.iter().map(|u| u.0.0).collect::<Int64Array>()),
        Arc::new(updates.iter().map(|u| u.0.1).collect::<Int64Array>()),
        Arc::new(updates.iter().map(|u| u.0.2.as_deref()).collect::<StringArray>()),
    ];
    Edge {
        rows: RecordBatch::try_new(schema(&types()), columns).expect("columns of the schema"),
        times: updates.iter().map(|u| u.1).collect(),
        diffs: updates.iter().map(|u| u.2).collect(),
    }
}

pub fn text_of(rows: &RecordBatch, i: usize) -> String {
    let value = |column: &ArrayRef| match column.is_null(i) {
        true => "NULL".to_string(),
        false => array_value_to_string(column, i).expect("every type prints"),
    };
    rows.columns().iter().map(value).collect::<Vec<_>>().join(" ")
}

/// Output updates as text, from all workers.
#[derive(Clone, Default)]
pub struct Collected {
    updates: Arc<Mutex<Vec<(String, u64, i64)>>>,
    /// The most rows in one container.
    pub widest: Arc<Mutex<usize>>,
}

impl Collected {
    fn push(&self, text: String, time: u64, diff: i64) {
        self.updates.lock().expect("no test thread panicked").push((text, time, diff));
    }

    pub fn edges<'s>(&self, stream: Stream<'s, u64, Edge>, probe: &ProbeHandle<u64>) {
        let collected = self.clone();
        let stream = stream.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "collect", |_, _| {
            move |input, _output| {
                input.for_each(|capability, edge| {
                    let mut widest = collected.widest.lock().expect("no test thread panicked");
                    *widest = edge.times.len().max(*widest);
                    for i in 0..edge.times.len() {
                        assert!(capability.stamp().iter().all(|t| *t <= edge.times[i]), "a time below its capability");
                        collected.push(text_of(&edge.rows, i), edge.times[i], edge.diffs[i]);
                    }
                });
            }
        });
        stream.probe_with(probe);
    }

    pub fn faults<'s>(&self, stream: Stream<'s, u64, Vec<Fault>>, probe: &ProbeHandle<u64>) {
        let collected = self.clone();
        let stream = stream.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "collect", |_, _| {
            move |input, _output| {
                input.for_each(|_, faults| {
                    faults.iter().for_each(|f| collected.push(format!("{:?} {:?}", f.kind, f.key), f.time, f.diff));
                });
            }
        });
        stream.probe_with(probe);
    }

    /// What is there at `time`.
    pub fn at(&self, time: u64) -> Counts {
        let mut counts = Counts::new();
        for (text, at, diff) in self.updates.lock().expect("no test thread panicked").iter() {
            if *at <= time {
                *counts.entry(text.clone()).or_default() += diff;
            }
        }
        counts.retain(|_, count| *count != 0);
        counts
    }
}

/// What the updates add up to at `time`.
pub fn rows_at(updates: &[Update], time: u64) -> BTreeMap<Row, i64> {
    let mut rows = BTreeMap::new();
    for (row, _, diff) in updates.iter().filter(|u| u.1 <= time) {
        *rows.entry(row.clone()).or_default() += diff;
    }
    rows.retain(|_, count| *count != 0);
    rows
}

/// Runs a dataflow over two streams on `workers`, each feeding its share, a step at each time.
pub fn run(
    workers: usize,
    inputs: [Vec<Update>; 2],
    build: impl for<'s> Fn([Stream<'s, u64, Edge>; 2], &Collected, &ProbeHandle<u64>) + Send + Sync + 'static,
) -> Collected {
    let collected = Collected::default();
    let outer = collected.clone();
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let probe = ProbeHandle::new();
        let mut handles = worker.dataflow::<u64, _, _>(|scope| {
            let (left_in, left) = scope.new_input::<Edge>();
            let (right_in, right) = scope.new_input::<Edge>();
            build([left, right], &collected, &probe);
            [left_in, right_in]
        });
        let last = inputs.iter().flatten().map(|u| u.1).max().unwrap_or(0);
        for time in 1..=last {
            for (handle, updates) in handles.iter_mut().zip(&inputs) {
                handle.advance_to(time);
                let mine = |(i, update): &(usize, &Update)| update.1 == time && i % worker.peers() == worker.index();
                let now: Vec<Update> = updates.iter().enumerate().filter(mine).map(|(_, u)| u.clone()).collect();
                if !now.is_empty() {
                    handle.send_batch(&mut edge(&now));
                }
            }
            handles.iter_mut().for_each(|handle| handle.advance_to(time + 1));
            while probe.less_than(&(time + 1)) {
                worker.step();
            }
        }
    });
    guards.expect("timely starts").join().into_iter().for_each(|worker| worker.expect("no worker panicked"));
    outer
}
