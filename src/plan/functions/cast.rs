//! Values from one type to another, as MySQL casts, compares and assigns them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::i256;

use super::Fault;
use super::types;
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::temporal::{self, Date, MICROS_A_DAY};
use crate::row::types::SqlType;

/// What becomes of a value that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In a query: text that is no value gives NULL, a number too large the nearest that fits.
    Query,
    /// Into a column: it is an error.
    Assign,
}

/// How far a view's wall clock is ahead of UTC, frozen when the view is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone {
    pub offset_micros: i64,
}

impl Zone {
    pub const UTC: Zone = Zone { offset_micros: 0 };

    /// `UTC`, or `+08:00` as MySQL writes it.
    pub fn parse(name: &str) -> Option<Zone> {
        if name.eq_ignore_ascii_case("utc") {
            return Some(Zone::UTC);
        }
        let (sign, clock) = match name.split_at_checked(1)? {
            ("+", clock) => (1, clock),
            ("-", clock) => (-1, clock),
            _ => return None,
        };
        let micros = temporal::parse_time(clock)?;
        (clock.contains(':') && (0..=14 * 3_600_000_000).contains(&micros)).then_some(())?;
        Some(Zone { offset_micros: sign * micros })
    }

    /// East of UTC.
    pub fn offset_seconds(self) -> i32 {
        (self.offset_micros / temporal::MICROS_A_SECOND) as i32
    }
}

/// A whole column.
pub fn column(column: &ArrayRef, from: &SqlType, to: &SqlType, mode: Mode, zone: Zone) -> Result<ArrayRef, Fault> {
    if from == to || (column.data_type() == &to.arrow() && widens_in_place(from, to)) {
        return Ok(Arc::clone(column));
    }
    if fits_always(from, to) {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        return cast_with_options(column, &to.arrow(), &options).map_err(|_| Fault::OutOfRange(to.clone()));
    }
    let mut builder = ColumnBuilder::new(to, column.len());
    for i in 0..column.len() {
        let datum = Datum::of(column, from, i);
        let value = value(&datum, from, to, mode, zone)?;
        builder.push(&value).map_err(|e| Fault::DoesNotFit { value: e.value, sql_type: e.sql_type })?;
    }
    Ok(builder.finish())
}

/// One value.
pub fn value(datum: &Datum, from: &SqlType, to: &SqlType, mode: Mode, zone: Zone) -> Result<Datum, Fault> {
    if *datum == Datum::Null {
        return Ok(Datum::Null);
    }
    let converted = match to {
        SqlType::Null => Some(Datum::Null),
        SqlType::Bool => to_double(datum, from).map(|v| Datum::Bool(v != 0.0)),
        SqlType::Int { .. } | SqlType::Year | SqlType::Bit(_) => to_int(datum, from, to, mode),
        SqlType::Float => to_double_in(datum, from, mode).map(|v| Datum::Float(v as f32)),
        SqlType::Double => to_double_in(datum, from, mode).map(Datum::Double),
        SqlType::Decimal { precision, scale } => to_decimal(datum, from, *precision, *scale, mode),
        SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_) => {
            to_moment(datum, from, to, mode, zone)
        }
        t if t.is_text() => to_text(datum, from, to, mode, zone),
        _ => match datum {
            Datum::Bytes(bytes) => Some(Datum::Bytes(bytes.clone())),
            other => other.text(from).map(|text| Datum::Bytes(text.into_bytes())),
        },
    };
    match (converted, mode) {
        (Some(value), _) => Ok(value),
        (None, Mode::Query) => Ok(Datum::Null),
        (None, Mode::Assign) => {
            let value = datum.text(from).map_or_else(|| "NULL".to_string(), |text| format!("'{text}'"));
            Err(Fault::DoesNotFit { value, sql_type: to.clone() })
        }
    }
}

/// True if a cast cannot fail and cannot change what is compared.
pub fn is_total(from: &SqlType, to: &SqlType, mode: Mode) -> bool {
    mode == Mode::Query || from == to || fits_always(from, to) || widens_in_place(from, to)
}

/// The number at the start of a text, as MySQL reads it: `'12abc'` is 12, `'abc'` is 0.
pub fn number_prefix(text: &str) -> f64 {
    let text = text.trim_start();
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let sign = text.starts_with(['+', '-']) as usize;
    let mut end = sign + digits(&text[sign..]);
    if text[end..].starts_with('.') {
        end += 1 + digits(&text[end + 1..]);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = text[end + 1..].starts_with(['+', '-']) as usize;
        let exponent = digits(&text[end + 1 + sign..]);
        end += if exponent == 0 { 0 } else { 1 + sign + exponent };
    }
    let value: f64 = text[..end].parse().unwrap_or(0.0);
    value.clamp(f64::MIN, f64::MAX)
}

/// The same Arrow type, and every value of the one is a value of the other.
fn widens_in_place(from: &SqlType, to: &SqlType) -> bool {
    match to {
        SqlType::Text(_) => from.is_text() && types::text_length(from).is_some_and(|n| n <= types::VARCHAR_LENGTH_MAX),
        SqlType::Varchar(n) => from.is_text() && types::text_length(from).is_some_and(|m| m <= *n),
        SqlType::Datetime(6) => matches!(from, SqlType::Datetime(_)),
        SqlType::Timestamp(6) => matches!(from, SqlType::Timestamp(_)),
        SqlType::Time(6) => matches!(from, SqlType::Time(_)),
        SqlType::Blob(4) => types::is_binary(from),
        _ => false,
    }
}

/// Arrow's own cast is exact and total between these.
pub fn fits_always(from: &SqlType, to: &SqlType) -> bool {
    let exact = |t: &SqlType| matches!(t, SqlType::Bool | SqlType::Int { .. } | SqlType::Year | SqlType::Bit(_));
    match (from, to) {
        (SqlType::Bool, SqlType::Int { .. }) => true,
        (SqlType::Int { bytes, unsigned }, SqlType::Int { bytes: wider, unsigned: to_unsigned }) => {
            if unsigned == to_unsigned { bytes <= wider } else { *unsigned && bytes < wider }
        }
        (SqlType::Year, SqlType::Int { bytes: 4 | 8, .. }) => true,
        (SqlType::Bit(_), SqlType::Int { bytes: 8, unsigned: true }) => true,
        (SqlType::Int { .. } | SqlType::Year | SqlType::Bit(_), SqlType::Decimal { precision, scale }) => {
            types::digits(from).0 <= precision - scale
        }
        (SqlType::Decimal { precision: p, scale: s }, SqlType::Decimal { precision, scale }) => {
            s <= scale && p - s <= precision - scale
        }
        (from, SqlType::Double) if exact(from) && *from != SqlType::Bool => true,
        (SqlType::Float, SqlType::Double) => true,
        (SqlType::Date, SqlType::Datetime(_)) => true,
        _ => false,
    }
}

fn power_of_ten(exponent: u8) -> i256 {
    i256::from_i128(10).checked_pow(exponent as u32).expect("10^76 fits in 256 bits")
}

/// `value / 10^digits`, rounded half away from zero.
pub fn drop_digits(value: i256, digits: u8) -> i256 {
    let divisor = power_of_ten(digits);
    let (quotient, rest) = (value / divisor, value % divisor);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2)).expect("a remainder of 10^38 doubles");
    match twice >= divisor {
        true if value < i256::ZERO => quotient - i256::ONE,
        true => quotient + i256::ONE,
        false => quotient,
    }
}

/// The unscaled value at another scale; `None` if it needs more than 256 bits.
pub fn rescale(value: i256, from: u8, to: u8) -> Option<i256> {
    if from <= to { value.checked_mul(power_of_ten(to - from)) } else { Some(drop_digits(value, from - to)) }
}

/// An exact number as (unscaled, scale); `None` for other values.
pub fn exact(datum: &Datum, from: &SqlType) -> Option<(i256, u8)> {
    Some(match datum {
        Datum::Bool(v) => (i256::from_i128(*v as i128), 0),
        Datum::Int(v) => (i256::from_i128(*v as i128), 0),
        Datum::UInt(v) => (i256::from_i128(*v as i128), 0),
        Datum::Decimal(v) => (*v, types::digits(from).1),
        _ => return None,
    })
}

fn decimal_to_f64(value: i256, scale: u8) -> f64 {
    let sql_type = SqlType::Decimal { precision: 65, scale };
    let text = Datum::Decimal(value).text(&sql_type).expect("a decimal prints");
    text.parse().expect("a decimal's text is a number")
}

fn to_double(datum: &Datum, from: &SqlType) -> Option<f64> {
    Some(match datum {
        Datum::Float(v) => *v as f64,
        Datum::Double(v) => *v,
        Datum::Text(text) => number_prefix(text),
        other => {
            let (value, scale) = exact(other, from)?;
            decimal_to_f64(value, scale)
        }
    })
}

fn to_double_in(datum: &Datum, from: &SqlType, mode: Mode) -> Option<f64> {
    match (datum, mode) {
        (Datum::Text(text), Mode::Assign) => text.trim().parse().ok().filter(|v: &f64| v.is_finite()),
        _ => to_double(datum, from),
    }
}

fn to_int(datum: &Datum, from: &SqlType, to: &SqlType, mode: Mode) -> Option<Datum> {
    let value = match datum {
        Datum::Text(text) if mode == Mode::Query => {
            let end =
                text.trim_start().char_indices().find(|(i, c)| !(c.is_ascii_digit() || *i == 0 && "+-".contains(*c)));
            let digits = end.map_or(text.trim_start(), |(i, _)| &text.trim_start()[..i]);
            digits.parse::<i128>().unwrap_or(0)
        }
        Datum::Text(text) => match text.trim().parse::<i128>() {
            Ok(value) => value,
            Err(_) => finite_to_i128(text.trim().parse().ok()?)?,
        },
        Datum::Float(_) | Datum::Double(_) => finite_to_i128(to_double(datum, from)?)?,
        other => {
            let (value, scale) = exact(other, from)?;
            let whole = drop_digits(value, scale);
            whole.to_i128().unwrap_or(if whole < i256::ZERO { i128::MIN } else { i128::MAX })
        }
    };
    let (least, most) = int_range(to);
    let fitted = match (mode, datum) {
        (Mode::Assign, _) => (least..=most).contains(&value).then_some(value)?,
        (Mode::Query, Datum::Decimal(_)) => value.clamp(i64::MIN.into(), most),
        (Mode::Query, Datum::Float(_) | Datum::Double(_)) => value.clamp(i64::MIN.into(), i64::MAX.into()),
        (Mode::Query, _) => value.clamp(i64::MIN.into(), u64::MAX.into()),
    };
    // A BIGINT of the other sign keeps its bits: -1 as UNSIGNED is the largest.
    Some(match to {
        SqlType::Int { unsigned: true, .. } | SqlType::Bit(_) => Datum::UInt(fitted as u64),
        _ => Datum::Int(fitted as i64),
    })
}

fn finite_to_i128(value: f64) -> Option<i128> {
    value.is_finite().then(|| value.round_ties_even() as i128)
}

pub fn int_range(sql_type: &SqlType) -> (i128, i128) {
    match sql_type {
        SqlType::Int { bytes, unsigned: true } => (0, (1 << (*bytes as u32 * 8)) - 1),
        SqlType::Int { bytes, unsigned: false } => {
            let half = 1i128 << (*bytes as u32 * 8 - 1);
            (-half, half - 1)
        }
        SqlType::Bit(n) => (0, (1 << *n as u32) - 1),
        SqlType::Year => (0, 2155),
        other => panic!("{other} is no integer type"),
    }
}

fn to_decimal(datum: &Datum, from: &SqlType, precision: u8, scale: u8, mode: Mode) -> Option<Datum> {
    let sql_type = SqlType::Decimal { precision, scale };
    let most = power_of_ten(precision) - i256::ONE;
    let exact_value = match datum {
        Datum::Text(text) if mode == Mode::Assign => return Datum::parse(text, &sql_type).ok(),
        Datum::Text(_) | Datum::Float(_) | Datum::Double(_) => {
            let value = to_double(datum, from).filter(|v| v.is_finite())?;
            match Datum::parse(&value.to_string(), &sql_type) {
                Ok(decimal) => return Some(decimal),
                Err(_) => return (mode == Mode::Query).then(|| Datum::Decimal(if value < 0.0 { -most } else { most })),
            }
        }
        other => {
            let (value, from_scale) = exact(other, from)?;
            rescale(value, from_scale, scale).unwrap_or(if value < i256::ZERO { i256::MIN } else { i256::MAX })
        }
    };
    let fits = (-most..=most).contains(&exact_value);
    match mode {
        _ if fits => Some(Datum::Decimal(exact_value)),
        Mode::Query => Some(Datum::Decimal(if exact_value < i256::ZERO { -most } else { most })),
        Mode::Assign => None,
    }
}

fn to_text(datum: &Datum, from: &SqlType, to: &SqlType, mode: Mode, zone: Zone) -> Option<Datum> {
    let text = match datum {
        Datum::Timestamp(v) => Datum::Datetime(v + zone.offset_micros).text(from)?,
        Datum::Bytes(bytes) => String::from_utf8(bytes.clone()).ok()?,
        other => other.text(from)?,
    };
    let limit = match to {
        SqlType::Char(n) | SqlType::Varchar(n) => *n as usize,
        SqlType::Enum(labels) => return labels.contains(&text).then_some(Datum::Text(text)),
        _ => usize::MAX,
    };
    match text.char_indices().nth(limit) {
        None => Some(Datum::Text(text)),
        Some((end, _)) if mode == Mode::Query => Some(Datum::Text(text[..end].to_string())),
        Some(_) => None,
    }
}

fn to_moment(datum: &Datum, from: &SqlType, to: &SqlType, mode: Mode, zone: Zone) -> Option<Datum> {
    // All but TIME meet as microseconds on the view's wall clock.
    let wall = match datum {
        Datum::Time(micros) => {
            return match to {
                SqlType::Time(digits) => Some(Datum::Time(temporal::round_time(*micros, *digits))),
                _ => None,
            };
        }
        Datum::Text(text) if matches!(to, SqlType::Time(_)) => temporal::parse_time(text)?,
        Datum::Text(text) => temporal::parse_datetime(text)?,
        Datum::Date(days) => *days as i64 * MICROS_A_DAY,
        Datum::Datetime(micros) => *micros,
        Datum::Timestamp(micros) => micros + zone.offset_micros,
        Datum::Int(_) | Datum::UInt(_) => {
            let digits = datum.text(from)?;
            (digits.len() == 8).then_some(())?;
            temporal::parse_datetime(&format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..]))?
        }
        _ => return None,
    };
    let days = wall.div_euclid(MICROS_A_DAY) as i32;
    let from_text = matches!(datum, Datum::Text(_) | Datum::Int(_) | Datum::UInt(_));
    if from_text && mode == Mode::Query && !matches!(to, SqlType::Time(_)) && Date::is_odd(days) {
        return None;
    }
    Some(match to {
        SqlType::Date => Datum::Date(days),
        SqlType::Time(digits) if matches!(datum, Datum::Text(_)) => Datum::Time(temporal::round_time(wall, *digits)),
        SqlType::Time(digits) => Datum::Time(temporal::round_micros(wall.rem_euclid(MICROS_A_DAY), *digits)),
        SqlType::Datetime(digits) => Datum::Datetime(temporal::round_micros(wall, *digits)),
        SqlType::Timestamp(digits) => Datum::Timestamp(temporal::round_micros(wall - zone.offset_micros, *digits)),
        other => panic!("{other} is no moment"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::types::BIGINT;

    #[track_caller]
    fn cast(text: &str, to: SqlType) -> Option<String> {
        let from = SqlType::Varchar(100);
        value(&Datum::Text(text.into()), &from, &to, Mode::Query, Zone::UTC).unwrap().text(&to)
    }

    #[test]
    fn text_becomes_numbers_and_dates_as_mysql_reads_it() {
        let decimal = SqlType::Decimal { precision: 5, scale: 2 };
        for (text, to, expected) in [
            ("12abc", BIGINT, Some("12")),
            ("abc", BIGINT, Some("0")),
            ("-7.9", BIGINT, Some("-7")),
            ("99999999999999999999", BIGINT, Some("-1")),
            ("12.345", decimal.clone(), Some("12.35")),
            ("1e9", decimal, Some("999.99")),
            (" 1.5e2x", SqlType::Double, Some("150")),
            ("2024-02-29", SqlType::Date, Some("2024-02-29")),
            ("2023-02-29", SqlType::Date, None),
            ("nonsense", SqlType::Datetime(0), None),
            ("2024-02-29 23:59:59.6", SqlType::Datetime(0), Some("2024-03-01 00:00:00")),
            ("hello", SqlType::Varchar(2), Some("he")),
        ] {
            assert_eq!(cast(text, to.clone()).as_deref(), expected, "{text} as {to}");
        }
    }

    #[test]
    fn an_assignment_refuses_what_does_not_fit() {
        let assign = |text: &str, to: SqlType| {
            value(&Datum::Text(text.into()), &SqlType::Varchar(100), &to, Mode::Assign, Zone::UTC)
        };
        assert_eq!(assign("12", BIGINT), Ok(Datum::Int(12)));
        assert!(assign("12abc", BIGINT).is_err());
        assert!(assign("300", SqlType::Int { bytes: 1, unsigned: true }).is_err());
        assert!(assign("hello", SqlType::Varchar(2)).is_err());
        assert!(assign("blue", SqlType::Enum(vec!["red".into()])).is_err());
    }

    #[test]
    fn zones_are_utc_or_an_offset() {
        assert_eq!(Zone::parse("+08:00"), Some(Zone { offset_micros: 8 * 3_600_000_000 }));
        assert_eq!(Zone::parse("-03:30"), Some(Zone { offset_micros: -12_600_000_000 }));
        assert_eq!(Zone::parse("UTC"), Some(Zone::UTC));
        assert_eq!(Zone::parse("Mars/Olympus"), None);
    }
}
