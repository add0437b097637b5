//! A changefeed that goes on where a snapshot of its tables ends.

use crate::bank::{self, Bank, Event, VIEWS, check_port};
use crate::kafka::{Feed, PARTITIONS};
use crate::kafka_broker::Broker;
use crate::mysql_server::{Kind, Server};
use crate::ticdc::Encoder;
use crate::tidemill_server::{Tidemill, sql, temporary, try_sql};

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
