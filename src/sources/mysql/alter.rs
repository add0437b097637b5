//! What an ALTER TABLE does to columns, and whether those that are followed stay as they were.
//!
//! The statement is cut at the commas outside of parentheses; the first words of each part say what it does. A part
//! that is not known counts as a change: to stop is always right, to go on with a guess never.

use super::ddl::Token;
use crate::row::schema::Schema;
use crate::row::types::SqlType;

/// The parts of one ALTER TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alter(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Nothing of a column's place, name or type, and no row.
    Harmless,
    Add {
        column: String,
        place: Place,
    },
    Drop(String),
    DropPrimaryKey,
    Change {
        old: String,
        new: String,
        /// `None`: only the name changes.
        definition: Option<Definition>,
        place: Place,
    },
    /// Whatever may be more; its first words.
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Where it is; the end, for a new column.
    Stay,
    First,
    After(String),
}

/// A column's type in the form in which a [`SqlType`] prints itself; `None`: one that is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Definition(Option<String>);

/// The primary key that the server makes where a table has none stays the first column; one of the user's does not.
const GENERATED_KEY: &str = "my_row_id";

/// What follows ADD or DROP where it is no column.
const KEY_WORDS: [&str; 9] =
    ["INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "PRIMARY", "CONSTRAINT", "FOREIGN", "CHECK"];

/// First words of options and modifiers that leave columns and rows alone.
const OPTION_WORDS: [&str; 36] = [
    "ALGORITHM",
    "AUTOEXTEND_SIZE",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHARACTER",
    "CHARSET",
    "CHECKSUM",
    "COLLATE",
    "COMMENT",
    "COMPRESSION",
    "DEFAULT",
    "DELAY_KEY_WRITE",
    "DISABLE",
    "ENABLE",
    "ENCRYPTION",
    "ENGINE",
    "ENGINE_ATTRIBUTE",
    "FORCE",
    "KEY_BLOCK_SIZE",
    "LOCK",
    "MAX_ROWS",
    "MIN_ROWS",
    "ORDER",
    "PACK_KEYS",
    "PARTITION",
    "REMOVE",
    "ROW_FORMAT",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "SECONDARY_LOAD",
    "SECONDARY_UNLOAD",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "WITH",
    "WITHOUT",
];

/// Partition maintenance that keeps every row.
const PARTITION_WORDS: [&str; 6] = ["ANALYZE", "CHECK", "COALESCE", "OPTIMIZE", "REBUILD", "REORGANIZE"];

impl Alter {
    /// Reads what follows the table's name.
    pub fn read(tokens: &[Token]) -> Alter {
        let word = |i: usize| tokens.get(i).map_or("", |t| t.keyword.as_str());
        // Such a list of partitions has commas of its own, and nothing else stands beside it.
        if word(1) == "PARTITION" && PARTITION_WORDS.contains(&word(0)) {
            return Alter(vec![Part::Harmless]);
        }
        // Partitioning follows the last part without a comma.
        let is_partitioning =
            |i: &usize| matches!((word(*i), word(i + 1)), ("PARTITION", "BY") | ("REMOVE", "PARTITIONING"));
        let end = (1..tokens.len()).find(is_partitioning).unwrap_or(tokens.len());
        Alter(list(&tokens[..end]).flat_map(parts).collect())
    }

    /// The layout afterwards; `Err`: what is followed does not stay as it was, and why. A text column's collation may
    /// have changed with its definition: that is allowed where table maps tell it.
    pub fn apply(&self, layout: &[String], followed: &Schema, tells_collations: bool) -> Result<Vec<String>, String> {
        let mut columns = Vec::with_capacity(layout.len() + 1);
        let unknown = |name: &str| format!("column {name} is not among those that were known");
        for column in layout {
            match self.0.iter().find(|part| part.old().is_some_and(|old| old.eq_ignore_ascii_case(column))) {
                None => columns.push(column.clone()),
                Some(Part::Change { new, place: Place::Stay, .. }) => columns.push(new.clone()),
                // Goes, or comes to its place below.
                Some(_) => {}
            }
        }
        for part in &self.0 {
            if let Some(missing) = part.old().filter(|old| find(layout, old).is_none()) {
                return Err(unknown(missing));
            }
            part.check(followed, tells_collations)?;
            let (Part::Add { column, place } | Part::Change { new: column, place, .. }) = part else { continue };
            let at = match place {
                Place::Stay if matches!(part, Part::Change { .. }) => continue,
                Place::Stay => columns.len(),
                Place::First if columns.first().is_some_and(|c| c.eq_ignore_ascii_case(GENERATED_KEY)) => {
                    return Err(format!("column {column} is FIRST beside {GENERATED_KEY}, which may stay before it"));
                }
                Place::First => 0,
                Place::After(before) => find(&columns, before).ok_or_else(|| unknown(before))? + 1,
            };
            columns.insert(at, column.clone());
        }
        Ok(columns)
    }
}

impl Alter {
    /// `Err`: what is followed does not stay as it was, and why. For changelogs that tell columns by name, whatever
    /// their order.
    pub fn keeps(&self, followed: &Schema) -> Result<(), String> {
        self.0.iter().try_for_each(|part| part.check(followed, true))
    }
}

impl Part {
    /// The column that it takes away or changes.
    fn old(&self) -> Option<&str> {
        match self {
            Part::Drop(old) | Part::Change { old, .. } => Some(old),
            _ => None,
        }
    }

    fn check(&self, followed: &Schema, tells_collations: bool) -> Result<(), String> {
        let is_followed = |name: &str| followed.position(name).is_some();
        match self {
            Part::Other(words) => Err(format!("it was altered by {words}")),
            Part::DropPrimaryKey if followed.key.is_some() => Err("its key was dropped".into()),
            Part::Add { column, .. } if is_followed(column) => Err(format!("column {column} was added anew")),
            Part::Drop(column) if is_followed(column) => Err(format!("column {column} was dropped")),
            Part::Change { old, new, definition, .. } => match followed.position(old) {
                Some(_) if !old.eq_ignore_ascii_case(new) => Err(format!("column {old} was renamed to {new}")),
                Some(at) => {
                    let sql_type = &followed.columns[at].sql_type;
                    let is_told = tells_collations || !sql_type.is_text();
                    match definition.as_ref().is_none_or(|definition| is_told && definition.reads_as(sql_type)) {
                        true => Ok(()),
                        false => Err(format!("the type of column {old} was changed")),
                    }
                }
                None if is_followed(new) => Err(format!("column {old} was renamed to {new}")),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Definition {
    fn read(tokens: &[Token]) -> Definition {
        // A column that becomes a generated one may not be in row images.
        if tokens.iter().any(|t| matches!(t.keyword.as_str(), "AS" | "GENERATED")) {
            return Definition(None);
        }
        let Some(first) = tokens.first() else { return Definition(None) };
        let has_arguments = tokens.get(1).is_some_and(|t| t.punctuation == '(');
        let arguments: Vec<&str> = match has_arguments {
            true => tokens[2..].iter().take_while(|t| t.punctuation != ')').map(|t| t.name.as_str()).collect(),
            false => Vec::new(),
        };
        let arguments: Vec<&str> = arguments.into_iter().filter(|name| !name.is_empty()).collect();
        let with = |name: &str, default: &str| match arguments.join(",") {
            given if given.is_empty() && default.is_empty() => name.to_string(),
            given => format!("{name}({})", if given.is_empty() { default } else { &given }),
        };
        let is_unsigned = tokens.iter().any(|t| matches!(t.keyword.as_str(), "UNSIGNED" | "ZEROFILL"));
        let int = |name: &str| format!("{name}{}", if is_unsigned { " UNSIGNED" } else { "" });
        Definition(Some(match first.keyword.as_str() {
            "INTEGER" => int("INT"),
            "BOOL" | "BOOLEAN" => "TINYINT".into(),
            // Their argument is a display width.
            name @ ("TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT") => int(name),
            "YEAR" => "YEAR".into(),
            "NUMERIC" | "DEC" | "FIXED" | "DECIMAL" => match arguments[..] {
                [precision] => format!("DECIMAL({precision},0)"),
                _ => with("DECIMAL", "10,0"),
            },
            name @ ("CHAR" | "BINARY" | "BIT") => with(name, "1"),
            name @ ("TIME" | "DATETIME" | "TIMESTAMP") if arguments == ["0"] => name.into(),
            // Labels are not compared.
            "" | "ENUM" | "SET" => return Definition(None),
            name => with(name, ""),
        }))
    }

    /// Values of this type are read as those of that one. A longer VARCHAR is: its values are measured.
    fn reads_as(&self, sql_type: &SqlType) -> bool {
        let Some(text) = &self.0 else { return false };
        match sql_type {
            SqlType::Varchar(_) => text.starts_with("VARCHAR("),
            SqlType::Varbinary(_) => text.starts_with("VARBINARY("),
            _ => *text == sql_type.to_string(),
        }
    }
}

fn find(columns: &[String], name: &str) -> Option<usize> {
    columns.iter().position(|c| c.eq_ignore_ascii_case(name))
}

/// What stands between the commas outside of parentheses.
fn list(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    let mut depth = 0;
    tokens.split(move |token| {
        match token.punctuation {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0 && token.punctuation == ','
    })
}

fn parts(tokens: &[Token]) -> Vec<Part> {
    let word = |i: usize| tokens.get(i).map_or("", |t| t.keyword.as_str());
    let from = |i: usize| tokens.get(i..).unwrap_or_default();
    let other = || {
        let words: Vec<&str> = tokens.iter().take(4).map(|t| t.name.as_str()).filter(|n| !n.is_empty()).collect();
        vec![Part::Other(words.join(" "))]
    };
    let column_at = if word(1) == "COLUMN" { 2 } else { 1 };
    let one = |part: Option<Part>| part.map_or_else(other, |part| vec![part]);
    match (word(0), word(1)) {
        ("ADD", "PARTITION") => vec![Part::Harmless],
        ("ADD", key) if KEY_WORDS.contains(&key) => vec![Part::Harmless],
        ("ADD", _) => match from(column_at) {
            [open, inner @ .., close] if open.punctuation == '(' && close.punctuation == ')' => {
                list(inner).flat_map(|column| one(added(column))).collect()
            }
            column => one(added(column)),
        },
        ("DROP", "PRIMARY") => vec![Part::DropPrimaryKey],
        ("DROP", "INDEX" | "KEY" | "CONSTRAINT") if is_named(from(2), "PRIMARY") => vec![Part::DropPrimaryKey],
        ("DROP", "PARTITION") => other(),
        ("DROP", key) if KEY_WORDS.contains(&key) => vec![Part::Harmless],
        ("DROP", _) => one(name(from(column_at)).map(Part::Drop)),
        ("MODIFY", _) => one(changed(from(column_at), from(column_at))),
        ("CHANGE", _) => one(changed(from(column_at), from(column_at + 1))),
        ("RENAME", "COLUMN") if word(3) == "TO" => one(renamed(from(2), from(4))),
        ("RENAME", "INDEX" | "KEY") | ("ALTER", _) => vec![Part::Harmless],
        (first, _) if OPTION_WORDS.contains(&first) && keeps_rows(tokens) => vec![Part::Harmless],
        _ => other(),
    }
}

fn name(tokens: &[Token]) -> Option<String> {
    tokens.first().map(|t| t.name.clone()).filter(|name| !name.is_empty())
}

fn is_named(tokens: &[Token], wanted: &str) -> bool {
    name(tokens).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
}

/// An element of ADD: a column, or within parentheses also a key.
fn added(tokens: &[Token]) -> Option<Part> {
    if tokens.first().is_some_and(|t| KEY_WORDS.contains(&t.keyword.as_str())) {
        return Some(Part::Harmless);
    }
    Some(Part::Add { column: name(tokens)?, place: place(tokens.get(1..)?) })
}

/// From the old name on, and from the new one on, which a definition follows.
fn changed(old: &[Token], new: &[Token]) -> Option<Part> {
    let rest = new.get(1..)?;
    let definition = Some(Definition::read(rest));
    Some(Part::Change { old: name(old)?, new: name(new)?, definition, place: place(rest) })
}

fn renamed(old: &[Token], new: &[Token]) -> Option<Part> {
    Some(Part::Change { old: name(old)?, new: name(new)?, definition: None, place: Place::Stay })
}

/// FIRST or AFTER a column, at the end of a definition.
fn place(definition: &[Token]) -> Place {
    match definition {
        [.., last] if last.keyword == "FIRST" => Place::First,
        [.., after, column] if after.keyword == "AFTER" && !column.name.is_empty() => Place::After(column.name.clone()),
        _ => Place::Stay,
    }
}

/// Engines but InnoDB may lose rows, and so may a union of tables.
fn keeps_rows(tokens: &[Token]) -> bool {
    let engine = tokens.iter().position(|t| t.keyword == "ENGINE");
    let name = engine.and_then(|at| tokens[at + 1..].iter().find(|t| !t.name.is_empty()));
    let is_kept = engine.is_none() || name.is_some_and(|t| t.name.eq_ignore_ascii_case("InnoDB"));
    is_kept && !tokens.iter().any(|t| t.keyword == "UNION")
}
