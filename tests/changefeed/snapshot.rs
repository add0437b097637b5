//! A changefeed that goes on where a snapshot of its tables ends.

use mysql_async::prelude::Queryable;

use crate::bank::{self, Bank, Event, VIEWS, check_port};
use crate::kafka::{Feed, PARTITIONS};
use crate::kafka_broker::Broker;
use crate::mysql_server::{Kind, Server};
use crate::poison::eventually_shows;
use crate::ticdc::Encoder;
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};
use crate::{canal, debezium};

/// A MySQL that stands for the TiDB whose changes the feed sends: the rows, and the timestamp of a transaction.
struct StandIn {
    server: Server,
}

impl StandIn {
    async fn start() -> Option<StandIn> {
        // A function without its database is looked for in the default one, which `init_connect` sets.
        let server = Server::start_or_skip(Kind::MySql, &["--init-connect=USE standin"]).await?;
        server
            .run(
                "CREATE DATABASE standin; CREATE DATABASE bank; CREATE TABLE standin.tso (ts BIGINT UNSIGNED);
                 INSERT INTO standin.tso VALUES (1);
                 CREATE TABLE bank.accounts (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL, balance BIGINT NOT NULL);
                 CREATE TABLE bank.transfers (id BIGINT PRIMARY KEY, from_id INT NOT NULL, to_id INT NOT NULL,
                   amount BIGINT NOT NULL);
                 CREATE FUNCTION standin.TIDB_CURRENT_TSO() RETURNS BIGINT UNSIGNED READS SQL DATA
                   RETURN (SELECT ts FROM standin.tso);
                 CREATE USER reader IDENTIFIED BY ''; GRANT SELECT, EXECUTE ON *.* TO reader",
            )
            .await;
        Some(StandIn { server })
    }

    async fn commit(&self, events: &[Event]) {
        let mut text = format!("BEGIN; UPDATE standin.tso SET ts = {}", events[0].commit);
        for event in events {
            let table = bank::table(event.table);
            let row = event.after.as_ref().expect("the bank deletes nothing");
            let values: Vec<String> = std::iter::zip(row, &table.schema.columns)
                .map(|(value, column)| format!("'{}'", value.text(&column.sql_type).expect("no NULL")))
                .collect();
            text += &format!("; REPLACE INTO bank.{} VALUES ({})", table.name, values.join(", "));
        }
        self.server.run(&(text + "; COMMIT")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_tidb_is_where_its_changefeed_goes_on() {
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(tidb) = StandIn::start().await else { return };
    broker.create_topic("flow", PARTITIONS as i32, &[]).await;
    let mut bank = Bank::new(seed);
    let mut feed = Feed::new(broker.producer(), "flow", Encoder::canal_json());
    // What no message tells: it was before the changefeed.
    tidb.commit(&bank.open()).await;
    for _ in 0..20 {
        tidb.commit(&bank.commit()).await;
    }
    // What both have, and what comes while the tables are copied.
    for _ in 0..20 {
        let events = bank.commit();
        tidb.commit(&events).await;
        events.iter().for_each(|event| feed.event(event));
    }
    let mut server = Tidemill::start(&temporary("feed-snapshot"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, port) = (broker.address(), tidb.server.port());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION up TO TIDB (HOST '127.0.0.1', PORT {port}, USER 'reader');
             CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json'
               SNAPSHOT FROM CONNECTION up ON MISMATCH STOP TABLES (bank.accounts, bank.transfers)"
        ),
    )
    .await;
    let views = tokio::spawn({
        let client = server.client().await;
        // Ends with the server, which is killed.
        async move { drop(try_sql(&client, VIEWS).await) }
    });
    for round in 0..30 {
        let events = bank.commit();
        tidb.commit(&events).await;
        events.iter().for_each(|event| feed.event(event));
        feed.watermarks(bank.now() + 1);
        if round == 20 {
            server.kill();
            server.restart().await;
        }
    }
    feed.flush();
    views.await.expect("it does not panic");
    let client = server.client().await;
    sql(&client, &VIEWS.replace("MATERIALIZED VIEW", "MATERIALIZED VIEW IF NOT EXISTS")).await;
    check_port(&client).await;
    sql(&client, "SELECT tidemill_wait('bank', 'now', '60s')").await;
    assert_eq!(sql(&client, bank::ANSWER).await, bank.answer(), "seed {seed}\n{}", server.log());
    check_port(&client).await;
}

/// Before the feed begins, what no message tells: rows, and a number that every later transaction raises.
const SHOP: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, amount INT NOT NULL);
    CREATE TABLE counter (id INT PRIMARY KEY, n INT NOT NULL);
    INSERT INTO counter VALUES (1, 0);
    INSERT INTO orders (amount) VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)";

async fn write(conn: &mut mysql_async::Conn, random: &mut bank::Random, count: usize) {
    for _ in 0..count {
        let (id, amount) = (random.below(200), random.below(100));
        let change = match random.below(4) {
            0 => format!("UPDATE shop.orders SET amount = amount + {amount} WHERE id <= {id}"),
            1 => format!("DELETE FROM shop.orders WHERE id = {id}"),
            _ => format!("INSERT INTO shop.orders (amount) VALUES ({amount}), ({id})"),
        };
        let text = format!("BEGIN; {change}; UPDATE shop.counter SET n = n + 1 WHERE id = 1; COMMIT");
        conn.query_drop(text).await.expect("the source answers");
    }
}

fn number(rows: &[Vec<Option<String>>]) -> i64 {
    rows.first().and_then(|row| row[0].as_deref()).map_or(-1, |text| text.parse().expect("a number"))
}

/// Messages behind the copy are read by now, and of those before it none was said again: no row was there already.
async fn none_comes_again(server: &Tidemill, before: i64) {
    let client = server.client().await;
    let counted = async || match try_sql(&client, "SELECT n FROM shop.counter").await {
        Ok(rows) => number(&rows),
        Err(_) => -1,
    };
    let mut first = -1;
    eventually("a message behind the copy", 60, async || {
        let n = counted().await;
        first = if first < before { n } else { first };
        if first >= before && n > first { Ok(()) } else { Err(format!("{n}, {first}, {before}")) }
    })
    .await;
    let tables = sql(&client, "SHOW TABLES").await;
    let healed = |table: &Vec<Option<String>>| table[5].is_some() || table[6].is_some();
    assert!(tables.len() == 2 && !tables.iter().any(healed), "{tables:?}");
}

/// Under writes, the tables are copied at a GTID set and the feed goes on behind it: no row is ever older than it was.
async fn copied_from_mysql(source: &Server, broker: &Broker, name: &str, feed: &str) {
    let seed = bank::seed();
    let (kafka, port) = (broker.address(), source.port());
    let mut random = bank::Random(seed);
    let mut conn = source.connect().await;
    write(&mut conn, &mut random, 50).await;
    let before = number(&source.rows("SELECT n FROM shop.counter").await);
    let mut server = Tidemill::start(&temporary(name), &[], &[]).await;
    let writer = tokio::spawn(async move {
        write(&mut conn, &mut random, 1_000).await;
        (conn, random)
    });
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION my TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE shop FROM CONNECTION cdc {feed}
               SNAPSHOT FROM CONNECTION my TABLES (shop.orders, shop.counter)"
        ),
    )
    .await;
    none_comes_again(&server, before).await;
    let mut last = before;
    for round in 0..60 {
        if let Ok(rows) = try_sql(&server.client().await, "SELECT n FROM shop.counter").await
            && !rows.is_empty()
        {
            let n = number(&rows);
            assert!(n >= last, "seed {seed}, round {round}: {n} after {last}\n{}", server.log());
            last = n;
        }
        if round % 20 == 12 {
            server.kill();
            server.restart().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let (mut conn, mut random) = writer.await.expect("it does not panic");
    write(&mut conn, &mut random, 20).await;
    let client = server.client().await;
    for query in ["SELECT id, n FROM shop.counter", "SELECT id, amount FROM shop.orders ORDER BY id"] {
        eventually(query, 90, async || {
            let (expected, found) = (source.rows(query).await, try_sql(&client, query).await);
            let found = found.map_err(|e| format!("{e:?}"))?;
            if found == expected {
                Ok(())
            } else {
                Err(format!("seed {seed}: {found:?}\n{expected:?}\n{}", server.log()))
            }
        })
        .await;
    }
    let shown = sql(&client, "SHOW CREATE SOURCE shop").await.concat().into_iter().flatten().collect::<String>();
    assert!(shown.contains("SNAPSHOT FROM CONNECTION my"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_mysql_is_where_debezium_goes_on() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(source) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    source.run(SHOP).await;
    // It sends nothing of what is there.
    let settings = [
        "database.include.list=shop",
        "topic.prefix=dbz",
        "snapshot.mode=no_data",
        "provide.transaction.metadata=false",
        "runner.partitions=2",
    ];
    let Some(_connector) = debezium::start_or_skip(&source, &broker, &settings).await else { return };
    let feed = "(TOPICS ('dbz.shop.orders', 'dbz.shop.counter')) FORMAT 'debezium-json'";
    copied_from_mysql(&source, &broker, "feed-copy-debezium", feed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_mysql_is_where_canal_goes_on() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(source) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    source.run(SHOP).await;
    broker.create_topic("canal", 2, &[]).await;
    broker.create_topic("without", 1, &[]).await;
    let executed = source.rows("SELECT @@GLOBAL.gtid_executed").await[0][0].clone().expect("it has GTIDs");
    let settings = ["partitions=2".to_string(), format!("gtid={}", executed.replace('\n', ""))];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(_canal) = canal::start_or_skip(&source, &broker, "canal", &settings).await else { return };
    let feed = "(TOPIC 'canal', START AT LATEST) FORMAT 'canal-json' CONSISTENCY 'row'";
    copied_from_mysql(&source, &broker, "feed-copy-canal", feed).await;

    // One that reads by places in the binlog says no GTIDs.
    let Some(_canal) = canal::start_or_skip(&source, &broker, "without", &[]).await else { return };
    source.run("UPDATE shop.counter SET n = n + 1").await;
    let server = Tidemill::start(&temporary("feed-copy-without"), &[], &[]).await;
    let (kafka, port) = (broker.address(), source.port());
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION my TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE shop FROM CONNECTION cdc (TOPIC 'without') FORMAT 'canal-json' CONSISTENCY 'row'
               SNAPSHOT FROM CONNECTION my TABLES (shop.orders, shop.counter)"
        ),
    )
    .await;
    eventually_shows(&server, 2, "stopped: MESSAGE_WITHOUT_GTID").await;
}
