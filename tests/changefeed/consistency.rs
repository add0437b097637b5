//! Internal consistency: every state that is emitted is one after whole transactions.
//!
//! The workload of the article "Internal consistency in streaming systems": transfers of 1 between ten accounts come in
//! transactions of up to 1,000; views sum them by receiver and by sender and join the sums to balances. Watched are
//! SUBSCRIBE, state by state, the port in transaction blocks and the wide tables, over a TiCDC feed of four partitions
//! with replays and over MySQL with four writers; servers are killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use mysql_async::prelude::Queryable;
use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::Row;
use tokio_postgres::SimpleQueryMessage;

use crate::bank::{self, Random};
use crate::kafka::{Feed, PARTITIONS};
use crate::kafka_broker::Broker;
use crate::mysql_server::{Kind, Server};
use crate::ticdc::Encoder;
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

const ACCOUNTS: u64 = 10;
const TRANSACTION_ROWS_MAX: u64 = 1_000;
const DECLARED: &str = "bank.moves (id BIGINT NOT NULL PRIMARY KEY, from_id INT NOT NULL, to_id INT NOT NULL,
    amount INT NOT NULL)";
const WATCHED: [&str; 5] = ["accepted", "credits", "debits", "balance", "total"];
const VIEWS: &str = "
    CREATE MATERIALIZED VIEW accepted INTO dw.mart.accepted WITH (wait) AS SELECT COUNT(*) AS n FROM bank.moves;
    CREATE MATERIALIZED VIEW both_sides WITH (wait) AS
      SELECT l.id, r.id AS right_id FROM bank.moves l LEFT JOIN bank.moves r ON r.id = l.id;
    CREATE MATERIALIZED VIEW credits INTO dw.mart.credits WITH (wait) AS
      SELECT to_id AS account, SUM(amount) AS amount FROM bank.moves GROUP BY to_id;
    CREATE MATERIALIZED VIEW debits INTO dw.mart.debits WITH (wait) AS
      SELECT from_id AS account, SUM(amount) AS amount FROM bank.moves GROUP BY from_id;
    CREATE MATERIALIZED VIEW balance INTO dw.mart.balance WITH (wait) AS
      SELECT c.account, c.amount - d.amount AS amount FROM credits c JOIN debits d ON d.account = c.account;
    CREATE MATERIALIZED VIEW total INTO dw.mart.total WITH (wait) AS SELECT SUM(amount) AS amount FROM balance";

/// Transfers to be made, and what becomes of the accounts.
struct Moves {
    random: Random,
    made: u64,
    balance: BTreeMap<u64, i64>,
}

impl Moves {
    fn new(seed: u64) -> Moves {
        Moves { random: Random(seed), made: 0, balance: BTreeMap::new() }
    }

    /// The rows of one transaction. The first one touches every account, so that all are in all views.
    fn transaction(&mut self) -> Vec<(u64, u64, u64)> {
        let rows = if self.made == 0 { ACCOUNTS } else { 1 + self.random.below(TRANSACTION_ROWS_MAX) };
        let mut moves = Vec::new();
        for i in 0..rows {
            let (from, to) = match self.made < ACCOUNTS {
                true => (i, (i + 1) % ACCOUNTS),
                false => (self.random.below(ACCOUNTS), self.random.below(ACCOUNTS)),
            };
            self.made += 1;
            *self.balance.entry(from).or_default() -= 1;
            *self.balance.entry(to).or_default() += 1;
            moves.push((self.made, from, to));
        }
        moves
    }
}

/// What SUBSCRIBE told of a view: timestamp, operation, row.
type Told = Arc<Mutex<Vec<(u64, String, Vec<String>)>>>;

/// Listens to the views until the server goes.
struct Watch {
    told: BTreeMap<&'static str, Told>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Watch {
    async fn start(server: &Tidemill) -> Watch {
        let (mut told, mut tasks) = (BTreeMap::new(), Vec::new());
        for view in WATCHED {
            let client = server.client().await;
            let of_view = Told::default();
            told.insert(view, Arc::clone(&of_view));
            tasks.push(tokio::spawn(async move {
                let stream = client.simple_query_raw(&format!("SUBSCRIBE TO {view}")).await;
                let mut stream = Box::pin(stream.expect("the view is there"));
                // It ends with an error when the server is killed.
                while let Some(Ok(message)) = stream.next().await {
                    if let SimpleQueryMessage::Row(row) = message {
                        let cell = |i: usize| row.get(i).unwrap_or("NULL").to_string();
                        let cells = (2..row.len()).map(cell).collect();
                        of_view.lock().unwrap().push((cell(0).parse().expect("a timestamp"), cell(1), cells));
                    }
                }
            }));
        }
        Watch { told, tasks }
    }

    /// Kills the server, checks what was told until then, and listens to it again.
    async fn over_kill(&mut self, server: &mut Tidemill, what: &str) -> usize {
        server.kill();
        let states = self.check(what);
        server.restart().await;
        *self = Watch::start(server).await;
        states
    }

    /// Ends, and checks every state that was told; returns how many there were.
    fn check(&self, what: &str) -> usize {
        self.tasks.iter().for_each(|task| task.abort());
        let told: BTreeMap<_, Vec<_>> = self.told.iter().map(|(v, told)| (*v, told.lock().unwrap().clone())).collect();
        // Every transaction changes `accepted`, and sums by account with it: all are known up to the least last one.
        let last = |view: &str| told[view].last().map_or(0, |(ts, ..)| *ts);
        let horizon = ["accepted", "credits", "debits"].map(last).into_iter().min().unwrap();
        // Each listener has begun at a moment of its own.
        let begin = told.values().filter_map(|told| told.first()).map(|(ts, ..)| *ts).max().unwrap_or(0);
        let moments: BTreeSet<u64> = told.values().flatten().map(|(ts, ..)| *ts).filter(|ts| *ts < horizon).collect();
        let mut states: BTreeMap<&str, State> = WATCHED.map(|view| (view, State::default())).into();
        let mut accepted = 0;
        for ts in &moments {
            for (view, state) in &mut states {
                state.advance(&told[view], *ts, &format!("{what}: {view} at {ts}"));
            }
            if *ts < begin {
                continue;
            }
            // A sum over no rows is NULL.
            let amounts = |view: &str| states[view].rows.values().filter(|amount| *amount != "NULL");
            let sum = |view: &str| amounts(view).map(|amount| amount.parse::<i64>().unwrap()).sum::<i64>();
            let n = sum("accepted");
            let sums = [sum("credits"), sum("debits"), sum("balance"), sum("total")];
            assert_eq!(sums, [n, n, 0, 0], "{what}: credits, debits, balance, total at {ts}, {n} transfers");
            assert!(n >= accepted, "{what}: {n} transfers at {ts} after {accepted}");
            accepted = n;
        }
        moments.range(begin..).count()
    }
}

/// A view as SUBSCRIBE tells it, up to some moment: the last column by the others.
#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<String>, String>,
    next: usize,
}

impl State {
    fn advance(&mut self, told: &[(u64, String, Vec<String>)], through: u64, what: &str) {
        let mut touched: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
        while let Some((ts, op, row)) = told.get(self.next).filter(|(ts, ..)| *ts <= through) {
            assert!(*ts == through, "{what}: an answer at {ts} came late");
            self.next += 1;
            let (value, key) = row.split_last().expect("a column");
            touched.entry(key).or_default().push(op);
            match &**op {
                "+I" => assert_eq!(self.rows.insert(key.to_vec(), value.clone()), None, "{what}: {row:?} is new"),
                "-U" | "-D" => assert_eq!(self.rows.remove(key).as_ref(), Some(value), "{what}: {row:?} was there"),
                "+U" => assert_eq!(self.rows.insert(key.to_vec(), value.clone()), None, "{what}: {row:?} replaces"),
                other => panic!("{what}: {other}"),
            }
        }
        // A key changes once in a moment.
        let once: [&[&str]; 3] = [&["+I"], &["-U", "+U"], &["-D"]];
        assert!(touched.values().all(|ops| once.contains(&&ops[..])), "{what}: {touched:?}");
    }
}

const CHECK: &str = "SELECT (SELECT n FROM accepted), (SELECT SUM(amount) FROM credits),
    (SELECT SUM(amount) FROM debits), (SELECT SUM(amount) FROM balance), (SELECT amount FROM total)";

/// The same in a wide table each, read in one transaction of the target.
async fn check_target(target: &Server) {
    let mut conn = target.connect().await;
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT; USE mart").await.expect("it answers");
    let row: Option<mysql_async::Row> = conn.query_first(CHECK).await.expect("it answers");
    let cells: Vec<Option<i64>> = row.expect("one row").unwrap().into_iter().map(mysql_async::from_value).collect();
    let n = cells[0].unwrap_or(0);
    let sums: Vec<i64> = cells[1..].iter().map(|sum| sum.unwrap_or(0)).collect();
    assert_eq!(sums, [n, n, 0, 0], "credits, debits, balance, total in the target, {n} transfers");
}

/// On the port, in one block: statements of their own see one moment.
async fn check_port(client: &tokio_postgres::Client) -> i64 {
    let mut cells = Vec::new();
    sql(client, "BEGIN").await;
    for query in [
        "SELECT n FROM accepted",
        "SELECT SUM(amount) FROM credits",
        "SELECT SUM(amount) FROM debits",
        "SELECT COUNT(*) FROM both_sides WHERE right_id IS NOT NULL",
        "SELECT SUM(amount) FROM balance",
        "SELECT COUNT(*) FROM both_sides WHERE right_id IS NULL",
    ] {
        let rows = sql(client, query).await;
        cells.push(rows.first().and_then(|row| row[0].as_ref()).map_or(0, |n| n.parse::<i64>().unwrap()));
    }
    sql(client, "COMMIT").await;
    let n = cells[0];
    assert_eq!(cells[1..], [n, n, n, 0, 0], "credits, debits, both sides, balance, one side of {n} transfers");
    n
}

async fn check_end(client: &tokio_postgres::Client, target: &Server, moves: &Moves) {
    let expected: Vec<Vec<Option<String>>> =
        moves.balance.iter().map(|(id, sum)| vec![Some(id.to_string()), Some(sum.to_string())]).collect();
    eventually("the balances are those of the transfers", 60, async || {
        let n = try_sql(client, "SELECT n FROM accepted").await.map_err(|e| e.to_string())?;
        let found = try_sql(client, "SELECT account, amount FROM balance ORDER BY account").await;
        let found = found.map_err(|e| e.to_string())?;
        match found == expected && n == [[Some(moves.made.to_string())]] {
            true => Ok(()),
            false => Err(format!("{n:?} of {}: {found:?}", moves.made)),
        }
    })
    .await;
    eventually("the wide table has the balances", 30, async || {
        let found = target.rows("SELECT account, amount FROM mart.balance ORDER BY account").await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

fn table() -> FollowedTable {
    let int = |name: &str| Column::new(name, SqlType::Int { bytes: 4, unsigned: false }, false);
    let columns = vec![Column::new("id", BIGINT, false), int("from_id"), int("to_id"), int("amount")];
    FollowedTable::declared(ObjectId(1), "bank", "moves", Schema { columns, key: Some(vec![0]) })
}

fn row((id, from, to): (u64, u64, u64)) -> Row {
    [id, from, to, 1].into_iter().map(|n| Datum::Int(n as i64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_consistent_over_ticdc_with_replays_and_kills() {
    const ROUNDS: usize = 60;
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    target.run("CREATE DATABASE mart").await;
    broker.create_topic("moves", PARTITIONS as i32, &[]).await;
    let mut server = Tidemill::start(&temporary("consistency-ticdc"), &[], &[]).await;
    let (kafka, port) = (broker.address(), target.port());
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE bank FROM TICDC
               'kafka://{kafka}/moves?protocol=canal-json&enable-tidb-extension=true&partition-num={PARTITIONS}'
               TABLES ({DECLARED}); {VIEWS}"
        ),
    )
    .await;
    let (mut moves, mut random, table) = (Moves::new(seed), Random(seed + 1), table());
    let mut feed = Feed::new(broker.producer(), "moves", Encoder::canal_json());
    let mut commit = 465_000_000_000_000_000;
    let (mut watch, mut states) = (Watch::start(&server).await, 0);
    for round in 0..ROUNDS {
        for _ in 0..3 {
            commit += 1 << 18;
            moves.transaction().into_iter().for_each(|m| feed.row(&table, None, Some(&row(m)), commit));
        }
        feed.some_watermarks(&mut random, commit + 1);
        if random.below(3) == 0 {
            feed.replay(&mut random, 2_000);
        }
        if round % 20 == 15 {
            states += watch.over_kill(&mut server, &format!("seed {seed}, round {round}")).await;
        }
        check_port(&server.client().await).await;
        check_target(&target).await;
    }
    feed.watermarks(commit + 1);
    check_end(&server.client().await, &target, &moves).await;
    states += watch.check(&format!("seed {seed}, at the end"));
    println!("{} transfers, {states} states", moves.made);
    assert!(states > ROUNDS / 4, "{states} states were seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_consistent_over_mysql_with_four_writers_and_kills() {
    const WRITERS: usize = 4;
    const TRANSACTIONS: usize = 40;
    let seed = bank::seed();
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    source.run(&format!("CREATE DATABASE bank; CREATE TABLE {DECLARED}")).await;
    target.run("CREATE DATABASE mart").await;
    let mut server = Tidemill::start(&temporary("consistency-mysql"), &[], &[]).await;
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION my TO MYSQL (HOST '127.0.0.1', PORT {}, USER 'root');
             CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {}, USER 'root');
             CREATE SOURCE bank FROM CONNECTION my TABLES (bank.moves); {VIEWS}",
            source.port(),
            target.port()
        ),
    )
    .await;
    let moves = Arc::new(Mutex::new(Moves::new(seed)));
    let first = moves.lock().unwrap().transaction();
    source.run(&insert(&first)).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let (mut conn, moves) = (source.connect().await, Arc::clone(&moves));
        writers.push(tokio::spawn(async move {
            for _ in 0..TRANSACTIONS {
                let rows = moves.lock().unwrap().transaction();
                // Two statements: a state between them is never one of the source's.
                let (one, two) = rows.split_at(rows.len() / 2);
                let parts = [one, two].into_iter().filter(|part| !part.is_empty()).map(insert);
                let parts: Vec<String> = parts.collect();
                conn.query_drop(format!("BEGIN; {}; COMMIT", parts.join(";"))).await.expect("it commits");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    let (mut watch, mut states, mut round) = (Watch::start(&server).await, 0, 0);
    while writers.iter().any(|writer| !writer.is_finished()) {
        round += 1;
        if round % 20 == 15 {
            states += watch.over_kill(&mut server, &format!("seed {seed}, round {round}")).await;
        }
        check_port(&server.client().await).await;
        check_target(&target).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    let moves = Arc::into_inner(moves).expect("the writers have ended").into_inner().unwrap();
    check_end(&server.client().await, &target, &moves).await;
    states += watch.check(&format!("seed {seed}, at the end"));
    println!("{} transfers, {states} states", moves.made);
    assert!(states > TRANSACTIONS / 4, "{states} states were seen");
}

fn insert(rows: &[(u64, u64, u64)]) -> String {
    let rows: Vec<String> = rows.iter().map(|(id, from, to)| format!("({id}, {from}, {to}, 1)")).collect();
    format!("INSERT INTO bank.moves VALUES {}", rows.join(", "))
}
