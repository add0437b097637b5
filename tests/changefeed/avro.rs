//! Avro over a real Kafka with a real registry: our own rows, and a real Debezium's events.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};

use crate::debezium;
use crate::kafka_broker::{Broker, ToKafka};
use crate::mysql_server::{Kind, Server};
use crate::schema_registry::Registry;
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};
use crate::{bank, kafka::equals_mysql};

const PARTITIONS: u64 = 3;
const REQUEST: Duration = Duration::from_secs(20);

/// Written from Avro's specification for these tests alone.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    long(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

fn framed(schema: u32) -> Vec<u8> {
    [&[0][..], &schema.to_be_bytes()].concat()
}

fn send(producer: &ToKafka, topic: &str, partition: u64, key: Option<&[u8]>, value: Option<&[u8]>) {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition as i32);
    (record.key, record.payload) = (key, value);
    producer.send(record).unwrap_or_else(|(e, _)| panic!("the producer's queue: {e}"));
}

const KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"long"}]}"#;
const CITY: &str = r#"{"type":"enum","name":"City","namespace":"app","symbols":["bj","sh","gz"]}"#;
const CITY_REFERENCE: &str = r#"[{"name":"app.City","subject":"city","version":1}]"#;
const FIRST: &str = r#"{"type":"record","name":"User","fields":[
    {"name":"id","type":"int"},{"name":"city","type":"app.City"},{"name":"score","type":["null","int"],"default":null},
    {"name":"seen","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
/// Fields moved, one widened, one added.
const SECOND: &str = r#"{"type":"record","name":"User","fields":[
    {"name":"note","type":"string","default":""},{"name":"score","type":["null","long"],"default":null},
    {"name":"seen","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"city","type":"app.City"},{"name":"id","type":"long"}]}"#;
const SEEN_MS: i64 = 1_709_251_200_123;

/// A row as one of the two schemas writes it.
fn user(numbers: [u32; 2], version: usize, id: u64, city: u64, score: u64) -> Vec<u8> {
    let mut out = framed(numbers[version]);
    let parts: &[&str] = [&["id", "city", "score", "seen"][..], &["note", "score", "seen", "city", "id"]][version];
    for part in parts {
        match *part {
            "id" => long(&mut out, id as i64),
            "city" => long(&mut out, city as i64),
            "note" => text(&mut out, "x"),
            "seen" => long(&mut out, SEEN_MS),
            _ => {
                long(&mut out, 1);
                long(&mut out, score as i64);
            }
        }
    }
    out
}

async fn is(client: &tokio_postgres::Client, what: &str, query: &str, expected: &[Vec<Option<String>>]) {
    eventually(what, 60, async || {
        let found = try_sql(client, query).await.map_err(|e| format!("{e:?}"))?;
        let sources = try_sql(client, "SHOW SOURCES").await;
        if found == expected { Ok(()) } else { Err(format!("{found:?}\n{expected:?}\n{sources:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_rows_are_upserted_through_schemas_kills_and_a_registry_that_is_down() {
    let seed = bank::seed();
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(mut registry) = Registry::start_or_skip().await else { return };
    broker.create_topic("users", PARTITIONS as i32, &[]).await;
    let [key, first] = register(&registry).await;
    let mut server = Tidemill::start(&temporary("feed-avro"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, url) = (broker.address(), registry.url());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}', SCHEMA REGISTRY '{url}');
             CREATE SOURCE users FROM CONNECTION k (TOPIC 'users') FORMAT UPSERT ENCODE AVRO TABLES (app.users);
             CREATE MATERIALIZED VIEW cities WITH (wait) AS
               SELECT city, COUNT(*) AS n, SUM(score) AS total FROM app.users GROUP BY city"
        ),
    )
    .await;
    let shown = sql(&client, "SHOW COLUMNS FROM app.users").await;
    let columns: Vec<String> = shown.iter().map(|row| row[..2].iter().flatten().cloned().collect::<String>()).collect();
    assert_eq!(columns, ["idint", "cityvarchar(255)", "scoreint", "seentimestamp(3)"], "{shown:?}");
    let second = registry.register_with("users-value", SECOND, CITY_REFERENCE).await;
    let (producer, mut random) = (broker.producer(), bank::Random(seed));
    let mut users: BTreeMap<u64, (&str, u64)> = BTreeMap::new();
    for round in 0..30 {
        for _ in 0..25 {
            // The second schema from some message on, and now and then the first again.
            let version = (round > 4 && random.below(5) > 0) as usize;
            write(&producer, &mut random, &mut users, key, [first, second], version);
        }
        producer.flush(REQUEST).expect("the broker takes them");
        if round == 8 || round == 20 {
            server.kill();
            server.restart().await;
        }
    }
    let client = server.client().await;
    let expected: Vec<Vec<Option<String>>> = users
        .iter()
        .map(|(id, (city, score))| vec![Some(id.to_string()), Some(city.to_string()), Some(score.to_string())])
        .collect();
    is(&client, "the table is the last values", "SELECT id, city, score FROM app.users ORDER BY id", &expected).await;
    let direct = "SELECT city, COUNT(*), SUM(score) FROM app.users GROUP BY city ORDER BY city";
    let view = sql(&client, "SELECT city, n, total FROM cities ORDER BY city").await;
    assert_eq!(view, sql(&client, direct).await, "seed {seed}");
    let seen = "SELECT DISTINCT CAST(seen AS CHAR) FROM app.users";
    assert_eq!(sql(&client, seen).await, [[Some("2024-03-01 00:00:00.123".to_string())]]);

    let made = sql(&client, "SHOW CREATE SOURCE users").await.concat().into_iter().flatten().collect::<String>();
    assert!(made.contains("FORMAT 'avro'") && made.contains("PRIMARY KEY (id)"), "{made}");

    // A server that has forgotten the schemas waits for the registry, and loses nothing.
    registry.runner.kill();
    server.kill();
    server.restart().await;
    let mut last = framed(key);
    long(&mut last, 1000);
    send(&producer, "users", 0, Some(&last), Some(&user([first, second], 1, 1000, 0, 5)));
    producer.flush(REQUEST).expect("the broker takes them");
    waits_for_the_registry(&server.client().await, users.len()).await;
    server.kill();
    registry.restart().await;
    assert_eq!(register(&registry).await, [key, first]);
    assert_eq!(registry.register_with("users-value", SECOND, CITY_REFERENCE).await, second);
    server.restart().await;
    let more = [vec![Some((users.len() + 1).to_string())]];
    is(&server.client().await, "it goes on", "SELECT COUNT(*) FROM app.users", &more).await;
}

/// A row or a tombstone of some user.
fn write(
    producer: &ToKafka,
    random: &mut bank::Random,
    users: &mut BTreeMap<u64, (&str, u64)>,
    key: u32,
    values: [u32; 2],
    version: usize,
) {
    let (id, city, score) = (random.below(60), random.below(3), random.below(100));
    let mut key = framed(key);
    long(&mut key, id as i64);
    let value = (random.below(4) > 0).then(|| {
        users.insert(id, (["bj", "sh", "gz"][city as usize], score));
        user(values, version, id, city, score)
    });
    if value.is_none() {
        users.remove(&id);
    }
    send(producer, "users", id % PARTITIONS, Some(&key), value.as_deref());
}

async fn waits_for_the_registry(client: &tokio_postgres::Client, rows: usize) {
    eventually("the source waits for the registry", 30, async || {
        let sources = try_sql(client, "SHOW SOURCES").await.map_err(|e| format!("{e:?}"))?;
        let cells: String = sources.concat().into_iter().flatten().collect();
        let waits = cells.contains("waiting: cannot ask the schema registry") && cells.contains("/schemas/ids/");
        if waits { Ok(()) } else { Err(cells) }
    })
    .await;
    assert_eq!(sql(client, "SELECT COUNT(*) FROM app.users").await, [[Some(rows.to_string())]]);
}

/// Of keys and of the first values.
async fn register(registry: &Registry) -> [u32; 2] {
    let key = registry.register("users-key", KEY).await;
    registry.register("city", CITY).await;
    [key, registry.register_with("users-value", FIRST, CITY_REFERENCE).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_does_not_have_is_kept_or_stops() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(registry) = Registry::start_or_skip().await else { return };
    broker.create_topic("clicks", 1, &[]).await;
    let click = r#"{"type":"record","name":"Click","fields":[{"name":"page","type":"string"}]}"#;
    let number = registry.register("clicks-value", click).await;
    let server = Tidemill::start(&temporary("feed-avro-bad"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, url) = (broker.address(), registry.url());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}');
             CREATE SOURCE kept FROM CONNECTION k (TOPIC 'clicks') FORMAT PLAIN ENCODE AVRO (schema.registry = '{url}')
               ON BAD MESSAGE QUARANTINE TABLES (web.kept);
             CREATE SOURCE stops FROM CONNECTION k (TOPIC 'clicks') FORMAT 'avro' (schema.registry = '{url}')
               TABLES (web.stops (page VARCHAR(20)))"
        ),
    )
    .await;
    let missing = sql_error(
        &client,
        &format!(
            "CREATE SOURCE none FROM CONNECTION k (TOPIC 'other') FORMAT PLAIN ENCODE AVRO (schema.registry = '{url}')
               TABLES (web.other)"
        ),
    )
    .await;
    assert!(missing.contains("the registry has no schema other-value"), "{missing}");
    let producer = broker.producer();
    let row = |schema: u32, page: &str| {
        let mut out = framed(schema);
        text(&mut out, page);
        out
    };
    let unknown = [row(7_777_777, "b"), row(4_000_000_000, "b")];
    for value in [vec![row(number, "a")], unknown.to_vec(), vec![b"{}".to_vec(), row(number, "c")]].concat() {
        send(&producer, "clicks", 0, None, Some(&value));
    }
    producer.flush(REQUEST).expect("the broker takes them");
    let some = |texts: &[&str]| texts.iter().map(|text| Some(text.to_string())).collect::<Vec<_>>();
    let kept = "SELECT page, _offset FROM web.kept ORDER BY _offset";
    is(&client, "what can be read is there", kept, &[some(&["a", "0"]), some(&["c", "4"])]).await;
    let quarantine = "SELECT offset, code FROM kept.quarantine ORDER BY offset";
    is(
        &client,
        "the rest is kept",
        quarantine,
        &[some(&["1", "SCHEMA_UNKNOWN"]), some(&["2", "SCHEMA_UNKNOWN"]), some(&["3", "BAD_MESSAGE"])],
    )
    .await;
    eventually("the other source stops at it", 30, async || {
        let sources = try_sql(&client, "SHOW SOURCES").await.map_err(|e| format!("{e:?}"))?;
        let cells: String = sources.concat().into_iter().flatten().collect();
        let stops =
            cells.contains("SCHEMA_UNKNOWN: topic clicks, partition 0, offset 1: the message is written by schema");
        if stops { Ok(()) } else { Err(cells) }
    })
    .await;
    is(&client, "what is before it is shown", "SELECT page FROM web.stops", &[some(&["a"])]).await;
}

async fn sql_error(client: &tokio_postgres::Client, text: &str) -> String {
    let error = try_sql(client, text).await.expect_err("it is refused");
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_string())
}

const EVERY_TYPE: &str = "CREATE TABLE shop.things (
    id BIGINT PRIMARY KEY, tiny TINYINT UNSIGNED, yes TINYINT(1), medium MEDIUMINT, huge BIGINT UNSIGNED,
    price DECIMAL(12,4), ratio DOUBLE, weight FLOAT, name VARCHAR(50), body TEXT, doc JSON, bits BIT(12),
    day DATE, clock TIME(6), clock3 TIME(3), at0 DATETIME, at3 DATETIME(3), at6 DATETIME(6), stamp TIMESTAMP(6) NULL,
    kind ENUM('a','b','c d'), marks SET('x','y','z'), fixed BINARY(6), bytes VARBINARY(20), y YEAR)";

const ROWS: &[&str] = &[
    "(1, 255, 1, -8388608, 9223372036854775807, 12345678.1234, 0.1, 1.5, 'ann é', 'text',
      '{\"bb\":[1,2.5],\"a\":\"x\"}', b'101010101010', '2024-02-29', '-12:34:56.789012', '838:59:59',
      '2024-01-02 03:04:05', '2024-01-02 03:04:05.678',
      '9999-12-31 23:59:59.999999', '2024-01-02 03:04:05.678901', 'c d', 'x,z', 'ab cde', 'bytes', 2024)",
    "(2, 0, 0, 8388607, 0, -0.0001, -12345.678, -0.25, '', '', '[]', b'0', '1000-01-01', '00:00:00', '-00:00:00.5',
      '1000-01-01 00:00:00', '1969-12-31 23:59:59.999', '1969-12-31 23:59:59.999999', '1970-01-01 00:00:01.5', 'a', '',
      '123456', '', 1901)",
    "(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
      NULL, NULL, NULL, NULL, NULL)",
];

/// Of a Connect converter that writes Confluent's framing.
fn avro_settings(registry_port: u16) -> Vec<String> {
    let url = format!("url=http://127.0.0.1:{registry_port}/apis/registry/v2");
    let of_both = [&url, "auto-register=true", "as-confluent=true", "use-id=contentId"]
        .map(|setting| ["key", "value"].map(|side| format!("{side}.converter.apicurio.registry.{setting}")));
    let own = [
        "database.include.list=shop",
        "topic.prefix=dbz",
        "runner.converter=io.apicurio.registry.utils.converter.AvroConverter",
    ];
    of_both.into_iter().flatten().chain(own.map(str::to_string)).collect()
}

/// MySQL → a real Debezium with a converter to Avro → Kafka → tables whose columns the registry tells.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_in_avro_is_what_mysql_has() {
    let Some(broker) = Broker::start_or_skip().await else { return };
    let Some(registry) = Registry::start_or_skip().await else { return };
    let Some(mysql) = Server::start_or_skip(Kind::MySql, &["--binlog-row-metadata=FULL"]).await else { return };
    mysql.run("CREATE DATABASE shop").await;
    mysql.run(EVERY_TYPE).await;
    mysql.run(&format!("INSERT INTO shop.things VALUES {}", ROWS[0])).await;
    let settings = avro_settings(registry.port);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(debezium) = debezium::start_or_skip(&mysql, &broker, &settings).await else { return };
    mysql.run(&format!("INSERT INTO shop.things VALUES {}, {}", ROWS[1], ROWS[2])).await;
    eventually("the connector has registered what its messages are written by", 60, async || {
        let all = registry.has("dbz.shop.things-value").await && registry.has("dbz.transaction-value").await;
        all.then_some(()).ok_or_else(|| debezium.output())
    })
    .await;
    let server = Tidemill::start(&temporary("feed-debezium-avro"), &[], &[]).await;
    let client = server.client().await;
    let (kafka, url) = (broker.address(), registry.url());
    sql(
        &client,
        &format!(
            "CREATE CONNECTION k TO KAFKA (BROKERS '{kafka}', SCHEMA REGISTRY '{url}');
             CREATE SOURCE shop FROM CONNECTION k (TOPIC 'dbz.shop.things', TRANSACTIONS TOPIC 'dbz.transaction')
               FORMAT DEBEZIUM ENCODE AVRO TABLES (shop.things);
             CREATE MATERIALIZED VIEW seen WITH (wait) AS SELECT id, name FROM shop.things"
        ),
    )
    .await;
    mysql.run("UPDATE shop.things SET name = 'bob', price = price + 1 WHERE id < 3").await;
    mysql.run("UPDATE shop.things SET id = 30 WHERE id = 3").await;
    mysql.run("INSERT INTO shop.things (id, name) VALUES (4, 'gone')").await;
    mysql.run("DELETE FROM shop.things WHERE id = 4").await;
    // Where the registry's columns have more digits than MySQL's, MySQL is asked for as many.
    let chars = |columns: &[(&str, &str)]| {
        let ours = columns.iter().map(|(name, _)| format!("CAST({name} AS CHAR)")).collect::<Vec<_>>().join(", ");
        let mysqls = columns.iter().map(|(name, of)| match *of {
            "" => format!("CAST({name} AS CHAR)"),
            of => format!("CAST(CAST({name} AS {of}) AS CHAR)"),
        });
        (ours, mysqls.collect::<Vec<_>>().join(", "))
    };
    let same = |columns: &str| (columns.to_string(), columns.to_string());
    for (ours, mysqls) in [
        same("tiny, yes, medium, huge, price, ratio, weight, name, body, doc, bits + 0, y"),
        chars(&[("day", ""), ("clock", ""), ("clock3", "TIME(6)"), ("at0", "DATETIME(3)"), ("at3", ""), ("at6", "")]),
        chars(&[("stamp", ""), ("kind", ""), ("marks", ""), ("fixed", ""), ("bytes", "")]),
    ] {
        let of = |columns: &str| format!("SELECT id, {columns} FROM shop.things ORDER BY id");
        equals_mysql(&client, &mysql, &format!("{ours} equal MySQL's own answer"), &of(&ours), &of(&mysqls)).await;
    }
    is(
        &client,
        "the view goes on",
        "SELECT id, name FROM seen ORDER BY id",
        &[
            vec![Some("1".into()), Some("bob".into())],
            vec![Some("2".into()), Some("bob".into())],
            vec![Some("30".into()), None],
        ],
    )
    .await;
}
