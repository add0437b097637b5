//! Where a test's store lives, the rows it puts there, and what it reads back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use tempfile::TempDir;

use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};
use crate::row::{ObjectId, Position, Ts};
use crate::store::memory::MemoryKv;
use crate::store::stage::{Held, Segment};
use crate::store::{Changes, Log, Snapshot, Store, StoreError, Tick};

/// A table with the key `id`, and one without a key.
pub const KEYED: ObjectId = ObjectId(1);
pub const KEYLESS: ObjectId = ObjectId(2);

pub enum Home {
    Memory(MemoryKv),
    Disk(TempDir),
}

impl Home {
    pub fn both() -> [Home; 2] {
        [Home::Memory(MemoryKv::new()), Home::Disk(tempfile::tempdir().unwrap())]
    }

    pub fn open(&self) -> Result<Arc<Store>, StoreError> {
        let store = match self {
            Home::Memory(kv) => Store::with(Arc::new(kv.clone()), 7),
            Home::Disk(directory) => Store::open(directory.path()),
        };
        store.map(Arc::new)
    }
}

/// `id`, `name`.
pub type Row = (i64, Option<String>);
pub type Rows = BTreeMap<Row, i64>;

pub fn row(id: i64, name: &str) -> Row {
    (id, Some(name.to_string()))
}

pub fn schema(table: ObjectId) -> Schema {
    let columns = vec![Column::new("id", BIGINT, false), Column::new("name", SqlType::Text(4), true)];
    Schema { columns, key: (table == KEYED).then(|| vec![0]) }
}

pub fn batch<'a>(rows: impl IntoIterator<Item = &'a Row>) -> RecordBatch {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let names = StringArray::from_iter(rows.iter().map(|r| r.1.as_deref()));
    RecordBatch::try_new(schema(KEYED).arrow(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

pub fn delta(changes: &[(Row, i64)]) -> Delta {
    Delta::new(batch(changes.iter().map(|c| &c.0)), changes.iter().map(|c| c.1).collect())
}

pub fn add(rows: &mut Rows, row: Row, diff: i64) {
    let count = rows.entry(row.clone()).or_default();
    *count += diff;
    if *count == 0 {
        rows.remove(&row);
    }
}

pub fn add_delta(rows: &mut Rows, delta: &Delta) {
    let ids = delta.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    let names = delta.rows.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    for (i, &diff) in delta.diffs.iter().enumerate() {
        add(rows, (ids.value(i), names.is_valid(i).then(|| names.value(i).to_string())), diff);
    }
}

pub fn scan(snapshot: &Snapshot, table: ObjectId) -> Rows {
    let mut rows = Rows::new();
    for delta in snapshot.scan(table, &[0, 1], 4096) {
        add_delta(&mut rows, &delta.unwrap());
    }
    rows
}

/// `None`: the log is cut.
pub fn log(store: &Store, table: ObjectId, after: Ts, through: Ts) -> Option<Vec<(Ts, Delta)>> {
    match store.log(table, after, through) {
        Log::Whole(changes) => Some(changes.map(Result::unwrap).collect()),
        Log::Cut => None,
    }
}

/// Changes in a segment, however small.
pub fn staged(store: &Store, deltas: &[(ObjectId, Delta)]) -> Result<Changes, StoreError> {
    let mut segment = Segment::new(store);
    for delta in deltas {
        let mut entries = BTreeMap::new();
        store.encode(std::iter::once(delta), &mut entries)?;
        segment.append(&entries)?;
    }
    Ok(Changes { held: Held::Staged(Arc::new(segment)) })
}

pub fn load(store: &Arc<Store>, table: ObjectId, rows: &[Row]) -> Result<u64, StoreError> {
    let mut load = store.load(table)?;
    load.push(batch(rows))?;
    load.finish()
}

pub fn tick(ts: u64, installs: Vec<(ObjectId, u64)>, changes: Vec<Changes>) -> Tick {
    let positions = BTreeMap::from([(ObjectId(9), Position(format!("at {ts}")))]);
    Tick { ts: Ts(ts), positions, installs, changes }
}

/// A store with both tables loaded, empty, at tick 1, time 10.
pub fn loaded(home: &Home) -> Arc<Store> {
    let store = home.open().unwrap();
    store.raise_ceiling(Ts(1 << 40)).unwrap();
    let installs = [KEYED, KEYLESS].map(|table| {
        store.create_table(table, &schema(table)).unwrap();
        (table, load(&store, table, &[]).unwrap())
    });
    store.commit(&tick(10, installs.to_vec(), vec![])).unwrap();
    store
}
