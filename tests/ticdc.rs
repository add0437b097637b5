//! TiCDC's protocols there and back: what our encoder writes of random tables, the decoders read.
//!
//! What this cannot catch is a mistake that both share; tests/golden/feeds has messages from TiCDC's documents.

#[path = "support/random.rs"]
mod random;
#[path = "support/ticdc.rs"]
mod ticdc;

use random::{Random, row, table};
use ticdc::{Dispatch, Encoded, Encoder, Format, action, dispatch, split};
use tidemill::row::datum::Datum;
use tidemill::row::schema::Schema;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::canal::{Canal, Expects};
use tidemill::sources::formats::open::OpenProtocol;
use tidemill::sources::formats::simple::Simple;
use tidemill::sources::formats::{BadMessage, Compression, Decode, Message, Op, Row, Said, Settings, Tables};

const TABLES: u64 = 150;
const ROWS_A_TABLE: u64 = 12;
const MUTATIONS: u64 = 100_000;

fn decoder(encoder: &Encoder) -> Box<dyn Decode> {
    let settings = Settings { time_zone_seconds: encoder.time_zone_seconds, compression: encoder.compression };
    match encoder.format {
        Format::CanalJson => Box::new(Canal::new(settings, Expects::TiCdc)),
        Format::OpenProtocol => Box::new(OpenProtocol::new(settings)),
        _ => Box::new(Simple::new(settings)),
    }
}

fn read(decoder: &mut dyn Decode, message: &Encoded, tables: &Tables) -> Result<Vec<Said>, BadMessage> {
    let mut said = Vec::new();
    let message = Message { key: message.0.as_deref(), value: Some(&message.1), ..Message::default() };
    decoder.decode(message, tables, &mut said).map(|()| said)
}

fn ops(said: Vec<Said>, commit: u64) -> Vec<Op> {
    let op = |said| match said {
        Said::Row(change) => {
            assert_eq!((change.commit, change.committed_ms), (Some(commit), Some(commit >> 18)));
            change.op
        }
        other => panic!("{other:?} is no row"),
    };
    said.into_iter().map(op).collect()
}

fn encoders() -> Vec<Encoder> {
    let mut encoders = Vec::new();
    for plain in [Encoder::canal_json(), Encoder::open_protocol(), Encoder::simple()] {
        encoders.push(plain.clone());
        encoders.push(Encoder { time_zone_seconds: 8 * 3600, compression: Compression::Lz4, ..plain.clone() });
        encoders.push(Encoder { only_updated_columns: true, compression: Compression::Snappy, ..plain.clone() });
        encoders.push(Encoder { time_zone_seconds: -12_600, delete_only_key: true, ..plain });
    }
    encoders.push(Encoder { old_values: false, ..Encoder::open_protocol() });
    encoders
}

/// What a change of a row says under the encoder's settings.
fn expected(encoder: &Encoder, table: &FollowedTable, before: Option<&Row>, after: Option<&Row>) -> Vec<Op> {
    let key = table.schema.key.as_deref().unwrap_or_default();
    let deleted = |row: &Row| match encoder.delete_only_key {
        false => row.clone(),
        true => row.iter().enumerate().map(|(i, v)| if key.contains(&i) { v.clone() } else { Datum::Null }).collect(),
    };
    match (before, after) {
        // The open protocol's INSERT looks as an UPDATE without its old row.
        (None, Some(after)) if encoder.format == Format::OpenProtocol => vec![Op::Put(after.clone())],
        (None, Some(after)) => vec![Op::Insert(after.clone())],
        (Some(before), None) => vec![Op::Delete(deleted(before))],
        (Some(before), Some(after)) => {
            let moved = encoder.old_values && key.iter().any(|i| before[*i] != after[*i]);
            let put = match (moved, encoder.old_values) {
                (true, _) => Op::Insert(after.clone()),
                (false, true) => Op::Update(after.clone()),
                (false, false) => Op::Put(after.clone()),
            };
            moved.then(|| Op::Delete(before.clone())).into_iter().chain([put]).collect()
        }
        (None, None) => Vec::new(),
    }
}

#[test]
fn rows_of_every_type_come_back_as_they_went() {
    for encoder in encoders() {
        for seed in 0..TABLES {
            let mut random = Random(seed);
            let table = table(&mut random);
            let tables = Tables::new([table.clone()]);
            let mut decoder = decoder(&encoder);
            for _ in 0..ROWS_A_TABLE {
                let (one, other) = (row(&mut random, &table), row(&mut random, &table));
                let commit = random.next() >> 1;
                let (before, after) = match random.below(3) {
                    0 => (None, Some(&one)),
                    1 => (Some(&one), None),
                    _ => (Some(&one), Some(&other)),
                };
                let message = encoder.row(&table, before, after, commit);
                let said = read(&mut *decoder, &message, &tables)
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", String::from_utf8_lossy(&message.1)));
                assert_eq!(ops(said, commit), expected(&encoder, &table, before, after), "seed {seed}, {encoder:?}");
            }
        }
    }
}

#[test]
fn watermarks_and_statements_come_back() {
    let table = table(&mut Random(1));
    let tables = Tables::new([table.clone()]);
    for encoder in encoders() {
        let mut decoder = decoder(&encoder);
        let ts = 447_984_124_732_375_041;
        assert_eq!(read(&mut *decoder, &encoder.watermark(ts), &tables), Ok(vec![Said::Watermark(ts)]));
        let sql = "ALTER TABLE t ADD COLUMN \"x\" INT /* <&> */";
        let said =
            read(&mut *decoder, &encoder.ddl(&table.database, &table.name, sql, action::ADD_COLUMN, ts), &tables);
        match said.as_deref() {
            Ok([Said::Schema(change)]) => {
                assert_eq!((change.commit, change.sql.as_str()), (Some(ts), sql));
                assert_eq!((&change.database, &change.table), (&table.database, &table.name));
            }
            other => panic!("{other:?}"),
        }
        let truncate = encoder.ddl(&table.database, &table.name, "TRUNCATE TABLE t", action::TRUNCATE_TABLE, ts);
        let said = read(&mut *decoder, &truncate, &tables).expect("it is well formed");
        match encoder.format {
            // Told as any other statement; who reads it knows what it means.
            Format::CanalJson => {
                assert!(matches!(&said[..], [Said::Schema(change)] if change.sql == "TRUNCATE TABLE t"))
            }
            _ => assert_eq!(ops(said, ts), [Op::Truncate]),
        }
    }
}

#[test]
fn batches_keep_their_order_and_are_read_whole_or_not_at_all() {
    let mut random = Random(7);
    let (followed, mut other) = (table(&mut random), table(&mut random));
    other.name = "elsewhere".into();
    let tables = Tables::new([followed.clone()]);
    let encoder = Encoder::open_protocol();
    let mut decoder = decoder(&encoder);
    let rows: Vec<Row> = (0..16).map(|_| row(&mut random, &followed)).collect();
    let mut messages: Vec<Encoded> = rows.iter().map(|row| encoder.row(&followed, None, Some(row), 9)).collect();
    messages.insert(3, encoder.row(&other, None, Some(&row(&mut random, &other)), 9));
    let puts: Vec<Op> = rows.into_iter().map(Op::Put).collect();
    assert_eq!(ops(read(&mut *decoder, &ticdc::join(&messages), &tables).unwrap(), 9), puts);

    messages.push((Some([&1u64.to_be_bytes()[..], &1u64.to_be_bytes(), b"{"].concat()), 0u64.to_be_bytes().to_vec()));
    let (key, value) = ticdc::join(&messages);
    let mut said = vec![Said::Watermark(1)];
    let message = Message { key: key.as_deref(), value: Some(&value), ..Message::default() };
    assert!(decoder.decode(message, &tables, &mut said).is_err());
    assert_eq!(said, [Said::Watermark(1)]);
}

#[test]
fn a_row_of_a_table_that_is_not_followed_is_not_looked_at() {
    let table = table(&mut Random(3));
    let row = row(&mut Random(4), &table);
    let tables = Tables::default();
    let (key, _) = Encoder::open_protocol().row(&table, None, Some(&row), 5);
    let garbage = (key, [&5u64.to_be_bytes()[..], b"\xff\xfe{[\0"].concat());
    assert_eq!(read(&mut OpenProtocol::new(Settings::default()), &garbage, &tables), Ok(Vec::new()));
    let message = Encoder::simple().row(&table, None, Some(&row), 5);
    assert_eq!(read(&mut Simple::new(Settings::default()), &message, &tables), Ok(Vec::new()));
}

/// Changes a message somewhere: bits, bytes, lengths, pieces.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const EDGES: &[u8] = b"\0\x01\x7f\x80\xff{}[]\",:\\-09eEnulx";
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let to = (at + random.below(24) as usize).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len() as u64) as usize],
            2 => bytes.insert(at, EDGES[random.below(EDGES.len() as u64) as usize]),
            3 => drop(bytes.drain(at..to)),
            4 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..to].to_vec();
                let again = random.below(bytes.len() as u64 + 1) as usize;
                bytes.splice(again..again, piece);
            }
        }
    }
}

#[test]
fn mutated_messages_are_refused_or_read_and_nothing_else() {
    let encoders = encoders();
    let (mut read_well, mut refused) = (0, 0);
    for seed in 0..MUTATIONS / 100 {
        let mut random = Random(seed);
        let table = table(&mut random);
        let tables = Tables::new([table.clone()]);
        let encoder = &encoders[random.below(encoders.len() as u64) as usize];
        let (one, other) = (row(&mut random, &table), row(&mut random, &table));
        let mut decoder = decoder(encoder);
        let message = match random.below(5) {
            0 => encoder.watermark(5),
            1 => encoder.ddl(&table.database, &table.name, "CREATE TABLE t (a INT)", action::CREATE_TABLE, 5),
            2 => encoder.row(&table, Some(&one), None, 5),
            3 if encoder.format == Format::OpenProtocol => {
                ticdc::join(&[encoder.row(&table, None, Some(&one), 5), encoder.row(&table, None, Some(&other), 6)])
            }
            _ => encoder.row(&table, Some(&one), Some(&other), 5),
        };
        for _ in 0..100 {
            let (mut key, mut value) = message.clone();
            match &mut key {
                Some(key) if random.below(3) == 0 => mutate(&mut random, key),
                _ => mutate(&mut random, &mut value),
            }
            match read(&mut *decoder, &(key, value), &tables) {
                Ok(said) => {
                    read_well += 1;
                    said.iter().for_each(|said| fits(said, &table.schema));
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read_well > 1000 && refused > 1000, "{read_well} read, {refused} refused");
}

/// Values that were read are values of their columns, whatever the bytes were.
#[track_caller]
fn fits(said: &Said, schema: &Schema) {
    let Said::Row(change) = said else { return };
    let (Op::Put(row) | Op::Insert(row) | Op::Update(row) | Op::Delete(row)) = &change.op else { return };
    assert_eq!(row.len(), schema.columns.len());
    for (value, column) in row.iter().zip(&schema.columns) {
        let array = tidemill::row::datum::single(value, &column.sql_type).expect("a value of its type");
        assert_eq!(Datum::of(&array, &column.sql_type, 0), *value);
    }
}

#[test]
fn rows_are_dispatched_and_split_as_ticdc_does() {
    let mut random = Random(11);
    let table = table(&mut random);
    let rows: Vec<Row> = (0..50).map(|_| row(&mut random, &table)).collect();
    for by in [Dispatch::Table, Dispatch::IndexValue, Dispatch::Ts] {
        assert!(rows.iter().all(|row| dispatch(by, &table, row, 17, 3) < 3));
    }
    assert!(rows.iter().all(|row| dispatch(Dispatch::Ts, &table, row, 17, 3) == 2));
    let moved = split(&table, Some(&rows[0]), Some(&rows[1]));
    assert_eq!(moved, [(Some(&rows[0]), None), (None, Some(&rows[1]))]);
    assert_eq!(split(&table, Some(&rows[0]), Some(&rows[0])).len(), 1);
}
