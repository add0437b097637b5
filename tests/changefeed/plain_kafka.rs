//! Topics of rows without an envelope, over a real Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};

use crate::bank;
use crate::kafka_broker::{Broker, ToKafka};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

const PARTITIONS: u64 = 3;
const REQUEST: Duration = Duration::from_secs(20);

fn send(producer: &ToKafka, topic: &str, partition: u64, key: Option<&str>, value: Option<&str>) {
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition as i32);
    (record.key, record.payload) = (key, value);
    producer.send(record).unwrap_or_else(|(e, _)| panic!("the producer's queue: {e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_tombstones_is_its_last_values_by_key() {
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("users", PARTITIONS as i32, &[]).await;
    let mut server = Tidemill::start(&temporary("feed-upsert"), &[], &[]).await;
    let client = server.client().await;
    let kafka = broker.address();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE users FROM CONNECTION k (TOPIC 'users') FORMAT UPSERT ENCODE JSON
               TABLES (app.users (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL, score INT, _timestamp TIMESTAMP(3)));
             CREATE MATERIALIZED VIEW cities WITH (wait) AS
               SELECT city, COUNT(*) AS n, SUM(score) AS total FROM app.users GROUP BY city"
        ),
    )
    .await;
    let (producer, mut random) = (broker.producer(), bank::Random(seed));
    let mut users: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    for round in 0..40 {
        for _ in 0..25 {
            let id = random.below(60);
            // The key as programs write it, one way or the other.
            let key = [id.to_string(), format!("{{\"id\":{id}}}")][random.below(2) as usize].clone();
            let value = (random.below(4) > 0).then(|| {
                let (city, score) = (["bj", "sh", "gz"][random.below(3) as usize], random.below(100));
                users.insert(id, (city.to_string(), score));
                match random.below(2) {
                    0 => format!("{{\"id\":{id},\"city\":\"{city}\",\"score\":{score}}}"),
                    _ => format!("{{\"City\":\"{city}\",\"score\":\"{score}\"}}"),
                }
            });
            if value.is_none() {
                users.remove(&id);
            }
            send(&producer, "users", id % PARTITIONS, Some(&key), value.as_deref());
        }
        producer.flush(REQUEST).expect("the broker takes them");
        if round % 12 == 6 {
            server.kill();
            server.restart().await;
        }
    }
    let client = server.client().await;
    let expected: Vec<Vec<Option<String>>> = users
        .iter()
        .map(|(id, (city, score))| vec![Some(id.to_string()), Some(city.clone()), Some(score.to_string())])
        .collect();
    eventually("the table is the last values", 60, async || {
        let found = try_sql(&client, "SELECT id, city, score FROM app.users ORDER BY id").await;
        let found = found.map_err(|e| format!("{e:?}"))?;
        if found == expected { Ok(()) } else { Err(format!("seed {seed}: {found:?}\n{expected:?}\n{}", server.log())) }
    })
    .await;
    let direct = "SELECT city, COUNT(*), SUM(score) FROM app.users GROUP BY city ORDER BY city";
    let view = sql(&client, "SELECT city, n, total FROM cities ORDER BY city").await;
    assert_eq!(view, sql(&client, direct).await, "seed {seed}");
    let stamped = "SELECT COUNT(*) FROM app.users WHERE _timestamp IS NOT NULL";
    assert_eq!(sql(&client, stamped).await, [[Some(users.len().to_string())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_messages_are_each_one_row_through_kills() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("clicks", PARTITIONS as i32, &[]).await;
    let producer = broker.producer();
    // Before the offset that is begun at, what could not even be read.
    for _ in 0..5 {
        send(&producer, "clicks", 1, None, Some("no JSON"));
    }
    producer.flush(REQUEST).expect("the broker takes them");
    let mut server = Tidemill::start(&temporary("feed-append"), &[], &[]).await;
    let client = server.client().await;
    let kafka = broker.address();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE clicks FROM CONNECTION k (TOPIC 'clicks', START AT OFFSETS ('1:5') OTHERS EARLIEST)
               FORMAT 'json' TABLES (web.clicks (page TEXT, amount INT));
             CREATE MATERIALIZED VIEW pages WITH (wait) AS
               SELECT page, COUNT(*) AS n, SUM(amount) AS total FROM web.clicks GROUP BY page"
        ),
    )
    .await;
    let mut sent = 0;
    for round in 0..40 {
        for _ in 0..50 {
            // Messages that are equal in all but their place.
            let value = format!("{{\"page\":\"p{}\",\"amount\":3}}", sent % 2);
            send(&producer, "clicks", sent % PARTITIONS, None, Some(&value));
            sent += 1;
        }
        producer.flush(REQUEST).expect("the broker takes them");
        if round % 8 == 4 {
            server.kill();
            server.restart().await;
        }
        let rows = sql(&server.client().await, "SELECT SUM(n), SUM(total) FROM pages").await;
        let number = |i: usize| rows[0][i].as_deref().map_or(0, |text| text.parse::<u64>().unwrap());
        assert!(number(0) <= sent && number(1) == 3 * number(0), "{rows:?} of {sent}");
    }
    let client = server.client().await;
    let half = (sent / 2).to_string();
    let expected = ["p0", "p1"].map(|page| [Some(page.to_string()), Some(half.clone())]);
    eventually("every message is a row, once", 60, async || {
        let found = try_sql(&client, "SELECT page, n FROM pages ORDER BY page").await.map_err(|e| format!("{e:?}"))?;
        if found == expected { Ok(()) } else { Err(format!("{found:?}\n{}", server.log())) }
    })
    .await;
    let places =
        "SELECT _topic, _partition, MIN(_offset) FROM web.clicks GROUP BY _topic, _partition ORDER BY _partition";
    let first = |partition: &str, offset: &str| ["clicks", partition, offset].map(|v| Some(v.to_string()));
    assert_eq!(sql(&client, places).await, [first("0", "0"), first("1", "5"), first("2", "0")]);

    // A partition that is not named, and nothing said of others.
    sql(
        &client,
        "CREATE SOURCE more FROM CONNECTION k (TOPIC 'clicks', START AT OFFSETS ('1:5', '0:0'))
           FORMAT 'json' TABLES (web.more (page TEXT))",
    )
    .await;
    eventually("the source says which partition is missing", 30, async || {
        let sources = sql(&client, "SHOW SOURCES").await;
        let said = sources.concat().into_iter().flatten().any(|cell| cell.contains("topic clicks, partition 2"));
        if said { Ok(()) } else { Err(format!("{sources:?}")) }
    })
    .await;
}
