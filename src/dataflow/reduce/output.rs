//! Rows of groups on their way out: keys and values, until there are enough.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Decimal256Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    new_null_array,
};
use arrow::datatypes::{DataType, SchemaRef, i256};

use crate::dataflow::arrange::layout::{Columns, Layout};
use crate::dataflow::edge::Edge;
use crate::dataflow::reduce::{Fault, FaultKind};
use crate::row::codec::RowCodec;

/// Rows in one output container.
const OUTPUT_ROWS_MAX: usize = 8192;

/// The value of an aggregate.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// A count, or the digits of a decimal.
    Number(i256),
    Float(f64),
    /// A value of the input, encoded alone.
    Encoded(Vec<u8>),
}

/// What a group is at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Absent,
    Row(Vec<Value>),
    Fault(FaultKind),
}

/// Collects changes of groups.
pub struct Output {
    schema: SchemaRef,
    key: Columns,
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    /// One list an aggregate.
    values: Vec<Vec<Value>>,
    times: Vec<u64>,
    diffs: Vec<i64>,
    pub faults: Vec<Fault>,
}

impl Output {
    pub fn new(layout: &Layout, schema: SchemaRef) -> Output {
        let keys = layout.key().types().len();
        Output {
            key: Columns::new(layout.key(), (0..keys).collect()),
            values: vec![Vec::new(); schema.fields().len() - keys],
            schema,
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            times: Vec::new(),
            diffs: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The group goes from one state to another at `time`.
    pub fn change(&mut self, key: &[u8], time: u64, old: &State, new: &State) {
        if old != new {
            self.push(key, time, old, -1);
            self.push(key, time, new, 1);
        }
    }

    fn push(&mut self, key: &[u8], time: u64, state: &State, diff: i64) {
        match state {
            State::Absent => {}
            State::Fault(kind) => self.faults.push(Fault { kind: *kind, key: key.to_vec(), time, diff }),
            State::Row(values) => {
                self.key_bytes.extend_from_slice(key);
                self.key_ends.push(self.key_bytes.len());
                self.values.iter_mut().zip(values).for_each(|(list, value)| list.push(value.clone()));
                self.times.push(time);
                self.diffs.push(diff);
            }
        }
    }

    pub fn take_if_full(&mut self) -> Option<Edge> {
        if self.times.len() < OUTPUT_ROWS_MAX { None } else { self.take() }
    }

    pub fn take(&mut self) -> Option<Edge> {
        let len = self.times.len();
        if len == 0 {
            return None;
        }
        let mut start = 0;
        let keys = self.key_ends.iter().map(|end| &self.key_bytes[std::mem::replace(&mut start, *end)..*end]);
        let mut columns = self.key.decode(keys);
        let first = columns.len();
        for (i, values) in self.values.iter_mut().enumerate() {
            columns.push(column(self.schema.field(first + i).data_type(), std::mem::take(values)));
        }
        self.key_bytes.clear();
        self.key_ends.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        let (times, diffs) = (std::mem::take(&mut self.times), std::mem::take(&mut self.diffs));
        Some(Edge { rows: rows.expect("a reduction's schema is of its keys and aggregates"), times, diffs })
    }
}

/// Values as a column of a type they were checked against.
fn column(data_type: &DataType, values: Vec<Value>) -> ArrayRef {
    let number = |value: &Value| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    };
    let fits = "a value is checked against its column's type";
    match data_type {
        _ if values.iter().any(|v| matches!(v, Value::Encoded(_))) => decoded(data_type, &values),
        DataType::Int64 => {
            let numbers = values.iter().map(|v| number(v).map(|n| n.to_i128().expect(fits) as i64));
            Arc::new(numbers.collect::<Int64Array>())
        }
        DataType::Decimal128(precision, scale) => {
            let numbers = values.iter().map(|v| number(v).map(|n| n.to_i128().expect(fits)));
            let column = numbers.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale);
            Arc::new(column.expect("the schema's decimal type"))
        }
        DataType::Decimal256(precision, scale) => {
            let numbers = values.iter().map(number);
            let column = numbers.collect::<Decimal256Array>().with_precision_and_scale(*precision, *scale);
            Arc::new(column.expect("the schema's decimal type"))
        }
        DataType::Float64 => {
            let floats = values.iter().map(|value| match value {
                Value::Float(float) => Some(*float),
                _ => None,
            });
            Arc::new(floats.collect::<Float64Array>())
        }
        _ => decoded(data_type, &values),
    }
}

/// A column of values of the input.
fn decoded(data_type: &DataType, values: &[Value]) -> ArrayRef {
    let codec = RowCodec::new([data_type.clone()]);
    let null = codec.encode(&[new_null_array(data_type, 1)]).expect("NULL has an encoding");
    let null = null.row(0);
    let bytes = values.iter().map(|value| match value {
        Value::Encoded(bytes) => bytes.as_slice(),
        _ => null.data(),
    });
    let mut columns = codec.decode(bytes).expect("values decode with the codec of their type");
    columns.pop().expect("a codec of one column")
}
