//! A column's value in the open protocol: a type code, flags and what the type makes of the value.

use super::super::scan::{Scanner, Value};
use super::super::wire::{self, Image};
use super::super::{BadMessage, TableOf};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::row::types::SqlType;

/// Set for columns of the character set `binary`.
const BINARY_FLAG: u64 = 0x01;

/// Reads `{name: {"t", "h", "f", "v"}, …}`: the columns that are followed.
pub fn image(scanner: &mut Scanner<'_>, table: &TableOf, zone_seconds: i32) -> Result<Image, BadMessage> {
    let mut image = Image::new(table);
    scanner.object(|name, value| {
        let Some(at) = table.column(name) else { return value.value().map(drop) };
        let wire = Wire::read(value, name)?;
        image.set(at, wire.datum(&table.followed.schema.columns[at], zone_seconds)?)
    })?;
    Ok(image)
}

/// A column as it stands in the message.
struct Wire<'a> {
    code: u64,
    flags: u64,
    value: Value<'a>,
}

impl<'a> Wire<'a> {
    fn read(scanner: &mut Scanner<'a>, column: &str) -> Result<Wire<'a>, BadMessage> {
        let (mut code, mut flags, mut value) = (None, 0, None);
        scanner.object(|name, member| {
            match name {
                "t" => code = Some(member.u64_of("t")?),
                "f" => flags = member.u64_of("f")?,
                "v" => value = Some(member.value()?),
                _ => drop(member.value()?),
            }
            Ok(())
        })?;
        let missing = |what: &str| BadMessage::malformed(format!("column `{column}` without `{what}`"));
        Ok(Wire { code: code.ok_or_else(|| missing("t"))?, flags, value: value.ok_or_else(|| missing("v"))? })
    }

    fn datum(self, column: &Column, zone_seconds: i32) -> Result<Datum, BadMessage> {
        let Some((form, carries)) = form(self.code, &column.sql_type) else {
            return Err(wire::does_not_fit(&format!("a value of the unknown type code {}", self.code), column));
        };
        if self.value == Value::Null {
            return wire::null(column);
        }
        if !carries {
            return Err(wire::does_not_fit(&format!("a value of type code {}", self.code), column));
        }
        match (form, self.value) {
            (Form::Base64, Value::Text(text)) => wire::from_base64(&text, column),
            (Form::String, Value::Text(text)) if self.flags & BINARY_FLAG != 0 => {
                let bytes = wire::go_unquote(&text);
                let unquoted =
                    || BadMessage::malformed(format!("column `{}` is not quoted as Go quotes bytes", column.name));
                wire::from_bytes(bytes.ok_or_else(unquoted)?, column)
            }
            (Form::Number, Value::Number(text)) => wire::from_text(text, column, zone_seconds),
            (Form::Text | Form::String, Value::Text(text)) => wire::from_text(&text, column, zone_seconds),
            (_, value) => {
                let found = match value {
                    Value::Number(_) => "a number",
                    Value::Text(_) => "a text",
                    _ => "neither number nor text",
                };
                Err(BadMessage::malformed(format!("column `{}` of type code {} is {found}", column.name, self.code)))
            }
        }
    }
}

/// How values of a type code are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Number,
    Text,
    /// Bytes are quoted as Go does, text is plain.
    String,
    Base64,
}

/// The written form of a type code and whether its values are values of that type; `None`: no code that can be read.
///
/// Integers may be of another size and texts of another family than the table says: the values tell whether they fit.
fn form(code: u64, sql_type: &SqlType) -> Option<(Form, bool)> {
    Some(match code {
        1 | 2 | 3 | 8 | 9 => (Form::Number, matches!(sql_type, SqlType::Int { .. } | SqlType::Bool)),
        4 => (Form::Number, *sql_type == SqlType::Float),
        5 => (Form::Number, *sql_type == SqlType::Double),
        // The type of a bare NULL has no other value.
        6 => (Form::Text, false),
        7 => (Form::Text, matches!(sql_type, SqlType::Timestamp(_))),
        10 | 14 => (Form::Text, *sql_type == SqlType::Date),
        11 => (Form::Text, matches!(sql_type, SqlType::Time(_))),
        12 => (Form::Text, matches!(sql_type, SqlType::Datetime(_))),
        13 => (Form::Number, *sql_type == SqlType::Year),
        15 | 253 | 254 => (Form::String, is_string(sql_type)),
        16 => (Form::Number, matches!(sql_type, SqlType::Bit(_))),
        245 => (Form::Text, *sql_type == SqlType::Json),
        246 => (Form::Text, matches!(sql_type, SqlType::Decimal { .. })),
        247 => (Form::Number, matches!(sql_type, SqlType::Enum(_))),
        248 => (Form::Number, matches!(sql_type, SqlType::Set(_))),
        249..=252 => (Form::Base64, is_string(sql_type)),
        _ => return None,
    })
}

fn is_string(sql_type: &SqlType) -> bool {
    let is_text = matches!(sql_type, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_));
    is_text || matches!(sql_type, SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_))
}
