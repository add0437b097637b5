//! An engine whose clock is moved by hand: what is maintained is what a read computes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tidemill::clock::{Limits, Reading};
use tidemill::engine::session::{Outcome, Session};
use tidemill::engine::{Engine, Options};
use tidemill::row::datum::Datum;
use tidemill::row::schema::Column;

use crate::tidemill_server::temporary;
use crate::{Random, seeds};

type Rows = Vec<Vec<Option<String>>>;

const NOON: u64 = 1_800_000_000_000;
const STEPS: usize = 30;
const WAIT: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn forward(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

async fn open(clock: &Clock, data: Option<PathBuf>, workers: usize) -> Engine {
    let read = clock.clone();
    let now = move || {
        let ms = read.0.load(Ordering::SeqCst);
        Reading { wall_ms: NOON + ms, monotonic_ms: ms }
    };
    let limits = Limits { heartbeat_ms: 10, ..Limits::default() };
    Engine::open(Options { data, workers, limits, now: Arc::new(now) }).await.unwrap()
}

async fn run(session: &mut Session, text: &str) -> Rows {
    let mut rows = Rows::new();
    for (statement, text) in session.parse(text).unwrap_or_else(|e| panic!("{e:?}: {text}")) {
        let prepared = session.describe(statement, text.clone()).await.unwrap_or_else(|e| panic!("{e:?}: {text}"));
        if let Outcome::Rows { columns, rows: mut stream } =
            session.execute(&prepared, &[]).await.unwrap_or_else(|e| panic!("{e:?}: {text}"))
        {
            while let Some(batch) = stream.next().await {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let cell = |(c, column): (usize, &Column)| {
                        Datum::of(batch.column(c), &column.sql_type, row).text(&column.sql_type)
                    };
                    rows.push(columns.iter().enumerate().map(cell).collect());
                }
            }
        }
    }
    rows.sort();
    rows
}

fn sqlite(path: &Path, query: &str) -> Rows {
    let connection = rusqlite::Connection::open(path).unwrap();
    let Ok(mut statement) = connection.prepare(query) else { return vec![] };
    let width = statement.column_count();
    let cell = |row: &rusqlite::Row, c: usize| match row.get_ref(c).unwrap() {
        rusqlite::types::ValueRef::Null => None,
        rusqlite::types::ValueRef::Integer(v) => Some(v.to_string()),
        rusqlite::types::ValueRef::Text(v) => Some(String::from_utf8(v.to_vec()).unwrap()),
        other => panic!("unexpected value {other:?}"),
    };
    let rows = statement.query_map([], |row| Ok((0..width).map(|c| cell(row, c)).collect())).unwrap();
    let mut rows: Rows = rows.map(Result::unwrap).collect();
    rows.sort();
    rows
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(last) = holds().await {
        assert!(started.elapsed() < WAIT, "{what}: {last}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The queries of views, the later ones over earlier ones, over `t(id, k, a, b)`.
const VIEWS: [(&str, &str); 6] = [
    ("recent", "SELECT id, k, a FROM t WHERE a > NOW(3) - INTERVAL 2 SECOND"),
    ("current", "SELECT id, k, b FROM t WHERE NOW(3) BETWEEN a AND b"),
    ("counted", "SELECT k, COUNT(*) AS n FROM recent GROUP BY k"),
    ("joined", "SELECT r.id, c.id AS other FROM recent r LEFT JOIN current c ON c.k = r.k"),
    ("later", "SELECT id, a FROM recent WHERE a <= NOW(3) - INTERVAL 500000 MICROSECOND"),
    ("sided", "SELECT t.id, c.n FROM t LEFT JOIN counted c ON c.k = t.k WHERE t.b >= NOW() - INTERVAL 1 SECOND"),
];

/// In one block: one time.
async fn compare(session: &mut Session, what: &str) {
    run(session, "BEGIN").await;
    for (name, query) in VIEWS {
        let maintained = run(session, &format!("SELECT * FROM {name}")).await;
        let computed = run(session, query).await;
        assert_eq!(maintained, computed, "{what}: {name}: {query}");
    }
    run(session, "COMMIT").await;
}

async fn check(seed: u64) {
    let mut random = Random(seed);
    let clock = Clock(Arc::new(AtomicU64::new(0)));
    let home = temporary(&format!("temporal-engine-{seed}"));
    let (data, file) = (home.join("data"), home.join("wide.db"));
    let workers = 1 + (seed % 2) as usize;
    let mut engine = open(&clock, Some(data.clone()), workers).await;
    let mut session = engine.session();
    run(
        &mut session,
        &format!(
            "CREATE TABLE t (id BIGINT NOT NULL PRIMARY KEY, k INT, a DATETIME(3), b DATETIME(3));
             CREATE CONNECTION dw TO SQLITE (PATH '{}')",
            file.display()
        ),
    )
    .await;
    let mut made = 0;
    for step in 0..STEPS {
        clock.forward(random.one(&[0, 3, 250, 900, 2_100]));
        let id = step as u64;
        let moment = |random: &mut Random| match random.below(6) {
            0 => "NULL".to_string(),
            n => format!(
                "NOW(3) + INTERVAL {} MICROSECOND",
                n as i64 * 1_000_000 - 3_000_000 + random.below(999) as i64 * 1_000
            ),
        };
        let (a, b, k) = (moment(&mut random), moment(&mut random), random.below(3));
        let statement = match random.below(4) {
            0 => format!("UPDATE t SET a = {a} WHERE k = {k}"),
            1 => format!("DELETE FROM t WHERE id < {} AND k = {k}", id / 2),
            _ => format!("INSERT INTO t VALUES ({id}, {k}, {a}, {b})"),
        };
        run(&mut session, &statement).await;
        while made < VIEWS.len() && made * 2 <= step {
            let (name, query) = VIEWS[made];
            run(&mut session, &format!("CREATE MATERIALIZED VIEW {name} INTO dw.{name} WITH (wait) AS {query}")).await;
            made += 1;
        }
        if made == VIEWS.len() {
            compare(&mut session, &format!("seed {seed}, step {step}, after {statement}")).await;
        }
        if step % 11 == 10 {
            drop(session);
            engine.shutdown().await;
            clock.forward(random.one(&[0, 500, 5_000]));
            engine = open(&clock, Some(data.clone()), workers).await;
            session = engine.session();
        }
    }
    // The wide tables follow while nothing but the time moves.
    for _ in 0..4 {
        clock.forward(700);
        for (name, query) in VIEWS {
            let columns = if name == "counted" { "k, n" } else { "id" };
            until(&format!("seed {seed}: {name}"), async || {
                let wide = sqlite(&file, &format!("SELECT {columns} FROM {name}"));
                let view = run(&mut session, &format!("SELECT {columns} FROM ({query}) AS q")).await;
                if wide == view { Ok(()) } else { Err(format!("{wide:?} instead of {view:?}")) }
            })
            .await;
        }
    }
    engine.shutdown().await;
}

#[test]
fn views_are_what_a_read_computes_at_each_time() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in seeds(4) {
        println!("seed {seed}");
        runtime.block_on(check(seed));
    }
}

/// What came and went is told with the time at which it did, though no source and no write did anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_tells_of_rows_that_leave_by_themselves() {
    let clock = Clock(Arc::new(AtomicU64::new(0)));
    let engine = open(&clock, None, 2).await;
    let mut session = engine.session();
    run(
        &mut session,
        "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, a DATETIME(3));
         CREATE MATERIALIZED VIEW v WITH (wait) AS
           SELECT id FROM t WHERE a <= NOW(3) AND a + INTERVAL 1 SECOND > NOW(3)",
    )
    .await;
    let mut subscriber = engine.session();
    let statement = subscriber.parse("SUBSCRIBE TO v").unwrap().remove(0);
    let prepared = subscriber.describe(statement.0, statement.1).await.unwrap();
    let Outcome::Rows { columns, rows: mut stream } = subscriber.execute(&prepared, &[]).await.unwrap() else {
        panic!("a subscription has rows")
    };
    // 2027-01-15 08:00:00 is NOON in UTC.
    run(&mut session, "INSERT INTO t VALUES (1, '2027-01-15 08:00:05'), (2, '2027-01-15 08:00:05.500'), (3, NULL)")
        .await;
    // Taken back before it begins: nothing is ever told of it.
    run(&mut session, "DELETE FROM t WHERE id = 2").await;
    clock.forward(10_000);
    let mut told = Vec::new();
    while told.len() < 2 {
        let batch = tokio::time::timeout(WAIT, stream.next()).await.expect("it is told").unwrap().unwrap();
        for row in 0..batch.num_rows() {
            let cell =
                |c: usize| Datum::of(batch.column(c), &columns[c].sql_type, row).text(&columns[c].sql_type).unwrap();
            told.push((cell(0).parse::<u64>().unwrap() - NOON, cell(1), cell(2)));
        }
    }
    let line = |ts, op: &str| (ts, op.to_string(), "1".to_string());
    assert_eq!(told, [line(5_000, "+I"), line(6_000, "-D")]);
    drop(stream);
    engine.shutdown().await;
}

/// What waits is kept for the view, and is gone when it has come or was taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted_and_cancels() {
    let clock = Clock(Arc::new(AtomicU64::new(0)));
    let engine = open(&clock, None, 2).await;
    let mut session = engine.session();
    run(
        &mut session,
        "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, a DATETIME(3));
         CREATE MATERIALIZED VIEW v WITH (wait) AS SELECT id FROM t WHERE a <= NOW(3) AND a > NOW(3) - INTERVAL 1 DAY",
    )
    .await;
    let updates = async |session: &mut Session| -> u64 {
        run(session, "SHOW MATERIALIZED VIEWS").await[0][2].as_deref().unwrap_or("0").parse().unwrap()
    };
    let values: Vec<String> = (0..100).map(|id| format!("({id}, NOW(3) + INTERVAL 1 HOUR)")).collect();
    run(&mut session, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
    until("a beginning and an end for each row", async || match updates(&mut session).await {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    for round in 0..20 {
        run(&mut session, &format!("UPDATE t SET a = a + INTERVAL {round} SECOND")).await;
    }
    run(&mut session, "DELETE FROM t WHERE id >= 10").await;
    until("twenty updates later, no more", async || match updates(&mut session).await {
        20 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    clock.forward(3_800_000);
    until("ten rows, and their ends", async || match run(&mut session, "SELECT * FROM v").await.len() {
        10 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    engine.shutdown().await;
}

/// The time of a read is one for all of it, and never falls: not within a block, not over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_has_one_time_that_never_falls() {
    let clock = Clock(Arc::new(AtomicU64::new(0)));
    let data = temporary("temporal-now").join("data");
    let mut engine = open(&clock, Some(data.clone()), 1).await;
    let mut session = engine.session();
    let read = "SELECT NOW(3) AS n, NOW() <= NOW(6) AS same, DATE(NOW()) = CURRENT_DATE AS day, \
                UTC_TIMESTAMP(3) = CURRENT_TIMESTAMP(3) AS utc";
    let mut last = String::new();
    for round in 0..5 {
        clock.forward(1_500);
        run(&mut session, "BEGIN").await;
        let first = run(&mut session, read).await;
        clock.forward(1_000);
        assert_eq!(run(&mut session, read).await, first, "round {round}");
        run(&mut session, "COMMIT").await;
        assert!(first[0][1..].iter().all(|cell| cell.as_deref() == Some("1")), "{first:?}");
        let now = first[0][0].clone().unwrap();
        assert!(now >= last, "{now} after {last}");
        last = now;
        // Heartbeats leave nothing in the store.
        until("the time goes on", async || {
            let now = run(&mut session, read).await[0][0].clone().unwrap();
            last = last.clone().max(now.clone());
            if now.as_str() > "2027-01-15 08:00:01" { Ok(()) } else { Err(now) }
        })
        .await;
        drop(session);
        engine.shutdown().await;
        engine = open(&clock, Some(data.clone()), 1).await;
        session = engine.session();
        let now = run(&mut session, read).await[0][0].clone().unwrap();
        assert!(now >= last, "{now} after a restart, {last} before it");
    }
    engine.shutdown().await;
}

/// A view has no rows at a time before it was made: a block that reads there is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_does_not_read_a_view_that_is_newer() {
    let clock = Clock(Arc::new(AtomicU64::new(0)));
    let engine = open(&clock, None, 2).await;
    let (mut block, mut other) = (engine.session(), engine.session());
    run(&mut other, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    run(&mut block, "BEGIN; SELECT * FROM t").await;
    run(&mut other, "INSERT INTO t VALUES (2)").await;
    run(&mut other, "CREATE MATERIALIZED VIEW v WITH (wait) AS SELECT id FROM t").await;
    let (statement, text) = block.parse("SELECT * FROM v").unwrap().remove(0);
    let prepared = block.describe(statement, text).await.unwrap();
    let error = block.execute(&prepared, &[]).await.err().expect("it is newer");
    assert!(error.message.contains("newer than the time that the transaction block reads at"), "{error:?}");
    run(&mut block, "ROLLBACK").await;
    assert_eq!(run(&mut block, "SELECT * FROM v").await.len(), 2);
    engine.shutdown().await;
}
