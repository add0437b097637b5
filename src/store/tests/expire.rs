//! The oldest rows of runs, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

use super::home::*;
use super::random::{Random, seed};
use crate::row::ObjectId;
use crate::row::Ts;
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};
use crate::store::{Changes, Store, Upsert, Write};

const EVENTS: ObjectId = ObjectId(5);
const ROWS: u64 = 3_000;

/// Run and number, then the time, if there is one.
type Model = BTreeMap<(String, i64), Option<i64>>;

fn columns(rows: &[((String, i64), Option<i64>)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|(_, time)| *time)).with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|((run, _), _)| run))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|((_, number), _)| *number))),
    ]
}

fn write(store: &Arc<Store>, ts: u64, rows: &[((String, i64), Option<i64>)], write: Write) {
    let upsert = Upsert::Rows { columns: columns(rows), writes: vec![write; rows.len()] };
    let mut made = tick(ts, vec![], vec![Changes::upserts(vec![(EVENTS, upsert)])]);
    store.resolve(&mut made).unwrap();
    store.commit(&made).unwrap();
}

fn oldest(store: &Store, before: i64, rows_max: usize) -> Vec<((String, i64), Option<i64>)> {
    let Some(rows) = store.snapshot().oldest(EVENTS, 0, before, rows_max).unwrap() else { return vec![] };
    let times = rows.column(0).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
    let runs = rows.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    let numbers = rows.column(2).as_any().downcast_ref::<Int64Array>().unwrap();
    let row = |i: usize| ((runs.value(i).to_string(), numbers.value(i)), times.is_valid(i).then(|| times.value(i)));
    (0..rows.num_rows()).map(row).collect()
}

/// From the beginning of each run up to what is not old.
fn expected(model: &Model, before: i64) -> Vec<((String, i64), Option<i64>)> {
    let (mut ended, mut old) = (None, Vec::new());
    for (key, time) in model {
        match time.is_some_and(|time| time < before) {
            _ if ended.as_ref() == Some(&key.0) => {}
            true => old.push((key.clone(), *time)),
            false => ended = Some(key.0.clone()),
        }
    }
    old
}

#[test]
fn old_rows_are_taken_from_the_beginning_of_each_run() {
    let mut random = Random(seed());
    for home in Home::both() {
        let store = home.open().unwrap();
        store.raise_ceiling(Ts(1 << 40)).unwrap();
        let schema = Schema {
            columns: vec![
                Column::new("time", SqlType::Timestamp(3), true),
                Column::new("run", SqlType::Varchar(9), false),
                Column::new("number", BIGINT, false),
            ],
            key: Some(vec![1, 2]),
        };
        store.create_table(EVENTS, &schema).unwrap();
        assert_eq!(store.snapshot().oldest(EVENTS, 0, i64::MAX, 10).unwrap(), None, "it is not loaded");
        let generation = store.load(EVENTS).unwrap().finish().unwrap();
        store.commit(&tick(10, vec![(EVENTS, generation)], vec![])).unwrap();
        let mut model = Model::new();
        for n in 0..ROWS {
            let run = ["", "a", "aa", "b", "only", "\u{ff}"][random.below(6) as usize].to_string();
            let time = (random.below(500) > 0).then(|| n as i64 + random.below(40) as i64);
            model.insert((run, n as i64 - 1_000), time);
        }
        let rows: Vec<_> = model.clone().into_iter().collect();
        write(&store, 20, &rows, Write::Put);
        for before in [0, 1, 45, 800, 1_500, 10_000] {
            assert_eq!(oldest(&store, before, usize::MAX), expected(&model, before), "before {before}");
        }
        // Swept in small steps, it comes to the same.
        let (mut ts, mut left) = (30, expected(&model, 1_700));
        while !left.is_empty() {
            let some = oldest(&store, 1_700, 113);
            assert_eq!(some, left[..left.len().min(113)]);
            write(&store, ts, &some, Write::Delete);
            some.iter().for_each(|(key, _)| assert!(model.remove(key).is_some()));
            left.drain(..some.len());
            ts += 1;
        }
        assert!(oldest(&store, 1_700, 113).is_empty());
        assert_eq!(store.snapshot().rows(EVENTS), model.len() as u64);
    }
}
