//! Rows of several tables as of one GTID set, streamed into generations of the store.
//!
//! The point is fixed under a lock that lives as long as it takes to open the reading transactions and to ask for the
//! set (milliseconds): no commit falls between. `FLUSH TABLES WITH READ LOCK` where the account may, else `LOCK TABLES
//! … READ` of just these tables. Everything that was in the binlog before the lock is in the snapshot.

use std::sync::{Arc, Mutex};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use tokio::sync::mpsc;

use super::binlog::gtid_executed;
use super::connect::{Fault, Options, READ_SECONDS_MAX, connect, execute, literal, one, quoted, within};
use super::decode::{Batch, Decoder};
use super::gtid::GtidSet;
use super::schema;
use crate::row::ObjectId;
use crate::row::datum::Datum;
use crate::row::temporal::{self, MICROS_A_SECOND};
use crate::row::types::SqlType;
use crate::store::{Load, Store, StoreError};

/// Waiting for the lock holds up writers: give up soon and try again later.
const LOCK_SECONDS_MAX: u64 = 3;
/// How long a replica may take to reach what was read of the primary.
const REPLICA_SECONDS_MAX: u64 = 5;
const CONNECTIONS_MAX: usize = 2;
/// What a server answers to an account without RELOAD.
const ER_SPECIFIC_ACCESS_DENIED: u16 = 1227;

/// Transactions that see one state of all the tables.
pub struct Snapshot {
    pub set: GtidSet,
    options: Options,
    tables: Vec<Arc<Decoder>>,
    readers: Vec<Conn>,
}

/// Rows read so far of a table, and the server's estimate of all.
pub struct Progress {
    pub table: ObjectId,
    pub rows: u64,
    pub rows_expected: Option<u64>,
}

impl Snapshot {
    /// Fixes the point; it includes `at_least`, what the stream has given already.
    pub async fn open(options: &Options, tables: &[Arc<Decoder>], at_least: &GtidSet) -> Result<Snapshot, Fault> {
        let options = options.for_snapshot();
        check_schema(&options, tables).await?;
        let mut locker = connect(&options).await?;
        let mut readers = Vec::new();
        for _ in 0..tables.len().min(CONNECTIONS_MAX) {
            let mut reader = connect(&options).await?;
            execute(&options, &mut reader, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            readers.push(reader);
        }
        let wait = format!("DO WAIT_FOR_EXECUTED_GTID_SET({}, {REPLICA_SECONDS_MAX})", literal(&at_least.to_string()));
        execute(&options, &mut locker, &wait).await?;
        lock(&options, &mut locker, tables).await?;
        for reader in &mut readers {
            execute(&options, reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        }
        let set = gtid_executed(&options, &mut locker).await?;
        execute(&options, &mut locker, "UNLOCK TABLES").await?;
        if !at_least.is_subset(&set) {
            let missing = at_least.minus(&set);
            return Err(options.lost("take a snapshot", format!("it does not have transactions {missing} yet")));
        }
        Ok(Snapshot { set, options, tables: tables.to_vec(), readers })
    }

    /// Reads all rows. A link that breaks ends the snapshot: its point cannot be had again.
    pub async fn load(
        self,
        store: Arc<Store>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Vec<(ObjectId, u64)>, Fault> {
        let left = Mutex::new(self.tables);
        let next = || left.lock().expect("no one panics while holding it").pop();
        let (options, store, progress) = (&self.options, &store, &progress);
        let readers = self.readers.into_iter().map(|mut reader| async move {
            let mut generations = Vec::new();
            while let Some(table) = next() {
                let load = store.load(table.table.id).map_err(|e| store_failed(options, e))?;
                let generation = read_table(options, &mut reader, &table, load, progress).await?;
                generations.push((table.table.id, generation));
            }
            Ok::<_, Fault>(generations)
        });
        Ok(futures::future::try_join_all(readers).await?.concat())
    }
}

/// The columns must still be what they were when the source was created.
async fn check_schema(options: &Options, tables: &[Arc<Decoder>]) -> Result<(), Fault> {
    let patterns: Vec<_> = tables.iter().map(|t| (t.table.database.clone(), t.table.name.clone())).collect();
    let upstream = schema::tables(options, &patterns, &[]).await?;
    for decoder in tables {
        let table = &decoder.table;
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
        if !now.layout.starts_with(&table.layout) {
            return changed("its columns are in another order".into());
        }
    }
    Ok(())
}

async fn lock(options: &Options, conn: &mut Conn, tables: &[Arc<Decoder>]) -> Result<(), Fault> {
    let limit = format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS_MAX}");
    execute(options, conn, &limit).await?;
    match conn.query_drop("FLUSH TABLES WITH READ LOCK").await {
        Ok(()) => Ok(()),
        Err(mysql_async::Error::Server(e)) if e.code == ER_SPECIFIC_ACCESS_DENIED => {
            let names: Vec<String> = tables.iter().map(|t| format!("{} READ", full_name(t))).collect();
            execute(options, conn, &format!("LOCK TABLES {}", names.join(", "))).await
        }
        Err(e) => Err(options.lost("lock for a snapshot", e)),
    }
}

async fn read_table(
    options: &Options,
    conn: &mut Conn,
    decoder: &Decoder,
    mut load: Load,
    progress: &mpsc::Sender<Progress>,
) -> Result<u64, Fault> {
    let table = &decoder.table;
    let estimate = format!(
        "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(&table.database),
        literal(&table.name)
    );
    let rows_expected: Option<u64> = one(options, conn, &estimate).await?;
    let columns: Vec<String> = table.schema.columns.iter().map(|c| quoted(&c.name)).collect();
    // As a prepared statement: the binary form of the answer keeps every bit of a FLOAT.
    let sql = format!("SELECT {} FROM {}", columns.join(", "), full_name(decoder));
    let mut result = within(options, "read a table", READ_SECONDS_MAX, conn.exec_iter(sql, ())).await?;
    let mut batch = decoder.batch();
    let mut rows = 0;
    loop {
        let more = within(options, "read a table", READ_SECONDS_MAX, async {
            while !batch.is_full() {
                let Some(row) = result.next().await? else { return Ok(Ok(false)) };
                if let Err(fault) = push(decoder, &mut batch, mysql_async::Row::unwrap(row)) {
                    return Ok(Err(fault));
                }
            }
            Ok(Ok(true))
        });
        let more = more.await??;
        if let Some(delta) = batch.take() {
            rows += delta.len() as u64;
            load.push(delta.rows).map_err(|e| store_failed(options, e))?;
            // A report that finds no room is followed by a newer one.
            let _ = progress.try_send(Progress { table: table.id, rows, rows_expected });
        }
        if !more {
            return load.finish().map_err(|e| store_failed(options, e));
        }
    }
}

fn push(decoder: &Decoder, batch: &mut Batch, values: Vec<Value>) -> Result<(), Fault> {
    let columns = &decoder.table.schema.columns;
    let bad = |i: usize, reason: String| {
        let message = format!("{}: column {}: {reason}", full_name(decoder), columns[i].name);
        Fault::stop("VALUE_UNREADABLE", message, "exclude the column (EXCLUDE COLUMNS) and create the source anew")
    };
    let mut row = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        row.push(datum(value, &columns[i].sql_type).map_err(|reason| bad(i, reason))?);
    }
    batch.push(&row, 1).map_err(|(i, reason)| bad(i, reason))
}

/// A value of the binary protocol as one of the column's type.
fn datum(value: Value, sql_type: &SqlType) -> Result<Datum, String> {
    let is_unsigned = matches!(sql_type, SqlType::Int { unsigned: true, .. });
    let date = |year, month, day| temporal::Date { year, month, day };
    let clock = |h: i64, m: u8, s: u8, us: u32| (h * 3600 + m as i64 * 60 + s as i64) * MICROS_A_SECOND + us as i64;
    Ok(match (value, sql_type) {
        (Value::NULL, _) => Datum::Null,
        (Value::Int(v), _) if is_unsigned => Datum::UInt(v as u64),
        (Value::UInt(v), _) if is_unsigned => Datum::UInt(v),
        (Value::Int(v), SqlType::Int { .. } | SqlType::Year) => Datum::Int(v),
        (Value::UInt(v), SqlType::Year) => Datum::Int(v as i64),
        (Value::Float(v), SqlType::Float) => Datum::Float(v),
        (Value::Double(v), SqlType::Double) => Datum::Double(v),
        (Value::Date(y, m, d, ..), SqlType::Date) => Datum::Date(date(y, m, d).to_days()),
        (Value::Date(y, mo, d, h, mi, s, us), SqlType::Datetime(_)) => {
            Datum::Datetime(temporal::datetime_micros(date(y, mo, d), clock(h as i64, mi, s, us)))
        }
        (Value::Date(y, mo, d, h, mi, s, us), SqlType::Timestamp(_)) => {
            Datum::Timestamp(temporal::datetime_micros(date(y, mo, d), clock(h as i64, mi, s, us)))
        }
        (Value::Time(negative, days, h, m, s, us), SqlType::Time(_)) => {
            let micros = clock(days as i64 * 24 + h as i64, m, s, us);
            Datum::Time(if negative { -micros } else { micros })
        }
        (Value::Bytes(bytes), SqlType::Bit(_)) if bytes.len() <= 8 => {
            Datum::UInt(bytes.iter().fold(0, |v, b| v << 8 | *b as u64))
        }
        (Value::Bytes(bytes), SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_)) => Datum::Bytes(bytes),
        (Value::Bytes(bytes), _) => {
            let text = String::from_utf8(bytes).map_err(|e| format!("is no UTF-8: {e}"))?;
            if sql_type.is_text() {
                return Ok(Datum::Text(text));
            }
            Datum::parse(&text, sql_type).map_err(|e| e.to_string())?
        }
        (value, _) => return Err(format!("comes as {value:?}, which is no {sql_type}")),
    })
}

/// A store that refuses rows for its own reasons (disk) may take them later.
fn store_failed(options: &Options, error: StoreError) -> Fault {
    options.lost("keep rows in the store", error)
}

fn full_name(decoder: &Decoder) -> String {
    format!("{}.{}", quoted(&decoder.table.database), quoted(&decoder.table.name))
}
