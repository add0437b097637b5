//! Reading the rows of a table as of one tick.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::row::ObjectId;
use crate::row::delta::Delta;
use crate::store::base::{State, failed};
use crate::store::kv::{KvIter, KvSnapshot, Slice, Space};
use crate::store::layout::{Entries, Layout};
use crate::store::{StoreError, TickHeader, keys};

/// Rows of a batch, however small they are.
const BATCH_ROWS_MAX: usize = 65_536;
const COUNT_BYTES: usize = 8;

/// The base tables as of one tick; cheap to take and clone, unaffected by later ticks.
#[derive(Clone)]
pub struct Snapshot {
    state: Arc<State>,
}

impl Snapshot {
    pub(super) fn new(state: Arc<State>) -> Snapshot {
        Snapshot { state }
    }

    pub(super) fn kv(&self) -> &dyn KvSnapshot {
        &*self.state.kv
    }

    /// How a table's rows are read, and the generation they are in; `None`: not known, or not loaded.
    pub(super) fn layout_of(&self, table: ObjectId) -> Option<(Arc<Layout>, u64)> {
        let known = self.state.tables.get(&table)?;
        Some((known.layout.clone(), known.generation?))
    }

    pub fn tick(&self) -> TickHeader {
        self.state.tick
    }

    /// Rows with their multiplicity, in key order, in batches of about `batch_bytes`; only these columns. A table that
    /// is not known or not loaded has none.
    pub fn scan(
        &self,
        table: ObjectId,
        columns: &[usize],
        batch_bytes: usize,
    ) -> Box<dyn Iterator<Item = Result<Delta, StoreError>> + Send> {
        let Some((known, generation)) = self.state.tables.get(&table).and_then(|t| Some((t, t.generation?))) else {
            return Box::new(std::iter::empty());
        };
        let (from, until) = keys::rows_range();
        Box::new(Scan {
            rows: Some(self.state.kv.scan(Space::Rows(table, generation), &from, &until)),
            layout: known.layout.clone(),
            columns: columns.to_vec(),
            batch_bytes,
            table,
            tick: self.state.tick.number,
        })
    }

    /// The stored rows that have the keys of these rows, which have all columns; a table without a key has none.
    pub fn with_keys_of(&self, table: ObjectId, rows: &RecordBatch) -> Result<RecordBatch, StoreError> {
        let known = self.state.tables.get(&table).ok_or(StoreError::Row { table, reason: "it is not known".into() })?;
        let layout = &known.layout;
        let (Some(generation), true) = (known.generation, layout.keyed()) else {
            return Ok(RecordBatch::new_empty(layout.arrow.clone()));
        };
        let mut wanted = Entries::default();
        let diffs = vec![1; rows.num_rows()];
        layout.encode(rows, &diffs, &mut wanted).map_err(|reason| StoreError::Row { table, reason })?;
        let space = Space::Rows(table, generation);
        let mut found: Vec<Slice> = Vec::new();
        for i in 0..wanted.len() {
            let key = wanted.key(i);
            let row = self.state.kv.scan(space, key, &[key, &[0]].concat()).next().transpose();
            let row = row.map_err(failed("read a row", self.state.tick.number))?;
            found.extend(row.map(|(_, row)| row));
        }
        let columns: Vec<usize> = (0..layout.schema.columns.len()).collect();
        let rows = layout.decode(found.iter().map(|row| &row[..]), &columns);
        rows.map_err(|reason| StoreError::Row { table, reason })
    }

    /// The positions of all columns of a table; none of one that is not known.
    pub fn columns(&self, table: ObjectId) -> Vec<usize> {
        self.state.tables.get(&table).map_or_else(Vec::new, |known| (0..known.layout.schema.columns.len()).collect())
    }

    /// How many rows a table has, from its diffs: exact as long as its source retracts only rows that are there and
    /// adds only rows that are not.
    pub fn rows(&self, table: ObjectId) -> u64 {
        self.state.tables.get(&table).map_or(0, |t| t.counter.rows.max(0) as u64)
    }
}

/// The value of a keyless row: how often it is there, then the row.
pub(super) fn counted(count: i64, row: &[u8]) -> Vec<u8> {
    [&count.to_le_bytes()[..], row].concat()
}

pub(super) fn count_of(value: &[u8]) -> Option<(i64, &[u8])> {
    let (count, row) = value.split_first_chunk::<COUNT_BYTES>()?;
    Some((i64::from_le_bytes(*count), row))
}

struct Scan {
    /// `None` after the end or an error.
    rows: Option<KvIter>,
    layout: Arc<Layout>,
    columns: Vec<usize>,
    batch_bytes: usize,
    table: ObjectId,
    tick: u64,
}

impl Iterator for Scan {
    type Item = Result<Delta, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batch();
        if !matches!(batch, Ok(Some(_))) {
            self.rows = None;
        }
        batch.transpose()
    }
}

impl Scan {
    fn batch(&mut self) -> Result<Option<Delta>, StoreError> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let (mut values, mut bytes): (Vec<Slice>, usize) = (Vec::new(), 0);
        while bytes < self.batch_bytes.max(1) && values.len() < BATCH_ROWS_MAX {
            let Some(entry) = rows.next() else { break };
            let (_, value) = entry.map_err(failed("read rows", self.tick))?;
            bytes += value.len();
            values.push(value);
        }
        if values.is_empty() {
            return Ok(None);
        }
        let mut diffs = vec![1; values.len()];
        let mut encoded: Vec<&[u8]> = Vec::with_capacity(values.len());
        for (value, diff) in values.iter().zip(&mut diffs) {
            if self.layout.keyed() {
                encoded.push(value);
                continue;
            }
            let (count, row) = count_of(value).ok_or_else(|| self.damaged("a row is too short"))?;
            if count < 0 {
                let reason = format!("it was retracted {} times more than it was added", -count);
                return Err(StoreError::Row { table: self.table, reason });
            }
            *diff = count;
            encoded.push(row);
        }
        let batch = self.layout.decode(encoded.into_iter(), &self.columns).map_err(|e| self.damaged(&e))?;
        Ok(Some(Delta::new(batch, diffs)))
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { tick: self.tick, what: format!("rows of table {}: {what}", self.table) }
    }
}
