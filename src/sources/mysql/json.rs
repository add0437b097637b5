//! JSON values of the binlog as the text that MySQL prints for them.
//!
//! A snapshot reads that text from the server and the binlog carries the binary form: both must give the same string.

use std::fmt::Write;
use std::io;

use mysql_common::binlog::jsonb::Value;
use mysql_common::constants::ColumnType;
use mysql_common::io::ParseBuf;

use super::value::decimal;
use crate::row::datum::Datum;
use crate::row::temporal::{format_date, format_datetime, format_time};
use crate::row::types::SqlType;

/// MySQL refuses documents deeper than 100.
const DEPTH_MAX: usize = 128;
/// Beyond this many digits before or after the point MySQL prints a double with an exponent.
const POINT_DIGITS_MAX: i32 = 15;

/// The text of a JSON column's bytes; no bytes at all are the JSON null.
pub fn text(bytes: &[u8]) -> io::Result<String> {
    if bytes.is_empty() {
        return Ok("null".into());
    }
    let mut out = String::with_capacity(bytes.len());
    let value: Value<'_> = ParseBuf(bytes).parse(())?;
    print(&mut out, value, 0)?;
    Ok(out)
}

fn print(out: &mut String, value: Value<'_>, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(invalid("a document deeper than MySQL allows"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(v) => write_to(out, v),
        Value::I16(v) => write_to(out, v),
        Value::U16(v) => write_to(out, v),
        Value::I32(v) => write_to(out, v),
        Value::U32(v) => write_to(out, v),
        Value::I64(v) => write_to(out, v),
        Value::U64(v) => write_to(out, v),
        Value::F64(v) => out.push_str(&double(v)),
        Value::String(text) => quote(out, utf8(text.str_raw())?),
        Value::SmallArray(array) => elements(out, array.iter(), depth)?,
        Value::LargeArray(array) => elements(out, array.iter(), depth)?,
        Value::SmallObject(object) => {
            members(out, object.iter().map(|m| m.map(|(k, v)| (k.value_raw().to_vec(), v))), depth)?
        }
        Value::LargeObject(object) => {
            members(out, object.iter().map(|m| m.map(|(k, v)| (k.value_raw().to_vec(), v))), depth)?
        }
        Value::Opaque(_) => opaque(out, value)?,
    }
    Ok(())
}

fn elements<'a>(out: &mut String, items: impl Iterator<Item = io::Result<Value<'a>>>, depth: usize) -> io::Result<()> {
    out.push('[');
    for (i, item) in items.enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        print(out, item?, depth + 1)?;
    }
    out.push(']');
    Ok(())
}

fn members<'a>(
    out: &mut String,
    items: impl Iterator<Item = io::Result<(Vec<u8>, Value<'a>)>>,
    depth: usize,
) -> io::Result<()> {
    out.push('{');
    for (i, item) in items.enumerate() {
        let (key, value) = item?;
        out.push_str(if i > 0 { ", " } else { "" });
        quote(out, utf8(&key)?);
        out.push_str(": ");
        print(out, value, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// Values that SQL put into the document and JSON has no type for.
fn opaque(out: &mut String, value: Value<'_>) -> io::Result<()> {
    let Value::Opaque(opaque) = &value else { return Err(invalid("no opaque value")) };
    let data = opaque.data_raw();
    let packed = || {
        let bytes = data.first_chunk::<8>().ok_or_else(|| invalid("a date or time that is cut off"))?;
        Ok::<i64, io::Error>(i64::from_le_bytes(*bytes))
    };
    match opaque.value_type() {
        ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            let [precision, scale, digits @ ..] = data else { return Err(invalid("a decimal that is cut off")) };
            let value = decimal(digits, *precision, *scale).ok_or_else(|| invalid("a decimal of no digits"))?;
            let sql_type = SqlType::Decimal { precision: *precision, scale: *scale };
            out.push_str(&Datum::Decimal(value).text(&sql_type).expect("it is not NULL"));
        }
        ColumnType::MYSQL_TYPE_DATE => {
            let datetime = super::value::packed_datetime(packed()? >> 24, 0);
            quote(out, &format_date((datetime.div_euclid(crate::row::temporal::MICROS_A_DAY)) as i32));
        }
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_TIMESTAMP => {
            let packed = packed()?;
            quote(out, &format_datetime(super::value::packed_datetime(packed >> 24, packed & 0xff_ffff), 6));
        }
        ColumnType::MYSQL_TYPE_TIME => quote(out, &format_time(super::value::packed_time(packed()?, 24, 1), 6)),
        _ => {
            let dom: serde_json::Value = value.parse()?.into();
            let text = dom.as_str().ok_or_else(|| invalid("an opaque value without a text"))?;
            quote(out, text);
        }
    }
    Ok(())
}

/// The shortest digits that read back as the same double, laid out as MySQL lays them out.
fn double(value: f64) -> String {
    // `{:e}` prints the shortest digits: -1.25e-7.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} prints an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} prints a number there");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    if !(-POINT_DIGITS_MAX..POINT_DIGITS_MAX).contains(&exponent) {
        return scientific;
    }
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let whole = exponent + 1;
    if whole <= 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(-whole as usize));
    }
    let whole = whole as usize;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// A string, quoted as MySQL quotes it.
pub(in crate::sources) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => write_to(out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_to(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a String does not fail");
}

fn utf8(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| invalid("text that is not UTF-8"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("JSON holds {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_mysql_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (123.25, "123.25"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1e20, "1e20"),
            (1.5e-7, "0.00000015"),
            (1e-16, "1e-16"),
        ];
        for (value, text) in cases {
            assert_eq!(double(value), text);
        }
    }
}
