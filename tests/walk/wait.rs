//! `tidemill_wait`: what a client committed upstream is in what it reads here.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio_postgres::{Client, NoTls};

use crate::mysql::{Kind, Server};
use crate::tidemill::{Tidemill, eventually, sql, temporary, try_sql};

const WRITERS: i64 = 4;
const ROUNDS: i64 = 100;

/// A server with a view of `shop.t`, whose rows are (writer, round).
async fn start(source: &Server, name: &str) -> (Tidemill, Client) {
    source
        .run(
            "CREATE DATABASE shop; CREATE TABLE shop.t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL);
             CREATE TABLE shop.other (id BIGINT PRIMARY KEY); INSERT INTO shop.t VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
        )
        .await;
    let server = Tidemill::start(&temporary(name), &[], &[]).await;
    let client = server.client().await;
    let port = source.port();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION shop TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE shop FROM CONNECTION shop TABLES (shop.t);
             CREATE MATERIALIZED VIEW seen WITH (wait) AS SELECT id, v FROM shop.t;
             CREATE MATERIALIZED VIEW total WITH (wait) AS SELECT SUM(v) AS v FROM shop.t"
        ),
    )
    .await;
    (server, client)
}

async fn value(client: &Client, id: i64) -> i64 {
    let row = client.query_one(&format!("SELECT v FROM seen WHERE id = {id}"), &[]).await.expect("it is read");
    row.get(0)
}

async fn wait(client: &Client, position: &str) -> String {
    let answer = client.query_one("SELECT tidemill_wait('shop', $1, '60s')", &[&position]).await;
    answer.expect("it is reached").get(0)
}

/// Code, message and hint of the error that a statement gives.
async fn refused(client: &Client, text: &str) -> (String, String, String) {
    let error = try_sql(client, text).await.expect_err(text);
    let error = error.as_db_error().expect("the server says why");
    let hint = error.hint().unwrap_or_default().to_string();
    (error.code().code().to_string(), error.message().to_string(), hint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_never_followed_by_a_stale_read() {
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let (server, client) = start(&source, "wait").await;
    let mut writers = tokio::task::JoinSet::new();
    for id in 0..WRITERS {
        let (client, mut conn) = (server.client().await, source.connect().await);
        writers.spawn(async move {
            let mut stale = 0;
            for round in 1..=ROUNDS {
                // Now and then something that is not followed: the position moves without rows.
                if round % 10 == id {
                    conn.query_drop(format!("INSERT INTO shop.other VALUES ({})", round * WRITERS + id)).await.unwrap();
                }
                conn.query_drop(format!("UPDATE shop.t SET v = {round} WHERE id = {id}")).await.unwrap();
                let gtids: Option<String> = conn.query_first("SELECT @@GLOBAL.gtid_executed").await.unwrap();
                let position = if round % 20 == 0 { "now".to_string() } else { gtids.expect("a set") };
                stale += (value(&client, id).await < round) as u64;
                wait(&client, &position).await;
                assert_eq!(value(&client, id).await, round, "writer {id} after {position}");
            }
            stale
        });
    }
    let stale: u64 = writers.join_all().await.into_iter().sum();
    assert!(stale > 0, "reads without a wait were never stale: waiting proves nothing");
    assert_eq!(sql(&client, "SELECT v FROM total").await, [[Some((WRITERS * ROUNDS).to_string())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_shown_as_they_are_taken_and_outlive_a_restart() {
    let Some(source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let (mut server, client) = start(&source, "wait-restart").await;
    source.run("UPDATE shop.t SET v = 7 WHERE id = 3").await;
    let gtids = source.rows("SELECT @@GLOBAL.gtid_executed").await[0][0].clone().expect("a set");
    // A session's own GTID is the last of them.
    let (uuid, numbers) = gtids.split_once(':').expect("one server");
    let own = format!("{uuid}:{}", numbers.rsplit(['-', ':']).next().unwrap());
    assert_eq!(wait(&client, &own).await, gtids);
    assert_eq!(value(&client, 3).await, 7);
    let shown = sql(&client, "SHOW SOURCES").await[0][3].clone().expect("a position");
    assert_eq!(sql(&client, &format!("SELECT tidemill_wait('shop', '{shown}', '0s')")).await, [[Some(shown.clone())]]);
    server.kill();
    source.run("UPDATE shop.t SET v = 8 WHERE id = 3").await;
    server.restart().await;
    let client = server.client().await;
    wait(&client, "now").await;
    assert_eq!(value(&client, 3).await, 8);
    // In a block, before its first read.
    source.run("UPDATE shop.t SET v = 9 WHERE id = 3").await;
    let rows = "BEGIN; SELECT tidemill_wait('shop', 'now'); SELECT v FROM seen WHERE id = 3";
    assert_eq!(sql(&client, rows).await, [[Some("9".to_string())]]);
    let (code, message, _) = refused(&client, "SELECT tidemill_wait('shop', 'now')").await;
    assert!(code == "0A000" && message.contains("first statement"), "{message}");
    sql(&client, "ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_waited_for_says_why() {
    let Some(mut source) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let (_server, client) = start(&source, "wait-errors").await;
    let gtids = source.rows("SELECT @@GLOBAL.gtid_executed").await[0][0].clone().expect("a set");
    let future = format!("{}:999999", gtids.split(':').next().unwrap());
    let (code, message, _) = refused(&client, "SELECT tidemill_wait('shopp', 'now')").await;
    assert!(code == "42P01" && message.contains("shopp"), "{message}");
    for unreadable in ["", "shop", "439972354120482843", "3e11fa47-71ca-11e1-9e33-c80aa9429562:0"] {
        let (code, message, hint) = refused(&client, &format!("SELECT tidemill_wait('shop', '{unreadable}')")).await;
        assert!(code == "22023" && message.contains("shop") && hint.contains("gtid_executed"), "{message}; {hint}");
    }
    let (code, message, hint) = refused(&client, &format!("SELECT tidemill_wait('shop', '{future}', '300ms')")).await;
    assert!(code == "55000" && message.contains("within 300ms") && message.contains("stands at"), "{message}");
    assert!(message.contains("running") && hint.contains("third"), "{message}; {hint}");
    let (code, _, hint) = refused(&client, "SELECT tidemill_wait('shop', 'now') FROM seen").await;
    assert!(code == "0A000" && hint.contains("stands alone"), "{hint}");
    cancelled(&client, &future).await;
    // What nobody answers: the upstream is away.
    source.stop();
    let (code, message, _) = refused(&client, "SELECT tidemill_wait('shop', 'now', '5s')").await;
    assert!(["08006", "55000"].contains(&code.as_str()), "{code}: {message}");
    source.restart().await;
    eventually("the source runs again", 60, async || {
        let waited = try_sql(&client, "SELECT tidemill_wait('shop', 'now', '5s')").await;
        waited.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    let inserts: Vec<String> = (100..600).map(|id| format!("INSERT INTO shop.t VALUES ({id}, 1)")).collect();
    source.run(&inserts.join("; ")).await;
    let sum = source.rows("SELECT SUM(v) FROM shop.t").await;
    source.run("ALTER TABLE shop.t DROP COLUMN v").await;
    let started = Instant::now();
    let (code, message, hint) = refused(&client, &format!("SELECT tidemill_wait('shop', '{future}')")).await;
    assert!(code == "55000" && message.contains("SCHEMA_CHANGED") && !hint.is_empty(), "{message}; {hint}");
    assert!(started.elapsed() < Duration::from_secs(20), "a source that stopped is not waited for");
    // What it had read before is still there.
    wait(&client, &gtids).await;
    for _ in 0..3 {
        // Let go on, it meets the statement again, before or after the answer; nothing before it comes twice.
        if let Err(error) = try_sql(&client, "ALTER SOURCE shop RESUME").await {
            let error = error.as_db_error().expect("the server says why");
            assert!(error.message().contains("source shop has stopped again: SCHEMA_CHANGED"), "{error:?}");
        }
        eventually("it has stopped again", 30, async || {
            let state = sql(&client, "SHOW SOURCES").await[0][2].clone().unwrap_or_default();
            if state.starts_with("stopped: SCHEMA_CHANGED") { Ok(()) } else { Err(state) }
        })
        .await;
        assert_eq!(sql(&client, "SELECT v FROM total").await, sum);
    }
}

async fn cancelled(client: &Client, position: &str) {
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.expect("it is taken");
    };
    let text = format!("SELECT tidemill_wait('shop', '{position}')");
    let started = Instant::now();
    let ((code, message, _), ()) = tokio::join!(refused(client, &text), cancel);
    assert_eq!(code, "57014", "{message}");
    assert!(started.elapsed() < Duration::from_secs(10), "a wait is cancelled at once");
}
