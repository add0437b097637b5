//! What the engine asks of the workers: one list, in one order, for all of them.

use std::sync::Arc;

use crate::dataflow::describe::Description;
use crate::dataflow::snapshot::SnapshotRequest;
use crate::dataflow::tap::Tap;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};

/// The changes of a tick, shared by all who read them.
pub type Changes = Arc<Vec<(ObjectId, Delta)>>;

#[derive(Clone)]
pub enum Command {
    Install(Arc<Description>),
    /// A load piece of one table for one dataflow; each worker takes its share.
    Feed {
        dataflow: ObjectId,
        table: ObjectId,
        time: Ts,
        delta: Arc<Delta>,
    },
    /// The fed inputs of a dataflow are closed below `to`.
    Advance {
        dataflow: ObjectId,
        to: Ts,
    },
    GoLive {
        dataflow: ObjectId,
    },
    Tick {
        ts: Ts,
        changes: Changes,
    },
    Compact {
        since: Ts,
    },
    Drop {
        dataflow: ObjectId,
    },
    Snapshot {
        object: ObjectId,
        request: Arc<SnapshotRequest>,
    },
    Tap {
        object: ObjectId,
        tap: Arc<Tap>,
    },
    Shutdown,
}

/// A worker's share of some changes: its slice of the rows.
pub fn share(delta: &Delta, worker: usize, workers: usize) -> Delta {
    let (from, to) = (delta.len() * worker / workers, delta.len() * (worker + 1) / workers);
    Delta { rows: delta.rows.slice(from, to - from), diffs: delta.diffs[from..to].to_vec() }
}
