//! About how many bytes a change holds in memory.

use crate::row::datum::Datum;
use crate::sources::formats::{Op, RowChange};

/// For limits and throttling: values that lie outside their [`Datum`] are counted with it.
pub fn bytes_of(change: &RowChange) -> usize {
    let row = match &change.op {
        Op::Put(row) | Op::Insert(row) | Op::Update(row) | Op::Delete(row) => row.as_slice(),
        Op::Truncate => &[],
    };
    let outside = |datum: &Datum| match datum {
        Datum::Text(text) => text.len(),
        Datum::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let id = change.transaction.as_ref().map_or(0, |transaction| transaction.id.len());
    size_of::<RowChange>() + id + row.iter().map(|datum| size_of::<Datum>() + outside(datum)).sum::<usize>()
}
