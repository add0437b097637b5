//! Committing a tick: one synced batch, then what it staged is applied to the rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::row::{ObjectId, Position};
use crate::store::base::{State, Store, Table, Writer};
use crate::store::kv::{Batch, Durability, Kv, KvError, Slice, Space};
use crate::store::layout::{Entries, Layout};
use crate::store::log::{PIECE, SEGMENT};
use crate::store::record::{Counter, Part, SegmentRecord, TickRecord};
use crate::store::scan::{count_of, counted};
use crate::store::stage::{Held, PIECE_BYTES, Segment};
use crate::store::{SPILL_BYTES, StoreError, Tick, TickHeader, keys};

impl Store {
    /// Makes a tick durable and visible; returns after the sync, and when all of it is applied. Called by one thread at
    /// a time. After an error of the world the tick may or may not have been written: open the store again to know.
    pub fn commit(&self, tick: &Tick) -> Result<TickHeader, StoreError> {
        let mut writer = self.writer("commit a tick")?;
        let before = self.state();
        let ceiling = self.ceiling.load(Ordering::Acquire);
        assert!(tick.ts > before.tick.ts, "a tick at {} after the one at {}", tick.ts, before.tick.ts);
        assert!(tick.ts.0 <= ceiling, "a tick at {} above the durable ceiling {ceiling}", tick.ts);

        let mut draft = Draft::after(&before, tick);
        for &(table, generation) in &tick.installs {
            self.install(&mut draft, table, generation)?;
        }
        self.changes(&mut draft, tick)?;
        let (header, record) = draft.record.seal(before.tick.checksum);
        draft.batch.put(Space::Main, keys::tick(header.number), record);
        self.write(&mut writer, draft.batch, Durability::Synced, "commit a tick")?;
        self.noted(&mut writer, header.number)?;
        if !draft.record.segments.is_empty() {
            self.apply(&mut writer, &draft.record, &mut draft.tables)?;
        }
        writer.log_bytes += draft.record.log_bytes();
        self.publish(State {
            kv: self.kv.snapshot(),
            tick: header,
            positions: Arc::new(draft.record.positions),
            tables: Arc::new(draft.tables),
            log_from: before.log_from,
        });
        self.clean_up(&mut writer, &draft.replaced);
        Ok(header)
    }

    /// What may fail without harm to the tick: the next commit, or the next opening, does it again.
    fn clean_up(&self, writer: &mut Writer, replaced: &[Space]) {
        for &space in replaced {
            if let Err(error) = self.kv.drop_space(space) {
                tracing::warn!(?space, %error, "replaced rows stay until the store opens again");
            }
        }
        if let Err(error) = self.trim_to_limits(writer) {
            tracing::warn!(%error, "the change log was not trimmed");
        }
    }

    fn noted(&self, writer: &mut Writer, number: u64) -> Result<(), StoreError> {
        self.kv.note(number).map_err(|error| {
            writer.broken = Some(error.to_string());
            self.failed("note the tick")(error)
        })
    }

    fn install(&self, draft: &mut Draft, table: ObjectId, generation: u64) -> Result<(), StoreError> {
        let space = Space::Rows(table, generation);
        let Some(known) = draft.tables.get_mut(&table) else {
            draft.replaced.push(space);
            return Ok(());
        };
        let counter = match self.kv.spaces().contains(&space) {
            true => self.kv.get(space, keys::ROWS_COUNTER).map_err(self.failed("read a generation"))?,
            false => None,
        };
        let Some(counter) = counter.as_deref().and_then(Counter::of_bytes) else {
            let reason = format!("its generation {generation} was not finished: load it again");
            return Err(StoreError::Table { table, wanted: "installed", reason });
        };
        if let Some(old) = known.generation.replace(generation) {
            draft.replaced.push(Space::Rows(table, old));
        }
        known.loaded_at = draft.record.ts;
        // Before this tick's own changes, which may still have to be applied.
        known.counter = Counter { rows: counter.rows, tick: draft.record.number - 1 };
        draft.batch.put(Space::Main, keys::table(table), known.record());
        known.counted(table, &mut draft.batch);
        Ok(())
    }

    /// Puts the tick's changes into the draft: with it when small, else as segments.
    fn changes(&self, draft: &mut Draft, tick: &Tick) -> Result<(), StoreError> {
        let mut segments = Vec::new();
        let mut entries = BTreeMap::new();
        for changes in &tick.changes {
            match &changes.held {
                Held::Memory(deltas) => self.encode(deltas.iter(), &mut entries)?,
                Held::Upserts(_) => unreachable!("resolved before the commit"),
                Held::Staged(segment) => {
                    self.spill(&mut entries, &mut segments)?;
                    segments.push(segment.clone());
                }
            }
        }
        let bytes: usize = entries.values().map(Entries::bytes).sum();
        if bytes > SPILL_BYTES || !segments.is_empty() {
            self.spill(&mut entries, &mut segments)?;
        }
        for (table, entries) in &mut entries {
            self.inline(draft, *table, entries)?;
        }
        for (place, segment) in segments.iter().enumerate() {
            for &table in segment.parts.keys() {
                if draft.loaded(table)?.is_some() {
                    let value = [&[SEGMENT][..], &keys::segment(segment.id)].concat();
                    draft.batch.put(Space::Main, keys::log(table, tick.ts, place as u64), value);
                }
            }
        }
        if !segments.is_empty() {
            draft.record.segments = segments.iter().map(|segment| segment.name()).collect();
            draft.batch.put(Space::Main, keys::PENDING, 0u64.to_le_bytes());
        }
        Ok(())
    }

    fn spill(
        &self,
        entries: &mut BTreeMap<ObjectId, Entries>,
        segments: &mut Vec<Arc<Segment>>,
    ) -> Result<(), StoreError> {
        let entries = std::mem::take(entries);
        if entries.values().all(Entries::is_empty) {
            return Ok(());
        }
        let mut segment = Segment::new(self);
        segment.append(&entries)?;
        segments.push(Arc::new(segment));
        Ok(())
    }

    /// Changes that are written with the tick: to the log and to the rows at once.
    fn inline(&self, draft: &mut Draft, table: ObjectId, entries: &mut Entries) -> Result<(), StoreError> {
        let Some(generation) = draft.loaded(table)? else { return Ok(()) };
        if entries.is_empty() {
            return Ok(());
        }
        let known = draft.tables.get_mut(&table).expect("a loaded table is known");
        let mut part = Part::default();
        for piece in entries.pieces(PIECE_BYTES) {
            let key = keys::log(table, draft.record.ts, part.pieces);
            part.add(&piece, 0, 0);
            draft.batch.put(Space::Main, key, [&[PIECE][..], &piece].concat());
        }
        (part.rows, part.net) = (entries.len() as u64, entries.net());
        known.counter = Counter { rows: known.counter.rows + part.net, tick: draft.record.number };
        draft.record.inline.insert(table, part);
        let space = Space::Rows(table, generation);
        let below = row_writes(&*self.kv, space, &known.layout, entries, &mut draft.batch);
        if let Some((key, count)) = below.map_err(self.failed("read rows"))?.first() {
            let reason = format!("the row under {key:02x?} would be there {count} times");
            return Err(StoreError::Row { table, reason });
        }
        known.counted(table, &mut draft.batch);
        Ok(())
    }

    /// Applies the segments of a durable tick to the rows, from where an earlier attempt stopped.
    pub(super) fn apply(
        &self,
        writer: &mut Writer,
        record: &TickRecord,
        tables: &mut BTreeMap<ObjectId, Table>,
    ) -> Result<(), StoreError> {
        let damaged = |what: String| StoreError::Damaged { tick: record.number, what };
        let pending = self.kv.get(Space::Main, keys::PENDING).map_err(self.failed("read the pending tick"))?;
        let Some(pending) = pending else { return Ok(()) };
        let done = pending.first_chunk().copied().map(u64::from_le_bytes);
        let done = done.ok_or_else(|| damaged("the progress of the pending tick".to_string()))?;
        for (step, (segment, table, piece)) in (0u64..).zip(pieces(&record.segments)).skip(done as usize) {
            let Some((known, generation)) = tables.get(&table).and_then(|t| Some((t, t.generation?))) else { continue };
            let bytes = self.kv.get(Space::Segments, &keys::segment_piece(segment, table, piece));
            let bytes = bytes.map_err(self.failed("read a segment"))?;
            let mut entries = Entries::default();
            bytes
                .and_then(|bytes| entries.read(&bytes))
                .ok_or_else(|| damaged(format!("piece {piece} of segment {segment}, table {table}, cannot be read")))?;
            let mut batch = Batch::default();
            let space = Space::Rows(table, generation);
            // A count below 0 is stored: the tick is durable. Reading the table names it.
            for (key, count) in row_writes(&*self.kv, space, &known.layout, &mut entries, &mut batch)
                .map_err(self.failed("read rows"))?
            {
                tracing::error!(%table, "the row under {key:02x?} is there {count} times");
            }
            batch.put(Space::Main, keys::PENDING, (step + 1).to_le_bytes());
            self.write(writer, batch, Durability::Later, "apply a tick")?;
        }
        let mut batch = Batch::default();
        for segment in &record.segments {
            for (table, part) in &segment.parts {
                let Some(known) = tables.get_mut(table) else { continue };
                known.counter = Counter { rows: known.counter.rows + part.net, tick: record.number };
                known.counted(*table, &mut batch);
            }
        }
        batch.delete(Space::Main, keys::PENDING);
        self.write(writer, batch, Durability::Synced, "finish a tick")
    }
}

/// Segment, table and piece, in the order in which they apply.
fn pieces(segments: &[SegmentRecord]) -> impl Iterator<Item = (u64, ObjectId, u64)> {
    segments.iter().flat_map(|segment| {
        let parts = segment.parts.iter();
        parts.flat_map(move |(&table, part)| (0..part.pieces).map(move |piece| (segment.segment, table, piece)))
    })
}

/// The writes that bring rows up to date with entries; returns the keys whose count falls below 0, with the count.
fn row_writes(
    kv: &dyn Kv,
    space: Space,
    layout: &Layout,
    entries: &mut Entries,
    batch: &mut Batch,
) -> Result<Vec<(Vec<u8>, i64)>, KvError> {
    entries.sort();
    let mut below = Vec::new();
    for group in entries.groups() {
        let (key, last) = (entries.key(group.start), group.end - 1);
        if layout.keyed() {
            match entries.diff(last) > 0 {
                true => batch.put(space, key, entries.row(last)),
                false => batch.delete(space, key),
            }
            continue;
        }
        let net: i64 = group.map(|i| entries.diff(i)).sum();
        if net == 0 {
            continue;
        }
        let before: Option<Slice> = kv.get(space, key)?;
        let count = net + before.as_deref().and_then(count_of).map_or(0, |(count, _)| count);
        match count {
            0 => batch.delete(space, key),
            _ => batch.put(space, key, counted(count, entries.row(last))),
        }
        if count < 0 {
            below.push((key.to_vec(), count));
        }
    }
    Ok(below)
}

impl Table {
    /// Writes the counter beside the rows and in the main space.
    fn counted(&self, table: ObjectId, batch: &mut Batch) {
        if let Some(generation) = self.generation {
            batch.put(Space::Main, keys::counter(table), self.counter.to_bytes());
            batch.put(Space::Rows(table, generation), keys::ROWS_COUNTER, self.counter.to_bytes());
        }
    }
}

/// A tick being put together.
struct Draft {
    tables: BTreeMap<ObjectId, Table>,
    record: TickRecord,
    batch: Batch,
    /// Spaces that no one names after the tick.
    replaced: Vec<Space>,
}

impl Draft {
    fn after(before: &State, tick: &Tick) -> Draft {
        let mut positions: BTreeMap<ObjectId, Position> = before.positions.as_ref().clone();
        positions.extend(tick.positions.clone());
        let record = TickRecord {
            number: before.tick.number + 1,
            ts: tick.ts,
            positions,
            installs: tick.installs.clone(),
            inline: BTreeMap::new(),
            segments: Vec::new(),
        };
        Draft { tables: before.tables.as_ref().clone(), record, batch: Batch::default(), replaced: Vec::new() }
    }

    /// The generation of a table that has changes; `None`: it was dropped.
    fn loaded(&self, table: ObjectId) -> Result<Option<u64>, StoreError> {
        let Some(known) = self.tables.get(&table) else { return Ok(None) };
        if known.generation.is_none() {
            let reason = "none of its generations was installed before its changes".to_string();
            return Err(StoreError::Table { table, wanted: "changed", reason });
        }
        Ok(known.generation)
    }
}
