//! Statements from SQL text: our own DDL, and sqlparser's queries inside it.
//!
//! Invariants:
//! - a keyword of ours is reserved nowhere: any word can be a name, quoted or not;
//! - what is not supported is refused by name; nothing is read and ignored, but for what clients send as a formality
//!   (isolation levels of BEGIN, names of SET);
//! - no error repeats the content of a string literal: it may be a password.

mod columns;
mod command;
mod connection;
mod create;
mod cursor;
mod query;
mod registry;
mod source;
mod ticdc;

use std::ops::Range;

use sqlparser::ast;

use crate::plan::dialect::TidemillDialect;
use crate::plan::statement::Statement;
use crate::plan::{PlanError, PlanErrorKind};
pub(in crate::plan) use columns::is_refused as is_refused_in_columns;
use cursor::Cursor;
pub(in crate::plan) use source::interval_text;

const DIALECT: TidemillDialect = TidemillDialect;

/// The statements of a script, each with its range in the text; empty ones and comments give none.
///
/// The position of an error counts from the beginning of `text`. Positions inside a statement (`Name::at`, the spans of
/// a query) count from the beginning of its range; the spans of a view's query from the beginning of its `query_text`.
pub fn parse(text: &str) -> Result<Vec<(Statement, Range<usize>)>, PlanError> {
    let mut statements = Vec::new();
    for range in cursor::split(text)? {
        let parsed = Cursor::new(&text[range.clone()]).and_then(|mut cursor| statement(&mut cursor));
        let parsed = parsed.map_err(|e| PlanError { position: e.position.map(|at| range.start + at), ..e })?;
        statements.push((parsed, range));
    }
    Ok(statements)
}

/// A bare query, such as the text that a view keeps of its own.
pub fn parse_query(text: &str) -> Result<Box<ast::Query>, PlanError> {
    Cursor::new(text)?.rest_as_query()
}

/// What a statement can begin with.
const BEGINNINGS: &[&str] = &[
    "CREATE",
    "ALTER",
    "DROP",
    "SELECT",
    "WITH",
    "VALUES",
    "INSERT",
    "UPDATE",
    "DELETE",
    "EXPLAIN",
    "SHOW",
    "DESCRIBE",
    "SUBSCRIBE",
    "VALIDATE",
    "REFRESH",
    "REPLAY",
    "KILL",
    "SET",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
];

fn statement(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let Some(word) = cursor.peek_word().map(str::to_ascii_uppercase) else {
        return query::select_or_refuse(cursor);
    };
    match word.as_str() {
        "CREATE" => create::create(cursor),
        "ALTER" => command::alter(cursor),
        "DROP" => command::drop(cursor),
        "VALIDATE" => command::validate(cursor),
        "REFRESH" => command::refresh(cursor),
        "REPLAY" => command::replay(cursor),
        "SHOW" => command::show(cursor),
        "DESCRIBE" | "DESC" => command::describe(cursor),
        "SUBSCRIBE" => command::subscribe(cursor),
        "KILL" => command::kill(cursor),
        "SET" => command::set(cursor),
        "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" => command::transaction(cursor),
        "SELECT" | "WITH" | "VALUES" => query::select(cursor),
        "INSERT" | "REPLACE" => query::insert(cursor),
        "UPDATE" => query::update(cursor),
        "DELETE" => query::delete(cursor),
        "EXPLAIN" => query::explain(cursor),
        "VERIFY" => Err(cursor.refuse("VERIFY is not supported yet", "run the view's query upstream and compare")),
        "TRUNCATE" => Err(cursor.refuse("TRUNCATE is not supported", "use DELETE FROM without WHERE")),
        "SAVEPOINT" | "RELEASE" => Err(cursor.refuse("savepoints are not supported", "ROLLBACK ends the whole block")),
        "COPY" => Err(cursor.refuse("COPY is not supported", "use INSERT with several rows of VALUES")),
        _ => Err(cursor.expected(BEGINNINGS)),
    }
    .map_err(|e| named(e, &word))
}

/// A word that is no statement reads better with the whole list left out when it is nearly one of them.
fn named(error: PlanError, word: &str) -> PlanError {
    let unknown = error.kind == PlanErrorKind::Syntax && error.position == Some(0);
    match error.hint {
        Some(_) if unknown => PlanError { message: format!("expected a statement, found `{word}`"), ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests;
