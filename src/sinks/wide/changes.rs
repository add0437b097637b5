//! The net effect of a view's batches: at most one delete or upsert a key.

use arrow::record_batch::RecordBatch;

use crate::dataflow::Batch;
use crate::row::Ts;
use crate::sinks::wide::layout::{COPY_PREFIX_BYTES, Layout, copy_key, copy_prefix, hidden_key};
use crate::sinks::wide::write::Upsert;
use crate::target::error::TargetError;

/// What a flush writes to one table.
#[derive(Default)]
pub struct Net<'a> {
    /// Keys as literals.
    pub deletes: Vec<String>,
    pub upserts: Vec<Upsert<'a>>,
    /// Of a view without a key: how many copies of a row come or go, for [`Net::with_copies`].
    pub copies: Vec<Copies<'a>>,
}

pub struct Copies<'a> {
    pub prefix: [u8; COPY_PREFIX_BYTES],
    diff: i64,
    rows: &'a RecordBatch,
    row: usize,
}

struct Entry<'a> {
    key: Vec<u8>,
    bytes: Vec<u8>,
    diff: i64,
    rows: &'a RecordBatch,
    row: usize,
}

impl<'a> Net<'a> {
    /// The changes with `after < Ts <= through`.
    pub fn of(
        layout: &Layout,
        batches: impl Iterator<Item = &'a Batch>,
        after: Ts,
        through: Ts,
    ) -> Result<Net<'a>, TargetError> {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        for (rows, times, diffs) in batches.flat_map(|batch| &batch.updates) {
            if !times.iter().any(|t| *t > after && *t <= through) {
                continue;
            }
            let (keys, encoded) = (layout.encode_keys(rows), layout.encode(rows));
            for (row, (key, bytes)) in keys.into_iter().zip(encoded).enumerate() {
                if times[row] > after && times[row] <= through {
                    entries.push(Entry { key, bytes, diff: diffs[row], rows, row });
                }
            }
        }
        entries.sort_by(|a, b| (&a.key, &a.bytes).cmp(&(&b.key, &b.bytes)));
        entries.dedup_by(|later, first| {
            let same = later.key == first.key && later.bytes == first.bytes;
            first.diff += if same { later.diff } else { 0 };
            same
        });
        entries.retain(|entry| entry.diff != 0);
        let mut net = Net::default();
        if layout.counted() {
            net.copies = entries.into_iter().map(Copies::of).collect();
            return Ok(net);
        }
        for group in entries.chunk_by(|a, b| a.key == b.key) {
            net.add_key(layout, group)?;
        }
        Ok(net)
    }

    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.upserts.is_empty() && self.copies.is_empty()
    }

    fn add_key(&mut self, layout: &Layout, group: &[Entry<'a>]) -> Result<(), TargetError> {
        let first = &group[0];
        let come: Vec<&Entry<'a>> = group.iter().filter(|entry| entry.diff > 0).collect();
        let hidden = hidden_key(&first.key);
        match come[..] {
            [] if layout.hidden => {
                let mut key = String::new();
                crate::target::dialect::hex(&mut key, &hidden);
                self.deletes.push(key);
            }
            [] => self.deletes.push(layout.key_of_row(first.rows, first.row)?),
            [entry] if entry.diff == 1 => self.upserts.push(Upsert { rows: entry.rows, row: entry.row, hidden }),
            _ => {
                let key = layout.key_of_row(first.rows, first.row)?;
                return Err(TargetError::Refused(format!("the view has more than one row for key {key}")));
            }
        }
        Ok(())
    }

    /// Turns changes of copies into deletes and upserts; `counts`: the table's copies now, in the order of `copies`.
    pub fn with_copies(&mut self, counts: &[u32]) -> Result<(), TargetError> {
        for (copies, count) in std::mem::take(&mut self.copies).into_iter().zip(counts) {
            let after = *count as i64 + copies.diff;
            if after < 0 || after > u32::MAX as i64 {
                let message = format!("the table has {count} copies of a row that changes by {}", copies.diff);
                return Err(TargetError::Refused(message));
            }
            for copy in after as u32..*count {
                let mut key = String::new();
                crate::target::dialect::hex(&mut key, &copy_key(&copies.prefix, copy));
                self.deletes.push(key);
            }
            for copy in *count..after as u32 {
                let hidden = copy_key(&copies.prefix, copy);
                self.upserts.push(Upsert { rows: copies.rows, row: copies.row, hidden });
            }
        }
        Ok(())
    }
}

impl<'a> Copies<'a> {
    fn of(entry: Entry<'a>) -> Copies<'a> {
        Copies { prefix: copy_prefix(&entry.bytes), diff: entry.diff, rows: entry.rows, row: entry.row }
    }
}
