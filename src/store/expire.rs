//! The oldest rows of a table that is appended to, for who drops them.

use arrow::array::{Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;

use crate::row::ObjectId;
use crate::store::base::failed;
use crate::store::kv::{Slice, Space};
use crate::store::layout::Layout;
use crate::store::scan::Snapshot;
use crate::store::{StoreError, keys};

/// Rows that are looked at together, once the first of a run was found to be old.
const LOOK_ROWS_MAX: usize = 1_024;
/// What a BIGINT that is NOT NULL takes at the end of a key.
const LAST_COLUMN_BYTES: usize = 9;

impl Snapshot {
    /// Rows whose time is below `before` microseconds, at most `rows_max` of them.
    ///
    /// The last column of the table's key is a BIGINT that grows; rows that have the other ones in common are a *run*.
    /// Of each run the rows from its first one up to one that is not old are taken, so that what is looked at is what
    /// is taken, and a row a run: the key is the index. A row that is old behind one that is not waits for it.
    pub fn oldest(
        &self,
        table: ObjectId,
        time: usize,
        before: i64,
        rows_max: usize,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let Some((layout, generation)) = self.layout_of(table) else { return Ok(None) };
        let row_error = |reason| StoreError::Row { table, reason };
        let (first, until) = keys::rows_range();
        let mut from = first.to_vec();
        let mut old: Vec<Slice> = Vec::new();
        while old.len() < rows_max {
            let mut scan = self.kv().scan(Space::Rows(table, generation), &from, &until);
            let mut run: Option<Vec<u8>> = None;
            let mut look = 1;
            // To the end of the run, or of what is old in it.
            let ended = loop {
                let mut rows = Vec::with_capacity(look);
                let mut left_run = false;
                while rows.len() < look.min(rows_max - old.len()) {
                    let Some(entry) = scan.next() else { break };
                    let (key, row) = entry.map_err(failed("read rows", self.tick().number))?;
                    let of = &key[..key.len().saturating_sub(LAST_COLUMN_BYTES)];
                    left_run = run.get_or_insert_with(|| of.to_vec()) != of;
                    if left_run {
                        break;
                    }
                    rows.push(row);
                }
                let seen = rows.len();
                let olds = count_old(&layout, &rows, time, before).map_err(row_error)?;
                rows.truncate(olds);
                old.extend(rows);
                if olds < seen || left_run || seen < look {
                    break run;
                }
                look = (look * 8).min(LOOK_ROWS_MAX);
            };
            // No key of the run goes on with this byte.
            let Some(run) = ended else { break };
            from = [&run[..], &[u8::MAX]].concat();
        }
        if old.is_empty() {
            return Ok(None);
        }
        let columns: Vec<usize> = (0..layout.schema.columns.len()).collect();
        layout.decode(old.iter().map(|row| &row[..]), &columns).map(Some).map_err(row_error)
    }
}

/// How many of the first rows are old.
fn count_old(layout: &Layout, rows: &[Slice], time: usize, before: i64) -> Result<usize, String> {
    if rows.is_empty() {
        return Ok(0);
    }
    let times = layout.decode(rows.iter().map(|row| &row[..]), &[time])?;
    let times = times.column(0).as_any().downcast_ref::<TimestampMicrosecondArray>();
    let times = times.ok_or("the column of times has another type")?;
    Ok((0..times.len()).take_while(|i| times.is_valid(*i) && times.value(*i) < before).count())
}
