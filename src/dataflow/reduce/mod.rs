//! Aggregates by key: each change of a group retracts its old row and adds the new one.
//!
//! ```text
//!                 ┌ sums and counts: lanes of the diff, nothing but the key is kept ─ accumulate ┐
//! Edge ─ arrange ─┤ MIN, MAX, floats: the group's values in order of bytes ─ ordered         ├─ keyed ─▶ rows, faults
//!                 └ no aggregate: DISTINCT; declared keys ─ presence ────────────────────────────┘
//! ```
//!
//! Invariants:
//! - a group's row is a function of the multiset of its rows and of nothing else, so retraction is exact, floats
//!   included;
//! - integers and decimals never wrap: what does not fit the output's type is a fault, which takes the row's place;
//! - no output is kept: a group's old row is computed again from what it was.

mod accumulate;
mod keyed;
mod ordered;
mod output;
mod presence;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use timely::dataflow::Stream;

use crate::dataflow::arrange::batch::Updates;
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::arrange::{arrange, arrange_lanes};
use crate::dataflow::edge::Edge;
use crate::dataflow::reduce::accumulate::Accumulation;
use crate::dataflow::reduce::keyed::by_key;
use crate::dataflow::reduce::ordered::Ordered;
use crate::dataflow::reduce::presence::Presence;
use crate::plan::ir::Aggregate;

/// What a group cannot be reduced for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The value of this aggregate, by its place in the list, does not fit the output's type.
    Overflow { aggregate: usize },
    /// More rows were retracted than were there.
    NegativeCount,
    /// More than one row has a key that is declared to be unique.
    DoubledKey,
}

/// A fault of one group, from a time on (diff 1) or no longer (diff -1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub kind: FaultKind,
    /// The encoded key; [`key_layout`] decodes it.
    pub key: Vec<u8>,
    pub time: u64,
    pub diff: i64,
}

/// The output of a reduction.
pub struct Reduced<'s> {
    /// Key columns, then one column an aggregate.
    pub rows: Stream<'s, u64, Edge>,
    pub faults: Stream<'s, u64, Vec<Fault>>,
}

/// Which rows of a stream make a group, and what is wanted of it.
#[derive(Clone)]
pub struct Reduction {
    /// Types of the stream's columns.
    pub types: Vec<DataType>,
    pub keys: Vec<usize>,
    /// None: DISTINCT.
    pub aggregates: Vec<Aggregate>,
    /// Of the output; an aggregate's type is its column's.
    pub schema: SchemaRef,
    /// The stream has one row more in each group, its arguments NULL, that only makes the group exist: not counted.
    /// So an aggregate without keys has its row over no input.
    pub seeded: bool,
}

impl Reduction {
    /// How the groups' keys are encoded.
    pub fn key_layout(&self) -> Layout {
        Layout::new(&self.types, self.keys.clone(), vec![])
    }

    /// The type of an aggregate's column in the output.
    fn output_type(&self, aggregate: usize) -> &DataType {
        self.schema.field(self.keys.len() + aggregate).data_type()
    }
}

/// Reduces a stream by key, in the way that keeps least.
pub fn reduce<'s>(stream: Stream<'s, u64, Edge>, name: &str, reduction: Reduction) -> Reduced<'s> {
    if reduction.aggregates.is_empty() {
        let layout = Arc::new(reduction.key_layout());
        let arranged = arrange(stream, name, layout.clone());
        let distinct = Presence::distinct(&layout, reduction.schema);
        return by_key(arranged, name, distinct);
    }
    if let Some(accumulation) = Accumulation::new(&reduction) {
        let layout = Arc::new(reduction.key_layout());
        let lanes = accumulation.lanes();
        let builder = accumulation.clone();
        let arranged = arrange_lanes(stream, name, layout, lanes, move |edge| builder.diffs(edge));
        return by_key(arranged, name, accumulation);
    }
    let ordered = Ordered::new(&reduction);
    let arranged = arrange(stream, name, ordered.layout());
    by_key(arranged, name, ordered)
}

/// The keys of an arrangement under which there is more than one row.
pub fn doubled_keys<'s, Tr>(arranged: Arranged<'s, Tr>, name: &str, layout: &Layout) -> Stream<'s, u64, Vec<Fault>>
where
    Tr: TraceReader<Time = u64, Batch: Updates> + 'static,
{
    by_key(arranged, name, Presence::unique(layout)).faults
}

#[cfg(test)]
mod tests;
