//! Random tables over MySQL's types, random views and writes: every view equals MySQL's own answer.
//!
//! The tables live in a real MySQL and reach the engine through its MySQL source, so that snapshot and binlog are on
//! the way. After each step every view is read as text and compared, as a multiset, with MySQL's answer to its query. A
//! query that the engine refuses by name is passed over; where MySQL fails (an overflow) the view must hold an error
//! row, and the other way round.
//!
//! Text: the engine compares it byte by byte whatever its collation (docs/sql.md), so MySQL reads the tables through
//! views that put columns under `utf8mb4_0900_bin`, the connection's collation. With that, no answer depends on which
//! of several equal texts stands for a group.
//!
//! A materialized view has values of its columns' types, and nothing looks past it: in MySQL each is a WITH that is
//! kept in a temporary table, where it would otherwise show `IF(a, 1, 2.50)` as `1` or not meet an error in a column
//! that nobody asks for. (As MySQL's views they would lose the connection's collation.) Stored in a view, -0.0 is 0.
//!
//! A failure prints its seed, step, query and both answers; seeds that ever failed are kept in `KEPT_SEEDS`.
//! `TIDEMILL_ORACLE_SEEDS=n` runs more, `TIDEMILL_ORACLE_SEED=n` only that one.

mod expressions;
mod intervals;
#[path = "../support/mysql.rs"]
mod mysql;
mod queries;
mod random;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use mysql::{Kind, Server};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use queries::Query;
use random::Random;
use tables::{Relation, Table};
use tidemill::clock::Reading;
use tidemill::engine::error::{EngineError, ErrorKind};
use tidemill::engine::session::{Outcome, Session};
use tidemill::engine::{Engine, Options};
use tidemill::row::datum::Datum;
use tidemill::row::schema::Column;

const KEPT_SEEDS: &[u64] =
    &[1011, 1023, 1026, 1031, 1037, 1044, 1051, 1080, 1083, 1130, 1172, 1217, 1235, 1249, 1265, 1352];
const SEEDS_DEFAULT: u64 = 12;
const SEEDS_AT_ONCE: usize = 5;
const STEPS: usize = 6;
const VIEWS: usize = 10;
const ARRIVE_SECONDS_MAX: u64 = 30;

type Rows = Vec<Vec<Option<String>>>;

async fn try_run(session: &mut Session, text: &str) -> Result<Rows, EngineError> {
    let mut rows = Vec::new();
    for (statement, text) in session.parse(text)? {
        let prepared = session.describe(statement, text).await?;
        match session.execute(&prepared, &[]).await? {
            Outcome::Done { .. } => {}
            Outcome::Rows { columns, rows: mut stream } => {
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    for row in 0..batch.num_rows() {
                        let cell = |(c, column): (usize, &Column)| {
                            Datum::of(batch.column(c), &column.sql_type, row).text(&column.sql_type)
                        };
                        rows.push(columns.iter().enumerate().map(cell).collect());
                    }
                }
            }
        }
    }
    Ok(rows)
}

async fn run(session: &mut Session, text: &str) -> Rows {
    try_run(session, text).await.unwrap_or_else(|error| panic!("{error:?}: {text}"))
}

/// As MySQL prints it, or why it does not.
async fn mysql_rows(conn: &mut Conn, text: &str) -> Result<Rows, String> {
    let rows: Vec<mysql_async::Row> = conn.query(text).await.map_err(|e| e.to_string())?;
    let cell = |value| mysql::text(value).map(|text| if text == "-0" { "0".to_string() } else { text });
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect()).collect())
}

fn counted(rows: &Rows) -> BTreeMap<&Vec<Option<String>>, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_insert(0) += 1;
    }
    counts
}

fn now() -> Reading {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_millis() as u64;
    Reading { wall_ms: 1_800_000_000_000 + elapsed, monotonic_ms: elapsed }
}

/// What the engine may say to a query of ours: anything else is a bug in it.
fn is_refusal(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::NotSupported | ErrorKind::TypeMismatch)
}

/// One seed: a database, an engine that follows it, and views on both sides.
struct Trial {
    seed: u64,
    /// The tables' database; MySQL's views are in another, of the same name with a `v`.
    database: String,
    random: Random,
    engine: Engine,
    session: Session,
    conn: Conn,
    tables: Vec<Table>,
    next_id: usize,
    marks: usize,
    /// Tables and views, to be queried.
    relations: Vec<Relation>,
    views: Vec<Query>,
    refused: Vec<String>,
}

impl Trial {
    async fn start(server: &Server, seed: u64) -> Trial {
        let mut random = Random::new(seed);
        let database = format!("o{seed}");
        let now = Arc::new(now);
        let workers = 1 + (seed % 2) as usize;
        let options = Options { data: None, workers, limits: Default::default(), now };
        let engine = Engine::open(options).await.expect("an engine in memory opens");
        let mut session = engine.session();
        let mut conn = server.connect().await;
        let setup = format!(
            "SET NAMES utf8mb4 COLLATE utf8mb4_0900_bin; SET sql_mode = 'ONLY_FULL_GROUP_BY';
             SET optimizer_switch = 'derived_merge=off,derived_condition_pushdown=off';
             CREATE DATABASE {database}; CREATE DATABASE {database}v; USE {database}v;
             CREATE TABLE {database}.mark (id INT PRIMARY KEY, n INT);
             INSERT INTO {database}.mark VALUES (1, 0)"
        );
        conn.query_drop(setup).await.expect("a new database");
        let mut tables = Vec::new();
        for name in ["t0", "t1", "t2"] {
            let width = 3 + random.below(7);
            let table = Table::random(&mut random, &database, name, width);
            for statement in [&table.ddl, &table.by_bytes] {
                conn.query_drop(statement).await.unwrap_or_else(|e| panic!("{e}: {statement}"));
            }
            tables.push(table);
        }
        let connect = format!(
            "CREATE CONNECTION up TO MYSQL (HOST '127.0.0.1', PORT {}, USER 'root');
             CREATE SOURCE up FROM CONNECTION up TABLES ({database}.*);
             CREATE MATERIALIZED VIEW marked WITH (wait) AS SELECT n FROM mark",
            server.port()
        );
        run(&mut session, &connect).await;
        let relations = tables.iter().map(|t| t.relation.clone()).collect();
        let (next_id, marks, views, refused) = (0, 0, vec![], vec![]);
        Trial { seed, database, random, engine, session, conn, tables, next_id, marks, relations, views, refused }
    }

    /// Random writes, and a mark after them; comes back when the engine shows the mark.
    async fn write(&mut self) -> String {
        let mut statements = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let table = &self.tables[self.random.below(self.tables.len())];
            statements.push(table.write(&mut self.random, &self.database, &mut self.next_id));
        }
        self.marks += 1;
        let mark = format!("UPDATE {}.mark SET n = {}", self.database, self.marks);
        // In the session's mode, values that do not fit are cut, and dates that no calendar has are kept.
        let text = format!("{}; {mark}", statements.join("; "));
        self.conn.query_drop(&text).await.unwrap_or_else(|e| panic!("{e}: {text}"));
        let started = Instant::now();
        while run(&mut self.session, "SELECT n FROM marked").await != [[Some(self.marks.to_string())]] {
            assert!(started.elapsed() < Duration::from_secs(ARRIVE_SECONDS_MAX), "seed {}: {text}", self.seed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        statements.join("; ")
    }

    /// A view, which MySQL will have in a WITH; `Err` if it is neither made nor refused by name.
    async fn create_view(&mut self) -> Result<(), String> {
        let query = queries::query(&mut self.random, &self.relations);
        let name = format!("v{}", self.views.len());
        let create = format!("CREATE MATERIALIZED VIEW {name} WITH (wait) AS {}", query.text);
        match try_run(&mut self.session, &create).await {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {
                self.refused.push(format!("{}: {}", error.message, query.text));
                return Ok(());
            }
            Err(error) => return Err(format!("seed {}: {error:?}\n{}", self.seed, query.text)),
        }
        // A query over it wants a number to add up and to group by.
        if query.columns.iter().any(|c| matches!(c.kind, tables::Kind::Int | tables::Kind::Decimal)) {
            self.relations.push(Relation { name, columns: query.columns.clone() });
        }
        self.views.push(query);
        Ok(())
    }

    /// Every view on both sides; what differs is told.
    async fn compare(&mut self, step: usize, written: &str) -> Vec<String> {
        let mut differences = Vec::new();
        let mut failing: Vec<String> = Vec::new();
        for (number, view) in self.views.iter().enumerate() {
            let name = format!("v{number}");
            let ours = try_run(&mut self.session, &format!("SELECT * FROM {name}")).await;
            let asked = self.in_mysql(number);
            // A view inherits the errors of the views that it reads, also where MySQL would look away.
            let theirs = match view.reads.iter().find(|read| failing.contains(read)) {
                Some(read) => Err(format!("{read} fails")),
                None => mysql_rows(&mut self.conn, &asked).await,
            };
            if theirs.is_err() {
                failing.push(name.clone());
            }
            let told = match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) if counted(ours) == counted(theirs) => continue,
                (Err(error), Err(why)) if error.kind == ErrorKind::DataError && is_of_data(why) => continue,
                (Ok(ours), Ok(theirs)) => only_in_one(ours, theirs),
                (ours, theirs) => format!("{}\n{}", outcome("tidemill", ours), outcome("mysql", theirs)),
            };
            let at = format!("seed {}, step {step}, {name}", self.seed);
            differences.push(format!("{at}: {}{}\nafter {written}\n{told}", view.text, self.definitions(view)));
        }
        differences
    }

    /// The query of a view that reads others: each is a table of a WITH.
    fn in_mysql(&self, number: usize) -> String {
        let mut needed = BTreeSet::from([number]);
        for n in (0..=number).rev() {
            if needed.contains(&n) {
                needed.extend(self.views[n].reads.iter().filter_map(|r| r.strip_prefix('v')?.parse::<usize>().ok()));
            }
        }
        let tables = needed.iter().map(|n| format!("v{n} AS ({})", self.views[*n].text));
        format!("WITH {} SELECT * FROM v{number}", tables.collect::<Vec<_>>().join(", "))
    }

    /// What the tables and views are that a view reads.
    fn definitions(&self, view: &Query) -> String {
        let of = |name: &String| {
            let table = self.tables.iter().find(|t| t.relation.name == *name).map(|t| t.ddl.clone());
            let number = name.strip_prefix('v').and_then(|n| n.parse::<usize>().ok());
            let read = number.map(|n| format!("{name} = {}{}", self.views[n].text, self.definitions(&self.views[n])));
            format!("\n  over {}", table.or(read).unwrap_or_default())
        };
        view.reads.iter().map(of).collect()
    }
}

/// MySQL fails for a value, not for the query.
fn is_of_data(why: &str) -> bool {
    why.contains("ERROR 1690") || why.ends_with(" fails")
}

fn outcome<E: std::fmt::Debug>(who: &str, result: &Result<Rows, E>) -> String {
    match result {
        Ok(rows) => format!("{who}: {} rows", rows.len()),
        Err(error) => format!("{who}: {error:?}"),
    }
}

/// The rows that the other side does not have.
fn only_in_one(ours: &Rows, theirs: &Rows) -> String {
    let (a, b) = (counted(ours), counted(theirs));
    let line = |row: &Vec<Option<String>>| {
        row.iter().map(|c| c.as_ref().map_or("NULL".into(), |c| format!("{c:?}"))).collect::<Vec<_>>().join(" | ")
    };
    let only = |x: &BTreeMap<&Vec<Option<String>>, usize>, y: &BTreeMap<&Vec<Option<String>>, usize>, who: &str| {
        let rows = x.iter().filter(|(row, n)| y.get(*row) != Some(n)).take(4);
        rows.map(|(row, n)| format!("{who}: {n} × {}", line(row))).collect::<Vec<_>>()
    };
    [only(&a, &b, "tidemill"), only(&b, &a, "   mysql")].concat().join("\n")
}

async fn check_seed(server: &Server, seed: u64) -> Vec<String> {
    let mut trial = Trial::start(server, seed).await;
    let mut differences = Vec::new();
    for step in 0..STEPS {
        // Some rows come with the snapshot, some with the binlog; some views are made over empty tables.
        let written = trial.write().await;
        while trial.views.len() + trial.refused.len() < VIEWS * (step + 1) / STEPS {
            differences.extend(trial.create_view().await.err());
        }
        differences.extend(trial.compare(step, &written).await);
        if !differences.is_empty() {
            break;
        }
    }
    let Trial { database, mut conn, engine, session, refused, views, .. } = trial;
    println!("seed {seed}: {} views, {} refused", views.len(), refused.len());
    differences.iter().for_each(|difference| println!("{difference}\n"));
    if std::env::var("TIDEMILL_ORACLE_REFUSED").is_ok() {
        refused.iter().for_each(|refusal| println!("refused: {refusal}"));
    }
    drop(session);
    engine.shutdown().await;
    let tidy = format!("DROP DATABASE {database}v; DROP DATABASE {database}");
    conn.query_drop(tidy).await.expect("the databases are there");
    differences
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    if let Some(seed) = number("TIDEMILL_ORACLE_SEED") {
        return vec![seed];
    }
    let more = number("TIDEMILL_ORACLE_SEEDS").unwrap_or(SEEDS_DEFAULT);
    KEPT_SEEDS.iter().copied().chain(1_000..1_000 + more).collect()
}

/// Seeds run side by side, for each mostly waits for its rows to arrive; each has a runtime of its own.
#[test]
fn random_views_equal_mysql() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = ["--default-time-zone=+00:00", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"];
    let Some(server) = runtime().block_on(Server::start_or_skip(Kind::MySql, &options)) else { return };
    let (seeds, next) = (seeds(), AtomicUsize::new(0));
    let differences = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SEEDS_AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = runtime().block_on(check_seed(&server, *seed));
                    differences.lock().unwrap().extend(found);
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
}
