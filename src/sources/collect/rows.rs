//! Row by row: what a message says is complete at once, in the order of its partition.
//!
//! For feeds that do not say where a transaction ends (Canal, Debezium without its transaction topic): a state between
//! two messages may be one that the upstream never had, but each row goes through its versions in order, since all of
//! them lie in one partition.

use std::collections::VecDeque;

use super::size::bytes_of;
use super::{Collect, Complete};
use crate::sources::Stop;
use crate::sources::formats::{RowChange, Said};

/// The collector; it holds only what has been taken and not yet asked for.
#[derive(Debug)]
pub struct Rows {
    next: Vec<i64>,
    held: VecDeque<Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    partition: usize,
    offset: i64,
    complete: Complete,
    bytes: usize,
}

/// Messages' rows are given together up to this number.
const ROWS_TOGETHER_MAX: usize = 1024;

impl Rows {
    /// Each partition's next offset.
    pub fn new(next: Vec<i64>) -> Rows {
        Rows { next, held: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, partition: usize, offset: i64, complete: Complete) {
        let bytes = match &complete {
            Complete::Rows { rows, .. } => rows.iter().map(bytes_of).sum(),
            Complete::Schema(changes) => changes.iter().map(|change| change.sql.len()).sum(),
        };
        self.bytes += bytes;
        self.held.push_back(Held { partition, offset, complete, bytes });
    }

    fn pop(&mut self) -> Option<Complete> {
        let held = self.held.pop_front()?;
        self.bytes -= held.bytes;
        Some(held.complete)
    }

    fn rows_in_front(&self) -> usize {
        match self.held.front() {
            Some(Held { complete: Complete::Rows { rows, .. }, .. }) => rows.len(),
            _ => 0,
        }
    }
}

impl Collect for Rows {
    fn take(&mut self, partition: usize, offset: i64, said: Vec<Said>) -> Result<(), Stop> {
        self.next[partition] = self.next[partition].max(offset + 1);
        let mut rows: Vec<RowChange> = Vec::new();
        for what in said {
            match what {
                Said::Row(row) => rows.push(row),
                Said::Schema(change) => {
                    if !rows.is_empty() {
                        self.push(partition, offset, of_rows(std::mem::take(&mut rows)));
                    }
                    self.push(partition, offset, Complete::Schema(vec![change]));
                }
                // Where transactions or timestamps end is not asked here.
                Said::Watermark(_) | Said::Mark(_) => {}
            }
        }
        if !rows.is_empty() {
            self.push(partition, offset, of_rows(rows));
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Complete> {
        let mut complete = self.pop()?;
        if let Complete::Rows { rows, committed_ms } = &mut complete {
            while (1..=ROWS_TOGETHER_MAX.saturating_sub(rows.len())).contains(&self.rows_in_front()) {
                let Some(Complete::Rows { rows: more, committed_ms: ms }) = self.pop() else { break };
                rows.extend(more);
                *committed_ms = ms.max(*committed_ms);
            }
        }
        Some(complete)
    }

    fn resume(&self) -> Vec<i64> {
        let mut offsets = self.next.clone();
        for held in &self.held {
            offsets[held.partition] = offsets[held.partition].min(held.offset);
        }
        offsets
    }

    fn state(&self) -> Option<u64> {
        None
    }

    fn waits_for(&self, _: &dyn Fn(usize) -> String) -> Option<String> {
        None
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn ahead(&self) -> Vec<usize> {
        Vec::new()
    }
}

fn of_rows(rows: Vec<RowChange>) -> Complete {
    let committed_ms = rows.iter().filter_map(|row| row.committed_ms).max();
    Complete::Rows { rows, committed_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::datum::Datum;
    use crate::sources::formats::{Op, SchemaChange};

    fn put(id: i64) -> RowChange {
        let row = vec![Datum::Int(id)];
        RowChange { table: 0, op: Op::Put(row), commit: None, transaction: None, committed_ms: Some(id as u64) }
    }

    fn schema() -> SchemaChange {
        SchemaChange { commit: None, database: "shop".into(), table: "users".into(), sql: "ALTER TABLE users".into() }
    }

    #[test]
    fn what_was_taken_comes_out_in_order_and_statements_stand_between_rows() {
        let mut rows = Rows::new(vec![5, 0]);
        rows.take(0, 5, vec![Said::Row(put(1)), Said::Row(put(2))]).unwrap();
        rows.take(1, 3, vec![Said::Row(put(3)), Said::Schema(schema()), Said::Row(put(4))]).unwrap();
        rows.take(0, 9, vec![Said::Watermark(7)]).unwrap();
        assert_eq!(rows.resume(), [5, 3]);
        assert!(rows.bytes() > 0 && rows.ahead().is_empty());
        let together = Complete::Rows { rows: vec![put(1), put(2), put(3)], committed_ms: Some(3) };
        assert_eq!(rows.next(), Some(together));
        assert_eq!(rows.resume(), [10, 3], "the rest of a message is not given yet");
        assert_eq!(rows.next(), Some(Complete::Schema(vec![schema()])));
        assert_eq!(rows.next(), Some(Complete::Rows { rows: vec![put(4)], committed_ms: Some(4) }));
        assert_eq!((rows.next(), rows.resume(), rows.bytes()), (None, vec![10, 4], 0));
    }

    #[test]
    fn one_answer_is_not_without_a_bound() {
        let mut rows = Rows::new(vec![0]);
        for offset in 0..3000 {
            rows.take(0, offset, vec![Said::Row(put(offset))]).unwrap();
        }
        let mut sizes = Vec::new();
        while let Some(Complete::Rows { rows: given, .. }) = rows.next() {
            sizes.push(given.len());
        }
        assert_eq!(sizes, [1024, 1024, 952]);
    }
}
