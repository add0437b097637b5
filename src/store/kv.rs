//! What the store asks of an ordered key-value engine, so that a test can stand in for the disk.
//!
//! Keys live in *spaces*: the few fixed ones, and one for each generation of a table's rows, so that a generation is
//! dropped at once. Invariants of every implementation:
//! - a batch is atomic across spaces; batches become durable in the order in which they were written, and a synced one
//!   makes all before it durable;
//! - ingested rows and created or dropped spaces are durable when the call returns;
//! - a snapshot is unmoved by later writes and still reads spaces that were dropped after it was taken;
//! - after a failed write nothing is known about what it left: the caller writes no more.

use std::sync::Arc;

use crate::row::ObjectId;

/// Immutable bytes, cheap to clone.
pub type Slice = ::fjall::Slice;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    #[error("in use by another process")]
    Locked,
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Io(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Ticks, the change log, tables, catalog: everything that is not bulk.
    Main,
    /// Staged changes of large transactions.
    Segments,
    /// The rows of a table in one generation.
    Rows(ObjectId, u64),
}

/// Writes that take effect together; within one batch the last write of a key wins.
#[derive(Debug, Default)]
pub struct Batch {
    pub writes: Vec<(Space, Slice, Option<Slice>)>,
    bytes: usize,
}

impl Batch {
    pub fn put(&mut self, space: Space, key: impl Into<Slice>, value: impl Into<Slice>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push((space, key, Some(value)));
    }

    pub fn delete(&mut self, space: Space, key: impl Into<Slice>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.push((space, key, None));
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Durable before the call returns, with every write before it.
    Synced,
    /// Durable with the next synced write, or earlier.
    Later,
}

pub type KvIter = Box<dyn Iterator<Item = Result<(Slice, Slice), KvError>> + Send>;

pub trait Kv: Send + Sync {
    fn spaces(&self) -> Vec<Space>;
    /// Makes a space, empty; if it exists, leaves it.
    fn create(&self, space: Space) -> Result<(), KvError>;
    fn drop_space(&self, space: Space) -> Result<(), KvError>;
    /// The value now.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, KvError>;
    fn snapshot(&self) -> Arc<dyn KvSnapshot>;
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError>;
    /// Adds rows whose keys come strictly ascending, past the journal.
    fn ingest(&self, space: Space, rows: &mut dyn Iterator<Item = (&[u8], Slice)>) -> Result<(), KvError>;
    /// The number last given to `note`: kept apart from the data, so that data which went back in time shows.
    fn noted(&self) -> Result<u64, KvError>;
    /// Remembers a number; a power cut may bring an older one back, never a newer one.
    fn note(&self, number: u64) -> Result<(), KvError>;
}

pub trait KvSnapshot: Send + Sync {
    /// Entries with `from <= key < until`, ascending; nothing where the space is not known.
    fn scan(&self, space: Space, from: &[u8], until: &[u8]) -> KvIter;
}
