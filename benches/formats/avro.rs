//! Rows and Debezium's events in Avro, written from its specification for this bench alone.

use tidemill::row::datum::Datum;
use tidemill::sources::formats::avro::schema::Schema;
use tidemill::sources::formats::debezium::{DebeziumAvro, Modes};
use tidemill::sources::formats::plain::{Encoding, Plain};
use tidemill::sources::formats::{Decode, Settings};

use super::{Feed, columns, values};

pub fn feeds(rows: u64) -> Vec<Feed> {
    const FRAME: [u8; 5] = [0, 0, 0, 0, 1];
    let feed = |name, mut decoder: Box<dyn Decode>, schema: &str, message: &dyn Fn(u64) -> Vec<u8>| {
        decoder.learn(1, Ok(Schema::parse(schema, &[]).expect("it is a schema").into()));
        Feed { name, decoder, messages: (0..rows).map(|i| (None, message(i))).collect(), rows }
    };
    let plain_row = |i| {
        let mut out = FRAME.to_vec();
        row(&mut out, i, false);
        out
    };
    let event = |i| {
        // No row before; the row; source, op and time.
        let mut out = [&FRAME[..], &[0, 2]].concat();
        row(&mut out, i, true);
        ["3.6.0.Final", "mysql", "shop"].iter().for_each(|text| bytes(&mut out, text.as_bytes()));
        long(&mut out, 1_708_923_625_000);
        ["shop", "orders", "mysql-bin.000003", "c"].iter().for_each(|text| bytes(&mut out, text.as_bytes()));
        long(&mut out, 1_708_923_625_321);
        out
    };
    let text = |name: &str| format!(r#"{{"name":"{name}","type":"string"}}"#);
    let source = ["version", "connector", "name"].map(text).join(",")
        + r#",{"name":"ts_ms","type":"long"},"#
        + &["db", "table", "file"].map(text).join(",");
    let envelope = format!(
        r#"{{"type":"record","name":"Envelope","fields":[{{"name":"before","type":["null",{}]}},
            {{"name":"after","type":["null","Value"]}},
            {{"name":"source","type":{{"type":"record","name":"Source","fields":[{source}]}}}},
            {},{{"name":"ts_ms","type":"long"}}]}}"#,
        row_type(true),
        text("op")
    );
    let plain = Box::new(Plain::new(Settings::default(), Encoding::Avro));
    vec![
        feed("avro row", plain, &row_type(false), &plain_row),
        feed("debezium insert, avro", Box::new(DebeziumAvro::new(Modes::default())), &envelope, &event),
    ]
}

/// The row's type in Avro, its times as Avro's logical types or as Debezium's names.
fn row_type(names: bool) -> String {
    let of = |base: &str, logical: &str, connect: &str| match names {
        true => format!(r#"{{"type":"{base}","connect.name":"io.debezium.time.{connect}"}}"#),
        false => format!(r#"{{"type":"{base}","logicalType":"{logical}"}}"#),
    };
    let types = [
        "\"long\"".to_string(),
        "\"long\"".to_string(),
        "\"int\"".to_string(),
        r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#.to_string(),
        "\"long\"".to_string(),
        "\"string\"".to_string(),
        "\"string\"".to_string(),
        of("long", "local-timestamp-micros", "MicroTimestamp"),
        match names {
            true => of("string", "", "ZonedTimestamp"),
            false => of("long", "timestamp-millis", ""),
        },
        "\"double\"".to_string(),
    ];
    let fields = columns().into_iter().zip(types).map(|((name, ..), of)| match name {
        "id" => format!(r#"{{"name":"{name}","type":{of}}}"#),
        _ => format!(r#"{{"name":"{name}","type":["null",{of}]}}"#),
    });
    format!(r#"{{"type":"record","name":"Value","fields":[{}]}}"#, fields.collect::<Vec<_>>().join(","))
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn row(out: &mut Vec<u8>, i: u64, zoned: bool) {
    for (place, value) in values(i).into_iter().enumerate() {
        if place > 0 {
            long(out, (value != Datum::Null) as i64);
        }
        match value {
            Datum::Null => {}
            Datum::Int(value) | Datum::Datetime(value) => long(out, value),
            Datum::UInt(value) => long(out, value as i64),
            Datum::Decimal(value) => bytes(out, &value.as_i128().to_be_bytes()[8..]),
            Datum::Text(text) => bytes(out, text.as_bytes()),
            Datum::Timestamp(_) if zoned => bytes(out, b"2024-03-02T12:34:56Z"),
            Datum::Timestamp(micros) => long(out, micros / 1000),
            Datum::Double(value) => out.extend(value.to_le_bytes()),
            other => unreachable!("the row has no {other:?}"),
        }
    }
}
