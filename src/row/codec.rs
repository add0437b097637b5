//! Rows as bytes that compare with memcmp (arrow-row).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, Float32Array, Float64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// Encodes and decodes the columns of one list of types.
///
/// The order of the bytes is the order of the values, NULL first. Floats are made canonical before they are encoded:
/// -0.0 becomes 0.0 and every NaN one NaN, so equal values have equal bytes.
#[derive(Clone)]
pub struct RowCodec {
    types: Vec<DataType>,
    converter: Arc<RowConverter>,
}

impl RowCodec {
    pub fn new(types: impl IntoIterator<Item = DataType>) -> RowCodec {
        let types: Vec<DataType> = types.into_iter().collect();
        let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
        let converter = Arc::new(RowConverter::new(fields).expect("every SqlType has a row encoding"));
        RowCodec { types, converter }
    }

    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// One encoded row for each row of the columns; with no columns, `Rows` cannot tell how many: the caller knows.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Rows, ArrowError> {
        assert_eq!(columns.len(), self.types.len(), "columns of the codec's types");
        let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect();
        self.converter.convert_columns(&columns)
    }

    /// Some columns of rows that this codec encoded. Numbers and times behind others are read where they lie.
    pub fn decode_columns(&self, rows: &[&[u8]], wanted: &[usize]) -> Result<Vec<ArrayRef>, ArrowError> {
        let direct = |column: &usize| {
            let before = self.types[..*column].iter().map(encoded_width).sum::<Option<usize>>()?;
            decode_fixed(&self.types[*column], rows, before)
        };
        if let Some(columns) = wanted.iter().map(direct).collect() {
            return Ok(columns);
        }
        let columns = self.decode(rows.iter().copied())?;
        Ok(wanted.iter().map(|column| columns[*column].clone()).collect())
    }

    /// The columns of rows that this codec encoded.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.into_iter().map(|row| parser.parse(row)))
    }
}

/// Bytes of a value in its row: one that tells NULL, then the value; `None` if they differ from value to value.
fn encoded_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(2),
        _ => data_type.primitive_width().map(|width| 1 + width),
    }
}

/// A column of integers (or what Arrow keeps as such) at `offset` of each row; `None` for other types.
///
/// arrow-row writes them with the greatest byte first, the sign bit of signed ones flipped, and a NULL as zeros.
fn decode_fixed(data_type: &DataType, rows: &[&[u8]], offset: usize) -> Option<ArrayRef> {
    macro_rules! read {
        ($type:ty, $flip:expr) => {{
            type Native = <$type as ArrowPrimitiveType>::Native;
            const WIDTH: usize = size_of::<Native>();
            let value = |row: &&[u8]| {
                let bytes = row[offset + 1..].first_chunk::<WIDTH>().expect("an encoded value has its width");
                Native::from_be_bytes(*bytes) ^ $flip
            };
            let nulls = rows.iter().any(|row| row[offset] == 0);
            let nulls = nulls.then(|| NullBuffer::from_iter(rows.iter().map(|row| row[offset] != 0)));
            let values = rows.iter().map(value).collect::<Vec<Native>>();
            let column = PrimitiveArray::<$type>::new(values.into(), nulls);
            Arc::new(column.with_data_type(data_type.clone())) as ArrayRef
        }};
    }
    Some(match data_type {
        DataType::Int8 => read!(Int8Type, i8::MIN),
        DataType::Int16 => read!(Int16Type, i16::MIN),
        DataType::Int32 => read!(Int32Type, i32::MIN),
        DataType::Int64 => read!(Int64Type, i64::MIN),
        DataType::UInt8 => read!(UInt8Type, 0),
        DataType::UInt16 => read!(UInt16Type, 0),
        DataType::UInt32 => read!(UInt32Type, 0),
        DataType::UInt64 => read!(UInt64Type, 0),
        DataType::Date32 => read!(Date32Type, i32::MIN),
        DataType::Timestamp(TimeUnit::Microsecond, _) => read!(TimestampMicrosecondType, i64::MIN),
        DataType::Duration(TimeUnit::Microsecond) => read!(DurationMicrosecondType, i64::MIN),
        DataType::Decimal128(..) => read!(Decimal128Type, i128::MIN),
        _ => return None,
    })
}

fn canonical(column: &ArrayRef) -> ArrayRef {
    if let Some(floats) = column.as_any().downcast_ref::<Float64Array>() {
        let fix = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
        return Arc::new(unary::<_, _, arrow::datatypes::Float64Type>(floats, fix));
    }
    if let Some(floats) = column.as_any().downcast_ref::<Float32Array>() {
        let fix = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
        return Arc::new(unary::<_, _, arrow::datatypes::Float32Type>(floats, fix));
    }
    column.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::new_null_array;
    use arrow::compute::{cast, concat};

    /// Some columns at once are what all columns are, for every type and for NULL.
    #[test]
    fn some_columns_decode_like_all() {
        let types = [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            DataType::Duration(TimeUnit::Microsecond),
            DataType::Decimal128(20, 2),
            DataType::Decimal256(50, 0),
            DataType::Boolean,
            DataType::Float64,
            DataType::Int64,
            DataType::Utf8,
            DataType::Int64,
        ];
        let column = |data_type: &DataType| {
            let numbers = Arc::new(arrow::array::Int64Array::from(vec![0, 1, 2, 100])) as ArrayRef;
            let via = if *data_type == DataType::Date32 { cast(&numbers, &DataType::Int32) } else { Ok(numbers) };
            let values = cast(&via.expect("integers"), data_type).expect("a type of numbers");
            concat(&[&values, &new_null_array(data_type, 1)]).expect("one type")
        };
        let columns: Vec<ArrayRef> = types.iter().map(column).collect();
        let codec = RowCodec::new(types.iter().cloned());
        let rows = codec.encode(&columns).expect("columns of the codec");
        let rows: Vec<&[u8]> = (0..rows.num_rows()).map(|i| rows.row(i).data()).collect();
        for wanted in 0..types.len() {
            let decoded = codec.decode_columns(&rows, &[wanted]).expect("rows of the codec");
            assert_eq!(&decoded[0], &columns[wanted], "{}", types[wanted]);
        }
        assert_eq!(codec.decode_columns(&rows, &[16, 0]).expect("rows"), [columns[16].clone(), columns[0].clone()]);
    }
}
