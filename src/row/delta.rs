//! Rows with their diffs, as they travel between stages.

use arrow::record_batch::RecordBatch;

/// Changes of one relation: row `i` of `rows` is added `diffs[i]` times (negative: retracted).
///
/// Within one table's delta the order is the source's, so the last diff of a key decides what is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    pub rows: RecordBatch,
    pub diffs: Vec<i64>,
}

impl Delta {
    pub fn new(rows: RecordBatch, diffs: Vec<i64>) -> Delta {
        assert_eq!(rows.num_rows(), diffs.len(), "a delta has one diff a row");
        Delta { rows, diffs }
    }

    /// Every row of the batch once.
    pub fn inserts(rows: RecordBatch) -> Delta {
        let diffs = vec![1; rows.num_rows()];
        Delta { rows, diffs }
    }

    pub fn len(&self) -> usize {
        self.diffs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.diffs.is_empty()
    }

    /// Bytes in memory, for limits and throttling.
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size() + self.diffs.len() * 8
    }
}
