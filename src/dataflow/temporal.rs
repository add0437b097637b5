//! Rows that come and go by the time alone: each is in between two timestamps that it sets itself.
//!
//! ```text
//! rows ──▶ bounds ──▶ rows that are in now ────────────────┐
//!             └─────▶ updates of later ──(by row)──▶ hold ──┴──▶ rows
//! ```
//!
//! `bounds` keeps nothing. An update at `t` of a row that is in from `a` until `b` becomes one at `max(t, a)` and its
//! opposite at `max(t, b)`; those later than `t` wait in `hold`, in order of time, until the frontier has passed them.
//! A tick costs what is due in it. An insertion and its retraction that both wait cancel each other there, so that what
//! waits is bounded by the rows that are there: at most two updates each.
//!
//! Below `as_of` nobody sees anything: a row that is out at `as_of` for good is not even taken in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, BooleanArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use differential_dataflow::Hashable;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;

use crate::dataflow::edge::Edge;
use crate::dataflow::error::ErrorBuilder;
use crate::dataflow::expr::{Projection, batch, edge_schema, select};
use crate::dataflow::linear::{Updates, union};
use crate::plan::temporal::{Bound, with_values};
use crate::row::codec::RowCodec;
use crate::row::schema::{Column, Schema};
use crate::row::temporal::MICROS_A_DAY;
use crate::row::types::SqlType;

/// Rows in one edge of what is due.
const DUE_ROWS_MAX: usize = 8_192;
/// Edges of what is due before the worker looks after others.
const DUE_EDGES_MAX: usize = 16;
/// What a waiting update takes beside its row's bytes.
const HELD_BYTES: u64 = 48;

/// How many updates wait, and their bytes.
pub type Waiting = Rc<Cell<(u64, u64)>>;

/// An update of a later time: the time, the row's bytes, the diff.
type Later = (u64, Vec<u8>, i64);

/// The rows that all bounds let in, when they do; and the errors of computing the bounds.
pub fn temporal<'s>(
    rows: Updates<'s>,
    input: &Schema,
    bounds: &[Bound],
    as_of: u64,
    waiting: Waiting,
) -> (Updates<'s>, Updates<'s>) {
    let scope = rows.scope();
    let (present, later, errors) = split(rows, Limits::new(input, bounds, as_of));
    let due = match scope.peers() {
        1 => hold(later, Pipeline, input, waiting),
        // The retraction of a row may come at another worker than the row did.
        _ => hold(later, Exchange::new(|(_, row, _): &Later| row.hashed()), input, waiting),
    };
    (union(scope, vec![present, due]), errors)
}

/// Tells rows that are in from those of later, and makes updates of what is to come.
fn split<'s>(input: Updates<'s>, limits: Limits) -> (Updates<'s>, Stream<'s, u64, Vec<Later>>, Updates<'s>) {
    let mut builder = OperatorBuilder::new("temporal bounds".to_string(), input.scope());
    let mut input = builder.new_input(input, Pipeline);
    let (rows, rows_stream) = builder.new_output::<Edge>();
    let (later, later_stream) = builder.new_output::<Vec<Later>>();
    let (errors, errors_stream) = builder.new_output::<Edge>();
    let mut rows = OutputBuilder::<_, CapacityContainerBuilder<Edge>>::from(rows);
    let mut later = OutputBuilder::<_, CapacityContainerBuilder<Vec<Later>>>::from(later);
    let mut errors = OutputBuilder::<_, CapacityContainerBuilder<Edge>>::from(errors);
    builder.build(move |_| {
        let mut failed = ErrorBuilder::default();
        move |_| {
            let (mut rows, mut later, mut errors) = (rows.activate(), later.activate(), errors.activate());
            input.for_each(|time, edge| {
                let (mut present, mut updates) = limits.apply(std::mem::take(edge), &mut failed);
                if !present.times.is_empty() {
                    rows.session(&time).give_container(&mut present);
                }
                if !updates.is_empty() {
                    later.session(&time).give_container(&mut updates);
                }
                if !failed.is_empty() {
                    errors.session(&time).give_container(&mut failed.finish());
                }
            });
        }
    });
    (rows_stream, later_stream, errors_stream)
}

/// Computes from when until when each row of an edge is in.
struct Limits {
    bounds: Vec<Bound>,
    /// The row's columns, and behind them each bound's value.
    values: Projection,
    input: SchemaRef,
    codec: RowCodec,
    as_of: u64,
}

impl Limits {
    fn new(input: &Schema, bounds: &[Bound], as_of: u64) -> Limits {
        let exprs = with_values(input, bounds);
        let arrow = input.arrow();
        let value = |bound: &Bound| {
            let data_type = bound.value.physical.data_type(&arrow).expect("a bound's value is typed");
            Column::new("bound", SqlType::of_arrow(&data_type).expect("a date or moment"), true)
        };
        let columns = input.columns.iter().cloned().chain(bounds.iter().map(value)).collect();
        Limits {
            bounds: bounds.to_vec(),
            values: Projection::new(&exprs, input, &Schema { columns, key: None }),
            input: edge_schema(input),
            codec: codec(input),
            as_of,
        }
    }

    fn apply(&self, edge: Edge, errors: &mut ErrorBuilder) -> (Edge, Vec<Later>) {
        let Edge { rows, times, diffs } = self.values.apply(edge, errors);
        let width = self.input.fields().len();
        let values: Vec<Micros> = rows.columns()[width..].iter().map(Micros::of).collect();
        let rows = batch(&self.input, rows.columns()[..width].to_vec(), times.len());
        let mut present = Vec::with_capacity(times.len());
        let mut waits = Vec::new();
        for (row, time) in times.iter().enumerate() {
            let (from, until) = self.within(&values, row);
            let seen = (*time).max(self.as_of);
            let is_ever = from < until && seen < until;
            present.push(is_ever && from <= seen);
            if is_ever {
                waits.extend((from > seen).then_some((from, row, diffs[row])));
                waits.extend((until < u64::MAX).then_some((until, row, -diffs[row])));
            }
        }
        let later = self.encoded(&rows, waits);
        (select(Edge { rows, times, diffs }, &BooleanArray::from(present)), later)
    }

    fn within(&self, values: &[Micros], row: usize) -> (u64, u64) {
        let mut all = (0, u64::MAX);
        for (bound, values) in self.bounds.iter().zip(values) {
            let Some(value) = values.get(row) else { return (0, 0) };
            let within = bound.within(value);
            all = (all.0.max(within.start), all.1.min(within.end));
        }
        all
    }

    fn encoded(&self, rows: &RecordBatch, waits: Vec<(u64, usize, i64)>) -> Vec<Later> {
        if waits.is_empty() || rows.num_columns() == 0 {
            return waits.into_iter().map(|(time, _, diff)| (time, vec![], diff)).collect();
        }
        let bytes = self.codec.encode(rows.columns()).expect("an edge's columns have its schema's types");
        waits.into_iter().map(|(time, row, diff)| (time, bytes.row(row).data().to_vec(), diff)).collect()
    }
}

fn codec(schema: &Schema) -> RowCodec {
    RowCodec::new(schema.columns.iter().map(|column| column.sql_type.arrow()))
}

/// A bound's values as microseconds.
enum Micros {
    Days(Date32Array),
    Micros(TimestampMicrosecondArray),
}

impl Micros {
    fn of(array: &ArrayRef) -> Micros {
        let any = array.as_any();
        match (any.downcast_ref::<Date32Array>(), any.downcast_ref::<TimestampMicrosecondArray>()) {
            (Some(days), _) => Micros::Days(days.clone()),
            (_, Some(micros)) => Micros::Micros(micros.clone()),
            _ => panic!("a bound is a date or a moment, not {}", array.data_type()),
        }
    }

    fn get(&self, row: usize) -> Option<i64> {
        match self {
            Micros::Days(days) => days.is_valid(row).then(|| i64::from(days.value(row)) * MICROS_A_DAY),
            Micros::Micros(micros) => micros.is_valid(row).then(|| micros.value(row)),
        }
    }
}

/// Keeps updates until their time is complete.
fn hold<'s, P>(later: Stream<'s, u64, Vec<Later>>, pact: P, schema: &Schema, waiting: Waiting) -> Updates<'s>
where
    P: timely::dataflow::channels::pact::ParallelizationContract<u64, Vec<Later>>,
{
    let mut held = Held { schema: edge_schema(schema), codec: codec(schema), updates: BTreeMap::new(), bytes: 0 };
    let mut capability: Option<Capability<u64>> = None;
    let scope = later.scope();
    later.unary_frontier::<CapacityContainerBuilder<Edge>, _, _, _>(pact, "temporal hold", move |_, info| {
        let activator = scope.activator_for(info.address);
        move |(input, frontier), output| {
            input.for_each(|time, updates| {
                updates.drain(..).for_each(|update| held.add(update));
                // What waits is later than the message that brought it.
                if let Some(first) = held.first()
                    && capability.as_ref().is_none_or(|capability| *capability.time() > first)
                {
                    capability = Some(time.delayed(&first, 0));
                }
            });
            match frontier.frontier().first().copied() {
                Some(complete) => {
                    if let Some(capability) = &capability {
                        held.take_due(complete, |mut edge| output.session(capability).give_container(&mut edge));
                        if held.first().is_some_and(|first| first < complete) {
                            activator.activate();
                        }
                    }
                    match held.first() {
                        Some(first) => {
                            if let Some(capability) = &mut capability {
                                capability.downgrade(&first);
                            }
                        }
                        None => capability = None,
                    }
                }
                // The dataflow ends: time does not go on for it.
                None => {
                    held.clear();
                    capability = None;
                }
            }
            waiting.set(held.size());
        }
    })
}

/// Updates in order of time, each row once a time.
struct Held {
    schema: SchemaRef,
    codec: RowCodec,
    updates: BTreeMap<(u64, Vec<u8>), i64>,
    bytes: u64,
}

impl Held {
    fn add(&mut self, (time, row, diff): Later) {
        use std::collections::btree_map::Entry;
        let size = HELD_BYTES + row.len() as u64;
        match self.updates.entry((time, row)) {
            Entry::Vacant(vacant) => {
                vacant.insert(diff);
                self.bytes += size;
            }
            Entry::Occupied(mut occupied) => {
                *occupied.get_mut() += diff;
                if *occupied.get() == 0 {
                    occupied.remove();
                    self.bytes -= size;
                }
            }
        }
    }

    fn first(&self) -> Option<u64> {
        self.updates.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes what lies before `complete`, some edges of it if it is much.
    fn take_due(&mut self, complete: u64, mut each: impl FnMut(Edge)) {
        for _ in 0..DUE_EDGES_MAX {
            let (mut rows, mut times, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
            while rows.len() < DUE_ROWS_MAX
                && let Some(entry) = self.updates.first_entry().filter(|entry| entry.key().0 < complete)
            {
                let ((time, row), diff) = entry.remove_entry();
                self.bytes -= HELD_BYTES + row.len() as u64;
                rows.push(row);
                times.push(time);
                diffs.push(diff);
            }
            if rows.is_empty() {
                return;
            }
            each(Edge { rows: self.decode(&rows), times, diffs });
        }
    }

    fn decode(&self, rows: &[Vec<u8>]) -> RecordBatch {
        let columns = match self.schema.fields().is_empty() {
            true => vec![],
            false => self.codec.decode(rows.iter().map(Vec::as_slice)).expect("rows decode with their own codec"),
        };
        batch(&self.schema, columns, rows.len())
    }

    fn clear(&mut self) {
        self.updates.clear();
        self.bytes = 0;
    }

    fn size(&self) -> (u64, u64) {
        (self.updates.len() as u64, self.bytes)
    }
}
