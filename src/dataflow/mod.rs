//! Plans as running differential dataflows.
//!
//! ```text
//! engine ── command ──> worker threads: install · feed · tick · compact · drop      (one order on all workers)
//!                           render: Plan → operators (linear, join, reduce) → index and errors of a view
//! engine <── tap (batches) · snapshot (chunks by Arc) · frontiers ──┘
//! ```
//!
//! One dataflow for each view and each shared arrangement. A view exports two arrangements: its rows, keyed by its key,
//! and its errors. Every operator has both streams: rows, and errors as data (`error`).
//!
//! Invariants:
//! - a dataflow has one `as_of`; what it computes below is folded to `as_of` before it leaves in a tap or a snapshot;
//! - a dataflow that others import is not dropped before them; an import that ends by itself panics;
//! - a worker never blocks on anything but being idle: what it hands on goes to accounted buffers;
//! - output at a time is a function of the input multisets at that time and of nothing else;
//! - only this floor and the clock know differential and timely.

pub mod arrange;
pub mod edge;
pub mod error;
pub mod join;
pub mod reduce;
pub mod render;
pub mod temporal;

mod command;
mod describe;
mod evaluate;
mod export;
mod expr;
mod handle;
mod linear;
mod report;
mod snapshot;
mod tap;
mod worker;

pub use describe::{ArrangementKey, Build, Description, arrangements, fed_tables};
pub use error::ErrorRow;
pub use evaluate::{Cancel, NoRows, evaluate, evaluate_steps};
pub use handle::Dataflow;
pub use report::Stats;
pub use snapshot::Snapshot;
pub use tap::Batch;
