//! Values as feeds write them, turned into the values of a table's columns.
//!
//! A value that is not one of its column's type is refused, never rounded or cut to fit: the table changed upstream, or
//! the message is wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::claim::CLAIM_CHECK;
use super::{BadMessage, Op, Row, RowChange, Said, TableOf, text, tso_ms};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::row::types::SqlType;

/// A change of TiCDC's at its commitTs.
pub fn change(table: usize, op: Op, commit: u64) -> Said {
    let committed_ms = Some(tso_ms(commit));
    Said::Row(RowChange { table, op, commit: Some(commit), transaction: None, committed_ms })
}

/// The value of a column, from text that holds it as MySQL prints it.
///
/// ENUM and SET are numbers here, BIT is a decimal number, and a TIMESTAMP is on a clock that many
/// seconds east of UTC.
pub fn from_text(text: &str, column: &Column, zone_seconds: i32) -> Result<Datum, BadMessage> {
    let number = || text.parse::<u64>().ok();
    let value = match &column.sql_type {
        SqlType::Enum(labels) => number().and_then(|n| text::enum_label(n, labels)),
        SqlType::Set(labels) => number().and_then(|bits| text::set_labels(bits, labels)),
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => None,
        sql_type => text::datum(text, sql_type, zone_seconds),
    };
    value.ok_or_else(|| does_not_fit(&text::shown(text), column))
}

/// NULL; for a column that was NOT NULL when it was followed, the table changed.
pub fn null(column: &Column) -> Result<Datum, BadMessage> {
    if column.nullable { Ok(Datum::Null) } else { Err(does_not_fit("NULL", column)) }
}

/// The value of a column, from its bytes.
pub fn from_bytes(mut bytes: Vec<u8>, column: &Column) -> Result<Datum, BadMessage> {
    match &column.sql_type {
        SqlType::Binary(length) => {
            // BINARY(n) is as long as it is declared; some feeds cut the zeros off.
            bytes.resize(bytes.len().max(*length as usize), 0);
            Ok(Datum::Bytes(bytes))
        }
        SqlType::Varbinary(_) | SqlType::Blob(_) => Ok(Datum::Bytes(bytes)),
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) | SqlType::Json => {
            String::from_utf8(bytes).map(Datum::Text).map_err(|_| does_not_fit("a text that is no UTF-8", column))
        }
        _ => Err(does_not_fit("bytes", column)),
    }
}

pub fn from_base64(text: &str, column: &Column) -> Result<Datum, BadMessage> {
    let bytes = STANDARD.decode(text);
    from_bytes(bytes.map_err(|_| BadMessage::malformed(format!("column `{}` is no base64", column.name)))?, column)
}

pub fn does_not_fit(value: &str, column: &Column) -> BadMessage {
    let reason = format!("{value} is no value of column `{}`, which is {}", column.name, briefly(&column.sql_type));
    BadMessage { code: "VALUE_UNREADABLE", ..schema_changed(reason) }
}

/// A type in a fault: an ENUM may have thousands of labels.
pub fn briefly(sql_type: &SqlType) -> String {
    const CHARS_MAX: usize = 100;
    let text = sql_type.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A message written for another form of the table than the one that is followed.
pub fn schema_changed(reason: String) -> BadMessage {
    let remedy = "create the source again with the table as it is upstream now";
    BadMessage { code: "SCHEMA_CHANGED", reason, remedy: remedy.into() }
}

/// Why a message has less than its row, if the row was too large for Kafka: the message has only the key, and maybe
/// names where the row lies.
pub fn too_large(table: &str, only_handle_key: bool, location: Option<&str>) -> Option<BadMessage> {
    let (code, reason, remedy) = match location {
        Some(location) => {
            let location = text::shown(location);
            (CLAIM_CHECK, format!("a row of {table} was too large, and lies in {location}"), CLAIMED_MESSAGES)
        }
        None if only_handle_key => {
            let reason = format!("a row of {table} was too large, and the message has only its key");
            ("HANDLE_KEY_ONLY", reason, LARGE_MESSAGES)
        }
        None => return None,
    };
    Some(BadMessage { code, reason, remedy: remedy.into() })
}

/// What to do where rows lie in files, and nobody has said where those are.
pub const CLAIMED_MESSAGES: &str = "create the source anew with CLAIM CHECK FROM CONNECTION name: a FILES connection \
    whose PATH is the changefeed's claim-check-storage-uri";

/// What to do where rows are too large for their messages.
pub const LARGE_MESSAGES: &str = "set `large-message-handle-option = \"none\"` under \
    [sink.kafka-config.large-message-handle] of the changefeed, and its max-message-bytes (with the topic's \
    max.message.bytes) above the largest row";

/// A row whose checksum TiCDC itself found wrong.
pub fn corrupted(table: &str) -> BadMessage {
    BadMessage {
        code: "CHECKSUM",
        reason: format!("TiCDC marks a row of {table} as corrupted"),
        remedy: "compare the row with the upstream table, then create the source again".into(),
    }
}

/// The values that a message has of a row.
#[derive(Debug)]
pub struct Image {
    values: Vec<Option<Datum>>,
}

impl Image {
    pub fn new(table: &TableOf) -> Image {
        Image { values: vec![None; table.followed.schema.columns.len()] }
    }

    pub fn set(&mut self, column: usize, value: Datum) -> Result<(), BadMessage> {
        match self.values[column].replace(value) {
            None => Ok(()),
            Some(_) => Err(BadMessage::malformed("a column stands twice in a row")),
        }
    }

    /// Values that are missing are those of the other row.
    pub fn filled_from(self, other: &Row) -> Row {
        self.values.into_iter().zip(other).map(|(own, other)| own.unwrap_or_else(|| other.clone())).collect()
    }

    /// The row of a DELETE. One too large for its message is still found by its key.
    pub fn deleted(self, table: &TableOf, too_large: Option<BadMessage>) -> Result<Op, BadMessage> {
        self.keyed(table).map(Op::Delete).map_err(|e| too_large.filter(|_| e.code == ROW_INCOMPLETE).unwrap_or(e))
    }

    /// A row with every column.
    pub fn complete(self, table: &TableOf) -> Result<Row, BadMessage> {
        self.row(table, |_| false)
    }

    /// A row that has the key's columns, if rows have a key; others may be missing and are NULL then.
    fn keyed(self, table: &TableOf) -> Result<Row, BadMessage> {
        let key = table.followed.schema.key.as_deref();
        self.row(table, |column| key.is_some_and(|key| !key.contains(&column)))
    }

    fn row(self, table: &TableOf, may_be_missing: impl Fn(usize) -> bool) -> Result<Row, BadMessage> {
        let values = self.values.into_iter().enumerate().map(|(i, value)| match value {
            Some(value) => Ok(value),
            None if may_be_missing(i) => Ok(Datum::Null),
            None => Err(incomplete(table, i)),
        });
        values.collect()
    }
}

const ROW_INCOMPLETE: &str = "ROW_INCOMPLETE";

fn incomplete(table: &TableOf, column: usize) -> BadMessage {
    let table = &table.followed;
    let column = &table.schema.columns[column].name;
    BadMessage {
        code: ROW_INCOMPLETE,
        reason: format!("a row of {}.{} has no value of column `{column}`", table.database, table.name),
        remedy:
            "have the feed send the column (`column-selectors` of the changefeed), or create the source again with \
            the table as it is upstream now"
                .into(),
    }
}

/// The bytes of a text that Go's `strconv.Quote` made, without the outer quotes; `None`: it made no such text.
pub fn go_unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        // A quote or a line's end must not stand bare.
        let escape = rest[at..].strip_prefix('\\')?;
        let kind = escape.chars().next()?;
        let digits = |from: usize, count: usize, radix: u32| {
            let digits = escape.get(from..from + count)?;
            digits.bytes().all(|b| (b as char).is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
        };
        let mut plain = |byte: u8| {
            bytes.push(byte);
            1
        };
        let length = match kind {
            'a' => plain(7),
            'b' => plain(8),
            'f' => plain(12),
            'n' => plain(b'\n'),
            'r' => plain(b'\r'),
            't' => plain(b'\t'),
            'v' => plain(11),
            '\\' | '"' => plain(kind as u8),
            'x' => plain(digits(1, 2, 16)? as u8) + 2,
            '0'..='7' => plain(u8::try_from(digits(0, 3, 8)?).ok()?) + 2,
            'u' | 'U' => {
                let count = if kind == 'u' { 4 } else { 8 };
                let character = char::from_u32(digits(1, count, 16)?)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                1 + count
            }
            _ => return None,
        };
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_quoting_is_undone() {
        assert_eq!(
            go_unquote(r#"\x89PNG\r\n\x1a\n\"\\\a\b\f\t\v\u00a0\U0001f600\0018é"#).as_deref(),
            Some(b"\x89PNG\r\n\x1a\n\"\\\x07\x08\x0c\t\x0b\xc2\xa0\xf0\x9f\x98\x80\x018\xc3\xa9".as_slice())
        );
        for bad in ["\\", "\\x1", "\\x+1", "\\q", "\"", "a\nb", "\\400", "\\ud800", "\\U00110000", "\\'", "\\é"] {
            assert_eq!(go_unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_value_is_never_made_to_fit() {
        let column = |sql_type| Column::new("c", sql_type, true);
        let read = |text: &str, sql_type| from_text(text, &column(sql_type), 0).map_err(|e| e.code);
        let unreadable = Err("VALUE_UNREADABLE");
        assert_eq!(read("127", SqlType::Int { bytes: 1, unsigned: false }), Ok(Datum::Int(127)));
        assert_eq!(read("128", SqlType::Int { bytes: 1, unsigned: false }), unreadable);
        assert_eq!(read("-8388609", SqlType::Int { bytes: 3, unsigned: false }), unreadable);
        assert_eq!(read("16777216", SqlType::Int { bytes: 3, unsigned: true }), unreadable);
        assert_eq!(read("-1", SqlType::Int { bytes: 8, unsigned: true }), unreadable);
        assert_eq!(read("32", SqlType::Bit(5)), unreadable);
        assert_eq!(read("1900", SqlType::Year), unreadable);
        assert_eq!(read("1.005", SqlType::Decimal { precision: 5, scale: 2 }), unreadable);
        assert!(read("1.0000", SqlType::Decimal { precision: 5, scale: 2 }).is_ok());
        assert_eq!(read("NaN", SqlType::Double), unreadable);
        assert_eq!(read("1e39", SqlType::Float), unreadable);
        assert_eq!(read("x", SqlType::Blob(2)), unreadable);
        assert_eq!(read(&"9".repeat(1 << 20), SqlType::Decimal { precision: 65, scale: 0 }), unreadable);
    }
}
