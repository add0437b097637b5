//! Random tables, views and writes: every view equals what SQLite computes from scratch.
//!
//! The same statements go to the engine (as local tables and materialized views) and to SQLite (as tables and plain
//! views); each view is compared as a multiset of text, read as a view and recomputed ad hoc. What this cannot catch: a
//! mistake that SQLite shares (both follow SQL's rules on NULL), and MySQL's own rules on types, which the values here
//! avoid; tests/mysql_oracle compares with MySQL.
//!
//! A failure prints its seed; seeds that ever failed are kept in `KEPT_SEEDS`. `TIDEMILL_ORACLE_SEEDS=n` runs more.

#[path = "support/splitmix.rs"]
mod splitmix;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use tidemill::clock::Reading;
use tidemill::engine::session::{Outcome, Session};
use tidemill::engine::{Engine, Options};
use tidemill::row::datum::Datum;

const KEPT_SEEDS: &[u64] = &[1, 2, 3];
const SEEDS_DEFAULT: u64 = 40;
const STEPS: usize = 25;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const TABLES: [&str; 3] = ["a", "b", "c"];

/// A view's query over tables and earlier views, all of which have columns id, k, v, s or a part of them under those
/// names.
fn query(random: &mut Random, views: usize) -> String {
    let relation = |random: &mut Random| match views {
        0 => random.one(&TABLES).to_string(),
        _ if random.below(4) > 0 => random.one(&TABLES).to_string(),
        _ => format!("v{}", random.below(views as u64)),
    };
    let (x, y, z) = (relation(random), relation(random), relation(random));
    let join = |random: &mut Random| random.one(&["JOIN", "LEFT JOIN"]);
    let on = |random: &mut Random, l: &str, r: &str| match random.below(4) {
        0 => format!("{l}.k = {r}.k AND {l}.s = {r}.s"),
        1 => format!("{l}.k = {r}.k AND {r}.v > {}", random.below(6)),
        2 => format!("{l}.v = {r}.k"),
        _ => format!("{l}.k = {r}.k"),
    };
    let condition = |random: &mut Random, t: &str| match random.below(6) {
        0 => format!("{t}.v > {}", random.below(8)),
        1 => format!("{t}.k IS NOT NULL"),
        2 => format!("{t}.s IN ('x', 'y') OR {t}.v IS NULL"),
        3 => format!("NOT ({t}.v < {} AND {t}.k = 1)", random.below(8)),
        4 => format!("{t}.k BETWEEN 1 AND {}", random.below(4)),
        _ => format!("CASE WHEN {t}.v IS NULL THEN {t}.k ELSE {t}.v END <> 3"),
    };
    match random.below(9) {
        0 => format!("SELECT k, v, s FROM {x} AS t WHERE {}", condition(random, "t")),
        1 => {
            let (kind, on) = (join(random), on(random, "l", "r"));
            format!("SELECT l.k, l.v, r.s, r.v AS w FROM {x} AS l {kind} {y} AS r ON {on}")
        }
        2 => {
            let (k1, k2) = (join(random), join(random));
            let (on1, on2) = (on(random, "l", "m"), on(random, "l", "r"));
            let filter = condition(random, "l");
            format!("SELECT l.k, m.v, r.s FROM {x} AS l {k1} {y} AS m ON {on1} {k2} {z} AS r ON {on2} WHERE {filter}")
        }
        3 => format!(
            "SELECT k, COUNT(*) AS v, MIN(s) AS s, SUM(v) AS total, COUNT(v) AS counted \
             FROM {x} AS t WHERE {} GROUP BY k",
            condition(random, "t")
        ),
        4 => {
            format!("SELECT s, MAX(v) AS v, MIN(k) AS k FROM {x} AS t GROUP BY s HAVING COUNT(*) > {}", random.below(3))
        }
        5 => format!("SELECT k, v, s FROM {x} UNION ALL SELECT k, k AS v, s FROM {y}"),
        6 => format!("SELECT DISTINCT k, s, k AS v FROM {x} AS t WHERE {}", condition(random, "t")),
        7 => format!("SELECT COUNT(*) AS k, SUM(v) AS v, MAX(s) AS s FROM {x} AS t WHERE {}", condition(random, "t")),
        _ => format!(
            "WITH g AS (SELECT k, SUM(v) AS v FROM {x} GROUP BY k) \
             SELECT g.k, g.v, r.s FROM g {} {y} AS r ON r.k = g.k",
            join(random)
        ),
    }
}

fn value(random: &mut Random) -> String {
    if random.below(6) == 0 { "NULL".to_string() } else { random.below(6).to_string() }
}

/// A write that both sides understand; ids are chosen so that inserts do not clash.
fn write(random: &mut Random, next_id: &mut u64) -> String {
    let table = random.one(&TABLES);
    match random.below(5) {
        0..3 => {
            let rows = (0..=random.below(4)).map(|_| {
                *next_id += 1;
                let text = random.one(&["'x'", "'y'", "'z'", "''", "NULL"]);
                format!("({}, {}, {}, {text})", next_id, value(random), value(random))
            });
            format!("INSERT INTO {table} VALUES {}", rows.collect::<Vec<_>>().join(", "))
        }
        3 => format!("UPDATE {table} SET v = {}, s = 'y' WHERE k = {}", value(random), random.below(6)),
        _ => format!("DELETE FROM {table} WHERE v = {} OR id < {}", random.below(6), *next_id / 4),
    }
}

async fn run(session: &mut Session, text: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    for (statement, text) in session.parse(text).unwrap_or_else(|error| panic!("{error:?}: {text}")) {
        let prepared =
            session.describe(statement, text.clone()).await.unwrap_or_else(|error| panic!("{error:?}: {text}"));
        match session.execute(&prepared, &[]).await.unwrap_or_else(|error| panic!("{error:?}: {text}")) {
            Outcome::Done { .. } => {}
            Outcome::Rows { columns, rows: mut stream } => {
                while let Some(batch) = stream.next().await {
                    let batch = batch.unwrap_or_else(|error| panic!("{error:?}: {text}"));
                    for row in 0..batch.num_rows() {
                        let cell = |(c, column): (usize, &tidemill::row::schema::Column)| {
                            Datum::of(batch.column(c), &column.sql_type, row).text(&column.sql_type)
                        };
                        rows.push(columns.iter().enumerate().map(cell).collect());
                    }
                }
            }
        }
    }
    rows
}

fn sqlite_rows(sqlite: &rusqlite::Connection, text: &str) -> Vec<Vec<Option<String>>> {
    let mut statement = sqlite.prepare(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let width = statement.column_count();
    let cell = |row: &rusqlite::Row, c: usize| match row.get_ref(c).unwrap() {
        rusqlite::types::ValueRef::Null => None,
        rusqlite::types::ValueRef::Integer(v) => Some(v.to_string()),
        rusqlite::types::ValueRef::Text(v) => Some(String::from_utf8(v.to_vec()).unwrap()),
        other => panic!("unexpected value {other:?}"),
    };
    let rows = statement.query_map([], |row| Ok((0..width).map(|c| cell(row, c)).collect())).unwrap();
    rows.map(Result::unwrap).collect()
}

fn counted(rows: Vec<Vec<Option<String>>>) -> BTreeMap<Vec<Option<String>>, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_insert(0) += 1;
    }
    counts
}

fn now() -> Reading {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64;
    Reading { wall_ms: 1_800_000_000_000 + elapsed, monotonic_ms: elapsed }
}

async fn check_seed(seed: u64) {
    let mut random = Random(seed);
    let workers = 1 + (seed % 2) as usize;
    let engine =
        Engine::open(Options { data: None, workers, limits: Default::default(), now: Arc::new(now) }).await.unwrap();
    let mut session = engine.session();
    let sqlite = rusqlite::Connection::open_in_memory().unwrap();
    for table in TABLES {
        let key = if table == "c" { "" } else { " PRIMARY KEY" };
        let ddl = format!("CREATE TABLE {table} (id BIGINT NOT NULL{key}, k INT, v BIGINT, s VARCHAR(10))");
        run(&mut session, &ddl).await;
        sqlite.execute_batch(&ddl).unwrap();
    }
    let (mut next_id, mut views) = (0, Vec::<String>::new());
    for step in 0..STEPS {
        // Some views are made over empty tables, some over tables that have rows.
        if step % 4 == 0 && views.len() < 6 {
            let text = query(&mut random, views.len());
            let name = format!("v{}", views.len());
            run(&mut session, &format!("CREATE MATERIALIZED VIEW {name} WITH (wait) AS {text}")).await;
            sqlite.execute_batch(&format!("CREATE VIEW {name} AS {text}")).unwrap();
            views.push(text);
        }
        let statement = write(&mut random, &mut next_id);
        run(&mut session, &statement).await;
        sqlite.execute_batch(&statement).unwrap();
        for (number, text) in views.iter().enumerate() {
            let expected = counted(sqlite_rows(&sqlite, &format!("SELECT * FROM v{number}")));
            let maintained = counted(run(&mut session, &format!("SELECT * FROM v{number}")).await);
            assert_eq!(maintained, expected, "seed {seed}, step {step}, after {statement}\nview v{number}: {text}");
            if step % 5 == 0 {
                let ad_hoc = counted(run(&mut session, text).await);
                assert_eq!(ad_hoc, expected, "seed {seed}, step {step}, ad hoc: {text}");
            }
        }
    }
    engine.shutdown().await;
}

#[test]
fn random_views_equal_sqlite() {
    let more = std::env::var("TIDEMILL_ORACLE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS_DEFAULT);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in KEPT_SEEDS.iter().copied().chain(1_000..1_000 + more) {
        println!("seed {seed}");
        runtime.block_on(check_seed(seed));
    }
}
