//! Rows as JSON objects, a member a column, and keys as JSON or as they are.

use super::{BINARY, Fields, bare_key, no_value, value};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::row::types::SqlType;
use crate::sources::formats::debezium::document;
use crate::sources::formats::scan::{Scanner, Value};
use crate::sources::formats::{BadMessage, TableOf, text};
use crate::sources::mysql::json::quote;

/// The values of an object's members; `None`: the text is `null`. A member is the column of its name, else the one
/// whose name differs in case only.
pub fn object(text: &str, columns: &[usize], table: &TableOf, zone: i32) -> Result<Option<Fields>, BadMessage> {
    if text.trim_ascii() == "null" {
        return Ok(None);
    }
    let schema = &table.followed.schema;
    let mut envelope = Envelope::default();
    let mut found: Vec<Option<(bool, Value<'_>)>> = vec![None; schema.columns.len()];
    let mut scanner = Scanner::of(text);
    scanner.object(|name, inner| {
        let value = inner.value()?;
        let at = table.column(name).or_else(|| schema.position(name));
        let Some(at) = at.filter(|at| columns.contains(at)) else {
            envelope.note(name);
            return Ok(());
        };
        let exact = schema.columns[at].name == name;
        match &found[at] {
            Some((before, _)) if *before == exact => {
                let reason = format!("column `{}` stands twice in a row", schema.columns[at].name);
                return Err(BadMessage::malformed(reason));
            }
            Some((true, _)) => {}
            _ => found[at] = Some((exact, value)),
        }
        Ok(())
    })?;
    scanner.end()?;
    if let Some(bad) = envelope.found().filter(|_| found.iter().all(Option::is_none)) {
        return Err(bad);
    }
    let read = |(at, value): (usize, Option<(bool, Value<'_>)>)| {
        value.map(|(_, value)| datum(value, &schema.columns[at], zone)).transpose()
    };
    found.into_iter().enumerate().map(read).collect::<Result<Fields, BadMessage>>().map(Some)
}

/// The values of a message's key: an object by name, an array in the key's order, a JSON text, or the bare value.
pub fn key(text: &str, columns: &[usize], table: &TableOf, zone: i32) -> Result<Fields, BadMessage> {
    let schema = &table.followed.schema;
    let mut values: Fields = vec![None; schema.columns.len()];
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => return Ok(object(text, columns, table, zone)?.unwrap_or(values)),
        Some(b'[') => {
            let mut left = columns.iter();
            let mut scanner = Scanner::of(text);
            scanner.array(|inner| {
                let value = inner.value()?;
                let at = *left.next().ok_or_else(|| BadMessage::malformed("the key has more values than columns"))?;
                values[at] = Some(datum(value, &schema.columns[at], zone)?);
                Ok(())
            })?;
            scanner.end()?;
        }
        Some(b'"') => {
            let mut scanner = Scanner::of(text);
            let value = scanner.value()?;
            scanner.end()?;
            let at = bare_key(columns, table)?;
            values[at] = Some(datum(value, &schema.columns[at], zone)?);
        }
        _ if text.contains('\0') => {
            let reason = "the message's key is a number in binary form, or other bytes that are no text";
            return Err(BadMessage { remedy: BINARY.into(), ..BadMessage::malformed(reason) });
        }
        _ => {
            let at = bare_key(columns, table)?;
            let column = &schema.columns[at];
            let datum = value::datum(text, &column.sql_type, zone);
            values[at] = Some(datum.ok_or_else(|| no_value(&text::shown(text), column))?);
        }
    }
    Ok(values)
}

/// Members by which other formats are known: nothing of theirs is a row, and where every column may be NULL, nothing
/// else would say so.
#[derive(Default)]
struct Envelope {
    seen: [bool; Envelope::NAMES.len()],
}

impl Envelope {
    const NAMES: [&str; 6] = ["op", "source", "schema", "payload", "database", "data"];

    fn note(&mut self, name: &str) {
        for (seen, known) in self.seen.iter_mut().zip(Envelope::NAMES) {
            *seen |= name == known;
        }
    }

    fn found(&self) -> Option<BadMessage> {
        let (reason, remedy) = match self.seen {
            [true, true, ..] => ("the message is one of Debezium's", "create the source with FORMAT 'debezium-json'"),
            [_, _, true, true, ..] => (
                "the message has its row in `payload`, beside a schema",
                "set value.converter.schemas.enable=false at the connector",
            ),
            [.., true, true] => {
                ("the message is one of Canal's or TiCDC's", "create the source with FORMAT 'canal-json'")
            }
            _ => return None,
        };
        Some(BadMessage { code: "FEED_MISTAKEN", reason: reason.into(), remedy: remedy.into() })
    }
}

fn datum(value: Value<'_>, column: &Column, zone: i32) -> Result<Datum, BadMessage> {
    let is_text = matches!(column.sql_type, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_));
    let is_json = column.sql_type == SqlType::Json;
    let (shown, read) = match &value {
        Value::Null if column.nullable => return Ok(Datum::Null),
        Value::Null => ("NULL".to_string(), None),
        // A JSON column keeps a text as the text of JSON that it is.
        Value::Text(text) if is_json => {
            let mut quoted = String::with_capacity(text.len() + 2);
            quote(&mut quoted, text);
            return Ok(Datum::Text(quoted));
        }
        Value::Text(text) => (text::shown(text), value::datum(text, &column.sql_type, zone)),
        Value::Nested(text) if is_json => (text::shown(text), document::text(text).map(Datum::Text)),
        Value::Nested(text) => (text::shown(text), value::datum(text, &column.sql_type, zone).filter(|_| is_text)),
        Value::Bool(truth) => {
            let may_be = is_text || is_json || matches!(column.sql_type, SqlType::Int { .. } | SqlType::Bit(_));
            let word = match (is_text || is_json, truth) {
                (true, true) => "true",
                (true, false) => "false",
                (false, true) => "1",
                (false, false) => "0",
            };
            (truth.to_string(), value::datum(word, &column.sql_type, zone).filter(|_| may_be))
        }
        // A number says of a time neither its unit nor its beginning, and no bytes.
        Value::Number(digits) => match column.sql_type {
            SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_) => {
                (digits.to_string(), None)
            }
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => (digits.to_string(), None),
            _ => (text::shown(digits), value::datum(digits, &column.sql_type, zone)),
        },
    };
    read.ok_or_else(|| no_value(&shown, column))
}
