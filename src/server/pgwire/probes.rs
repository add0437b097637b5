//! What drivers and poolers ask when they connect, answered without the engine.
//!
//! PostgreSQL's own catalog is not served: a statement that reads it (psql's `\d` family, schema browsers) fails with a
//! sentence that names SHOW and DESCRIBE instead.

use crate::row::schema::Column;
use crate::row::types::SqlType;
use crate::server::pgwire::reply::Failure;
use crate::server::sqlstate;

/// The PostgreSQL version whose protocol and types are spoken; clients parse the number in front.
pub const SERVER_VERSION: &str = concat!("15.0 (Tidemill ", env!("CARGO_PKG_VERSION"), ")");

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One row of one text column.
    Value {
        column: &'static str,
        value: String,
    },
    /// The session's names, one a row: what the console completes.
    Names,
    Done(&'static str),
}

impl Answer {
    pub fn columns(&self) -> Vec<Column> {
        let text = |name: &str| vec![Column::new(name, SqlType::Text(4), true)];
        match self {
            Answer::Value { column, .. } => text(column),
            Answer::Names => text("name"),
            Answer::Done(_) => vec![],
        }
    }

    pub fn tag(&self, rows: usize) -> String {
        match self {
            Answer::Done(tag) => tag.to_string(),
            _ => format!("SELECT {rows}"),
        }
    }
}

/// The answer, if this whole text is a known probe.
pub fn answer(text: &str, user: &str) -> Option<Answer> {
    let value = |column, value: &str| Some(Answer::Value { column, value: value.to_string() });
    match normal(text).as_str() {
        "select version()" => value("version", &format!("PostgreSQL {SERVER_VERSION}")),
        "select current_schema()" | "select current_schema" => value("current_schema", "public"),
        "select current_database()" | "select current_catalog" => value("current_database", "tidemill"),
        "select current_user" | "select session_user" | "select user" => value("current_user", user),
        "show server_version" => value("server_version", SERVER_VERSION),
        "show server_version_num" => value("server_version_num", "150000"),
        "show server_encoding" => value("server_encoding", "UTF8"),
        "show client_encoding" => value("client_encoding", "UTF8"),
        "show standard_conforming_strings" => value("standard_conforming_strings", "on"),
        "show datestyle" => value("DateStyle", "ISO, MDY"),
        "show max_identifier_length" => value("max_identifier_length", "63"),
        "show transaction isolation level" | "show transaction_isolation" => {
            value("transaction_isolation", "repeatable read")
        }
        "show completions" => Some(Answer::Names),
        "discard all" => Some(Answer::Done("DISCARD ALL")),
        "reset all" => Some(Answer::Done("RESET")),
        "unlisten *" => Some(Answer::Done("UNLISTEN")),
        "close all" => Some(Answer::Done("CLOSE CURSOR ALL")),
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all" => Some(Answer::Done("RESET")),
        _ => None,
    }
}

/// A statement that is refused by name before it is parsed.
pub fn refusal(text: &str) -> Option<Failure> {
    let word = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next()?;
    word.eq_ignore_ascii_case("copy").then(|| {
        Failure::error(sqlstate::FEATURE_NOT_SUPPORTED, "COPY is not supported")
            .hint("write with INSERT INTO … VALUES, read with SELECT or SUBSCRIBE TO")
    })
}

/// The error to send in place of `failure`: a query of PostgreSQL's catalog fails for one reason.
pub fn explain(failure: Failure, text: &str) -> Failure {
    let text = text.to_ascii_lowercase();
    if !["pg_catalog.", "information_schema."].iter().any(|schema| text.contains(schema)) {
        return failure;
    }
    Failure::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "PostgreSQL's catalog (pg_catalog, information_schema) is not served",
    )
    .hint("use SHOW TABLES, SHOW MATERIALIZED VIEWS, SHOW SOURCES or DESCRIBE name")
}

/// Lower case, single spaces, without the catalog's name and the last semicolon.
fn normal(text: &str) -> String {
    let words: Vec<&str> = text.trim().trim_end_matches(';').split_whitespace().collect();
    words.join(" ").to_ascii_lowercase().replace("pg_catalog.", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_recognised_as_they_are_written() {
        let version = Answer::Value { column: "version", value: format!("PostgreSQL {SERVER_VERSION}") };
        assert_eq!(answer("SELECT  pg_catalog.version();", "u"), Some(version));
        assert_eq!(answer("select version(), 1", "u"), None);
        assert!(refusal(" copy t FROM stdin").is_some());
        assert!(refusal("copying").is_none());
    }
}
