//! What the server says: errors, notices, descriptions, tags.

use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::data::{FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus};

use crate::engine::error::EngineError;
use crate::row::schema::Column;
use crate::server::pgwire::types::{self, Format};
use crate::server::sqlstate::{self, SqlState};

/// Longer texts of an error or notice are cut.
const TEXT_BYTES_MAX: usize = 8_000;

/// What a client is told went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The connection ends with it.
    fatal: bool,
    pub code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// In characters of the query text, from 1.
    position: Option<usize>,
}

impl Failure {
    pub fn error(code: SqlState, message: impl Into<String>) -> Failure {
        Failure { fatal: false, code, message: message.into(), detail: None, hint: None, position: None }
    }

    pub fn fatal(code: SqlState, message: impl Into<String>) -> Failure {
        Failure { fatal: true, ..Failure::error(code, message) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// An error of the statement that begins at byte `at` of the query text.
    pub fn of_engine(error: EngineError, text: &str, at: usize) -> Failure {
        let position = error.position.map(|offset| {
            let end = text.floor_char_boundary(at + offset);
            text[..end].chars().count() + 1
        });
        let EngineError { kind, message, detail, hint, .. } = error;
        Failure { fatal: false, code: sqlstate::of(kind), message, detail, hint, position }
    }

    pub fn message(&self) -> Message {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let mut fields = fields(severity, self.code, &self.message);
        fields.extend(self.detail.as_ref().map(|detail| (b'D', clean(detail))));
        fields.extend(self.hint.as_ref().map(|hint| (b'H', clean(hint))));
        fields.extend(self.position.map(|position| (b'P', position.to_string())));
        Message::ErrorResponse(ErrorResponse::new(fields))
    }
}

pub fn notice(text: &str) -> Message {
    Message::NoticeResponse(NoticeResponse::new(fields("NOTICE", "00000", text)))
}

pub fn ready(status: u8) -> Message {
    let status = match status {
        b'I' => TransactionStatus::Idle,
        b'T' => TransactionStatus::Transaction,
        b'E' => TransactionStatus::Error,
        other => panic!("transaction status {other:?} of a session"),
    };
    Message::ReadyForQuery(ReadyForQuery::new(status))
}

pub fn complete(tag: impl Into<String>) -> Message {
    Message::CommandComplete(CommandComplete::new(tag.into()))
}

pub fn row_description(columns: &[Column], format: impl Fn(usize) -> Format) -> Message {
    let field = |(i, column): (usize, &Column)| {
        let pg_type = types::pg_type(&column.sql_type);
        let modifier = types::type_modifier(&column.sql_type);
        let size = types::type_size(&pg_type);
        FieldDescription::new(clean(&column.name), 0, 0, pg_type.oid(), size, modifier, format(i) as i16)
    };
    Message::RowDescription(RowDescription::new(columns.iter().enumerate().map(field).collect()))
}

fn fields(severity: &str, code: SqlState, text: &str) -> Vec<(u8, String)> {
    vec![(b'S', severity.into()), (b'V', severity.into()), (b'C', code.into()), (b'M', clean(text))]
}

/// A zero byte would end the field.
fn clean(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].replace('\0', "\u{fffd}")
}
