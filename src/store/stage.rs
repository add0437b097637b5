//! The changes of a transaction: in memory while small, staged in a segment of the log when large.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::row::ObjectId;
use crate::row::delta::Delta;
use crate::store::base::{BATCH_BYTES, Store, failed};
use crate::store::kv::{Batch, Durability, Kv, KvSnapshot, Space};
use crate::store::layout::{Entries, Layout};
use crate::store::record::{Part, SegmentRecord};
use crate::store::upsert::Upsert;
use crate::store::{SPILL_BYTES, StoreError, keys};

/// A piece of a segment or of the log; a larger row is a piece of its own.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// The changes of one transaction: in memory, or staged in the store's log.
#[derive(Debug, Clone)]
pub struct Changes {
    pub(super) held: Held,
}

#[derive(Debug, Clone)]
pub(super) enum Held {
    Memory(Vec<(ObjectId, Delta)>),
    Staged(Arc<Segment>),
    /// What rows are, by key, until [`Store::resolve`] makes it one of the others.
    Upserts(Vec<(ObjectId, Upsert)>),
}

impl Changes {
    pub fn none() -> Changes {
        Changes::in_memory(Vec::new())
    }

    pub fn in_memory(deltas: Vec<(ObjectId, Delta)>) -> Changes {
        Changes { held: Held::Memory(deltas) }
    }

    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Memory(deltas) => deltas.iter().map(|(_, delta)| delta.bytes()).sum(),
            Held::Staged(segment) => segment.parts.values().map(|part| part.bytes as usize).sum(),
            Held::Upserts(upserts) => upserts.iter().map(|(_, upsert)| upsert.bytes()).sum(),
        }
    }

    pub fn rows(&self) -> u64 {
        match &self.held {
            Held::Memory(deltas) => deltas.iter().map(|(_, delta)| delta.len() as u64).sum(),
            Held::Staged(segment) => segment.parts.values().map(|part| part.rows).sum(),
            Held::Upserts(upserts) => upserts.iter().map(|(_, upsert)| upsert.rows()).sum(),
        }
    }

    /// The deltas, those of one table in order, read from the log where they are staged. Tables that were dropped since
    /// are passed over.
    pub fn deltas<'a>(
        &'a self,
        store: &'a Store,
    ) -> Box<dyn Iterator<Item = Result<(ObjectId, Delta), StoreError>> + 'a> {
        match &self.held {
            Held::Memory(deltas) => Box::new(deltas.iter().cloned().map(Ok)),
            Held::Upserts(_) => unreachable!("a tick's upserts are resolved before anyone reads it"),
            Held::Staged(segment) => {
                let (state, kv) = (store.state(), store.kv.snapshot());
                Box::new(segment.parts.keys().flat_map(move |&table| {
                    let layout = state.tables.get(&table).map(|known| known.layout.clone());
                    let (kv, tick) = (kv.clone(), state.tick.number);
                    let deltas = layout.map(|layout| segment_deltas(&*kv, segment.id, table, layout, tick));
                    deltas.into_iter().flatten().map(move |delta| Ok((table, delta?)))
                }))
            }
        }
    }
}

/// The deltas of one table in a segment.
pub(super) fn segment_deltas(
    kv: &dyn KvSnapshot,
    segment: u64,
    table: ObjectId,
    layout: Arc<Layout>,
    tick: u64,
) -> impl Iterator<Item = Result<Delta, StoreError>> + Send + use<> {
    let (from, until) = (keys::segment_table(segment, table), keys::segment_table(segment, ObjectId(table.0 + 1)));
    kv.scan(Space::Segments, &from, &until).map(move |entry| {
        let (_, piece) = entry.map_err(failed("read a segment", tick))?;
        piece_delta(&piece, &layout, table, tick)
    })
}

pub(super) fn piece_delta(piece: &[u8], layout: &Layout, table: ObjectId, tick: u64) -> Result<Delta, StoreError> {
    let mut entries = Entries::default();
    let read = entries.read(piece).ok_or_else(|| "is cut short".to_string());
    read.and_then(|()| layout.delta(&entries))
        .map_err(|e| StoreError::Damaged { tick, what: format!("a change of table {table}: {e}") })
}

/// Collects the changes of one transaction, in memory up to `SPILL_BYTES`, from there on in the store's log.
pub struct Stage {
    store: Arc<Store>,
    memory: Vec<(ObjectId, Delta)>,
    memory_bytes: usize,
    segment: Option<Segment>,
}

impl Stage {
    pub fn push(&mut self, table: ObjectId, delta: Delta) -> Result<(), StoreError> {
        self.memory_bytes += delta.bytes();
        self.memory.push((table, delta));
        if self.memory_bytes > SPILL_BYTES { self.spill() } else { Ok(()) }
    }

    /// Moves encoded changes of a table here.
    pub(super) fn push_entries(
        &mut self,
        table: ObjectId,
        layout: &Layout,
        entries: &mut Entries,
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let delta = layout.delta(entries).map_err(|reason| StoreError::Row { table, reason })?;
        entries.clear();
        self.push(table, delta)
    }

    /// The handle; dropping a `Stage` unfinished, or a handle that no tick named, deletes what was staged.
    pub fn finish(mut self) -> Result<Changes, StoreError> {
        if self.segment.is_none() {
            return Ok(Changes::in_memory(self.memory));
        }
        self.spill()?;
        let segment = self.segment.take().expect("spilled above");
        Ok(Changes { held: Held::Staged(Arc::new(segment)) })
    }

    /// Moves what is in memory to the log, for changes that will wait.
    pub fn spill(&mut self) -> Result<(), StoreError> {
        let deltas = std::mem::take(&mut self.memory);
        self.memory_bytes = 0;
        let mut entries = BTreeMap::new();
        self.store.encode(deltas.iter(), &mut entries)?;
        drop(deltas);
        self.segment.get_or_insert_with(|| Segment::new(&self.store)).append(&entries)
    }
}

/// Staged changes, deleted with the last handle unless a tick named them.
pub(super) struct Segment {
    kv: Arc<dyn Kv>,
    pub id: u64,
    pub parts: BTreeMap<ObjectId, Part>,
    named: AtomicBool,
}

impl Segment {
    pub fn new(store: &Store) -> Segment {
        let id = store.next_segment.fetch_add(1, Ordering::Relaxed);
        Segment { kv: store.kv.clone(), id, parts: BTreeMap::new(), named: AtomicBool::new(false) }
    }

    pub fn append(&mut self, tables: &BTreeMap<ObjectId, Entries>) -> Result<(), StoreError> {
        for (&table, entries) in tables {
            let part = self.parts.entry(table).or_default();
            let (rows, net) = (entries.len() as u64, entries.net());
            for (i, piece) in entries.pieces(PIECE_BYTES).into_iter().enumerate() {
                let number = part.pieces;
                // The entries' totals go with their first piece: no one reads a part between two pieces.
                let (rows, net) = if i == 0 { (rows, net) } else { (0, 0) };
                part.add(&piece, rows, net);
                let mut batch = Batch::default();
                batch.put(Space::Segments, keys::segment_piece(self.id, table, number), piece);
                self.kv.write(batch, Durability::Later).map_err(failed("stage changes", 0))?;
            }
        }
        Ok(())
    }

    /// From here on a durable tick may name it: it is not deleted any more.
    pub fn name(&self) -> SegmentRecord {
        self.named.store(true, Ordering::Release);
        SegmentRecord { segment: self.id, parts: self.parts.clone() }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.named.load(Ordering::Acquire) {
            return;
        }
        let mut batch = Batch::default();
        for (&table, part) in &self.parts {
            for piece in 0..part.pieces {
                batch.delete(Space::Segments, keys::segment_piece(self.id, table, piece));
                if batch.bytes() >= BATCH_BYTES {
                    self.forget(std::mem::take(&mut batch));
                }
            }
        }
        self.forget(batch);
    }
}

impl Segment {
    fn forget(&self, batch: Batch) {
        if let Err(error) = self.kv.write(batch, Durability::Later) {
            tracing::warn!(segment = self.id, %error, "staged changes stay until the store opens again");
        }
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("id", &self.id).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Store {
    pub fn stage(self: &Arc<Self>) -> Stage {
        Stage { store: self.clone(), memory: Vec::new(), memory_bytes: 0, segment: None }
    }

    /// Appends deltas to the entries of their tables; those of unknown tables are passed over.
    pub(super) fn encode<'a>(
        &self,
        deltas: impl Iterator<Item = &'a (ObjectId, Delta)>,
        into: &mut BTreeMap<ObjectId, Entries>,
    ) -> Result<(), StoreError> {
        let state = self.state();
        for (table, delta) in deltas {
            let Some(known) = state.tables.get(table) else { continue };
            let encoded = known.layout.encode(&delta.rows, &delta.diffs, into.entry(*table).or_default());
            encoded.map_err(|reason| StoreError::Row { table: *table, reason })?;
        }
        Ok(())
    }
}
