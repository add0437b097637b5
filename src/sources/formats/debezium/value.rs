//! One value of an event: from its encoding, as its semantic says, to a [`Datum`] of its column.

use arrow::datatypes::i256;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::document;
use super::modes::{Binaries, Modes};
use super::part::{Part, member};
use super::semantic::{Semantic, Unit};
use crate::row::datum::Datum;
use crate::row::temporal::{self, Date, MICROS_A_DAY, TIME_MICROS_MAX};
use crate::row::types::{DECIMAL_PRECISION_MAX, SqlType};

/// The value; `None`: it is none of that type. The semantic carries the type, and the value is not null.
pub fn datum<'a>(part: impl Part<'a>, sql_type: &SqlType, semantic: &Semantic, modes: &Modes) -> Option<Datum> {
    match semantic {
        Semantic::Plain => plain(part, sql_type, modes),
        Semantic::Decimal { scale } => {
            // `decimal.format` of the JSON converter may be NUMERIC.
            if part.number().is_some() {
                return plain(part, sql_type, modes);
            }
            of_unscaled(two_complement(&part.bytes(Binaries::Bytes)?)?, *scale, sql_type)
        }
        Semantic::VariableDecimal => {
            let members = part.members().ok()?;
            let scale = member(&members, "scale")?.long()?;
            let unscaled = two_complement(&member(&members, "value")?.bytes(Binaries::Bytes)?)?;
            of_unscaled(unscaled, Some(scale), sql_type)
        }
        Semantic::Bytes(binaries) => bytes(part, *binaries, sql_type),
        Semantic::Bits => bits(part, sql_type),
        Semantic::Days => {
            let days = part.long()?.try_into().ok()?;
            is_date(days).then_some(Datum::Date(days))
        }
        Semantic::Time(unit) => time(unit.micros(part.long()?)?),
        Semantic::Instant(unit) | Semantic::Moment(unit) => instant(unit.micros(part.long()?)?, sql_type),
        Semantic::Zoned => instant(zoned(&part.string()?)?, sql_type),
        Semantic::Iso => iso(&part.string()?, sql_type),
        Semantic::Uuid | Semantic::Other(_) => None,
    }
}

fn plain<'a>(part: impl Part<'a>, sql_type: &SqlType, modes: &Modes) -> Option<Datum> {
    match sql_type {
        SqlType::Null => None,
        SqlType::Bool => part.boolean().or_else(|| Some(part.integer()? != 0)).map(Datum::Bool),
        SqlType::Int { bytes, unsigned } => {
            let value = part.boolean().map(i128::from).or_else(|| part.integer())?;
            fit(value, *bytes, *unsigned)
        }
        SqlType::Year => {
            let year = part.integer()?;
            (year == 0 || (1901..=2155).contains(&year)).then_some(Datum::Int(year as i64))
        }
        SqlType::Bit(_) => bits(part, sql_type),
        SqlType::Float => part.number()?.parse::<f32>().ok().filter(|v| v.is_finite()).map(Datum::Float),
        SqlType::Double => part.number()?.parse::<f64>().ok().filter(|v| v.is_finite()).map(Datum::Double),
        // A number went through a double and is rounded to the column's scale; a text is exact or not the column's.
        SqlType::Decimal { precision, scale } => match part.number() {
            Some(number) => decimal(&number, *precision, *scale, false),
            None => decimal(&part.string()?, *precision, *scale, true),
        },
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => bytes(part, modes.binary, sql_type),
        SqlType::Timestamp(_) => instant(zoned(&part.string()?)?, sql_type),
        SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) => None,
        SqlType::Json => document::text(&part.string()?).map(Datum::Text),
        SqlType::Enum(labels) => {
            // The empty text is MySQL's value for what was none of the labels.
            let label = part.string()?;
            (label.is_empty() || labels.iter().any(|l| *l == label)).then(|| Datum::Text(label.into_owned()))
        }
        SqlType::Set(labels) => {
            let set = part.string()?;
            let known = set.is_empty() || set.split(',').all(|label| labels.iter().any(|l| l == label));
            known.then(|| Datum::Text(set.into_owned()))
        }
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) => Some(Datum::Text(part.string()?.into_owned())),
    }
}

/// An integer of so many bytes; a BIGINT UNSIGNED may have wrapped to a negative one.
fn fit(value: i128, bytes: u8, unsigned: bool) -> Option<Datum> {
    let bits = 8 * bytes as u32;
    match unsigned {
        true if bytes == 8 && (i64::MIN as i128..0).contains(&value) => Some(Datum::UInt(value as i64 as u64)),
        true => (0..1i128 << bits).contains(&value).then_some(Datum::UInt(value as u64)),
        false => (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&value).then_some(Datum::Int(value as i64)),
    }
}

/// From little-endian bytes; a BIT(1) is a truth value.
fn bits<'a>(part: impl Part<'a>, sql_type: &SqlType) -> Option<Datum> {
    let SqlType::Bit(width) = sql_type else { return None };
    let value = match (part.boolean(), part.number()) {
        (Some(bit), _) => bit as u64,
        (_, Some(number)) => number.parse().ok()?,
        _ => {
            let bytes = part.bytes(Binaries::Bytes)?;
            (bytes.iter().skip(8).all(|b| *b == 0)).then_some(())?;
            bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | *byte as u64)
        }
    };
    (*width >= 64 || value >> *width == 0).then_some(Datum::UInt(value))
}

fn bytes<'a>(part: impl Part<'a>, binaries: Binaries, sql_type: &SqlType) -> Option<Datum> {
    let mut bytes = part.bytes(binaries)?.into_owned();
    if let SqlType::Binary(length) = sql_type {
        // The binlog cuts a BINARY(n)'s zeros off; a snapshot has them.
        (bytes.len() <= *length as usize).then(|| bytes.resize(*length as usize, 0))?;
    }
    Some(Datum::Bytes(bytes))
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The bytes that a text stands for.
pub fn decode(text: &str, binaries: Binaries) -> Option<Vec<u8>> {
    match binaries {
        Binaries::Bytes | Binaries::Base64 => BASE64.decode(text).ok(),
        Binaries::Base64UrlSafe => BASE64_URL_SAFE.decode(text).ok(),
        Binaries::Hex => {
            let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
            digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
    }
}

pub fn two_complement(bytes: &[u8]) -> Option<i256> {
    let negative = bytes.first()? & 0x80 != 0;
    let mut wide = [if negative { 0xff } else { 0 }; 32];
    let start = wide.len().checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    Some(i256::from_be_bytes(wide))
}

/// An unscaled value at a scale as one of the column's: exactly, or it is not the column's.
pub fn of_unscaled(unscaled: i256, scale: Option<i64>, sql_type: &SqlType) -> Option<Datum> {
    match sql_type {
        SqlType::Decimal { precision, scale: wanted } => {
            let power = |n: u64| i256::from_i128(10).checked_pow(u32::try_from(n).ok()?);
            let by = (*wanted as i64).checked_sub(scale.unwrap_or(*wanted as i64))?;
            let value = match by {
                0.. => unscaled.checked_mul(power(by as u64)?)?,
                _ => {
                    let power = power(by.unsigned_abs())?;
                    (unscaled.checked_rem(power)? == i256::ZERO).then(|| unscaled.checked_div(power))??
                }
            };
            let limit = power(*precision as u64)?;
            (value < limit && value.checked_neg()? < limit).then_some(Datum::Decimal(value))
        }
        SqlType::Int { bytes, unsigned } => {
            (scale.unwrap_or(0) == 0).then_some(())?;
            fit(unscaled.to_i128()?, *bytes, *unsigned)
        }
        _ => None,
    }
}

/// From digits with a point and an exponent (Java writes 1.0E7); `exact`: no digit may fall off the scale.
fn decimal(text: &str, precision: u8, scale: u8, exact: bool) -> Option<Datum> {
    const EXPONENT_MAX: i64 = 400;
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    (-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent).then_some(())?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    // Zeros, so that the point falls among the digits or at an end of them.
    let point = whole.len() as i64 + exponent;
    let before = "0".repeat(point.min(0).unsigned_abs() as usize);
    let after = "0".repeat((point - digits.len() as i64).max(0) as usize);
    let digits = [before, digits, after].concat();
    let (whole, fraction) = digits.split_at(point.max(0) as usize);
    let whole = whole.trim_start_matches('0');
    (whole.len() <= DECIMAL_PRECISION_MAX as usize).then_some(())?;
    let lost = fraction.as_bytes().get(scale as usize..).unwrap_or_default();
    (!exact || lost.iter().all(|b| *b == b'0')).then_some(())?;
    Datum::parse(&format!("{sign}0{whole}.{fraction}"), &SqlType::Decimal { precision, scale }).ok()
}

impl Unit {
    pub fn micros(self, value: i64) -> Option<i64> {
        match self {
            Unit::Millis => value.checked_mul(1000),
            Unit::Micros => Some(value),
            Unit::Nanos => Some(value.div_euclid(1000)),
        }
    }
}

/// MySQL's years are 0 to 9999.
fn is_date(days: i32) -> bool {
    let first = Date { year: 0, month: 1, day: 1 }.to_days();
    let last = Date { year: 9999, month: 12, day: 31 }.to_days();
    (first..=last).contains(&days)
}

fn time(micros: i64) -> Option<Datum> {
    // The last second of the range has a fraction where it was rounded on the way.
    (micros.checked_abs()? <= TIME_MICROS_MAX).then_some(Datum::Time(micros))
}

/// Microseconds since the epoch, if they are of a year of MySQL's.
pub fn datetime(micros: i64) -> Option<i64> {
    is_date(i32::try_from(micros.div_euclid(MICROS_A_DAY)).ok()?).then_some(micros)
}

fn instant(micros: i64, sql_type: &SqlType) -> Option<Datum> {
    let micros = datetime(micros)?;
    match sql_type {
        SqlType::Datetime(_) => Some(Datum::Datetime(micros)),
        SqlType::Timestamp(_) => Some(Datum::Timestamp(micros)),
        _ => None,
    }
}

/// Microseconds since the epoch of `2018-06-20T13:37:03.5Z` or one with an offset.
fn zoned(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = match text.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let (clock, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
            let sign = match offset.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let minutes = temporal::parse_time(offset[1..].trim_start_matches(['+', '-']))? / 60_000_000;
            (clock, sign * minutes)
        }
    };
    local(clock)?.checked_sub(offset_minutes * 60_000_000)
}

/// A date and time whose fraction may have nine digits.
fn local(text: &str) -> Option<i64> {
    temporal::parse_datetime(micros_only(text))
}

fn micros_only(text: &str) -> &str {
    const DIGITS: usize = 6;
    match text.split_once('.') {
        Some((_, fraction)) if fraction.len() > DIGITS && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            &text[..text.len() - (fraction.len() - DIGITS)]
        }
        _ => text,
    }
}

/// A date, a time or both, in UTC: the connector puts a Z at their end.
fn iso(text: &str, sql_type: &SqlType) -> Option<Datum> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    match sql_type {
        SqlType::Date => temporal::parse_date(text).map(Datum::Date),
        SqlType::Time(_) => temporal::parse_time(micros_only(text)).map(Datum::Time),
        SqlType::Datetime(_) => local(text).map(Datum::Datetime),
        _ => None,
    }
}
