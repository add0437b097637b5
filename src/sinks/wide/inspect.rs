//! What a table that is already there must have to take a view.

use crate::row::datum::Datum;
use crate::row::schema::Schema;
use crate::row::types::{BIGINT, SqlType};
use crate::sinks::wide::layout::{KEY_COLUMN, Layout};
use crate::target::Target;
use crate::target::dialect::{self, Dialect};
use crate::target::error::TargetError;

pub async fn exists(target: &mut dyn Target, table: &[String]) -> Result<bool, TargetError> {
    Ok(!columns(target, table).await?.is_empty())
}

pub async fn has_rows(target: &mut dyn Target, table: &[String]) -> Result<bool, TargetError> {
    let sql = format!("SELECT 1 FROM {} LIMIT 1", dialect::path(table));
    Ok(!target.rows(sql, vec![BIGINT]).await?.is_empty())
}

/// The layout under which the view is written to a table that is there.
pub async fn layout(target: &mut dyn Target, table: &[String], schema: &Schema) -> Result<Layout, TargetError> {
    let found = columns(target, table).await?;
    let path = dialect::path(table);
    let dialect = target.dialect();
    for column in &schema.columns {
        let Some((_, declared)) = found.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name)) else {
            let message = format!("{path} has no column {}: add it, or let the table be created", column.name);
            return Err(TargetError::Refused(message));
        };
        let wanted = dialect.column_type(&column.sql_type);
        if !holds(dialect, declared, &column.sql_type) {
            let message = format!("{path}.{} is {declared}; the view needs {wanted}", column.name);
            return Err(TargetError::Refused(message));
        }
    }
    if found.iter().any(|(name, _)| name == KEY_COLUMN) {
        return Ok(Layout::new(dialect, schema, true));
    }
    let key: Vec<String> = match &schema.key {
        Some(key) if !key.is_empty() => key.iter().map(|k| schema.columns[*k].name.to_lowercase()).collect(),
        _ => {
            let message = format!("{path} has no {KEY_COLUMN} BINARY(16), which a view without a key needs");
            return Err(TargetError::Refused(message));
        }
    };
    let mut sorted = key.clone();
    sorted.sort();
    if !unique_keys(target, table).await?.contains(&sorted) {
        let message = format!("{path} has no NOT NULL unique key over the view's key ({})", key.join(", "));
        return Err(TargetError::Refused(message));
    }
    Ok(Layout::new(dialect, schema, false))
}

/// Names and declared types.
async fn columns(target: &mut dyn Target, table: &[String]) -> Result<Vec<(String, String)>, TargetError> {
    let dialect = target.dialect();
    let sql = if dialect.is_sqlite() {
        let table = dialect.quoted(table.last().expect("a table has a name"));
        format!("SELECT name, type FROM pragma_table_info({table})")
    } else {
        let (database, name) = database_and_name(dialect, table);
        format!(
            "SELECT column_name, column_type FROM information_schema.columns \
             WHERE table_schema={database} AND table_name={name} ORDER BY ordinal_position"
        )
    };
    let rows = target.rows(sql, vec![SqlType::Text(4), SqlType::Text(4)]).await?;
    Ok(rows.into_iter().map(|row| (text(&row[0]), text(&row[1]))).collect())
}

/// The columns, sorted and in lower case, of each unique key that admits no NULL.
async fn unique_keys(target: &mut dyn Target, table: &[String]) -> Result<Vec<Vec<String>>, TargetError> {
    let dialect = target.dialect();
    let sql = if dialect.is_sqlite() {
        let table = dialect.quoted(table.last().expect("a table has a name"));
        format!(
            "SELECT 'primary', name, 0 FROM pragma_table_info({table}) WHERE pk > 0 UNION ALL \
             SELECT l.name, i.name, 1 - t.\"notnull\" FROM pragma_index_list({table}) l, pragma_index_info(l.name) i, \
             pragma_table_info({table}) t WHERE l.\"unique\" = 1 AND l.partial = 0 AND t.name = i.name"
        )
    } else {
        let (database, name) = database_and_name(dialect, table);
        format!(
            "SELECT index_name, column_name, nullable = 'YES' OR sub_part IS NOT NULL \
             FROM information_schema.statistics WHERE table_schema={database} AND table_name={name} AND non_unique=0"
        )
    };
    let rows = target.rows(sql, vec![SqlType::Text(4), SqlType::Text(4), BIGINT]).await?;
    let mut keys = std::collections::BTreeMap::<String, (Vec<String>, bool)>::new();
    for row in rows {
        let (columns, whole) = keys.entry(text(&row[0])).or_insert((Vec::new(), true));
        columns.push(text(&row[1]).to_lowercase());
        *whole &= row[2] == Datum::Int(0);
    }
    let whole = keys.into_values().filter(|(_, whole)| *whole);
    Ok(whole
        .map(|(mut columns, _)| {
            columns.sort();
            columns
        })
        .collect())
}

/// True if a column declared so takes every value of the type.
fn holds(dialect: Dialect, declared: &str, wanted: &SqlType) -> bool {
    let declared = declared.to_lowercase();
    if dialect.is_sqlite() {
        let need = dialect.column_type(wanted).to_lowercase();
        // A column of another affinity would turn texts into numbers; one without a type keeps what it is given.
        return declared.is_empty() || declared == "blob" || declared == need || affinity(&declared) == affinity(&need);
    }
    let word = declared.split(['(', ' ']).next().unwrap_or_default();
    let arguments: Vec<u32> = declared
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or(Vec::new(), |(inside, _)| inside.split(',').filter_map(|n| n.trim().parse().ok()).collect());
    let first = arguments.first().copied().unwrap_or(0);
    let unsigned = declared.contains("unsigned");
    let integer_bytes = ["tinyint", "smallint", "mediumint", "int", "bigint"].iter().position(|w| *w == word);
    let integer_bytes = integer_bytes.map(|i| [1, 2, 3, 4, 8][i]);
    let text_bytes = ["tinytext", "text", "mediumtext", "longtext"].iter().position(|w| *w == word).map(|i| i + 1);
    let blob_bytes = ["tinyblob", "blob", "mediumblob", "longblob"].iter().position(|w| *w == word).map(|i| i + 1);
    let chars = |n: u32| (["varchar", "char"].contains(&word) && first >= n) || text_bytes.is_some_and(|b| b >= 2);
    let digits_from = |digits: u8| first >= digits as u32;
    match wanted {
        SqlType::Null => true,
        SqlType::Bool => integer_bytes.is_some(),
        SqlType::Int { bytes, unsigned: u } => match integer_bytes {
            Some(have) => (have >= *bytes && unsigned == *u) || (have > *bytes && !unsigned),
            None => word == "decimal" && first >= 20,
        },
        SqlType::Year => word == "year" || integer_bytes.is_some_and(|b| b >= 2),
        SqlType::Bit(n) => word == "bit" && first >= *n as u32,
        SqlType::Float => ["float", "double"].contains(&word),
        SqlType::Double => word == "double",
        SqlType::Decimal { precision, scale } => {
            let have_scale = arguments.get(1).copied().unwrap_or(0);
            word == "decimal" && have_scale >= *scale as u32 && first - have_scale >= (*precision - *scale) as u32
        }
        SqlType::Char(n) | SqlType::Varchar(n) => chars(*n),
        SqlType::Text(bytes) => text_bytes.is_some_and(|have| have >= *bytes as usize),
        SqlType::Binary(n) | SqlType::Varbinary(n) => {
            (["varbinary", "binary"].contains(&word) && first >= *n) || blob_bytes.is_some_and(|b| b >= 2)
        }
        SqlType::Blob(bytes) => blob_bytes.is_some_and(|have| have >= *bytes as usize),
        SqlType::Enum(_) | SqlType::Set(_) => declared == wanted.to_string().to_lowercase() || chars(255),
        // MariaDB's JSON is a LONGTEXT.
        SqlType::Json => ["json", "longtext"].contains(&word),
        SqlType::Date => ["date", "datetime"].contains(&word),
        SqlType::Time(digits) => word == "time" && digits_from(*digits),
        SqlType::Datetime(digits) => word == "datetime" && digits_from(*digits),
        SqlType::Timestamp(digits) => ["timestamp", "datetime"].contains(&word) && digits_from(*digits),
    }
}

fn affinity(declared: &str) -> &'static str {
    match declared {
        d if d.contains("int") => "integer",
        d if ["char", "clob", "text"].iter().any(|w| d.contains(w)) => "text",
        d if d.is_empty() || d.contains("blob") => "blob",
        d if ["real", "floa", "doub"].iter().any(|w| d.contains(w)) => "real",
        _ => "numeric",
    }
}

fn database_and_name(dialect: Dialect, table: &[String]) -> (String, String) {
    let name = dialect.quoted(table.last().expect("a table has a name"));
    let database = if table.len() > 1 { dialect.quoted(&table[0]) } else { "DATABASE()".into() };
    (database, name)
}

fn text(datum: &Datum) -> String {
    match datum {
        Datum::Text(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_a_type_only_if_it_holds_every_value_of_it() {
        let holds = |declared: &str, wanted: SqlType| holds(Dialect::MySql, declared, &wanted);
        assert!(holds("bigint", SqlType::Int { bytes: 4, unsigned: true }));
        assert!(!holds("bigint", SqlType::Int { bytes: 8, unsigned: true }));
        assert!(!holds("int unsigned", SqlType::Int { bytes: 4, unsigned: false }));
        assert!(holds("decimal(20,4)", SqlType::Decimal { precision: 12, scale: 2 }));
        assert!(!holds("decimal(12,4)", SqlType::Decimal { precision: 12, scale: 2 }));
        assert!(!holds("varchar(9)", SqlType::Varchar(10)) && holds("text", SqlType::Varchar(10)));
        assert!(!holds("datetime", SqlType::Datetime(6)) && holds("datetime(6)", SqlType::Datetime(3)));
    }
}
