//! Measures the walk on real servers: freshness, a large load, a restart, an outage.
//!
//! `CARGO_PROFILE_DEMO_OPT_LEVEL=3 cargo bench --profile demo --bench walk -- [freshness] [snapshot] [restart]
//! [outage]`; without a name, all of them.
//! Sizes: TIDEMILL_SNAPSHOT_ROWS (10,000,000), TIDEMILL_RESTART_ROWS (1,000,000), TIDEMILL_FRESH_SECONDS (30),
//! TIDEMILL_OUTAGE_SECONDS (600), TIDEMILL_OUTAGE_ROWS of each transaction, 50 a second (10). Nothing here asserts a
//! time; it prints what it measured, with the servers' versions.

#[path = "../tests/support/mysql.rs"]
mod mysql;
#[path = "../tests/support/tidemill.rs"]
mod tidemill;

use std::time::{Duration, Instant};

use mysql::{Kind, Server};
use mysql_async::prelude::Queryable;
use tidemill::{Tidemill, eventually, sql, temporary};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let source = match Server::start(Kind::MySql, &["--innodb-buffer-pool-size=512M", "--sync-binlog=1"]).await {
        Ok(server) => server,
        Err(reason) => return println!("no MySQL can be had here: {reason}"),
    };
    let mut target = Server::start(Kind::MySql, &[]).await.expect("a second server starts where the first did");
    println!("source and target: MySQL {:?}", source.rows("SELECT VERSION()").await[0][0]);
    target.run("CREATE DATABASE mart").await;
    if wants("freshness") {
        freshness(&source, &target).await;
    }
    if wants("snapshot") {
        snapshot(&source, &target).await;
    }
    if wants("restart") {
        restart(&source, &target).await;
    }
    if wants("outage") {
        outage(&source, &mut target).await;
    }
}

async fn connect(server: &Tidemill, source: &Server, target: &Server, tables: &str) -> tokio_postgres::Client {
    let client = server.client().await;
    let (source, target) = (source.port(), target.port());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION shop TO MYSQL (HOST '127.0.0.1', PORT {source}, USER 'reader');
             CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {target}, USER 'root');
             CREATE SOURCE shop FROM CONNECTION shop TABLES ({tables})"
        ),
    )
    .await;
    client
}

async fn reader(source: &Server) {
    source
        .run(
            "CREATE USER IF NOT EXISTS reader IDENTIFIED BY ''; 
              GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader",
        )
        .await;
}

fn quantiles(mut samples: Vec<f64>) -> String {
    samples.sort_by(f64::total_cmp);
    let at = |q: f64| samples[((samples.len() - 1) as f64 * q) as usize];
    format!("n {}, p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1} ms", samples.len(), at(0.5), at(0.9), at(0.99), at(1.0))
}

const FRESH: &str = "DROP DATABASE IF EXISTS fresh; CREATE DATABASE fresh; USE fresh;
    CREATE TABLE orders (id BIGINT PRIMARY KEY, user_id INT NOT NULL, amount DECIMAL(12,2) NOT NULL);
    CREATE TABLE users (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL);
    INSERT INTO users WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 999)
      SELECT i, CONCAT('c', i % 20) FROM n;";

/// 1,000 rows a second in transactions of 10; the time from COMMIT's answer until the row is read in the target.
async fn freshness(source: &Server, target: &Server) {
    reader(source).await;
    source.run(FRESH).await;
    let server = Tidemill::start(&temporary("fresh"), &[], &[]).await;
    let client = connect(&server, source, target, "fresh.*").await;
    sql(
        &client,
        "CREATE MATERIALIZED VIEW fresh_wide INTO dw.mart.fresh_wide WITH (wait) AS
           SELECT o.id, o.amount, u.city FROM fresh.orders o JOIN fresh.users u ON u.id = o.user_id;
         CREATE MATERIALIZED VIEW fresh_city INTO dw.mart.fresh_city WITH (wait) AS
           SELECT u.city, COUNT(*) AS n, SUM(o.amount) AS amount
           FROM fresh.orders o JOIN fresh.users u ON u.id = o.user_id GROUP BY u.city",
    )
    .await;
    let seconds = setting("TIDEMILL_FRESH_SECONDS", 30);
    let (sender, mut commits) = tokio::sync::mpsc::unbounded_channel();
    let mut writer = source.connect().await;
    let writing = tokio::spawn(async move {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut id = 0u64;
        while started.elapsed() < Duration::from_secs(seconds) {
            ticks.tick().await;
            let rows: Vec<String> = (0..10).map(|i| format!("({}, {}, {}.25)", id + i, (id + i) % 1000, i)).collect();
            id += 10;
            writer.query_drop(format!("INSERT INTO fresh.orders VALUES {}", rows.join(","))).await.expect("it commits");
            let _ = sender.send((id - 1, Instant::now()));
        }
        id
    });
    let mut looking = target.connect().await;
    let mut samples = Vec::new();
    let mut waiting = std::collections::VecDeque::new();
    loop {
        while let Ok(commit) = commits.try_recv() {
            waiting.push_back(commit);
        }
        let seen: Option<Option<u64>> =
            looking.query_first("SELECT MAX(id) FROM mart.fresh_wide").await.expect("it answers");
        let now = Instant::now();
        while let Some((id, at)) = waiting.front().copied()
            && seen.flatten().is_some_and(|seen| seen >= id)
        {
            samples.push((now - at).as_secs_f64() * 1e3);
            waiting.pop_front();
        }
        if waiting.is_empty() && commits.is_closed() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let rows = writing.await.expect("the writer ends");
    println!("freshness: {rows} rows in {seconds} s, commit to visible in the target: {}", quantiles(samples));
}

/// A large table under an aggregating view with a limit on memory; meanwhile an older view is followed.
async fn snapshot(source: &Server, target: &Server) {
    let rows = setting("TIDEMILL_SNAPSHOT_ROWS", 10_000_000);
    reader(source).await;
    source
        .run(
            "DROP DATABASE IF EXISTS large; CREATE DATABASE large; USE large;
             CREATE TABLE small (id INT PRIMARY KEY, v BIGINT NOT NULL); INSERT INTO small VALUES (1, 0);
             CREATE TABLE items (id BIGINT PRIMARY KEY, k INT NOT NULL, amount DECIMAL(12,2) NOT NULL,
               note VARCHAR(40) NOT NULL)",
        )
        .await;
    let mut conn = source.connect().await;
    conn.query_drop("SET SESSION cte_max_recursion_depth = 2000000, sql_log_bin = 0").await.expect("it answers");
    let piece = 500_000.min(rows);
    for from in (0..rows).step_by(piece as usize) {
        conn.query_drop(format!(
            "INSERT INTO large.items WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i+1 FROM n WHERE i < {})
             SELECT i, i % 100000, (i % 1000) + 0.25, CONCAT('a note of row ', i) FROM n",
            from + piece - 1
        ))
        .await
        .expect("rows are made");
    }
    let server = Tidemill::start(&temporary("snapshot"), &[], &[]).await;
    let client = connect(&server, source, target, "large.*").await;
    sql(&client, "CREATE MATERIALIZED VIEW older INTO dw.mart.older WITH (wait) AS SELECT id, v FROM large.small")
        .await;
    let started = Instant::now();
    let loader = server.client().await;
    let loading = tokio::spawn(async move {
        let view = "CREATE MATERIALIZED VIEW by_k INTO dw.mart.by_k WITH (wait) AS
            SELECT k, COUNT(*) AS n, SUM(amount) AS amount, AVG(amount) AS average FROM large.items GROUP BY k";
        sql(&loader, view).await;
    });
    let mut older = Older::default();
    while !loading.is_finished() {
        older.sample(&mut conn, target, &server, started).await;
    }
    loading.await.expect("the view is built");
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "snapshot: {rows} rows in {seconds:.1} s ({:.0} rows/s) from CREATE to a filled wide table of 100,000 rows; \
         peak resident {} MiB",
        rows as f64 / seconds,
        older.resident >> 20
    );
    println!("snapshot: the older view meanwhile, commit to visible in the target: {}", quantiles(older.lags));
    println!("snapshot: its slowest sample ended {:.1} s after CREATE", older.slowest.1.as_secs_f64());
    let expected = source
        .rows(
            "SELECT COUNT(*), SUM(n), SUM(s) FROM (SELECT k, COUNT(*) n, SUM(amount) s FROM large.items GROUP BY k) t",
        )
        .await;
    let found = target.rows("SELECT COUNT(*), SUM(n), SUM(amount) FROM mart.by_k").await;
    println!("snapshot: wide table equals MySQL's own answer: {}", expected == found);
}

/// What an older view does during a load.
#[derive(Default)]
struct Older {
    lags: Vec<f64>,
    /// The longest time to be seen, and when after the beginning it ended.
    slowest: (Duration, Duration),
    resident: u64,
}

impl Older {
    /// Changes its row, and waits until the target has it.
    async fn sample(&mut self, conn: &mut mysql_async::Conn, target: &Server, server: &Tidemill, started: Instant) {
        let v = self.lags.len() as u64 + 1;
        let update = format!("SET sql_log_bin = 1; UPDATE large.small SET v = {v} WHERE id = 1");
        conn.query_drop(update).await.expect("it commits");
        let committed = Instant::now();
        let mut looking = target.connect().await;
        loop {
            let seen: Option<u64> = looking.query_first("SELECT v FROM mart.older").await.expect("it answers");
            if seen == Some(v) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let lag = committed.elapsed();
        self.slowest = self.slowest.max((lag, started.elapsed()));
        self.lags.push(lag.as_secs_f64() * 1e3);
        self.resident = self.resident.max(server.resident_bytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A restart with a large table, with the source's SELECT right taken away.
async fn restart(source: &Server, target: &Server) {
    let rows = setting("TIDEMILL_RESTART_ROWS", 1_000_000);
    reader(source).await;
    source
        .run(&format!(
            "DROP DATABASE IF EXISTS again; CREATE DATABASE again; USE again;
             SET SESSION cte_max_recursion_depth = 20000000;
             CREATE TABLE items (id BIGINT PRIMARY KEY, k INT NOT NULL, amount DECIMAL(12,2) NOT NULL);
             INSERT INTO items WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
               SELECT i, i % 1000, (i % 1000) + 0.25 FROM n"
        ))
        .await;
    let mut server = Tidemill::start(&temporary("restart"), &[], &[]).await;
    let client = connect(&server, source, target, "again.*").await;
    sql(
        &client,
        "CREATE MATERIALIZED VIEW again_wide INTO dw.mart.again_wide WITH (wait) AS
           SELECT id, k, amount FROM again.items;
         CREATE MATERIALIZED VIEW again_k INTO dw.mart.again_k WITH (wait) AS
           SELECT k, COUNT(*) AS n, SUM(amount) AS a FROM again.items GROUP BY k",
    )
    .await;
    let mut times = Vec::new();
    source.run("REVOKE SELECT ON *.* FROM reader").await;
    for round in 0..3 {
        server.kill();
        source.run(&format!("INSERT INTO again.items VALUES ({}, 1, 1.00)", rows + 1 + round)).await;
        let started = Instant::now();
        server.restart().await;
        let client = server.client().await;
        let expected = (rows + 1 + round).to_string();
        eventually("a fresh answer", 120, async || {
            let n = tidemill::try_sql(&client, "SELECT SUM(n) FROM again_k").await.map_err(|e| e.to_string())?;
            if n[0][0].as_deref() == Some(&expected) { Ok(()) } else { Err(format!("{n:?}")) }
        })
        .await;
        let port = started.elapsed().as_secs_f64();
        eventually("a fresh wide table", 120, async || {
            let n = target.rows("SELECT COUNT(*) FROM mart.again_wide").await;
            if n[0][0].as_deref() == Some(&expected) { Ok(()) } else { Err(format!("{n:?}")) }
        })
        .await;
        times.push(format!("{port:.2} s on the port, {:.2} s in the target", started.elapsed().as_secs_f64()));
    }
    source.run("GRANT SELECT ON *.* TO reader").await;
    println!("restart after kill -9 with {rows} rows, SELECT revoked, to a fresh answer: {}", times.join("; "));
}

const OUTAGE_ORDERS: u64 = 20_000;

/// The target is down for a while under load: memory, the port meanwhile, catching up. The same rows are changed again
/// and again, so that what the views themselves need stays the same, and memory that grows is what waits.
async fn outage(source: &Server, target: &mut Server) {
    let (seconds, rows) = (setting("TIDEMILL_OUTAGE_SECONDS", 600), setting("TIDEMILL_OUTAGE_ROWS", 10));
    reader(source).await;
    source.run(FRESH).await;
    let server = Tidemill::start(&temporary("outage"), &[], &[]).await;
    let client = connect(&server, source, target, "fresh.*").await;
    let view = "SELECT u.city, COUNT(*) AS n, SUM(o.amount) AS amount
        FROM fresh.orders o JOIN fresh.users u ON u.id = o.user_id GROUP BY u.city";
    sql(&client, &format!("CREATE MATERIALIZED VIEW out_city INTO dw.mart.out_city WITH (wait) AS {view}")).await;
    let mut writer = source.connect().await;
    let (mut changes, mut writer_ticks) = (0u64, tokio::time::interval(Duration::from_millis(20)));
    for (what, seconds) in [("up", seconds / 2), ("down", seconds)] {
        if what == "down" {
            target.stop();
        }
        let (begun, mut resident) = (Instant::now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(seconds) {
            writer_ticks.tick().await;
            let values: Vec<String> = (changes..changes + rows)
                .map(|i| format!("({}, {}, {}.25)", i % OUTAGE_ORDERS, i % 1000, i / OUTAGE_ORDERS))
                .collect();
            changes += rows;
            let upsert = "ON DUPLICATE KEY UPDATE amount = VALUES(amount)";
            let insert = format!("INSERT INTO fresh.orders VALUES {} {upsert}", values.join(","));
            writer.query_drop(insert).await.expect("it commits");
            if changes.is_multiple_of(500 * rows) {
                resident.push(server.resident_bytes() >> 20);
            }
        }
        let every = (resident.len() / 20).max(1);
        let resident: Vec<u64> = resident.into_iter().step_by(every).collect();
        println!("outage: {seconds} s with the target {what}, resident MiB over the time: {resident:?}");
    }
    let port = sql(&client, "SELECT SUM(amount) FROM out_city").await;
    println!("outage: {changes} changes of {OUTAGE_ORDERS} rows; the port answers {:?}", port[0][0]);
    target.restart().await;
    let back = Instant::now();
    let own = source.rows(&format!("SELECT COUNT(*), SUM(n), SUM(amount) FROM ({view}) t")).await;
    eventually("the target catches up", 300, async || {
        let found = target.rows("SELECT COUNT(*), SUM(n), SUM(amount) FROM mart.out_city").await;
        if found == own { Ok(()) } else { Err(format!("{found:?} {own:?}")) }
    })
    .await;
    println!(
        "outage: the wide table equals MySQL's own answer {:.1} s after the target came back",
        back.elapsed().as_secs_f64()
    );
}
