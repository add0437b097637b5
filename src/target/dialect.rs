//! How a target's SQL is spelled: names, literals, column types, upserts.

use crate::row::datum::Datum;
use crate::row::types::SqlType;

/// A target's kind of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    MySql,
    MariaDb,
    TiDb,
    Sqlite,
}

/// The longest name that MySQL and TiDB take, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// The longest key that InnoDB and TiDB index, in bytes.
pub const KEY_BYTES_MAX: usize = 3072;
/// A text column in a primary key is at most this long, in characters.
pub const KEY_TEXT_CHARS_MAX: u32 = 255;

impl Dialect {
    pub fn is_sqlite(self) -> bool {
        self == Dialect::Sqlite
    }

    pub fn begin(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::TiDb => "BEGIN PESSIMISTIC",
            Dialect::MySql | Dialect::MariaDb => "BEGIN",
        }
    }

    /// Ends a SELECT that must not let go of what it read; SQLite's transactions hold the whole file.
    pub fn for_update(self) -> &'static str {
        if self.is_sqlite() { "" } else { " FOR UPDATE" }
    }

    /// A text collation under which texts are equal only if their bytes are; `None`: this server has none.
    pub fn exact_collation(self) -> Option<&'static str> {
        match self {
            Dialect::MySql => Some("utf8mb4_0900_bin"),
            Dialect::MariaDb => Some("utf8mb4_nopad_bin"),
            Dialect::TiDb | Dialect::Sqlite => None,
        }
    }

    /// True if a unique key over a column of this type holds apart exactly what differs in bytes.
    pub fn is_exact_key(self, sql_type: &SqlType) -> bool {
        match sql_type {
            SqlType::Varchar(n) => *n <= KEY_TEXT_CHARS_MAX && (self.is_sqlite() || self.exact_collation().is_some()),
            // CHAR loses its trailing spaces and BINARY gains zeros, but neither has two spellings of one stored value.
            SqlType::Varbinary(n) | SqlType::Binary(n) => *n <= KEY_TEXT_CHARS_MAX,
            SqlType::Bool | SqlType::Int { .. } | SqlType::Year | SqlType::Bit(_) | SqlType::Decimal { .. } => true,
            SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_) => true,
            _ => false,
        }
    }

    /// The type to declare. SQLite's names are chosen by affinity: a decimal or a date must stay the text it is.
    pub fn column_type(self, sql_type: &SqlType) -> String {
        if !self.is_sqlite() {
            return sql_type.to_string();
        }
        match sql_type {
            SqlType::Int { bytes: 8, unsigned: true } | SqlType::Bit(_) => "",
            SqlType::Bool | SqlType::Int { .. } | SqlType::Year => "INTEGER",
            SqlType::Float | SqlType::Double => "REAL",
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => "BLOB",
            _ => "TEXT",
        }
        .to_string()
    }

    /// Appends a value; `Err` names a value that the target has no literal for.
    pub fn literal(self, out: &mut String, datum: &Datum, sql_type: &SqlType) -> Result<(), String> {
        use std::fmt::Write;
        let written = match datum {
            Datum::Null => write!(out, "NULL"),
            Datum::Bool(v) => write!(out, "{}", *v as u8),
            Datum::Int(v) => write!(out, "{v}"),
            // SQLite reads a larger integer as a rounded float.
            Datum::UInt(v) if self.is_sqlite() && *v > i64::MAX as u64 => write!(out, "'{v}'"),
            Datum::UInt(v) => write!(out, "{v}"),
            Datum::Float(v) if !v.is_finite() => return Err(format!("{v} is no value of type {sql_type}")),
            Datum::Double(v) if !v.is_finite() => return Err(format!("{v} is no value of type {sql_type}")),
            Datum::Float(v) => write!(out, "{v:e}"),
            Datum::Double(v) => write!(out, "{v:e}"),
            Datum::Text(v) => {
                self.text(out, v);
                return Ok(());
            }
            Datum::Bytes(v) => {
                hex(out, v);
                return Ok(());
            }
            Datum::Decimal(_) if !self.is_sqlite() => {
                write!(out, "{}", datum.text(sql_type).expect("a decimal has a text"))
            }
            _ => write!(out, "'{}'", datum.text(sql_type).expect("only NULL has no text")),
        };
        written.expect("a String takes all that is written");
        Ok(())
    }

    /// Appends a text literal.
    pub fn text(self, out: &mut String, text: &str) {
        if self.is_sqlite() && text.contains('\0') {
            // The statement would end at the NUL.
            out.push_str("CAST(");
            hex(out, text.as_bytes());
            out.push_str(" AS TEXT)");
            return;
        }
        if !text.contains(['\'', '\\', '\0']) {
            out.push('\'');
            out.push_str(text);
            out.push('\'');
            return;
        }
        out.push('\'');
        for c in text.chars() {
            match c {
                '\'' => out.push_str("''"),
                '\\' if !self.is_sqlite() => out.push_str("\\\\"),
                '\0' => out.push_str("\\0"),
                c => out.push(c),
            }
        }
        out.push('\'');
    }

    /// A text literal of its own.
    pub fn quoted(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 2);
        self.text(&mut out, text);
        out
    }

    /// What follows VALUES (…): rows whose key is there already take the new values of these columns.
    pub fn on_duplicate(self, key: &[String], columns: &[String]) -> String {
        if self.is_sqlite() {
            let sets: Vec<String> = columns.iter().map(|c| format!("{0}=excluded.{0}", name(c))).collect();
            let action = if sets.is_empty() { "NOTHING".to_string() } else { format!("UPDATE SET {}", sets.join(",")) };
            return format!(" ON CONFLICT({}) DO {action}", names(key));
        }
        // A table of key columns only still needs an action, or a row that is there would be an error.
        let all = if columns.is_empty() { key } else { columns };
        let sets: Vec<String> = all.iter().map(|c| format!("{0}=VALUES({0})", name(c))).collect();
        format!(" ON DUPLICATE KEY UPDATE {}", sets.join(","))
    }
}

pub fn hex(out: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    out.push_str("x'");
    for byte in bytes {
        write!(out, "{byte:02X}").expect("a String takes all that is written");
    }
    out.push('\'');
}

/// A name in backticks, which MySQL, TiDB and SQLite all read.
pub fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

pub fn names(all: &[String]) -> String {
    all.iter().map(|n| name(n)).collect::<Vec<_>>().join(",")
}

/// `database`.`table`, or the table alone.
pub fn path(parts: &[String]) -> String {
    parts.iter().map(|n| name(n)).collect::<Vec<_>>().join(".")
}

/// Why this cannot be the name of a table or column.
pub fn bad_name(text: &str) -> Option<String> {
    let length = text.chars().count();
    if text.is_empty() || text.ends_with(' ') || text.contains('\0') {
        return Some(format!("{text:?} cannot be a name: it is empty, ends with a space or has a NUL"));
    }
    (length > NAME_CHARS_MAX).then(|| format!("{text:?} has {length} characters, a name has at most {NAME_CHARS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_end_their_quotes() {
        assert_eq!(path(&["a`b".into(), "c.d".into()]), "`a``b`.`c.d`");
        assert_eq!(Dialect::MySql.quoted("a'b\\c\0"), "'a''b\\\\c\\0'");
        assert_eq!(Dialect::Sqlite.quoted("a'b\\c"), "'a''b\\c'");
        assert_eq!(Dialect::Sqlite.quoted("a\0"), "CAST(x'6100' AS TEXT)");
        assert!(
            bad_name("a\0").is_some() && bad_name(&"é".repeat(65)).is_some() && bad_name(&"é".repeat(64)).is_none()
        );
    }

    #[test]
    fn large_integers_stay_exact_in_sqlite() {
        let mut out = String::new();
        let sql_type = SqlType::Int { bytes: 8, unsigned: true };
        Dialect::Sqlite.literal(&mut out, &Datum::UInt(u64::MAX), &sql_type).unwrap();
        assert_eq!(out, "'18446744073709551615'");
        assert!(Dialect::MySql.literal(&mut out, &Datum::Double(f64::NAN), &SqlType::Double).is_err());
    }
}
