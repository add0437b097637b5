//! The contract of a sink: batches of closed timestamps in, `Committed` out.
//!
//! One sink task owns one target (a connection of the catalog) and moves every live view of it together: a flush is one
//! target transaction with its ledger row, written first and fenced (`target`). What each side may rely on:
//! - a sink asks the engine for a view's rows and changes through [`ViewReader`]; it never waits on a dataflow worker;
//! - a view enters by load-by-diff (compute, compare with the table as it is, write what differs) or, when the ledger
//!   shows it live at L with the same plan, generation and store, by the changes after L;
//! - `Committed(view, ts)` is reported only when the target's COMMIT is known to have succeeded;
//! - a transient fault is retried with back-off and never loses a batch: pending changes are kept consolidated, bounded
//!   by `PENDING_BYTES_MAX`, beyond it dropped and the view is loaded by diff again;
//! - a fault of one view (its table changed by hand, a value that does not fit) holds that view with a reason; the
//!   other views of the target go on; being fenced stops the whole sink.

pub mod wide;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::dataflow::{Batch, Snapshot};
use crate::row::schema::Schema;
use crate::row::{ObjectId, Position, Ts};

/// How a sink reads the views of the engine.
#[async_trait]
pub trait ViewReader: Send + Sync {
    /// The view's rows at a recent complete `Ts`, held until the snapshot is dropped. An error row in the view at that
    /// `Ts` is `Err(reason)`.
    async fn snapshot(&self, view: ObjectId) -> Result<(Ts, Snapshot), String>;
    /// The view's changes with times after `after`, in order; `after` is not before the view's compaction. A batch is
    /// in the channel before `complete` passes its times.
    fn changes(&self, view: ObjectId, after: Ts) -> mpsc::UnboundedReceiver<Batch>;
    /// Every view of the dataflow is complete through this `Ts`.
    fn complete(&self) -> watch::Receiver<Ts>;
    /// The sources' positions at a tick, as the ledger shows them: (source name, position).
    fn positions(&self, at: Ts) -> Vec<(String, Position)>;
    /// The store's id and the number of the tick at or below `at`.
    fn store_tick(&self, at: Ts) -> (u128, u64);
}

/// A view that goes into a wide table.
#[derive(Clone, Debug)]
pub struct SinkView {
    pub view: ObjectId,
    /// The view's name, for the ledger, errors and SHOW.
    pub name: String,
    /// `[database, table]`; SQLite: `[table]`.
    pub table: Vec<String>,
    pub schema: Schema,
    pub comment: Option<String>,
    /// A hash of the plan and of the settings frozen with it.
    pub plan_hash: u64,
    /// The changes after this `Ts` can still be had: the ledger's L(v) is resumed only at or above it.
    pub replay_from: Ts,
    /// `EXISTING ROWS RECONCILE`: a table that has rows is brought right by writing only what differs.
    pub reconcile: bool,
}

/// What a sink tells the engine.
#[derive(Clone, Debug)]
pub enum SinkEvent {
    Committed {
        view: ObjectId,
        ts: Ts,
    },
    /// A step of a load: rows compared or written so far.
    Loading {
        view: ObjectId,
        rows: u64,
    },
    /// Live: the table equals the view at the committed `Ts`.
    Live {
        view: ObjectId,
    },
    /// The view's table does not move; everything else does.
    Held {
        view: ObjectId,
        reason: String,
    },
    /// The target cannot be reached and is being retried.
    Waiting {
        reason: String,
    },
    /// Another server took the fence: this sink has stopped.
    Fenced {
        by: String,
    },
}

/// The running sink of one target.
pub struct SinkHandle {
    pub commands: mpsc::Sender<SinkCommand>,
    pub events: mpsc::UnboundedReceiver<(ObjectId, SinkEvent)>,
}

pub enum SinkCommand {
    Add(SinkView),
    /// Stops writing the view; drops its ledger row and, if asked, its table.
    Remove {
        view: ObjectId,
        drop_table: bool,
        done: tokio::sync::oneshot::Sender<Result<(), String>>,
    },
}

/// The engine's side of every sink.
pub type Reader = Arc<dyn ViewReader>;
