//! What the store promises without faults, over both engines.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::i256;
use arrow::record_batch::RecordBatch;

use super::home::*;
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::row::{ObjectId, Position, Ts};
use crate::store::kv::Space;
use crate::store::{Changes, LOG_AGE_MS_MAX, SPILL_BYTES, StoreError, TickHeader, keys};

fn memory(table: ObjectId, changes: &[(Row, i64)]) -> Vec<Changes> {
    vec![Changes::in_memory(vec![(table, delta(changes))])]
}

#[test]
fn a_new_store_is_empty_and_keeps_its_id() {
    for home in Home::both() {
        let store = home.open().unwrap();
        let id = store.id();
        assert_eq!(store.last_tick(), TickHeader::default());
        assert!(store.positions().is_empty() && store.catalog().unwrap().is_empty());
        drop(store);
        assert_eq!(home.open().unwrap().id(), id);
    }
}

#[test]
fn a_tick_is_visible_whole_and_survives_reopening() {
    for home in Home::both() {
        let mut store = loaded(&home);
        let before = store.snapshot();
        let changes = delta(&[(row(1, "a"), 1), (row(2, "b"), 1), ((3, None), 1)]);
        let twice = delta(&[(row(5, "x"), 1), (row(5, "x"), 1), (row(6, "y"), 1), (row(6, "y"), -1)]);
        let both = Changes::in_memory(vec![(KEYED, changes), (KEYLESS, twice)]);
        let header = store.commit(&tick(20, vec![], vec![both])).unwrap();
        assert_eq!((header.number, header.ts), (2, Ts(20)));
        assert_eq!(scan(&before, KEYED), Rows::new());
        drop(before);
        for _ in 0..2 {
            let now = store.snapshot();
            assert_eq!(now.tick(), header);
            assert_eq!(scan(&now, KEYED), Rows::from([(row(1, "a"), 1), (row(2, "b"), 1), ((3, None), 1)]));
            assert_eq!(scan(&now, KEYLESS), Rows::from([(row(5, "x"), 2)]));
            assert_eq!((now.rows(KEYED), now.rows(KEYLESS)), (3, 2));
            assert_eq!(store.positions(), [(ObjectId(9), Position("at 20".to_string()))].into());
            assert_eq!(store.ceiling(), Ts(1 << 40));
            drop((now, store));
            store = home.open().unwrap();
        }
    }
}

#[test]
fn the_last_diff_of_a_key_wins() {
    for home in Home::both() {
        let store = loaded(&home);
        let start = [(row(1, "a"), 1), (row(2, "b"), 1), (row(3, "c"), 1)];
        store.commit(&tick(20, vec![], memory(KEYED, &start))).unwrap();
        let update = [(row(1, "a"), -1), (row(1, "A"), 1)];
        let move_key = [(row(2, "b"), -1), (row(4, "b"), 1)];
        let gone_and_back = [(row(3, "c"), -1), (row(3, "d"), 1), (row(3, "d"), -1), (row(3, "e"), 1)];
        let come_and_gone = [(row(9, "x"), 1), (row(9, "x"), -1)];
        let changes = [&update[..], &move_key, &gone_and_back, &come_and_gone].concat();
        store.commit(&tick(30, vec![], memory(KEYED, &changes))).unwrap();
        let want = Rows::from([(row(1, "A"), 1), (row(4, "b"), 1), (row(3, "e"), 1)]);
        assert_eq!(scan(&store.snapshot(), KEYED), want);
        assert_eq!(store.snapshot().rows(KEYED), 3);
    }
}

#[test]
fn a_keyless_row_cannot_be_there_less_than_never() {
    for home in Home::both() {
        let store = loaded(&home);
        let changes = [(row(1, "a"), 1), (row(2, "b"), -1)];
        let error = store.commit(&tick(20, vec![], memory(KEYLESS, &changes))).unwrap_err();
        assert!(matches!(error, StoreError::Row { table: KEYLESS, .. }), "{error}");
        assert_eq!((store.last_tick().number, scan(&store.snapshot(), KEYLESS)), (1, Rows::new()));
        // Staged, the tick is durable before its rows are known: the table says so when it is read.
        let changes = staged(&store, &[(KEYLESS, delta(&changes))]).unwrap();
        store.commit(&tick(20, vec![], vec![changes])).unwrap();
        let read: Result<Vec<_>, _> = store.snapshot().scan(KEYLESS, &[0], 4096).collect();
        assert!(matches!(read.unwrap_err(), StoreError::Row { table: KEYLESS, .. }));
    }
}

#[test]
fn staged_changes_apply_in_order_with_those_in_memory() {
    for home in Home::both() {
        let mut store = loaded(&home);
        let first = Changes::in_memory(vec![(KEYED, delta(&[(row(1, "a"), 1), (row(2, "b"), 1)]))]);
        let deltas = [
            (KEYED, delta(&[(row(1, "a"), -1), (row(1, "A"), 1)])),
            (KEYLESS, delta(&[(row(5, "x"), 1), (row(5, "x"), 1)])),
            (KEYED, delta(&[(row(2, "b"), -1), (row(3, "c"), 1)])),
        ];
        let second = staged(&store, &deltas).unwrap();
        assert_eq!(second.rows(), 6);
        let read: Vec<_> = second.deltas(&store).map(Result::unwrap).collect();
        assert_eq!(read, [deltas[0].clone(), deltas[2].clone(), deltas[1].clone()]);
        let third = Changes::in_memory(vec![(KEYED, delta(&[(row(1, "A"), -1)]))]);
        store.commit(&tick(20, vec![], vec![first, second, third])).unwrap();
        for _ in 0..2 {
            assert_eq!(scan(&store.snapshot(), KEYED), Rows::from([(row(3, "c"), 1)]));
            assert_eq!(scan(&store.snapshot(), KEYLESS), Rows::from([(row(5, "x"), 2)]));
            assert_eq!((store.snapshot().rows(KEYED), store.snapshot().rows(KEYLESS)), (1, 2));
            let mut replayed = Rows::new();
            for (ts, delta) in log(&store, KEYED, Ts(10), Ts(20)).unwrap() {
                assert_eq!(ts, Ts(20));
                add_delta(&mut replayed, &delta);
            }
            assert_eq!(replayed, Rows::from([(row(3, "c"), 1)]));
            drop(store);
            store = home.open().unwrap();
        }
    }
}

#[test]
fn a_stage_spills_and_what_no_tick_names_is_deleted() {
    for home in Home::both() {
        let store = loaded(&home);
        let text = "t".repeat(1 << 20);
        let mut stage = store.stage();
        let rows = SPILL_BYTES as i64 / text.len() as i64 + 4;
        for id in 0..rows {
            stage.push(KEYED, delta(&[(row(id, &text), 1)])).unwrap();
        }
        let changes = stage.finish().unwrap();
        assert!(changes.bytes() > SPILL_BYTES);
        let segments = |store: &crate::store::Store| store.kv.snapshot().scan(Space::Segments, &[0], &[255; 9]).count();
        assert!(segments(&store) > 0);
        drop(changes.clone());
        assert!(segments(&store) > 0, "a handle is left");
        drop(changes);
        assert_eq!(segments(&store), 0);
        let mut stage = store.stage();
        for id in 0..rows {
            stage.push(KEYED, delta(&[(row(id, &text), 1)])).unwrap();
        }
        store.commit(&tick(20, vec![], vec![stage.finish().unwrap()])).unwrap();
        assert_eq!(store.snapshot().rows(KEYED), rows as u64);
        assert_eq!(store.snapshot().scan(KEYED, &[0], 1 << 20).map(|d| d.unwrap().len()).sum::<usize>(), rows as usize);
        assert!(segments(&store) > 0, "named: it is the log");
        // Too large together, though each is in memory.
        let half: Vec<(Row, i64)> = (0..rows / 2 + 1).map(|id| (row(id, &text), -1)).collect();
        let changes = [memory(KEYED, &half), memory(KEYED, &[]), memory(KEYED, &[(row(rows, &text.repeat(9)), 1)])];
        store.commit(&tick(30, vec![], changes.concat())).unwrap();
        assert_eq!(store.snapshot().rows(KEYED), (rows - rows / 2) as u64);
    }
}

#[test]
fn a_generation_replaces_the_rows_and_cuts_the_log() {
    for home in Home::both() {
        let store = loaded(&home);
        store.commit(&tick(20, vec![], memory(KEYED, &[(row(1, "old"), 1)]))).unwrap();
        let old = store.snapshot();
        let generation = load(&store, KEYED, &[row(2, "two"), row(1, "one")]).unwrap();
        assert_eq!(scan(&store.snapshot(), KEYED), Rows::from([(row(1, "old"), 1)]), "not installed yet");
        let changes = memory(KEYED, &[(row(2, "two"), -1), (row(2, "TWO"), 1)]);
        store.commit(&tick(30, vec![(KEYED, generation)], changes)).unwrap();
        let want = Rows::from([(row(1, "one"), 1), (row(2, "TWO"), 1)]);
        assert_eq!(scan(&store.snapshot(), KEYED), want);
        assert_eq!(scan(&old, KEYED), Rows::from([(row(1, "old"), 1)]), "an older snapshot keeps its rows");
        assert!(log(&store, KEYED, Ts(10), Ts(30)).is_none() && log(&store, KEYED, Ts(29), Ts(30)).is_none());
        assert_eq!(log(&store, KEYED, Ts(30), Ts(40)), Some(vec![]));
        assert_eq!(log(&store, KEYLESS, Ts(10), Ts(30)), Some(vec![]), "only this table's log is cut");
        drop((old, store));
        let store = home.open().unwrap();
        assert_eq!(scan(&store.snapshot(), KEYED), want);
        assert_eq!(store.snapshot().rows(KEYED), 2);
    }
}

#[test]
fn a_load_takes_rows_in_any_order_and_more_than_one_run() {
    for home in Home::both() {
        let store = loaded(&home);
        let text = "t".repeat(1000);
        const ROWS: i64 = 60_000;
        let mut loads = [KEYED, KEYLESS].map(|table| store.load(table).unwrap());
        for part in 0..6 {
            let rows: Vec<Row> = (0..ROWS / 6).rev().map(|i| row(i * 6 + part, &text)).collect();
            loads[0].push(batch(&rows)).unwrap();
            let twins: Vec<Row> = (0..ROWS / 6).map(|i| row(i, &text)).collect();
            loads[1].push(batch(&twins)).unwrap();
        }
        let [keyed, keyless] = loads.map(|load| load.finish().unwrap());
        store.commit(&tick(20, vec![(KEYED, keyed), (KEYLESS, keyless)], vec![])).unwrap();
        let snapshot = store.snapshot();
        assert_eq!((snapshot.rows(KEYED), snapshot.rows(KEYLESS)), (ROWS as u64, ROWS as u64));
        let keyed = scan(&snapshot, KEYED);
        assert!(keyed.len() == ROWS as usize && keyed.values().all(|&count| count == 1));
        let keyless = scan(&snapshot, KEYLESS);
        assert!(keyless.len() == ROWS as usize / 6 && keyless.values().all(|&count| count == 6));
    }
}

#[test]
fn an_unfinished_or_unnamed_load_leaves_nothing() {
    for home in Home::both() {
        let store = loaded(&home);
        let spaces = store.kv.spaces();
        let mut unfinished = store.load(KEYED).unwrap();
        unfinished.push(batch(&[row(1, "a")])).unwrap();
        drop(unfinished);
        assert_eq!(store.kv.spaces(), spaces);
        load(&store, KEYED, &[row(1, "a")]).unwrap();
        assert_ne!(store.kv.spaces(), spaces);
        drop(store);
        let store = home.open().unwrap();
        assert_eq!(store.kv.spaces(), spaces);
        let error = store.commit(&tick(20, vec![(KEYED, 99)], vec![])).unwrap_err();
        assert!(matches!(error, StoreError::Table { table: KEYED, .. }), "{error}");
    }
}

#[test]
fn tables_come_and_go() {
    for home in Home::both() {
        let store = loaded(&home);
        store.create_table(KEYED, &schema(KEYED)).unwrap();
        assert!(matches!(store.create_table(KEYED, &schema(KEYLESS)), Err(StoreError::Table { .. })));
        let other = ObjectId(3);
        store.create_table(other, &schema(KEYED)).unwrap();
        assert!(!store.is_loaded(other) && store.is_loaded(KEYED));
        assert!(matches!(
            store.commit(&tick(20, vec![], memory(other, &[(row(1, "a"), 1)]))),
            Err(StoreError::Table { table, .. }) if table == other
        ));
        store.commit(&tick(20, vec![], memory(KEYED, &[(row(1, "a"), 1)]))).unwrap();
        let before = store.snapshot();
        store.drop_table(KEYED).unwrap();
        store.drop_table(KEYED).unwrap();
        assert!(log(&store, KEYED, Ts(10), Ts(20)).is_none() && store.load(KEYED).is_err());
        assert_eq!(scan(&before, KEYED).len(), 1);
        assert_eq!(scan(&store.snapshot(), KEYED), Rows::new());
        let late = store.commit(&tick(30, vec![(KEYED, 1)], memory(KEYED, &[(row(2, "b"), 1)])));
        assert_eq!(late.unwrap().number, 3, "changes of a dropped table are passed over");
        let (from, until) = keys::log_range(KEYED, Ts(0), Ts(u64::MAX));
        assert_eq!(store.kv.snapshot().scan(Space::Main, &from, &until).count(), 0, "its log went with it");
        drop((before, store));
        let store = home.open().unwrap();
        assert!(!store.is_loaded(KEYED) && store.is_loaded(KEYLESS));
    }
}

#[test]
fn the_catalog_is_written_at_once() {
    for home in Home::both() {
        let store = home.open().unwrap();
        let put = |name: &str, value: &str| (name.to_string(), Some(value.as_bytes().to_vec()));
        store.write_catalog(vec![put("a", "1"), put("b", "2"), put("", "3")]).unwrap();
        store.write_catalog(vec![("b".to_string(), None), put("a", "9")]).unwrap();
        drop(store);
        let catalog = home.open().unwrap().catalog().unwrap();
        assert_eq!(catalog, [("".to_string(), b"3".to_vec()), ("a".to_string(), b"9".to_vec())].into());
    }
}

#[test]
fn the_log_is_trimmed_by_readers_and_by_age() {
    for home in Home::both() {
        let mut store = loaded(&home);
        for n in 2..=200u64 {
            store.commit(&tick(n * 10, vec![], memory(KEYED, &[(row(n as i64, "a"), 1)]))).unwrap();
        }
        let held = store.log(KEYED, Ts(10), Ts(2000));
        store.trim(Ts(1500)).unwrap();
        let crate::store::Log::Whole(held) = held else { panic!("cut before the trim") };
        assert_eq!(held.map(Result::unwrap).count(), 199, "a reader keeps what it began to read");
        for _ in 0..2 {
            assert!(log(&store, KEYED, Ts(1490), Ts(2000)).is_none());
            assert_eq!(log(&store, KEYED, Ts(1500), Ts(2000)).unwrap().len(), 50);
            assert_eq!(log(&store, KEYED, Ts(1600), Ts(1700)).unwrap().len(), 10);
            assert_eq!(log(&store, KEYED, Ts(2000), Ts(u64::MAX)).unwrap().len(), 0);
            drop(store);
            store = home.open().unwrap();
        }
        let late = 2000 + LOG_AGE_MS_MAX - 100;
        store.commit(&tick(late, vec![], memory(KEYED, &[(row(-1, "a"), 1)]))).unwrap();
        assert!(log(&store, KEYED, Ts(1880), Ts(late)).is_none());
        assert_eq!(log(&store, KEYED, Ts(1890), Ts(late)).unwrap().len(), 12);
        assert_eq!(scan(&store.snapshot(), KEYED).len(), 200);
        drop(store);
        assert_eq!(home.open().unwrap().last_tick().number, 201);
    }
}

#[test]
fn a_row_that_the_schema_cannot_hold_is_refused() {
    for home in Home::both() {
        let store = loaded(&home);
        let rows = batch(&[row(1, "a")]);
        let swapped: Vec<ArrayRef> = vec![rows.column(1).clone(), rows.column(0).clone()];
        let schema = rows.schema().project(&[1, 0]).unwrap();
        let swapped = Delta::inserts(RecordBatch::try_new(Arc::new(schema), swapped).unwrap());
        let narrow = Delta::inserts(rows.project(&[0]).unwrap());
        for delta in [swapped, narrow] {
            let changes = vec![Changes::in_memory(vec![(KEYED, delta)])];
            let error = store.commit(&tick(20, vec![], changes)).unwrap_err();
            assert!(matches!(error, StoreError::Row { table: KEYED, .. }), "{error}");
        }
        assert_eq!(store.last_tick().number, 1);
    }
}

/// One column of each type, NULL and not, under keys of that type.
#[test]
#[expect(clippy::too_many_lines, reason = "one case after another")]
fn every_type_comes_back_as_it_went() {
    let int = |bytes, unsigned| SqlType::Int { bytes, unsigned };
    let decimal = |precision, scale| SqlType::Decimal { precision, scale };
    let text = |t: &str| Datum::Text(t.to_string());
    let labels = || vec!["a".to_string(), "b".to_string()];
    let values = vec![
        (SqlType::Bool, Datum::Bool(true)),
        (int(1, false), Datum::Int(-128)),
        (int(2, false), Datum::Int(-32768)),
        (int(3, false), Datum::Int(-8388608)),
        (int(4, false), Datum::Int(i32::MIN as i64)),
        (int(8, false), Datum::Int(i64::MIN)),
        (int(1, true), Datum::UInt(255)),
        (int(2, true), Datum::UInt(65535)),
        (int(3, true), Datum::UInt(16777215)),
        (int(4, true), Datum::UInt(u32::MAX as u64)),
        (int(8, true), Datum::UInt(u64::MAX)),
        (SqlType::Year, Datum::Int(2155)),
        (SqlType::Bit(64), Datum::UInt(u64::MAX)),
        (SqlType::Float, Datum::Float(-1.5)),
        (SqlType::Double, Datum::Double(f64::MAX)),
        (decimal(20, 2), Datum::Decimal(i256::from_i128(-12345))),
        (decimal(65, 30), Datum::Decimal(i256::from_string(&"9".repeat(65)).unwrap())),
        (SqlType::Char(3), text("a  ")),
        (SqlType::Varchar(255), text("naïve 🐎")),
        (SqlType::Text(4), text(&"long".repeat(3000))),
        (SqlType::Binary(2), Datum::Bytes(vec![0, 255])),
        (SqlType::Varbinary(9), Datum::Bytes(vec![])),
        (SqlType::Blob(4), Datum::Bytes(vec![7; 70_000])),
        (SqlType::Enum(labels()), text("b")),
        (SqlType::Set(labels()), text("a,b")),
        (SqlType::Json, text("{\"a\": 1}")),
        (SqlType::Date, Datum::Date(-719_528)),
        (SqlType::Time(6), Datum::Time(-3_020_399_000_000)),
        (SqlType::Datetime(6), Datum::Datetime(-1)),
        (SqlType::Timestamp(6), Datum::Timestamp(1_700_000_000_000_001)),
    ];
    let columns: Vec<Column> =
        values.iter().enumerate().map(|(i, (t, _))| Column::new(format!("c{i}"), t.clone(), true)).collect();
    let arrays = values.iter().map(|(t, value)| {
        let mut builder = ColumnBuilder::new(t, 2);
        [value, &Datum::Null].iter().for_each(|v| builder.push(v).unwrap());
        builder.finish()
    });
    let arrays: Vec<ArrayRef> = arrays.collect();
    let keys = std::iter::once(None).chain((0..columns.len()).map(|c| Some(vec![c])));
    let all: Vec<usize> = (0..columns.len()).collect();
    for home in Home::both() {
        let store = home.open().unwrap();
        store.raise_ceiling(Ts(1000)).unwrap();
        let mut installs = Vec::new();
        for (n, key) in (1..).zip(keys.clone()) {
            let schema = Schema { columns: columns.clone(), key };
            store.create_table(ObjectId(n), &schema).unwrap();
            let mut load = store.load(ObjectId(n)).unwrap();
            load.push(RecordBatch::try_new(schema.arrow(), arrays.clone()).unwrap()).unwrap();
            installs.push((ObjectId(n), load.finish().unwrap()));
        }
        store.commit(&tick(1, installs.clone(), vec![])).unwrap();
        for (table, _) in installs {
            let read: Vec<Delta> = store.snapshot().scan(table, &all, 1 << 20).map(Result::unwrap).collect();
            assert_eq!(read.len(), 1);
            let mut nulls: Vec<usize> = read[0].rows.columns().iter().map(|c| c.null_count()).collect();
            nulls.dedup();
            assert_eq!(nulls, [1]);
            for (c, (sql_type, value)) in values.iter().enumerate() {
                let column = read[0].rows.column(c);
                let i = (0..2).find(|&i| column.is_valid(i)).unwrap();
                assert_eq!(Datum::of(column, sql_type, i), *value, "{sql_type} of {table}");
            }
        }
        let some: Vec<Delta> = store.snapshot().scan(ObjectId(1), &[5, 0], 1).map(Result::unwrap).collect();
        assert_eq!(some.len(), 2, "a batch holds at least one row");
        assert_eq!(some[0].rows.schema().field(0).name(), "c5");
    }
}

#[test]
fn a_table_with_an_empty_key_has_one_row() {
    for home in Home::both() {
        let store = loaded(&home);
        let one = ObjectId(4);
        store.create_table(one, &Schema { key: Some(vec![]), ..schema(KEYED) }).unwrap();
        let generation = load(&store, one, &[row(1, "a")]).unwrap();
        store.commit(&tick(20, vec![(one, generation)], memory(one, &[(row(1, "a"), -1), (row(2, "b"), 1)]))).unwrap();
        assert_eq!(scan(&store.snapshot(), one), Rows::from([(row(2, "b"), 1)]));
    }
}

#[test]
#[should_panic(expected = "above the durable ceiling")]
fn a_tick_above_the_ceiling_is_a_broken_invariant() {
    let home = Home::Memory(Default::default());
    let store = home.open().unwrap();
    let _ = store.commit(&tick(1, vec![], vec![]));
}
