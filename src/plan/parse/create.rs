//! CREATE: secrets and views; connections, sources and tables have files of their own.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::parse::{columns, connection, source};
use crate::plan::statement::{CreateView, Name, OptionValue, SecretFrom, Statement};
use crate::plan::{PlanError, PlanErrorKind};

/// The options of a view's `WITH (…)`.
const VIEW_OPTIONS: &[&str] = &["time_zone", "wait"];

pub(super) fn create(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("CREATE")?;
    if cursor.words(&["OR", "REPLACE"]) {
        return create_view(cursor, true).map(Statement::CreateView);
    }
    match cursor.peek_word().map(str::to_ascii_uppercase).as_deref() {
        Some("SECRET") => secret(cursor),
        Some("CONNECTION") => connection::connection(cursor),
        Some("SOURCE") => source::source(cursor),
        Some("TABLE") => columns::table(cursor),
        Some("VIEW" | "MATERIALIZED") => create_view(cursor, false).map(Statement::CreateView),
        Some(word @ ("INDEX" | "UNIQUE")) => {
            let message = format!("CREATE {word} is not supported: no index is needed to read a view");
            Err(cursor.refuse(message, "add indexes to the wide table in the target; they are left alone"))
        }
        Some("SINK") => {
            Err(cursor.refuse("CREATE SINK is not supported", "CREATE MATERIALIZED VIEW … INTO names the wide table"))
        }
        Some("DATABASE" | "SCHEMA") => {
            let hint = "upstream tables are `connection.database.table`; views and local tables have one name";
            Err(cursor.refuse("databases cannot be created", hint))
        }
        _ => Err(cursor.expected(&[
            "SECRET",
            "CONNECTION",
            "SOURCE",
            "TABLE",
            "VIEW",
            "MATERIALIZED VIEW",
            "OR REPLACE",
        ])),
    }
}

pub(super) const IF_NOT_EXISTS: &[&str] = &["IF", "NOT", "EXISTS"];

fn secret(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("SECRET")?;
    let if_not_exists = cursor.condition(IF_NOT_EXISTS)?;
    let name = cursor.local_name("a secret's name")?;
    let from = if cursor.word("AS") {
        return secret_itself(cursor, name, if_not_exists);
    } else if cursor.word("FROM") {
        match cursor.expect_one_of(&["ENV", "FILE"])? {
            "ENV" => SecretFrom::Env(cursor.text("the name of an environment variable")?),
            _ => SecretFrom::File(cursor.text("a path")?),
        }
    } else {
        return Err(cursor.expected(&["FROM ENV", "FROM FILE", "AS"]));
    };
    cursor.expect_end(&[])?;
    Ok(Statement::CreateSecret { name, if_not_exists, from })
}

/// What is wrong here may be a password without its quotes: no error repeats it.
fn secret_itself(cursor: &mut Cursor, name: Name, if_not_exists: bool) -> Result<Statement, PlanError> {
    let text = if cursor.next_is_text() { Some(cursor.text("the secret")?) } else { None };
    match text {
        Some(text) if cursor.at_end() => {
            Ok(Statement::CreateSecret { name, if_not_exists, from: SecretFrom::As(text) })
        }
        _ => {
            let message = "expected the secret as one text in single quotes, and nothing after it";
            Err(error(PlanErrorKind::Syntax, message, cursor.at()))
        }
    }
}

/// From `[MATERIALIZED] VIEW` on.
pub(super) fn create_view(cursor: &mut Cursor, or_replace: bool) -> Result<CreateView, PlanError> {
    let materialized = cursor.word("MATERIALIZED");
    if !cursor.word("VIEW") {
        let wanted: &[&str] = if materialized { &["VIEW"] } else { &["VIEW", "MATERIALIZED VIEW"] };
        return Err(cursor.expected(wanted));
    }
    let exists_at = cursor.at();
    let if_not_exists = cursor.condition(IF_NOT_EXISTS)?;
    if or_replace && if_not_exists {
        let message = "OR REPLACE and IF NOT EXISTS exclude each other";
        return Err(error(PlanErrorKind::Syntax, message, exists_at));
    }
    let name = cursor.local_name("a view's name")?;
    let clauses = view_clauses(cursor, materialized)?;
    let (rest, query_at) = cursor.rest();
    let query = view_query(rest).map_err(|e| PlanError { position: e.position.map(|at| query_at + at), ..e })?;
    Ok(CreateView {
        name,
        materialized,
        if_not_exists,
        or_replace,
        key: clauses.key,
        comment: clauses.comment,
        into: clauses.into,
        options: clauses.options,
        query,
        query_text: rest.to_string(),
        query_at,
    })
}

/// A cursor of its own, so that the query's spans count from its own beginning, as they will when it is planned again.
fn view_query(text: &str) -> Result<Box<sqlparser::ast::Query>, PlanError> {
    let mut cursor = Cursor::new(text)?;
    if !["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.next_is(word)) && !cursor.opens_parenthesis() {
        return Err(cursor.expected(&["SELECT", "WITH", "VALUES"]));
    }
    cursor.rest_as(Parser::parse_query)
}

#[derive(Default)]
struct ViewClauses {
    key: Option<Vec<String>>,
    comment: Option<String>,
    into: Option<Name>,
    options: Vec<(String, OptionValue)>,
}

/// What stands between a view's name and its query, up to and with `AS`.
fn view_clauses(cursor: &mut Cursor, materialized: bool) -> Result<ViewClauses, PlanError> {
    let mut clauses = ViewClauses::default();
    if cursor.opens_parenthesis() {
        clauses.key = Some(primary_key_clause(cursor)?);
    }
    let mut left = vec!["COMMENT", "INTO", "WITH", "AS"];
    loop {
        let at = cursor.at();
        let clause = cursor.expect_one_of(&left)?;
        if !materialized && clause != "AS" && clause != "COMMENT" {
            let message = format!("a plain view has no {clause} clause: it is not kept anywhere");
            let mut refused = error(PlanErrorKind::NotSupported, message, at);
            refused.hint = Some("use CREATE MATERIALIZED VIEW".to_string());
            return Err(refused);
        }
        match clause {
            "COMMENT" => clauses.comment = Some(cursor.text("a comment")?),
            "INTO" => {
                clauses.into = Some(into(cursor)?);
                if cursor.words(&["EXISTING", "ROWS"]) {
                    cursor.expect_word("RECONCILE")?;
                    let value = OptionValue::Text("reconcile".to_string());
                    clauses.options.push(("existing_rows".to_string(), value));
                }
            }
            "WITH" => clauses.options.extend(cursor.list(view_option)?),
            _ => return Ok(clauses),
        }
        left.retain(|word| *word != clause);
    }
}

fn into(cursor: &mut Cursor) -> Result<Name, PlanError> {
    let name = cursor.name("a wide table as connection.database.table")?;
    if name.parts.len() < 2 {
        let message = format!("expected a wide table as connection.database.table, found `{name}`");
        let mut error = error(PlanErrorKind::Syntax, message, name.at);
        error.hint = Some("a table in a SQLite file is connection.table".to_string());
        return Err(error);
    }
    Ok(name)
}

/// `(PRIMARY KEY (a, b))`.
fn primary_key_clause(cursor: &mut Cursor) -> Result<Vec<String>, PlanError> {
    cursor.expect_symbol(&Token::LParen)?;
    if !cursor.next_is("PRIMARY") {
        let mut error = cursor.expected(&["PRIMARY KEY"]);
        error.hint.get_or_insert_with(|| "columns are named in the query: SELECT … AS name".to_string());
        return Err(error);
    }
    cursor.expect_words(&["PRIMARY", "KEY"])?;
    let key = key_columns(cursor)?;
    cursor.expect_symbol(&Token::RParen)?;
    Ok(key)
}

/// `(a, b)`, none twice.
pub(super) fn key_columns(cursor: &mut Cursor) -> Result<Vec<String>, PlanError> {
    let mut seen: Vec<String> = vec![];
    cursor.list(|c| {
        let at = c.at();
        let column = c.identifier("a column's name")?;
        if seen.iter().any(|s| s.eq_ignore_ascii_case(&column)) {
            let message = format!("column `{column}` is in the primary key twice");
            return Err(error(PlanErrorKind::InvalidValue, message, at));
        }
        seen.push(column.clone());
        Ok(column)
    })
}

/// `time_zone = '…'`; a bare name is `name = true`.
fn view_option(cursor: &mut Cursor) -> Result<(String, OptionValue), PlanError> {
    let mut name = cursor.expected(VIEW_OPTIONS);
    let Some(option) = VIEW_OPTIONS.iter().find(|option| cursor.word(option)) else {
        if let Some(found) = cursor.peek_word() {
            name.message = format!("unknown option `{found}` of a view; the options are {}", VIEW_OPTIONS.join(", "));
        }
        return Err(name);
    };
    let value = match *option {
        "time_zone" => {
            cursor.expect_symbol(&Token::Eq)?;
            OptionValue::Text(cursor.text("a time zone")?)
        }
        _ if cursor.symbol(&Token::Eq) => OptionValue::Text(cursor.expect_one_of(&["true", "false"])?.to_string()),
        _ => OptionValue::Text("true".to_string()),
    };
    Ok((option.to_string(), value))
}
