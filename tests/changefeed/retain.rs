//! A topic whose rows are kept for some seconds, over a real Kafka and kill -9.

use std::time::{Duration, SystemTime};

use rdkafka::producer::{BaseRecord, Producer};

use crate::kafka_broker::{Broker, ToKafka};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

const REQUEST: Duration = Duration::from_secs(20);
/// More than leave in one tick.
const OLD: usize = 20_000;

/// As producers stamp their messages.
#[expect(clippy::disallowed_methods, reason = "the server that is tested follows the wall clock")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn send(producer: &ToKafka, partition: i32, age_ms: i64, kind: &str) {
    let value = format!("{{\"kind\":\"{kind}\"}}");
    let record = BaseRecord::<str, str>::to("events").partition(partition).timestamp(now_ms() - age_ms);
    producer.send(record.payload(&value)).unwrap_or_else(|(e, _)| panic!("the producer's queue: {e}"));
}

/// What the table has, by kind.
async fn there(client: &tokio_postgres::Client) -> Result<Vec<String>, String> {
    let rows = try_sql(client, "SELECT kind, COUNT(*) AS n FROM app.events GROUP BY kind ORDER BY kind").await;
    let rows = rows.map_err(|e| format!("{e:?}"))?;
    Ok(rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect())
}

/// SHOW CREATE says it, and a view needs an end.
async fn check_statements(client: &tokio_postgres::Client) {
    let shown = sql(client, "SHOW CREATE SOURCE events").await.concat().into_iter().flatten().collect::<String>();
    assert!(shown.contains("RETAIN '5 seconds'") && shown.contains("_timestamp TIMESTAMP(3)"), "{shown}");
    for query in ["SELECT COUNT(*) AS n FROM app.events", "SELECT kind FROM app.events WHERE _timestamp < NOW()"] {
        let error = try_sql(client, &format!("CREATE MATERIALIZED VIEW v AS {query}")).await.expect_err(query);
        let error = error.as_db_error().expect("the server says it");
        assert!(error.message().contains("dropped when they are 5 seconds old"), "{error:?}");
        let hint = "add to its WHERE: events._timestamp > NOW() - INTERVAL 5 SECOND";
        assert_eq!(error.hint(), Some(hint));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_topic_leave_when_they_are_old_and_stay_away() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("events", 2, &[]).await;
    let mut server = Tidemill::start(&temporary("feed-retain"), &[], &[]).await;
    let client = server.client().await;
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{}');
             CREATE SOURCE events FROM CONNECTION k (TOPIC 'events') FORMAT 'json'
               TABLES (app.events (kind VARCHAR(5))) RETAIN '5 seconds'",
            broker.address()
        ),
    )
    .await;
    check_statements(&client).await;
    // What the hint says.
    sql(
        &client,
        "CREATE MATERIALIZED VIEW recent WITH (wait) AS
           SELECT kind, COUNT(*) AS n FROM app.events
           WHERE events._timestamp > NOW() - INTERVAL 5 SECOND GROUP BY kind",
    )
    .await;
    let producer = broker.producer();
    for n in 0..OLD {
        send(&producer, n as i32 % 2, 3_600_000, "old");
    }
    for _ in 0..10 {
        send(&producer, 1, 0, "new");
    }
    // A row of the future keeps the one behind it from leaving before it does.
    (0..5).for_each(|_| send(&producer, 0, -1_800_000, "later"));
    send(&producer, 0, 3_600_000, "late");
    producer.flush(REQUEST).expect("the broker takes them");
    for round in 0..3 {
        let before = server.client().await;
        eventually("some rows have come, or are gone already", 30, async || match there(&before).await {
            Ok(kinds) if !kinds.is_empty() => Ok(()),
            other => Err(other),
        })
        .await;
        server.kill();
        server.restart().await;
        let client = server.client().await;
        let recent = sql(&client, "SELECT kind FROM recent WHERE kind = 'old' OR kind = 'late'").await;
        assert!(recent.is_empty(), "round {round}: {recent:?}");
        if round == 1 {
            // It comes old, and goes with the next sweep.
            send(&producer, 1, 3_600_000, "old");
            producer.flush(REQUEST).expect("the broker takes it");
        }
    }
    let client = server.client().await;
    eventually("what is old is gone, what waits for the future is not", 60, async || {
        let kinds = there(&client).await?;
        if kinds == ["late 1", "later 5"] { Ok(()) } else { Err(format!("{kinds:?}\n{}", server.log())) }
    })
    .await;
    let recent = sql(&client, "SELECT kind, n FROM recent").await;
    assert_eq!(recent, [["later", "5"].map(|cell| Some(cell.to_string()))]);
    server.kill();
    server.restart().await;
    let client = server.client().await;
    assert_eq!(there(&client).await, Ok(vec!["late 1".to_string(), "later 5".to_string()]), "after a restart");
}
