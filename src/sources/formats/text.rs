//! Values that feeds write as text, as values of their columns' types.
//!
//! A value that is none of its column's type is refused, never rounded or cut to fit: the table changed upstream, or
//! the message is wrong. What a busy feed is made of (numbers, dates in their usual form) is read here without an
//! allocation; odd forms go to the slower readers of `row`.

use arrow::datatypes::i256;

use crate::row::datum::Datum;
use crate::row::temporal::{self, Date, MICROS_A_DAY, MICROS_A_SECOND, TIME_MICROS_MAX};
use crate::row::types::SqlType;

/// No number, date or time of MySQL's is longer.
const SCALAR_BYTES_MAX: usize = 512;
/// So many decimal digits fit 64 bits.
const DIGITS_MAX: usize = 19;

/// The value of a column of this type; `None`: it is none. A TIMESTAMP is on a clock so many seconds east of UTC, ENUM
/// and SET are numbers or labels, and a binary type's bytes are characters up to U+00FF.
pub fn datum(text: &str, sql_type: &SqlType, zone_seconds: i32) -> Option<Datum> {
    match sql_type {
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) | SqlType::Json => {
            return Some(Datum::Text(text.to_string()));
        }
        SqlType::Enum(labels) => return enumerated(text, labels),
        SqlType::Set(labels) => return set(text, labels),
        SqlType::Binary(length) => {
            // BINARY(n) is as long as it is declared; binlogs cut the zeros at its end off.
            let mut bytes = latin1(text)?;
            bytes.resize(bytes.len().max(*length as usize), 0);
            return Some(Datum::Bytes(bytes));
        }
        SqlType::Varbinary(_) | SqlType::Blob(_) => return latin1(text).map(Datum::Bytes),
        _ => {}
    }
    if text.len() > SCALAR_BYTES_MAX {
        return None;
    }
    match sql_type {
        SqlType::Int { bytes, unsigned: false } => text.parse().ok().filter(|v| fits(*v, *bytes)).map(Datum::Int),
        SqlType::Int { bytes, .. } => unsigned(text, 8 * *bytes as u32).map(Datum::UInt),
        SqlType::Bit(bits) => unsigned(text, *bits as u32).map(Datum::UInt),
        SqlType::Year => text.parse().ok().filter(|v| matches!(v, 0 | 1901..=2155)).map(Datum::Int),
        SqlType::Float => text.parse().ok().filter(|v: &f32| v.is_finite()).map(Datum::Float),
        SqlType::Double => text.parse().ok().filter(|v: &f64| v.is_finite()).map(Datum::Double),
        SqlType::Decimal { precision, scale } => decimal(text, *precision, *scale).map(Datum::Decimal),
        SqlType::Date => date(text.as_bytes()).or_else(|| temporal::parse_date(text)).map(Datum::Date),
        SqlType::Time(_) => time(text).map(Datum::Time),
        SqlType::Datetime(_) => datetime(text).map(Datum::Datetime),
        SqlType::Timestamp(_) => to_utc(datetime(text)?, zone_seconds).map(Datum::Timestamp),
        _ => Datum::parse(text, sql_type).ok(),
    }
}

/// At most this much of a value is shown in a fault.
pub fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("'{}…' ({} bytes)", &text[..end], text.len()),
        None => format!("'{text}'"),
    }
}

/// The bytes that characters up to U+00FF stand for; `None`: there are others.
pub fn latin1(text: &str) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return Some(text.as_bytes().to_vec());
    }
    text.chars().map(|c| u8::try_from(c as u32).ok()).collect()
}

fn fits(value: i64, bytes: u8) -> bool {
    let unused = 64u32.saturating_sub(8 * bytes as u32);
    (value << unused) >> unused == value
}

fn unsigned(text: &str, bits: u32) -> Option<u64> {
    text.parse().ok().filter(|v: &u64| v.leading_zeros() + bits >= u64::BITS)
}

/// The unscaled value; `None` also for a number with more digits than the type keeps.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<i256> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mut value, mut places, mut point) = (0u64, 0u32, false);
    let short = digits.len() <= DIGITS_MAX && scale as usize + digits.len() <= 2 * DIGITS_MAX;
    for byte in digits.bytes() {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                places += point as u32;
                if short {
                    value = value * 10 + (byte - b'0') as u64;
                } else if places > scale as u32 && byte != b'0' {
                    return None;
                }
            }
            _ => return None,
        }
    }
    if !short || places > scale as u32 {
        // Only zeros may follow the last place that is kept; then rounding changes nothing.
        let lost = digits.split_once('.').and_then(|(_, fraction)| fraction.get(scale as usize..)).unwrap_or("");
        let parsed =
            lost.bytes().all(|b| b == b'0').then(|| Datum::parse(text, &SqlType::Decimal { precision, scale }));
        return match parsed?.ok()? {
            Datum::Decimal(value) => Some(value),
            _ => None,
        };
    }
    (digits.len() > point as usize).then_some(())?;
    let value = value as i128 * 10i128.pow(scale as u32 - places);
    (precision > 38 || value < 10i128.pow(precision as u32)).then_some(())?;
    Some(i256::from_i128(if negative { -value } else { value }))
}

/// Digits that stand at a place.
fn digits<const N: usize>(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + N)?;
    digits.iter().try_fold(0, |value, b| b.is_ascii_digit().then(|| value * 10 + (b - b'0') as u32))
}

/// `YYYY-MM-DD`, every digit written.
fn date(text: &[u8]) -> Option<i32> {
    (text.len() == 10 && text[4] == b'-' && text[7] == b'-').then_some(())?;
    let (year, month, day) = (digits::<4>(text, 0)?, digits::<2>(text, 5)?, digits::<2>(text, 8)?);
    let date = Date { year: year as u16, month: month as u8, day: day as u8 };
    (month <= 12 && day <= 31).then(|| date.to_days())
}

fn datetime(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let usual = || {
        let (day, rest) = bytes.split_at_checked(10)?;
        let clock = rest.strip_prefix(b" ")?;
        let micros = clock_micros(clock, digits::<2>(clock, 0).filter(|hours| *hours < 24)?, 2)?;
        Some(date(day)? as i64 * MICROS_A_DAY + micros)
    };
    usual().or_else(|| temporal::parse_datetime(text))
}

fn time(text: &str) -> Option<i64> {
    let usual = || {
        let (sign, clock) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let clock = clock.as_bytes();
        let (hours, length) = match digits::<3>(clock, 0) {
            Some(hours) => (hours, 3),
            None => (digits::<2>(clock, 0)?, 2),
        };
        clock_micros(clock, hours, length).filter(|micros| *micros <= TIME_MICROS_MAX).map(|micros| sign * micros)
    };
    usual().or_else(|| temporal::parse_time(text))
}

/// Hours that were read, and `:MM:SS[.f{1,6}]` from a place on.
fn clock_micros(clock: &[u8], hours: u32, at: usize) -> Option<i64> {
    let (minutes, seconds) = (digits::<2>(clock, at + 1)?, digits::<2>(clock, at + 4)?);
    (clock[at] == b':' && clock[at + 3] == b':' && minutes < 60 && seconds < 60).then_some(())?;
    let micros = match &clock[at + 6..] {
        [] => 0,
        [b'.', fraction @ ..] if (1..=6).contains(&fraction.len()) => {
            let read = fraction.iter().try_fold(0, |v, b| b.is_ascii_digit().then(|| v * 10 + (b - b'0') as i64))?;
            read * 10i64.pow(6 - fraction.len() as u32)
        }
        _ => return None,
    };
    Some(((hours * 60 + minutes) * 60 + seconds) as i64 * MICROS_A_SECOND + micros)
}

/// Moves a reading of a clock so many seconds east of UTC to UTC; the zero date is no reading and stays what it is.
pub fn to_utc(wall: i64, zone_seconds: i32) -> Option<i64> {
    let days = i32::try_from(wall.div_euclid(MICROS_A_DAY)).ok()?;
    match Date::is_odd(days) {
        true => (wall == temporal::datetime_micros(Date { year: 0, month: 0, day: 0 }, 0)).then_some(wall),
        false => Some(wall - zone_seconds as i64 * MICROS_A_SECOND),
    }
}

/// Seconds east of UTC of a zone that needs no table of zones: `UTC`, `Z`, `±HH:MM`, `±HHMM` and `±HH`.
pub fn utc_offset(zone: &str) -> Option<i32> {
    const HOURS_MAX: u8 = 15;
    if matches!(zone, "UTC" | "Etc/UTC" | "Z") {
        return Some(0);
    }
    let (sign, clock) = match zone.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = match (clock.split_once(':'), clock.len()) {
        (Some(parts), _) => parts,
        (None, 2) => (clock, "0"),
        (None, 4) => clock.split_at_checked(2)?,
        _ => return None,
    };
    clock.bytes().all(|b| b.is_ascii_digit() || b == b':').then_some(())?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= HOURS_MAX && minutes < 60).then_some(sign * (hours as i32 * 3600 + minutes as i32 * 60))
}

/// Number 0 is the empty text of an invalid value; `None`: no label has this number.
pub fn enum_label(number: u64, labels: &[String]) -> Option<Datum> {
    match number.checked_sub(1) {
        None => Some(Datum::Text(String::new())),
        Some(at) => labels.get(usize::try_from(at).ok()?).cloned().map(Datum::Text),
    }
}

/// `None`: a bit has no label.
pub fn set_labels(bits: u64, labels: &[String]) -> Option<Datum> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return None;
    }
    let chosen = labels.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    Some(Datum::Text(chosen.map(|(_, label)| label.as_str()).collect::<Vec<_>>().join(",")))
}

/// A label that looks like a number is read as one: no feed that we know writes labels.
fn enumerated(text: &str, labels: &[String]) -> Option<Datum> {
    match text.parse::<u64>() {
        Ok(number) => enum_label(number, labels),
        Err(_) => (text.is_empty() || labels.iter().any(|label| label == text)).then(|| Datum::Text(text.to_string())),
    }
}

fn set(text: &str, labels: &[String]) -> Option<Datum> {
    let Ok(bits) = text.parse::<u64>() else {
        let known = text.is_empty() || text.split(',').all(|part| labels.iter().any(|label| label == part));
        return known.then(|| Datum::Text(text.to_string()));
    };
    set_labels(bits, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, sql_type: SqlType) -> Option<String> {
        datum(text, &sql_type, 0)?.text(&sql_type)
    }

    /// Both ways to read a value agree, and it prints as it was written.
    #[track_caller]
    fn same(text: &str, sql_type: SqlType) {
        assert_eq!(datum(text, &sql_type, 0), Datum::parse(text, &sql_type).ok(), "{text}");
        assert_eq!(read(text, sql_type).as_deref(), Some(text));
    }

    #[test]
    fn quick_readers_agree_with_the_slow_ones() {
        let decimal = |precision, scale| SqlType::Decimal { precision, scale };
        for text in ["0.00", "-0.05", "12345678.90", "-99999999.99", "99999999999999999.99", "-12345678901234567890.12"]
        {
            same(text, decimal(30, 2));
        }
        same(&"9".repeat(65), decimal(65, 0));
        same("0.000000000000000000000000000001", decimal(65, 30));
        same("7.000000000000000000000000000000", decimal(31, 30));
        for text in ["1970-01-01", "0000-00-00", "2020-02-30", "9999-12-31", "0001-01-01", "2020-00-10"] {
            same(text, SqlType::Date);
            same(&format!("{text} 23:59:59.000001"), SqlType::Datetime(6));
            same(&format!("{text} 00:00:00"), SqlType::Datetime(0));
        }
        for text in ["838:59:59", "-838:59:59", "00:00:00", "-00:00:01", "100:00:00", "23:59:59"] {
            same(text, SqlType::Time(0));
        }
        same("-00:00:00.500", SqlType::Time(3));
    }

    #[test]
    fn a_value_is_never_made_to_fit() {
        let int = |bytes, unsigned| SqlType::Int { bytes, unsigned };
        let decimal = |precision, scale| SqlType::Decimal { precision, scale };
        for (text, sql_type) in [
            ("128", int(1, false)),
            ("-8388609", int(3, false)),
            ("16777216", int(3, true)),
            ("-1", int(8, true)),
            ("18446744073709551616", int(8, true)),
            ("", int(4, false)),
            ("1.0", int(4, false)),
            ("32", SqlType::Bit(5)),
            ("1900", SqlType::Year),
            ("1.005", decimal(5, 2)),
            ("1000", decimal(5, 2)),
            ("", decimal(5, 2)),
            (".", decimal(5, 2)),
            ("1.2.3", decimal(5, 2)),
            ("--1", decimal(5, 2)),
            ("1e3", decimal(5, 2)),
            ("NaN", SqlType::Double),
            ("1e39", SqlType::Float),
            ("2024-13-01", SqlType::Date),
            ("2024-01-01 24:00:00", SqlType::Datetime(0)),
            ("2024-01-01 23:60:00", SqlType::Datetime(0)),
            ("2024-01-01 23:00:00.1234567", SqlType::Datetime(6)),
            ("839:00:00", SqlType::Time(0)),
            ("999999999999999999:00:00", SqlType::Time(0)),
            ("0a:00:00", SqlType::Time(0)),
            ("ā", SqlType::Blob(2)),
            ("c", SqlType::Enum(vec!["a".into(), "b".into()])),
            ("3", SqlType::Enum(vec!["a".into(), "b".into()])),
            ("4", SqlType::Set(vec!["a".into(), "b".into()])),
            ("a,c", SqlType::Set(vec!["a".into(), "b".into()])),
        ] {
            assert_eq!(datum(text, &sql_type, 0), None, "{text} as {sql_type}");
        }
        assert_eq!(datum(&"9".repeat(1 << 20), &decimal(65, 0), 0), None);
        assert_eq!(read("1.0000", decimal(5, 2)).as_deref(), Some("1.00"));
        assert_eq!(read("00042", int(4, true)).as_deref(), Some("42"));
    }

    #[test]
    fn timestamps_move_to_utc_and_the_zero_date_does_not() {
        let sql_type = SqlType::Timestamp(0);
        let read = |text| datum(text, &sql_type, 8 * 3600).and_then(|d| d.text(&sql_type));
        assert_eq!(read("2024-01-01 07:59:59").as_deref(), Some("2023-12-31 23:59:59"));
        assert_eq!(read("0000-00-00 00:00:00").as_deref(), Some("0000-00-00 00:00:00"));
        assert_eq!(read("2024-00-01 00:00:00"), None);
    }

    #[test]
    fn numbers_of_enums_and_sets_become_labels() {
        let labels = || vec!["a".to_string(), "b".to_string(), "c d".to_string()];
        for (text, label) in [("0", ""), ("1", "a"), ("3", "c d"), ("b", "b"), ("", "")] {
            assert_eq!(read(text, SqlType::Enum(labels())).as_deref(), Some(label));
        }
        for (text, label) in [("0", ""), ("5", "a,c d"), ("a,b", "a,b"), ("", "")] {
            assert_eq!(read(text, SqlType::Set(labels())).as_deref(), Some(label));
        }
        let many: Vec<String> = (0..64).map(|i| format!("l{i}")).collect();
        assert_eq!(read("9223372036854775808", SqlType::Set(many)).as_deref(), Some("l63"));
    }

    #[test]
    fn bytes_come_back_from_latin1() {
        assert_eq!(latin1("\u{0}\u{7f}\u{80}\u{ff}"), Some(vec![0, 0x7f, 0x80, 0xff]));
        assert_eq!(datum("ab", &SqlType::Binary(4), 0), Some(Datum::Bytes(b"ab\0\0".to_vec())));
    }
}
