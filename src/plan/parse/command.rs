//! Statements about objects and sessions: ALTER, DROP, SHOW, SUBSCRIBE, KILL, SET, transactions.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::catalog::names::nearest;
use crate::plan::PlanError;
use crate::plan::parse::cursor::Cursor;
use crate::plan::parse::source::followed_name;
use crate::plan::statement::{DropTarget, Name, ObjectKind, Show, SourceChange, Statement, Upstream};

pub(super) fn drop(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("DROP")?;
    let kind = object_kind(cursor)?;
    let if_exists = cursor.condition(&["IF", "EXISTS"])?;
    let name = object_name(cursor, kind)?;
    if cursor.next_is_symbol(&Token::Comma) {
        return Err(cursor.refuse("DROP takes one name", "write one DROP for each"));
    }
    let (mut cascade, mut target) = (false, DropTarget::Keep);
    let mut left = vec!["CASCADE", "RESTRICT"];
    if kind == ObjectKind::MaterializedView {
        left.extend(["KEEP TARGET", "DROP TARGET"]);
    }
    while let Some(clause) = left.iter().copied().find(|clause| cursor.words(&split(clause))) {
        match clause {
            "CASCADE" => cascade = true,
            "DROP TARGET" => target = DropTarget::Drop,
            _ => {}
        }
        left.retain(|word| word.ends_with("TARGET") != clause.ends_with("TARGET"));
    }
    cursor.expect_end(&left)?;
    Ok(Statement::Drop { kind, name, if_exists, cascade, target })
}

fn split(words: &str) -> Vec<&str> {
    words.split(' ').collect()
}

fn object_kind(cursor: &mut Cursor) -> Result<ObjectKind, PlanError> {
    if let Some(kind) = ObjectKind::ALL.into_iter().find(|kind| cursor.words(kind.words())) {
        return Ok(kind);
    }
    if cursor.word("MATERIALIZED") {
        return Err(cursor.expected(&["VIEW"]));
    }
    let words = ObjectKind::ALL.map(|kind| kind.words().join(" "));
    Err(cursor.expected(&words.each_ref().map(String::as_str)))
}

fn object_name(cursor: &mut Cursor, kind: ObjectKind) -> Result<Name, PlanError> {
    let what = format!("the name of a {kind}");
    if kind == ObjectKind::Table { cursor.name(&what) } else { cursor.local_name(&what) }
}

pub(super) fn validate(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_words(&["VALIDATE", "CONNECTION"])?;
    let name = cursor.local_name("a connection's name")?;
    cursor.expect_end(&[])?;
    Ok(Statement::ValidateConnection { name })
}

pub(super) fn refresh(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("REFRESH")?;
    if cursor.next_is("MATERIALIZED") {
        let hint = "REFRESH SOURCE reads a source again that has no changelog";
        return Err(cursor.refuse("a materialized view follows its sources by itself", hint));
    }
    cursor.expect_word("SOURCE")?;
    let name = cursor.local_name("a source's name")?;
    cursor.expect_end(&[])?;
    Ok(Statement::RefreshSource { name })
}

/// `REPLAY QUARANTINE OF source [WHERE …]`.
pub(super) fn replay(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_words(&["REPLAY", "QUARANTINE", "OF"])?;
    let source = cursor.local_name("a source's name")?;
    let predicate = cursor.word("WHERE").then(|| cursor.rest_as(Parser::parse_expr)).transpose()?;
    cursor.expect_end(&["WHERE"])?;
    Ok(Statement::ReplayQuarantine { source, predicate })
}

/// `ALTER SOURCE name RESUME | ADD PARTITIONS [ALLOW REORDERING]`.
pub(super) fn alter(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    if !cursor.words(&["ALTER", "SOURCE"]) {
        let hint =
            "CREATE OR REPLACE MATERIALIZED VIEW changes a view; ALTER SOURCE lets a source go on that has stopped";
        return Err(cursor.refuse("ALTER is supported of a SOURCE only", hint));
    }
    let name = cursor.local_name("a source's name")?;
    let change = if cursor.word("RESUME") {
        SourceChange::Resume
    } else if cursor.words(&["ADD", "PARTITIONS"]) {
        SourceChange::AddPartitions { allow_reordering: cursor.words(&["ALLOW", "REORDERING"]) }
    } else if cursor.next_is("ADD") || cursor.next_is("DROP") {
        let hint = "DROP and CREATE SOURCE change them; ADD PARTITIONS reads those that its topics got";
        return Err(cursor.refuse("the tables of a source cannot be changed yet", hint));
    } else {
        return Err(cursor.expected(&["RESUME", "ADD PARTITIONS"]));
    };
    let reads_added = change == SourceChange::AddPartitions { allow_reordering: false };
    cursor.expect_end(if reads_added { &["ALLOW REORDERING"] } else { &[] })?;
    Ok(Statement::AlterSource { name, change })
}

const SHOW: &[&str] = &[
    "SECRETS",
    "CONNECTIONS",
    "SOURCES",
    "DATABASES",
    "TABLES",
    "VIEWS",
    "MATERIALIZED VIEWS",
    "JOBS",
    "CREATE",
    "COLUMNS",
    "TARGET DDL",
];

pub(super) fn show(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("SHOW")?;
    let Some(what) = SHOW.iter().find(|what| cursor.words(&split(what))) else {
        return setting(cursor).map(|name| Statement::Show(Show::Setting(name)));
    };
    let show = match *what {
        "SECRETS" => Show::Secrets,
        "CONNECTIONS" => Show::Connections,
        "SOURCES" => Show::Sources,
        "DATABASES" => {
            cursor.expect_word("FROM")?;
            Show::Upstream { connection: connection(cursor)?, what: Upstream::Databases }
        }
        "TABLES" if cursor.word("FROM") => {
            let connection = connection(cursor)?;
            let like = cursor.word("LIKE").then(|| cursor.text("a pattern")).transpose()?;
            cursor.expect_end(if like.is_none() { &["LIKE"] } else { &[] })?;
            Show::Upstream { connection, what: Upstream::Tables { like } }
        }
        "TABLES" => Show::Tables,
        "VIEWS" => Show::Views,
        "MATERIALIZED VIEWS" => Show::MaterializedViews,
        "JOBS" => Show::Jobs,
        "CREATE" => {
            let kind = object_kind(cursor)?;
            Show::Create { kind, name: object_name(cursor, kind)? }
        }
        "COLUMNS" => {
            cursor.expect_word("FROM")?;
            columns(cursor)?
        }
        _ => {
            cursor.expect_word("FOR")?;
            Show::TargetDdl { name: cursor.local_name("a view's name")? }
        }
    };
    cursor.expect_end(&[])?;
    Ok(Statement::Show(show))
}

/// `[CONNECTION] name`: the word may also be the name.
fn connection(cursor: &mut Cursor) -> Result<Name, PlanError> {
    const WHAT: &str = "a connection's name";
    let name = cursor.local_name(WHAT)?;
    if is_connection(&name) && !cursor.at_end() { cursor.local_name(WHAT) } else { Ok(name) }
}

fn is_connection(name: &Name) -> bool {
    matches!(name.parts.as_slice(), [word] if word.eq_ignore_ascii_case("CONNECTION"))
}

/// `t`, or `CONNECTION c TABLE database.t`.
fn columns(cursor: &mut Cursor) -> Result<Show, PlanError> {
    let name = cursor.name("a table or view")?;
    if !is_connection(&name) || cursor.at_end() {
        return Ok(Show::Columns { name });
    }
    let connection = cursor.local_name("a connection's name")?;
    cursor.expect_word("TABLE")?;
    let table = followed_name(cursor, 2, "a table as database.table")?;
    Ok(Show::Upstream { connection, what: Upstream::Columns { table } })
}

/// The name of a setting, in any of the forms that clients use.
fn setting(cursor: &mut Cursor) -> Result<String, PlanError> {
    for (words, name) in SPELT_OUT {
        if cursor.words(&split(words)) {
            return Ok(name.to_string());
        }
    }
    let near = cursor.peek_word().and_then(|found| nearest(found, SHOW.iter().copied()));
    if near.is_some() || cursor.at_end() || cursor.next_is("MATERIALIZED") || cursor.next_is("TARGET") {
        return Err(cursor.expected(SHOW));
    }
    let name = cursor.name("a setting")?;
    cursor.expect_end(&[])?;
    Ok(name.parts.join("."))
}

const SPELT_OUT: &[(&str, &str)] = &[
    ("TIME ZONE", "timezone"),
    ("TRANSACTION ISOLATION LEVEL", "transaction_isolation"),
    ("SESSION AUTHORIZATION", "session_authorization"),
];

pub(super) fn describe(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_one_of(&["DESCRIBE", "DESC"])?;
    let name = cursor.name("a table or view")?;
    cursor.expect_end(&[])?;
    Ok(Statement::Show(Show::Columns { name }))
}

pub(super) fn subscribe(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("SUBSCRIBE")?;
    cursor.word("TO");
    let name = cursor.name("a table or view")?;
    let mut snapshot = true;
    if cursor.word("WITH") {
        cursor.list(|c| {
            c.expect_word("snapshot")?;
            snapshot = !c.symbol(&Token::Eq) || c.expect_one_of(&["true", "false"])? == "true";
            Ok(())
        })?;
        cursor.expect_end(&[])?;
    }
    cursor.expect_end(&["WITH"])?;
    Ok(Statement::Subscribe { name, snapshot })
}

pub(super) fn kill(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_words(&["KILL", "JOB"])?;
    let job = cursor.number("a job's number")?;
    cursor.expect_end(&[])?;
    Ok(Statement::KillJob { job })
}

/// `SET [SESSION | LOCAL | GLOBAL] name = | TO value`, and the forms with a name of several words.
pub(super) fn set(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("SET")?;
    if cursor.words(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) || cursor.word("TRANSACTION") {
        let (value, _) = cursor.rest();
        return Ok(Statement::Set { name: "transaction".to_string(), value: value.to_string() });
    }
    let _scope = ["SESSION", "LOCAL", "GLOBAL"].iter().any(|scope| cursor.word(scope));
    let name = match cursor.words(&["TIME", "ZONE"]) {
        true => "timezone".to_string(),
        false if cursor.word("NAMES") => "names".to_string(),
        false => {
            let _of_mysql = cursor.symbol(&Token::AtAt);
            let name = cursor.name("a setting's name")?;
            if !cursor.symbol(&Token::Eq) && !cursor.symbol(&Token::Assignment) && !cursor.word("TO") {
                return Err(cursor.expected(&["=", "TO"]));
            }
            name.parts.join(".")
        }
    };
    if cursor.at_end() {
        return Err(cursor.expected_what("a value"));
    }
    let value = if cursor.next_is_text() {
        let value = cursor.text("a value")?;
        cursor.expect_end(&[])?;
        value
    } else {
        cursor.rest().0.to_string()
    };
    Ok(Statement::Set { name, value })
}

/// Words after BEGIN that change nothing: every block reads one consistent timestamp.
const MODES: &[&str] = &[
    "ISOLATION",
    "LEVEL",
    "SERIALIZABLE",
    "REPEATABLE",
    "READ",
    "COMMITTED",
    "UNCOMMITTED",
    "ONLY",
    "WRITE",
    "NOT",
    "DEFERRABLE",
    "WITH",
    "CONSISTENT",
    "SNAPSHOT",
];

pub(super) fn transaction(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let word = cursor.expect_one_of(&["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"])?;
    if word == "START" {
        cursor.expect_word("TRANSACTION")?;
    } else {
        let _optional = cursor.word("TRANSACTION") || cursor.word("WORK");
    }
    let statement = match word {
        "BEGIN" | "START" => {
            while cursor.symbol(&Token::Comma) || MODES.iter().any(|mode| cursor.word(mode)) {}
            Statement::Begin
        }
        "COMMIT" | "END" => Statement::Commit,
        _ if cursor.next_is("TO") => {
            return Err(cursor.refuse("savepoints are not supported", "ROLLBACK ends the whole block"));
        }
        _ => Statement::Rollback,
    };
    cursor.expect_end(&[])?;
    Ok(statement)
}
