//! MySQL types and values as PostgreSQL's clients read them, in text and binary form.
//!
//! A date that no calendar has prints as it was written; its binary form, which has no place for it, is an error that
//! names the value.

use bytes::{BufMut, BytesMut};
use pgwire::api::Type;

use crate::row::datum::Datum;
use crate::row::temporal::{self, Date, MICROS_A_DAY};
use crate::row::types::SqlType;

/// How a value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// 2000-01-01, from which PostgreSQL counts, in days since 1970-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
pub const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * MICROS_A_DAY;
/// The header of a numeric modifier.
const NUMERIC_MODIFIER_BASE: i32 = 4;

/// A value without a binary form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{sql_type} '{value}' has no binary form: no calendar has it")]
pub struct OddDate {
    pub value: String,
    pub sql_type: SqlType,
}

/// The type under which a column is described.
pub fn pg_type(sql_type: &SqlType) -> Type {
    match sql_type {
        SqlType::Null => Type::TEXT,
        SqlType::Bool => Type::BOOL,
        SqlType::Int { bytes: 1 | 2, unsigned: false } | SqlType::Int { bytes: 1, unsigned: true } => Type::INT2,
        SqlType::Int { bytes: 3 | 4, unsigned: false } | SqlType::Int { bytes: 2 | 3, unsigned: true } => Type::INT4,
        SqlType::Int { bytes: 8, unsigned: true } => Type::NUMERIC,
        SqlType::Int { .. } => Type::INT8,
        SqlType::Year => Type::INT4,
        SqlType::Bit(64) => Type::NUMERIC,
        SqlType::Bit(_) => Type::INT8,
        SqlType::Float => Type::FLOAT4,
        SqlType::Double => Type::FLOAT8,
        SqlType::Decimal { .. } => Type::NUMERIC,
        SqlType::Json => Type::JSON,
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) | SqlType::Enum(_) | SqlType::Set(_) => Type::TEXT,
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => Type::BYTEA,
        SqlType::Date => Type::DATE,
        // PostgreSQL's time ends at 24:00.
        SqlType::Time(_) => Type::INTERVAL,
        SqlType::Datetime(_) => Type::TIMESTAMP,
        SqlType::Timestamp(_) => Type::TIMESTAMPTZ,
    }
}

/// `pg_type.typlen`: the width of a value, -1 where it varies.
pub fn type_size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// `pg_attribute.atttypmod`: a decimal's precision and scale; -1 for none.
pub fn type_modifier(sql_type: &SqlType) -> i32 {
    match sql_type {
        SqlType::Decimal { precision, scale } => ((*precision as i32) << 16 | *scale as i32) + NUMERIC_MODIFIER_BASE,
        _ => -1,
    }
}

/// Appends a field: its length and its value.
pub fn put(datum: &Datum, sql_type: &SqlType, format: Format, out: &mut BytesMut) -> Result<(), OddDate> {
    if *datum == Datum::Null {
        out.put_i32(-1);
        return Ok(());
    }
    let at = out.len();
    out.put_i32(0);
    match format {
        Format::Text => put_text(datum, sql_type, out),
        Format::Binary => put_binary(datum, sql_type, out)?,
    }
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_text(datum: &Datum, sql_type: &SqlType, out: &mut BytesMut) {
    let text = match datum {
        Datum::Bool(v) => if *v { "t" } else { "f" }.to_string(),
        Datum::Int(v) => v.to_string(),
        Datum::Float(v) => float_text(v.is_finite().then(|| format!("{v:e}")), *v as f64, 6),
        Datum::Double(v) => float_text(v.is_finite().then(|| format!("{v:e}")), *v, 15),
        Datum::Bytes(v) => {
            out.extend_from_slice(b"\\x");
            v.iter().for_each(|byte| out.extend_from_slice(format!("{byte:02x}").as_bytes()));
            return;
        }
        Datum::Timestamp(_) => datum.text(sql_type).expect("not NULL") + "+00",
        _ => datum.text(sql_type).expect("not NULL"),
    };
    out.extend_from_slice(text.as_bytes());
}

/// The shortest digits that read back as the same float, with an exponent where PostgreSQL writes one.
fn float_text(scientific: Option<String>, value: f64, digits_max: i32) -> String {
    let Some(scientific) = scientific else {
        let text = if value.is_nan() { "NaN" } else { ["Infinity", "-Infinity"][(value < 0.0) as usize] };
        return text.to_string();
    };
    let (mantissa, exponent) = scientific.split_once('e').expect("the form of {:e}");
    let exponent: i32 = exponent.parse().expect("the exponent of {:e} is an integer");
    if !(-4..digits_max).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let point = exponent + 1;
    if point <= 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(-point as usize));
    }
    match digits.split_at_checked(point as usize) {
        Some((whole, "")) => format!("{sign}{whole}"),
        Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{digits:0<width$}", width = point as usize),
    }
}

fn put_binary(datum: &Datum, sql_type: &SqlType, out: &mut BytesMut) -> Result<(), OddDate> {
    let odd = || OddDate { value: datum.text(sql_type).expect("not NULL"), sql_type: sql_type.clone() };
    match datum {
        Datum::Null => unreachable!("the caller wrote NULL"),
        Datum::Bool(v) => out.put_u8(*v as u8),
        Datum::Int(v) => put_integer(*v, sql_type, out),
        Datum::UInt(v) if pg_type(sql_type) == Type::NUMERIC => put_numeric(&v.to_string(), out),
        Datum::UInt(v) => {
            put_integer((*v).try_into().expect("an unsigned type below 64 bits fits 63"), sql_type, out);
        }
        Datum::Float(v) => out.put_f32(*v),
        Datum::Double(v) => out.put_f64(*v),
        Datum::Decimal(_) => put_numeric(&datum.text(sql_type).expect("not NULL"), out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Bytes(v) => out.extend_from_slice(v),
        Datum::Date(days) if Date::is_odd(*days) => return Err(odd()),
        Datum::Date(days) => out.put_i32(days - EPOCH_DAYS),
        Datum::Time(micros) => {
            out.put_i64(*micros);
            // Days and months: a TIME has neither.
            out.put_u64(0);
        }
        Datum::Datetime(micros) | Datum::Timestamp(micros) => {
            if Date::is_odd(micros.div_euclid(MICROS_A_DAY) as i32) {
                return Err(odd());
            }
            out.put_i64(micros - EPOCH_MICROS);
        }
    }
    Ok(())
}

fn put_integer(value: i64, sql_type: &SqlType, out: &mut BytesMut) {
    match type_size(&pg_type(sql_type)) {
        2 => out.put_i16(value as i16),
        4 => out.put_i32(value as i32),
        8 => out.put_i64(value),
        size => panic!("integer {value} of type {sql_type} has {size} bytes"),
    }
}

const NUMERIC_NEGATIVE: u16 = 0x4000;

/// The digits of a decimal as PostgreSQL's numeric: groups of four around the point.
fn put_numeric(text: &str, out: &mut BytesMut) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let padded = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let mut weight = (padded.len() / 4) as i16 - 1;
    let digits = format!("{padded}{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let groups: Vec<i16> = digits
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |value, digit| value * 10 + (digit - b'0') as i16))
        .collect();
    let leading = groups.iter().take_while(|&&group| group == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|&&group| group == 0).count();
    let groups = &groups[leading..groups.len() - trailing];
    weight = if groups.is_empty() { 0 } else { weight - leading as i16 };
    out.put_u16(groups.len() as u16);
    out.put_i16(weight);
    out.put_u16(if negative && !groups.is_empty() { NUMERIC_NEGATIVE } else { 0 });
    out.put_u16(fraction.len() as u16);
    groups.iter().for_each(|&group| out.put_i16(group));
}

/// A numeric's digits; `None` if the bytes are none, or not a number (NaN, infinity).
pub fn numeric_text(bytes: &[u8]) -> Option<String> {
    let word = |i: usize| Some(u16::from_be_bytes(bytes.get(2 * i..2 * i + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (word(0)? as usize, word(1)? as i16, word(2)?, word(3)? as usize);
    if bytes.len() != 8 + 2 * count || !matches!(sign, 0 | NUMERIC_NEGATIVE) {
        return None;
    }
    let group = |place: i32| {
        let i = weight as i32 - place;
        (0..count as i32).contains(&i).then(|| word(4 + i as usize)).flatten().unwrap_or(0)
    };
    let whole: String = (0..=weight.max(0) as i32).rev().map(|place| format!("{:04}", group(place))).collect();
    let whole = whole.trim_start_matches('0');
    let places = scale.div_ceil(4) as i32;
    let fraction: String = (1..=places).map(|place| format!("{:04}", group(-place))).collect();
    let sign = if sign == NUMERIC_NEGATIVE { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &fraction[..scale]) })
}

/// A binary date or timestamp as MySQL prints it; `None` beyond MySQL's years.
pub fn date_text(days_since_2000: i32) -> Option<String> {
    let days = days_since_2000.checked_add(EPOCH_DAYS)?;
    in_calendar(days).then(|| temporal::format_date(days))
}

pub fn datetime_text(micros_since_2000: i64) -> Option<String> {
    let micros = micros_since_2000.checked_add(EPOCH_MICROS)?;
    let days = i32::try_from(micros.div_euclid(MICROS_A_DAY)).ok()?;
    in_calendar(days).then(|| temporal::format_datetime(micros, 6))
}

fn in_calendar(days: i32) -> bool {
    let first = Date { year: 0, month: 1, day: 1 }.to_days();
    let last = Date { year: 9999, month: 12, day: 31 }.to_days();
    (first..=last).contains(&days)
}

#[cfg(test)]
mod tests;
