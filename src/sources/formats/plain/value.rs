//! Values that people's own programs write as text, as values of declared columns.
//!
//! What a changefeed writes has gone through a column of MySQL's, so that it fits one; what comes here has not. A value
//! that its column cannot hold as it is (too long, more digits, no date of the calendar) is refused, never cut.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::row::datum::Datum;
use crate::row::temporal::{Date, MICROS_A_DAY, MICROS_A_SECOND};
use crate::row::types::SqlType;
use crate::sources::formats::debezium::document;
use crate::sources::formats::text;

/// A number with an exponent beyond this is not written out.
const EXPONENT_MAX: usize = 100;

/// The value of a column of this type; `None`: it is none. A time without a zone is on a clock so many seconds east of
/// UTC; binary values are base64, a JSON column's a document.
pub fn datum(text: &str, sql_type: &SqlType, zone_seconds: i32) -> Option<Datum> {
    let datum = match sql_type {
        SqlType::Json => Datum::Text(document::text(text)?),
        SqlType::Char(_) => Datum::Text(text.trim_end_matches(' ').to_string()),
        SqlType::Varchar(_) | SqlType::Text(_) => Datum::Text(text.to_string()),
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => bytes(text, sql_type)?,
        SqlType::Enum(labels) => Datum::Text(labels.iter().find(|label| *label == text)?.clone()),
        SqlType::Set(labels) => set(text, labels)?,
        SqlType::Int { bytes: 1, .. } | SqlType::Bit(1) if truth(text).is_some() => {
            return text::datum(if truth(text)? { "1" } else { "0" }, sql_type, zone_seconds);
        }
        SqlType::Int { .. } | SqlType::Bit(_) | SqlType::Year => text::datum(&whole(text)?, sql_type, zone_seconds)?,
        SqlType::Decimal { .. } => text::datum(&written_out(text)?, sql_type, zone_seconds)?,
        SqlType::Datetime(_) | SqlType::Timestamp(_) => instant(text, sql_type, zone_seconds)?,
        _ => text::datum(text, sql_type, zone_seconds)?,
    };
    holds(sql_type, &datum).then_some(datum)
}

/// Values are as long as their column may be, and of the calendar.
pub fn holds(sql_type: &SqlType, datum: &Datum) -> bool {
    let whole = |micros: i64, digits: u8| micros % 10i64.pow(6 - digits.min(6) as u32) == 0;
    match (sql_type, datum) {
        (SqlType::Char(max) | SqlType::Varchar(max), Datum::Text(text)) => {
            text.len() <= *max as usize || text.chars().count() <= *max as usize
        }
        (SqlType::Binary(max) | SqlType::Varbinary(max), Datum::Bytes(bytes)) => bytes.len() <= *max as usize,
        (SqlType::Text(size), Datum::Text(text)) => text.len() as u64 >> (8 * size) == 0,
        (SqlType::Blob(size), Datum::Bytes(bytes)) => bytes.len() as u64 >> (8 * size) == 0,
        (SqlType::Date, Datum::Date(days)) => !Date::is_odd(*days),
        (SqlType::Time(digits), Datum::Time(micros)) => whole(*micros, *digits),
        (SqlType::Datetime(digits), Datum::Datetime(micros))
        | (SqlType::Timestamp(digits), Datum::Timestamp(micros)) => whole(*micros, *digits) && !is_odd(*micros),
        _ => true,
    }
}

fn is_odd(micros: i64) -> bool {
    i32::try_from(micros.div_euclid(MICROS_A_DAY)).is_ok_and(Date::is_odd)
}

fn bytes(text: &str, sql_type: &SqlType) -> Option<Datum> {
    let mut bytes = STANDARD.decode(text).ok()?;
    if let SqlType::Binary(length) = sql_type {
        bytes.resize(bytes.len().max(*length as usize), 0);
    }
    Some(Datum::Bytes(bytes))
}

/// Labels in any order become MySQL's order of them.
fn set(text: &str, labels: &[String]) -> Option<Datum> {
    let parts = text.split(',').filter(|_| !text.is_empty());
    let bits = parts.map(|part| labels.iter().position(|label| label == part));
    text::set_labels(bits.into_iter().try_fold(0, |bits, at| Some(bits | 1u64 << at?))?, labels)
}

fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The digits of a whole number, also of `5.0` and `1e3`; `None`: it is none.
fn whole(text: &str) -> Option<Cow<'_, str>> {
    let digits = |text: &str| match text.split_once('.') {
        Some((digits, fraction)) => fraction.bytes().all(|b| b == b'0').then_some(digits.len()),
        None => Some(text.len()),
    };
    Some(match written_out(text)? {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..digits(text)?]),
        Cow::Owned(mut text) => {
            text.truncate(digits(&text)?);
            Cow::Owned(text)
        }
    })
}

/// A time of day on a date, with or without its zone.
fn instant(text: &str, sql_type: &SqlType, zone_seconds: i32) -> Option<Datum> {
    let clock = text.find(['T', ' ']).map_or(text.len(), |at| at + 1);
    let zone = text[clock..].find(['Z', '+', '-']).map(|at| clock + at);
    let (reading, offset) = match zone {
        Some(at) => (text[..at].trim_end(), Some(text::utc_offset(&text[at..])?)),
        None => (text, None),
    };
    let Datum::Datetime(wall) = text::datum(reading, &SqlType::Datetime(6), 0)? else { return None };
    let utc = text::to_utc(wall, offset.unwrap_or(zone_seconds))?;
    Some(match sql_type {
        SqlType::Timestamp(_) => Datum::Timestamp(utc),
        // DATETIME has no zone: an instant is what that clock shows then.
        _ => Datum::Datetime(utc + zone_seconds as i64 * MICROS_A_SECOND),
    })
}

/// A number without its exponent, every digit kept; `None`: it is none, or far too long.
fn written_out(text: &str) -> Option<Cow<'_, str>> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return Some(Cow::Borrowed(text)) };
    let exponent: i32 = exponent.parse().ok()?;
    (exponent.unsigned_abs() as usize <= EXPONENT_MAX).then_some(())?;
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    (!before.is_empty() && before.bytes().chain(after.bytes()).all(|b| b.is_ascii_digit())).then_some(())?;
    let zeros = "0".repeat(EXPONENT_MAX);
    // The point moves among digits with enough zeros on both sides of them.
    let all = format!("{zeros}{before}{after}{zeros}");
    let point = (EXPONENT_MAX + before.len()).checked_add_signed(exponent as isize)?;
    let (before, after) = all.split_at(point);
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    let after = after.trim_end_matches('0');
    let point = if after.is_empty() { "" } else { "." };
    Some(Cow::Owned(format!("{sign}{before}{point}{after}")))
}
