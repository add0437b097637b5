//! One record of CSV (RFC 4180), its delimiter said by the source.
//!
//! A field without quotes that is empty or `\N` is NULL; `""` is the empty text.

use std::borrow::Cow;

use super::{Fields, no_value, value};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::sources::formats::{BadMessage, TableOf, text};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Csv {
    pub delimiter: char,
    /// Each file begins with the names of its columns.
    pub header: bool,
}

struct Field<'a> {
    text: Cow<'a, str>,
    quoted: bool,
}

/// The values of these columns, in their order.
pub fn record(text: &str, csv: Csv, columns: &[usize], table: &TableOf, zone: i32) -> Result<Fields, BadMessage> {
    let record = fields(text, csv.delimiter)?;
    if record.len() != columns.len() {
        let (found, wanted) = (record.len(), names(columns, table).join(", "));
        let reason = format!("the record's length is {found}, and {} columns are declared: {wanted}", columns.len());
        return Err(BadMessage::malformed(reason));
    }
    let mut values: Fields = vec![None; table.followed.schema.columns.len()];
    for (field, &at) in record.iter().zip(columns) {
        values[at] = Some(datum(field, &table.followed.schema.columns[at], zone)?);
    }
    Ok(values)
}

/// A file's first line names the columns as they are declared.
pub fn check_header(text: &str, csv: Csv, columns: &[usize], table: &TableOf) -> Result<(), BadMessage> {
    let header = fields(text, csv.delimiter)?;
    let wanted = names(columns, table);
    let same = |(field, name): (&Field<'_>, &&str)| field.text.trim().eq_ignore_ascii_case(name);
    if header.len() == wanted.len() && header.iter().zip(&wanted).all(same) {
        return Ok(());
    }
    let found: Vec<&str> = header.iter().map(|field| &*field.text).collect();
    Err(BadMessage {
        code: "HEADER_DIFFERS",
        reason: format!(
            "the file's first line names {}, and the columns are declared as {}",
            text::shown(&found.join(", ")),
            wanted.join(", ")
        ),
        remedy: "create the source with the columns in the file's order, or without HEADER where that line is a row"
            .into(),
    })
}

fn names<'a>(columns: &[usize], table: &'a TableOf) -> Vec<&'a str> {
    columns.iter().map(|&at| table.followed.schema.columns[at].name.as_str()).collect()
}

fn datum(field: &Field<'_>, column: &Column, zone: i32) -> Result<Datum, BadMessage> {
    let is_null = !field.quoted && (field.text.is_empty() || field.text == r"\N");
    match is_null {
        true if column.nullable => Ok(Datum::Null),
        // Nothing else can be meant.
        true if field.text.is_empty() && column.sql_type.is_text() => Ok(Datum::Text(String::new())),
        true => Err(no_value("NULL", column)),
        false => {
            value::datum(&field.text, &column.sql_type, zone).ok_or_else(|| no_value(&text::shown(&field.text), column))
        }
    }
}

fn fields(text: &str, delimiter: char) -> Result<Vec<Field<'_>>, BadMessage> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest, delimiter)?,
        };
        fields.push(field);
        match after.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => {
                let reason = format!("field {} goes on behind its closing quote", fields.len());
                return Err(BadMessage::malformed(reason));
            }
        }
    }
}

fn plain_field(rest: &str, delimiter: char) -> Result<(Field<'_>, &str), BadMessage> {
    let (field, after) = rest.split_at(rest.find(delimiter).unwrap_or(rest.len()));
    match field.find(['"', '\n', '\r']) {
        None => Ok((Field { text: Cow::Borrowed(field), quoted: false }, after)),
        Some(_) => Err(BadMessage::malformed(format!(
            "a quote or a line's end in the field {}, which is not quoted",
            text::shown(field)
        ))),
    }
}

/// What follows an opening quote; two quotes are one.
fn quoted_field(rest: &str) -> Result<(Field<'_>, &str), BadMessage> {
    let mut text = Cow::Borrowed("");
    let mut rest = rest;
    loop {
        let at = rest.find('"').ok_or_else(|| {
            let hint = "a record of a file is one line";
            BadMessage::malformed(format!("a quote is not closed ({hint})"))
        })?;
        let (part, after) = (&rest[..at], &rest[at + 1..]);
        match text.is_empty() {
            true => text = Cow::Borrowed(part),
            false => text.to_mut().push_str(part),
        }
        match after.strip_prefix('"') {
            Some(next) => {
                text.to_mut().push('"');
                rest = next;
            }
            None => return Ok((Field { text, quoted: true }, after)),
        }
    }
}
