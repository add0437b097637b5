//! Changefeeds over a real Kafka: our TiCDC encoder's, a real Debezium's and a real Canal's.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use rdkafka::producer::{BaseRecord, Producer};
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::Row;

use crate::bank::{self, Bank, Event, TABLES, VIEWS, check_port};
use crate::kafka_broker::{Broker, ToKafka};
use crate::mysql_server::{Kind, Server};
use crate::ticdc::{Dispatch, Encoded, Encoder, dispatch, split};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};
use crate::{canal, debezium};

pub const PARTITIONS: usize = 4;

/// A changefeed of our encoder that delivers at least once: it sends windows of what it sent again.
pub struct Feed {
    producer: ToKafka,
    topic: String,
    pub encoder: Encoder,
    pub sent: Vec<Vec<Encoded>>,
}

impl Feed {
    pub fn new(producer: ToKafka, topic: &str, encoder: Encoder) -> Feed {
        Feed { producer, topic: topic.to_string(), encoder, sent: vec![Vec::new(); PARTITIONS] }
    }

    /// From now on rows are spread over so many partitions, by a producer that knows of them.
    pub fn spread_over(&mut self, producer: ToKafka, partitions: usize) {
        self.flush();
        self.producer = producer;
        self.sent.resize(partitions, Vec::new());
    }

    fn send(&mut self, partition: usize, message: Encoded) {
        self.produce(partition, &message);
        self.sent[partition].push(message);
    }

    pub fn produce(&self, partition: usize, (key, value): &Encoded) {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition as i32).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        self.producer.send(record).unwrap_or_else(|(e, _)| panic!("the producer's queue: {e}"));
    }

    pub fn event(&mut self, event: &Event) {
        self.row(&bank::table(event.table), event.before.as_ref(), event.after.as_ref(), event.commit);
    }

    pub fn row(&mut self, table: &FollowedTable, before: Option<&Row>, after: Option<&Row>, commit: u64) {
        for (before, after) in split(table, before, after) {
            let row = after.or(before).expect("a change of a row");
            let partition = dispatch(Dispatch::IndexValue, table, row, commit, self.sent.len());
            let message = self.encoder.row(table, before, after, commit);
            self.send(partition, message);
        }
    }

    /// Another message in the place of a row's.
    pub fn instead(&mut self, table: &FollowedTable, row: &Row, commit: u64, message: Encoded) {
        self.send(dispatch(Dispatch::IndexValue, table, row, commit, PARTITIONS), message);
    }

    pub fn watermark(&mut self, partition: usize, ts: u64) {
        let message = self.encoder.watermark(ts);
        self.send(partition, message);
    }

    /// Of all partitions, behind which the broker has everything.
    pub fn watermarks(&mut self, ts: u64) {
        (0..self.sent.len()).for_each(|partition| self.watermark(partition, ts));
        self.flush();
    }

    /// Partitions get their watermarks at different times, some later.
    pub fn some_watermarks(&mut self, random: &mut bank::Random, ts: u64) {
        (0..self.sent.len()).filter(|_| random.below(4) > 0).for_each(|partition| self.watermark(partition, ts));
    }

    /// What a changefeed does that is restarted: a window of a partition again, old watermarks among it.
    pub fn replay(&self, random: &mut bank::Random, messages_max: u64) {
        let partition = random.below(self.sent.len() as u64) as usize;
        let sent = &self.sent[partition];
        let from = sent.len() - (random.below(messages_max) as usize).min(sent.len());
        sent[from..].iter().for_each(|message| self.produce(partition, message));
    }

    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(20)).expect("the broker takes them");
    }
}

/// The bank's views, two of them with a wide table.
fn views_into_mart() -> String {
    let views = VIEWS.replace("VIEW credits", "VIEW credits INTO dw.mart.credits");
    views.replace("VIEW total", "VIEW total INTO dw.mart.total")
}

async fn ticdc(encoder: Encoder, format: &str) {
    let seed = bank::seed();
    let Some(mut broker) = Broker::start_or_skip().await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    target.run("CREATE DATABASE mart").await;
    broker.create_topic("flow", PARTITIONS as i32, &[]).await;
    let mut server = Tidemill::start(&temporary(&format!("feed-{format}")), &[], &[]).await;
    let client = server.client().await;
    let (kafka, port) = (broker.address(), target.port());
    let views = views_into_mart();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT '{format}' TABLES ({TABLES}); {views}"
        ),
    )
    .await;
    let (mut bank, mut random) = (Bank::new(seed), bank::Random(seed));
    let mut feed = Feed::new(broker.producer(), "flow", encoder);
    bank.open().iter().for_each(|event| feed.event(event));
    for round in 0..60 {
        for _ in 0..10 {
            bank.commit().iter().for_each(|event| feed.event(event));
        }
        feed.some_watermarks(&mut random, bank.now() + 1);
        if random.below(3) == 0 {
            feed.replay(&mut random, 60);
        }
        match round {
            15 | 30 => {
                server.kill();
                server.restart().await;
            }
            40 => {
                feed.flush();
                broker.kill();
                broker.restart().await;
            }
            _ => {}
        }
        check_port(&server.client().await).await;
        check_target(&target).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let client = server.client().await;
    one_is_behind(&client, &mut bank, &mut feed).await;
    sql(&client, &format!("SELECT tidemill_wait('bank', '{}', '60s')", bank.now())).await;
    let found = sql(&client, bank::ANSWER).await;
    assert_eq!(found, bank.answer(), "the bank's own answer, seed {seed}\n{}", server.log());
    equal_in_target(&client, &target, "credits", "account, n, total").await;
    let sources = sql(&client, "SHOW SOURCES").await;
    assert!(sources[0].iter().flatten().any(|cell| cell == "running"), "{sources:?}");
    assert_eq!(sources[0][3], Some(bank.now().to_string()), "the last watermark closes all before it: {sources:?}");
    let checks = sql(&client, "VALIDATE CONNECTION cdc").await;
    assert!(checks.iter().all(|check| check[3].as_deref() == Some("yes")), "{checks:?}");
}

/// One partition holds all others back, SHOW SOURCES says which, and then it does not any more.
async fn one_is_behind(client: &tokio_postgres::Client, bank: &mut Bank, feed: &mut Feed) {
    bank.commit().iter().for_each(|event| feed.event(event));
    (0..PARTITIONS).filter(|partition| *partition != 2).for_each(|partition| feed.watermark(partition, bank.now() + 1));
    feed.flush();
    eventually("the partition that is behind is named", 30, async || {
        let waits_for = sql(client, "SHOW SOURCES").await[0][5].clone().unwrap_or_default();
        // The bank's clock is of 2026.
        let named = waits_for.starts_with("the next watermark of topic flow, partition 2; its last one is of 2026-");
        if named { Ok(()) } else { Err(waits_for) }
    })
    .await;
    feed.watermark(2, bank.now() + 1);
    feed.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn ticdc_canal_json_with_replays_and_kills_shows_whole_commits_only() {
    ticdc(Encoder::canal_json(), "canal-json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticdc_open_protocol_with_replays_and_kills_shows_whole_commits_only() {
    ticdc(Encoder::open_protocol(), "open-protocol").await;
}

/// In the target, at every moment: no money is made or lost.
async fn check_target(target: &Server) {
    let rows = target.rows("SELECT balance, n FROM mart.total").await;
    for row in rows {
        let number = |i: usize| row[i].as_deref().map_or(0, |text: &str| text.parse::<i64>().unwrap());
        assert_eq!(number(0), number(1) * bank::BALANCE, "the sum of balances in the target");
    }
}

/// A wide table gets what its view has.
async fn equal_in_target(client: &tokio_postgres::Client, target: &Server, view: &str, columns: &str) {
    eventually("the wide table equals its view", 30, async || {
        let sorted = |mut rows: Vec<Vec<Option<String>>>| {
            rows.sort();
            rows
        };
        let view_rows = sorted(sql(client, &format!("SELECT {columns} FROM {view}")).await);
        let table_rows = sorted(target.rows(&format!("SELECT {columns} FROM mart.{view}")).await);
        if view_rows == table_rows { Ok(()) } else { Err((view_rows, table_rows)) }
    })
    .await;
}

const ACCOUNTS: &str = "CREATE DATABASE bank; USE bank;
    CREATE TABLE accounts (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL, balance BIGINT NOT NULL);
    CREATE TABLE transfers (id BIGINT AUTO_INCREMENT PRIMARY KEY,
      from_id INT NOT NULL, to_id INT NOT NULL, amount BIGINT NOT NULL);";
const OPEN_ACCOUNTS: &str = "INSERT INTO bank.accounts VALUES
    (0,'bj',1000),(1,'bj',1000),(2,'sh',1000),(3,'sh',1000),(4,'gz',1000),(5,'gz',1000)";

/// `count` transfers, one transaction each.
async fn transfer(server: &Server, random: &mut bank::Random, count: usize) {
    let mut conn = server.connect().await;
    for _ in 0..count {
        let (from, to, amount) = (random.below(6), random.below(6), random.below(50));
        let text = format!(
            "BEGIN; UPDATE bank.accounts SET balance = balance - {amount} WHERE id = {from};
             UPDATE bank.accounts SET balance = balance + {amount} WHERE id = {to};
             INSERT INTO bank.transfers (from_id, to_id, amount) VALUES ({from}, {to}, {amount}); COMMIT"
        );
        conn.query_drop(text).await.expect("the source answers");
    }
}

pub async fn equals_mysql(
    client: &tokio_postgres::Client,
    mysql: &Server,
    what: &str,
    view_sql: &str,
    mysql_sql: &str,
) {
    eventually(what, 90, async || {
        let expected = mysql.rows(mysql_sql).await;
        let found = try_sql(client, view_sql).await.map_err(|e| e.to_string())?;
        if found == expected { Ok(()) } else { Err(format!("{found:?}\n{expected:?}")) }
    })
    .await;
}

/// Whatever the last messages are (ends of transactions, tombstones), what is in Kafka now is reached by itself; and
/// what SHOW SOURCES shows is.
async fn now_is_reached(client: &tokio_postgres::Client) {
    let reached = sql(client, "SELECT tidemill_wait('bank', 'now', '20s')").await[0][0].clone().expect("a position");
    assert!(reached.split(',').all(|place| place.split(':').count() == 3), "{reached}");
    assert_eq!(sql(client, &format!("SELECT tidemill_wait('bank', '{reached}', '0s')")).await.len(), 1);
}

/// MySQL → Debezium → Kafka → views → a wide table in MySQL → a second Debezium → Kafka → a view on the wide table.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_transactions_are_whole_and_the_loop_closes() {
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(source) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    source.run(ACCOUNTS).await;
    target.run("CREATE DATABASE mart").await;
    let settings = ["database.include.list=bank", "topic.prefix=dbz", "value.converter.schemas.enable=false"];
    let Some(mut connector) = debezium::start_or_skip(&source, &broker, &settings).await else { return };
    source.run(OPEN_ACCOUNTS).await;
    let mut random = bank::Random(seed);
    transfer(&source, &mut random, 10).await;
    let mut server = Tidemill::start(&temporary("feed-debezium"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, mysql, port) = (broker.address(), source.port(), target.port());
    let views = views_into_mart();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION my TO MYSQL (HOST '127.0.0.1', PORT {mysql}, USER 'root');
             CREATE CONNECTION dw TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'root');
             CREATE SOURCE bank FROM CONNECTION cdc (TOPICS ('dbz.bank.accounts', 'dbz.bank.transfers'),
               TRANSACTIONS TOPIC 'dbz.transaction') FORMAT 'debezium-json'
               SCHEMAS FROM CONNECTION my TABLES (bank.accounts, bank.transfers); {views}"
        ),
    )
    .await;
    for round in 0..30 {
        transfer(&source, &mut random, 10).await;
        match round {
            8 | 20 => {
                server.kill();
                server.restart().await;
            }
            // Killed, it sends again what it had sent and not noted.
            14 => {
                connector.kill();
                connector.restart().await;
            }
            _ => {}
        }
        check_port(&server.client().await).await;
        check_target(&target).await;
    }
    let client = server.client().await;
    let accounts = "SELECT id, city, balance FROM bank.accounts ORDER BY id";
    equals_mysql(&client, &source, "the port equals MySQL's own answer", bank::ANSWER, accounts).await;
    equal_in_target(&client, &target, "credits", "account, n, total").await;
    now_is_reached(&client).await;

    let settings = [
        "database.include.list=mart",
        "table.include.list=mart.credits",
        "topic.prefix=loop",
        "provide.transaction.metadata=false",
    ];
    let Some(_second) = debezium::start_or_skip(&target, &broker, &settings).await else { return };
    sql(
        &client,
        "CREATE SOURCE mart FROM CONNECTION cdc (TOPIC 'loop.mart.credits') FORMAT 'debezium-json'
           SCHEMAS FROM CONNECTION dw TABLES (mart.credits);
         CREATE MATERIALIZED VIEW looped WITH (wait) AS SELECT SUM(n) AS n, SUM(total) AS total FROM mart.credits",
    )
    .await;
    transfer(&source, &mut random, 50).await;
    let direct = "SELECT COUNT(*), SUM(amount) FROM bank.transfers";
    equals_mysql(&client, &source, "the view on the wide table", "SELECT n, total FROM looped", direct).await;
}

/// A real Canal: rows as they come, equal to MySQL's own answer once all were read.
#[tokio::test(flavor = "multi_thread")]
async fn canal_rows_equal_mysql_once_drained() {
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(source) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    source.run(ACCOUNTS).await;
    broker.create_topic("canal", 2, &[]).await;
    let Some(_canal) = canal::start_or_skip(&source, &broker, "canal", &["partitions=2"]).await else { return };
    source.run(OPEN_ACCOUNTS).await;
    let mut server = Tidemill::start(&temporary("feed-canal"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, mysql) = (broker.address(), source.port());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}');
             CREATE CONNECTION my TO MYSQL (HOST '127.0.0.1', PORT {mysql}, USER 'root');
             CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'canal') FORMAT 'canal-json' CONSISTENCY 'row'
               SCHEMAS FROM CONNECTION my TABLES (bank.accounts, bank.transfers); {VIEWS}"
        ),
    )
    .await;
    let mut random = bank::Random(seed);
    for round in 0..10 {
        transfer(&source, &mut random, 20).await;
        if round == 5 {
            server.kill();
            server.restart().await;
        }
    }
    source.run("DELETE FROM bank.transfers WHERE id % 3 = 0; UPDATE bank.accounts SET id = id + 10 WHERE id < 2").await;
    let client = server.client().await;
    let accounts = "SELECT id, city, balance FROM bank.accounts ORDER BY id";
    equals_mysql(&client, &source, "the port equals MySQL's own answer", bank::ANSWER, accounts).await;
    let credits = "SELECT to_id, COUNT(*), SUM(amount) FROM bank.transfers GROUP BY to_id ORDER BY to_id";
    let view = "SELECT account, n, total FROM credits ORDER BY account";
    equals_mysql(&client, &source, "an aggregate", view, credits).await;
    now_is_reached(&client).await;
}
