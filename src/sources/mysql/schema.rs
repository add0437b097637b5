//! Which tables a MySQL server shows, with their columns as our types.
//!
//! A column that cannot be read is in `unsupported` and not in the schema; the layout has it, since row events tell
//! columns by their position only.

use std::collections::BTreeMap;

use mysql_async::prelude::FromRow;
use mysql_async::{FromRowError, Row};

use super::connect::{Fault, Options, connect, query};
use super::text::Charset;
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::sources::{FollowedTable, UpstreamTable};

/// In lower case; the last is TiDB's.
const SYSTEM_DATABASES: &str = "('mysql','sys','information_schema','performance_schema','metrics_schema')";

/// Every database that the account sees, with the number of its tables.
pub async fn databases(options: &Options) -> Result<Vec<(String, u64)>, Fault> {
    let sql = format!(
        "SELECT d.SCHEMA_NAME, COUNT(t.TABLE_NAME) FROM information_schema.SCHEMATA d \
         LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = d.SCHEMA_NAME AND t.TABLE_TYPE = 'BASE TABLE' \
         WHERE LOWER(d.SCHEMA_NAME) NOT IN {SYSTEM_DATABASES} GROUP BY d.SCHEMA_NAME ORDER BY d.SCHEMA_NAME"
    );
    query(options, &mut connect(options).await?, &sql).await
}

/// The tables that match a pattern (database, table or `*`; no pattern: all), without the excluded columns
/// (database, table, column). Names match without regard to case.
pub async fn tables(
    options: &Options,
    patterns: &[(String, String)],
    excluded: &[(String, String, String)],
) -> Result<Vec<UpstreamTable>, Fault> {
    let wanted = |database: &str, table: &str| {
        patterns.is_empty()
            || patterns
                .iter()
                .any(|(d, t)| d.eq_ignore_ascii_case(database) && (t == "*" || t.eq_ignore_ascii_case(table)))
    };
    let is_excluded = |database: &str, table: &str, column: &str| {
        excluded.iter().any(|(d, t, c)| {
            d.eq_ignore_ascii_case(database) && t.eq_ignore_ascii_case(table) && c.eq_ignore_ascii_case(column)
        })
    };
    let mut conn = connect(options).await?;
    let columns: Vec<RawColumn> = query(options, &mut conn, &columns_sql()).await?;
    let keys: Vec<KeyColumn> = query(options, &mut conn, &keys_sql()).await?;
    let mut keys_by_table: BTreeMap<(&str, &str), Vec<&KeyColumn>> = BTreeMap::new();
    for key in &keys {
        keys_by_table.entry((&key.0, &key.1)).or_default().push(key);
    }
    let mut tables: Vec<UpstreamTable> = Vec::new();
    for column in columns.iter().filter(|c| wanted(&c.database, &c.table)) {
        if tables.last().is_none_or(|t| t.database != column.database || t.name != column.table) {
            tables.push(UpstreamTable {
                database: column.database.clone(),
                name: column.table.clone(),
                schema: Schema::default(),
                layout: Vec::new(),
                unsupported: Vec::new(),
            });
        }
        let table = tables.last_mut().expect("one was pushed");
        table.layout.push(column.name.clone());
        if is_excluded(&column.database, &column.table, &column.name) {
            continue;
        }
        match column.supported() {
            Ok(column) => table.schema.columns.push(column),
            Err(reason) => table.unsupported.push((column.name.clone(), reason)),
        }
    }
    for table in &mut tables {
        let keys = keys_by_table.get(&(table.database.as_str(), table.name.as_str()));
        table.schema.key = keys.and_then(|keys| choose_key(keys, &table.schema));
    }
    Ok(tables)
}

/// The layouts of followed tables, whose columns and keys must still be what they were when the source was created.
pub async fn layouts_now(options: &Options, followed: &[FollowedTable]) -> Result<Vec<Vec<String>>, Fault> {
    let patterns: Vec<_> = followed.iter().map(|t| (t.database.clone(), t.name.clone())).collect();
    let excluded: Vec<_> = followed.iter().flat_map(excluded).collect();
    let upstream = tables(options, &patterns, &excluded).await?;
    let mut layouts = Vec::with_capacity(followed.len());
    for table in followed {
        let name = format!("{}.{}", table.database, table.name);
        let changed = |what: String| {
            let remedy = "drop and create the source, or ALTER the table back";
            Err(Fault::stop("SCHEMA_CHANGED", format!("table {name}: {what}"), remedy))
        };
        let Some(now) = upstream.iter().find(|u| u.database == table.database && u.name == table.name) else {
            return changed("it is not there".into());
        };
        for column in &table.schema.columns {
            match now.schema.columns.iter().find(|c| c.name == column.name) {
                Some(c) if c.sql_type == column.sql_type => {}
                Some(c) => return changed(format!("column {} was {} and is {}", c.name, column.sql_type, c.sql_type)),
                None => return changed(format!("column {} is not in it any more", column.name)),
            }
        }
        let (was, is) = (key(&table.schema), key(&now.schema));
        if was.is_some() && was != is {
            let shown = |key: Option<Vec<&str>>| key.map_or("gone".to_string(), |key| format!("({})", key.join(", ")));
            return changed(format!("its key was {} and is {}", shown(was), shown(is)));
        }
        layouts.push(now.layout.clone());
    }
    Ok(layouts)
}

/// What CREATE SOURCE left out.
fn excluded(table: &FollowedTable) -> impl Iterator<Item = (String, String, String)> {
    let left_out = table.layouts.first().into_iter().flat_map(|layout| &layout.columns);
    let left_out = left_out.filter(|column| table.schema.position(column).is_none());
    left_out.map(|column| (table.database.clone(), table.name.clone(), column.clone()))
}

fn key(schema: &Schema) -> Option<Vec<&str>> {
    Some(schema.key.as_ref()?.iter().map(|&position| schema.columns[position].name.as_str()).collect())
}

/// The primary key, else the first unique key whose columns are NOT NULL; all of its columns must be followed.
fn choose_key(keys: &[&KeyColumn], schema: &Schema) -> Option<Vec<usize>> {
    let mut by_index: Vec<(&str, Vec<Option<usize>>)> = Vec::new();
    for KeyColumn(_, _, index, column) in keys.iter().copied() {
        let position = column.as_deref().and_then(|name| schema.position(name));
        let usable = position.filter(|p| !schema.columns[*p].nullable);
        match by_index.last_mut() {
            Some((name, columns)) if *name == index.as_str() => columns.push(usable),
            _ => by_index.push((index, vec![usable])),
        }
    }
    by_index.sort_by_key(|(name, _)| *name != "PRIMARY");
    by_index.into_iter().find_map(|(_, columns)| columns.into_iter().collect())
}

fn columns_sql() -> String {
    format!(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.IS_NULLABLE = 'YES', LOWER(c.DATA_TYPE), c.COLUMN_TYPE, \
         c.NUMERIC_PRECISION, c.NUMERIC_SCALE, c.CHARACTER_MAXIMUM_LENGTH, c.DATETIME_PRECISION, \
         c.CHARACTER_SET_NAME, c.COLLATION_NAME, c.COLUMN_COMMENT, c.EXTRA \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME AND t.TABLE_TYPE = 'BASE TABLE' \
         WHERE c.TABLE_SCHEMA NOT IN {SYSTEM_DATABASES} \
         ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION"
    )
}

/// A key over a prefix or an expression shows a NULL column: it identifies nothing for us.
fn keys_sql() -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, IF(SUB_PART IS NULL, COLUMN_NAME, NULL) \
         FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND TABLE_SCHEMA NOT IN {SYSTEM_DATABASES} \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
    )
}

/// Database, table, index, column.
struct KeyColumn(String, String, String, Option<String>);

impl FromRow for KeyColumn {
    fn from_row_opt(row: Row) -> Result<KeyColumn, FromRowError> {
        <(String, String, String, Option<String>)>::from_row_opt(row).map(|(d, t, i, c)| KeyColumn(d, t, i, c))
    }
}

struct RawColumn {
    database: String,
    table: String,
    name: String,
    nullable: bool,
    data_type: String,
    column_type: String,
    precision: Option<u64>,
    scale: Option<u64>,
    length: Option<u64>,
    fraction: Option<u64>,
    charset: Option<String>,
    collation: Option<String>,
    comment: String,
    extra: String,
}

impl FromRow for RawColumn {
    fn from_row_opt(row: Row) -> Result<RawColumn, FromRowError> {
        fn get<T: mysql_async::prelude::FromValue>(row: &Row, at: usize) -> Result<T, FromRowError> {
            row.get_opt(at).and_then(Result::ok).ok_or_else(|| FromRowError(row.clone()))
        }
        Ok(RawColumn {
            database: get(&row, 0)?,
            table: get(&row, 1)?,
            name: get(&row, 2)?,
            nullable: get(&row, 3)?,
            data_type: get(&row, 4)?,
            column_type: get(&row, 5)?,
            precision: get(&row, 6)?,
            scale: get(&row, 7)?,
            length: get(&row, 8)?,
            fraction: get(&row, 9)?,
            charset: get(&row, 10)?,
            collation: get(&row, 11)?,
            comment: get(&row, 12)?,
            extra: get(&row, 13)?,
        })
    }
}

impl RawColumn {
    fn supported(&self) -> Result<Column, String> {
        if self.extra.contains("VIRTUAL GENERATED") {
            return Err("a virtual generated column: its value is not stored".into());
        }
        let sql_type = self.sql_type().ok_or_else(|| format!("type {} is not supported", self.column_type))?;
        let is_free_text = matches!(sql_type, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_));
        if is_free_text && Charset::of_collation(self.collation.as_deref()).is_none() {
            let charset = self.charset.as_deref().unwrap_or("(none)");
            return Err(format!("character set {charset} is not supported (utf8mb4, utf8mb3, ascii and latin1 are)"));
        }
        Ok(Column {
            name: self.name.clone(),
            collation: if sql_type.is_text() { self.collation.clone() } else { None },
            sql_type,
            nullable: self.nullable,
            comment: (!self.comment.is_empty()).then(|| self.comment.clone()),
        })
    }

    fn sql_type(&self) -> Option<SqlType> {
        let unsigned = self.column_type.contains("unsigned");
        let int = |bytes| SqlType::Int { bytes, unsigned };
        let length = self.length.map(|l| l.min(u32::MAX as u64) as u32);
        let digits = self.fraction.unwrap_or(0) as u8;
        Some(match self.data_type.as_str() {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" => int(4),
            "bigint" => int(8),
            "year" => SqlType::Year,
            "bit" => SqlType::Bit(self.precision? as u8),
            "float" => SqlType::Float,
            "double" => SqlType::Double,
            "decimal" => SqlType::Decimal { precision: self.precision? as u8, scale: self.scale? as u8 },
            "char" => SqlType::Char(length?),
            "varchar" => SqlType::Varchar(length?),
            "tinytext" => SqlType::Text(1),
            "text" => SqlType::Text(2),
            "mediumtext" => SqlType::Text(3),
            "longtext" => SqlType::Text(4),
            "binary" => SqlType::Binary(length?),
            "varbinary" => SqlType::Varbinary(length?),
            "tinyblob" => SqlType::Blob(1),
            "blob" => SqlType::Blob(2),
            "mediumblob" => SqlType::Blob(3),
            "longblob" => SqlType::Blob(4),
            "enum" => SqlType::Enum(labels(&self.column_type)?),
            "set" => SqlType::Set(labels(&self.column_type)?),
            "json" => SqlType::Json,
            "date" => SqlType::Date,
            "time" => SqlType::Time(digits),
            "datetime" => SqlType::Datetime(digits),
            "timestamp" => SqlType::Timestamp(digits),
            _ => return None,
        })
    }
}

/// The labels of `enum('a','it''s')`.
fn labels(column_type: &str) -> Option<Vec<String>> {
    let list = column_type.split_once('(')?.1.strip_suffix(')')?;
    let (mut labels, mut label, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match (inside, c) {
            (true, '\'') if chars.peek() == Some(&'\'') => {
                chars.next();
                label.push('\'');
            }
            (true, '\'') => {
                labels.push(std::mem::take(&mut label));
                inside = false;
            }
            (true, c) => label.push(c),
            (false, '\'') => inside = true,
            (false, ',') => {}
            (false, _) => return None,
        }
    }
    (!inside).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_quotes_and_commas() {
        assert_eq!(labels("enum('a','it''s',',','')"), Some(vec!["a".into(), "it's".into(), ",".into(), "".into()]));
        assert_eq!(labels("set()"), Some(vec![]));
        assert_eq!(labels("enum('a"), None);
    }

    #[test]
    fn the_key_is_primary_else_unique_and_not_null() {
        let int = |name: &str, nullable| Column::new(name, SqlType::Int { bytes: 4, unsigned: false }, nullable);
        let schema = Schema { columns: vec![int("a", false), int("b", true), int("c", false)], key: None };
        let key = |index: &str, column: Option<&str>| {
            KeyColumn("d".into(), "t".into(), index.into(), column.map(String::from))
        };
        let (a, b, c, prefix) =
            (key("PRIMARY", Some("a")), key("ub", Some("b")), key("uc", Some("c")), key("up", None));
        assert_eq!(choose_key(&[&c, &a], &schema), Some(vec![0]));
        assert_eq!(choose_key(&[&b, &c], &schema), Some(vec![2]));
        assert_eq!(choose_key(&[&b, &prefix], &schema), None);
    }
}
