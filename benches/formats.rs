//! Decoders of changelog formats, against a plain JSON reader on the same bytes.
//!
//! Printed, a line a feed and reader, is the best of the rounds: rows and MB a second of the thread's processor time. A
//! row has ten columns; `ignored` walks the JSON and keeps nothing, `value` builds a tree of it: no decoder can be much
//! faster than the first, and none should be as slow as the second. With few rows the processor time is too coarse.
//! `cargo bench --bench formats -- [rows] [rounds]`.

use std::hint::black_box;
use std::time::Instant;

use serde::de::IgnoredAny;
use tidemill::row::ObjectId;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::canal::{Canal, Expects};
use tidemill::sources::formats::{Compression, Decode, Message, Settings, Tables};

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

fn tables() -> Tables {
    let columns: Vec<Column> = columns().into_iter().map(|(name, t, ..)| Column::new(name, t, name != "id")).collect();
    let schema = Schema { columns, key: Some(vec![0]) };
    Tables::new([FollowedTable::declared(ObjectId(1), "shop", "orders", schema)])
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
fn ticdc(kind: &str, i: u64, rows: &str) -> Vec<u8> {
    let codes = object(columns().into_iter().map(|(.., code)| code.to_string()));
    let types = object(columns().into_iter().map(|(_, _, word, _)| format!("\"{word}\"")));
    let head = r#""id":0,"database":"shop","table":"orders","pkNames":["id"],"isDdl":false"#;
    let times = r#""es":1708923625607,"ts":1708923626001,"sql":"""#;
    let commit = 447_984_074_911_121_409 + i;
    let tidb = format!(r#""_tidb":{{"commitTs":{commit}}}"#);
    format!(r#"{{{head},"type":"{kind}",{times},"sqlType":{codes},"mysqlType":{types},{rows},{tidb}}}"#).into_bytes()
}

/// A feed's name, its messages, how many rows they have.
fn feeds(rows: u64) -> Vec<(&'static str, Compression, Vec<Vec<u8>>, u64)> {
    let inserts: Vec<_> =
        (0..rows).map(|i| ticdc("INSERT", i, &format!(r#""old":null,"data":[{}]"#, row(i, i)))).collect();
    let update = |i| ticdc("UPDATE", i, &format!(r#""old":[{}],"data":[{}]"#, row(i, i), row(i, i + 1)));
    let changed = |i| ticdc("UPDATE", i, &format!(r#""old":[{{"status":"9"}}],"data":[{}]"#, row(i, i)));
    let other = |i| {
        let message = String::from_utf8(ticdc("INSERT", i, &format!(r#""old":null,"data":[{}]"#, row(i, i))));
        message.expect("it was made of text").replace("\"orders\"", "\"others\"").into_bytes()
    };
    let packed = |message: &Vec<u8>| snap::raw::Encoder::new().compress_vec(message).expect("a message is small");
    let official = |batch: u64| {
        let rows: Vec<String> = (batch * 50..batch * 50 + 50).map(|i| row(i, i)).collect();
        let head = r#""database":"shop","table":"orders","isDdl":false,"type":"INSERT","es":1708923625000"#;
        format!(r#"{{"data":[{}],{head},"old":null,"sql":""}}"#, rows.join(",")).into_bytes()
    };
    let snappy: Vec<_> = inserts.iter().map(packed).collect();
    vec![
        ("ticdc insert", Compression::None, inserts, rows),
        ("ticdc update", Compression::None, (0..rows).map(update).collect(), rows),
        ("ticdc update, changed columns", Compression::None, (0..rows).map(changed).collect(), rows),
        ("ticdc insert, another table", Compression::None, (0..rows).map(other).collect(), rows),
        ("ticdc insert, snappy", Compression::Snappy, snappy, rows),
        ("canal insert, 50 rows a message", Compression::None, (0..rows / 50).map(official).collect(), rows / 50 * 50),
    ]
}

/// Seconds this thread has been on a processor: others that run beside it do not count. Elsewhere than on Linux: of the
/// clock.
fn cpu_seconds(begun: Instant) -> f64 {
    let nanos = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = nanos.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanos.map_or_else(|| begun.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Prints the best of the rounds.
fn measure(name: &str, rows: u64, bytes: usize, rounds: usize, mut run: impl FnMut()) {
    let begun = Instant::now();
    let seconds = |_| {
        let before = cpu_seconds(begun);
        run();
        cpu_seconds(begun) - before
    };
    let best = (0..rounds).map(seconds).fold(f64::MAX, f64::min);
    println!("{name:45} {:>10.0} rows/s {:>8.0} MB/s", rows as f64 / best, bytes as f64 / best / 1e6);
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (rows, rounds) = (numbers.next().unwrap_or(200_000), numbers.next().unwrap_or(5) as usize);
    let tables = tables();
    for (name, compression, messages, rows) in feeds(rows) {
        let bytes = messages.iter().map(Vec::len).sum();
        let settings = Settings { compression, ..Settings::default() };
        let mut decoder = Canal::new(settings, Expects::Either);
        let mut said = Vec::new();
        measure(name, rows, bytes, rounds, || {
            for message in &messages {
                let message = Message { value: Some(message), ..Message::default() };
                decoder.decode(message, &tables, &mut said).expect("the messages are fine");
                // As a reader does, which hands on what was said.
                if said.len() >= 1000 {
                    black_box(&said);
                    said.clear();
                }
            }
        });
        if compression == Compression::None {
            measure("    ignored", rows, bytes, rounds, || {
                messages.iter().for_each(|message| {
                    black_box(serde_json::from_slice::<IgnoredAny>(message).expect("it is JSON"));
                });
            });
            measure("    value", rows, bytes, rounds, || {
                messages.iter().for_each(|message| {
                    black_box(serde_json::from_slice::<serde_json::Value>(message).expect("it is JSON"));
                });
            });
        }
    }
}
