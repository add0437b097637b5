//! Tables without a changelog: read again and again, whatever happens in between.

use std::time::{Duration, Instant};

use crate::mysql_server::{Kind, Server};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary};
use crate::{READER, connect, refusal, shown, transfers};

const WAIT_SECONDS: u64 = 60;
const TABLES: &str = "CREATE DATABASE ref; CREATE DATABASE shop;
  CREATE TABLE ref.countries (code VARCHAR(2) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, name VARCHAR(40),
    rate DECIMAL(6,3), at DATETIME(3), w FLOAT, flag BLOB);
  CREATE TABLE shop.orders (id INT PRIMARY KEY, country VARCHAR(2), amount DECIMAL(10,2))";
const COUNTRIES: &str =
    "INSERT INTO ref.countries VALUES ('de', 'Germany', 1.5, '2026-01-02 03:04:05.678', 0.1, 0x00ff),
  ('FR', 'France', 2, NULL, NULL, NULL), ('uk', NULL, NULL, NULL, 3.5, ''), ('', 'nowhere', 0, NULL, 0, NULL)";
const ORDERS: &str = "INSERT INTO shop.orders VALUES (1, 'de', 10), (2, 'FR', 20), (3, 'uk', 30), (4, 'xx', 40)";
const JOIN: &str = "SELECT o.id, o.amount, c.name, c.rate FROM shop.orders o LEFT JOIN ref.countries c \
                    ON c.code = o.country";

/// A server with the tables, one of ours, and the account that may only read them.
async fn started(name: &str, options: &[&str]) -> Option<(Server, Tidemill)> {
    let server = Server::start_or_skip(Kind::MySql, &[&["--default-time-zone=+00:00"], options].concat()).await?;
    server.run(&format!("{READER}; {TABLES}; {COUNTRIES}; {ORDERS}")).await;
    let tidemill = Tidemill::start(&temporary(name).join("data"), &[], &[]).await;
    connect(&tidemill.client().await, &server, "TIDB").await;
    Some((server, tidemill))
}

/// Our answer becomes the server's own.
async fn agree(tidemill: &Tidemill, ours: &str, server: &Server, theirs: &str) {
    let client = tidemill.client().await;
    let mut expected = server.rows(theirs).await;
    expected.sort();
    eventually(ours, WAIT_SECONDS, async || {
        let mut found = sql(&client, ours).await;
        found.sort();
        if found == expected { Ok(()) } else { Err((found, expected.clone())) }
    })
    .await;
}

/// State and position of the source `dims`.
async fn source(tidemill: &Tidemill) -> (String, String) {
    let rows = sql(&tidemill.client().await, "SHOW SOURCES").await;
    let dims = rows.into_iter().find(|row| row[0].as_deref() == Some("dims")).expect("it is there");
    (dims[2].clone().unwrap_or_default(), dims[3].clone().unwrap_or_default())
}

fn round(position: &str) -> u64 {
    let round = position.strip_prefix("round ").and_then(|rest| rest.split_once(", read 20"));
    round.unwrap_or_else(|| panic!("{position}")).0.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polled_table_is_a_dimension_of_a_followed_one() {
    let Some((server, mut tidemill)) = started("dimension", &[]).await else { return };
    let client = tidemill.client().await;
    let followed = format!("CREATE CONNECTION m TO MYSQL (HOST '127.0.0.1', PORT {}, USER 'root')", server.port());
    sql(&client, &format!("{followed}; CREATE SOURCE shop FROM CONNECTION m TABLES (shop.*)")).await;
    let create = "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.countries) REFRESH EVERY '1 second'";
    sql(&client, create).await;
    eventually("it rests", WAIT_SECONDS, async || {
        let (state, _) = source(&tidemill).await;
        if state == "running; no view needs its tables yet" { Ok(()) } else { Err(state) }
    })
    .await;
    assert_eq!(
        shown(&client, "SHOW CREATE SOURCE dims").await,
        [create.replace(" TABLES", "\n  TABLES").replace(" REFRESH", "\n  REFRESH")]
    );
    sql(&client, &format!("CREATE MATERIALIZED VIEW wide WITH (wait) AS {JOIN}")).await;
    sql(
        &client,
        "CREATE MATERIALIZED VIEW plain WITH (wait) AS SELECT code, name, rate, at, w, flag FROM ref.countries",
    )
    .await;
    agree(&tidemill, "SELECT * FROM wide", &server, JOIN).await;

    let changes = [
        "UPDATE ref.countries SET rate = 3.25 WHERE code = 'de'; INSERT INTO ref.countries (code, name) VALUES \
         ('xx', 'X')",
        "DELETE FROM ref.countries WHERE code = 'fr'; INSERT INTO shop.orders VALUES (5, 'uk', 50)",
        "UPDATE ref.countries SET code = 'zz' WHERE code = 'de'; UPDATE shop.orders SET country = 'zz' WHERE id = 2",
        "DELETE FROM ref.countries",
    ];
    let all = "SELECT code, name, rate, at, w, flag FROM ref.countries";
    for (i, change) in changes.iter().enumerate() {
        server.run(change).await;
        agree(&tidemill, "SELECT * FROM wide", &server, JOIN).await;
        let plain = "SELECT code, name, rate, at, w FROM plain";
        agree(&tidemill, plain, &server, &all.replace(", flag", "")).await;
        let (state, position) = source(&tidemill).await;
        assert!(state.starts_with("running; next round at 20"), "{state}");
        let before = round(&position);
        tidemill.kill();
        // Changed while nobody looks.
        server.run(&format!("{} ; UPDATE ref.countries SET w = {i}", COUNTRIES.replace("INSERT", "REPLACE"))).await;
        tidemill.restart().await;
        agree(&tidemill, plain, &server, &all.replace(", flag", "")).await;
        agree(&tidemill, "SELECT * FROM wide", &server, JOIN).await;
        assert!(round(&source(&tidemill).await.1) > before, "rounds are counted on");
    }
    let client = tidemill.client().await;
    let tables = sql(&client, "SHOW TABLES").await;
    let countries = tables.iter().find(|row| row[0].as_deref() == Some("c.ref.countries")).expect("it is there");
    let rows = server.rows("SELECT COUNT(*) FROM ref.countries").await.remove(0).remove(0);
    assert_eq!(countries[3], rows, "no row is counted twice");
}

/// The sum over two tables is always the same: rounds that mixed two moments would show another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_sees_one_moment_of_all_its_tables() {
    let Some((server, tidemill)) = started("moment", &[]).await else { return };
    server
        .run(
            "CREATE TABLE ref.a (id INT PRIMARY KEY, v INT NOT NULL); CREATE TABLE ref.b LIKE ref.a;
             INSERT INTO ref.a WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 500)
               SELECT i, 10 FROM n;
             INSERT INTO ref.b SELECT * FROM ref.a",
        )
        .await;
    let client = tidemill.client().await;
    sql(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.a, ref.b) REFRESH EVERY '1 hour'").await;
    let sum = "SELECT SUM(v) AS v FROM (SELECT v FROM ref.a UNION ALL SELECT v FROM ref.b) t";
    sql(&client, &format!("CREATE MATERIALIZED VIEW total WITH (wait) AS {sum}")).await;
    sql(&client, "CREATE MATERIALIZED VIEW moved WITH (wait) AS SELECT SUM(v) AS v FROM ref.a").await;
    let (stop, writer) = transfers(server.connect().await);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        sql(&client, "REFRESH SOURCE dims").await;
        assert_eq!(shown(&client, "SELECT v FROM total").await, ["10000"]);
        seen.extend(shown(&client, "SELECT v FROM moved").await);
    }
    stop.send(()).expect("the writer runs");
    let transfers = writer.await.expect("the writer ends");
    assert!(seen.len() > 5, "{transfers} transfers, of which the rounds saw {seen:?}");
    sql(&client, "REFRESH SOURCE dims").await;
    let left = server.rows("SELECT SUM(v) FROM ref.a").await.remove(0).remove(0).expect("a sum");
    assert_eq!(shown(&client, "SELECT v FROM moved").await, [left], "a refresh is in the next answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_that_fails_moves_nothing_and_a_changed_column_stops() {
    let Some((mut server, tidemill)) = started("failing", &[]).await else { return };
    let client = tidemill.client().await;
    sql(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.countries) REFRESH EVERY '1 second'").await;
    sql(&client, "CREATE MATERIALIZED VIEW v WITH (wait) AS SELECT code, rate FROM ref.countries").await;
    agree(&tidemill, "SELECT * FROM v", &server, "SELECT code, rate FROM ref.countries").await;

    server.kill();
    eventually("it waits", WAIT_SECONDS, async || {
        let (state, _) = source(&tidemill).await;
        if state.starts_with("waiting: 127.0.0.1:") { Ok(()) } else { Err(state) }
    })
    .await;
    let (before, rows) = (source(&tidemill).await.1, shown(&client, "SELECT code FROM v").await);
    assert!(
        refusal(&client, "REFRESH SOURCE dims").await.0.starts_with("source dims could not be read again: 127.0.0.1:")
    );
    assert_eq!(source(&tidemill).await.1, before, "no position moves");
    assert_eq!(shown(&client, "SELECT code FROM v").await, rows, "no row goes");
    server.restart().await;
    server.run("ALTER TABLE ref.countries ADD COLUMN more INT, DROP COLUMN flag, ADD INDEX (name)").await;
    eventually("a followed column stops it", WAIT_SECONDS, async || {
        let (state, _) = source(&tidemill).await;
        if state.starts_with("stopped: SCHEMA_CHANGED: table ref.countries: column flag is not in it any more; ") {
            Ok(())
        } else {
            Err(state)
        }
    })
    .await;
    assert_eq!(shown(&client, "SELECT code FROM v").await, rows, "what was read stays");
    assert!(refusal(&client, "REFRESH SOURCE dims").await.0.contains("stopped: SCHEMA_CHANGED"));
    let again = refusal(&client, "ALTER SOURCE dims RESUME").await;
    assert!(again.0.starts_with("source dims has stopped again: SCHEMA_CHANGED: "), "{again:?}");
    let partitions = refusal(&client, "ALTER SOURCE dims ADD PARTITIONS").await;
    assert!(partitions.0.contains("did not stop because of partitions") && !partitions.1.is_empty(), "{partitions:?}");
    server.run("ALTER TABLE ref.countries ADD COLUMN flag BLOB; UPDATE ref.countries SET rate = 7").await;
    sql(&client, "ALTER SOURCE dims RESUME").await;
    agree(&tidemill, "SELECT * FROM v", &server, "SELECT code, rate FROM ref.countries").await;

    sql(&client, "DROP SOURCE dims CASCADE").await;
    let create = "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.countries) EXCLUDE COLUMNS (ref.countries.w) \
                  REFRESH EVERY '1 second'";
    sql(&client, create).await;
    sql(&client, "CREATE MATERIALIZED VIEW v WITH (wait) AS SELECT code, rate FROM ref.countries").await;
    let unused = "ALTER TABLE ref.countries DROP COLUMN w, ADD COLUMN w2 INT, ADD INDEX (rate)";
    server.run(&format!("{unused}; UPDATE ref.countries SET rate = 9")).await;
    agree(&tidemill, "SELECT * FROM v", &server, "SELECT code, rate FROM ref.countries").await;
    server.run("ALTER TABLE ref.countries DROP PRIMARY KEY, ADD COLUMN n INT AUTO_INCREMENT PRIMARY KEY").await;
    eventually("another key stops it", WAIT_SECONDS, async || {
        let (state, _) = source(&tidemill).await;
        let stopped = "stopped: SCHEMA_CHANGED: table ref.countries: its key was (code) and is (n); ";
        if state.starts_with(stopped) { Ok(()) } else { Err(state) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_polled_is_refused() {
    let Some((server, tidemill)) = started("refused", &[]).await else { return };
    server.run("CREATE TABLE ref.bare (a INT)").await;
    let client = tidemill.client().await;
    let refused =
        refusal(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.*) REFRESH EVERY '1 minute'").await;
    assert_eq!(refused.0, "table ref.bare has no primary key");
    let refused = refusal(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.countries)").await;
    assert_eq!(refused.0, "a source cannot read a TIDB connection");
    assert!(refused.1.ends_with("add REFRESH EVERY '1 minute'"), "{}", refused.1);
    sql(&client, "CREATE CONNECTION g TO GENERATOR").await;
    let refused = refusal(&client, "CREATE SOURCE dims FROM CONNECTION g REFRESH EVERY '1 minute'").await;
    assert_eq!(refused.0, "a GENERATOR connection has no tables to read again");
    sql(&client, "CREATE SOURCE shop FROM CONNECTION g").await;
    assert_eq!(refusal(&client, "REFRESH SOURCE shop").await.0, "source shop follows a changelog");
    sql(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.countries) REFRESH EVERY '1 hour'").await;
    // Nothing to read is read at once.
    sql(&client, "REFRESH SOURCE dims").await;
}

/// A round holds pieces of a table, not all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_compared_in_bounded_memory() {
    const MIB: u64 = 1 << 20;
    const TABLE_MIB: u64 = 320;
    const GROWTH_MIB_MAX: u64 = 200;
    let Some((server, tidemill)) = started("large", &["--max-allowed-packet=64M"]).await else { return };
    server
        .run(
            "CREATE TABLE ref.large (id INT PRIMARY KEY, v INT NOT NULL, filling MEDIUMTEXT NOT NULL);
             INSERT INTO ref.large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 320)
               SELECT i, 0, REPEAT(CHAR(65 + i % 26), 1048576) FROM n",
        )
        .await;
    let client = tidemill.client().await;
    sql(&client, "CREATE SOURCE dims FROM CONNECTION c TABLES (ref.large) REFRESH EVERY '1 hour'").await;
    sql(&client, "CREATE MATERIALIZED VIEW total WITH (wait) AS SELECT COUNT(*) AS n, SUM(v) AS v FROM ref.large")
        .await;
    let before = tidemill.resident_bytes();
    let mut peak = 0;
    for round in 1..=3 {
        server.run(&format!("UPDATE ref.large SET v = {round} WHERE id = 77")).await;
        let refresh = sql(&client, "REFRESH SOURCE dims");
        tokio::pin!(refresh);
        let started = Instant::now();
        while tokio::time::timeout(Duration::from_millis(20), &mut refresh).await.is_err() {
            peak = peak.max(tidemill.resident_bytes());
            assert!(started.elapsed() < Duration::from_secs(WAIT_SECONDS), "the round ends");
        }
        assert_eq!(shown(&client, "SELECT n, v FROM total").await, [format!("{TABLE_MIB} {round}")]);
    }
    let grown = peak.saturating_sub(before) / MIB;
    assert!(grown < GROWTH_MIB_MAX, "{grown} MiB more than before, for a table of {TABLE_MIB} MiB");
    println!("resident: {} MiB before, {grown} MiB more at most", before / MIB);
}
