//! XA transactions are delivered whole when they commit, whatever ends or begins in between.

use super::Server;
use super::feed::Feed;
use super::{assert_catches_up, assert_equal, gtid_executed, options, printed, server};
use mysql_async::prelude::Queryable;
use tidemill::config::Secret;
use tidemill::sources::mysql::connect::Options;

const TABLES: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(60)); \
                      CREATE TABLE d.u LIKE d.t; INSERT INTO d.t VALUES (1, 'a'), (2, 'b'), (3, 'c')";

/// Prepares changes under a name, in a session that ends then.
async fn prepare(server: &Server, name: &str, changes: &str) {
    server.run(&format!("XA START '{name}'; {changes}; XA END '{name}'; XA PREPARE '{name}'")).await;
}

/// Until the feed has a transaction that was committed now.
async fn pass(server: &Server, feed: &mut Feed, id: u32) {
    server.run(&format!("INSERT INTO d.t VALUES ({id}, 'passed')")).await;
    let has_it = |feed: &Feed| feed.rows(0).iter().any(|row| row[0] == Some(id.to_string()));
    feed.until(has_it).await.expect("no stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_transaction_is_delivered_when_it_commits_also_after_restarts() {
    let Some(mut server) = server(&[]).await else { return };
    server.run(TABLES).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "t"), ("d", "u")]).await;
    prepare(&server, "commits", "UPDATE d.t SET v = 'x' WHERE id = 1; INSERT INTO d.u VALUES (1, 'x')").await;
    prepare(&server, "rolls back", "DELETE FROM d.t WHERE id = 2").await;
    prepare(&server, "stays", "DELETE FROM d.t WHERE id = 3").await;
    pass(&server, &mut feed, 10).await;
    assert_equal(&server, &feed).await;
    assert_ne!(feed.position().map(|p| p.0), Some(gtid_executed(&server).await), "what is prepared is not had");

    feed = feed.restart(&options);
    pass(&server, &mut feed, 11).await;
    assert_equal(&server, &feed).await;
    server.kill();
    server.restart().await;
    pass(&server, &mut feed, 12).await;
    let before = feed.transactions;
    server.run("XA COMMIT 'commits'; XA ROLLBACK 'rolls back'").await;
    pass(&server, &mut feed, 13).await;
    assert_equal(&server, &feed).await;
    assert_eq!(feed.transactions, before + 2, "both tables' rows come in one transaction");

    feed = feed.restart(&options);
    server.run("XA START 'one'; UPDATE d.t SET v = 'one' WHERE id < 3; XA END 'one'; XA COMMIT 'one' ONE PHASE").await;
    server.run("XA COMMIT 'stays'").await;
    assert_catches_up(&server, &mut feed).await;
    // A name may be used again.
    prepare(&server, "stays", "UPDATE d.t SET v = 'again'").await;
    server.run("XA COMMIT 'stays'").await;
    assert_catches_up(&server, &mut feed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_prepared_transactions_wait_on_disk() {
    let Some(server) = server(&["--binlog-transaction-compression=ON"]).await else { return };
    server.run(TABLES).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "t")]).await;
    let many = "SET SESSION cte_max_recursion_depth = 500000";
    let rows = "INSERT INTO d.t WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) \
                SELECT i, REPEAT('v', 50) FROM n";
    server.run(&format!("{many}; XA START 'l'; {rows}; XA END 'l'; XA PREPARE 'l'")).await;
    pass(&server, &mut feed, 10).await;
    feed = feed.restart(&options);
    pass(&server, &mut feed, 11).await;
    server.run("XA COMMIT 'l'").await;
    assert_catches_up(&server, &mut feed).await;
    assert_eq!(feed.rows(0).len(), 400_000 - 999 + 5);
}

/// What was prepared before the source was made has no place in its binlog that it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_prepared_changes_of_unknown_place_is_read_when_they_end() {
    let Some(mut server) = server(&[]).await else { return };
    let account = "CREATE USER r IDENTIFIED BY 'p'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO r; \
                   GRANT SELECT, LOCK TABLES ON d.* TO r";
    server.run(&format!("{TABLES}; {account}")).await;
    prepare(&server, "before", "UPDATE d.t SET v = 'x' WHERE id = 1").await;
    server.kill();
    server.restart().await;
    let plain = Options::new("127.0.0.1", server.port(), "r", Some(Secret::new("p")));
    for (options, end) in [(options(&server), "XA COMMIT 'before'"), (plain, "XA ROLLBACK 'again'")] {
        let mut feed = Feed::start(&options);
        // It changed nothing of this table.
        feed.follow(&options, &[("d", "u")]).await;
        // Long prepared on a table that is followed: nothing waits for it.
        prepare(&server, "live", &format!("INSERT INTO d.u VALUES ({}, 'live')", end.len())).await;
        feed.ask_to_follow(&options, &[("d", "t")]).await;
        feed.until(|feed| feed.waiting.iter().any(|w| w.contains("XA RECOVER"))).await.expect("no stop");
        assert!(!feed.store.is_loaded(feed.tables[1].id));
        server.run(end).await;
        let id = feed.tables[1].id;
        feed.until(|feed| feed.store.is_loaded(id)).await.expect("no stop");
        server.run("XA COMMIT 'live'").await;
        assert_catches_up(&server, &mut feed).await;
        prepare(&server, "again", "UPDATE d.t SET v = 'y' WHERE id = 2").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_read_while_changes_of_it_are_prepared() {
    let Some(mut server) = server(&[]).await else { return };
    server.run(TABLES).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "u")]).await;
    prepare(&server, "only t", "UPDATE d.t SET v = 'x' WHERE id = 1").await;
    prepare(&server, "both", "UPDATE d.t SET v = 'y' WHERE id = 2; INSERT INTO d.u VALUES (2, 'y')").await;
    prepare(&server, "dropped", "DELETE FROM d.t WHERE id = 3").await;
    server.run("INSERT INTO d.u VALUES (9, 'passed')").await;
    feed.until(|feed| feed.rows(0).len() == 1).await.expect("no stop");

    feed.follow(&options, &[("d", "t")]).await;
    let rows = printed(&server, "SELECT id, v FROM d.t").await;
    assert_eq!(feed.rows(1), rows, "without what is prepared");
    assert!(feed.waiting.iter().any(|w| w.contains("read again for new tables")), "{:?}", feed.waiting);
    feed = feed.restart(&options);
    server.run("INSERT INTO d.u VALUES (10, 'passed')").await;
    feed.until(|feed| feed.rows(0).len() == 2).await.expect("no stop");
    server.kill();
    server.restart().await;
    server.run("XA COMMIT 'only t'; XA COMMIT 'both'; XA ROLLBACK 'dropped'").await;
    assert_catches_up(&server, &mut feed).await;
}

/// Whatever commits, both tables have the same sum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_followed_under_xa_writes_never_show_half_a_transaction() {
    let Some(server) = server(&[]).await else { return };
    server
        .run(
            "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT); CREATE TABLE d.u LIKE d.t; \
              INSERT INTO d.t VALUES (0, 0), (1, 0), (2, 0), (3, 0); INSERT INTO d.u SELECT * FROM d.t",
        )
        .await;
    let options = options(&server);
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let mut conn = server.connect().await;
    let writer = tokio::spawn(async move {
        for i in 0u64.. {
            if *stopped.borrow_and_update() {
                return;
            }
            let (id, name) = (i % 4, format!("x{i}"));
            let end = match i % 5 {
                0 => "COMMIT '{}' ONE PHASE",
                1 => "PREPARE '{}'; XA ROLLBACK '{}'",
                _ => "PREPARE '{}'; XA COMMIT '{}'",
            };
            let sql = format!(
                "XA START '{name}'; UPDATE d.t SET v = v + 1 WHERE id = {id}; \
                 UPDATE d.u SET v = v + 1 WHERE id = {id}; \
                 XA END '{name}'; XA {}",
                end.replace("{}", &name)
            );
            conn.query_drop(sql).await.expect("the writer writes");
        }
    });
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "t"), ("d", "u")]).await;
    for round in 0..3 {
        let seen = feed.transactions;
        feed.until(|feed| {
            assert_eq!(feed.rows(0), feed.rows(1), "round {round}");
            feed.transactions > seen + 50
        })
        .await
        .expect("no stop");
        feed = feed.restart(&options);
    }
    stop.send(true).expect("the writer listens");
    writer.await.expect("the writer is well");
    assert_catches_up(&server, &mut feed).await;
}
