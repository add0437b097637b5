//! One suite over SQLite, MySQL and MariaDB: a scripted view, a real target, what it holds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use crate::config::{Secret, Tls};
use crate::dataflow::error::{ErrorCode, ErrorRow};
use crate::dataflow::{Batch, Snapshot};
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};
use crate::row::{ObjectId, Position, Ts};
use crate::sinks::wide::{read_ledger, start};
use crate::sinks::{SinkCommand, SinkEvent, SinkHandle, SinkView, ViewReader};
use crate::target::error::TargetError;
use crate::target::ledger::{Ledger, State};
use crate::target::{Address, TargetOptions, connect, dialect};

#[path = "../../../tests/support/mysql.rs"]
mod mysql;

const VIEW: ObjectId = ObjectId(7);
const WAIT: Duration = Duration::from_secs(60);

type Row = Vec<Datum>;

/// One view whose changes are scripted: all of them, by time.
struct Script {
    schema: Schema,
    state: Mutex<Vec<(Ts, Row, i64)>>,
    taps: Mutex<Vec<mpsc::UnboundedSender<Batch>>>,
    complete: watch::Sender<Ts>,
    store_id: u128,
}

impl Script {
    fn new(schema: Schema) -> Arc<Script> {
        Arc::new(Script {
            schema,
            state: Mutex::default(),
            taps: Mutex::default(),
            complete: watch::Sender::new(Ts(0)),
            store_id: 42,
        })
    }

    fn batch(&self, rows: &[(Row, i64)], ts: Ts) -> (RecordBatch, Vec<Ts>, Vec<i64>) {
        let columns = self.schema.columns.iter().enumerate().map(|(c, column)| {
            let mut builder = ColumnBuilder::new(&column.sql_type, rows.len());
            rows.iter().for_each(|(row, _)| builder.push(&row[c]).unwrap());
            builder.finish()
        });
        let batch = RecordBatch::try_new(self.schema.arrow(), columns.collect()).unwrap();
        (batch, vec![ts; rows.len()], rows.iter().map(|(_, diff)| *diff).collect())
    }

    /// One tick: changes at `ts`, then complete through it.
    fn tick(&self, ts: u64, rows: &[(Row, i64)]) {
        self.tick_with_errors(ts, rows, &[]);
    }

    fn tick_with_errors(&self, ts: u64, rows: &[(Row, i64)], errors: &[(&str, i64)]) {
        let ts = Ts(ts);
        let errors: Vec<_> = errors.iter().map(|(text, diff)| (overflow(text), ts, *diff)).collect();
        let batch = Batch { lower: ts, upper: ts.next(), updates: vec![self.batch(rows, ts)], errors };
        self.state.lock().unwrap().extend(rows.iter().map(|(row, diff)| (ts, row.clone(), *diff)));
        self.taps.lock().unwrap().retain(|tap| tap.send(batch.clone()).is_ok());
        self.complete.send_replace(ts);
    }

    /// The view's rows now, each with how often it is there.
    fn counted(&self) -> Vec<(Row, i64)> {
        let mut rows = BTreeMap::<String, (Row, i64)>::new();
        for (_, row, diff) in self.state.lock().unwrap().iter() {
            rows.entry(format!("{row:?}")).or_insert_with(|| (row.clone(), 0)).1 += diff;
        }
        rows.into_values().filter(|(_, count)| *count != 0).collect()
    }

    fn rows(&self) -> Vec<Row> {
        self.counted().into_iter().flat_map(|(row, count)| vec![row; count as usize]).collect()
    }
}

#[async_trait]
impl ViewReader for Script {
    async fn snapshot(&self, _: ObjectId) -> Result<(Ts, Snapshot), String> {
        let at = *self.complete.borrow();
        let rows = self.counted();
        let (batch, _, diffs) = self.batch(&rows, at);
        Ok((at, Snapshot::new(at, move |_| Box::new(std::iter::once(Delta::new(batch, diffs))))))
    }

    fn changes(&self, _: ObjectId, after: Ts) -> mpsc::UnboundedReceiver<Batch> {
        let (tap, changes) = mpsc::unbounded_channel();
        for (ts, row, diff) in self.state.lock().unwrap().iter().filter(|(ts, ..)| *ts > after) {
            let updates = vec![self.batch(&[(row.clone(), *diff)], *ts)];
            tap.send(Batch { lower: *ts, upper: ts.next(), updates, errors: vec![] }).unwrap();
        }
        self.taps.lock().unwrap().push(tap);
        changes
    }

    fn complete(&self) -> watch::Receiver<Ts> {
        self.complete.subscribe()
    }

    fn positions(&self, at: Ts) -> Vec<(String, Position)> {
        vec![("shop".into(), Position(format!("gtid:1-{at}")))]
    }

    fn store_tick(&self, at: Ts) -> (u128, u64) {
        (self.store_id, at.0)
    }
}

/// A target of one kind, with names of its own for each test.
struct Place {
    address: Address,
    database: Option<String>,
    _directory: Option<Directory>,
    _server: Option<mysql::Server>,
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn sqlite(test: &str) -> Place {
        let directory = std::env::temp_dir().join(format!("tidemill-sink-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let address = Address::Sqlite { path: directory.join("mart.db") };
        Place { address, database: None, _directory: Some(Directory(directory)), _server: None }
    }

    async fn server(kind: mysql::Kind) -> Option<Place> {
        let server = mysql::Server::start_or_skip(kind, &[]).await?;
        server.run("CREATE DATABASE `mart``1`").await;
        let (host, user, password) = ("127.0.0.1".into(), "root".into(), Secret::default());
        let address = Address::Mysql { host, port: server.port(), user, password, tls: Tls::default() };
        Some(Place { address, database: Some("mart`1".into()), _directory: None, _server: Some(server) })
    }

    fn options(&self, owner: &str) -> TargetOptions {
        TargetOptions { name: "dw".into(), address: self.address.clone(), owner: owner.into(), jitter_seed: 1 }
    }

    fn table(&self, name: &str) -> Vec<String> {
        self.database.iter().cloned().chain([name.to_string()]).collect()
    }

    async fn run(&self, sql: &str) -> u64 {
        connect(&self.options("hand")).await.unwrap().execute(sql.into()).await.unwrap()
    }

    /// The table's rows in the view's columns, in an order that both sides share.
    async fn rows(&self, table: &[String], schema: &Schema) -> Vec<Row> {
        let names: Vec<String> = schema.columns.iter().map(|c| c.name.clone()).collect();
        let sql = format!("SELECT {} FROM {}", dialect::names(&names), dialect::path(table));
        let types = schema.columns.iter().map(|c| c.sql_type.clone()).collect();
        let mut target = connect(&self.options("hand")).await.unwrap();
        sorted(target.rows(sql, types).await.unwrap())
    }

    fn view(&self, script: &Script, table: &str) -> SinkView {
        SinkView {
            view: VIEW,
            name: "mart.wide".into(),
            table: self.table(table),
            schema: script.schema.clone(),
            comment: Some("it's wide".into()),
            plan_hash: 99,
            replay_from: Ts(0),
            reconcile: false,
        }
    }

    async fn start(&self, owner: &str, script: &Arc<Script>, view: SinkView) -> SinkHandle {
        let handle = start(self.options(owner), Arc::clone(script) as _);
        assert!(handle.commands.send(SinkCommand::Add(view)).await.is_ok());
        handle
    }

    async fn state(&self) -> Option<(State, Ts)> {
        let rows = read_ledger(&self.options("hand")).await.unwrap();
        rows.first().map(|row| (row.state, row.ts))
    }
}

fn overflow(expression: &str) -> ErrorRow {
    ErrorRow { code: ErrorCode::Overflow, expression: expression.into(), row: "(2)".into() }
}

/// Only what differs is shown.
#[track_caller]
fn assert_same(found: Vec<Row>, wanted: Vec<Row>) {
    let texts = |rows: Vec<Row>| sorted(rows).into_iter().map(|row| format!("{row:?}")).collect::<Vec<_>>();
    let (found, wanted) = (texts(found), texts(wanted));
    let only = |a: &[String], b: &[String]| {
        a.iter().filter(|row| b.binary_search(row).is_err()).take(5).cloned().collect::<Vec<_>>()
    };
    let (more, less) = (only(&found, &wanted), only(&wanted, &found));
    let (have, want) = (found.len(), wanted.len());
    assert!(found == wanted, "{have} rows, not {want}; the table alone has {more:?}, the view alone {less:?}");
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

async fn until(handle: &mut SinkHandle, what: impl Fn(&SinkEvent) -> bool) -> SinkEvent {
    let found = tokio::time::timeout(WAIT, async {
        loop {
            let (_, event) = handle.events.recv().await.expect("the sink runs");
            if what(&event) {
                return event;
            }
        }
    });
    found.await.expect("the event comes in time")
}

async fn until_at(handle: &mut SinkHandle, at: u64) {
    until(handle, |e| matches!(e, SinkEvent::Committed { ts, .. } if *ts >= Ts(at))).await;
}

async fn until_live(handle: &mut SinkHandle) {
    until(handle, |e| matches!(e, SinkEvent::Live { .. })).await;
}

fn orders() -> Schema {
    let text = |name: &str, n| Column::new(name, SqlType::Varchar(n), true);
    Schema { columns: vec![Column::new("id", BIGINT, false), text("na`me", 40)], key: Some(vec![0]) }
}

fn order(id: i64, name: &str) -> Row {
    vec![Datum::Int(id), Datum::Text(name.into())]
}

async fn fills_follows_and_resumes(place: &Place) {
    let script = Script::new(orders());
    let view = place.view(&script, "wide o'rders");
    let many: Vec<_> = (0..25_000).map(|id| (order(id, &format!("naïve '\\ {id} 😀")), 1)).collect();
    script.tick(1000, &many);
    let mut handle = place.start("a", &script, view.clone()).await;
    until_live(&mut handle).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    script.tick(2000, &[(order(1, "naïve '\\ 1 😀"), -1), (order(1, "one"), 1), (order(2, "naïve '\\ 2 😀"), -1)]);
    until_at(&mut handle, 2000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    drop(handle);
    // While it is down the view moves and somebody edits a row; a resume replays, so the edit stays.
    script.tick(3000, &[(order(90_000, "late"), 1)]);
    place.run(&format!("UPDATE {} SET `na``me`='edited' WHERE id=5", dialect::path(&view.table))).await;
    let mut handle = place.start("b", &script, view.clone()).await;
    until_at(&mut handle, 3000).await;
    let rows = place.rows(&view.table, &script.schema).await;
    assert!(rows.contains(&order(5, "edited")) && rows.contains(&order(90_000, "late")));
    drop(handle);
    // Another plan: loaded by diff, which mends the edit.
    let mut handle = place.start("c", &script, SinkView { plan_hash: 100, ..view.clone() }).await;
    until_live(&mut handle).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    assert_eq!(place.state().await, Some((State::Live, Ts(3000))));
    let (done, removed) = tokio::sync::oneshot::channel();
    let remove = SinkCommand::Remove { view: VIEW, drop_table: true, done };
    assert!(handle.commands.send(remove).await.is_ok());
    assert_eq!(removed.await.unwrap(), Ok(()));
    assert_eq!(place.state().await, None);
}

async fn keeps_copies_of_rows_without_a_key(place: &Place) {
    let script = Script::new(Schema { key: None, ..orders() });
    let view = place.view(&script, "copies");
    script.tick(1000, &[(order(1, "a"), 3), (order(2, "b"), 1)]);
    let mut handle = place.start("a", &script, view.clone()).await;
    until_live(&mut handle).await;
    script.tick(2000, &[(order(1, "a"), -2), (order(2, "b"), 2), (order(3, "c"), 1)]);
    until_at(&mut handle, 2000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    script.tick(3000, &[(order(1, "a"), -1), (order(2, "b"), 1)]);
    until_at(&mut handle, 3000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
}

async fn a_second_server_fences_the_first(place: &Place) {
    let script = Script::new(orders());
    let view = place.view(&script, "fenced");
    script.tick(1000, &[(order(1, "a"), 1)]);
    let mut first = place.start("first", &script, view.clone()).await;
    until_live(&mut first).await;
    let mut second = place.start("second", &script, view.clone()).await;
    until_live(&mut second).await;
    script.tick(2000, &[(order(2, "b"), 1)]);
    let fenced = until(&mut first, |e| matches!(e, SinkEvent::Fenced { .. })).await;
    assert!(matches!(fenced, SinkEvent::Fenced { by } if by == "second"));
    until_at(&mut second, 2000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
}

async fn an_error_row_holds_the_view_until_it_goes(place: &Place) {
    let script = Script::new(orders());
    let view = place.view(&script, "held");
    script.tick(1000, &[(order(1, "a"), 1)]);
    let mut handle = place.start("a", &script, view.clone()).await;
    until_live(&mut handle).await;
    script.tick_with_errors(2000, &[(order(2, "b"), 1)], &[("price * 2", 1)]);
    let held = until(&mut handle, |e| matches!(e, SinkEvent::Held { .. })).await;
    assert!(matches!(held, SinkEvent::Held { reason, .. } if reason.contains("price * 2")));
    assert_eq!(place.rows(&view.table, &script.schema).await, vec![order(1, "a")]);
    script.tick_with_errors(3000, &[], &[("price * 2", -1)]);
    until_at(&mut handle, 3000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
}

async fn a_table_with_rows_is_refused_or_reconciled(place: &Place) {
    let script = Script::new(orders());
    let view = place.view(&script, "theirs");
    let path = dialect::path(&view.table);
    place.run(&format!("CREATE TABLE {path} (id BIGINT NOT NULL PRIMARY KEY, `na``me` VARCHAR(40), mine INT)")).await;
    place.run(&format!("INSERT INTO {path} VALUES (1,'a',11),(2,'wrong',22),(3,'gone',33)")).await;
    script.tick(1000, &[(order(1, "a"), 1), (order(2, "b"), 1)]);
    let mut handle = place.start("a", &script, view.clone()).await;
    let held = until(&mut handle, |e| matches!(e, SinkEvent::Held { .. })).await;
    assert!(matches!(held, SinkEvent::Held { reason, .. } if reason.contains("RECONCILE")));
    drop(handle);
    let mut handle = place.start("b", &script, SinkView { reconcile: true, ..view.clone() }).await;
    until_live(&mut handle).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    let sql = format!("SELECT mine FROM {path} ORDER BY id");
    let mine = connect(&place.options("hand")).await.unwrap().rows(sql, vec![BIGINT]).await.unwrap();
    assert_eq!(mine, vec![vec![Datum::Int(11)], vec![Datum::Int(22)]]);
}

async fn a_table_changed_by_hand_is_held_and_mended(place: &Place) {
    let script = Script::new(orders());
    let view = place.view(&script, "mended");
    script.tick(1000, &[(order(1, "a"), 1)]);
    let mut handle = place.start("a", &script, view.clone()).await;
    until_live(&mut handle).await;
    let path = dialect::path(&view.table);
    place.run(&format!("ALTER TABLE {path} RENAME COLUMN `na``me` TO away")).await;
    script.tick(2000, &[(order(2, "b"), 1)]);
    let held = until(&mut handle, |e| matches!(e, SinkEvent::Held { .. })).await;
    assert!(matches!(held, SinkEvent::Held { reason, .. } if reason.contains("na`me")));
    place.run(&format!("ALTER TABLE {path} RENAME COLUMN away TO `na``me`")).await;
    until_at(&mut handle, 2000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
}

/// Values at the ends of their types, and odd ones.
fn matrix() -> Vec<(SqlType, Vec<&'static str>)> {
    use SqlType::*;
    vec![
        (Int { bytes: 8, unsigned: true }, vec!["18446744073709551615", "0"]),
        (Int { bytes: 1, unsigned: false }, vec!["-128", "127"]),
        (
            Decimal { precision: 65, scale: 30 },
            vec!["-99999999999999999999999999999999999.999999999999999999999999999999"],
        ),
        (Decimal { precision: 10, scale: 2 }, vec!["1.10", "-0.01"]),
        (Float, vec!["0.1", "16777217"]),
        (Double, vec!["0.1", "-1.7976931348623157e308"]),
        (Varchar(20), vec!["😀\0'\"\\%", "ends with space ", ""]),
        (Text(4), vec!["line\nbreak\r\x1a"]),
        (Json, vec!["{\"a\": [1, null, \"x\"]}"]),
        (Enum(vec!["a'b".into(), "A'B".into()]), vec!["a'b", "A'B"]),
        (Set(vec!["x".into(), "y".into()]), vec!["x,y", ""]),
        (Date, vec!["0000-00-00", "2020-00-10", "2021-02-30", "9999-12-31"]),
        (Time(6), vec!["-838:59:59.000000", "838:59:59.000000", "-00:00:00.500000"]),
        (Datetime(6), vec!["0000-00-00 00:00:00.000000", "9999-12-31 23:59:59.999999"]),
        (Timestamp(3), vec!["1970-01-01 00:00:01.001", "2038-01-19 03:14:07.000"]),
        (Year, vec!["2155", "0000"]),
        (Bit(64), vec!["18446744073709551615"]),
        (Bool, vec!["1", "0"]),
    ]
}

async fn every_type_comes_back_as_it_went(place: &Place) {
    let types = matrix();
    let mut columns = vec![Column::new("id", BIGINT, false)];
    columns.extend(types.iter().enumerate().map(|(i, (t, _))| Column::new(format!("c{i}"), t.clone(), true)));
    columns.push(Column::new("b", SqlType::Varbinary(300), true));
    let script = Script::new(Schema { columns, key: Some(vec![0]) });
    let view = place.view(&script, "types");
    let mut rows = Vec::new();
    for i in 0..4 {
        let mut row = vec![Datum::Int(i as i64)];
        row.extend(types.iter().map(|(t, texts)| texts.get(i).map_or(Datum::Null, |x| Datum::parse(x, t).unwrap())));
        row.push(Datum::Bytes((0..=255).collect()));
        rows.push((row, 1));
    }
    script.tick(1000, &rows[..2]);
    let mut handle = place.start("a", &script, view.clone()).await;
    until_live(&mut handle).await;
    script.tick(2000, &rows[2..]);
    until_at(&mut handle, 2000).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
    drop(handle);
    // Loaded by diff, nothing differs: the read side agrees with the written one.
    let mut handle = place.start("b", &script, SinkView { plan_hash: 1, ..view.clone() }).await;
    until_live(&mut handle).await;
    assert_same(place.rows(&view.table, &script.schema).await, script.rows());
}

async fn the_ledger_settles_a_commit_in_doubt(place: &Place) {
    let mut target = connect(&place.options("x")).await.unwrap();
    let mut ledger = Ledger::new("doubt", "x");
    assert_eq!(ledger.hold(target.as_mut()).await, Ok(false));
    for committed in [true, false] {
        target.begin().await.unwrap();
        ledger.fence(target.as_mut(), None).await.unwrap();
        // Around the ledger, as if the answer never came.
        match committed {
            true => target.commit().await.unwrap(),
            false => target.rollback().await.unwrap(),
        }
        target = connect(&place.options("x")).await.unwrap();
        assert_eq!(ledger.hold(target.as_mut()).await, Ok(committed));
    }
    assert_eq!(Ledger::new("doubt", "y").hold(target.as_mut()).await, Ok(false));
    assert_eq!(ledger.hold(target.as_mut()).await, Err(TargetError::Fenced("y".into())));
}

/// A link that is cut after a number of bytes in either direction, each time another one.
struct Flaky {
    port: u16,
    /// Bytes until the next cut; negative: no cuts.
    budget: Arc<AtomicI64>,
    cuts: Arc<AtomicI64>,
}

impl Flaky {
    async fn start(to: u16) -> Flaky {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let budget = Arc::new(AtomicI64::new(-1));
        let cuts = Arc::new(AtomicI64::new(0));
        let (left, cut) = (Arc::clone(&budget), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let (near, far) = (near.into_split(), far.into_split());
                let (there, back) = (pump(near.0, far.1, Arc::clone(&left)), pump(far.0, near.1, Arc::clone(&left)));
                let cut = Arc::clone(&cut);
                // One direction's end cuts both.
                tokio::spawn(async move {
                    let was_cut = tokio::select! { cut = there => cut, cut = back => cut };
                    cut.fetch_add(was_cut as i64, Ordering::SeqCst);
                });
            }
        });
        Flaky { port, budget, cuts }
    }
}

/// True if it was cut, false if an end closed.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, budget: Arc<AtomicI64>) -> bool {
    let mut buffer = [0; 512];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let left = budget.load(Ordering::SeqCst);
        let sent = if left < 0 { n } else { n.min(left as usize) };
        if to.write_all(&buffer[..sent]).await.is_err() {
            return false;
        }
        if sent < n {
            return true;
        }
        if left >= 0 {
            // Never below 0, which would end the cutting.
            let spend = |b: i64| (b >= 0).then(|| (b - sent as i64).max(0));
            let _ = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend);
        }
    }
    false
}

/// Changes go on while the link is cut anywhere and the server restarts: nothing is lost, nothing doubled.
async fn survives_cuts_and_restarts(place: &Place, seed: u64) {
    eprintln!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let Address::Mysql { host, port, user, password, tls } = place.address.clone() else { panic!("a wire to cut") };
    let flaky = Flaky::start(port).await;
    let address = Address::Mysql { host, port: flaky.port, user, password, tls };
    let near = Place { address, database: place.database.clone(), _directory: None, _server: None };
    for schema in [orders(), Schema { key: None, ..orders() }] {
        flaky.cuts.store(0, Ordering::SeqCst);
        let script = Script::new(schema);
        let view = near.view(&script, &format!("cut{}", script.schema.key.is_some()));
        script.tick(1000, &(0..200).map(|id| (order(id, "first"), 1)).collect::<Vec<_>>());
        flaky.budget.store(random(4000) as i64, Ordering::SeqCst);
        let mut handle = near.start("run 0", &script, view.clone()).await;
        for tick in 0..60 {
            tokio::time::sleep(Duration::from_millis(random(60))).await;
            let (rows, id) = (script.rows(), 1000 + tick as i64);
            let gone = rows[random(rows.len() as u64) as usize].clone();
            let again = order(id - 500 - random(400) as i64 % 100, "again");
            let come =
                [(gone, -1), (order(id, "new"), 1), (again.clone(), !rows.iter().any(|r| r[0] == again[0]) as i64)];
            script.tick(2000 + tick, &come);
            if random(2) == 0 {
                flaky.budget.store(random(6000) as i64, Ordering::SeqCst);
            }
            if random(12) == 0 {
                drop(handle);
                handle = near.start(&format!("run {tick}"), &script, view.clone()).await;
            }
        }
        flaky.budget.store(-1, Ordering::SeqCst);
        let cuts = flaky.cuts.load(Ordering::SeqCst);
        assert!(cuts > 3, "only {cuts} cuts: seed {seed}");
        until_at(&mut handle, 2059).await;
        while !matches!(place.state().await, Some((State::Live, _))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_same(place.rows(&view.table, &script.schema).await, script.rows());
        drop(handle);
        let mut target = connect(&place.options("hand")).await.unwrap();
        let mut ledger = Ledger::new("dw", "hand");
        ledger.hold(target.as_mut()).await.unwrap();
        ledger.forget(target.as_mut(), "mart.wide").await.unwrap();
    }
}

/// Each case on a table of its own.
async fn suite(place: &Place) {
    fills_follows_and_resumes(place).await;
    for table in ["copies", "fenced", "held", "mended", "theirs", "types"] {
        match table {
            "copies" => keeps_copies_of_rows_without_a_key(place).await,
            "fenced" => a_second_server_fences_the_first(place).await,
            "held" => an_error_row_holds_the_view_until_it_goes(place).await,
            "mended" => a_table_changed_by_hand_is_held_and_mended(place).await,
            "theirs" => a_table_with_rows_is_refused_or_reconciled(place).await,
            _ => every_type_comes_back_as_it_went(place).await,
        }
        let mut target = connect(&place.options("hand")).await.unwrap();
        Ledger::new("dw", "hand").hold(target.as_mut()).await.unwrap();
        Ledger::new("dw", "hand").forget(target.as_mut(), "mart.wide").await.unwrap();
    }
    the_ledger_settles_a_commit_in_doubt(place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    suite(&Place::sqlite("suite")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_links() {
    if let Some(place) = Place::server(mysql::Kind::MariaDb).await {
        let seed = std::env::var("TIDEMILL_TEST_SEED").ok().and_then(|s| s.parse().ok());
        survives_cuts_and_restarts(&place, seed.unwrap_or(20_251)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_server() {
    if let Some(place) = Place::server(mysql::Kind::MySql).await {
        suite(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_server() {
    if let Some(place) = Place::server(mysql::Kind::MariaDb).await {
        suite(&place).await;
    }
}
