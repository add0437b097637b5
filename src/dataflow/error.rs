//! Errors as data: what went wrong with which row, arranged and retracted like any other row.
//!
//! An error travels in an `Edge` of three columns (code, expression, row). It is a pure function of one input row, so
//! the retraction of that row makes the same error with the opposite diff and the two cancel.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder, UInt8Array, UInt8Builder};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;

use crate::dataflow::edge::Edge;
use crate::plan::functions::Fault;
use crate::plan::functions::bound::fault_of;
use crate::row::datum::Datum;
use crate::row::schema::Schema;

/// The longest text of one value in an error row; the rest is cut, so a long value cannot make a long error.
const VALUE_TEXT_BYTES_MAX: usize = 64;

/// What kind of error a row met. The numbers are arranged: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ErrorCode {
    Overflow = 1,
    InvalidCast = 2,
    /// Two rows of a view have one declared key.
    KeyViolation = 3,
    /// More rows were retracted than were there: the input broke its contract.
    NegativeCount = 4,
    /// A scalar subquery gave more than one row.
    TooManyRows = 5,
    Other = 6,
}

impl ErrorCode {
    const ALL: [ErrorCode; 6] = [
        ErrorCode::Overflow,
        ErrorCode::InvalidCast,
        ErrorCode::KeyViolation,
        ErrorCode::NegativeCount,
        ErrorCode::TooManyRows,
        ErrorCode::Other,
    ];

    /// From the error's kind only: its text may differ between two evaluations of one row.
    pub fn of(error: &DataFusionError) -> ErrorCode {
        if let Some(fault) = fault_of(error) {
            return match fault {
                Fault::OutOfRange(_) => ErrorCode::Overflow,
                Fault::DoesNotFit { .. } => ErrorCode::InvalidCast,
            };
        }
        let DataFusionError::ArrowError(error, _) = error.find_root() else { return ErrorCode::Other };
        match error.as_ref() {
            // Arrow reports a decimal beyond its precision as an invalid argument.
            ArrowError::ArithmeticOverflow(_) | ArrowError::InvalidArgumentError(_) => ErrorCode::Overflow,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => ErrorCode::InvalidCast,
            _ => ErrorCode::Other,
        }
    }
}

/// One error of a view, as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorRow {
    pub code: ErrorCode,
    /// The expression or operator that failed, as EXPLAIN names it.
    pub expression: String,
    /// The input row's values, long ones cut.
    pub row: String,
}

impl std::fmt::Display for ErrorRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ErrorRow { code, expression, row } = self;
        match code {
            ErrorCode::Overflow => write!(f, "{expression} is out of range for row {row}"),
            ErrorCode::InvalidCast => write!(f, "{expression} cannot convert a value of row {row}"),
            ErrorCode::KeyViolation => write!(f, "{expression}: more than one row has key {row}"),
            ErrorCode::NegativeCount => write!(f, "{expression}: more rows retracted than inserted for {row}"),
            ErrorCode::TooManyRows => write!(f, "{expression}: subquery gives more than one row, at {row}"),
            ErrorCode::Other => write!(f, "{expression} fails for row {row}"),
        }
    }
}

impl std::error::Error for ErrorRow {}

/// The columns of an error edge: code, expression, row.
pub fn error_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(ArrowSchema::new(vec![
            Field::new("code", DataType::UInt8, false),
            Field::new("expression", DataType::Utf8, false),
            Field::new("row", DataType::Utf8, false),
        ]))
    });
    SCHEMA.clone()
}

/// The errors in the columns of an error edge.
pub fn error_rows(columns: &[ArrayRef]) -> Vec<ErrorRow> {
    let text = |i: usize| columns[i].as_any().downcast_ref::<StringArray>().expect("an error edge's text column");
    let codes = columns[0].as_any().downcast_ref::<UInt8Array>().expect("an error edge's code column");
    let (expressions, rows) = (text(1), text(2));
    let row = |i: usize| ErrorRow {
        code: ErrorCode::ALL[codes.value(i) as usize - 1],
        expression: expressions.value(i).to_string(),
        row: rows.value(i).to_string(),
    };
    (0..codes.len()).map(row).collect()
}

/// The values of row `i`, for an error.
pub fn row_text(columns: &[ArrayRef], schema: &Schema, i: usize) -> String {
    let value = |(column, array): (&crate::row::schema::Column, &ArrayRef)| {
        let mut text = Datum::of(array, &column.sql_type, i).text(&column.sql_type)?;
        if text.len() > VALUE_TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(VALUE_TEXT_BYTES_MAX));
            text.push('…');
        }
        Some(text)
    };
    let values = schema.columns.iter().zip(columns).map(|pair| value(pair).unwrap_or_else(|| "NULL".to_string()));
    format!("({})", values.collect::<Vec<_>>().join(", "))
}

/// Collects errors with their times and diffs into an error edge.
#[derive(Default)]
pub struct ErrorBuilder {
    codes: UInt8Builder,
    expressions: StringBuilder,
    rows: StringBuilder,
    times: Vec<u64>,
    diffs: Vec<i64>,
}

impl ErrorBuilder {
    pub fn push(&mut self, code: ErrorCode, expression: &str, row: &str, time: u64, diff: i64) {
        self.codes.append_value(code as u8);
        self.expressions.append_value(expression);
        self.rows.append_value(row);
        self.times.push(time);
        self.diffs.push(diff);
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub fn finish(&mut self) -> Edge {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.codes.finish()), Arc::new(self.expressions.finish()), Arc::new(self.rows.finish())];
        Edge {
            rows: RecordBatch::try_new(error_schema(), columns).expect("three columns of one length"),
            times: std::mem::take(&mut self.times),
            diffs: std::mem::take(&mut self.diffs),
        }
    }
}
