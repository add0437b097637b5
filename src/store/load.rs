//! Filling a generation of a table: rows in any order, sorted in bounded runs, then ingested.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::record_batch::RecordBatch;

use crate::row::ObjectId;
use crate::store::base::Store;
use crate::store::kv::{Batch, Durability, Slice, Space};
use crate::store::layout::{Entries, Layout};
use crate::store::record::Counter;
use crate::store::scan::{count_of, counted};
use crate::store::{StoreError, keys};

/// Encoded rows that are sorted and written at once.
const RUN_BYTES: usize = 48 << 20;
/// Rows that are encoded at once.
const ENCODE_ROWS: usize = 8192;

/// Rows of a table being read from its source, not yet visible. Dropped unfinished, they are deleted.
pub struct Load {
    pub(super) store: Arc<Store>,
    pub(super) table: ObjectId,
    generation: u64,
    pub(super) layout: Arc<Layout>,
    run: Entries,
    rows: i64,
    runs: u64,
    finished: bool,
}

impl Load {
    /// Adds rows. A key that comes twice is stored once, as it came last (but `Snapshot::rows` may count it twice).
    pub fn push(&mut self, rows: RecordBatch) -> Result<(), StoreError> {
        for start in (0..rows.num_rows()).step_by(ENCODE_ROWS) {
            let slice = rows.slice(start, ENCODE_ROWS.min(rows.num_rows() - start));
            let ones = vec![1; slice.num_rows()];
            let encoded = self.layout.encode(&slice, &ones, &mut self.run);
            encoded.map_err(|reason| StoreError::Row { table: self.table, reason })?;
            if self.run.bytes() >= RUN_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// The generation, to be named by `Tick::installs`.
    pub fn finish(mut self) -> Result<u64, StoreError> {
        self.flush()?;
        let mut batch = Batch::default();
        let counter = Counter { rows: self.rows, tick: 0 };
        batch.put(self.space(), keys::ROWS_COUNTER, counter.to_bytes());
        self.store.kv.write(batch, Durability::Later).map_err(self.store.failed("finish a load"))?;
        self.finished = true;
        Ok(self.generation)
    }

    pub(super) fn space(&self) -> Space {
        Space::Rows(self.table, self.generation)
    }

    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if self.run.is_empty() {
            return Ok(());
        }
        self.run.sort();
        let (run, kv) = (&self.run, &self.store.kv);
        if self.layout.keyed() {
            let mut rows = 0;
            let mut last = run.groups().map(|group| {
                rows += 1;
                (run.key(group.start), Slice::from(run.row(group.end - 1)))
            });
            kv.ingest(self.space(), &mut last).map_err(self.store.failed("load rows"))?;
            drop(last);
            self.rows += rows;
        } else {
            let mut values = Vec::new();
            for group in run.groups() {
                let key = run.key(group.start);
                // Only an earlier run can have it already.
                let before = match self.runs {
                    0 => None,
                    _ => kv.get(self.space(), key).map_err(self.store.failed("load rows"))?,
                };
                let before = before.as_deref().and_then(count_of).map_or(0, |(count, _)| count);
                let value = counted(before + group.len() as i64, run.row(group.start));
                values.push((key, Slice::from(value)));
            }
            kv.ingest(self.space(), &mut values.into_iter()).map_err(self.store.failed("load rows"))?;
            self.rows += run.len() as i64;
        }
        self.runs += 1;
        self.run.clear();
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.store.kv.drop_space(self.space())
        {
            tracing::warn!(table = %self.table, %error, "an unfinished load stays until the store opens again");
        }
    }
}

impl Store {
    /// Starts a generation of a table.
    pub fn load(self: &Arc<Self>, table: ObjectId) -> Result<Load, StoreError> {
        let state = self.state();
        let Some(known) = state.tables.get(&table) else {
            let reason = "the store does not know it: it was dropped".to_string();
            return Err(StoreError::Table { table, wanted: "loaded", reason });
        };
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        self.kv.create(Space::Rows(table, generation)).map_err(self.failed("start a load"))?;
        Ok(Load {
            store: self.clone(),
            table,
            generation,
            layout: known.layout.clone(),
            run: Entries::default(),
            rows: 0,
            runs: 0,
            finished: false,
        })
    }
}
