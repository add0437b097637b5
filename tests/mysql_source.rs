//! The MySQL source against a real server: what it delivers equals what the server holds.

#[path = "support/feed.rs"]
mod feed;
#[path = "support/mysql.rs"]
mod mysql_server;

#[path = "support/proxy.rs"]
mod proxy;

#[path = "mysql_source/ddl.rs"]
mod ddl;
#[path = "mysql_source/xa.rs"]
mod xa;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use feed::Feed;
use mysql_async::prelude::Queryable;
use mysql_server::{Kind, Server};
use proxy::Proxy;
use tidemill::sources::mysql::check::checks;
use tidemill::sources::mysql::connect::Options;
use tidemill::store::Store;

async fn server(options: &[&str]) -> Option<Server> {
    let options = [&["--default-time-zone=+00:00"], options].concat();
    Server::start_or_skip(Kind::MySql, &options).await
}

fn options(server: &Server) -> Options {
    Options::new("127.0.0.1", server.port(), "root", None)
}

async fn gtid_executed(server: &Server) -> String {
    server.rows("SELECT @@GLOBAL.gtid_executed").await.remove(0).remove(0).expect("it is never NULL")
}

/// Rows as the server prints them, sorted as `Feed::rows` sorts.
async fn printed(server: &Server, sql: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = server.rows(sql).await;
    rows.sort();
    rows
}

const TYPES: &str = "(
  id INT PRIMARY KEY, i1 TINYINT, u1 TINYINT UNSIGNED, i2 SMALLINT, u2 SMALLINT UNSIGNED, i3 MEDIUMINT,
  u3 MEDIUMINT UNSIGNED,
  i4 INT, u4 INT UNSIGNED, i8 BIGINT, u8 BIGINT UNSIGNED, y YEAR, f FLOAT, d DOUBLE, n1 DECIMAL(5,2), n2 DECIMAL(38,10),
  n3 DECIMAL(65,30), c CHAR(10), c3 CHAR(255), v VARCHAR(300), l VARCHAR(50) CHARACTER SET latin1,
  t1 TINYTEXT, t4 LONGTEXT,
  b BINARY(4), vb VARBINARY(20), bl BLOB, e ENUM('small','it''s','big'), s SET('x','y','z'), j JSON, da DATE, ti TIME,
  ti1 TIME(1), ti2 TIME(2), ti3 TIME(3), ti6 TIME(6), dt DATETIME, dt1 DATETIME(1), dt6 DATETIME(6), ts TIMESTAMP NULL,
  ts3 TIMESTAMP(3) NULL, ts6 TIMESTAMP(6) NULL, g INT AS (id + 1) STORED, inv INT DEFAULT 5 INVISIBLE)";

const COLUMNS: &str = "id,i1,u1,i2,u2,i3,u3,i4,u4,i8,u8,y,f,d,n1,n2,n3,c,c3,v,l,t1,t4,b,vb,bl,e,s,j,da,ti,\
                       ti1,ti2,ti3,ti6,\
                       dt,dt1,dt6,ts,ts3,ts6,inv";

fn edge_rows() -> String {
    let nines = "9".repeat(35) + "." + &"9".repeat(30);
    let rows = [
        "1,-128,0,-32768,0,-8388608,0,-2147483648,0,-9223372036854775808,0,1901,-1.5,-0.1,-999.99,\
         -1234567890123456789012345678.0123456789,NULL,'','','','','','','','','','small','','{}','0000-00-00',\
         '-838:59:59','-00:00:00.5','-12:34:56.78','-12:34:56.789','-00:00:00.000001','0000-00-00 00:00:00',\
         '1000-01-01 00:00:00.1','1000-01-01 00:00:00.000001','0000-00-00 00:00:00','1970-01-01 00:00:01.001',\
         '1970-01-01 00:00:01.000001',NULL"
            .to_string(),
        format!(
            "2,127,255,32767,65535,8388607,16777215,2147483647,4294967295,9223372036854775807,\
            18446744073709551615,2155,\
             3.25,123456.5,999.99,1234567890123456789012345678.9999999999,-{nines},'ab  ','{}','naïve 😀',\
             'café €','tiny',\
             'long',0x00FF0000,0x00FF00,0xDEADBEEF,'big','x,z','{{\"a\": [1, -2, 3.5, true, null],\
             \"ü\": \"\\\\\"q\\\\n\"}}',\
             '9999-12-31','838:59:59','838:59:58.9','838:59:58.99','838:59:58.999','838:59:58.999999',\
             '9999-12-31 23:59:59','9999-12-31 23:59:59.9','9999-12-31 23:59:59.999999','2038-01-19 03:14:07',\
             '2038-01-19 03:14:07.999','2038-01-19 03:14:07.999999',1",
            "w".repeat(255)
        ),
        "3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,\
        NULL,NULL,NULL,\
         NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL"
            .to_string(),
        "4,0,1,-1,1,-1,1,-1,1,-1,1,0,0.1,0.30000000000000004,0,0.0000000001,\
        0.000000000000000000000000000001,'x','y','z',\
         'l','t','t',0x61626300,0x61,0x61,'it''s','x,y,z',JSON_OBJECT('d',CAST('2020-02-03' AS DATE),'t',\
         CAST('-12:34:56.5' AS TIME(6)),'dt',CAST('2020-02-03 04:05:06.7' AS DATETIME(6)),'n',\
         CAST(12.3400 AS DECIMAL(10,4)),\
         'u',18446744073709551615,'f',1e0,'g',1e20,'h',1.5e-7,'b',CAST('ab' AS BINARY),'long',REPEAT('k',40000)),\
         '2020-00-10','00:00:00','00:00:00','00:00:00','00:00:00','00:00:00','2020-02-00 00:00:00',\
         '1969-12-31 23:59:59.9',\
         '1969-12-31 23:59:59.999999','2000-02-29 12:00:00','2000-02-29 12:00:00.5','2000-02-29 12:00:00.25',NULL"
            .to_string(),
    ];
    rows.iter().map(|row| format!("({row})")).collect::<Vec<_>>().join(",\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_reads_the_same_from_snapshot_binlog_and_server() {
    for (metadata, compression) in [("MINIMAL", "OFF"), ("FULL", "ON")] {
        let metadata_option = format!("--binlog-row-metadata={metadata}");
        let compression_option = format!("--binlog-transaction-compression={compression}");
        let Some(server) = server(&[&metadata_option, &compression_option]).await else { return };
        let mode = "SET sql_mode = ''; SET time_zone = '+00:00';";
        server.run(&format!("CREATE DATABASE p; CREATE TABLE p.a {TYPES}; CREATE TABLE p.b {TYPES}")).await;
        server.run(&format!("{mode} INSERT INTO p.a ({COLUMNS}) VALUES {}", edge_rows())).await;
        let options = options(&server);
        let mut feed = Feed::start(&options);
        feed.follow(&options, &[("p", "a"), ("p", "b")]).await;
        server.run(&format!("{mode} INSERT INTO p.b ({COLUMNS}) SELECT {COLUMNS} FROM p.a")).await;
        feed.reach(&gtid_executed(&server).await).await;

        let columns: Vec<&str> = feed.tables[0].schema.columns.iter().map(|c| c.name.as_str()).collect();
        let printed = printed(&server, &format!("SELECT {} FROM p.a", columns.join(","))).await;
        assert_eq!(printed.len(), 4);
        for (name, rows) in [("snapshot", feed.rows(0)), ("binlog", feed.rows(1))] {
            for (row, expected) in rows.iter().zip(&printed) {
                for ((value, expected), column) in row.iter().zip(expected).zip(&columns) {
                    assert_eq!(value, expected, "{name}, metadata {metadata}, column {column}, row {:?}", row[0]);
                }
            }
            assert_eq!(rows.len(), printed.len(), "{name}");
        }

        let changes =
            "UPDATE p.b SET v = CONCAT(v, '!'), u8 = 7, j = NULL WHERE id IN (2, 3); DELETE FROM p.b WHERE id = 1";
        server.run(&format!("{mode} {changes}")).await;
        feed.reach(&gtid_executed(&server).await).await;
        let ours: Vec<_> = feed.rows(1).iter().map(|r| (r[0].clone(), r[10].clone(), r[19].clone())).collect();
        let theirs: Vec<_> = server.rows("SELECT id, u8, v FROM p.b ORDER BY id").await;
        assert_eq!(ours, theirs.into_iter().map(|r| (r[0].clone(), r[1].clone(), r[2].clone())).collect::<Vec<_>>());
    }
}

/// A bank: whatever commits, the accounts' sum and the count of transfers agree.
const BANK: &str = "CREATE DATABASE bank; CREATE TABLE bank.a (id INT PRIMARY KEY, v BIGINT NOT NULL); \
  CREATE TABLE bank.b LIKE bank.a; INSERT INTO bank.a \
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) SELECT i, 100 FROM n; \
  INSERT INTO bank.b SELECT * FROM bank.a";

async fn transfer_until(server: &Server, done: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let mut conn = server.connect().await;
    tokio::spawn(async move {
        for i in 0u64.. {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let (from, to) = (i * 7919 % 200 + 1, i * 104_729 % 200 + 1);
            let mut sql = format!(
                "BEGIN; UPDATE bank.a SET v = v - 1 WHERE id = {from}; UPDATE bank.b SET v = v + 1 WHERE id = {to};"
            );
            match i % 5 {
                0 => {
                    sql += &format!(
                        "DELETE FROM bank.a WHERE id = {to}; INSERT INTO bank.a VALUES ({to}, 50);\
                                      UPDATE bank.b SET v = v + \
                        (SELECT 40000 - (SELECT SUM(v) FROM bank.a) - (SELECT SUM(x.v) FROM (SELECT * FROM bank.b) x)) \
                        WHERE id = {to}; COMMIT"
                    )
                }
                1 => sql += "SAVEPOINT s; UPDATE bank.a SET v = 0; ROLLBACK TO s; COMMIT",
                2 => sql += "ROLLBACK",
                _ => sql += "COMMIT",
            }
            conn.query_drop(sql).await.expect("a transfer commits");
        }
    })
}

fn total(feed: &Feed) -> i64 {
    let values =
        |i| feed.rows(i).into_iter().map(|r| r[1].as_ref().expect("NOT NULL").parse::<i64>().expect("a number"));
    (0..feed.tables.len()).flat_map(values).sum()
}

async fn assert_equal(server: &Server, feed: &Feed) {
    for (i, table) in feed.tables.iter().enumerate() {
        let columns: Vec<&str> = table.schema.columns.iter().map(|c| c.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {}.{}", columns.join(","), table.database, table.name);
        assert_eq!(feed.rows(i), printed(server, &sql).await, "{}.{}", table.database, table.name);
    }
}

/// All that committed on the server has come, and the followed tables are what they are there.
async fn assert_catches_up(server: &Server, feed: &mut Feed) {
    feed.reach(&gtid_executed(server).await).await;
    assert_equal(server, feed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_followed_under_writes_never_show_half_a_transaction() {
    let Some(server) = server(&[]).await else { return };
    server.run(BANK).await;
    let options = options(&server);
    let done = Arc::new(AtomicBool::new(false));
    let writer = transfer_until(&server, done.clone()).await;
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a"), ("bank", "b")]).await;
    let seen = feed.transactions;
    feed.until(|feed| {
        assert_eq!(total(feed), 40_000, "after {} transactions", feed.transactions);
        feed.transactions > seen + 100
    })
    .await
    .expect("no stop");
    done.store(true, Ordering::Relaxed);
    writer.await.expect("the writer is well");
    assert_catches_up(&server, &mut feed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_reload_takes_its_snapshot_too() {
    let Some(server) = server(&[]).await else { return };
    server.run(BANK).await;
    server
        .run(
            "CREATE USER r IDENTIFIED BY 'se''cret'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO r; \
             GRANT SELECT, LOCK TABLES ON bank.* TO r",
        )
        .await;
    let password = tidemill::config::Secret::new("se'cret");
    let options = Options::new("127.0.0.1", server.port(), "r", Some(password));
    let done = Arc::new(AtomicBool::new(false));
    let writer = transfer_until(&server, done.clone()).await;
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a"), ("bank", "b")]).await;
    assert_eq!(total(&feed), 40_000);
    done.store(true, Ordering::Relaxed);
    writer.await.expect("the writer is well");
    assert_catches_up(&server, &mut feed).await;
    let checks = checks(&options).await.expect("the server answers");
    assert_eq!(checks.iter().filter(|c| !c.ok).collect::<Vec<_>>(), Vec::<&tidemill::sources::Check>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_and_a_restart_of_ours_lose_and_double_nothing() {
    let Some(mut server) = server(&[]).await else { return };
    server.run(BANK).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a"), ("bank", "b")]).await;
    for round in 0..3 {
        server
            .run(&format!("UPDATE bank.a SET v = v + {round}; INSERT INTO bank.b VALUES ({}, 1)", 1000 + round))
            .await;
        if round == 1 {
            feed = feed.restart(&options);
        } else {
            if round == 0 {
                server.kill()
            } else {
                server.stop()
            }
            server.restart().await;
        }
        server.run("DELETE FROM bank.a WHERE id % 10 = 3").await;
        assert_catches_up(&server, &mut feed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_break_anywhere_lose_and_double_nothing() {
    let Some(server) = server(&[]).await else { return };
    server.run(BANK).await;
    let proxy = Proxy::start(server.port()).await;
    let options = Options::new("127.0.0.1", proxy.port(), "root", None);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a"), ("bank", "b")]).await;
    // Each link lasts a while longer than the one before: sessions set up, then end in the middle of an event.
    for bytes in (2000..6000).step_by(173) {
        proxy.cut_after(bytes);
        proxy.cut_now();
        server
            .run("BEGIN; UPDATE bank.a SET v = v + 1 WHERE id < 60; UPDATE bank.b SET v = v - 1 WHERE id < 60; COMMIT")
            .await;
    }
    proxy.cut_after(usize::MAX);
    assert_catches_up(&server, &mut feed).await;
    assert!(!feed.waiting.is_empty(), "links did break");

    proxy.swallow();
    server.run("UPDATE bank.a SET v = v + 1").await;
    assert_catches_up(&server, &mut feed).await;
    assert!(feed.waiting.iter().any(|w| w.contains("nothing heard")), "{:?}", feed.waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bytes_are_noticed() {
    let Some(server) = server(&[]).await else { return };
    server.run(BANK).await;
    let proxy = Proxy::start(server.port()).await;
    let options = Options::new("127.0.0.1", proxy.port(), "root", None);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a"), ("bank", "b")]).await;
    feed.reach(&gtid_executed(&server).await).await;
    proxy.flip(100);
    server.run("UPDATE bank.a SET v = v + 1 WHERE id < 60").await;
    assert_catches_up(&server, &mut feed).await;
    assert!(!feed.waiting.is_empty(), "the flip was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_or_reset_history_stops_the_source() {
    let Some(server) = server(&[]).await else { return };
    server.run(BANK).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("bank", "a")]).await;
    let (store, tables) = (feed.store.clone(), feed.tables.clone());
    drop(feed);
    server.run("UPDATE bank.a SET v = 0; FLUSH BINARY LOGS; UPDATE bank.a SET v = 1").await;
    let file = server.rows("SHOW BINARY LOG STATUS").await.remove(0).remove(0).expect("a file name");
    server.run(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    let stop = Feed::resume(&options, store.clone(), tables.clone()).stopped().await;
    assert_eq!(stop.code, "SOURCE_GONE", "{stop:?}");
    server.run("RESET BINARY LOGS AND GTIDS").await;
    let stop = Feed::resume(&options, store, tables).stopped().await;
    assert_eq!(stop.code, "SOURCE_DIVERGED", "{stop:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_stops_the_source_with_its_code() {
    let Some(server) = server(&[]).await else { return };
    let options = options(&server);
    let cases = [
        ("SET SESSION binlog_row_image = MINIMAL; UPDATE d.t SET v = 'x'", "ROW_IMAGE_PARTIAL"),
        (
            "SET SESSION binlog_row_value_options = PARTIAL_JSON; UPDATE d.t SET j = JSON_SET(j, '$.a', 2)",
            "ROW_IMAGE_PARTIAL",
        ),
        ("SET SESSION binlog_format = STATEMENT; UPDATE d.t SET v = 'x'", "STATEMENT_FORMAT"),
        ("ALTER TABLE d.t DROP COLUMN v", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t MODIFY id BIGINT", "SCHEMA_CHANGED"),
        ("RENAME TABLE d.t TO d.u", "SCHEMA_CHANGED"),
        ("USE d; DROP TABLE t", "SCHEMA_CHANGED"),
        ("DROP DATABASE d", "SCHEMA_CHANGED"),
        ("CREATE TABLE d._new LIKE d.t; RENAME TABLE d.t TO d._old, d._new TO d.t", "SCHEMA_CHANGED"),
        ("CREATE TABLE d._new LIKE d.t; ALTER TABLE d.t RENAME d._old, ALGORITHM = INPLACE", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t RENAME COLUMN v TO w", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t MODIFY v VARCHAR(20); UPDATE d.t SET v = 'longer than ten'", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t MODIFY v VARCHAR(10) CHARACTER SET latin1; UPDATE d.t SET v = 'x'", "SCHEMA_CHANGED"),
        ("ALTER TABLE d.t MODIFY v VARCHAR(10) CHARACTER SET gbk; UPDATE d.t SET v = 'x'", "SCHEMA_CHANGED"),
    ];
    for (sql, code) in cases {
        let table = format!(
            "DROP DATABASE IF EXISTS d; CREATE DATABASE d; \
             CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(10), j JSON); \
             INSERT INTO d.t VALUES (1, 'a', '{{\"a\": 1, \"b\": \"{}\"}}')",
            "long ".repeat(50)
        );
        server.run(&table).await;
        let mut feed = Feed::start(&options);
        feed.follow(&options, &[("d", "t")]).await;
        server.run(sql).await;
        let stop = feed.stopped().await;
        assert_eq!(stop.code, code, "{sql}: {stop:?}");
        assert!(stop.position.is_some() && !stop.remedy.is_empty(), "{stop:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_a_million_rows_is_one_and_staged() {
    let Some(server) = server(&[]).await else { return };
    server.run("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(60))").await;
    let options = options(&server);
    let directory = tempfile::tempdir().expect("a directory for the store");
    let store = Arc::new(Store::open(directory.path()).expect("an empty store"));
    let mut feed = Feed::resume(&options, store, Vec::new());
    feed.follow(&options, &[("d", "t")]).await;
    let (before, transactions) = (resident_mib(), feed.transactions);
    server
        .run(
            "SET SESSION cte_max_recursion_depth = 2000000; INSERT INTO d.t WITH RECURSIVE n(i) AS \
              (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000000) SELECT i, REPEAT('v', 50) FROM n",
        )
        .await;
    feed.reach(&gtid_executed(&server).await).await;
    assert_eq!(feed.store.snapshot().rows(feed.tables[0].id), 1_000_000);
    assert_eq!(feed.transactions, transactions + 1, "it is never split");
    let grown = resident_mib().saturating_sub(before);
    eprintln!("resident memory grew by {grown} MiB");
    assert!(grown < 600, "{grown} MiB");
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).expect("a second number").parse().expect("a number");
    (pages * 4096) >> 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_refused_by_name() {
    let Some(server) = Server::start_or_skip(Kind::MariaDb, &[]).await else { return };
    let options = options(&server);
    let checks = checks(&options).await.expect("the server answers");
    assert!(checks.len() == 1 && !checks[0].ok && checks[0].have.contains("MariaDB"), "{checks:?}");
    let stop = Feed::start(&options).stopped().await;
    assert_eq!(stop.code, "SERVER_UNSUPPORTED", "{stop:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_not_followed_do_not_shift_the_others() {
    for metadata in ["MINIMAL", "FULL"] {
        let Some(server) = server(&[&format!("--binlog-row-metadata={metadata}")]).await else { return };
        server
            .run(
                "CREATE DATABASE d; SET SESSION sql_generate_invisible_primary_key = ON; \
                 CREATE TABLE d.t (a INT, w INT AS (a + 1) VIRTUAL, p POINT, b INT, s INT AS (b + 2) STORED, c INT, \
                 INDEX ((a + b))); INSERT INTO d.t (a, p, b, c) VALUES (1, POINT(1, 2), 2, 3)",
            )
            .await;
        let options = options(&server);
        let mut feed = Feed::start(&options);
        feed.follow(&options, &[("d", "t")]).await;
        server.run("INSERT INTO d.t (a, p, b, c) VALUES (10, POINT(1, 2), 20, 30); UPDATE d.t SET c = c + 1").await;
        feed.reach(&gtid_executed(&server).await).await;
        let columns: Vec<&str> = feed.tables[0].schema.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(columns, ["my_row_id", "a", "b", "s", "c"]);
        assert_eq!(feed.tables[0].schema.key, Some(vec![0]));
        assert_equal(&server, &feed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_cut_starts_again() {
    let Some(server) = server(&[]).await else { return };
    let many = "SET SESSION cte_max_recursion_depth = 300000; CREATE DATABASE d; \
                CREATE TABLE d.t (id INT PRIMARY KEY, v BIGINT); INSERT INTO d.t WITH RECURSIVE n(i) AS \
                (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) SELECT i, i * i FROM n";
    server.run(many).await;
    let proxy = Proxy::start(server.port()).await;
    let options = Options::new("127.0.0.1", proxy.port(), "root", None);
    let mut feed = Feed::start(&options);
    // The table is several times this large: no link lives to its end.
    proxy.cut_after(1 << 20);
    feed.ask_to_follow(&options, &[("d", "t")]).await;
    let again = |feed: &Feed| feed.waiting.iter().any(|w| w.contains("reading tables starts again"));
    feed.until(again).await.expect("no stop");
    proxy.cut_after(usize::MAX);
    proxy.cut_now();
    server.run("UPDATE d.t SET v = -1 WHERE id % 1000 = 0; DELETE FROM d.t WHERE id % 1000 = 1").await;
    let id = feed.tables[0].id;
    feed.until(|feed| feed.store.is_loaded(id)).await.expect("no stop");
    assert_catches_up(&server, &mut feed).await;
}
