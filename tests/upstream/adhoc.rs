//! SELECT of tables that no source follows, as they are in their server.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::StreamExt;

use crate::mysql_server::{Kind, Server};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary};
use crate::{READER, connect, refusal, shown, transfers};

const TABLES: &str = "CREATE DATABASE ref; CREATE TABLE ref.goods (id INT PRIMARY KEY, name VARCHAR(20),
    price DECIMAL(8,2), big BIGINT UNSIGNED, made DATE, spot POINT, w DOUBLE);
  INSERT INTO ref.goods (id, name, price, big, made, w) VALUES (1, 'tea', 2.50, 1, '2026-01-01', 0.5),
    (2, 'TEA', 3.00, 18446744073709551615, NULL, 1e10), (3, 'it''s \\\\ odd', NULL, NULL, '2026-02-01', NULL),
    (4, NULL, 0, 7, NULL, 3)";

async fn started(name: &str, tables: &str) -> Option<(Server, Tidemill)> {
    let server = Server::start_or_skip(Kind::MySql, &["--default-time-zone=+00:00"]).await?;
    server.run(&format!("{READER}; {tables}")).await;
    let tidemill = Tidemill::start(&temporary(name).join("data"), &[], &[]).await;
    connect(&tidemill.client().await, &server, "TIDB").await;
    Some((server, tidemill))
}

/// What the server was asked of its table, since the last time.
async fn asked(server: &Server) -> Vec<String> {
    let log = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
               WHERE command_type = 'Execute' AND argument LIKE '%FROM `ref`%' ORDER BY event_time";
    let rows = server.rows(log).await;
    server.run("TRUNCATE mysql.general_log").await;
    rows.into_iter().map(|mut row| row.remove(0).expect("no NULL").replace('`', "")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_filters_and_limits_are_the_servers_work() {
    let Some((server, tidemill)) = started("pushed", TABLES).await else { return };
    let client = tidemill.client().await;
    server.run("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON").await;
    let goods = "FROM ref.goods";
    for (query, answer, asks) in [
        ("SELECT name FROM c.ref.goods WHERE id = 2", vec!["TEA"], "SELECT id, name WHERE id = 2"),
        (
            "SELECT id FROM c.ref.goods WHERE id IN (1, 9) OR 4 <= id",
            vec!["1", "4"],
            "SELECT id WHERE (id IN (1, 9) OR id >= 4)",
        ),
        (
            "SELECT id FROM c.ref.goods WHERE big = 18446744073709551615",
            vec!["2"],
            "SELECT id, big WHERE big = 18446744073709551615",
        ),
        (
            "SELECT id FROM c.ref.goods WHERE price IS NULL AND made IS NOT NULL",
            vec!["3"],
            "SELECT id, price, made WHERE price IS NULL AND made IS NOT NULL",
        ),
        // A collation finds more than we do, and other texts different.
        ("SELECT id FROM c.ref.goods WHERE name = 'tea'", vec!["1"], "SELECT id, name WHERE name = 'tea'"),
        ("SELECT id FROM c.ref.goods WHERE name <> 'tea' AND id < 3", vec!["2"], "SELECT id, name WHERE id < 3"),
        (
            r"SELECT id FROM c.ref.goods WHERE name = 'it''s \\ odd'",
            vec!["3"],
            r"SELECT id, name WHERE name = 'it''s \\ odd'",
        ),
        // What the server does not decide as we do is not asked.
        ("SELECT id FROM c.ref.goods WHERE w > 1 AND made > '2025-01-01'", vec![], "SELECT id, made, w"),
        ("SELECT id FROM c.ref.goods WHERE price = 2.5", vec!["1"], "SELECT id, price WHERE price = 2.50"),
        (
            "SELECT id FROM c.ref.goods WHERE name IN ('tea', 'x')",
            vec!["1"],
            "SELECT id, name WHERE name IN ('tea', 'x')",
        ),
        ("SELECT id FROM c.ref.goods WHERE CAST(big AS SIGNED) = -1", vec!["2"], "SELECT id, big"),
        ("SELECT COUNT(*) FROM c.ref.goods", vec!["4"], "SELECT id"),
        ("SELECT name FROM c.ref.goods WHERE id = 3 LIMIT 1", vec![r"it's \ odd"], "SELECT id, name WHERE id = 3"),
        ("SELECT id + 1 FROM c.ref.goods LIMIT 2 OFFSET 1", vec!["3", "4"], "SELECT id LIMIT 3"),
        ("SELECT id FROM c.ref.goods ORDER BY name, id LIMIT 1", vec!["4"], "SELECT id, name"),
        ("SELECT a.id FROM c.ref.goods a JOIN c.ref.goods b ON a.id = b.id + 1 WHERE a.id = 2", vec!["2"], "SELECT id"),
    ] {
        assert_eq!(shown(&client, query).await, answer, "{query}");
        let (columns, clause) =
            asks.split_once(" WHERE").map_or((asks, String::new()), |(a, b)| (a, format!(" WHERE{b}")));
        let (columns, limit) =
            columns.split_once(" LIMIT").map_or((columns, String::new()), |(a, b)| (a, format!(" LIMIT{b}")));
        assert_eq!(asked(&server).await, [format!("{columns} {goods}{clause}{limit}")], "{query}");
    }
    // A row that the server leaves out could not fail any more.
    let failing = refusal(&client, "SELECT id FROM c.ref.goods WHERE big + big > 1 AND id = 1").await;
    assert!(failing.0.starts_with("the query has an error row"), "{failing:?}");
    let all = shown(&client, "SELECT * FROM c.ref.goods WHERE id = 1").await;
    assert_eq!(all, ["1 tea 2.50 1 2026-01-01 0.5"], "the column that cannot be read is left out");
    let plan = shown(&client, "EXPLAIN SELECT name FROM c.ref.goods").await.join("\n");
    assert!(plan.contains("Get c.ref.goods"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reads_one_moment_beside_views_and_a_view_reads_none() {
    let tables =
        "CREATE DATABASE ref; CREATE TABLE ref.a (id INT PRIMARY KEY, v INT NOT NULL); CREATE TABLE ref.b LIKE ref.a;
      INSERT INTO ref.a WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 500) SELECT i, 10 FROM n;
      INSERT INTO ref.b SELECT * FROM ref.a";
    let Some((server, tidemill)) = started("one-moment", tables).await else { return };
    let client = tidemill.client().await;
    sql(&client, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (900)").await;
    sql(&client, "CREATE MATERIALIZED VIEW few WITH (wait) AS SELECT id FROM t").await;
    assert_eq!(
        shown(&client, "SELECT a.id, a.v FROM few JOIN c.ref.a a ON a.id = few.id ORDER BY 1").await,
        ["1 10", "2 10"]
    );

    let (stop, writer) = transfers(server.connect().await);
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let both =
            "SELECT SUM(v), SUM(a) FROM (SELECT v, v AS a FROM c.ref.a UNION ALL SELECT v, 0 AS a FROM c.ref.b) x";
        let sums = shown(&client, both).await.remove(0);
        let (all, of_a) = sums.split_once(' ').expect("two columns");
        assert_eq!(all, "10000", "both tables at one moment");
        seen.insert(of_a.to_string());
    }
    stop.send(()).expect("the writer runs");
    writer.await.expect("the writer ends");
    assert!(seen.len() > 5, "the moments differ: {seen:?}");

    let create = "CREATE MATERIALIZED VIEW v AS SELECT id FROM c.ref.a";
    let (message, hint) = refusal(&client, create).await;
    assert_eq!(message, "there is no table or view `c.ref.a`");
    assert!(hint.contains("REFRESH EVERY"), "{hint}");
    assert_eq!(refusal(&client, "SELECT 1 FROM c.ref.gone").await.0, "there is no table or view `c.ref.gone`");
}

/// A client that leaves in the middle ends the reading, and nothing is gathered for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_streams_and_ends_with_its_reader() {
    const MIB: u64 = 1 << 20;
    const TABLE_MIB: u64 = 256;
    const GROWTH_MIB_MAX: u64 = 100;
    let tables = "CREATE DATABASE ref; CREATE TABLE ref.large (id INT PRIMARY KEY, filling MEDIUMTEXT NOT NULL);
      INSERT INTO ref.large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 256)
        SELECT i, REPEAT(CHAR(65 + i % 26), 1048576) FROM n";
    let Some((server, tidemill)) = started("streams", tables).await else { return };
    let client = tidemill.client().await;
    let before = tidemill.resident_bytes();
    let (mut rows, mut peak) = (0, 0);
    {
        let mut stream = pin!(client.simple_query_raw("SELECT * FROM c.ref.large").await.expect("it begins"));
        while let Some(message) = stream.next().await {
            rows += u64::from(matches!(message.expect("no error"), tokio_postgres::SimpleQueryMessage::Row(_)));
            peak = peak.max(tidemill.resident_bytes());
        }
    }
    assert_eq!(rows, TABLE_MIB);
    let grown = peak.saturating_sub(before) / MIB;
    assert!(grown < GROWTH_MIB_MAX, "{grown} MiB more than before, for a table of {TABLE_MIB} MiB");

    let readers = async |wanted: &str| {
        let processes = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'reader'";
        let readers = server.rows(processes).await.remove(0).remove(0).expect("a number");
        if readers == wanted { Ok(()) } else { Err(readers) }
    };
    for query in ["SELECT * FROM c.ref.large", "SELECT MAX(filling) FROM c.ref.large"] {
        let asked = tidemill.client().await;
        let cancel = asked.cancel_token();
        // Nobody takes the answer: only what is on its way is there.
        let answer = tokio::spawn(async move { asked.simple_query_raw(query).await.map(|answer| (asked, answer)) });
        eventually("it is read", 30, async || readers("1").await).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.expect("it is asked");
        eventually("the reading ends", 30, async || readers("0").await).await;
        assert_eq!(shown(&client, "SELECT COUNT(*) FROM c.ref.large").await, ["256"]);
        drop(answer.await);
    }
}

/// Processor time that a process has taken, in ticks of 10 ms.
fn ticks(tidemill: &Tidemill) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", tidemill.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_nobody_waits_for_any_more_is_computed_no_further() {
    const ROWS: usize = 3_000;
    const TICKS_A_SECOND: u64 = 100;
    let tidemill = Tidemill::start(&temporary("cancelled").join("data"), &[], &[]).await;
    let client = tidemill.client().await;
    let values: Vec<String> = (0..ROWS).map(|n| format!("({n})")).collect();
    sql(&client, &format!("CREATE TABLE n (x INT PRIMARY KEY); INSERT INTO n VALUES {}", values.join(", "))).await;
    // More than anyone would wait for.
    let query = "SELECT COUNT(*) FROM n AS a CROSS JOIN n AS b CROSS JOIN n AS c WHERE a.x + b.x <> c.x";
    let is_busy = async |wanted: bool| {
        let before = ticks(&tidemill);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let taken = ticks(&tidemill) - before;
        let busy = taken > TICKS_A_SECOND / 4;
        if busy == wanted { Ok(()) } else { Err(taken) }
    };
    for leaves in [false, true] {
        let config = format!("host=127.0.0.1 port={} user=tidemill", tidemill.port);
        let (asked, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.expect("it listens");
        let connection = tokio::spawn(connection);
        let cancel = asked.cancel_token();
        let answer = tokio::spawn(async move { asked.simple_query(query).await.map(drop) });
        eventually("it is computed", 30, async || is_busy(true).await).await;
        match leaves {
            // Its socket closes.
            true => connection.abort(),
            false => {
                cancel.cancel_query(tokio_postgres::NoTls).await.expect("it is asked");
                let error = answer.await.unwrap().expect_err("it was cancelled");
                assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
            }
        }
        eventually("it is computed no further", 30, async || is_busy(false).await).await;
        assert_eq!(shown(&client, "SELECT COUNT(*) FROM n").await, [ROWS.to_string()]);
    }
}
