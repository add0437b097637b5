//! Load by diff: compute the view, compare with the table as it is, write what differs.

use std::collections::HashMap;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::record_batch::RecordBatch;
use sha2::{Digest, Sha256};

use crate::dataflow::Snapshot;
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::delta::Delta;
use crate::row::types::SqlType;
use crate::sinks::wide::layout::{HiddenKey, KEY_COLUMN, Layout, copy_key, copy_prefix, hidden_key};
use crate::sinks::wide::write::{Upsert, Writer};
use crate::target::Target;
use crate::target::dialect;
use crate::target::error::TargetError;
use crate::target::ledger::{Ledger, LedgerRow};

/// Rows that are encoded together.
const BATCH_ROWS: usize = 4096;
/// Rows that one transaction writes to a table nobody reads yet.
const CHUNK_ROWS_MAX: u64 = 4_000;

/// A load under way: what it writes to, what is compared with what, and what the ledger says meanwhile.
pub struct Load {
    pub layout: Layout,
    pub table: Vec<String>,
    /// Commit every `CHUNK_ROWS_MAX` rows: nobody reads the table under this name.
    pub in_chunks: bool,
    /// The ledger's row for the time of the load; its `rows_loaded` counts.
    pub row: LedgerRow,
    rows: Box<dyn Iterator<Item = Delta> + Send>,
    /// What the table has and the view was not yet seen to have.
    there: HashMap<Vec<u8>, [u8; 16]>,
}

impl Load {
    /// Reads the table as it is. The caller has begun a transaction and written the fence row.
    pub async fn begin(
        target: &mut dyn Target,
        layout: Layout,
        table: Vec<String>,
        in_chunks: bool,
        row: LedgerRow,
        snapshot: Snapshot,
    ) -> Result<Load, TargetError> {
        let there = rows_there(target, &layout, &table).await?;
        Ok(Load { layout, table, in_chunks, row, rows: Box::new(snapshot.batches(BATCH_ROWS)), there })
    }

    /// Writes on, in the caller's transaction, which it commits: up to a chunk, or all that is left. True when the
    /// table equals the snapshot.
    pub async fn step(&mut self, target: &mut dyn Target, ledger: &Ledger) -> Result<bool, TargetError> {
        let mut writer = Writer::new(&self.layout, &self.table, target);
        let mut written = 0;
        // Deletes go first where the user's own keys may take two rows for one: the rows that differ wait for them.
        let at_once = self.in_chunks || self.there.is_empty();
        let mut later: Vec<(RecordBatch, Vec<(usize, HiddenKey)>)> = Vec::new();
        for delta in self.rows.by_ref() {
            let differ = compare(&self.layout, &mut self.there, &delta.rows, &delta.diffs)?;
            self.row.rows_loaded += delta.rows.num_rows() as u64;
            if at_once {
                upsert(target, &mut writer, &self.layout, &delta.rows, &differ).await?;
                written += differ.len() as u64;
            } else if !differ.is_empty() {
                later.push((delta.rows.clone(), differ));
            }
            if self.in_chunks && written >= CHUNK_ROWS_MAX {
                writer.finish(target).await?;
                ledger.write(target, std::slice::from_ref(&self.row)).await?;
                return Ok(false);
            }
        }
        // What is left there is in the view no more; keys in order, so that a load is the same each time.
        let mut gone: Vec<Vec<u8>> = std::mem::take(&mut self.there).into_keys().collect();
        gone.sort();
        for key in gone {
            let key = if self.layout.hidden {
                let mut literal = String::new();
                dialect::hex(&mut literal, &key);
                literal
            } else {
                self.layout.key_of_bytes(&key)?
            };
            writer.delete(target, &key).await?;
        }
        writer.finish_deletes(target).await?;
        for (rows, differ) in &later {
            upsert(target, &mut writer, &self.layout, rows, differ).await?;
        }
        writer.finish(target).await?;
        ledger.write(target, std::slice::from_ref(&self.row)).await?;
        Ok(true)
    }
}

/// For each row in the table its key's bytes and a digest of its values: 16 bytes and the key a row, in memory.
async fn rows_there(
    target: &mut dyn Target,
    layout: &Layout,
    table: &[String],
) -> Result<HashMap<Vec<u8>, [u8; 16]>, TargetError> {
    let mut types: Vec<SqlType> = layout.schema.columns.iter().map(|c| c.sql_type.clone()).collect();
    if layout.hidden {
        types.insert(0, SqlType::Binary(16));
    }
    let columns = dialect::names(&layout.written_names());
    let sql = format!("SELECT {columns} FROM {}", dialect::path(table));
    let mut there = HashMap::new();
    let mut page: Vec<Vec<Datum>> = Vec::with_capacity(BATCH_ROWS);
    let mut misfit = None;
    target
        .read(sql, types, &mut |row| {
            page.push(row);
            if page.len() == BATCH_ROWS {
                misfit = take_page(layout, &mut page, &mut there).err().or(misfit.take());
            }
        })
        .await?;
    misfit = take_page(layout, &mut page, &mut there).err().or(misfit);
    misfit.map_or(Ok(there), Err)
}

/// The rows that the table does not have so; those that it has, so or otherwise, are taken from `there`.
fn compare(
    layout: &Layout,
    there: &mut HashMap<Vec<u8>, [u8; 16]>,
    rows: &RecordBatch,
    diffs: &[i64],
) -> Result<Vec<(usize, HiddenKey)>, TargetError> {
    let (keys, encoded, digests) = (layout.encode_keys(rows), layout.encode(rows), digests(layout, rows));
    let mut differ = Vec::new();
    for row in 0..rows.num_rows() {
        if diffs[row] < 0 || (diffs[row] > 1 && !layout.counted()) {
            let key = layout.key_of_row(rows, row)?;
            return Err(TargetError::Refused(format!("the view has {} rows for key {key}", diffs[row])));
        }
        for copy in 0..diffs[row] as u32 {
            let hidden = match layout.counted() {
                true => copy_key(&copy_prefix(&encoded[row]), copy),
                false => hidden_key(&keys[row]),
            };
            let key: &[u8] = if layout.hidden { &hidden } else { &keys[row] };
            if there.remove(key) != Some(digests[row]) {
                differ.push((row, hidden));
            }
        }
    }
    Ok(differ)
}

async fn upsert(
    target: &mut dyn Target,
    writer: &mut Writer,
    layout: &Layout,
    rows: &RecordBatch,
    differ: &[(usize, HiddenKey)],
) -> Result<(), TargetError> {
    for (row, hidden) in differ {
        writer.upsert(target, layout, &Upsert { rows, row: *row, hidden: *hidden }).await?;
    }
    Ok(())
}

fn take_page(
    layout: &Layout,
    page: &mut Vec<Vec<Datum>>,
    there: &mut HashMap<Vec<u8>, [u8; 16]>,
) -> Result<(), TargetError> {
    let first = layout.hidden as usize;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (c, column) in layout.schema.columns.iter().enumerate() {
        let mut builder = ColumnBuilder::new(&column.sql_type, page.len());
        for row in page.iter() {
            let pushed = builder.push(&row[first + c]);
            pushed.map_err(|e| TargetError::Refused(format!("column {} in the table: {e}", column.name)))?;
        }
        columns.push(builder.finish());
    }
    if page.is_empty() {
        return Ok(());
    }
    let nullable = arrow::datatypes::Schema::new(
        layout.schema.arrow().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    );
    let rows = RecordBatch::try_new(nullable.into(), columns).expect("each column was built of its type");
    let keys = layout.encode_keys(&rows);
    for ((row, key), digest) in page.drain(..).zip(keys).zip(digests(layout, &rows)) {
        let key = match row.into_iter().next() {
            Some(Datum::Bytes(hidden)) if layout.hidden => hidden,
            Some(_) if layout.hidden => {
                return Err(TargetError::Refused(format!("{KEY_COLUMN} in the table has a value that is not ours")));
            }
            _ => key,
        };
        there.insert(key, digest);
    }
    Ok(())
}

/// A digest of each row's values as a target would give them back.
fn digests(layout: &Layout, rows: &RecordBatch) -> Vec<[u8; 16]> {
    let columns = rows.columns().iter().zip(&layout.schema.columns);
    let columns: Vec<ArrayRef> = columns.map(|(column, c)| stored(column, &c.sql_type)).collect();
    let alike = RecordBatch::try_new(rows.schema(), columns).expect("the values keep their types");
    let digest = |bytes: &Vec<u8>| Sha256::digest(bytes)[..16].try_into().expect("SHA-256 has 32 bytes");
    layout.encode(&alike).iter().map(digest).collect()
}

/// The column as MySQL stores it: JSON in one spelling, CHAR without trailing spaces, BINARY without trailing zeros.
fn stored(column: &ArrayRef, sql_type: &SqlType) -> ArrayRef {
    match sql_type {
        SqlType::Json => {
            let texts = column.as_any().downcast_ref::<StringArray>().expect("JSON is text");
            let one = |text: &str| match serde_json::from_str::<serde_json::Value>(text) {
                Ok(value) => value.to_string(),
                Err(_) => text.to_string(),
            };
            std::sync::Arc::new(texts.iter().map(|text| text.map(one)).collect::<StringArray>())
        }
        SqlType::Char(_) => {
            let texts = column.as_any().downcast_ref::<StringArray>().expect("CHAR is text");
            std::sync::Arc::new(texts.iter().map(|t| t.map(|t| t.trim_end_matches(' '))).collect::<StringArray>())
        }
        SqlType::Binary(_) => {
            let values = column.as_any().downcast_ref::<BinaryArray>().expect("BINARY is bytes");
            let end = |v: &[u8]| v.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            std::sync::Arc::new(values.iter().map(|v| v.map(|v| &v[..end(v)])).collect::<BinaryArray>())
        }
        _ => column.clone(),
    }
}
