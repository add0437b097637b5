//! What a QUERY event says: a transaction's edge, or a statement that may change a followed table.
//!
//! Row-based replication still sends DDL as text. A small reader finds which tables a statement is about; whether an
//! ALTER leaves every column as it was is answered by sqlparser's tree, and what it cannot parse is taken as a change.

use sqlparser::ast::{AlterTable, AlterTableOperation, Statement};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Begin,
    Commit,
    Rollback,
    /// XA COMMIT or XA ROLLBACK of a transaction prepared before.
    XaEnd,
    /// Within a transaction and of no meaning for rows: SAVEPOINT, XA END.
    Mark,
    /// Tables that the statement is about, and what it does to each.
    Changes(Vec<Change>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub database: String,
    /// `None`: the whole database.
    pub table: Option<String>,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Columns or the table itself are not what they were.
    Schema,
    /// Every column and row stays as it was.
    Harmless,
    Truncate,
    /// Rows were changed by a statement instead of row events.
    Rows,
}

/// Reads a statement run with that default database.
pub fn read(sql: &str, default_database: &str) -> Query {
    let tokens = tokens(sql);
    let word = |i: usize| tokens.get(i).map_or("", |t| t.keyword.as_str());
    let reader = Reader { tokens: &tokens, default_database };
    match (word(0), word(1)) {
        ("BEGIN", _) | ("START", "TRANSACTION") | ("XA", "START" | "BEGIN") => Query::Begin,
        ("COMMIT", _) => Query::Commit,
        ("ROLLBACK", "TO") | ("SAVEPOINT", _) | ("RELEASE", _) | ("XA", "END" | "PREPARE") => Query::Mark,
        ("ROLLBACK", _) => Query::Rollback,
        ("XA", _) => Query::XaEnd,
        ("TRUNCATE", _) => Query::Changes(reader.names_after(if word(1) == "TABLE" { 2 } else { 1 }, What::Truncate)),
        ("DROP", "TABLE") => Query::Changes(reader.names_after(2, What::Schema)),
        ("RENAME", "TABLE" | "TABLES") => Query::Changes(reader.names_after(2, What::Schema)),
        ("CREATE", "TABLE") => Query::Changes(reader.first_name_after(2, What::Schema)),
        ("ALTER", "TABLE") => {
            let what = if alter_is_harmless(sql) { What::Harmless } else { What::Schema };
            // RENAME TO names a second table, which cannot be a followed one: those exist.
            Query::Changes(reader.first_name_after(2, what))
        }
        ("DROP", "DATABASE" | "SCHEMA") => Query::Changes(reader.database_after(2)),
        ("INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH", _) => {
            Query::Changes(reader.all_names(What::Rows))
        }
        // Views, indexes, routines, users, grants, ANALYZE: nothing of a table's columns or rows.
        _ => Query::Changes(Vec::new()),
    }
}

/// Adds columns at the end, indexes or constraints only.
fn alter_is_harmless(sql: &str) -> bool {
    let Ok(statements) = Parser::parse_sql(&MySqlDialect {}, sql) else { return false };
    let [Statement::AlterTable(AlterTable { operations, .. })] = &statements[..] else { return false };
    operations.iter().all(|operation| {
        matches!(
            operation,
            AlterTableOperation::AddColumn { column_position: None, .. }
                | AlterTableOperation::AddConstraint { .. }
                | AlterTableOperation::DropConstraint { .. }
                | AlterTableOperation::DropIndex { .. }
                | AlterTableOperation::DropForeignKey { .. }
                | AlterTableOperation::AutoIncrement { .. }
                | AlterTableOperation::Algorithm { .. }
                | AlterTableOperation::Lock { .. }
        )
    })
}

#[derive(Clone, Debug)]
struct Token {
    /// Upper case for a bare word; empty for quoted names and punctuation.
    keyword: String,
    /// The name that a word or quoted name stands for; empty for punctuation.
    name: String,
    punctuation: char,
}

struct Reader<'a> {
    tokens: &'a [Token],
    default_database: &'a str,
}

impl Reader<'_> {
    /// Every `name` or `database.name` from there on, which may be more than tables.
    fn names_after(&self, from: usize, what: What) -> Vec<Change> {
        let (mut changes, mut i) = (Vec::new(), from);
        while i < self.tokens.len() {
            if self.tokens[i].name.is_empty() {
                i += 1;
                continue;
            }
            let is_qualified = self.tokens.get(i + 1).is_some_and(|t| t.punctuation == '.')
                && self.tokens.get(i + 2).is_some_and(|t| !t.name.is_empty());
            let (database, table) = match is_qualified {
                true => (self.tokens[i].name.as_str(), self.tokens[i + 2].name.clone()),
                false => (self.default_database, self.tokens[i].name.clone()),
            };
            changes.push(Change { database: database.into(), table: Some(table), what });
            i += if is_qualified { 3 } else { 1 };
        }
        changes
    }

    fn all_names(&self, what: What) -> Vec<Change> {
        self.names_after(0, what)
    }

    fn first_name_after(&self, mut from: usize, what: What) -> Vec<Change> {
        while self.tokens.get(from).is_some_and(|t| matches!(t.keyword.as_str(), "IF" | "NOT" | "EXISTS")) {
            from += 1;
        }
        self.names_after(from, what).into_iter().take(1).collect()
    }

    fn database_after(&self, from: usize) -> Vec<Change> {
        let names = self.first_name_after(from, What::Schema);
        names.into_iter().filter_map(|c| Some(Change { database: c.table?, table: None, what: c.what })).collect()
    }
}

/// Words, quoted names and punctuation; comments and string literals are skipped, `/*!50000 … */` is read.
fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '#' => after.split_once('\n').map_or("", |(_, r)| r),
            '-' if after.starts_with("- ") => after.split_once('\n').map_or("", |(_, r)| r),
            '/' if after.starts_with("*!") => after[2..].trim_start_matches(|c: char| c.is_ascii_digit()),
            '/' if after.starts_with('*') => after.split_once("*/").map_or("", |(_, r)| r),
            '*' if after.starts_with('/') => &after[1..],
            '\'' => quoted(after, '\'').1,
            '`' | '"' => {
                let (name, rest) = quoted(after, c);
                tokens.push(Token { keyword: String::new(), name, punctuation: '\0' });
                rest
            }
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let name = rest[..end].to_string();
                tokens.push(Token { keyword: name.to_ascii_uppercase(), name, punctuation: '\0' });
                &rest[end..]
            }
            c if c.is_whitespace() => after,
            c => {
                tokens.push(Token { keyword: String::new(), name: String::new(), punctuation: c });
                after
            }
        };
    }
    tokens
}

/// The text up to the closing quote, doubled quotes made single, and what follows.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let (mut name, mut chars) = (String::new(), text.char_indices().peekable());
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' if quote == '\'' => {
                chars.next();
            }
            c if c == quote && chars.peek().is_some_and(|(_, next)| *next == quote) => {
                chars.next();
                name.push(c);
            }
            c if c == quote => return (name, &text[i + c.len_utf8()..]),
            c => name.push(c),
        }
    }
    (name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(sql: &str) -> Vec<(String, Option<String>, What)> {
        match read(sql, "shop") {
            Query::Changes(changes) => changes.into_iter().map(|c| (c.database, c.table, c.what)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn about(sql: &str, database: &str, table: &str) -> Option<What> {
        changes(sql).into_iter().find(|(d, t, _)| d == database && t.as_deref() == Some(table)).map(|c| c.2)
    }

    #[test]
    fn ddl_names_its_tables() {
        assert_eq!(about("TRUNCATE t", "shop", "t"), Some(What::Truncate));
        assert_eq!(about("/* a */ truncate /*!50000 table */ `x`.`a``b`", "x", "a`b"), Some(What::Truncate));
        assert_eq!(about("DROP TABLE IF EXISTS a, pay.b /* generated by server */", "pay", "b"), Some(What::Schema));
        assert_eq!(about("RENAME TABLE a TO _a_old, _a_new TO a", "shop", "a"), Some(What::Schema));
        assert_eq!(changes("DROP DATABASE pay"), [("pay".into(), None, What::Schema)]);
        assert_eq!(changes("CREATE INDEX i ON t (a)"), []);
        assert_eq!(about("INSERT INTO t VALUES ('x')", "shop", "t"), Some(What::Rows));
    }

    #[test]
    fn an_alter_is_harmless_only_if_no_column_moves() {
        let alter = |rest: &str| about(&format!("ALTER TABLE t {rest}"), "shop", "t");
        for rest in ["ADD COLUMN n INT DEFAULT 7", "ADD INDEX i (a)", "ADD UNIQUE KEY u (a)", "DROP INDEX i"] {
            assert_eq!(alter(rest), Some(What::Harmless), "{rest}");
        }
        for rest in [
            "ADD COLUMN n INT FIRST",
            "ADD COLUMN n INT AFTER a",
            "DROP COLUMN a",
            "MODIFY a BIGINT",
            "CHANGE a b INT",
            "RENAME COLUMN a TO b",
            "RENAME TO u",
            "ADD COLUMN n INT, DROP COLUMN a",
            "CONVERT TO CHARACTER SET latin1",
            "gibberish",
        ] {
            assert_eq!(alter(rest), Some(What::Schema), "{rest}");
        }
    }

    #[test]
    fn edges_of_transactions_are_known() {
        assert_eq!(read("BEGIN", ""), Query::Begin);
        assert_eq!(read("XA START X'61',X'',1", ""), Query::Begin);
        assert_eq!(read("XA END X'61',X'',1", ""), Query::Mark);
        assert_eq!(read("XA COMMIT X'61',X'',1", ""), Query::XaEnd);
        assert_eq!(read("SAVEPOINT `s`", ""), Query::Mark);
        assert_eq!(read("ROLLBACK TO `s`", ""), Query::Mark);
        assert_eq!(read("COMMIT", ""), Query::Commit);
    }
}
