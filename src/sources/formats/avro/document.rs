//! Values of many parts as JSON, as MySQL prints it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::schema::Kind;
use super::span::Span;
use crate::row::datum::Datum;
use crate::row::float::format_double;
use crate::row::types::SqlType;
use crate::sources::formats::debezium::semantic::Semantic;
use crate::sources::formats::debezium::value;
use crate::sources::mysql::json::quote;

/// Writes the value: numbers with every digit, bytes in base64, times as the numbers that they are. `None`: JSON has no
/// such value, an infinite number or a text that is no UTF-8.
pub fn print(out: &mut String, span: Span<'_>) -> Option<()> {
    match &span.node().kind {
        Kind::Null => out.push_str("null"),
        Kind::Boolean => out.push_str(if span.boolean()? { "true" } else { "false" }),
        Kind::Int | Kind::Long => write!(out, "{}", span.long()?).ok()?,
        Kind::Float => write!(out, "{}", span.float().filter(|v| v.is_finite())?).ok()?,
        Kind::Double => out.push_str(&format_double(span.double().filter(|v| v.is_finite())?)),
        Kind::String | Kind::Enum(_) => quote(out, span.text()?),
        Kind::Bytes | Kind::Fixed(_) => match &span.node().semantic {
            Semantic::Decimal { scale } => out.push_str(&digits(span.bytes()?, scale.unwrap_or(0))?),
            _ => quote(out, &STANDARD.encode(span.bytes()?)),
        },
        Kind::Array(_) => {
            out.push('[');
            for (i, item) in span.items()?.ok()?.into_iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                print(out, item)?;
            }
            out.push(']');
        }
        Kind::Map(_) => members(out, span.entries()?.ok()?.into_iter())?,
        Kind::Record(_) => {
            let fields: Result<Vec<_>, _> = span.fields()?.collect();
            members(out, fields.ok()?.into_iter().map(|(field, span)| (field.name.as_str(), span)))?;
        }
        Kind::Union(_) => unreachable!("a value is of a branch"),
    }
    Some(())
}

fn members<'a>(out: &mut String, members: impl Iterator<Item = (&'a str, Span<'a>)>) -> Option<()> {
    out.push('{');
    for (i, (name, value)) in members.enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        quote(out, name);
        out.push_str(": ");
        print(out, value)?;
    }
    out.push('}');
    Some(())
}

/// A decimal with the digits that its scale says; `None`: it is beyond DECIMAL(65,30).
pub fn digits(bytes: &[u8], scale: i64) -> Option<String> {
    let scale = u8::try_from(scale).ok().filter(|scale| *scale <= crate::row::types::DECIMAL_SCALE_MAX)?;
    let unscaled = Datum::Decimal(value::two_complement(bytes)?);
    unscaled.text(&SqlType::Decimal { precision: crate::row::types::DECIMAL_PRECISION_MAX, scale })
}

/// At most this much of a value is shown in a fault.
pub fn shown(span: Span<'_>) -> String {
    const CHARS_MAX: usize = 60;
    let mut out = String::new();
    if print(&mut out, span).is_none() {
        return "a value that is no finite number and no UTF-8".to_string();
    }
    if let Some((cut, _)) = out.char_indices().nth(CHARS_MAX) {
        out.truncate(cut);
        out.push('…');
    }
    out
}
