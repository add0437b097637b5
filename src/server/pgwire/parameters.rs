//! Bound parameters, text or binary, as the text the engine reads.

use pgwire::api::Type;

use crate::row::temporal::{self, MICROS_A_SECOND};
use crate::row::types::SqlType;
use crate::server::pgwire::types::{self, Format};

/// A parameter that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParameterError {
    #[error("parameter ${number}: {bytes} bytes are no {pg_type} in binary form")]
    Malformed { number: usize, bytes: usize, pg_type: String },
    #[error("parameter ${number}: '{text}' is no {pg_type}")]
    Text { number: usize, text: String, pg_type: String },
    #[error("parameter ${number}: text is not UTF-8")]
    NotUtf8 { number: usize },
    #[error("parameter ${number}: type {pg_type} is not supported in binary form; send it as text")]
    Type { number: usize, pg_type: String },
}

/// The `number`-th value (from 1), sent as `pg_type`, as text of the type the statement expects.
pub fn text(
    number: usize,
    bytes: &[u8],
    format: Format,
    pg_type: &Type,
    expected: Option<&SqlType>,
) -> Result<String, ParameterError> {
    let text = match format {
        Format::Text => utf8(number, bytes)?,
        Format::Binary => binary(number, bytes, pg_type)?,
    };
    let wrong = || ParameterError::Text { number, text: text.clone(), pg_type: pg_type.name().to_string() };
    match format {
        Format::Text if *pg_type == Type::BOOL => bool_text(&text).map(str::to_string).ok_or_else(wrong),
        Format::Text if *pg_type == Type::BYTEA => match text.strip_prefix("\\x") {
            Some(hex) => utf8(number, &unhex(hex).ok_or_else(wrong)?),
            None => Ok(text),
        },
        _ if matches!(expected, Some(SqlType::Timestamp(_))) => utc(&text).ok_or_else(wrong),
        _ => Ok(text),
    }
}

fn utf8(number: usize, bytes: &[u8]) -> Result<String, ParameterError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ParameterError::NotUtf8 { number })
}

fn binary(number: usize, bytes: &[u8], pg_type: &Type) -> Result<String, ParameterError> {
    macro_rules! number {
        ($kind:ty) => {
            bytes.try_into().ok().map(<$kind>::from_be_bytes)
        };
    }
    let text = match *pg_type {
        Type::BOOL => bytes.first().map(|b| (*b != 0) as u8).map(|b| b.to_string()),
        Type::INT2 => number!(i16).map(|v| v.to_string()),
        Type::INT4 => number!(i32).map(|v| v.to_string()),
        Type::INT8 => number!(i64).map(|v| v.to_string()),
        Type::OID => number!(u32).map(|v| v.to_string()),
        Type::FLOAT4 => number!(f32).map(|v| v.to_string()),
        Type::FLOAT8 => number!(f64).map(|v| v.to_string()),
        Type::NUMERIC => types::numeric_text(bytes),
        Type::DATE => number!(i32).and_then(types::date_text),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => number!(i64).and_then(types::datetime_text),
        Type::INTERVAL => interval(bytes),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON | Type::BYTEA => {
            return utf8(number, bytes);
        }
        _ => return Err(ParameterError::Type { number, pg_type: pg_type.name().to_string() }),
    };
    let pg_type = || pg_type.name().to_string();
    text.ok_or_else(|| ParameterError::Malformed { number, bytes: bytes.len(), pg_type: pg_type() })
}

/// An interval of a time and days; months have no length.
fn interval(bytes: &[u8]) -> Option<String> {
    let micros = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
    let micros = micros.checked_add(days as i64 * temporal::MICROS_A_DAY)?;
    (months == 0 && micros.abs() <= temporal::TIME_MICROS_MAX).then(|| temporal::format_time(micros, 6))
}

fn bool_text(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "on" | "yes" | "1" => Some("1"),
        "f" | "false" | "off" | "no" | "0" => Some("0"),
        _ => None,
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<Vec<u8>>>()?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// An instant in UTC: `2024-05-06 07:08:09+02:30` as `2024-05-06 04:38:09.000000`.
fn utc(text: &str) -> Option<String> {
    let text = text.trim();
    let clock_at = text.find([' ', 'T']).unwrap_or(text.len());
    let zone_at = text[clock_at..].find(['+', '-', 'Z']).map(|at| clock_at + at);
    let Some(zone_at) = zone_at else { return Some(text.to_string()) };
    let local = temporal::parse_datetime(text[..zone_at].trim_end())?;
    let zone = &text[zone_at..];
    let offset_seconds = if zone == "Z" {
        0
    } else {
        let mut parts = zone[1..].splitn(2, ':').map(|part| part.parse::<u8>().ok());
        let hours = parts.next()?? as i64;
        let minutes = parts.next().unwrap_or(Some(0))? as i64;
        (hours * 3600 + minutes * 60) * if zone.starts_with('-') { -1 } else { 1 }
    };
    Some(temporal::format_datetime(local - offset_seconds * MICROS_A_SECOND, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(bytes: &[u8], format: Format, pg_type: Type, expected: SqlType) -> String {
        text(1, bytes, format, &pg_type, Some(&expected)).unwrap()
    }

    #[test]
    fn binary_values_become_text() {
        let bigint = SqlType::Int { bytes: 8, unsigned: false };
        assert_eq!(read(&(-7i64).to_be_bytes(), Format::Binary, Type::INT8, bigint.clone()), "-7");
        assert_eq!(read(&(-7i16).to_be_bytes(), Format::Binary, Type::INT2, bigint), "-7");
        assert_eq!(read(&1i32.to_be_bytes(), Format::Binary, Type::DATE, SqlType::Date), "2000-01-02");
        let decimal = SqlType::Decimal { precision: 10, scale: 4 };
        let minus_12345_678 = [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c];
        assert_eq!(read(&minus_12345_678, Format::Binary, Type::NUMERIC, decimal), "-12345.678");
    }

    #[test]
    fn malformed_values_are_refused_by_number() {
        let refused = text(3, &[1, 2, 3], Format::Binary, &Type::INT4, None).unwrap_err();
        assert_eq!(refused.to_string(), "parameter $3: 3 bytes are no int4 in binary form");
        let refused = text(1, &[0xff], Format::Text, &Type::TEXT, None).unwrap_err();
        assert_eq!(refused.to_string(), "parameter $1: text is not UTF-8");
        let refused = text(1, b"maybe", Format::Text, &Type::BOOL, None).unwrap_err();
        assert_eq!(refused.to_string(), "parameter $1: 'maybe' is no bool");
    }

    #[test]
    fn instants_are_shifted_to_utc() {
        let instant = |text: &str| read(text.as_bytes(), Format::Text, Type::TIMESTAMPTZ, SqlType::Timestamp(6));
        assert_eq!(instant("2024-05-06 07:08:09+02:30"), "2024-05-06 04:38:09.000000");
        assert_eq!(instant("2024-05-06T07:08:09.5Z"), "2024-05-06 07:08:09.500000");
        assert_eq!(instant("2024-12-31 23:30:00-01"), "2025-01-01 00:30:00.000000");
        assert_eq!(instant("2024-05-06 07:08:09"), "2024-05-06 07:08:09");
    }
}
