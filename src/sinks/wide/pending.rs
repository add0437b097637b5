//! Changes that wait for a target, folded: their size follows the view, not the time.

use std::collections::BTreeMap;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::dataflow::{Batch, ErrorRow};
use crate::row::Ts;
use crate::row::codec::RowCodec;
use crate::row::schema::Schema;

/// Batches whose times are all complete, as one: each row once, with what its diffs add up to, at the last time.
///
/// Rows that came and went are gone. A flush moves a table to a complete time at or after the last one, so that the
/// times in between are of no use to it.
pub fn fold(batches: Vec<Batch>, schema: &Schema) -> Option<Batch> {
    let (lower, upper) = (batches.first()?.lower, batches.last()?.upper);
    let at = Ts(upper.0 - 1);
    let codec = RowCodec::new(schema.columns.iter().map(|column| column.sql_type.arrow()));
    let mut rows = BTreeMap::<Vec<u8>, i64>::new();
    let mut errors = BTreeMap::<ErrorRow, i64>::new();
    let mut arrow = schema.arrow();
    for batch in batches {
        for (updates, _, diffs) in batch.updates {
            arrow = updates.schema();
            let encoded = codec.encode(updates.columns()).expect("a view's batches have its columns");
            for (row, diff) in encoded.iter().zip(diffs) {
                *rows.entry(row.data().to_vec()).or_default() += diff;
            }
        }
        for (error, _, diff) in batch.errors {
            *errors.entry(error).or_default() += diff;
        }
    }
    rows.retain(|_, diff| *diff != 0);
    let columns = codec.decode(rows.keys().map(Vec::as_slice)).expect("rows decode with the codec that encoded them");
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let folded = RecordBatch::try_new_with_options(arrow, columns, &options).expect("the view's columns");
    let diffs: Vec<i64> = rows.into_values().collect();
    let updates = if diffs.is_empty() { vec![] } else { vec![(folded, vec![at; diffs.len()], diffs)] };
    let errors = errors.into_iter().filter(|(_, diff)| *diff != 0).map(|(error, diff)| (error, at, diff)).collect();
    Some(Batch { lower, upper, updates, errors })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::row::schema::Column;
    use crate::row::types::BIGINT;

    #[test]
    fn what_came_and_went_is_gone() {
        let schema = Schema { columns: vec![Column::new("v", BIGINT, false)], key: None };
        let batch = |ts: u64, updates: &[(i64, i64)]| {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(updates.iter().map(|(v, _)| *v)));
            let rows = RecordBatch::try_new(schema.arrow(), vec![values]).unwrap();
            let diffs: Vec<i64> = updates.iter().map(|(_, diff)| *diff).collect();
            let updates = vec![(rows, vec![Ts(ts); diffs.len()], diffs)];
            Batch { lower: Ts(ts), upper: Ts(ts + 1), updates, errors: vec![] }
        };
        let waiting = vec![batch(5, &[(1, 1), (2, 1)]), batch(6, &[(1, -1), (3, 2)]), batch(7, &[(2, -1), (2, 1)])];
        let folded = fold(waiting, &schema).unwrap();
        assert_eq!((folded.lower, folded.upper), (Ts(5), Ts(8)));
        let (rows, times, diffs) = &folded.updates[0];
        assert_eq!(rows.column(0).as_ref(), &Int64Array::from(vec![2, 3]));
        assert_eq!((times.as_slice(), diffs.as_slice()), (&[Ts(7), Ts(7)][..], &[1, 2][..]));
        assert!(fold(vec![], &schema).is_none());
    }
}
