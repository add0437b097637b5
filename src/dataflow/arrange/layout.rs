//! Which columns are an arrangement's key and value, and how they become bytes.

use arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow::compute::{and, filter, is_not_null};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use crate::dataflow::arrange::lanes::Lanes;
use crate::dataflow::arrange::rows::Rows;
use crate::dataflow::arrange::sort::Raw;
use crate::dataflow::edge::Edge;
use crate::row::codec::RowCodec;

/// An edge above this many bytes is encoded in parts, so that offsets stay within 32 bits.
const ENCODE_BYTES_MAX: usize = 256 << 20;

/// How rows of one stream are arranged: by which columns, beside which other columns.
#[derive(Clone)]
pub struct Layout {
    key_columns: Vec<usize>,
    value_columns: Vec<usize>,
    key: RowCodec,
    value: RowCodec,
    /// Key, then value: the bytes of one are the bytes of the other two, one after the other.
    row: RowCodec,
    /// The length of every key, if their types have a fixed width.
    key_len: Option<u32>,
    drop_null_keys: bool,
}

impl Layout {
    /// Of a stream with columns of `types`, in any order and with repetitions.
    pub fn new(types: &[DataType], key_columns: Vec<usize>, value_columns: Vec<usize>) -> Layout {
        let codec = |columns: &[usize]| RowCodec::new(columns.iter().map(|c| types[*c].clone()));
        let (key, value) = (codec(&key_columns), codec(&value_columns));
        let row = RowCodec::new(key.types().iter().chain(value.types()).cloned());
        let key_len = key_len(&key);
        Layout { key_columns, value_columns, key, value, row, key_len, drop_null_keys: false }
    }

    /// Rows with a NULL in the key are left out: they never join.
    pub fn drop_null_keys(mut self) -> Layout {
        self.drop_null_keys = true;
        self
    }

    /// Decodes keys.
    pub fn key(&self) -> &RowCodec {
        &self.key
    }

    /// Decodes values.
    pub fn value(&self) -> &RowCodec {
        &self.value
    }

    /// The rows of an edge, encoded, each with its diff as `lanes` says; in parts that are bounded by bytes.
    pub(super) fn encode(&self, edge: Edge, lanes: Lanes, diffs: Vec<i64>) -> Vec<Raw> {
        let keep = self.rows_to_keep(&edge.rows);
        let column = |c: &usize| match &keep {
            None => edge.rows.column(*c).clone(),
            Some(keep) => filter(edge.rows.column(*c), keep).expect("a mask as long as the column"),
        };
        let columns: Vec<ArrayRef> = self.key_columns.iter().chain(&self.value_columns).map(column).collect();
        let (times, diffs) = match &keep {
            None => (edge.times, diffs),
            Some(keep) => (kept(&edge.times, 1, keep), kept(&diffs, lanes.words(), keep)),
        };
        let len = times.len();
        let bytes: usize = columns.iter().filter_map(|c| c.to_data().get_slice_memory_size().ok()).sum();
        if bytes <= ENCODE_BYTES_MAX || len < 2 {
            return vec![Raw { rows: self.encode_rows(&columns, len), times, diffs, lanes }];
        }
        let parts = bytes.div_ceil(ENCODE_BYTES_MAX).min(len);
        let part = |p: usize| {
            let (lo, hi) = (len * p / parts, len * (p + 1) / parts);
            let columns: Vec<ArrayRef> = columns.iter().map(|c| c.slice(lo, hi - lo)).collect();
            let diffs = diffs[lo * lanes.words()..hi * lanes.words()].to_vec();
            Raw { rows: self.encode_rows(&columns, hi - lo), times: times[lo..hi].to_vec(), diffs, lanes }
        };
        (0..parts).map(part).collect()
    }

    fn encode_rows(&self, columns: &[ArrayRef], len: usize) -> Rows {
        if columns.is_empty() {
            return Rows::from_parts(Vec::new(), vec![0; len], vec![0; len]);
        }
        let encode = |codec: &RowCodec, columns: &[ArrayRef]| {
            codec.encode(columns).expect("the stream has columns of the layout's types")
        };
        let key_lens: Vec<u32> = match self.key_len {
            Some(key_len) => vec![key_len; len],
            None => {
                let keys = encode(&self.key, &columns[..self.key_columns.len()]);
                (0..len).map(|i| keys.row_len(i) as u32).collect()
            }
        };
        let rows = encode(&self.row, columns).try_into_binary().expect("parts are far below 2 GiB");
        let (ends, bytes, _) = rows.into_parts();
        let bytes = bytes.into_vec().unwrap_or_else(|shared| shared.to_vec());
        Rows::from_parts(bytes, ends[1..].iter().map(|end| *end as u32).collect(), key_lens)
    }

    /// Which rows are arranged, unless all are.
    fn rows_to_keep(&self, rows: &RecordBatch) -> Option<BooleanArray> {
        if !self.drop_null_keys {
            return None;
        }
        let nullable = self.key_columns.iter().map(|c| rows.column(*c)).filter(|c| c.logical_null_count() > 0);
        let present = nullable.map(|c| is_not_null(c).expect("every type has a null test"));
        present.reduce(|a, b| and(&a, &b).expect("masks of one batch"))
    }
}

/// The groups of `words` numbers whose row is kept.
fn kept<T: Copy>(numbers: &[T], words: usize, keep: &BooleanArray) -> Vec<T> {
    let rows = numbers.chunks(words).enumerate().filter(|(i, _)| keep.value(*i));
    rows.flat_map(|(_, row)| row.iter().copied()).collect()
}

/// Types of a fixed width are as wide for NULL.
fn key_len(key: &RowCodec) -> Option<u32> {
    let fixed = |t: &DataType| t.is_primitive() || *t == DataType::Boolean;
    if !key.types().iter().all(fixed) {
        return None;
    }
    if key.types().is_empty() {
        return Some(0);
    }
    let columns: Vec<ArrayRef> = key.types().iter().map(|t| new_null_array(t, 1)).collect();
    Some(key.encode(&columns).expect("NULLs have an encoding").row_len(0) as u32)
}

/// The columns of values (or keys) that someone needs.
#[derive(Clone)]
pub struct Columns {
    codec: RowCodec,
    wanted: Vec<usize>,
}

impl Columns {
    pub fn new(codec: &RowCodec, wanted: Vec<usize>) -> Columns {
        Columns { codec: codec.clone(), wanted }
    }

    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The wanted columns of rows that the codec encoded.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        if self.wanted.is_empty() {
            return Vec::new();
        }
        let rows: Vec<&[u8]> = rows.into_iter().collect();
        self.codec.decode_columns(&rows, &self.wanted).expect("rows decode with the codec that encoded them")
    }
}
