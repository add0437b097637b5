//! A SQLite file as a target: one connection, its calls on threads that may block.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use crate::row::datum::Datum;
use crate::row::types::SqlType;
use crate::target::Target;
use crate::target::dialect::Dialect;
use crate::target::error::TargetError;

/// How long a statement waits for another process's lock on the file.
const BUSY_MS: u64 = 10_000;
const STATEMENT_BYTES_MAX: usize = 64 << 20;
/// Rows that are read ahead of who takes them, in pages of `PAGE_ROWS`.
const PAGES_AHEAD: usize = 4;
const PAGE_ROWS: usize = 1000;

pub struct Sqlite {
    /// Away while a call runs; lost if the call's future was dropped.
    connection: Option<Connection>,
}

impl Sqlite {
    pub async fn open(path: PathBuf) -> Result<Sqlite, TargetError> {
        let opened = tokio::task::spawn_blocking(move || {
            let open = || {
                let connection = Connection::open(&path)?;
                connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
                connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
                Ok(connection)
            };
            open().map_err(|e: rusqlite::Error| TargetError::Link(format!("{}: {e}", path.display())))
        });
        let connection = opened.await.map_err(|e| TargetError::Link(e.to_string()))??;
        Ok(Sqlite { connection: Some(connection) })
    }

    async fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&Connection) -> Result<T, TargetError> + Send + 'static,
    ) -> Result<T, TargetError> {
        let connection = self.take()?;
        let (connection, result) = tokio::task::spawn_blocking(move || {
            let result = call(&connection);
            (connection, result)
        })
        .await
        .map_err(|e| TargetError::Link(e.to_string()))?;
        self.connection = Some(connection);
        result
    }

    fn take(&mut self) -> Result<Connection, TargetError> {
        self.connection.take().ok_or_else(|| TargetError::Link("a call on this connection was given up".into()))
    }
}

#[async_trait]
impl Target for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn statement_bytes_max(&self) -> usize {
        STATEMENT_BYTES_MAX
    }

    async fn execute(&mut self, sql: String) -> Result<u64, TargetError> {
        self.call(move |connection| connection.execute(&sql, ()).map(|n| n as u64).map_err(classify)).await
    }

    async fn commit(&mut self) -> Result<(), TargetError> {
        let committed = self.call(|connection| connection.execute_batch("COMMIT").map_err(classify)).await;
        committed.map_err(|e| TargetError::Unknown(e.to_string()))
    }

    async fn read(
        &mut self,
        sql: String,
        types: Vec<SqlType>,
        each: &mut (dyn FnMut(Vec<Datum>) + Send),
    ) -> Result<(), TargetError> {
        let (pages, mut taken) = mpsc::channel::<Vec<Vec<Datum>>>(PAGES_AHEAD);
        let connection = self.take()?;
        let reading = tokio::task::spawn_blocking(move || {
            let result = read_pages(&connection, &sql, &types, &pages);
            (connection, result)
        });
        while let Some(page) = taken.recv().await {
            page.into_iter().for_each(&mut *each);
        }
        let (connection, result) = reading.await.map_err(|e| TargetError::Link(e.to_string()))?;
        self.connection = Some(connection);
        result
    }
}

fn read_pages(
    connection: &Connection,
    sql: &str,
    types: &[SqlType],
    pages: &mpsc::Sender<Vec<Vec<Datum>>>,
) -> Result<(), TargetError> {
    let mut statement = connection.prepare(sql).map_err(classify)?;
    let mut rows = statement.query(()).map_err(classify)?;
    let mut page = Vec::with_capacity(PAGE_ROWS);
    while let Some(row) = rows.next().map_err(classify)? {
        let values = types.iter().enumerate().map(|(i, t)| datum(row.get_ref(i).map_err(classify)?, t));
        page.push(values.collect::<Result<Vec<_>, _>>()?);
        if page.len() == PAGE_ROWS && pages.blocking_send(std::mem::take(&mut page)).is_err() {
            return Ok(());
        }
    }
    // Fails only when nobody takes the rows any more.
    let _ = pages.blocking_send(page);
    Ok(())
}

fn datum(value: ValueRef<'_>, sql_type: &SqlType) -> Result<Datum, TargetError> {
    let bad = |what: String| TargetError::Refused(format!("the table holds {what}, which is no {sql_type}"));
    Ok(match value {
        ValueRef::Null => Datum::Null,
        ValueRef::Integer(v) => match sql_type {
            SqlType::Bool => Datum::Bool(v != 0),
            SqlType::Int { unsigned: true, .. } | SqlType::Bit(_) => {
                Datum::UInt(v.try_into().map_err(|_| bad(v.to_string()))?)
            }
            SqlType::Float => Datum::Float(v as f32),
            SqlType::Double => Datum::Double(v as f64),
            SqlType::Int { .. } | SqlType::Year => Datum::Int(v),
            _ => Datum::parse(&v.to_string(), sql_type).map_err(|e| bad(e.value))?,
        },
        ValueRef::Real(v) => match sql_type {
            SqlType::Float => Datum::Float(v as f32),
            SqlType::Double => Datum::Double(v),
            _ => return Err(bad(v.to_string())),
        },
        ValueRef::Text(v) => {
            let text = std::str::from_utf8(v).map_err(|e| bad(e.to_string()))?;
            Datum::parse(text, sql_type).map_err(|e| bad(e.value))?
        }
        ValueRef::Blob(v) => match sql_type {
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => Datum::Bytes(v.to_vec()),
            _ => return Err(bad(format!("{} bytes", v.len()))),
        },
    })
}

fn classify(error: rusqlite::Error) -> TargetError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => TargetError::Retry(error.to_string()),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            TargetError::Link(error.to_string())
        }
        _ => TargetError::Refused(error.to_string()),
    }
}
