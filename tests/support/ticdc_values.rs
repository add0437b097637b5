//! How TiCDC writes single values and types: helpers of the encoder in ticdc.rs.

use std::fmt::Write;

use tidemill::row::datum::Datum;
use tidemill::row::types::SqlType;

/// As Go's `strconv.Quote`, without the outer quotes.
pub fn go_quote(bytes: &[u8]) -> String {
    let mut quoted = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match c {
                '\u{7}' => write!(quoted, "\\a"),
                '\u{8}' => write!(quoted, "\\b"),
                '\u{b}' => write!(quoted, "\\v"),
                '\u{c}' => write!(quoted, "\\f"),
                '\n' => write!(quoted, "\\n"),
                '\r' => write!(quoted, "\\r"),
                '\t' => write!(quoted, "\\t"),
                '"' | '\\' => write!(quoted, "\\{c}"),
                ..' ' | '\u{7f}' => write!(quoted, "\\x{:02x}", c as u32),
                _ if c.is_alphanumeric() || c.is_ascii() => write!(quoted, "{c}"),
                ..='\u{ffff}' => write!(quoted, "\\u{:04x}", c as u32),
                _ => write!(quoted, "\\U{:08x}", c as u32),
            };
        }
        chunk.invalid().iter().for_each(|b| quoted.push_str(&format!("\\x{b:02x}")));
    }
    quoted
}

/// A text as Go writes it in JSON: HTML's characters escaped.
pub fn json(text: &str) -> String {
    let mut quoted = serde_json::to_string(text).expect("a text is JSON");
    for c in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        quoted = quoted.replace(c, &format!("\\u{:04x}", c as u32));
    }
    quoted
}

pub fn go_float(plain: String, exponent: String, size: f64) -> String {
    match size == 0.0 || (1e-6..1e21).contains(&size) {
        true => plain,
        false if size > 1.0 => exponent.replace('e', "e+"),
        false => exponent,
    }
}

pub fn enum_number(label: &str, labels: &[String]) -> u64 {
    labels.iter().position(|l| l == label).map_or(0, |i| i as u64 + 1)
}

pub fn set_number(text: &str, labels: &[String]) -> u64 {
    text.split(',').filter_map(|t| labels.iter().position(|l| l == t)).fold(0, |bits, i| bits | 1 << i)
}

/// The type code, and whether the column has the binary flag.
pub fn open_type(sql_type: &SqlType) -> (u8, bool) {
    match sql_type {
        SqlType::Null => (6, true),
        SqlType::Bool | SqlType::Int { bytes: 1, .. } => (1, true),
        SqlType::Int { bytes: 2, .. } => (2, true),
        SqlType::Int { bytes: 3, .. } => (9, true),
        SqlType::Int { bytes: 4, .. } => (3, true),
        SqlType::Int { .. } => (8, true),
        SqlType::Year => (13, true),
        SqlType::Bit(_) => (16, true),
        SqlType::Float => (4, true),
        SqlType::Double => (5, true),
        SqlType::Decimal { .. } => (246, true),
        SqlType::Char(_) => (254, false),
        SqlType::Binary(_) => (254, true),
        SqlType::Varchar(_) => (15, false),
        SqlType::Varbinary(_) => (15, true),
        SqlType::Text(bytes) => ([249, 252, 250, 251][*bytes as usize - 1], false),
        SqlType::Blob(bytes) => ([249, 252, 250, 251][*bytes as usize - 1], true),
        SqlType::Enum(_) => (247, false),
        SqlType::Set(_) => (248, false),
        SqlType::Json => (245, true),
        SqlType::Date => (10, true),
        SqlType::Time(_) => (11, true),
        SqlType::Datetime(_) => (12, true),
        SqlType::Timestamp(_) => (7, true),
    }
}

/// canal-json's `mysqlType`, without lengths.
pub fn canal_type(sql_type: &SqlType) -> String {
    let name = sql_type.to_string().to_ascii_lowercase();
    let word = name.split(['(', ' ']).next().unwrap_or_default().to_string();
    if name.ends_with(" unsigned") { format!("{word} unsigned") } else { word }
}

/// canal-json's `sqlType`: java.sql.Types, unsigned integers promoted by their value.
pub fn java_type(sql_type: &SqlType, value: &Datum) -> i32 {
    let above = |max: u64| matches!(value, Datum::UInt(v) if *v > max);
    match sql_type {
        SqlType::Int { bytes: 1, .. } | SqlType::Bool => {
            if above(i8::MAX as u64) {
                5
            } else {
                -6
            }
        }
        SqlType::Int { bytes: 2, .. } => {
            if above(i16::MAX as u64) {
                4
            } else {
                5
            }
        }
        SqlType::Int { bytes: 3, .. } => 4,
        SqlType::Int { bytes: 4, .. } => {
            if above(i32::MAX as u64) {
                -5
            } else {
                4
            }
        }
        SqlType::Int { .. } => {
            if above(i64::MAX as u64) {
                3
            } else {
                -5
            }
        }
        SqlType::Bit(_) => -7,
        SqlType::Float => 7,
        SqlType::Double => 8,
        SqlType::Decimal { .. } => 3,
        SqlType::Char(_) => 1,
        SqlType::Enum(_) => 4,
        SqlType::Set(_) => -7,
        SqlType::Date => 91,
        SqlType::Time(_) => 92,
        SqlType::Datetime(_) | SqlType::Timestamp(_) => 93,
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => 2004,
        SqlType::Text(_) => 2005,
        SqlType::Varchar(_) | SqlType::Json | SqlType::Year | SqlType::Null => 12,
    }
}
