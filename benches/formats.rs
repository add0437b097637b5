//! Decoders of changelog formats, against a plain JSON reader and against reading from Kafka.
//!
//! Printed, a line a feed and reader, are the median and the range of the rounds: rows and MB a second of the thread's
//! processor time. A row has ten columns; `ignored` walks the JSON and keeps nothing, `value` builds a tree of it: no
//! decoder can be much faster than the first, and none should be as slow as the second. Last, by the clock: messages
//! read from a broker of this machine, and read and decoded. With few rows the processor time is too coarse.
//! `cargo bench --bench formats -- [rows] [rounds] [what the feeds' names begin with, or `kafka`]`.

#[path = "formats/avro.rs"]
mod avro;
#[cfg(feature = "kafka")]
#[path = "../tests/support/kafka.rs"]
mod kafka;
#[path = "../tests/support/ticdc.rs"]
mod ticdc;

use std::hint::black_box;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use ticdc::{Encoded, Encoder};
use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::canal::{Canal, Expects};
use tidemill::sources::formats::debezium::{Debezium, Modes};
use tidemill::sources::formats::open::OpenProtocol;
use tidemill::sources::formats::simple::Simple;
use tidemill::sources::formats::{Compression, Decode, Message, Row, Settings, Tables};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, type, what a message calls the type, its code.
fn columns() -> Vec<(&'static str, SqlType, &'static str, i32)> {
    vec![
        ("id", BIGINT, "bigint", -5),
        ("user_id", BIGINT, "bigint", -5),
        ("status", SqlType::Int { bytes: 1, unsigned: false }, "tinyint", -6),
        ("amount", SqlType::Decimal { precision: 12, scale: 2 }, "decimal", 3),
        ("quantity", SqlType::Int { bytes: 4, unsigned: true }, "int unsigned", 4),
        ("title", SqlType::Varchar(100), "varchar", 12),
        ("note", SqlType::Text(2), "text", 2005),
        ("created_at", SqlType::Datetime(6), "datetime", 93),
        ("updated_at", SqlType::Timestamp(0), "timestamp", 93),
        ("ratio", SqlType::Double, "double", 8),
    ]
}

fn table() -> FollowedTable {
    let columns: Vec<Column> = columns().into_iter().map(|(name, t, ..)| Column::new(name, t, name != "id")).collect();
    let schema = Schema { columns, key: Some(vec![0]) };
    FollowedTable::declared(ObjectId(1), "shop", "orders", schema)
}

/// A JSON object of the columns, with a value for each.
fn object(values: impl IntoIterator<Item = String>) -> String {
    let members = columns().into_iter().zip(values).map(|((name, ..), value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn row(i: u64, version: u64) -> String {
    let quoted = |text: String| format!("\"{text}\"");
    object([
        quoted(i.to_string()),
        quoted((i * 7919 % 1_000_003).to_string()),
        quoted((version % 5).to_string()),
        quoted(format!("{}.{:02}", i % 10_000, i % 100)),
        quoted((i % 90 + 1).to_string()),
        quoted(format!("A thing of the shop, number {}", i % 1000)),
        if i.is_multiple_of(3) { "null".to_string() } else { format!(r#""said \"{i}\" é""#) },
        quoted(format!("2024-03-{:02} 12:34:56.{:06}", i % 28 + 1, i % 1_000_000)),
        quoted(format!("2024-03-02 {:02}:00:{:02}", version % 24, i % 60)),
        quoted(format!("0.{}", i + 1)),
    ])
}

/// What TiCDC writes around rows, in its order.
fn canal(kind: &str, i: u64, rows: &str) -> Vec<u8> {
    let codes = object(columns().into_iter().map(|(.., code)| code.to_string()));
    let types = object(columns().into_iter().map(|(_, _, word, _)| format!("\"{word}\"")));
    let head = r#""id":0,"database":"shop","table":"orders","pkNames":["id"],"isDdl":false"#;
    let times = r#""es":1708923625607,"ts":1708923626001,"sql":"""#;
    let commit = 447_984_074_911_121_409 + i;
    let tidb = format!(r#""_tidb":{{"commitTs":{commit}}}"#);
    format!(r#"{{{head},"type":"{kind}",{times},"sqlType":{codes},"mysqlType":{types},{rows},{tidb}}}"#).into_bytes()
}

/// Messages of one kind.
struct Feed {
    name: &'static str,
    decoder: Box<dyn Decode>,
    messages: Vec<Encoded>,
    rows: u64,
}

fn feeds(rows: u64) -> Vec<Feed> {
    let mut feeds = canal_feeds(rows);
    let table = table();
    let of = |encoder: Encoder| {
        (0..rows).map(|i| encoder.row(&table, None, Some(&values(i)), 447_984_074_911_121_409 + i)).collect()
    };
    let settings = Settings::default();
    let open: Box<dyn Decode> = Box::new(OpenProtocol::new(settings.clone()));
    feeds.push(Feed { name: "open protocol insert", decoder: open, messages: of(Encoder::open_protocol()), rows });
    let simple: Box<dyn Decode> = Box::new(Simple::new(settings));
    feeds.push(Feed { name: "simple insert", decoder: simple, messages: of(Encoder::simple()), rows });
    let debezium: Box<dyn Decode> = Box::new(Debezium::new(Modes::default()));
    let messages = (0..rows).map(|i| (None, debezium_row(i))).collect();
    feeds.push(Feed { name: "debezium insert, without schema", decoder: debezium, messages, rows });
    feeds.extend(avro::feeds(rows));
    feeds
}

fn canal_feeds(rows: u64) -> Vec<Feed> {
    let inserts: Vec<_> =
        (0..rows).map(|i| canal("INSERT", i, &format!(r#""old":null,"data":[{}]"#, row(i, i)))).collect();
    let update = |i| canal("UPDATE", i, &format!(r#""old":[{}],"data":[{}]"#, row(i, i), row(i, i + 1)));
    let changed = |i| canal("UPDATE", i, &format!(r#""old":[{{"status":"9"}}],"data":[{}]"#, row(i, i)));
    let other = |i| {
        let message = String::from_utf8(canal("INSERT", i, &format!(r#""old":null,"data":[{}]"#, row(i, i))));
        message.expect("it was made of text").replace("\"orders\"", "\"others\"").into_bytes()
    };
    let packed = |message: &Vec<u8>| snap::raw::Encoder::new().compress_vec(message).expect("a message is small");
    let official = |batch: u64| {
        let rows: Vec<String> = (batch * 50..batch * 50 + 50).map(|i| row(i, i)).collect();
        let head = r#""database":"shop","table":"orders","isDdl":false,"type":"INSERT","es":1708923625000"#;
        format!(r#"{{"data":[{}],{head},"old":null,"sql":""}}"#, rows.join(",")).into_bytes()
    };
    let snappy: Vec<_> = inserts.iter().map(packed).collect();
    let of = |name, compression, messages: Vec<Vec<u8>>, rows| {
        let decoder = Box::new(Canal::new(Settings { compression, ..Settings::default() }, Expects::Either));
        Feed { name, decoder, messages: messages.into_iter().map(|message| (None, message)).collect(), rows }
    };
    let plain = Compression::None;
    vec![
        of("canal-json insert", plain, inserts, rows),
        of("canal-json update", plain, (0..rows).map(update).collect(), rows),
        of("canal-json update, changed columns", plain, (0..rows).map(changed).collect(), rows),
        of("canal-json insert, another table", plain, (0..rows).map(other).collect(), rows),
        of("canal-json insert, snappy", Compression::Snappy, snappy, rows),
        of("canal insert, 50 rows a message", plain, (0..rows / 50).map(official).collect(), rows / 50 * 50),
    ]
}

/// The same row as values.
fn values(i: u64) -> Row {
    let n = i as i64;
    let at = 1_709_251_200_000_000 + n % 1_000_000;
    vec![
        Datum::Int(n),
        Datum::Int(n * 7919 % 1_000_003),
        Datum::Int(n % 5),
        Datum::Decimal((n % 10_000 * 100 + n % 100).into()),
        Datum::UInt(i % 90 + 1),
        Datum::Text(format!("A thing of the shop, number {}", i % 1000)),
        if i.is_multiple_of(3) { Datum::Null } else { Datum::Text(format!("said \"{i}\" é")) },
        Datum::Datetime(at),
        Datum::Timestamp(at / 1_000_000 * 1_000_000),
        Datum::Double(0.5 + n as f64),
    ]
}

/// As the connector writes it by its own defaults, without schemas.
fn debezium_row(i: u64) -> Vec<u8> {
    let amount = (i % 10_000 * 100 + i % 100) as u32;
    let note = if i.is_multiple_of(3) { "null".to_string() } else { format!(r#""said \"{i}\" é""#) };
    let row = object([
        i.to_string(),
        (i * 7919 % 1_000_003).to_string(),
        (i % 5).to_string(),
        format!("\"{}\"", STANDARD.encode(amount.to_be_bytes())),
        (i % 90 + 1).to_string(),
        format!("\"A thing of the shop, number {}\"", i % 1000),
        note,
        (1_709_251_200_000_000 + i % 1_000_000).to_string(),
        format!("\"2024-03-02T{:02}:00:{:02}Z\"", i % 24, i % 60),
        format!("{i}.5"),
    ]);
    let connector =
        r#""version":"3.6.0.Final","connector":"mysql","name":"shop","ts_ms":1708923625000,"snapshot":"false""#;
    let place = r#""server_id":1,"gtid":null,"file":"mysql-bin.000003","pos":1234,"row":0,"thread":7,"query":null"#;
    let source = format!(r#"{connector},"db":"shop","sequence":null,"table":"orders",{place}"#);
    format!(
        r#"{{"before":null,"after":{row},"source":{{{source}}},"transaction":null,"op":"c","ts_ms":1708923625321}}"#
    )
    .into_bytes()
}

/// Seconds this thread has been on a processor: others that run beside it do not count. Elsewhere than on Linux: of the
/// clock.
fn cpu_seconds(begun: Instant) -> f64 {
    let nanos = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = nanos.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| begun.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Prints the median of the rounds, and the slowest and the fastest.
fn report(name: &str, rows: u64, bytes: usize, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let rate = |seconds: f64| rows as f64 / seconds;
    let (median, slow, fast) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1], seconds[0]);
    let megabytes = bytes as f64 / median / 1e6;
    println!("{name:40} {:>9.0} rows/s ({:.0} to {:.0}) {megabytes:>6.0} MB/s", rate(median), rate(slow), rate(fast));
}

fn measure(name: &str, rows: u64, bytes: usize, rounds: usize, mut run: impl FnMut()) {
    let begun = Instant::now();
    let seconds = |_| {
        let before = cpu_seconds(begun);
        run();
        cpu_seconds(begun) - before
    };
    report(name, rows, bytes, (0..rounds).map(seconds).collect());
}

/// What a reader does with messages: decodes them and hands on what was said.
fn decode<'a>(decoder: &mut dyn Decode, tables: &Tables, messages: impl Iterator<Item = Message<'a>>) {
    let mut said = Vec::new();
    for message in messages {
        decoder.decode(message, tables, &mut said).expect("the messages are fine");
        if said.len() >= 1000 {
            black_box(&said);
            said.clear();
        }
    }
    black_box(&said);
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let named: Vec<String> =
        std::env::args().skip(1).filter(|arg| arg.starts_with(|c: char| c.is_ascii_alphabetic())).collect();
    let wanted = |feed: &str| named.is_empty() || named.iter().any(|name| feed.starts_with(name.as_str()));
    let (rows, rounds) = (numbers.next().unwrap_or(200_000), numbers.next().unwrap_or(5) as usize);
    let tables = Tables::new([table()]);
    for mut feed in feeds(rows).into_iter().filter(|feed| wanted(feed.name)) {
        let values: Vec<&[u8]> = feed.messages.iter().map(|(_, value)| &value[..]).collect();
        let bytes = feed.messages.iter().map(|(key, value)| key.as_ref().map_or(0, Vec::len) + value.len()).sum();
        measure(feed.name, feed.rows, bytes, rounds, || {
            let messages = feed.messages.iter().map(|(key, value)| Message {
                key: key.as_deref(),
                value: Some(value),
                ..Message::default()
            });
            decode(&mut *feed.decoder, &tables, messages);
        });
        // Compressed or framed, they are no JSON by themselves.
        if values.iter().any(|value| !value.starts_with(b"{")) {
            continue;
        }
        measure("    ignored", feed.rows, bytes, rounds, || {
            values.iter().for_each(|message| {
                black_box(serde_json::from_slice::<IgnoredAny>(message).expect("it is JSON"));
            });
        });
        measure("    value", feed.rows, bytes, rounds, || {
            values.iter().for_each(|message| {
                black_box(serde_json::from_slice::<serde_json::Value>(message).expect("it is JSON"));
            });
        });
    }
    #[cfg(feature = "kafka")]
    if wanted("kafka") {
        from_kafka::run(rows, rounds);
    }
}

/// Messages of a broker of this machine.
#[cfg(feature = "kafka")]
mod from_kafka {
    use std::time::{Duration, Instant};

    use rdkafka::producer::{BaseRecord, Producer};
    use tidemill::sources::formats::{Message, Tables};
    use tidemill::sources::log::kafka::{KafkaLog, options};
    use tidemill::sources::log::{Begin, Log, Offsets};

    use super::kafka::Broker;
    use super::{canal_feeds, decode, report, table};

    #[tokio::main]
    pub async fn run(rows: u64, rounds: usize) {
        let broker = match Broker::start().await {
            Ok(broker) => broker,
            Err(reason) => return println!("no broker can be had here: {reason}"),
        };
        let mut feed = canal_feeds(rows).remove(0);
        let bytes = feed.messages.iter().map(|(_, value)| value.len()).sum();
        broker.create_topic("flow", 1, &[]).await;
        let producer = broker.producer();
        for (_, value) in &feed.messages {
            while producer.send(BaseRecord::<[u8], [u8]>::to("flow").partition(0).payload(value)).is_err() {
                producer.flush(Duration::from_secs(20)).expect("the broker takes them");
            }
        }
        producer.flush(Duration::from_secs(20)).expect("the broker takes them");
        let tables = Tables::new([table()]);
        for decodes in [false, true] {
            let mut seconds = Vec::new();
            for _ in 0..rounds {
                let topics = options::Topics::Named(vec!["flow".to_string()]);
                let mut log = KafkaLog::new(options::Options::new(broker.address(), topics));
                let begun = Instant::now();
                log.open(&Offsets::default(), Begin::Earliest).await.expect("the topic is there");
                let mut read = 0;
                while read < rows {
                    let entries = log.next().await.expect("the broker is there");
                    read += entries.len() as u64;
                    if decodes {
                        let messages =
                            entries.iter().map(|entry| Message { value: entry.value.as_deref(), ..Message::default() });
                        decode(&mut *feed.decoder, &tables, messages);
                    }
                }
                seconds.push(begun.elapsed().as_secs_f64());
            }
            let name = if decodes { "canal-json insert from Kafka, decoded" } else { "    read from Kafka alone" };
            report(name, rows, bytes, seconds);
        }
    }
}
