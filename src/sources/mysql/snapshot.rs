//! Rows of several tables as of one GTID set, streamed into generations of the store.
//!
//! The point is fixed under a lock that lives as long as it takes to open the reading transactions and to ask for the
//! set (milliseconds): no commit falls between. `FLUSH TABLES WITH READ LOCK` where the account may, else `LOCK TABLES
//! … READ` of just these tables. Everything that was in the binlog before the lock is in the snapshot, but for XA
//! transactions that are prepared and not ended. Under the global lock XA RECOVER lists them; those that the stream has
//! passed are read again, with rows of these tables. Where one is not known, was purged or cannot be listed, the tables
//! are locked one by one: that lock is not given while a prepared transaction has changed them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use tokio::sync::mpsc;

use super::binlog::{gtid_executed, gtid_purged};
use super::connect::{Fault, Options, READ_SECONDS_MAX, connect, execute, literal, one, quoted, within};
use super::decode::{Batch, Decoder};
use super::gtid::{Gtid, GtidSet};
use super::schema::layouts_now;
use super::xa::{self, Xid};
use crate::row::ObjectId;
use crate::row::datum::Datum;
use crate::row::schema::Layout;
use crate::row::temporal::{self, MICROS_A_SECOND};
use crate::row::types::SqlType;
use crate::sources::FollowedTable;
use crate::store::{Load, Store, StoreError};

/// Waiting for the lock holds up writers: give up soon and try again later.
const LOCK_ALL_SECONDS_MAX: u64 = 3;
const LOCK_TABLES_SECONDS_MAX: u64 = 1;
/// How long a replica may take to reach what was read of the primary.
const REPLICA_SECONDS_MAX: u64 = 5;
/// Other levels have no consistent snapshot.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
const CONNECTIONS_MAX: usize = 2;
/// Batches that were read of a table and wait for the store.
const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// What a server answers to an account without RELOAD.
const ER_SPECIFIC_ACCESS_DENIED: u16 = 1227;

/// Tables as of one point of the binlog.
pub struct Snapshot {
    /// The transactions that it has; prepared ones are not in it until they end.
    pub set: GtidSet,
    /// Prepared transactions that the stream has given already and must give again, now with rows of these tables.
    pub again: GtidSet,
    pub rows: Reading,
}

/// Transactions that see one state of all the tables.
pub struct Reading {
    pub tables: Vec<Arc<Decoder>>,
    options: Options,
    readers: Vec<Conn>,
}

/// Rows read so far of a table, and the server's estimate of all.
pub struct Progress {
    pub table: ObjectId,
    pub rows: u64,
    pub rows_expected: Option<u64>,
}

impl Snapshot {
    /// Fixes the point; it includes `seen`, what the stream has given already. Of those, `prepared` waited for their
    /// end.
    pub async fn open(
        stream: &Options,
        tables: &[FollowedTable],
        seen: &GtidSet,
        prepared: &BTreeMap<Xid, Gtid>,
    ) -> Result<Snapshot, Fault> {
        let options = stream.for_snapshot();
        let layouts = layouts_now(&options, tables).await?;
        let mut locker = connect(&options).await?;
        let mut readers = Vec::new();
        for _ in 0..tables.len().min(CONNECTIONS_MAX) {
            let mut reader = connect(&options).await?;
            execute(&options, &mut reader, ISOLATION).await?;
            readers.push(reader);
        }
        let wait = format!("DO WAIT_FOR_EXECUTED_GTID_SET({}, {REPLICA_SECONDS_MAX})", literal(&seen.to_string()));
        execute(&options, &mut locker, &wait).await?;
        let mut fixed = None;
        if lock_all(&options, &mut locker).await? {
            let set = fix(&options, &mut locker, &mut readers).await?;
            let listed = xa::listed(&options, &mut locker).await?;
            execute(&options, &mut locker, "UNLOCK TABLES").await?;
            fixed = again(stream, listed, prepared).await?.map(|again| (set.minus(&again), again));
        }
        let (set, again) = match fixed {
            Some(fixed) => fixed,
            None => {
                lock_tables(&options, &mut locker, tables).await?;
                let set = fix(&options, &mut locker, &mut readers).await?;
                execute(&options, &mut locker, "UNLOCK TABLES").await?;
                (set, GtidSet::default())
            }
        };
        let missing = seen.minus(&set).minus(&again);
        if missing != GtidSet::default() {
            return Err(options.lost("take a snapshot", format!("it does not have transactions {missing} yet")));
        }
        if layouts_now(&options, tables).await? != layouts {
            return Err(options.lost("take a snapshot", "a table was altered meanwhile"));
        }
        Ok(Snapshot { set, again, rows: Reading { tables: decoders(tables, layouts), options, readers } })
    }
}

fn decoders(tables: &[FollowedTable], layouts: Vec<Vec<String>>) -> Vec<Arc<Decoder>> {
    let decoder = |(table, columns): (&FollowedTable, Vec<String>)| {
        let layouts = vec![Layout { since: None, columns }];
        Arc::new(Decoder::new(FollowedTable { layouts, ..table.clone() }))
    };
    tables.iter().zip(layouts).map(decoder).collect()
}

/// When the transaction began that the connection is in, by a TiDB's clock; `doing` names what needs it. Source: TiDB's
/// document "Information functions" (TIDB_CURRENT_TSO).
pub async fn tso(options: &Options, conn: &mut Conn, doing: &'static str) -> Result<u64, Fault> {
    let tso: Option<u64> = one(options, conn, "SELECT TIDB_CURRENT_TSO()").await?;
    let none = || options.lost(doing, "the transaction has no timestamp: is it a TiDB?");
    tso.filter(|tso| *tso > 0).ok_or_else(none)
}

impl Reading {
    /// The tables as of the start of one transaction.
    pub async fn open(options: &Options, tables: &[FollowedTable]) -> Result<Reading, Fault> {
        let layouts = layouts_now(options, tables).await?;
        let mut reader = connect(options).await?;
        execute(options, &mut reader, ISOLATION).await?;
        execute(options, &mut reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        if layouts_now(options, tables).await? != layouts {
            return Err(options.lost("take a snapshot", "a table was altered meanwhile"));
        }
        Ok(Reading { tables: decoders(tables, layouts), options: options.clone(), readers: vec![reader] })
    }

    /// The tables of a TiDB as of a timestamp: every commit up to it is in the rows, none after it.
    pub async fn of_tidb(options: &Options, tables: &[FollowedTable]) -> Result<(Reading, u64), Fault> {
        let mut reading = Reading::open(options, tables).await?;
        let reader = reading.readers.first_mut().expect("an open reading has a reader");
        let tso = tso(options, reader, "take a snapshot").await?;
        Ok((reading, tso))
    }

    /// Reads the tables one after the other, each with what is said behind its FROM; rows are handed on as they come.
    pub async fn stream(mut self, outputs: &[(String, mpsc::Sender<Read>)]) -> Result<(), Fault> {
        let reader = self.readers.first_mut().expect("an open reading has a reader");
        for (decoder, (clause, rows)) in self.tables.iter().zip(outputs) {
            if !read_rows(&self.options, reader, decoder, clause, rows, |_| {}).await? {
                break;
            }
        }
        Ok(())
    }

    /// Reads all rows into generations.
    pub async fn load(
        self,
        store: Arc<Store>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Vec<(ObjectId, u64)>, Fault> {
        self.read(store, progress, |table, load| Ok((table, load.finish()?))).await
    }

    /// Reads all rows; `end` says, on a thread that may block, what becomes of a table once it is read. A link that
    /// breaks ends the snapshot: its point cannot be had again.
    pub async fn read<T, E>(self, store: Arc<Store>, progress: mpsc::Sender<Progress>, end: E) -> Result<Vec<T>, Fault>
    where
        T: Clone + Send + 'static,
        E: Fn(ObjectId, Load) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        let left = Mutex::new(self.tables);
        let next = || left.lock().expect("no one panics while holding it").pop();
        let (options, store, progress, end) = (&self.options, &store, &progress, &end);
        let readers = self.readers.into_iter().map(|mut reader| async move {
            let mut done = Vec::new();
            while let Some(table) = next() {
                let id = table.table.id;
                let load = store.load(id).map_err(|e| store_failed(options, e))?;
                let (batches, rows) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
                let end = end.clone();
                let kept = tokio::task::spawn_blocking(move || keep(load, rows, |load| end(id, load)));
                // A store that fails closes the channel; why is what it returns.
                let read = read_table(options, &mut reader, &table, batches, progress).await?;
                let kept = kept.await.expect("keeping rows does not panic");
                let kept = kept.map_err(|e| store_failed(options, e))?;
                let Some(kept) = kept.filter(|_| read) else {
                    return Err(options.lost("keep rows in the store", "the load ended early"));
                };
                done.push(kept);
            }
            Ok::<_, Fault>(done)
        });
        Ok(futures::future::try_join_all(readers).await?.concat())
    }
}

/// Opens the reading transactions at the point that a lock of this session holds.
async fn fix(options: &Options, locker: &mut Conn, readers: &mut [Conn]) -> Result<GtidSet, Fault> {
    for reader in readers {
        execute(options, reader, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    }
    gtid_executed(options, locker).await
}

/// What was prepared at the point, if all of it can be read again; `None`: the tables must be free of prepared rows.
async fn again(
    stream: &Options,
    listed: Option<Vec<Xid>>,
    prepared: &BTreeMap<Xid, Gtid>,
) -> Result<Option<GtidSet>, Fault> {
    match listed {
        None => Ok(None),
        Some(listed) if listed.is_empty() => Ok(Some(GtidSet::default())),
        Some(listed) => {
            let mut conn = connect(stream).await?;
            let purged = gtid_purged(stream, &mut conn).await?;
            Ok(xa::located(&listed, prepared, &purged))
        }
    }
}

/// False: this account may not.
async fn lock_all(options: &Options, conn: &mut Conn) -> Result<bool, Fault> {
    execute(options, conn, &format!("SET SESSION lock_wait_timeout = {LOCK_ALL_SECONDS_MAX}")).await?;
    match conn.query_drop("FLUSH TABLES WITH READ LOCK").await {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(e)) if e.code == ER_SPECIFIC_ACCESS_DENIED => Ok(false),
        Err(e) => Err(options.lost("lock for a snapshot", e)),
    }
}

/// Waits for prepared transactions, too: the server keeps the tables locked for them.
async fn lock_tables(options: &Options, conn: &mut Conn, tables: &[FollowedTable]) -> Result<(), Fault> {
    execute(options, conn, &format!("SET SESSION lock_wait_timeout = {LOCK_TABLES_SECONDS_MAX}")).await?;
    let names: Vec<String> = tables.iter().map(|t| format!("{} READ", full_name(t))).collect();
    let locked = conn.query_drop(format!("LOCK TABLES {}", names.join(", "))).await;
    locked.map_err(|e| {
        let reason = format!("{e}; a transaction on them may be prepared and not ended: XA RECOVER lists such ones");
        options.lost("lock tables for a snapshot", reason)
    })
}

/// What a reader hands on.
pub enum Read {
    Rows(RecordBatch),
    /// All rows have come: without it, the link broke and there is no generation.
    End,
}

/// Writes the rows that come; disk work, off the async threads, where it would hold up the stream of changes.
fn keep<T>(
    mut load: Load,
    mut rows: mpsc::Receiver<Read>,
    end: impl FnOnce(Load) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    while let Some(read) = rows.blocking_recv() {
        match read {
            Read::Rows(rows) => load.push(rows)?,
            Read::End => return end(load).map(Some),
        }
    }
    Ok(None)
}

/// Reads all rows of a table; false if nobody takes them any more.
async fn read_table(
    options: &Options,
    conn: &mut Conn,
    decoder: &Decoder,
    batches: mpsc::Sender<Read>,
    progress: &mpsc::Sender<Progress>,
) -> Result<bool, Fault> {
    let table = &decoder.table;
    let estimate = format!(
        "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(&table.database),
        literal(&table.name)
    );
    let rows_expected: Option<u64> = one(options, conn, &estimate).await?;
    read_rows(options, conn, decoder, "", &batches, |rows| {
        // A report that finds no room is followed by a newer one.
        let _ = progress.try_send(Progress { table: table.id, rows, rows_expected });
    })
    .await
}

/// Reads a table's rows, all those that `clause` lets through; false if nobody takes them any more.
async fn read_rows(
    options: &Options,
    conn: &mut Conn,
    decoder: &Decoder,
    clause: &str,
    batches: &mpsc::Sender<Read>,
    mut report: impl FnMut(u64),
) -> Result<bool, Fault> {
    let table = &decoder.table;
    let columns: Vec<String> = table.schema.columns.iter().map(|c| quoted(&c.name)).collect();
    // As a prepared statement: the binary form of the answer keeps every bit of a FLOAT.
    let sql = format!("SELECT {} FROM {}{clause}", columns.join(", "), full_name(table));
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
            if batches.send(Read::Rows(delta.rows)).await.is_err() {
                return Ok(false);
            }
            report(rows);
        }
        if !more {
            return Ok(batches.send(Read::End).await.is_ok());
        }
    }
}

fn push(decoder: &Decoder, batch: &mut Batch, values: Vec<Value>) -> Result<(), Fault> {
    let columns = &decoder.table.schema.columns;
    let bad = |i: usize, reason: String| {
        let message = format!("{}: column {}: {reason}", full_name(&decoder.table), columns[i].name);
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

fn full_name(table: &FollowedTable) -> String {
    format!("{}.{}", quoted(&table.database), quoted(&table.name))
}
