//! Rows as multi-row statements, bounded by rows and bytes.

use arrow::record_batch::RecordBatch;

use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};
use crate::sinks::wide::layout::{COPY_PREFIX_BYTES, HiddenKey, Layout};
use crate::target::Target;
use crate::target::dialect;
use crate::target::error::TargetError;

const STATEMENT_ROWS_MAX: usize = 1000;
const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// A row to write, under its hidden key where the table has one.
pub struct Upsert<'a> {
    pub rows: &'a RecordBatch,
    pub row: usize,
    pub hidden: HiddenKey,
}

/// Collects the changes of one table into statements and sends them as they fill.
pub struct Writer {
    upserts: Statement,
    deletes: Statement,
}

impl Writer {
    pub fn new(layout: &Layout, table: &[String], target: &dyn Target) -> Writer {
        let (path, key, columns) = (dialect::path(table), layout.key_names(), layout.written_names());
        let others: Vec<String> = columns.iter().filter(|c| !key.contains(c)).cloned().collect();
        let bytes_max = target.statement_bytes_max();
        let upserts = Statement::new(
            format!("INSERT INTO {path} ({}) VALUES ", dialect::names(&columns)),
            layout.dialect.on_duplicate(&key, &others),
            bytes_max,
        );
        let names = dialect::names(&key);
        let (open, close) = match (key.len(), layout.dialect.is_sqlite()) {
            (1, _) => (format!("DELETE FROM {path} WHERE {names} IN ("), ")"),
            (_, true) => (format!("DELETE FROM {path} WHERE ({names}) IN (VALUES "), ")"),
            (_, false) => (format!("DELETE FROM {path} WHERE ({names}) IN ("), ")"),
        };
        Writer { upserts, deletes: Statement::new(open, close.into(), bytes_max) }
    }

    pub async fn upsert(
        &mut self,
        target: &mut dyn Target,
        layout: &Layout,
        row: &Upsert<'_>,
    ) -> Result<(), TargetError> {
        self.upserts.push(target, &layout.values(row.rows, row.row, &row.hidden)?).await
    }

    /// `key`: the key as literals, in parentheses if it has several columns.
    pub async fn delete(&mut self, target: &mut dyn Target, key: &str) -> Result<(), TargetError> {
        self.deletes.push(target, key).await
    }

    pub async fn finish_deletes(&mut self, target: &mut dyn Target) -> Result<(), TargetError> {
        self.deletes.send(target).await
    }

    pub async fn finish(&mut self, target: &mut dyn Target) -> Result<(), TargetError> {
        self.deletes.send(target).await?;
        self.upserts.send(target).await
    }
}

struct Statement {
    open: String,
    close: String,
    body: String,
    rows: usize,
    bytes_max: usize,
}

impl Statement {
    fn new(open: String, close: String, bytes_max: usize) -> Statement {
        Statement { open, close, body: String::new(), rows: 0, bytes_max }
    }

    async fn push(&mut self, target: &mut dyn Target, values: &str) -> Result<(), TargetError> {
        let around = self.open.len() + self.close.len() + 1;
        if around + values.len() >= self.bytes_max {
            let (bytes, limit) = (values.len(), self.bytes_max);
            let message = format!("a row of {bytes} bytes is larger than one statement may be there ({limit} bytes)");
            return Err(TargetError::Refused(message));
        }
        let bytes = around + self.body.len() + values.len();
        if self.rows == STATEMENT_ROWS_MAX || bytes >= self.bytes_max.min(STATEMENT_BYTES_MAX) {
            self.send(target).await?;
        }
        if self.rows > 0 {
            self.body.push(',');
        }
        self.body.push_str(values);
        self.rows += 1;
        Ok(())
    }

    async fn send(&mut self, target: &mut dyn Target) -> Result<(), TargetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let sql = format!("{}{}{}", self.open, self.body, self.close);
        self.body.clear();
        self.rows = 0;
        target.execute(sql).await.map(drop)
    }
}

/// How many copies of each of these rows the table has, in the order of the prefixes.
pub async fn copies(
    target: &mut dyn Target,
    table: &[String],
    prefixes: &[[u8; COPY_PREFIX_BYTES]],
) -> Result<Vec<u32>, TargetError> {
    /// Ranges in one query; SQLite takes expressions up to a depth of 1000.
    const RANGES_MAX: usize = 400;
    let mut counts = std::collections::HashMap::new();
    let (path, key) = (dialect::path(table), dialect::name(crate::sinks::wide::layout::KEY_COLUMN));
    for some in prefixes.chunks(RANGES_MAX) {
        let ranges: Vec<String> = some
            .iter()
            .map(|prefix| {
                let mut range = format!("{key} BETWEEN ");
                dialect::hex(&mut range, &[&prefix[..], &[0; 4]].concat());
                range.push_str(" AND ");
                dialect::hex(&mut range, &[&prefix[..], &[255; 4]].concat());
                range
            })
            .collect();
        let ranges = ranges.join(" OR ");
        let prefix = format!("SUBSTR({key},1,{COPY_PREFIX_BYTES})");
        let sql = format!("SELECT {prefix}, COUNT(*) FROM {path} WHERE {ranges} GROUP BY {prefix}");
        for row in target.rows(sql, vec![SqlType::Binary(COPY_PREFIX_BYTES as u32), BIGINT]).await? {
            if let [Datum::Bytes(prefix), Datum::Int(count)] = &row[..] {
                counts.insert(prefix.clone(), *count as u32);
            }
        }
    }
    Ok(prefixes.iter().map(|prefix| counts.get(&prefix[..]).copied().unwrap_or(0)).collect())
}
