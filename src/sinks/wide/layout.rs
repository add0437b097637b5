//! The shape of a wide table: columns, primary key, how a row becomes literals and key bytes.

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use sha2::{Digest, Sha256};

use crate::row::codec::RowCodec;
use crate::row::datum::Datum;
use crate::row::schema::Schema;
use crate::row::types::SqlType;
use crate::target::dialect::{self, Dialect};
use crate::target::error::TargetError;

/// The column of a hidden key.
pub const KEY_COLUMN: &str = "_tidemill_key";
/// Bytes a hidden key takes from the hash of a row that may have copies; the copy's number takes the other 4.
pub const COPY_PREFIX_BYTES: usize = 12;

/// 16 bytes under which a row is found.
pub type HiddenKey = [u8; 16];

#[derive(Clone)]
pub struct Layout {
    pub dialect: Dialect,
    pub schema: Schema,
    /// The primary key is [`KEY_COLUMN`], not the view's own key.
    pub hidden: bool,
    rows: RowCodec,
    keys: RowCodec,
}

impl Layout {
    pub fn new(dialect: Dialect, schema: &Schema, hidden: bool) -> Layout {
        let types = |columns: &[usize]| {
            RowCodec::new(columns.iter().map(|c| schema.columns[*c].sql_type.arrow()).collect::<Vec<_>>())
        };
        let all: Vec<usize> = (0..schema.columns.len()).collect();
        let rows = types(&all);
        let keys = types(schema.key.as_deref().unwrap_or(&[]));
        Layout { dialect, schema: schema.clone(), hidden, rows, keys }
    }

    /// The layout of a table that does not exist yet.
    pub fn of_new_table(dialect: Dialect, schema: &Schema) -> Layout {
        let natural = schema.key.as_ref().is_some_and(|key| {
            let columns = || key.iter().map(|k| &schema.columns[*k]);
            let bytes: usize = columns().map(|c| index_bytes(&c.sql_type).unwrap_or(usize::MAX / 64)).sum();
            !key.is_empty()
                && columns().all(|c| !c.nullable && dialect.is_exact_key(&c.sql_type))
                && bytes <= dialect::KEY_BYTES_MAX
        });
        Layout::new(dialect, schema, !natural)
    }

    pub fn key(&self) -> &[usize] {
        self.schema.key.as_deref().unwrap_or(&[])
    }

    /// Rows may have copies: the view has no key.
    pub fn counted(&self) -> bool {
        self.schema.key.is_none()
    }

    pub fn key_names(&self) -> Vec<String> {
        if self.hidden { vec![KEY_COLUMN.into()] } else { self.names(self.key()) }
    }

    /// All columns that are written, a hidden key first.
    pub fn written_names(&self) -> Vec<String> {
        let all: Vec<usize> = (0..self.schema.columns.len()).collect();
        let hidden = self.hidden.then(|| KEY_COLUMN.to_string());
        hidden.into_iter().chain(self.names(&all)).collect()
    }

    fn names(&self, columns: &[usize]) -> Vec<String> {
        columns.iter().map(|c| self.schema.columns[*c].name.clone()).collect()
    }

    pub fn create_table(&self, table: &[String], comment: Option<&str>) -> String {
        let mut lines: Vec<String> = Vec::new();
        if self.hidden {
            let sql_type = if self.dialect.is_sqlite() { "BLOB" } else { "BINARY(16)" };
            lines.push(format!("{} {sql_type} NOT NULL", dialect::name(KEY_COLUMN)));
        }
        lines.extend((0..self.schema.columns.len()).map(|c| self.column(c)));
        lines.push(format!("PRIMARY KEY ({})", dialect::names(&self.key_names())));
        let indexable = |c: &usize| index_bytes(&self.schema.columns[*c].sql_type);
        let bytes: Option<usize> = self.key().iter().map(indexable).sum();
        let fits = bytes.is_some_and(|b| b > 0 && b <= dialect::KEY_BYTES_MAX);
        if self.hidden && fits && !self.dialect.is_sqlite() {
            lines.push(format!("KEY ({})", dialect::names(&self.names(self.key()))));
        }
        let mut end = match self.dialect {
            Dialect::Sqlite if self.hidden => " WITHOUT ROWID".to_string(),
            Dialect::Sqlite => String::new(),
            _ => " DEFAULT CHARSET=utf8mb4".to_string(),
        };
        if let (Some(comment), false) = (comment, self.dialect.is_sqlite()) {
            end.push_str(&format!(" COMMENT={}", self.dialect.quoted(comment)));
        }
        format!("CREATE TABLE {} (\n  {}\n){end}", dialect::path(table), lines.join(",\n  "))
    }

    fn column(&self, c: usize) -> String {
        let column = &self.schema.columns[c];
        let exact = (self.key().contains(&c) && matches!(column.sql_type, SqlType::Varchar(_)))
            || matches!(column.sql_type, SqlType::Enum(_) | SqlType::Set(_));
        let collation = match self.dialect {
            // TiDB's binary collation pads, yet it keeps labels that differ in case apart.
            Dialect::TiDb if exact => " COLLATE utf8mb4_bin".to_string(),
            d if exact => d.exact_collation().map_or(String::new(), |name| format!(" COLLATE {name}")),
            _ => String::new(),
        };
        // An explicit NULL: a bare TIMESTAMP may mean more than that to older servers.
        let null = if column.nullable { "NULL" } else { "NOT NULL" };
        let comment = match (&column.comment, self.dialect) {
            (Some(text), d) if !d.is_sqlite() => format!(" COMMENT {}", d.quoted(text)),
            _ => String::new(),
        };
        let sql_type = self.dialect.column_type(&column.sql_type);
        let default = match (&column.sql_type, column.nullable, self.dialect) {
            // Without one, an old MariaDB gives the first TIMESTAMP a default and an update of its own.
            (SqlType::Timestamp(_), false, Dialect::MariaDb) => " DEFAULT '0000-00-00 00:00:00'",
            _ => "",
        };
        format!("{} {sql_type}{collation} {null}{default}{comment}", dialect::name(&column.name))
    }

    /// The encoded rows of a batch, with values that a target stores alike made alike.
    pub fn encode(&self, rows: &RecordBatch) -> Vec<Vec<u8>> {
        let columns: Vec<ArrayRef> = rows.columns().to_vec();
        encoded(&self.rows, &columns, rows.num_rows())
    }

    pub fn encode_keys(&self, rows: &RecordBatch) -> Vec<Vec<u8>> {
        let columns: Vec<ArrayRef> = self.key().iter().map(|k| rows.column(*k).clone()).collect();
        encoded(&self.keys, &columns, rows.num_rows())
    }

    /// The key columns of an encoded key, as a tuple of literals.
    pub fn key_of_bytes(&self, key: &[u8]) -> Result<String, TargetError> {
        let columns = self.keys.decode([key]).expect("this layout encoded the key");
        let mut out = String::new();
        let types = self.key().iter().map(|k| &self.schema.columns[*k].sql_type);
        let values = columns.iter().zip(types).map(|(column, t)| (Datum::of(column, t, 0), t));
        self.tuple(&mut out, values, self.key().len() > 1)?;
        Ok(out)
    }

    pub fn key_of_row(&self, rows: &RecordBatch, row: usize) -> Result<String, TargetError> {
        let mut out = String::new();
        let values = self.key().iter().map(|k| self.datum(rows, *k, row));
        self.tuple(&mut out, values, self.key().len() > 1)?;
        Ok(out)
    }

    /// `(…)` of all columns that are written.
    pub fn values(&self, rows: &RecordBatch, row: usize, hidden: &HiddenKey) -> Result<String, TargetError> {
        let mut out = String::with_capacity(16 * self.schema.columns.len());
        let values = (0..self.schema.columns.len()).map(|c| self.datum(rows, c, row));
        if self.hidden {
            out.push('(');
            dialect::hex(&mut out, hidden);
            out.push(',');
            self.tuple(&mut out, values, false)?;
            out.push(')');
        } else {
            self.tuple(&mut out, values, true)?;
        }
        Ok(out)
    }

    fn datum<'a>(&'a self, rows: &RecordBatch, column: usize, row: usize) -> (Datum, &'a SqlType) {
        let sql_type = &self.schema.columns[column].sql_type;
        (Datum::of(rows.column(column), sql_type, row), sql_type)
    }

    fn tuple<'a>(
        &self,
        out: &mut String,
        values: impl Iterator<Item = (Datum, &'a SqlType)>,
        parentheses: bool,
    ) -> Result<(), TargetError> {
        out.push_str(if parentheses { "(" } else { "" });
        for (i, (datum, sql_type)) in values.enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            self.dialect.literal(out, &datum, sql_type).map_err(TargetError::Refused)?;
        }
        out.push_str(if parentheses { ")" } else { "" });
        Ok(())
    }
}

/// The hidden key of an encoded key.
pub fn hidden_key(key: &[u8]) -> HiddenKey {
    let hash = Sha256::digest(key);
    hash[..16].try_into().expect("SHA-256 has 32 bytes")
}

/// The hidden key of a copy of an encoded row.
pub fn copy_key(prefix: &[u8; COPY_PREFIX_BYTES], copy: u32) -> HiddenKey {
    let mut key = [0; 16];
    key[..COPY_PREFIX_BYTES].copy_from_slice(prefix);
    key[COPY_PREFIX_BYTES..].copy_from_slice(&copy.to_be_bytes());
    key
}

pub fn copy_prefix(row: &[u8]) -> [u8; COPY_PREFIX_BYTES] {
    let hash = Sha256::digest(row);
    hash[..COPY_PREFIX_BYTES].try_into().expect("SHA-256 has 32 bytes")
}

fn encoded(codec: &RowCodec, columns: &[ArrayRef], rows: usize) -> Vec<Vec<u8>> {
    if columns.is_empty() {
        return vec![Vec::new(); rows];
    }
    let encoded = codec.encode(columns).expect("a view's batch has the view's types");
    encoded.iter().map(|row| row.as_ref().to_vec()).collect()
}

/// The bytes a column takes in an index; `None` if it cannot be indexed whole.
fn index_bytes(sql_type: &SqlType) -> Option<usize> {
    match sql_type {
        SqlType::Text(_) | SqlType::Blob(_) | SqlType::Json | SqlType::Null => None,
        SqlType::Char(n) | SqlType::Varchar(n) => Some(*n as usize * 4),
        SqlType::Binary(n) | SqlType::Varbinary(n) => Some(*n as usize),
        SqlType::Decimal { .. } => Some(32),
        _ => Some(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::schema::Column;

    fn ddl(dialect: Dialect, nullable: bool) -> String {
        let mut city = Column::new("city", SqlType::Varchar(40), nullable);
        city.comment = Some("where it's".into());
        let schema = Schema { columns: vec![city, Column::new("n", SqlType::Json, true)], key: Some(vec![0]) };
        Layout::of_new_table(dialect, &schema).create_table(&["m".into(), "t".into()], Some("wide"))
    }

    #[test]
    fn the_views_key_is_the_primary_key_only_where_the_target_keeps_it_exactly() {
        let natural = "CREATE TABLE `m`.`t` (\n  `city` VARCHAR(40) COLLATE utf8mb4_0900_bin NOT NULL \
                       COMMENT 'where it''s',\n  \
                       `n` JSON NULL,\n  PRIMARY KEY (`city`)\n) DEFAULT CHARSET=utf8mb4 COMMENT='wide'";
        assert_eq!(ddl(Dialect::MySql, false), natural);
        for hidden in [ddl(Dialect::MySql, true), ddl(Dialect::TiDb, false)] {
            assert!(hidden.contains("`_tidemill_key` BINARY(16) NOT NULL"), "{hidden}");
            assert!(hidden.contains("PRIMARY KEY (`_tidemill_key`),\n  KEY (`city`)"), "{hidden}");
        }
    }
}
