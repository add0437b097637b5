//! What flows between operators: Arrow rows with a column of times and one of diffs.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use std::sync::Arc;

/// A container of updates; `times[i]` and `diffs[i]` belong to row `i`.
#[derive(Clone, Debug)]
pub struct Edge {
    pub rows: RecordBatch,
    pub times: Vec<u64>,
    pub diffs: Vec<i64>,
}

impl Default for Edge {
    fn default() -> Edge {
        Edge { rows: RecordBatch::new_empty(Arc::new(Schema::empty())), times: vec![], diffs: vec![] }
    }
}

impl timely::Accountable for Edge {
    fn record_count(&self) -> i64 {
        self.times.len() as i64
    }
}
