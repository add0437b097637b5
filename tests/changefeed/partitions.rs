//! Topics that get more partitions while they are read, over a real Kafka.

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};

use crate::bank::{self, Bank, TABLES, VIEWS, check_port};
use crate::kafka::PARTITIONS;
use crate::kafka_broker::Broker;
use crate::poison::{begin, cells, eventually_is, eventually_shows};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

const STATE: usize = 2;
const WAITS_FOR: usize = 5;

/// By a producer of its own, which knows of all partitions.
fn send(broker: &Broker, topic: &str, partition: usize, key: &str, value: &str) {
    let producer = broker.producer();
    let record = BaseRecord::<str, str>::to(topic).partition(partition as i32).key(key).payload(value);
    producer.send(record).unwrap_or_else(|(e, _)| panic!("the producer's queue: {e}"));
    producer.flush(Duration::from_secs(20)).expect("the broker takes it");
}

async fn refused(server: &Tidemill, statement: &str) -> (String, String) {
    let error = try_sql(&server.client().await, statement).await.expect_err(statement);
    let error = error.as_db_error().expect("the server says it");
    assert_eq!(error.code().code(), "55000", "{error:?}");
    (error.message().to_string(), error.hint().unwrap_or_default().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_by_watermarks_goes_on_over_more_partitions_and_shows_whole_commits_only() {
    let seed = bank::seed();
    let Some((broker, mut feed, mut server)) = begin("partitions-ticdc").await else { return };
    sql(
        &server.client().await,
        &format!(
            "CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json' TABLES ({TABLES}); {VIEWS}"
        ),
    )
    .await;
    let (mut bank, mut random) = (Bank::new(seed), bank::Random(seed));
    bank.open().iter().for_each(|event| feed.event(event));
    for round in 0..30 {
        for _ in 0..10 {
            bank.commit().iter().for_each(|event| feed.event(event));
        }
        feed.some_watermarks(&mut random, bank.now() + 1);
        if random.below(3) == 0 {
            feed.replay(&mut random, 40);
        }
        match round {
            8 => {
                broker.add_partitions("flow", PARTITIONS + 2).await;
                feed.watermarks(bank.now() + 1);
                eventually_shows(&server, STATE, "stopped: PARTITIONS_ADDED").await;
                let (message, hint) = refused(&server, "ALTER SOURCE bank RESUME").await;
                assert!(message.contains("had 4 partitions and has 6"), "{message}");
                assert!(hint.contains("ALTER SOURCE … ADD PARTITIONS"), "{hint}");
            }
            // Meanwhile the changefeed has written on, over the new ones from here on.
            11 => feed.spread_over(broker.producer(), PARTITIONS + 2),
            14 => {
                feed.flush();
                sql(&server.client().await, "ALTER SOURCE bank ADD PARTITIONS").await;
            }
            10 | 16 | 24 => {
                server.kill();
                server.restart().await;
            }
            _ => {}
        }
        check_port(&server.client().await).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    feed.watermarks(bank.now() + 1);
    eventually_is(&server, bank::ANSWER, &bank.answer()).await;
    eventually_shows(&server, STATE, "running").await;
    // Before the changefeed writes to a partition, it holds all others.
    broker.add_partitions("flow", PARTITIONS + 3).await;
    eventually_shows(&server, STATE, "stopped: PARTITIONS_ADDED").await;
    sql(&server.client().await, "ALTER SOURCE bank ADD PARTITIONS").await;
    bank.commit().iter().for_each(|event| feed.event(event));
    feed.watermarks(bank.now() + 1);
    eventually_shows(&server, WAITS_FOR, "partition 6").await;
    let (message, _) = refused(&server, "ALTER SOURCE bank ADD PARTITIONS").await;
    assert!(message.contains("has not stopped"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_messages_are_read_from_partitions_that_come_without_a_stop() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("clicks", 2, &[]).await;
    let mut server = Tidemill::start(&temporary("partitions-append"), &[], &[]).await;
    let kafka = broker.address();
    send(&broker, "clicks", 0, "", "{\"n\":1000}");
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE clicks FROM CONNECTION k (TOPIC 'clicks', START AT LATEST) FORMAT 'json'
               ON BAD MESSAGE QUARANTINE TABLES (web.clicks (n INT));
             CREATE MATERIALIZED VIEW total WITH (wait) AS SELECT COUNT(*) AS n, SUM(n) AS total FROM web.clicks"
        ),
    )
    .await;
    eventually_shows(&server, STATE, "running").await;
    for (i, partitions) in [2, 3, 5, 6].into_iter().enumerate() {
        if partitions > 2 {
            broker.add_partitions("clicks", partitions).await;
        }
        // Also what was written before anyone has noticed that they are there.
        (0..partitions).for_each(|partition| send(&broker, "clicks", partition, "", "{\"n\":1}"));
        if i == 2 {
            server.kill();
            server.restart().await;
        }
        let sent = [2, 5, 10, 16][i].to_string();
        eventually_is(&server, "SELECT n, total FROM total", &[cells([&sent, &sent])]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_by_key_go_on_while_the_added_partitions_are_empty_or_where_it_is_allowed() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("users", 1, &[]).await;
    let mut server = Tidemill::start(&temporary("partitions-upsert"), &[], &[]).await;
    let kafka = broker.address();
    let put = |partition, id: &str, name: &str| {
        send(&broker, "users", partition, id, &format!("{{\"id\":{id},\"name\":\"{name}\"}}"));
    };
    put(0, "1", "ann");
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE users FROM CONNECTION k (TOPIC 'users') FORMAT UPSERT ENCODE JSON
               TABLES (app.users (id INT PRIMARY KEY, name VARCHAR(10)))"
        ),
    )
    .await;
    let users = "SELECT id, name FROM app.users ORDER BY id";
    eventually_is(&server, users, &[cells(["1", "ann"])]).await;
    broker.add_partitions("users", 2).await;
    eventually_shows(&server, STATE, "stopped: PARTITIONS_ADDED").await;
    // The writer has not noticed yet.
    put(0, "1", "anna");
    sql(&server.client().await, "ALTER SOURCE users ADD PARTITIONS").await;
    server.kill();
    server.restart().await;
    put(1, "2", "bob");
    eventually_is(&server, users, &[cells(["1", "anna"]), cells(["2", "bob"])]).await;

    broker.add_partitions("users", 3).await;
    eventually_shows(&server, STATE, "stopped: PARTITIONS_ADDED").await;
    put(2, "1", "Anna");
    let (message, hint) = refused(&server, "ALTER SOURCE users ADD PARTITIONS").await;
    assert!(message.contains("partition 2 of topic users was added and has 1 messages already"), "{message}");
    assert!(hint.contains("ALLOW REORDERING"), "{hint}");
    eventually_is(&server, users, &[cells(["1", "anna"]), cells(["2", "bob"])]).await;
    sql(&server.client().await, "ALTER SOURCE users ADD PARTITIONS ALLOW REORDERING").await;
    eventually_is(&server, users, &[cells(["1", "Anna"]), cells(["2", "bob"])]).await;
    eventually_shows(&server, STATE, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_topic_was_missing_goes_on_and_its_views_are_built() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let server = Tidemill::start(&temporary("partitions-missing"), &[], &[]).await;
    let kafka = broker.address();
    let client = server.client().await;
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE late FROM CONNECTION k (TOPIC 'late') FORMAT 'json' TABLES (app.t (id INT PRIMARY KEY));
             CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM app.t;
             CREATE MATERIALIZED VIEW twice AS SELECT n * 2 AS m FROM counted"
        ),
    )
    .await;
    eventually_shows(&server, STATE, "stopped: TOPIC_MISSING").await;
    let failed = async || {
        let jobs = try_sql(&client, "SHOW JOBS").await.map_err(|e| format!("{e:?}"))?;
        let failed = jobs.iter().filter(|job| job[2].as_deref().is_some_and(|phase| phase.contains("failed"))).count();
        if failed == 2 { Ok(()) } else { Err(format!("{jobs:?}")) }
    };
    eventually("the views cannot be built", 30, failed).await;
    broker.create_topic("late", 1, &[]).await;
    send(&broker, "late", 0, "7", "{\"id\":7}");
    sql(&client, "ALTER SOURCE late RESUME").await;
    eventually_is(&server, "SELECT m FROM twice", &[cells(["2"])]).await;
}
