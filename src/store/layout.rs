//! A table's rows as bytes: the key under which a row is stored, the row, and lists of both.
//!
//! The key is the arrow-row of the key columns, the row the arrow-row of all columns; a table without a key has the
//! row's hash as its key and a count before the row.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use sha2::{Digest, Sha256};

use crate::row::codec::RowCodec;
use crate::row::delta::Delta;
use crate::row::schema::Schema;
use crate::store::keys;

/// A longer key is stored as its beginning and a hash. MySQL's own limit is 3072 bytes before encoding.
const KEY_BYTES_MAX: usize = 4096;
const HASH_BYTES: usize = 16;

pub struct Layout {
    pub schema: Schema,
    pub arrow: SchemaRef,
    row: RowCodec,
    /// Of the key columns; `None`: no key, or a key of no columns.
    key: Option<RowCodec>,
}

impl Layout {
    pub fn new(schema: Schema) -> Layout {
        let codec = |positions: &[usize]| RowCodec::new(positions.iter().map(|&c| schema.columns[c].sql_type.arrow()));
        let row = codec(&(0..schema.columns.len()).collect::<Vec<_>>());
        let key = schema.key.as_ref().filter(|key| !key.is_empty()).map(|key| codec(key));
        Layout { arrow: schema.arrow(), row, key, schema }
    }

    pub fn keyed(&self) -> bool {
        self.schema.key.is_some()
    }

    /// Appends the rows with their diffs; `Err` says which column cannot be held.
    pub fn encode(&self, rows: &RecordBatch, diffs: &[i64], into: &mut Entries) -> Result<(), String> {
        self.check(rows.columns(), |column| column.null_count() > 0)?;
        self.append(rows.columns(), |i| diffs[i], into)
    }

    /// Appends what upserts say, 1 for a row that is put; of the others only the key is checked and means something.
    pub fn encode_upserts(&self, columns: &[ArrayRef], puts: &[bool], into: &mut Entries) -> Result<(), String> {
        self.check(columns, |column| {
            column.null_count() > 0 && puts.iter().enumerate().any(|(i, put)| *put && column.is_null(i))
        })?;
        for &key in self.schema.key.iter().flatten() {
            if !self.schema.columns[key].nullable && columns[key].null_count() > 0 {
                return Err(format!("key column {} is NULL", self.schema.columns[key].name));
            }
        }
        self.append(columns, |i| puts[i] as i64, into)
    }

    fn append(&self, columns: &[ArrayRef], diff: impl Fn(usize) -> i64, into: &mut Entries) -> Result<(), String> {
        let encoded = self.row.encode(columns).map_err(|e| e.to_string())?;
        let keys = match (&self.key, &self.schema.key) {
            (Some(codec), Some(key)) => {
                let columns: Vec<ArrayRef> = key.iter().map(|&c| columns[c].clone()).collect();
                Some(codec.encode(&columns).map_err(|e| e.to_string())?)
            }
            _ => None,
        };
        let mut bytes = Vec::new();
        for (i, row) in encoded.iter().enumerate() {
            bytes.clear();
            bytes.push(keys::ROW);
            match &keys {
                Some(keys) => bounded(keys.row(i).as_ref(), &mut bytes),
                None if self.keyed() => {}
                None => bytes.extend(&Sha256::digest(row.as_ref())[..HASH_BYTES]),
            }
            into.push(diff(i), &bytes, row.as_ref());
        }
        Ok(())
    }

    /// The chosen columns of encoded rows.
    pub fn decode<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a [u8]>,
        columns: &[usize],
    ) -> Result<RecordBatch, String> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let all = self.row.decode(rows).map_err(|e| e.to_string())?;
        let chosen = columns.iter().map(|&c| all[c].clone()).collect();
        let schema = self.arrow.project(columns).map_err(|e| e.to_string())?;
        RecordBatch::try_new_with_options(schema.into(), chosen, &options).map_err(|e| e.to_string())
    }

    /// All columns of the entries, with their diffs.
    pub fn delta(&self, entries: &Entries) -> Result<Delta, String> {
        let columns: Vec<usize> = (0..self.schema.columns.len()).collect();
        let rows = self.decode((0..entries.len()).map(|i| entries.row(i)), &columns)?;
        Ok(Delta::new(rows, (0..entries.len()).map(|i| entries.diff(i)).collect()))
    }

    /// Types as declared, and no NULL (of those that count) where none may be.
    fn check(&self, found: &[ArrayRef], has_null: impl Fn(&ArrayRef) -> bool) -> Result<(), String> {
        let columns = &self.schema.columns;
        if found.len() != columns.len() {
            return Err(format!("{} columns instead of {}", found.len(), columns.len()));
        }
        for (column, values) in columns.iter().zip(found) {
            if *values.data_type() != column.sql_type.arrow() {
                return Err(format!("column {} is {} instead of {}", column.name, values.data_type(), column.sql_type));
            }
            if !column.nullable && has_null(values) {
                return Err(format!("column {} is NULL but declared NOT NULL", column.name));
            }
        }
        Ok(())
    }
}

fn bounded(key: &[u8], into: &mut Vec<u8>) {
    if key.len() <= KEY_BYTES_MAX {
        into.extend(key);
    } else {
        into.extend(&key[..KEY_BYTES_MAX]);
        into.extend(Sha256::digest(key));
    }
}

/// Rows with keys and diffs, in one piece of memory.
#[derive(Default)]
pub struct Entries {
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

struct Entry {
    diff: i64,
    start: usize,
    key_end: usize,
    end: usize,
}

impl Entries {
    pub fn push(&mut self, diff: i64, key: &[u8], row: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend(key);
        let key_end = self.bytes.len();
        self.bytes.extend(row);
        self.index.push(Entry { diff, start, key_end, end: self.bytes.len() });
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<Entry>()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }

    pub fn diff(&self, i: usize) -> i64 {
        self.index[i].diff
    }

    pub fn key(&self, i: usize) -> &[u8] {
        &self.bytes[self.index[i].start..self.index[i].key_end]
    }

    pub fn row(&self, i: usize) -> &[u8] {
        &self.bytes[self.index[i].key_end..self.index[i].end]
    }

    pub fn net(&self) -> i64 {
        self.index.iter().map(|e| e.diff).sum()
    }

    /// Entries by key, each with the range of its entries in the order in which they came.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |e: &Entry| &bytes[e.start..e.key_end];
        if !self.index.is_sorted_by(|a, b| key(a) <= key(b)) {
            self.index.sort_by(|a, b| key(a).cmp(key(b)));
        }
    }

    /// The runs of equal keys, once sorted.
    pub fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start == self.len() {
                return None;
            }
            let first = start;
            while start < self.len() && self.key(start) == self.key(first) {
                start += 1;
            }
            Some(first..start)
        })
    }

    /// Serialised, in order, in pieces of about `bytes_max`; a larger row is a piece of its own.
    pub fn pieces(&self, bytes_max: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        for i in 0..self.len() {
            let (key, row) = (self.key(i), self.row(i));
            if !piece.is_empty() && piece.len() + key.len() + row.len() > bytes_max {
                pieces.push(std::mem::take(&mut piece));
            }
            piece.extend(self.diff(i).to_le_bytes());
            piece.extend((key.len() as u32).to_le_bytes());
            piece.extend((row.len() as u32).to_le_bytes());
            piece.extend(key);
            piece.extend(row);
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }

    /// Appends what a piece holds; `None` if it is not one.
    pub fn read(&mut self, mut piece: &[u8]) -> Option<()> {
        while !piece.is_empty() {
            let diff = i64::from_le_bytes(*piece.split_off(..8)?.first_chunk()?);
            let key_bytes = u32::from_le_bytes(*piece.split_off(..4)?.first_chunk()?);
            let row_bytes = u32::from_le_bytes(*piece.split_off(..4)?.first_chunk()?);
            let key = piece.split_off(..key_bytes as usize)?;
            let row = piece.split_off(..row_bytes as usize)?;
            self.push(diff, key, row);
        }
        Some(())
    }
}
