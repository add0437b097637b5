//! The contract of a collector: what partitions say, put together to whole transactions.
//!
//! A log's partitions are read at different speed, and what belongs together may lie in several of them. What each
//! side may rely on:
//! - the collector is a state machine: no clock, no socket, no disk; its input is (partition, offset, what was said),
//!   those of one partition in order, with replays of any part;
//! - [`Collect::next`] gives whole transactions only, in an order in which every state between two of them is one that
//!   the feed's rules allow;
//! - [`Collect::resume`] says where the log must be read again once all that `next` gave is durable: reading it again
//!   from there, with the same state, gives nothing twice that is not harmless twice (a row is what it is, by key) and
//!   leaves nothing out;
//! - what is held is bounded: [`Collect::bytes`] tells how much, [`Collect::ahead`] which partitions need not be read
//!   on; the reader pauses those above its limit.

pub mod marked;
pub mod rows;
mod size;
pub mod window;

use crate::sources::Stop;
use crate::sources::formats::{RowChange, Said, SchemaChange};

/// Puts transactions together.
pub trait Collect: Send {
    /// What one message said. An `Err` is what cannot be followed: the code, without a place.
    fn take(&mut self, partition: usize, offset: i64, said: Vec<Said>) -> Result<(), Stop>;

    /// The next that is complete; `None`: nothing before more is taken.
    fn next(&mut self) -> Option<Complete>;

    /// Why `next` gives nothing more, where what was held cannot be given.
    fn fault(&self) -> Option<&Stop> {
        None
    }

    /// For each partition the offset of the first message that is still needed.
    fn resume(&self) -> Vec<i64>;

    /// What must be known besides, to go on from `resume`: of TiCDC the watermark that was applied.
    fn state(&self) -> Option<u64>;

    /// What must be said before more can be given, for a person; `place` names a partition.
    fn waits_for(&self, place: &dyn Fn(usize) -> String) -> Option<String>;

    /// Bytes of what is held, about.
    fn bytes(&self) -> usize;

    /// Partitions that have said more than can be used before others say more.
    fn ahead(&self) -> Vec<usize>;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Complete {
    /// Rows of one or more whole transactions, in the order in which they apply.
    Rows { rows: Vec<RowChange>, committed_ms: Option<u64> },
    /// Statements between them, all those of one commit: a restart comes before or after them, never amid.
    Schema(Vec<SchemaChange>),
}
