//! The change log: reading a table's changes again, and trimming what no one needs.

use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};
use crate::store::base::{State, Store, Writer, failed};
use crate::store::kv::{Batch, Durability, Space};
use crate::store::record::TickRecord;
use crate::store::stage::{piece_delta, segment_deltas};
use crate::store::{LOG_AGE_MS_MAX, LOG_BYTES_MAX, StoreError, keys};

/// Ticks trimmed while the writers' lock is held.
const TRIM_TICKS: usize = 64;

/// What an entry of the log holds: a piece of changes, or the number of the segment that does.
pub(super) const PIECE: u8 = 0;
pub(super) const SEGMENT: u8 = 1;

/// Changes of a table in a range of times.
pub enum Log {
    /// All of them, in order.
    Whole(Box<dyn Iterator<Item = Result<(Ts, Delta), StoreError>> + Send>),
    /// The log no longer reaches back that far, or a mark lies in between: load by diff instead.
    Cut,
}

impl Store {
    /// Changes of a table with `after < Ts <= through`, as of the last tick.
    pub fn log(&self, table: ObjectId, after: Ts, through: Ts) -> Log {
        let state = self.state();
        let Some(known) = state.tables.get(&table) else { return Log::Cut };
        if after < state.log_from || after < known.loaded_at {
            return Log::Cut;
        }
        let (layout, tick) = (known.layout.clone(), state.tick.number);
        let (from, until) = keys::log_range(table, after, through.max(after));
        let entries = state.kv.scan(Space::Main, &from, &until);
        Log::Whole(Box::new(entries.flat_map(move |entry| {
            let changes = entry.map_err(failed("read the change log", tick)).and_then(|(key, value)| {
                let damaged = || StoreError::Damaged { tick, what: format!("the log of table {table}") };
                let ts = keys::log_ts(&key).ok_or_else(damaged)?;
                let (kind, content) = value.split_first().ok_or_else(damaged)?;
                let deltas: Box<dyn Iterator<Item = Result<Delta, StoreError>> + Send> = match *kind {
                    PIECE => Box::new(std::iter::once(piece_delta(content, &layout, table, tick))),
                    SEGMENT => {
                        let segment = keys::segment_of(content).ok_or_else(damaged)?;
                        Box::new(segment_deltas(&*state.kv, segment, table, layout.clone(), tick))
                    }
                    _ => return Err(damaged()),
                };
                Ok(deltas.map(move |delta| Ok((ts, delta?))))
            });
            let (deltas, error) = match changes {
                Ok(deltas) => (Some(deltas), None),
                Err(error) => (None, Some(Err(error))),
            };
            deltas.into_iter().flatten().chain(error)
        })))
    }

    /// No reader needs changes at or below this `Ts` any more.
    pub fn trim(&self, through: Ts) -> Result<(), StoreError> {
        loop {
            let mut writer = self.writer("trim the change log")?;
            if self.trim_some(&mut writer, |_, record| record.ts <= through)? < TRIM_TICKS {
                return Ok(());
            }
        }
    }

    /// Cuts a part of what is above the log's limits of size and age.
    pub(super) fn trim_to_limits(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let now = self.state().tick.ts;
        let old = |ts: Ts| now.0 - ts.0 > LOG_AGE_MS_MAX;
        self.trim_some(writer, |log_bytes, record| log_bytes > LOG_BYTES_MAX || old(record.ts))?;
        Ok(())
    }

    /// Trims the oldest ticks as long as the condition holds, up to `TRIM_TICKS`; the last tick always stays.
    fn trim_some(
        &self,
        writer: &mut Writer,
        condition: impl Fn(u64, &TickRecord) -> bool,
    ) -> Result<usize, StoreError> {
        let state = self.state();
        let (mut anchor, mut log_bytes) = (writer.anchor, writer.log_bytes);
        let mut batch = Batch::default();
        let mut trimmed = 0;
        while trimmed < TRIM_TICKS && anchor.number + 1 < state.tick.number {
            let number = anchor.number + 1;
            let bytes = self.kv.get(Space::Main, &keys::tick(number)).map_err(self.failed("read a tick"))?;
            let damaged = |what| StoreError::Damaged { tick: number, what };
            let bytes = bytes.ok_or_else(|| damaged("its record is missing".to_string()))?;
            let (header, record) = TickRecord::unseal(&bytes, &anchor).map_err(damaged)?;
            if !condition(log_bytes, &record) {
                break;
            }
            forget(&record, &mut batch);
            anchor = header;
            log_bytes = log_bytes.saturating_sub(record.log_bytes());
            trimmed += 1;
        }
        if trimmed > 0 {
            let content = serde_json::to_vec(&anchor).expect("a header is always JSON");
            batch.put(Space::Main, keys::ANCHOR, content);
            self.write(writer, batch, Durability::Later, "trim the change log")?;
            (writer.anchor, writer.log_bytes) = (anchor, log_bytes);
            self.publish(State { kv: self.kv.snapshot(), log_from: anchor.ts, ..state.again() });
        }
        Ok(trimmed)
    }
}

/// Deletes a tick's record and its changes.
fn forget(record: &TickRecord, batch: &mut Batch) {
    batch.delete(Space::Main, keys::tick(record.number));
    for (&table, part) in &record.inline {
        (0..part.pieces).for_each(|piece| batch.delete(Space::Main, keys::log(table, record.ts, piece)));
    }
    for (place, segment) in record.segments.iter().enumerate() {
        for (&table, part) in &segment.parts {
            batch.delete(Space::Main, keys::log(table, record.ts, place as u64));
            (0..part.pieces)
                .for_each(|piece| batch.delete(Space::Segments, keys::segment_piece(segment.segment, table, piece)));
        }
    }
}
