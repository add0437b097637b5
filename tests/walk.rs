//! The whole walk on real servers: MySQL → views → wide tables in MySQL and MariaDB.
//!
//! What is compared: the wide tables and the SQL port with MySQL's own answer to the same query. Where no MySQL can be
//! had, each test says why and passes unrun; `make test` lists those.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/mysql.rs"]
mod mysql;
#[path = "support/tidemill.rs"]
mod tidemill;
#[path = "walk/tls.rs"]
mod tls;
#[path = "walk/wait.rs"]
mod wait;

use std::time::Duration;

use mysql::{Kind, Server};
use mysql_async::prelude::Queryable;
use tidemill::{Tidemill, eventually, sql, temporary, try_sql};
use tokio_postgres::{Client, SimpleQueryMessage};

async fn connect(client: &Client, source: &Server, target: &Server, tables: &str) {
    let (source, target) = (source.port(), target.port());
    sql(
        client,
        &format!(
            "CREATE CONNECTION shop TO MYSQL (HOST '127.0.0.1', PORT {source}, USER 'root');
             CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {target}, USER 'root');
             CREATE SOURCE shop FROM CONNECTION shop TABLES ({tables})"
        ),
    )
    .await;
}

type Rows = Vec<Vec<Option<String>>>;

fn sorted(mut rows: Rows) -> Rows {
    rows.sort();
    rows
}

fn row(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some(value.to_string())).collect()
}

/// Waits until a query of the target gives what another query of the source gives.
async fn equal(what: &str, source: &Server, source_sql: &str, target: &Server, target_sql: &str, seconds: u64) {
    eventually(what, seconds, async || {
        let expected = sorted(source.rows(source_sql).await);
        let found = sorted(target.rows(target_sql).await);
        if found == expected { Ok(()) } else { Err((found.len(), expected.len())) }
    })
    .await;
}

const SEED: &str = "CREATE DATABASE IF NOT EXISTS test; USE test;
    CREATE TABLE base (base_id INT PRIMARY KEY, base_location VARCHAR(20));
    CREATE TABLE stuff (stuff_id INT PRIMARY KEY, stuff_base_id INT, stuff_name VARCHAR(20));";
const WIDE: &str = "SELECT s.stuff_id, b.base_id, b.base_location, s.stuff_name
    FROM test.stuff s JOIN test.base b ON s.stuff_base_id = b.base_id";

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_scenario() {
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    for kind in [Kind::MySql, Kind::MariaDb] {
        let Some(target) = Server::start_or_skip(kind, &[]).await else { continue };
        source.run(&format!("DROP DATABASE IF EXISTS test; {SEED}")).await;
        target.run("CREATE DATABASE mart").await;
        let server = Tidemill::start(&temporary(&format!("seed-{kind:?}")), &[], &[]).await;
        let client = server.client().await;
        connect(&client, &source, &target, "test.*").await;
        sql(&client, &format!("CREATE MATERIALIZED VIEW wide_stuff INTO dw.mart.wide_stuff WITH (wait) AS {WIDE}"))
            .await;
        let story = tokio::spawn(subscribe(server.client().await, "SUBSCRIBE TO wide_stuff", 7));
        tokio::time::sleep(Duration::from_millis(500)).await;
        for statement in [
            "INSERT INTO test.base VALUES (1, 'bj')",
            "INSERT INTO test.stuff VALUES (1, 1, 'zhangsan'), (2, 1, 'lisi')",
            "INSERT INTO test.base VALUES (2, 'sh')",
            "INSERT INTO test.stuff VALUES (3, 2, 'wangliu')",
            "UPDATE test.stuff SET stuff_name = 'wangwu' WHERE stuff_id = 3",
            "DELETE FROM test.stuff WHERE stuff_name = 'lisi'",
        ] {
            source.run(statement).await;
            // Each statement is a transaction of its own; seen apart, they tell a story of their own.
            equal(
                "wide_stuff",
                &source,
                WIDE,
                &target,
                "SELECT stuff_id, base_id, base_location, stuff_name FROM mart.wide_stuff",
                20,
            )
            .await;
        }
        let expected = vec![row(&["1", "1", "bj", "zhangsan"]), row(&["3", "2", "sh", "wangwu"])];
        assert_eq!(sorted(sql(&client, "SELECT * FROM wide_stuff").await), expected, "the port, {kind:?}");
        let story = tokio::time::timeout(Duration::from_secs(20), story).await;
        let mut told: Vec<String> = story.expect("seven changes come").expect("no panic");
        // Two rows of one timestamp come in the order of their key.
        told.iter_mut().for_each(|line| *line = line.replace('|', " "));
        assert_eq!(
            told,
            [
                "+I 1 1 bj zhangsan",
                "+I 2 1 bj lisi",
                "+I 3 2 sh wangliu",
                "-U 3 2 sh wangliu",
                "+U 3 2 sh wangwu",
                "-D 2 1 bj lisi",
            ],
            "{kind:?}"
        );
    }
}

/// The first `count - 1` changes a subscription tells, without their timestamps.
async fn subscribe(client: Client, text: &str, count: usize) -> Vec<String> {
    use futures::StreamExt;
    let stream = client.simple_query_raw(text).await.expect("a subscription begins");
    futures::pin_mut!(stream);
    let mut told = Vec::new();
    while told.len() + 1 < count {
        match stream.next().await.expect("it does not end").expect("no error") {
            SimpleQueryMessage::Row(row) => {
                let cells = (1..row.len()).map(|c| row.get(c).unwrap_or("NULL")).collect::<Vec<_>>();
                told.push(cells.join("|"));
            }
            _ => continue,
        }
    }
    told
}

const LARGE_VIEWS: &str = "CREATE MATERIALIZED VIEW sums INTO dw.mart.sums WITH (wait) AS
           SELECT 'x' AS t, COUNT(*) AS n, SUM(v) AS total FROM big.x
           UNION ALL SELECT 'y', COUNT(*), SUM(v) FROM big.y
           UNION ALL SELECT 'z', COUNT(*), SUM(v) FROM big.z;
         CREATE MATERIALIZED VIEW wide INTO dw.mart.wide WITH (wait) AS
           SELECT x.id, x.v AS xv, y.v AS yv FROM big.x JOIN big.y ON y.id = x.id";

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_seen_whole() {
    let rows: u64 = std::env::var("TIDEMILL_LARGE_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000);
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    source
        .run(
            "CREATE DATABASE big; USE big; SET cte_max_recursion_depth = 2000000;
             CREATE TABLE x (id INT PRIMARY KEY, v INT); CREATE TABLE y (id INT PRIMARY KEY, v INT);
             CREATE TABLE z (id INT PRIMARY KEY, v INT)",
        )
        .await;
    target.run("CREATE DATABASE mart").await;
    let server = Tidemill::start(&temporary("large"), &[], &[]).await;
    let client = server.client().await;
    connect(&client, &source, &target, "big.*").await;
    sql(&client, LARGE_VIEWS).await;
    let each = rows / 3;
    let fill = |t: &str| {
        format!(
            "INSERT INTO big.{t} WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {each})
             SELECT i, i % 100 FROM n;"
        )
    };
    let transaction = format!(
        "SET SESSION cte_max_recursion_depth = 2000000; BEGIN; {} {} {} COMMIT",
        fill("x"),
        fill("y"),
        fill("z")
    );
    let writing = tokio::spawn(async move {
        source.run(&transaction).await;
        source
    });
    let whole = each.to_string();
    let mut seen_empty = false;
    eventually("the transaction arrives", 300, async || {
        let port = sql(&client, "SELECT n FROM sums").await;
        let wide = sql(&client, "SELECT COUNT(*) FROM wide").await;
        let mut tables = target.connect().await;
        let in_target: Vec<u64> = tables.query("SELECT n FROM mart.sums").await.expect("the target answers");
        for n in port.iter().chain(&wide).map(|row| row[0].clone().unwrap_or_default()) {
            assert!(n == "0" || n == whole, "a part of the transaction is seen on the port: {n} of {whole}");
        }
        for n in &in_target {
            assert!(*n == 0 || *n == each, "a part of the transaction is seen in the target: {n} of {each}");
        }
        assert!(in_target.windows(2).all(|pair| pair[0] == pair[1]), "torn over tables: {in_target:?}");
        seen_empty |= in_target.first() == Some(&0);
        let done = in_target.first() == Some(&each);
        if done { Ok(()) } else { Err(in_target) }
    })
    .await;
    assert!(seen_empty, "the test watched from before the transaction");
    let source = writing.await.expect("the transaction commits");
    equal(
        "the wide table",
        &source,
        "SELECT COUNT(*), SUM(x.id), SUM(x.v), SUM(y.v) FROM big.x JOIN big.y ON y.id = x.id",
        &target,
        "SELECT COUNT(*), SUM(id), SUM(xv), SUM(yv) FROM mart.wide",
        60,
    )
    .await;
}

const ACCOUNTS: &str = "CREATE DATABASE bank; USE bank;
    CREATE TABLE accounts (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL, balance BIGINT NOT NULL);
    CREATE TABLE transfers (id BIGINT AUTO_INCREMENT PRIMARY KEY,
      from_id INT NOT NULL, to_id INT NOT NULL, amount BIGINT NOT NULL);
    INSERT INTO accounts VALUES (0,'bj',1000),(1,'bj',1000),(2,'sh',1000),(3,'sh',1000),(4,'gz',1000),(5,'gz',1000);";
const BANK_VIEWS: &str = "CREATE MATERIALIZED VIEW credits INTO dw.mart.credits WITH (wait) AS
      SELECT to_id AS account, COUNT(*) AS n, SUM(amount) AS total FROM bank.transfers GROUP BY to_id;
    CREATE MATERIALIZED VIEW total INTO dw.mart.total WITH (wait) AS
      SELECT SUM(balance) AS balance, COUNT(*) AS n FROM bank.accounts;
    CREATE MATERIALIZED VIEW wide INTO dw.mart.wide WITH (wait) AS
      SELECT t.id, t.amount, f.city AS from_city, g.city AS to_city, f.balance
      FROM bank.transfers t JOIN bank.accounts f ON f.id = t.from_id LEFT JOIN bank.accounts g ON g.id = t.to_id;";
const CREDITS: &str = "SELECT to_id, COUNT(*), SUM(amount) FROM bank.transfers GROUP BY to_id";
const BANK_WIDE: &str = "SELECT t.id, t.amount, f.city, g.city, f.balance
    FROM bank.transfers t JOIN bank.accounts f ON f.id = t.from_id LEFT JOIN bank.accounts g ON g.id = t.to_id";

/// Transfers between accounts until told to stop; pausing holds every writer between two transactions.
async fn transfer(opts: mysql_async::Opts, seed: u64, pause: std::sync::Arc<tokio::sync::RwLock<bool>>) {
    let mut conn = mysql_async::Conn::new(opts).await.expect("the source answers");
    let mut n = seed;
    loop {
        let running = pause.read().await;
        if !*running {
            return;
        }
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to, amount) = ((n >> 33) % 6, (n >> 40) % 6, (n >> 50) % 5);
        let transaction = format!(
            "BEGIN; UPDATE bank.accounts SET balance = balance - {amount} WHERE id = {from};
             UPDATE bank.accounts SET balance = balance + {amount} WHERE id = {to};
             INSERT INTO bank.transfers (from_id, to_id, amount) VALUES ({from}, {to}, {amount}); COMMIT"
        );
        // A deadlock between the writers rolls one back.
        if conn.query_drop(transaction).await.is_err() {
            conn.query_drop("ROLLBACK").await.expect("the source answers");
        }
        drop(running);
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// In the target, at every moment: no money is made or lost, and the views agree with each other.
async fn check_invariants(target: &Server) {
    let mut conn = target.connect().await;
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.expect("the target answers");
    let total: Option<(i64, i64)> =
        conn.query_first("SELECT balance, n FROM mart.total").await.expect("the target answers");
    assert_eq!(total, Some((6_000, 6)), "the sum of balances in the target");
    let credits: Option<i64> =
        conn.query_first("SELECT CAST(SUM(n) AS SIGNED) FROM mart.credits").await.expect("the target answers");
    let wide: Option<i64> = conn.query_first("SELECT COUNT(*) FROM mart.wide").await.expect("the target answers");
    assert_eq!(credits.unwrap_or(0), wide.unwrap_or(0), "two views of one transaction agree");
    conn.query_drop("COMMIT").await.expect("the target answers");
}

/// kill -9 at random times under load; whenever the writers are held, the target equals MySQL's own answer.
#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load() {
    let kills: u64 = std::env::var("TIDEMILL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let seed: u64 = std::env::var("TIDEMILL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(42);
    println!("seed {seed}, {kills} kills");
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    source.run(ACCOUNTS).await;
    target.run("CREATE DATABASE mart").await;
    let mut server = Tidemill::start(&temporary("kill"), &[], &[]).await;
    let client = server.client().await;
    connect(&client, &source, &target, "bank.*").await;
    sql(&client, BANK_VIEWS).await;
    let pause = std::sync::Arc::new(tokio::sync::RwLock::new(true));
    let writers: Vec<_> =
        (0..3).map(|w| tokio::spawn(transfer(source.opts(), seed + w, std::sync::Arc::clone(&pause)))).collect();
    let mut random = seed;
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((random >> 33) & 0x7ff)).await;
        server.kill();
        check_invariants(&target).await;
        server.restart().await;
        check_invariants(&target).await;
        let held = pause.write().await;
        for (what, source_sql, target_sql) in [
            ("credits", CREDITS, "SELECT account, n, total FROM mart.credits"),
            ("wide", BANK_WIDE, "SELECT id, amount, from_city, to_city, balance FROM mart.wide"),
        ] {
            let what = format!("{what} after kill {kill}, seed {seed}\n{}", server.log());
            equal(&what, &source, source_sql, &target, target_sql, 60).await;
        }
        drop(held);
    }
    *pause.write().await = false;
    for writer in writers {
        writer.await.expect("a writer ends cleanly");
    }
    let client = server.client().await;
    // Reads of the port are as fresh as the last tick: the writers' last transactions may still be on their way.
    let answer = sorted(source.rows(CREDITS).await);
    eventually("the port equals MySQL's own answer", 20, async || {
        let port = sorted(sql(&client, "SELECT * FROM credits").await);
        if port == answer { Ok(()) } else { Err((port, &answer)) }
    })
    .await;
}

/// kill -9 while columns that are not followed come and go and XA transactions are prepared and end.
#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_between_alters_and_prepared_transactions() {
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    source.run("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, x INT, a INT, b INT)").await;
    target.run("CREATE DATABASE mart").await;
    let mut server = Tidemill::start(&temporary("alter"), &[], &[]).await;
    let client = server.client().await;
    connect(&client, &source, &target, "d.*) EXCLUDE COLUMNS (d.t.x").await;
    sql(&client, "CREATE MATERIALIZED VIEW t INTO dw.mart.t WITH (wait) AS SELECT id, a, b FROM shop.d.t").await;
    for round in 0..6u64 {
        let insert = |id: u64| format!("INSERT INTO d.t (id, a, b) VALUES ({id}, {round}, {id})");
        source.run(&insert(10 * round)).await;
        let xa = format!("XA START 'x'; {}; XA END 'x'; XA PREPARE 'x'", insert(10 * round + 1));
        source.run(&xa).await;
        tokio::time::sleep(Duration::from_millis(700 * (round % 2))).await;
        server.kill();
        source.run("XA COMMIT 'x'").await;
        server.restart().await;
        let place = if round < 3 { "FIRST" } else { "AFTER a" };
        source.run(&format!("ALTER TABLE d.t ADD COLUMN n{round} INT DEFAULT -1 {place}")).await;
        source.run(&insert(10 * round + 2)).await;
        tokio::time::sleep(Duration::from_millis(300 * (round % 3))).await;
        server.kill();
        source.run(&insert(10 * round + 3)).await;
        server.restart().await;
        let what = format!("t after round {round}\n{}", server.log());
        equal(&what, &source, "SELECT id, a, b FROM d.t", &target, "SELECT id, a, b FROM mart.t", 60).await;
    }
}

/// A second server on the same target takes over; the first stops writing. A lost data directory ends in a load by
/// diff.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_fences_the_first() {
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    source.run(ACCOUNTS).await;
    target.run("CREATE DATABASE mart").await;
    let first = Tidemill::start(&temporary("first"), &[], &[]).await;
    let client = first.client().await;
    connect(&client, &source, &target, "bank.*").await;
    sql(&client, BANK_VIEWS).await;
    source.run("INSERT INTO bank.transfers (from_id, to_id, amount) VALUES (1, 2, 3), (2, 3, 4)").await;
    equal("credits", &source, CREDITS, &target, "SELECT account, n, total FROM mart.credits", 20).await;

    // The same views from an empty data directory: also what is left after a lost one.
    let second = Tidemill::start(&temporary("second"), &[], &[]).await;
    let other = second.client().await;
    connect(&other, &source, &target, "bank.*").await;
    sql(&other, BANK_VIEWS).await;
    source.run("INSERT INTO bank.transfers (from_id, to_id, amount) VALUES (3, 4, 5)").await;
    equal("credits", &source, CREDITS, &target, "SELECT account, n, total FROM mart.credits", 20).await;
    eventually("the first is fenced", 20, async || {
        let views = sql(&client, "SHOW MATERIALIZED VIEWS").await;
        let fenced = views.iter().all(|view| view[6].as_deref().is_some_and(|state| state.contains("fenced")));
        if fenced { Ok(()) } else { Err(views) }
    })
    .await;
    // It still answers reads.
    assert_eq!(sorted(sql(&client, "SELECT * FROM credits").await), sorted(source.rows(CREDITS).await));
    assert!(try_sql(&other, "SELECT * FROM credits").await.is_ok());
}
