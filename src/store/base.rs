//! The store: what it publishes to readers, and its tables, catalog and ceiling.
//!
//! Writers take one lock; readers take the published [`State`], which is replaced whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::row::schema::Schema;
use crate::row::{ObjectId, Position, Ts};
use crate::store::kv::{Batch, Durability, Kv, KvError, KvSnapshot, Space};
use crate::store::layout::Layout;
use crate::store::record::{Counter, TableRecord};
use crate::store::scan::Snapshot;
use crate::store::{Healed, StoreError, TickHeader, keys};

/// Writes of a sweep or an application that are made at once.
pub(super) const BATCH_BYTES: usize = 1 << 20;

pub struct Store {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) id: u128,
    pub(super) ceiling: AtomicU64,
    pub(super) next_generation: AtomicU64,
    pub(super) next_segment: AtomicU64,
    pub(super) writer: Mutex<Writer>,
    pub(super) state: RwLock<Arc<State>>,
    pub(super) healed: Mutex<BTreeMap<ObjectId, Healed>>,
}

/// What only the holder of the lock changes.
#[derive(Default)]
pub(super) struct Writer {
    /// Why nothing can be written any more.
    pub broken: Option<String>,
    /// The newest trimmed tick.
    pub anchor: TickHeader,
    pub log_bytes: u64,
}

/// What readers see: the tables as of one fully applied tick.
pub(super) struct State {
    pub kv: Arc<dyn KvSnapshot>,
    pub tick: TickHeader,
    pub positions: Arc<BTreeMap<ObjectId, Position>>,
    pub tables: Arc<BTreeMap<ObjectId, Table>>,
    /// The change log holds everything above this.
    pub log_from: Ts,
}

#[derive(Clone)]
pub(super) struct Table {
    pub layout: Arc<Layout>,
    pub generation: Option<u64>,
    pub loaded_at: Ts,
    pub counter: Counter,
}

impl Table {
    pub fn record(&self) -> Vec<u8> {
        let schema = self.layout.schema.clone();
        let record = TableRecord { schema, generation: self.generation, loaded_at: self.loaded_at };
        serde_json::to_vec(&record).expect("a table's definition is always JSON")
    }
}

impl Store {
    /// A random number made when the store was created.
    pub fn id(&self) -> u128 {
        self.id
    }

    pub fn last_tick(&self) -> TickHeader {
        self.state().tick
    }

    pub fn positions(&self) -> BTreeMap<ObjectId, Position> {
        self.state().positions.as_ref().clone()
    }

    pub fn ceiling(&self) -> Ts {
        Ts(self.ceiling.load(Ordering::Acquire))
    }

    /// Makes it durable that times up to this one may be minted; a lower one than the present does nothing.
    pub fn raise_ceiling(&self, to: Ts) -> Result<(), StoreError> {
        let mut writer = self.writer("raise the ceiling")?;
        if to > self.ceiling() {
            let mut batch = Batch::default();
            batch.put(Space::Main, keys::CEILING, to.0.to_le_bytes());
            self.write(&mut writer, batch, Durability::Synced, "raise the ceiling")?;
            self.ceiling.store(to.0, Ordering::Release);
        }
        Ok(())
    }

    /// All pairs of the catalog.
    pub fn catalog(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let (from, until) = keys::letter_range(b'C');
        let mut pairs = BTreeMap::new();
        for entry in self.kv.snapshot().scan(Space::Main, &from, &until) {
            let (key, value) = entry.map_err(self.failed("read the catalog"))?;
            let name = std::str::from_utf8(&key[1..]).map_err(|e| self.damaged(format!("a catalog name: {e}")))?;
            pairs.insert(name.to_string(), value.to_vec());
        }
        Ok(pairs)
    }

    /// Writes (or, with `None`, deletes) pairs of the catalog at once; returns after the sync.
    pub fn write_catalog(&self, changes: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let mut writer = self.writer("write the catalog")?;
        let mut batch = Batch::default();
        for (name, value) in changes {
            match value {
                Some(value) => batch.put(Space::Main, keys::catalog(&name), value),
                None => batch.delete(Space::Main, keys::catalog(&name)),
            }
        }
        self.write(&mut writer, batch, Durability::Synced, "write the catalog")
    }

    /// Makes a table known, empty and not loaded; again with the same schema does nothing. The id of a dropped table is
    /// never used again.
    pub fn create_table(&self, table: ObjectId, schema: &Schema) -> Result<(), StoreError> {
        let mut writer = self.writer("create a table")?;
        let state = self.state();
        if let Some(known) = state.tables.get(&table) {
            if known.layout.schema == *schema {
                return Ok(());
            }
            let reason = "it exists with another schema: drop it first".to_string();
            return Err(StoreError::Table { table, wanted: "created", reason });
        }
        let layout = Arc::new(Layout::new(schema.clone()));
        let created = Table { layout, generation: None, loaded_at: Ts::default(), counter: Counter::default() };
        let mut batch = Batch::default();
        batch.put(Space::Main, keys::table(table), created.record());
        self.write(&mut writer, batch, Durability::Synced, "create a table")?;
        let mut tables = state.tables.as_ref().clone();
        tables.insert(table, created);
        self.publish(State { tables: Arc::new(tables), ..state.again() });
        Ok(())
    }

    /// Forgets a table, its rows and its log; one that is not known does nothing.
    pub fn drop_table(&self, table: ObjectId) -> Result<(), StoreError> {
        let mut writer = self.writer("drop a table")?;
        let state = self.state();
        if !state.tables.contains_key(&table) {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.delete(Space::Main, keys::table(table));
        batch.delete(Space::Main, keys::counter(table));
        self.write(&mut writer, batch, Durability::Synced, "drop a table")?;
        let mut tables = state.tables.as_ref().clone();
        tables.remove(&table);
        self.publish(State { tables: Arc::new(tables), ..state.again() });
        for space in self.kv.spaces() {
            if matches!(space, Space::Rows(of, _) if of == table) {
                self.kv.drop_space(space).map_err(self.failed("drop a table's rows"))?;
            }
        }
        let (from, until) = keys::log_range(table, Ts::default(), Ts(u64::MAX));
        self.delete_range(Space::Main, &from, &until)
    }

    /// True once a generation is installed.
    pub fn is_loaded(&self, table: ObjectId) -> bool {
        self.state().tables.get(&table).is_some_and(|t| t.generation.is_some())
    }

    /// The tables as of the last tick.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.state())
    }
}

impl State {
    /// The same, to be changed and published again.
    pub fn again(&self) -> State {
        State {
            kv: self.kv.clone(),
            tick: self.tick,
            positions: self.positions.clone(),
            tables: self.tables.clone(),
            log_from: self.log_from,
        }
    }
}

impl Store {
    pub(super) fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// The writers' lock, if the store can still write.
    pub(super) fn writer(&self, action: &'static str) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &writer.broken {
            None => Ok(writer),
            Some(why) => {
                let reason = format!("an earlier write failed ({why}): mend its cause and restart the server");
                Err(StoreError::Io { action, reason })
            }
        }
    }

    /// A write after whose failure the store writes no more.
    pub(super) fn write(
        &self,
        writer: &mut Writer,
        batch: Batch,
        durability: Durability,
        action: &'static str,
    ) -> Result<(), StoreError> {
        self.kv.write(batch, durability).map_err(|error| {
            writer.broken = Some(error.to_string());
            self.failed(action)(error)
        })
    }

    pub(super) fn delete_range(&self, space: Space, from: &[u8], until: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for entry in self.kv.snapshot().scan(space, from, until) {
            let (key, _) = entry.map_err(self.failed("read what is to be deleted"))?;
            batch.delete(space, key);
            if batch.bytes() >= BATCH_BYTES {
                let full = std::mem::take(&mut batch);
                self.kv.write(full, Durability::Later).map_err(self.failed("delete"))?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.kv.write(batch, Durability::Later).map_err(self.failed("delete"))
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(KvError) -> StoreError + use<> {
        failed(action, self.state().tick.number)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { tick: self.state().tick.number, what: what.into() }
    }
}

/// The store's error for the engine's, at a tick.
pub(super) fn failed(action: &'static str, tick: u64) -> impl Fn(KvError) -> StoreError {
    move |error| match error {
        KvError::Damaged(what) => StoreError::Damaged { tick, what },
        KvError::Io(reason) => StoreError::Io { action, reason },
        KvError::Locked => StoreError::Io { action, reason: error.to_string() },
    }
}
