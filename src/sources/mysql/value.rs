//! One value of a row image: from the bytes of the binlog to a [`Datum`].
//!
//! Written out here because the library's own reader of these values has a wrong negative TIME(1..2), a TIMESTAMP
//! that turns negative and panics on malformed decimals. What a column looks like on the wire is a [`Wire`], made once
//! from the table map; the bytes were checked against their checksum before, so an error is a reader that is wrong.

use arrow::datatypes::i256;
use mysql_common::constants::ColumnType;

use super::json;
use super::text::Charset;
use crate::row::datum::Datum;
use crate::row::temporal::{self, Date, MICROS_A_SECOND};
use crate::row::types::SqlType;

/// How a column's values lie in row images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Int {
        bytes: u8,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Year,
    Date,
    Time(u8),
    Datetime(u8),
    Timestamp(u8),
    Bit(u8),
    Enum {
        bytes: u8,
    },
    Set {
        bytes: u8,
    },
    /// CHAR and BINARY, padding cut off; the length prefix's bytes.
    Char {
        prefix: u8,
    },
    Varchar {
        prefix: u8,
    },
    Blob {
        prefix: u8,
    },
    Json {
        prefix: u8,
    },
    /// A type that is skipped, never followed.
    Opaque {
        prefix: u8,
    },
}

impl Wire {
    /// From a table map's type and metadata; `None`: a type we do not know how to step over.
    pub fn new(column_type: ColumnType, meta: &[u8]) -> Option<Wire> {
        use ColumnType::*;
        let at = |i: usize| meta.get(i).copied();
        Some(match column_type {
            MYSQL_TYPE_TINY => Wire::Int { bytes: 1 },
            MYSQL_TYPE_SHORT => Wire::Int { bytes: 2 },
            MYSQL_TYPE_INT24 => Wire::Int { bytes: 3 },
            MYSQL_TYPE_LONG => Wire::Int { bytes: 4 },
            MYSQL_TYPE_LONGLONG => Wire::Int { bytes: 8 },
            MYSQL_TYPE_FLOAT => Wire::Float,
            MYSQL_TYPE_DOUBLE => Wire::Double,
            MYSQL_TYPE_NEWDECIMAL => Wire::Decimal { precision: at(0)?, scale: at(1)? },
            MYSQL_TYPE_YEAR => Wire::Year,
            MYSQL_TYPE_DATE | MYSQL_TYPE_NEWDATE => Wire::Date,
            MYSQL_TYPE_TIME2 => Wire::Time(at(0)?),
            MYSQL_TYPE_DATETIME2 => Wire::Datetime(at(0)?),
            MYSQL_TYPE_TIMESTAMP2 => Wire::Timestamp(at(0)?),
            MYSQL_TYPE_BIT => Wire::Bit(at(1)?.checked_mul(8)?.checked_add(at(0)?)?),
            MYSQL_TYPE_ENUM => Wire::Enum { bytes: at(1)? },
            MYSQL_TYPE_SET => Wire::Set { bytes: at(1)? },
            MYSQL_TYPE_STRING => {
                // Two bits of a long CHAR's length hide, inverted, in the type byte.
                let (type_byte, low) = (at(0)? as u16, at(1)? as u16);
                let length = low | (((type_byte & 0x30) ^ 0x30) << 4);
                Wire::Char { prefix: if length > 255 { 2 } else { 1 } }
            }
            MYSQL_TYPE_VARCHAR | MYSQL_TYPE_VAR_STRING => {
                let length = u16::from_le_bytes([at(0)?, at(1)?]);
                Wire::Varchar { prefix: if length > 255 { 2 } else { 1 } }
            }
            MYSQL_TYPE_TINY_BLOB | MYSQL_TYPE_BLOB | MYSQL_TYPE_MEDIUM_BLOB | MYSQL_TYPE_LONG_BLOB => {
                Wire::Blob { prefix: at(0)? }
            }
            MYSQL_TYPE_JSON => Wire::Json { prefix: at(0)? },
            MYSQL_TYPE_GEOMETRY | MYSQL_TYPE_VECTOR => Wire::Opaque { prefix: at(0)? },
            _ => return None,
        })
    }

    /// True if values of this wire form are values of that type.
    pub fn carries(self, sql_type: &SqlType) -> bool {
        match (self, sql_type) {
            (Wire::Int { bytes }, SqlType::Int { bytes: b, .. }) => bytes == *b,
            (Wire::Decimal { precision, scale }, SqlType::Decimal { precision: p, scale: s }) => {
                (precision, scale) == (*p, *s)
            }
            (Wire::Time(d), SqlType::Time(digits))
            | (Wire::Datetime(d), SqlType::Datetime(digits))
            | (Wire::Timestamp(d), SqlType::Timestamp(digits)) => d == *digits,
            (Wire::Bit(n), SqlType::Bit(bits)) => n == *bits,
            (Wire::Blob { prefix }, SqlType::Text(bytes) | SqlType::Blob(bytes)) => prefix == *bytes,
            (Wire::Float, SqlType::Float)
            | (Wire::Double, SqlType::Double)
            | (Wire::Year, SqlType::Year)
            | (Wire::Date, SqlType::Date)
            | (Wire::Enum { .. }, SqlType::Enum(_))
            | (Wire::Set { .. }, SqlType::Set(_))
            | (Wire::Json { .. }, SqlType::Json)
            | (Wire::Char { .. }, SqlType::Char(_) | SqlType::Binary(_))
            | (Wire::Varchar { .. }, SqlType::Varchar(_) | SqlType::Varbinary(_)) => true,
            _ => false,
        }
    }

    /// Cuts the next value's bytes off the image; `None`: the image ends before.
    pub fn cut<'a>(self, image: &mut &'a [u8]) -> Option<&'a [u8]> {
        let fraction = |digits: u8| digits.div_ceil(2) as usize;
        let length = match self {
            Wire::Int { bytes } | Wire::Enum { bytes } | Wire::Set { bytes } => bytes as usize,
            Wire::Float => 4,
            Wire::Double => 8,
            Wire::Decimal { precision, scale } => decimal_bytes(precision, scale)?,
            Wire::Year => 1,
            Wire::Date => 3,
            Wire::Time(digits) => 3 + fraction(digits),
            Wire::Datetime(digits) => 5 + fraction(digits),
            Wire::Timestamp(digits) => 4 + fraction(digits),
            Wire::Bit(bits) => bits.div_ceil(8) as usize,
            Wire::Char { prefix }
            | Wire::Varchar { prefix }
            | Wire::Blob { prefix }
            | Wire::Json { prefix }
            | Wire::Opaque { prefix } => {
                let (head, rest) = image.split_at_checked(prefix as usize)?;
                *image = rest;
                little_endian(head)? as usize
            }
        };
        let (value, rest) = image.split_at_checked(length)?;
        *image = rest;
        Some(value)
    }

    /// The value of bytes that `cut` gave, as one of that type, which this form carries.
    pub fn datum(self, bytes: &[u8], sql_type: &SqlType, charset: Charset) -> Result<Datum, String> {
        let value = match (self, sql_type) {
            (Wire::Int { .. }, SqlType::Int { unsigned: true, .. }) => little_endian(bytes).map(Datum::UInt),
            (Wire::Int { bytes: n }, _) => little_endian(bytes).map(|v| {
                let unused = 64 - 8 * n as u32;
                Datum::Int(((v << unused) as i64) >> unused)
            }),
            (Wire::Float, _) => bytes.try_into().ok().map(|b| Datum::Float(f32::from_le_bytes(b))),
            (Wire::Double, _) => bytes.try_into().ok().map(|b| Datum::Double(f64::from_le_bytes(b))),
            (Wire::Decimal { precision, scale }, _) => decimal(bytes, precision, scale).map(Datum::Decimal),
            (Wire::Year, _) => little_endian(bytes).map(|v| Datum::Int(if v == 0 { 0 } else { 1900 + v as i64 })),
            (Wire::Date, _) => little_endian(bytes).map(date),
            (Wire::Time(digits), _) => big_endian(bytes).map(|v| time(v, digits)),
            (Wire::Datetime(digits), _) => datetime(bytes, digits),
            (Wire::Timestamp(digits), _) => timestamp(bytes, digits),
            (Wire::Bit(_), _) => big_endian(bytes).map(Datum::UInt),
            (Wire::Enum { .. }, SqlType::Enum(labels)) => little_endian(bytes).and_then(|i| enum_label(i, labels)),
            (Wire::Set { .. }, SqlType::Set(labels)) => little_endian(bytes).and_then(|bits| set_labels(bits, labels)),
            (Wire::Json { .. }, _) => return json::text(bytes).map(Datum::Text).map_err(|e| e.to_string()),
            (Wire::Char { .. }, SqlType::Binary(length)) => {
                // BINARY(n) is padded with zeros again; the binlog cuts them off.
                let mut padded = bytes.to_vec();
                padded.resize(*length as usize, 0);
                Some(Datum::Bytes(padded))
            }
            (_, SqlType::Varbinary(_) | SqlType::Blob(_)) => Some(Datum::Bytes(bytes.to_vec())),
            _ => charset.decode(bytes).map(Datum::Text),
        };
        value.ok_or_else(|| format!("bytes {} are no {sql_type}", hex(bytes)))
    }
}

fn little_endian(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().rev().fold(0, |v, b| v << 8 | *b as u64))
}

fn big_endian(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |v, b| v << 8 | *b as u64))
}

/// Nine digits lie in four bytes, fewer at either end in fewer.
const BYTES_OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn decimal_bytes(precision: u8, scale: u8) -> Option<usize> {
    let (whole, scale) = (precision.checked_sub(scale)? as usize, scale as usize);
    Some(whole / 9 * 4 + BYTES_OF_DIGITS[whole % 9] + scale / 9 * 4 + BYTES_OF_DIGITS[scale % 9])
}

/// The unscaled value of a packed decimal; `None`: its digits are none.
pub fn decimal(bytes: &[u8], precision: u8, scale: u8) -> Option<i256> {
    let (whole, scale) = (precision.checked_sub(scale)? as usize, scale as usize);
    let negative = bytes.first()? & 0x80 == 0;
    let digit_groups = [(whole % 9, 1), (9, whole / 9), (9, scale / 9), (scale % 9, 1)];
    let mut rest = bytes;
    // While they fit, 18 digits at a time in a plain integer: `i256` is slow.
    let (mut value, mut low, mut low_power) = (i256::ZERO, 0u64, 1u64);
    let mut first = true;
    for (digits, count) in digit_groups {
        for _ in 0..if digits == 0 { 0 } else { count } {
            let (group, after) = rest.split_at_checked(BYTES_OF_DIGITS[digits])?;
            rest = after;
            let mut number = 0u64;
            for byte in group {
                let byte = if std::mem::take(&mut first) { byte ^ 0x80 } else { *byte };
                number = number << 8 | (if negative { !byte } else { byte }) as u64;
            }
            let power = 10u64.pow(digits as u32);
            (number < power).then_some(())?;
            if low_power > 1_000_000_000 {
                value =
                    value.wrapping_mul(i256::from_i128(low_power as i128)).wrapping_add(i256::from_i128(low as i128));
                (low, low_power) = (0, 1);
            }
            (low, low_power) = (low * power + number, low_power * power);
        }
    }
    let value = value.wrapping_mul(i256::from_i128(low_power as i128)).wrapping_add(i256::from_i128(low as i128));
    rest.is_empty().then_some(if negative { value.wrapping_neg() } else { value })
}

fn date(packed: u64) -> Datum {
    let date = Date { year: (packed >> 9) as u16, month: (packed >> 5 & 15) as u8, day: (packed & 31) as u8 };
    Datum::Date(date.to_days())
}

/// Microseconds in one unit of a fraction stored for so many digits.
fn fraction_unit(digits: u8) -> i64 {
    match digits {
        0 => 0,
        1 | 2 => 10_000,
        3 | 4 => 100,
        _ => 1,
    }
}

fn time(packed: u64, digits: u8) -> Datum {
    let fraction_bits = 8 * digits.div_ceil(2) as u32;
    let signed = packed as i64 - (0x80_0000 << fraction_bits);
    Datum::Time(packed_time(signed, fraction_bits, fraction_unit(digits)))
}

/// Microseconds of a packed TIME: hours, minutes, seconds in 10, 6 and 6 bits, then the fraction, all under one sign.
pub fn packed_time(packed: i64, fraction_bits: u32, unit: i64) -> i64 {
    let magnitude = packed.abs();
    let (whole, fraction) = (magnitude >> fraction_bits, magnitude & ((1 << fraction_bits) - 1));
    let seconds = (whole >> 12 & 0x3ff) * 3600 + (whole >> 6 & 0x3f) * 60 + (whole & 0x3f);
    packed.signum() * (seconds * MICROS_A_SECOND + fraction * unit)
}

fn datetime(bytes: &[u8], digits: u8) -> Option<Datum> {
    let (whole, fraction) = bytes.split_at_checked(5)?;
    let packed = big_endian(whole)? as i64 - 0x80_0000_0000;
    Some(Datum::Datetime(packed_datetime(packed, big_endian(fraction)? as i64 * fraction_unit(digits))))
}

/// Microseconds of year × 13 + month, day, hour, minute, second in 17, 5, 5, 6 and 6 bits.
pub fn packed_datetime(packed: i64, micros: i64) -> i64 {
    let (day, clock) = (packed >> 17, packed & 0x1_ffff);
    let months = day >> 5;
    let date = Date { year: (months / 13) as u16, month: (months % 13) as u8, day: (day & 31) as u8 };
    let seconds = (clock >> 12) * 3600 + (clock >> 6 & 0x3f) * 60 + (clock & 0x3f);
    temporal::datetime_micros(date, seconds * MICROS_A_SECOND + micros)
}

fn timestamp(bytes: &[u8], digits: u8) -> Option<Datum> {
    let (whole, fraction) = bytes.split_at_checked(4)?;
    let seconds = big_endian(whole)? as i64;
    let micros = big_endian(fraction)? as i64 * fraction_unit(digits);
    // Second 0 is not 1970 but '0000-00-00 00:00:00'.
    Some(Datum::Timestamp(match seconds {
        0 => temporal::datetime_micros(Date { year: 0, month: 0, day: 0 }, 0),
        _ => seconds * MICROS_A_SECOND + micros,
    }))
}

/// Number 0 is the empty text of an invalid value.
fn enum_label(number: u64, labels: &[String]) -> Option<Datum> {
    match number {
        0 => Some(Datum::Text(String::new())),
        _ => labels.get(number as usize - 1).cloned().map(Datum::Text),
    }
}

fn set_labels(bits: u64, labels: &[String]) -> Option<Datum> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return None;
    }
    let set: Vec<&str> =
        labels.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, l)| l.as_str()).collect();
    Some(Datum::Text(set.join(",")))
}

fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(32).map(|b| format!("{b:02x}")).collect();
    if bytes.len() > 32 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_digits_are_an_error_not_a_panic() {
        assert_eq!(decimal(&[0xff, 0xff, 0xff, 0xff], 9, 0), None);
        assert_eq!(decimal(&[0x80, 0, 0], 9, 0), None);
        assert_eq!(decimal(&[], 9, 0), None);
        assert_eq!(decimal(&[0x80 | 1, 99], 4, 2), Some(i256::from_i128(199)));
        assert_eq!(decimal(&[!(0x80 | 1), !99], 4, 2), Some(i256::from_i128(-199)));
    }

    #[test]
    fn negative_times_keep_their_fraction() {
        // -12:34:56.78 as TIME(2), the value the library reads wrong.
        let packed = (0x80_0000i64 << 8) - (((12 << 12 | 34 << 6 | 56) << 8) | 78);
        assert_eq!(time(packed as u64, 2).text(&SqlType::Time(2)).as_deref(), Some("-12:34:56.78"));
    }

    #[test]
    fn a_set_bit_without_a_label_is_an_error() {
        let labels = vec!["a".to_string(), "b".to_string()];
        assert_eq!(set_labels(3, &labels), Some(Datum::Text("a,b".into())));
        assert_eq!(set_labels(4, &labels), None);
        assert_eq!(enum_label(3, &labels), None);
    }
}
