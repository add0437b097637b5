//! One value outside a batch: made from a literal or a wire, read out of a column, printed.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Array,
    Date32Builder, Decimal128Array, Decimal128Builder, Decimal256Array, Decimal256Builder, DurationMicrosecondArray,
    DurationMicrosecondBuilder, Float32Array, Float32Builder, Float64Array, Float64Builder, Int8Array, Int8Builder,
    Int16Array, Int16Builder, Int32Array, Int32Builder, Int64Array, Int64Builder, NullBuilder, StringArray,
    StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder, UInt8Array, UInt8Builder, UInt16Array,
    UInt16Builder, UInt32Array, UInt32Builder, UInt64Array, UInt64Builder, make_array, make_builder,
};
use arrow::datatypes::i256;

use crate::row::types::SqlType;
use crate::row::{float, temporal};

/// A single value. Which variant a column holds follows from its `SqlType`.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    /// Signed integers and YEAR.
    Int(i64),
    /// Unsigned integers and BIT.
    UInt(u64),
    Float(f32),
    Double(f64),
    /// The unscaled value; the scale is the type's.
    Decimal(i256),
    /// CHAR, VARCHAR, TEXT, ENUM and SET labels, JSON.
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970-01-01 (`row::temporal` for odd dates).
    Date(i32),
    /// Microseconds.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00 on the wall clock.
    Datetime(i64),
    /// Microseconds since the Unix epoch.
    Timestamp(i64),
}

/// A value that does not fit its column.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("value {value} does not fit type {sql_type}")]
pub struct DatumError {
    pub value: String,
    pub sql_type: SqlType,
}

impl Datum {
    /// The value in row `i` of a column of this type.
    pub fn of(column: &dyn Array, sql_type: &SqlType, i: usize) -> Datum {
        if column.is_null(i) || matches!(sql_type, SqlType::Null) {
            return Datum::Null;
        }
        macro_rules! at {
            ($array:ty) => {
                column.as_any().downcast_ref::<$array>().expect("the column has its type's Arrow type").value(i)
            };
        }
        match sql_type {
            SqlType::Null => Datum::Null,
            SqlType::Bool => Datum::Bool(at!(BooleanArray)),
            SqlType::Int { bytes: 1, unsigned: false } => Datum::Int(at!(Int8Array) as i64),
            SqlType::Int { bytes: 2, unsigned: false } | SqlType::Year => Datum::Int(at!(Int16Array) as i64),
            SqlType::Int { bytes: 3 | 4, unsigned: false } => Datum::Int(at!(Int32Array) as i64),
            SqlType::Int { unsigned: false, .. } => Datum::Int(at!(Int64Array)),
            SqlType::Int { bytes: 1, unsigned: true } => Datum::UInt(at!(UInt8Array) as u64),
            SqlType::Int { bytes: 2, unsigned: true } => Datum::UInt(at!(UInt16Array) as u64),
            SqlType::Int { bytes: 3 | 4, unsigned: true } => Datum::UInt(at!(UInt32Array) as u64),
            SqlType::Int { unsigned: true, .. } | SqlType::Bit(_) => Datum::UInt(at!(UInt64Array)),
            SqlType::Float => Datum::Float(at!(Float32Array)),
            SqlType::Double => Datum::Double(at!(Float64Array)),
            SqlType::Decimal { precision, .. } if *precision <= super::types::DECIMAL128_PRECISION_MAX => {
                Datum::Decimal(i256::from_i128(at!(Decimal128Array)))
            }
            SqlType::Decimal { .. } => Datum::Decimal(at!(Decimal256Array)),
            t if t.is_text() => Datum::Text(at!(StringArray).to_string()),
            SqlType::Date => Datum::Date(at!(Date32Array)),
            SqlType::Time(_) => Datum::Time(at!(DurationMicrosecondArray)),
            SqlType::Datetime(_) => Datum::Datetime(at!(TimestampMicrosecondArray)),
            SqlType::Timestamp(_) => Datum::Timestamp(at!(TimestampMicrosecondArray)),
            _ => Datum::Bytes(at!(BinaryArray).to_vec()),
        }
    }

    /// The value as MySQL prints it; `None` for NULL. Bytes that are no UTF-8 print as `0x…`.
    pub fn text(&self, sql_type: &SqlType) -> Option<String> {
        let digits = match sql_type {
            SqlType::Time(d) | SqlType::Datetime(d) | SqlType::Timestamp(d) => *d,
            _ => 0,
        };
        Some(match self {
            Datum::Null => return None,
            Datum::Bool(b) => (*b as u8).to_string(),
            Datum::Int(v) if *sql_type == SqlType::Year => format!("{v:04}"),
            Datum::Int(v) => v.to_string(),
            Datum::UInt(v) => v.to_string(),
            Datum::Float(v) => float::format_float(*v),
            Datum::Double(v) => float::format_double(*v),
            Datum::Decimal(v) => format_decimal(*v, sql_type),
            Datum::Text(v) => v.clone(),
            Datum::Bytes(v) => match std::str::from_utf8(v) {
                Ok(text) => text.to_string(),
                Err(_) => format!("0x{}", v.iter().map(|b| format!("{b:02X}")).collect::<String>()),
            },
            Datum::Date(days) => temporal::format_date(*days),
            Datum::Time(micros) => temporal::format_time(*micros, digits),
            Datum::Datetime(micros) | Datum::Timestamp(micros) => temporal::format_datetime(*micros, digits),
        })
    }

    /// Reads a value of this type from text, as a wire or a literal gives it.
    pub fn parse(text: &str, sql_type: &SqlType) -> Result<Datum, DatumError> {
        let bad = || DatumError { value: format!("'{text}'"), sql_type: sql_type.clone() };
        let parsed = match sql_type {
            SqlType::Null => None,
            SqlType::Bool => match text.to_ascii_lowercase().as_str() {
                "t" | "true" | "1" => Some(Datum::Bool(true)),
                "f" | "false" | "0" => Some(Datum::Bool(false)),
                _ => None,
            },
            SqlType::Int { unsigned: false, .. } | SqlType::Year => text.parse().ok().map(Datum::Int),
            SqlType::Int { .. } | SqlType::Bit(_) => text.parse().ok().map(Datum::UInt),
            SqlType::Float => text.parse().ok().map(Datum::Float),
            SqlType::Double => text.parse().ok().map(Datum::Double),
            SqlType::Decimal { precision, scale } => parse_decimal(text, *precision, *scale).map(Datum::Decimal),
            SqlType::Date => temporal::parse_date(text).map(Datum::Date),
            SqlType::Time(_) => temporal::parse_time(text).map(Datum::Time),
            SqlType::Datetime(_) => temporal::parse_datetime(text).map(Datum::Datetime),
            SqlType::Timestamp(_) => temporal::parse_datetime(text).map(Datum::Timestamp),
            t if t.is_text() => Some(Datum::Text(text.to_string())),
            _ => Some(Datum::Bytes(text.as_bytes().to_vec())),
        };
        parsed.ok_or_else(bad)
    }
}

/// The digits of an unscaled decimal at its type's scale.
fn format_decimal(value: i256, sql_type: &SqlType) -> String {
    let SqlType::Decimal { scale, .. } = sql_type else { panic!("a decimal of type {sql_type}") };
    let (sign, digits) = match value.to_string().strip_prefix('-') {
        Some(rest) => ("-", rest.to_string()),
        None => ("", value.to_string()),
    };
    let scale = *scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The unscaled value, rounded half away from zero as MySQL rounds; `None` if it is no number or too large.
fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i256> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !(all_digits(whole) && all_digits(fraction)) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let scale = scale as usize;
    let kept = &fraction[..fraction.len().min(scale)];
    let mut value = i256::from_string(&format!("0{whole}{kept:0<scale$}"))?;
    if fraction.as_bytes().get(scale).is_some_and(|d| *d >= b'5') {
        value = value.checked_add(i256::ONE)?;
    }
    (value < i256::from_i128(10).checked_pow(precision as u32)?).then_some(())?;
    Some(if negative { -value } else { value })
}

/// Builds one column of a type out of single values.
pub struct ColumnBuilder {
    sql_type: SqlType,
    builder: Box<dyn ArrayBuilder>,
}

impl ColumnBuilder {
    pub fn new(sql_type: &SqlType, rows: usize) -> ColumnBuilder {
        ColumnBuilder { sql_type: sql_type.clone(), builder: make_builder(&sql_type.arrow(), rows) }
    }

    /// Appends a value; an integer out of the type's range, or a variant that is not the type's, is an error.
    pub fn push(&mut self, datum: &Datum) -> Result<(), DatumError> {
        let sql_type = &self.sql_type;
        let bad = || DatumError { value: format!("{datum:?}"), sql_type: sql_type.clone() };
        macro_rules! append {
            ($builder:ty, $value:expr) => {{
                let builder = self.builder.as_any_mut().downcast_mut::<$builder>().expect("the type's builder");
                match datum {
                    Datum::Null => builder.append_null(),
                    _ => builder.append_value($value),
                }
            }};
        }
        macro_rules! append_number {
            ($builder:ty) => {
                append!(
                    $builder,
                    match datum {
                        Datum::Int(v) => (*v).try_into().map_err(|_| bad())?,
                        Datum::UInt(v) => (*v).try_into().map_err(|_| bad())?,
                        Datum::Bool(v) => (*v as u8).try_into().map_err(|_| bad())?,
                        _ => return Err(bad()),
                    }
                )
            };
        }
        macro_rules! append_if {
            ($builder:ty, $variant:pat => $value:expr) => {
                append!(
                    $builder,
                    match datum {
                        $variant => $value,
                        _ => return Err(bad()),
                    }
                )
            };
        }
        match sql_type {
            SqlType::Null if *datum == Datum::Null => {
                self.builder.as_any_mut().downcast_mut::<NullBuilder>().expect("the type's builder").append_null()
            }
            SqlType::Null => return Err(bad()),
            SqlType::Bool => append_if!(BooleanBuilder, Datum::Bool(v) => *v),
            SqlType::Int { bytes: 1, unsigned: false } => append_number!(Int8Builder),
            SqlType::Int { bytes: 2, unsigned: false } | SqlType::Year => append_number!(Int16Builder),
            SqlType::Int { bytes: 3 | 4, unsigned: false } => append_number!(Int32Builder),
            SqlType::Int { unsigned: false, .. } => append_number!(Int64Builder),
            SqlType::Int { bytes: 1, unsigned: true } => append_number!(UInt8Builder),
            SqlType::Int { bytes: 2, unsigned: true } => append_number!(UInt16Builder),
            SqlType::Int { bytes: 3 | 4, unsigned: true } => append_number!(UInt32Builder),
            SqlType::Int { unsigned: true, .. } | SqlType::Bit(_) => append_number!(UInt64Builder),
            SqlType::Float => append_if!(Float32Builder, Datum::Float(v) => *v),
            SqlType::Double => append_if!(Float64Builder, Datum::Double(v) => *v),
            SqlType::Decimal { precision, .. } if *precision <= super::types::DECIMAL128_PRECISION_MAX => {
                append_if!(Decimal128Builder, Datum::Decimal(v) => v.to_i128().ok_or_else(bad)?)
            }
            SqlType::Decimal { .. } => append_if!(Decimal256Builder, Datum::Decimal(v) => *v),
            t if t.is_text() => append_if!(StringBuilder, Datum::Text(v) => v),
            SqlType::Date => append_if!(Date32Builder, Datum::Date(v) => *v),
            SqlType::Time(_) => append_if!(DurationMicrosecondBuilder, Datum::Time(v) => *v),
            SqlType::Datetime(_) => append_if!(TimestampMicrosecondBuilder, Datum::Datetime(v) => *v),
            SqlType::Timestamp(_) => append_if!(TimestampMicrosecondBuilder, Datum::Timestamp(v) => *v),
            _ => append_if!(BinaryBuilder, Datum::Bytes(v) => v),
        }
        Ok(())
    }

    pub fn finish(&mut self) -> ArrayRef {
        // Builders made from a type lose a timestamp's zone and a decimal's precision only if rebuilt: cast back.
        let array = self.builder.finish();
        if array.data_type() == &self.sql_type.arrow() {
            return array;
        }
        let data = array.to_data().into_builder().data_type(self.sql_type.arrow());
        make_array(data.build().expect("the same layout under the declared type"))
    }
}

/// Shared by tests and literals: a one-row column.
pub fn single(datum: &Datum, sql_type: &SqlType) -> Result<ArrayRef, DatumError> {
    let mut builder = ColumnBuilder::new(sql_type, 1);
    builder.push(datum)?;
    Ok(Arc::clone(&builder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(text: &str, sql_type: SqlType) {
        let datum = Datum::parse(text, &sql_type).unwrap();
        let array = single(&datum, &sql_type).unwrap();
        assert_eq!(array.data_type(), &sql_type.arrow());
        assert_eq!(Datum::of(&array, &sql_type, 0).text(&sql_type).unwrap(), text);
    }

    #[test]
    fn every_type_keeps_its_edge_values() {
        round_trip("18446744073709551615", SqlType::Int { bytes: 8, unsigned: true });
        round_trip("-128", SqlType::Int { bytes: 1, unsigned: false });
        let nines = "9".repeat(35);
        let decimal = SqlType::Decimal { precision: 65, scale: 30 };
        round_trip(&format!("-{nines}.{}", "9".repeat(30)), decimal);
        round_trip("-0.05", SqlType::Decimal { precision: 10, scale: 2 });
        round_trip("0000-00-00 00:00:00.000000", SqlType::Datetime(6));
        round_trip("2038-01-19 03:14:07.999", SqlType::Timestamp(3));
        round_trip("-838:59:59", SqlType::Time(0));
        round_trip("1901", SqlType::Year);
        round_trip("12", SqlType::Bit(5));
        round_trip("b", SqlType::Enum(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_value_out_of_range_is_an_error() {
        assert!(single(&Datum::Int(128), &SqlType::Int { bytes: 1, unsigned: false }).is_err());
        assert!(single(&Datum::Int(-1), &SqlType::Int { bytes: 8, unsigned: true }).is_err());
        assert!(Datum::parse("1000", &SqlType::Decimal { precision: 3, scale: 0 }).is_err());
        assert_eq!(
            Datum::parse("1.005", &SqlType::Decimal { precision: 5, scale: 2 }),
            Ok(Datum::Decimal(i256::from_i128(101)))
        );
    }
}
