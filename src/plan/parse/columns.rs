//! CREATE TABLE: columns with MySQL's types and the primary key.

use sqlparser::tokenizer::Token;

use crate::plan::parse::create::{IF_NOT_EXISTS, key_columns};
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::statement::{Name, Statement};
use crate::plan::{PlanError, PlanErrorKind};
use crate::row::schema::{Column, Schema};
use crate::row::types::{DECIMAL_PRECISION_MAX, DECIMAL_SCALE_MAX, SqlType};

const CHAR_MAX: u64 = 255;
/// A row's limit in MySQL; a longer column is a TEXT or BLOB.
const VARCHAR_MAX: u64 = 65_535;
const ENUM_LABELS_MAX: usize = 65_535;
const SET_LABELS_MAX: usize = 64;
/// MySQL's precision of DECIMAL without one.
const DECIMAL_PRECISION_DEFAULT: u8 = 10;

const TYPES: &[&str] = &[
    "TINYINT",
    "SMALLINT",
    "MEDIUMINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "BOOL",
    "BOOLEAN",
    "YEAR",
    "BIT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "CHAR",
    "VARCHAR",
    "TINYTEXT",
    "TEXT",
    "MEDIUMTEXT",
    "LONGTEXT",
    "BINARY",
    "VARBINARY",
    "TINYBLOB",
    "BLOB",
    "MEDIUMBLOB",
    "LONGBLOB",
    "ENUM",
    "SET",
    "JSON",
    "DATE",
    "TIME",
    "DATETIME",
    "TIMESTAMP",
];

/// What MySQL allows after a column's type and a table of views has no use for.
const REFUSED: &[(&str, &str)] = &[
    ("DEFAULT", "give every value in INSERT"),
    ("AUTO_INCREMENT", "give every value in INSERT"),
    ("UNIQUE", "a local table has one key, its PRIMARY KEY"),
    ("KEY", "a local table has one key, its PRIMARY KEY"),
    ("INDEX", "a local table has one key, its PRIMARY KEY"),
    ("CHECK", "check values before they are inserted"),
    ("CONSTRAINT", "a local table has one key, its PRIMARY KEY"),
    ("FOREIGN", "a local table has one key, its PRIMARY KEY"),
    ("REFERENCES", "a local table has one key, its PRIMARY KEY"),
    ("GENERATED", "compute the column in a view"),
    ("ON", "give every value in INSERT"),
    ("CHARACTER", "text is always utf8mb4; COLLATE names the collation"),
    ("CHARSET", "text is always utf8mb4; COLLATE names the collation"),
    ("ZEROFILL", "format numbers where they are shown"),
];

pub(super) fn table(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("TABLE")?;
    let if_not_exists = cursor.condition(IF_NOT_EXISTS)?;
    let name = cursor.local_name("a local table's name")?;
    refuse_query(cursor)?;
    let schema = definition(cursor, &name)?;
    if !cursor.at_end() {
        refuse_query(cursor)?;
        let hint = "a local table has columns and a key only".to_string();
        return Err(PlanError { hint: Some(hint), ..cursor.expected(&["the end of the statement"]) });
    }
    Ok(Statement::CreateTable { name, if_not_exists, schema })
}

/// `(id INT PRIMARY KEY, …)` of a table.
pub(super) fn definition(cursor: &mut Cursor, of: &Name) -> Result<Schema, PlanError> {
    let mut draft = Draft::default();
    cursor.list(|c| draft.element(c))?;
    if draft.schema.columns.is_empty() {
        return Err(error(PlanErrorKind::Syntax, format!("table `{of}` has no column"), of.at));
    }
    draft.finish()
}

fn refuse_query(cursor: &Cursor) -> Result<(), PlanError> {
    if cursor.next_is("AS") || cursor.next_is("LIKE") {
        let hint = "use CREATE TABLE with columns, then INSERT INTO … SELECT";
        return Err(cursor.refuse("CREATE TABLE … AS and LIKE are not supported", hint));
    }
    Ok(())
}

#[derive(Default)]
struct Draft {
    schema: Schema,
    /// The key's columns and where it is declared.
    key: Option<(Vec<String>, usize)>,
}

impl Draft {
    fn element(&mut self, cursor: &mut Cursor) -> Result<(), PlanError> {
        let at = cursor.at();
        if cursor.words(&["PRIMARY", "KEY"]) {
            let columns = key_columns(cursor)?;
            return self.declare_key(columns, at);
        }
        if !cursor.next_is("ON") && !cursor.next_is("CHARACTER") {
            refuse_unsupported(cursor)?;
        }
        let name = cursor.identifier("a column's name")?;
        if self.schema.position(&name).is_some() {
            return Err(error(PlanErrorKind::InvalidValue, format!("column `{name}` is declared twice"), at));
        }
        let sql_type = sql_type(cursor)?;
        self.schema.columns.push(Column::new(name, sql_type, true));
        self.attributes(cursor)
    }

    fn attributes(&mut self, cursor: &mut Cursor) -> Result<(), PlanError> {
        loop {
            let at = cursor.at();
            let column = self.schema.columns.last_mut().expect("a column was just declared");
            if cursor.word("NOT") {
                cursor.expect_word("NULL")?;
                column.nullable = false;
            } else if cursor.word("NULL") {
                column.nullable = true;
            } else if cursor.word("COMMENT") {
                column.comment = Some(cursor.text("a comment")?);
            } else if cursor.word("COLLATE") {
                if !column.sql_type.is_text() || column.sql_type == SqlType::Json {
                    let message = format!("column `{}` is no text and has no collation", column.name);
                    return Err(error(PlanErrorKind::TypeMismatch, message, at));
                }
                column.collation = Some(cursor.identifier("a collation")?);
            } else if cursor.words(&["PRIMARY", "KEY"]) {
                let columns = vec![column.name.clone()];
                self.declare_key(columns, at)?;
            } else {
                refuse_unsupported(cursor)?;
                if !cursor.next_is_symbol(&Token::Comma) && !cursor.next_is_symbol(&Token::RParen) {
                    return Err(cursor.expected(&[
                        "NOT NULL",
                        "NULL",
                        "PRIMARY KEY",
                        "COMMENT",
                        "COLLATE",
                        "`,`",
                        "`)`",
                    ]));
                }
                return Ok(());
            }
        }
    }

    fn declare_key(&mut self, columns: Vec<String>, at: usize) -> Result<(), PlanError> {
        if self.key.replace((columns, at)).is_some() {
            return Err(error(PlanErrorKind::Syntax, "a table has one primary key; this is the second", at));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Schema, PlanError> {
        if let Some((names, at)) = self.key {
            let mut key = vec![];
            for name in names {
                let Some(position) = self.schema.position(&name) else {
                    let message = format!("the primary key names `{name}`, which is no column of the table");
                    return Err(error(PlanErrorKind::UnknownColumn, message, at));
                };
                self.schema.columns[position].nullable = false;
                key.push(position);
            }
            self.schema.key = Some(key);
        }
        Ok(self.schema)
    }
}

/// True for a word that can be a column's name only in quotes.
pub fn is_refused(word: &str) -> bool {
    REFUSED.iter().any(|(refused, _)| *refused == word)
}

fn refuse_unsupported(cursor: &Cursor) -> Result<(), PlanError> {
    match REFUSED.iter().find(|(word, _)| cursor.next_is(word)) {
        Some((word, hint)) => Err(cursor.refuse(format!("{word} is not supported in a local table"), *hint)),
        None => Ok(()),
    }
}

fn sql_type(cursor: &mut Cursor) -> Result<SqlType, PlanError> {
    let mut unknown = cursor.expected(TYPES);
    let Some(word) = TYPES.iter().find(|name| cursor.word(name)) else {
        unknown.message = match cursor.peek_word() {
            Some(found) => format!("unknown column type `{found}`"),
            None => cursor.expected_what("a column type").message,
        };
        return Err(unknown);
    };
    Ok(match *word {
        "TINYINT" => int(cursor, 1)?,
        "SMALLINT" => int(cursor, 2)?,
        "MEDIUMINT" => int(cursor, 3)?,
        "INT" | "INTEGER" => int(cursor, 4)?,
        "BIGINT" => int(cursor, 8)?,
        "BOOL" | "BOOLEAN" => SqlType::Int { bytes: 1, unsigned: false },
        "YEAR" => {
            length(cursor, "the width of YEAR", 4..5)?;
            SqlType::Year
        }
        "BIT" => SqlType::Bit(length(cursor, "the bits of BIT", 1..65)?.unwrap_or(1) as u8),
        "FLOAT" => SqlType::Float,
        "DOUBLE" => {
            cursor.word("PRECISION");
            SqlType::Double
        }
        "DECIMAL" | "NUMERIC" => decimal(cursor)?,
        "CHAR" => SqlType::Char(length(cursor, "the length of CHAR", 0..CHAR_MAX + 1)?.unwrap_or(1) as u32),
        "VARCHAR" => SqlType::Varchar(needed(cursor, "the length of VARCHAR")?),
        "BINARY" => SqlType::Binary(length(cursor, "the length of BINARY", 0..CHAR_MAX + 1)?.unwrap_or(1) as u32),
        "VARBINARY" => SqlType::Varbinary(needed(cursor, "the length of VARBINARY")?),
        "TINYTEXT" => SqlType::Text(1),
        "TEXT" => SqlType::Text(2),
        "MEDIUMTEXT" => SqlType::Text(3),
        "LONGTEXT" => SqlType::Text(4),
        "TINYBLOB" => SqlType::Blob(1),
        "BLOB" => SqlType::Blob(2),
        "MEDIUMBLOB" => SqlType::Blob(3),
        "LONGBLOB" => SqlType::Blob(4),
        "ENUM" => SqlType::Enum(labels(cursor, "ENUM", ENUM_LABELS_MAX)?),
        "SET" => SqlType::Set(labels(cursor, "SET", SET_LABELS_MAX)?),
        "JSON" => SqlType::Json,
        "DATE" => SqlType::Date,
        "TIME" => SqlType::Time(fraction(cursor)?),
        "DATETIME" => SqlType::Datetime(fraction(cursor)?),
        "TIMESTAMP" => SqlType::Timestamp(fraction(cursor)?),
        other => unreachable!("{other} is in TYPES and has no arm"),
    })
}

/// The display width says nothing about the values and is dropped, as MySQL 8 does.
fn int(cursor: &mut Cursor, bytes: u8) -> Result<SqlType, PlanError> {
    length(cursor, "the display width", 0..256)?;
    let unsigned = cursor.word("UNSIGNED");
    if !unsigned {
        cursor.word("SIGNED");
    }
    Ok(SqlType::Int { bytes, unsigned })
}

fn decimal(cursor: &mut Cursor) -> Result<SqlType, PlanError> {
    let at = cursor.at();
    let (mut precision, mut scale) = (DECIMAL_PRECISION_DEFAULT, 0);
    if cursor.symbol(&Token::LParen) {
        precision = cursor.number_in("the precision of DECIMAL", 1..DECIMAL_PRECISION_MAX as u64 + 1)? as u8;
        if cursor.symbol(&Token::Comma) {
            scale = cursor.number_in("the scale of DECIMAL", 0..DECIMAL_SCALE_MAX as u64 + 1)? as u8;
        }
        cursor.expect_symbol(&Token::RParen)?;
    }
    if scale > precision {
        let message = format!("the scale {scale} of DECIMAL is above its precision {precision}");
        return Err(error(PlanErrorKind::InvalidValue, message, at));
    }
    if cursor.next_is("UNSIGNED") {
        return Err(cursor.refuse("DECIMAL UNSIGNED is not supported in a local table", "use DECIMAL"));
    }
    Ok(SqlType::Decimal { precision, scale })
}

/// `[(n)]`.
fn length(cursor: &mut Cursor, what: &str, range: std::ops::Range<u64>) -> Result<Option<u64>, PlanError> {
    if !cursor.symbol(&Token::LParen) {
        return Ok(None);
    }
    let length = cursor.number_in(what, range)?;
    cursor.expect_symbol(&Token::RParen)?;
    Ok(Some(length))
}

fn needed(cursor: &mut Cursor, what: &str) -> Result<u32, PlanError> {
    match length(cursor, what, 0..VARCHAR_MAX + 1)? {
        Some(length) => Ok(length as u32),
        None => Err(cursor.expected_what(&format!("{what} in parentheses"))),
    }
}

fn fraction(cursor: &mut Cursor) -> Result<u8, PlanError> {
    Ok(length(cursor, "the number of fractional digits", 0..7)?.unwrap_or(0) as u8)
}

fn labels(cursor: &mut Cursor, of: &str, count_max: usize) -> Result<Vec<String>, PlanError> {
    let at = cursor.at();
    let labels = cursor.list(|c| c.text("a label"))?;
    if labels.len() > count_max {
        let message = format!("{of} has at most {count_max} labels, found {}", labels.len());
        return Err(error(PlanErrorKind::InvalidValue, message, at));
    }
    if (1..labels.len()).any(|i| labels[..i].contains(&labels[i])) {
        return Err(error(PlanErrorKind::InvalidValue, format!("a label of {of} is there twice"), at));
    }
    Ok(labels)
}
