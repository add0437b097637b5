//! Arrangements: updates sorted by key, shared between operators, as flat bytes.
//!
//! ```text
//! Edge (Arrow) ── layout: encode ──▶ Raw ── exchange by key ──▶ sort ▶ merge ▶ Chunk… ──▶ Trace
//!                                                               join · reduce · read ◀──────┘
//! ```
//!
//! How to use it: make a [`layout::Layout`], call [`arrange`], hand the result (or an import of its trace, which is a
//! `TraceFrontier<Trace>`) to `dataflow::join` and `dataflow::reduce`, or read it with [`read`].
//!
//! Invariants:
//! - a chunk is bounded by rows and by bytes, or is one row; it is immutable, and its body is shared by `Arc`;
//! - key and value bytes are arrow-row's of the layout's types, so equal values have equal bytes; nothing here looks
//!   into them;
//! - times are totally ordered: a frontier is one number; recursion needs differential's own reduce;
//! - a batch is read only through [`batch::Updates`], which applies an import's `as_of`; a chunk's own times do not;
//! - no operator holds more than a bounded number of decoded rows: output leaves in edges of bounded size.

pub mod batch;
pub mod chunk;
mod exchange;
#[cfg(test)]
pub mod fixture;
pub mod lanes;
pub mod layout;
mod maintain;
pub mod read;
pub mod rows;
mod sort;

use std::sync::Arc;

use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::chunk::{ChunkBatcher, ChunkSpine};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::lanes::Lanes;
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::arrange::sort::{Raw, Sorter};
use crate::dataflow::edge::Edge;

/// The shared, compacting history of an arrangement.
pub type Trace = TraceAgent<ChunkSpine<Chunk>>;

/// Arranges a stream by the layout's key, each worker holding the keys that hash to it.
pub fn arrange<'s>(stream: Stream<'s, u64, Edge>, name: &str, layout: Arc<Layout>) -> Arranged<'s, Trace> {
    arrange_lanes(stream, name, layout, Lanes::NONE, |edge| std::mem::take(&mut edge.diffs))
}

/// Arranges a stream with diffs of several words, which `diffs` makes for an edge: the row count first in each.
pub fn arrange_lanes<'s>(
    stream: Stream<'s, u64, Edge>,
    name: &str,
    layout: Arc<Layout>,
    lanes: Lanes,
    diffs: impl Fn(&mut Edge) -> Vec<i64> + 'static,
) -> Arranged<'s, Trace> {
    type Encoded = CapacityContainerBuilder<Raw>;
    let peers = stream.scope().peers();
    let encoded = stream.unary::<Encoded, _, _, _>(Pipeline, &format!("Encode {name}"), move |_, _| {
        move |input, output| {
            input.for_each(|time, edge| {
                let mut session = output.session(&time);
                let mut edge = std::mem::take(edge);
                let diffs = diffs(&mut edge);
                for mut raw in layout.encode(edge, lanes, diffs) {
                    session.give_container(&mut raw);
                }
            });
        }
    });
    type Batcher = ChunkBatcher<Sorter, Chunk>;
    if peers == 1 {
        arrange_core::<_, _, Batcher, ChunkSpine<Chunk>>(encoded, Pipeline, name, Batcher::new)
    } else {
        let by_key = DistributorPact(|_| exchange::ByKey);
        arrange_core::<_, _, Batcher, ChunkSpine<Chunk>>(encoded, by_key, name, Batcher::new)
    }
}

#[cfg(test)]
mod tests;
