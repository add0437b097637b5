//! The Kafka log against a real broker: nothing is skipped in silence, whatever happens.
#![cfg(feature = "kafka")]

#[path = "support/canal.rs"]
mod canal;
#[path = "support/debezium.rs"]
mod debezium;
#[path = "support/kafka.rs"]
mod kafka_broker;
#[path = "support/mysql.rs"]
mod mysql_server;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/runner.rs"]
mod runner;

use std::time::{Duration, Instant};

use kafka_broker::{Broker, send};
use mysql_server::{Kind, Server};
use rdkafka::producer::Producer;
use reading::{Reading, WAIT, text};
use tidemill::sources::log::kafka::options::{Options, Topics};
use tidemill::sources::log::kafka::{KafkaLog, MISSING_OPENINGS_MAX, check};
use tidemill::sources::log::{Added, Begin, Entry, Fault, Log, Offsets, Others};

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_read_from_where_the_reader_stands() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    partitions_in_order(&broker).await;
    aborted_transactions(&broker).await;
    a_pause(&broker).await;
    beginnings(&broker).await;
    a_pattern(&broker).await;
    checks(&broker).await;
}

async fn partitions_in_order(broker: &Broker) {
    broker.create_topic("orders", 3, &[]).await;
    broker.create_topic("users", 1, &[]).await;
    for partition in 0..3 {
        broker.produce("orders", partition, numbers(0..2000).iter().map(|n| format!("{partition}:{n}")));
    }
    broker.produce("users", 0, numbers(0..10));
    let mut reading = Reading::named(broker, &["orders", "users"]);
    reading.open(Begin::Earliest).await;
    let places: Vec<(&str, i32, i64)> =
        reading.partitions.iter().map(|p| (p.topic.as_str(), p.number, p.end)).collect();
    assert_eq!(places, [("orders", 0, 2000), ("orders", 1, 2000), ("orders", 2, 2000), ("users", 0, 10)]);
    assert_eq!(reading.log.identity("orders").map(|id| id.len()), Some(22), "a topic's id");
    let values = reading.take(6010).await;
    for partition in 0..3 {
        let prefix = format!("{partition}:");
        let own: Vec<&str> = values.iter().filter_map(|v| v.strip_prefix(&prefix)).collect();
        assert_eq!(own, numbers(0..2000));
    }
    // From given offsets: another client, one that knows where it stood.
    let mut again = Reading::named(broker, &["orders", "users"]);
    again.offsets = reading.offsets.clone();
    again.offsets.topics.get_mut("orders").unwrap().next.insert(1, 1998);
    again.open(Begin::Earliest).await;
    assert_eq!(again.take(2).await, ["1:1998", "1:1999"]);
    broker.produce("users", 0, ["last"]);
    assert_eq!(again.take(1).await, ["last"]);
    again.is_silent().await;
}

async fn aborted_transactions(broker: &Broker) {
    broker.create_topic("transactions", 1, &[]).await;
    let producer = broker.transactional("shop");
    for (values, commit) in [(["a", "b"], true), (["c", "d"], false), (["e", "f"], true)] {
        producer.begin_transaction().expect("it begins");
        send(&producer, "transactions", 0, values);
        match commit {
            true => producer.commit_transaction(WAIT).expect("it commits"),
            false => producer.abort_transaction(WAIT).expect("it aborts"),
        }
    }
    producer.begin_transaction().expect("it begins");
    send(&producer, "transactions", 0, ["g"]);
    producer.flush(WAIT).expect("the broker takes it");
    let mut reading = Reading::named(broker, &["transactions"]);
    reading.open(Begin::Earliest).await;
    assert_eq!(reading.take(4).await, ["a", "b", "e", "f"]);
    reading.is_silent().await;
    producer.commit_transaction(WAIT).expect("it commits");
    assert_eq!(reading.take(1).await, ["g"]);
    // The place after a control record is none of a message.
    reading.open(Begin::Earliest).await;
    broker.produce("transactions", 0, ["h"]);
    assert_eq!(reading.take(1).await, ["h"]);
}

async fn a_pause(broker: &Broker) {
    broker.create_topic("paused", 2, &[]).await;
    let mut reading = Reading::named(broker, &["paused"]);
    reading.open(Begin::Earliest).await;
    let count = 20_000;
    let of = |partition: usize| numbers(0..count).into_iter().map(move |n| format!("{partition}:{n}"));
    (0..2).for_each(|partition| broker.produce("paused", partition as i32, of(partition)));
    let mut values = [Vec::new(), Vec::new()];
    let mut rounds = 0;
    // Now the one, now the other pauses, in the middle of what is fetched ahead.
    while values.iter().map(Vec::len).sum::<usize>() < 2 * count {
        let paused = rounds % 2;
        let done = |of: usize, values: &[Vec<String>; 2]| values[of].len() == count;
        if !done(1 - paused, &values) {
            reading.log.pause(paused, true).expect("it pauses");
            for entry in reading.next().await.expect("no fault") {
                assert_eq!(entry.partition, 1 - paused, "nothing comes of a partition that pauses");
                values[entry.partition].push(text(entry));
            }
            reading.log.pause(paused, false).expect("it goes on");
        } else {
            let entries = reading.next().await.expect("no fault");
            entries.into_iter().for_each(|entry| values[entry.partition].push(text(entry)));
        }
        rounds += 1;
    }
    assert!(rounds > 4, "{rounds} rounds");
    (0..2).for_each(|partition| assert!(values[partition].iter().eq(of(partition).collect::<Vec<_>>().iter())));
}

async fn beginnings(broker: &Broker) {
    broker.create_topic("times", 2, &[]).await;
    broker.produce("times", 0, ["old"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut all = Reading::named(broker, &["times"]);
    all.open(Begin::Earliest).await;
    let old = all.next().await.expect("no fault").remove(0).written_ms.expect("brokers say when");
    broker.produce("times", 0, ["new"]);
    let from = async |begin| {
        let mut reading = Reading::named(broker, &["times"]);
        reading.open(begin).await;
        reading.partitions.iter().map(|p| p.next).collect::<Vec<_>>()
    };
    assert_eq!(from(Begin::Earliest).await, [0, 0]);
    assert_eq!(from(Begin::Latest).await, [2, 0]);
    assert_eq!(from(Begin::Time(old)).await, [0, 0]);
    assert_eq!(from(Begin::Time(old + 1)).await, [1, 0]);
    assert_eq!(from(Begin::Time(old + 3_600_000)).await, [2, 0], "later than every message: the end");
    let offsets = |named: &[(Option<&str>, i32, i64)], others| Begin::Offsets {
        named: named.iter().map(|(topic, number, at)| ((topic.map(str::to_string), *number), *at)).collect(),
        others,
    };
    assert_eq!(from(offsets(&[(None, 0, 1), (Some("times"), 1, 0)], None)).await, [1, 0]);
    assert_eq!(from(offsets(&[(None, 1, 0)], Some(Others::Latest))).await, [2, 0]);
    assert_eq!(from(offsets(&[(None, 0, 2)], Some(Others::Earliest))).await, [2, 0], "the end is a place to begin");
    for (named, said) in [
        (&[(None, 0, 1)][..], "says no offset of topic times, partition 1"),
        (&[(None, 0, 3), (None, 1, 0)], "partition 0 has offsets from 0 to 2, and is to begin at 3"),
        (&[(None, 0, 0), (None, 1, 0), (Some("times"), 2, 0)], "topic times has no partition 2"),
    ] {
        let fault = Reading::named(broker, &["times"]).try_open(offsets(named, None)).await.expect_err(said);
        let Fault::Stop(stop) = fault else { panic!("{fault:?}") };
        assert!(stop.code == "START_INVALID" && stop.message.contains(said), "{stop:?}");
    }
}

async fn a_pattern(broker: &Broker) {
    let mut reading = Reading::new(broker, Topics::Matching("flow-*".to_string()));
    let Err(Fault::Lost { reason, .. }) = reading.try_open(Begin::Latest).await else { panic!("there is none yet") };
    assert!(reason.contains("flow-*"), "{reason}");
    broker.create_topic("flow-a", 1, &[]).await;
    broker.produce("flow-a", 0, ["before"]);
    reading.open(Begin::Latest).await;
    // A topic that comes later is read from its first message on.
    broker.create_topic("flow-b", 1, &[]).await;
    broker.produce("flow-b", 0, ["first"]);
    let Err(Fault::Lost { reason, .. }) = reading.next().await else { panic!("it is opened again for that") };
    assert!(reason.contains("flow-b is new"), "{reason}");
    reading.open(Begin::Latest).await;
    assert_eq!(reading.take(1).await, ["first"]);
}

async fn checks(broker: &Broker) {
    broker.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let options = Options::new(broker.address(), Topics::Named(vec!["orders".to_string(), "compacted".to_string()]));
    let told = check(&options).await;
    let of = |setting: &str| told.iter().find(|c| c.setting == setting).unwrap_or_else(|| panic!("{told:#?}"));
    assert!(of("brokers").ok && of("brokers").have == broker.address(), "{told:#?}");
    assert!(of("topic orders").ok && of("topic orders").have.starts_with("3 partitions, 6000"), "{told:#?}");
    assert!(of("cleanup.policy of orders").ok && of("retention.ms of orders").have == "168 h", "{told:#?}");
    let compacted = of("cleanup.policy of compacted");
    assert!(!compacted.ok && compacted.remedy.as_ref().unwrap().contains("cleanup.policy=delete"), "{compacted:?}");
    let told = check(&Options::new(broker.address(), Topics::Named(vec!["ordres".to_string()]))).await;
    assert!(told.iter().any(|c| !c.ok && c.have.contains("alike: orders")), "{told:#?}");
    let told = check(&Options::new("nowhere.invalid:9092", Topics::Named(vec!["orders".to_string()]))).await;
    assert!(told.len() == 1 && !told[0].ok && told[0].have.contains("nowhere.invalid"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_there_stops_the_log() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    retention(&broker).await;
    recreated(&broker).await;
    partitions_added(&broker).await;
    missing(&broker).await;
}

async fn retention(broker: &Broker) {
    broker.create_topic("short", 2, &[]).await;
    broker.produce("short", 1, numbers(0..100));
    let mut reading = Reading::named(broker, &["short"]);
    reading.open(Begin::Earliest).await;
    reading.take(100).await;
    reading.offsets.topics.get_mut("short").unwrap().next.insert(1, 30);
    broker.delete_records("short", 1, 75).await;
    let stop = reading.open_until_stopped().await;
    assert_eq!(stop.code, "SOURCE_GONE");
    assert!(stop.message.contains("short, partition 1: offset 30") && stop.message.contains("45 offsets"), "{stop:?}");
    // What was read is no loss; and a pause that outlives the messages is one.
    reading.offsets.topics.get_mut("short").unwrap().next.insert(1, 75);
    reading.open(Begin::Earliest).await;
    reading.take(25).await;
    reading.log.pause(1, true).expect("it pauses");
    broker.produce("short", 1, numbers(0..100));
    broker.delete_records("short", 1, 150).await;
    reading.log.pause(1, false).expect("it goes on");
    let stop = reading.stopped().await;
    assert_eq!(stop.code, "SOURCE_GONE", "{stop:?}");
    assert!(stop.message.contains("offset 100") && stop.message.contains("50 offsets"), "{stop:?}");
}

async fn recreated(broker: &Broker) {
    for (name, filled) in [("again", true), ("emptied", false)] {
        broker.create_topic(name, 1, &[]).await;
        broker.produce(name, 0, numbers(0..10));
        let mut reading = Reading::named(broker, &[name]);
        reading.open(Begin::Earliest).await;
        reading.take(10).await;
        let mut closed = Reading::named(broker, &[name]);
        closed.offsets = reading.offsets.clone();
        let mut without_id = Reading::named(broker, &[name]);
        without_id.offsets = reading.offsets.clone();
        without_id.offsets.topics.get_mut(name).unwrap().identity = None;
        broker.delete_topic(name).await;
        broker.create_topic(name, 1, &[]).await;
        if filled {
            // As many as had been: an offset alone would look right.
            broker.produce(name, 0, numbers(100..120));
        }
        assert_eq!(closed.open_until_stopped().await.code, "TOPIC_RECREATED", "{name}");
        let stop = reading.stopped().await;
        assert_eq!(stop.code, "TOPIC_RECREATED", "{name}, while it is open: {stop:?}");
        if !filled {
            let stop = without_id.open_until_stopped().await;
            assert_eq!(stop.code, "SOURCE_DIVERGED");
            assert!(stop.message.contains("offset 10") && stop.message.contains("ends at 0"), "{stop:?}");
        }
    }
}

async fn partitions_added(broker: &Broker) {
    broker.create_topic("growing", 2, &[]).await;
    let mut reading = Reading::named(broker, &["growing"]);
    reading.open(Begin::Earliest).await;
    broker.add_partitions("growing", 3).await;
    let stop = reading.stopped().await;
    assert_eq!(stop.code, "PARTITIONS_ADDED");
    assert!(stop.message.contains("growing had 2 partitions and has 3"), "{stop:?}");
    assert_eq!(reading.open_until_stopped().await.code, "PARTITIONS_ADDED", "and when it is opened again");
    // Once: those that there are; wherever it was begun, from their first message on.
    broker.produce("growing", 2, ["third"]);
    let mut once = Reading::adding(broker, "growing", Added::Once, reading.offsets.clone());
    once.open(Begin::Latest).await;
    assert_eq!(once.take(1).await, ["third"]);
    broker.add_partitions("growing", 4).await;
    assert_eq!(once.stopped().await.code, "PARTITIONS_ADDED");
    // Always: without a stop.
    broker.produce("growing", 3, ["fourth"]);
    let mut always = Reading::adding(broker, "growing", Added::Read, once.offsets.clone());
    always.open(Begin::Latest).await;
    assert_eq!(always.take(1).await, ["fourth"]);
    broker.add_partitions("growing", 6).await;
    broker.produce("growing", 5, ["sixth"]);
    let Err(Fault::Lost { reason, .. }) = always.next().await else { panic!("it is opened again for that") };
    assert!(reason.contains("growing has 2 more partitions"), "{reason}");
    always.open(Begin::Latest).await;
    assert_eq!(always.take(1).await, ["sixth"]);
    // Of one whose first messages are gone.
    broker.add_partitions("growing", 7).await;
    broker.produce("growing", 6, numbers(0..3));
    broker.delete_records("growing", 6, 2).await;
    assert_eq!(always.stopped().await.code, "SOURCE_GONE");
}

async fn missing(broker: &Broker) {
    broker.create_topic("payments", 1, &[]).await;
    let mut reading = Reading::named(broker, &["payment"]);
    for _ in 1..MISSING_OPENINGS_MAX {
        let opened = reading.try_open(Begin::Earliest).await;
        assert!(matches!(opened, Err(Fault::Lost { .. })), "{opened:?}");
    }
    let stop = reading.open_until_stopped().await;
    assert_eq!(stop.code, "TOPIC_MISSING");
    assert!(stop.message.contains("`payment`") && stop.message.contains("alike: payments"), "{stop:?}");
    // One that was read and was deleted.
    let mut reading = Reading::named(broker, &["payments"]);
    reading.open(Begin::Earliest).await;
    broker.delete_topic("payments").await;
    let fault = reading.next().await.expect_err("it is gone");
    assert!(matches!(fault, Fault::Lost { .. }), "{fault:?}");
    let stop = reading.open_until_stopped().await;
    assert_eq!(stop.code, "TOPIC_MISSING");
    assert!(stop.message.contains("was read before"), "{stop:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_be_away() {
    let unknown = Options::new("nowhere.invalid:9092", Topics::Named(vec!["t".to_string()]));
    let fault = KafkaLog::new(unknown).open(&Offsets::default(), Begin::Earliest).await.expect_err("no such host");
    let Fault::Lost { reason, .. } = &fault else { panic!("{fault:?}") };
    assert!(reason.contains("nowhere.invalid"), "the reason is the host: {reason}");

    let Some(mut broker) = Broker::start_or_skip().await else { return };
    broker.create_topic("t", 2, &[]).await;
    broker.produce("t", 0, numbers(0..1000));
    let mut reading = Reading::named(&broker, &["t"]);
    reading.open(Begin::Earliest).await;
    let mut values = reading.take(1000).await;
    // Short: whether it is noticed depends on how long the broker takes to start; nothing is lost or doubled either
    // way.
    broker.kill();
    broker.restart().await;
    broker.produce("t", 0, numbers(1000..2000));
    while values.len() < 2000 {
        match reading.next().await {
            Ok(batch) => values.extend(batch.into_iter().map(text)),
            Err(Fault::Lost { action, reason }) => {
                eprintln!("cannot {action}: {reason}");
                reading.open(Begin::Earliest).await;
            }
            Err(fault) => panic!("{fault:?}"),
        }
    }
    assert_eq!(values, numbers(0..2000));
    // Long: it is said, with the reason.
    broker.kill();
    let killed = Instant::now();
    let fault = reading.next().await.expect_err("nobody is there");
    let Fault::Lost { reason, .. } = &fault else { panic!("{fault:?}") };
    assert!(reason.contains("refused") && reason.contains(&broker.address()), "{reason}");
    assert!(killed.elapsed() < Duration::from_secs(20), "after {:?}", killed.elapsed());
    broker.restart().await;
    reading.open(Begin::Earliest).await;
    broker.produce("t", 1, ["on"]);
    assert_eq!(reading.take(1).await, ["on"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debezium_and_canal_produce_what_mysql_has() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(mysql) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    mysql.run("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v VARCHAR(9))").await;
    mysql.run("INSERT INTO shop.t VALUES (1, 'a'), (2, 'b')").await;
    broker.create_topic("canal", 2, &[]).await;
    let Some(_canal) = canal::start_or_skip(&mysql, &broker, "canal", &["partitions=2"]).await else { return };
    let settings = ["database.include.list=shop", "value.converter.schemas.enable=false"];
    let Some(_debezium) = debezium::start_or_skip(&mysql, &broker, &settings).await else { return };
    mysql.run("INSERT INTO shop.t VALUES (3, 'c'); UPDATE shop.t SET v = 'z' WHERE id = 1").await;
    mysql.run("DELETE FROM shop.t WHERE id = 2").await;

    // Two rows of the snapshot, three changes and the delete's tombstone; three transactions' two edges.
    let mut reading = Reading::named(&broker, &["dbz.shop.t", "dbz.transaction"]);
    while let Err(fault) = reading.try_open(Begin::Earliest).await {
        assert!(matches!(fault, Fault::Lost { .. }), "{fault:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut entries = Vec::new();
    while entries.len() < 12 {
        entries.extend(reading.next().await.expect("no fault"));
    }
    let operations: Vec<String> = entries.iter().filter_map(|e| operation(e, "op")).collect();
    assert_eq!(operations, ["r", "r", "c", "u", "d"]);
    assert_eq!(entries.iter().filter(|e| e.value.is_none()).count(), 1, "a tombstone");
    let edges: Vec<String> = entries.iter().filter_map(|e| operation(e, "status")).collect();
    assert_eq!(edges, ["BEGIN", "END", "BEGIN", "END", "BEGIN", "END"]);

    let mut reading = Reading::named(&broker, &["canal"]);
    reading.open(Begin::Earliest).await;
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        let entries = reading.next().await.expect("no fault");
        kinds.extend(entries.iter().filter_map(|e| operation(e, "type")).filter(|t| t != "QUERY"));
    }
    kinds.sort();
    assert_eq!(kinds, ["DELETE", "INSERT", "UPDATE"]);
}

fn operation(entry: &Entry, field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(entry.value.as_ref()?).expect("JSON");
    Some(value.get(field)?.as_str().expect("text").to_string())
}
