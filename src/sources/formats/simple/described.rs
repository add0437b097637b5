//! Versions of followed tables as BOOTSTRAP and DDL messages describe them.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::scan::{Scanner, Value};
use super::super::{BadMessage, Tables, text, wire};
use crate::row::types::SqlType;

/// A feed repeats its descriptions, so that forgetting all of them costs little.
const VERSIONS_MAX: usize = 10_000;

/// What is wrong with each version of a table that was described; `None`: nothing.
#[derive(Default)]
pub struct Described {
    differences: HashMap<(usize, u64), Option<String>>,
}

impl Described {
    /// Why rows of that version cannot be read; `None` also for one that was not described.
    pub fn difference(&self, table: usize, version: u64) -> Option<&str> {
        self.differences.get(&(table, version))?.as_deref()
    }

    /// Reads a `tableSchema`; returns the names of database and table.
    pub fn note(&mut self, schema: &str, tables: &Tables) -> Result<(String, String), BadMessage> {
        let (mut database, mut name, mut version, mut columns) = (None, None, None, None);
        Scanner::of(schema).object(|member, value| {
            match member {
                "schema" => database = Some(value.text_of(member)?.into_owned()),
                "table" => name = Some(value.text_of(member)?.into_owned()),
                "version" => version = Some(value.u64_of(member)?),
                "columns" => columns = Some(value.value()?),
                _ => drop(value.value()?),
            }
            Ok(())
        })?;
        let (Some(database), Some(name)) = (database, name) else {
            return Err(BadMessage::malformed("`tableSchema` without `schema` or `table`"));
        };
        if let (Some(table), Some(version), Some(Value::Nested(columns))) =
            (tables.find(&database, &name), version, columns)
        {
            let mut difference = None;
            Scanner::of(columns).array(|value| {
                let declared = Declared::read(value)?;
                let of = tables.get(table);
                if let Some(at) = of.column(&declared.name) {
                    let sql_type = &of.followed.schema.columns[at].sql_type;
                    if !declared.is(sql_type) {
                        let name = &declared.name;
                        let (upstream, followed) = (text::shown(&declared.to_string()), wire::briefly(sql_type));
                        difference = Some(format!("column `{name}` is {upstream} upstream, followed as {followed}"));
                    }
                }
                Ok(())
            })?;
            if self.differences.len() >= VERSIONS_MAX {
                self.differences.clear();
            }
            self.differences.insert((table, version), difference);
        }
        Ok((database, name))
    }
}

/// A column as a `tableSchema` declares it.
#[derive(Default)]
struct Declared<'a> {
    name: Cow<'a, str>,
    mysql_type: Cow<'a, str>,
    elements: Vec<Cow<'a, str>>,
}

impl<'a> Declared<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Declared<'a>, BadMessage> {
        let mut declared = Declared::default();
        scanner.object(|member, value| {
            match member {
                "name" => declared.name = value.text_of(member)?,
                "dataType" => value.object(|member, value| {
                    match member {
                        "mysqlType" => declared.mysql_type = value.text_of(member)?,
                        "elements" => match value.value()? {
                            Value::Nested(elements) => Scanner::of(elements).array(|element| {
                                declared.elements.push(element.text_of("elements")?);
                                Ok(())
                            })?,
                            _ => declared.elements.clear(),
                        },
                        _ => drop(value.value()?),
                    }
                    Ok(())
                })?,
                _ => drop(value.value()?),
            }
            Ok(())
        })?;
        Ok(declared)
    }

    /// True if values of the column read as values of that type; sizes may differ, the values tell whether they fit.
    fn is(&self, sql_type: &SqlType) -> bool {
        let word = self.mysql_type.split([' ', '(']).next().unwrap_or_default().to_ascii_lowercase();
        let families: &[&str] = match sql_type {
            SqlType::Null => &[],
            SqlType::Bool | SqlType::Int { .. } => &["tinyint", "smallint", "mediumint", "int", "bigint", "bool"],
            SqlType::Year => &["year"],
            SqlType::Bit(_) => &["bit"],
            SqlType::Float => &["float"],
            SqlType::Double => &["double"],
            SqlType::Decimal { .. } => &["decimal"],
            SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) => {
                &["char", "varchar", "var_string", "tinytext", "text", "mediumtext", "longtext"]
            }
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => {
                &["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"]
            }
            SqlType::Enum(labels) if self.extends(labels) => &["enum"],
            SqlType::Set(labels) if self.extends(labels) => &["set"],
            SqlType::Enum(_) | SqlType::Set(_) => &[],
            SqlType::Json => &["json"],
            SqlType::Date => &["date"],
            SqlType::Time(_) => &["time"],
            SqlType::Datetime(_) => &["datetime"],
            SqlType::Timestamp(_) => &["timestamp"],
        };
        families.contains(&word.as_str())
    }

    /// True if each number that both lists have is the same label in both: labels were only added at the end.
    fn extends(&self, labels: &[String]) -> bool {
        !self.elements.is_empty() && self.elements.iter().zip(labels).all(|(element, label)| element == label)
    }
}

impl std::fmt::Display for Declared<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.mysql_type)?;
        match &self.elements[..] {
            [] => Ok(()),
            elements => write!(f, "({})", elements.join(",")),
        }
    }
}
