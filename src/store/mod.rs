//! Durable base tables, their changes, the catalog and the ticks, in an embedded key-value store.
//!
//! A *tick* is what the clock sealed: a `Ts`, the position of every source, and the changes of whole transactions. It
//! is one atomic, synced record; nothing is visible before it, everything it names is visible after it. Large things
//! are staged first and then named by a tick: snapshot rows in a *generation* of their table, changes of a large
//! transaction in a *segment* of the change log.
//!
//! Invariants:
//! - ticks are numbered without gaps, each sealed by a checksum over its content and the checksum before it; opening
//!   verifies the chain and refuses a store that breaks it, that lost its newest ticks or whose rows are not those of
//!   its last tick;
//! - a tick is synced to disk before `commit` returns; the tick's `Ts` is above the last one's and at or below the
//!   durable ceiling;
//! - rows are keyed by table, generation and primary key (keyless: by a hash of the row's bytes, with a count);
//! - rows are written blindly: a diff above 0 puts, below 0 deletes, and the last one of a key wins; feeds that
//!   deliver at least once are read against the rows first ([`Store::resolve`]);
//! - a table that is read whole again becomes differences by comparing two scans in key order ([`Load::difference`]);
//! - segments that a tick names are applied to the rows after its record, in bounded batches, each with its progress:
//!   an interrupted tick is finished when the store opens, and no snapshot shows half of one;
//! - the change log of a table is cut at a mark (loaded, dropped) and by size and age: no reader can hold it;
//! - what was staged and never named, or only put aside ([`Scratch`]), is deleted when it is dropped, or else when the
//!   store opens;
//! - after a failed write the store writes no more until it is opened again; what it has stays readable;
//! - the store knows nothing of sources, plans or targets: a `Position` is a string to it.

mod base;
mod commit;
mod difference;
mod disk;
mod expire;
mod keys;
mod kv;
mod layout;
mod load;
mod log;
mod memory;
mod open;
mod record;
mod scan;
mod scratch;
mod stage;
#[cfg(test)]
mod tests;
mod upsert;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::row::{ObjectId, Position, Ts};

pub use base::Store;
pub use load::Load;
pub use log::Log;
pub use scan::Snapshot;
pub use scratch::Scratch;
pub use stage::{Changes, Stage};
pub use upsert::{Disputed, Healed, Upsert, Write};

/// Changes of a transaction, or of a tick, above this are staged in segments.
pub const SPILL_BYTES: usize = 16 << 20;
/// A change log beyond this is cut from its old end.
pub const LOG_BYTES_MAX: u64 = 4 << 30;
/// Changes older than this, by `Ts`, are cut from the log.
pub const LOG_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("data directory {path} is in use by another server: stop it, or give this one its own")]
    Locked { path: String },
    #[error("store is damaged at tick {tick}: {what}; restore the data directory or start with an empty one")]
    Damaged { tick: u64, what: String },
    #[error("store was written by format {found}, this server reads {expected}: use the server that wrote it")]
    Format { found: u32, expected: u32 },
    #[error("store cannot {action}: {reason}")]
    Io { action: &'static str, reason: String },
    #[error("table {table} gives a row that its schema cannot hold: {reason}")]
    Row { table: ObjectId, reason: String },
    #[error("table {table} cannot be {wanted}: {reason}")]
    Table { table: ObjectId, wanted: &'static str, reason: String },
}

/// The last thing the store made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickHeader {
    /// 1 for the first tick; 0 before it.
    pub number: u64,
    pub ts: Ts,
    pub checksum: u64,
}

/// What the clock asks to make durable and visible at once.
#[derive(Debug)]
pub struct Tick {
    pub ts: Ts,
    /// Of the sources that moved; the others keep theirs.
    pub positions: BTreeMap<ObjectId, Position>,
    /// Generations that become their table's rows before the changes apply.
    pub installs: Vec<(ObjectId, u64)>,
    /// In the order in which they apply. Changes of dropped tables are passed over.
    pub changes: Vec<Changes>,
}
