//! What a QUERY event says: a transaction's edge, or a statement that may change a followed table.
//!
//! Row-based replication still sends DDL as text. A small reader finds which tables a statement is about and what it
//! does to each; what an ALTER TABLE does to the columns is read by [`Alter`].

use super::alter::Alter;
use super::xa::Xid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Begin,
    Commit,
    Rollback,
    /// A transaction that ends with its PREPARE.
    XaBegin,
    /// XA COMMIT of a transaction prepared before; without its id where that cannot be read.
    XaCommit(Option<Xid>),
    XaRollback(Option<Xid>),
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Renamed, replaced, dropped, or with rows of another table.
    Gone,
    Alter(Alter),
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
        ("BEGIN", _) | ("START", "TRANSACTION") => Query::Begin,
        ("XA", "START" | "BEGIN") => Query::XaBegin,
        ("XA", "COMMIT") => Query::XaCommit(Xid::in_statement(sql)),
        ("XA", "ROLLBACK") => Query::XaRollback(Xid::in_statement(sql)),
        ("COMMIT", _) => Query::Commit,
        ("ROLLBACK", "TO") | ("SAVEPOINT", _) | ("RELEASE", _) | ("XA", "END" | "PREPARE") => Query::Mark,
        ("ROLLBACK", _) => Query::Rollback,
        ("TRUNCATE", _) => Query::Changes(reader.names_after(if word(1) == "TABLE" { 2 } else { 1 }, What::Truncate)),
        ("DROP", "TABLE") => Query::Changes(reader.names_after(2, What::Gone)),
        ("RENAME", "TABLE" | "TABLES") => Query::Changes(reader.names_after(2, What::Gone)),
        // Of a table that is there, it does nothing.
        ("CREATE", "TABLE") if word(2) == "IF" => Query::Changes(Vec::new()),
        ("CREATE", "TABLE") => Query::Changes(reader.first_name_after(2, What::Gone)),
        ("ALTER", "TABLE") => Query::Changes(reader.altered(2)),
        ("DROP", "DATABASE" | "SCHEMA") => Query::Changes(reader.database_after(2)),
        ("INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH", _) => {
            Query::Changes(reader.all_names(What::Rows))
        }
        // Views, indexes, routines, users, grants, ANALYZE: nothing of a table's columns or rows.
        _ => Query::Changes(Vec::new()),
    }
}

#[derive(Clone, Debug)]
pub struct Token {
    /// Upper case for a bare word; empty for quoted names and punctuation.
    pub keyword: String,
    /// The name that a word or quoted name stands for; empty for punctuation.
    pub name: String,
    pub punctuation: char,
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
            changes.push(Change { database: database.into(), table: Some(table), what: what.clone() });
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

    /// RENAME TO names a second table, which cannot be a followed one: those exist. EXCHANGE PARTITION does, too, and
    /// takes its rows.
    fn altered(&self, from: usize) -> Vec<Change> {
        let is_qualified = self.tokens.get(from + 1).is_some_and(|t| t.punctuation == '.');
        let rest = self.tokens.get(from + if is_qualified { 3 } else { 1 }..).unwrap_or_default();
        let mut changes = self.first_name_after(from, What::Alter(Alter::read(rest)));
        if rest.first().is_some_and(|t| t.keyword == "EXCHANGE")
            && let Some(table) = rest.iter().position(|t| t.keyword == "TABLE")
        {
            let other = Reader { tokens: &rest[table + 1..], default_database: self.default_database };
            changes.extend(other.first_name_after(0, What::Gone));
        }
        changes
    }

    fn database_after(&self, from: usize) -> Vec<Change> {
        let names = self.first_name_after(from, What::Gone);
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
            '\\' if quote != '`' => {
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
    use crate::row::schema::{Column, Schema};
    use crate::row::types::SqlType;

    fn changes(sql: &str) -> Vec<(String, Option<String>, What)> {
        match read(sql, "shop") {
            Query::Changes(changes) => changes.into_iter().map(|c| (c.database, c.table, c.what)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn about(sql: &str, database: &str, table: &str) -> Option<What> {
        changes(sql).into_iter().find(|(d, t, _)| d == database && t.as_deref() == Some(table)).map(|c| c.2)
    }

    /// What the layout (id, v, x) becomes where id and v are followed.
    fn altered(rest: &str) -> Result<String, String> {
        let int = SqlType::Int { bytes: 4, unsigned: false };
        let columns = vec![Column::new("id", int, false), Column::new("v", SqlType::Varchar(10), true)];
        let schema = Schema { columns, key: Some(vec![0]) };
        let Some(What::Alter(alter)) = about(&format!("ALTER TABLE `shop`.t {rest}"), "shop", "t") else {
            panic!("{rest}")
        };
        alter.apply(&["id", "v", "x"].map(String::from), &schema, true).map(|layout| layout.join(" "))
    }

    #[test]
    fn ddl_names_its_tables() {
        assert_eq!(about("TRUNCATE t", "shop", "t"), Some(What::Truncate));
        assert_eq!(about("/* a */ truncate /*!50000 table */ `x`.`a``b`", "x", "a`b"), Some(What::Truncate));
        assert_eq!(about("DROP TABLE IF EXISTS a, pay.b /* generated by server */", "pay", "b"), Some(What::Gone));
        assert_eq!(about("RENAME TABLE a TO _a_old, _a_new TO a", "shop", "a"), Some(What::Gone));
        assert_eq!(changes("DROP DATABASE pay"), [("pay".into(), None, What::Gone)]);
        assert_eq!(changes("CREATE INDEX i ON t (a)"), []);
        assert_eq!(about("INSERT INTO t VALUES ('x')", "shop", "t"), Some(What::Rows));
    }

    #[test]
    fn an_alter_moves_what_is_not_followed() {
        for (rest, layout) in [
            ("ADD COLUMN n INT DEFAULT 7, ADD INDEX i (v), ALGORITHM=INPLACE, LOCK=NONE", "id v x n"),
            ("ADD n INT FIRST", "n id v x"),
            (
                "ADD COLUMN `n` VARCHAR(9) DEFAULT 'a, b' COMMENT \"AFTER \\\"x\" AFTER `id`, ADD m INT AFTER n",
                "id n m v x",
            ),
            ("ADD COLUMN (n DECIMAL(5, 2), m INT, KEY (n))", "id v x n m"),
            ("DROP x, ADD COLUMN x INT FIRST", "x id v"),
            ("RENAME COLUMN x TO y", "id v y"),
            ("CHANGE x y BIGINT FIRST, ADD z INT AFTER y", "y z id v"),
            ("MODIFY x TEXT", "id v x"),
            ("MODIFY COLUMN id INTEGER(11) NOT NULL AUTO_INCREMENT AFTER x", "v x id"),
            ("MODIFY v VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'c'", "id v x"),
            ("ADD COLUMN n INT AFTER v PARTITION BY HASH (id) PARTITIONS 4", "id v n x"),
            ("ADD COLUMN n INT FIRST REMOVE PARTITIONING", "n id v x"),
            (
                "PARTITION BY RANGE COLUMNS (id) (PARTITION a VALUES LESS THAN (1), PARTITION b VALUES LESS THAN (9))",
                "id v x",
            ),
            ("REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN (9))", "id v x"),
            ("ADD PARTITION (PARTITION p2 VALUES LESS THAN (20))", "id v x"),
            ("REMOVE PARTITIONING", "id v x"),
            ("OPTIMIZE PARTITION p0, p1", "id v x"),
            ("COMMENT 'c', ENGINE = InnoDB ROW_FORMAT=DYNAMIC, AUTO_INCREMENT = 100, DEFAULT CHARSET=latin1", "id v x"),
            ("ALTER COLUMN v SET DEFAULT 'x', ALTER v DROP DEFAULT, ALTER INDEX i INVISIBLE", "id v x"),
            ("ADD CONSTRAINT c CHECK (id > 0), DROP FOREIGN KEY f, DROP INDEX i, RENAME INDEX i TO j", "id v x"),
            ("FORCE", "id v x"),
        ] {
            assert_eq!(altered(rest).as_deref(), Ok(layout), "{rest}");
        }
    }

    #[test]
    fn an_alter_of_what_is_followed_or_not_understood_is_a_change() {
        for rest in [
            "DROP COLUMN v",
            "ADD COLUMN n INT, DROP `V`",
            "MODIFY id BIGINT",
            "MODIFY id INT UNSIGNED",
            "MODIFY v TEXT",
            "MODIFY v INT AS (id + 1)",
            "CHANGE id b INT",
            "RENAME COLUMN v TO w, RENAME COLUMN x TO v",
            "RENAME COLUMN x TO v",
            "RENAME TO u",
            "DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)",
            "DROP INDEX `PRIMARY`",
            "DROP PARTITION p0",
            "TRUNCATE PARTITION p0",
            "EXCHANGE PARTITION p0 WITH TABLE u",
            "DISCARD TABLESPACE",
            "CONVERT TO CHARACTER SET latin1",
            "COMMENT = 'c' ENGINE=BLACKHOLE",
            "DROP COLUMN y",
            "ADD COLUMN n INT AFTER y",
            "gibberish",
            "",
        ] {
            assert!(altered(rest).is_err(), "{rest}: {:?}", altered(rest));
        }
        assert_eq!(about("ALTER TABLE u EXCHANGE PARTITION p0 WITH TABLE pay.t", "pay", "t"), Some(What::Gone));
    }

    #[test]
    fn edges_of_transactions_are_known() {
        assert_eq!(read("BEGIN", ""), Query::Begin);
        assert_eq!(read("XA START X'61',X'',1", ""), Query::XaBegin);
        assert_eq!(read("XA END X'61',X'',1", ""), Query::Mark);
        let xid = || Some(Xid::new(1, *b"a", *b""));
        assert_eq!(read("XA COMMIT X'61',X'',1", ""), Query::XaCommit(xid()));
        assert_eq!(read("XA ROLLBACK X'61',X'',1", ""), Query::XaRollback(xid()));
        assert_eq!(read("SAVEPOINT `s`", ""), Query::Mark);
        assert_eq!(read("ROLLBACK TO `s`", ""), Query::Mark);
        assert_eq!(read("COMMIT", ""), Query::Commit);
    }
}
