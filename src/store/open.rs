//! Opening: verify, finish what a tick left to do, delete what no tick named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::row::{ObjectId, Position, Ts};
use crate::store::base::{State, Store, Table, Writer, failed};
use crate::store::disk::DiskKv;
use crate::store::kv::{Batch, Durability, Kv, KvError, KvSnapshot, Space};
use crate::store::layout::Layout;
use crate::store::memory::MemoryKv;
use crate::store::record::{Counter, FORMAT, StoreRecord, TableRecord, TickRecord};
use crate::store::{StoreError, TickHeader, keys};

impl Store {
    /// Opens or creates the store in a directory, verifies it and deletes what was staged and never named.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        let kv = DiskKv::open(directory).map_err(|error| match error {
            KvError::Locked => StoreError::Locked { path: directory.display().to_string() },
            other => failed("open the data directory", 0)(other),
        })?;
        Store::with(Arc::new(kv), random_id()?)
    }

    /// An empty store in memory.
    pub fn in_memory() -> Store {
        let id = random_id().expect("the system has random numbers");
        Store::with(Arc::new(MemoryKv::new()), id).expect("an empty store in memory opens")
    }

    /// The store in an engine; `new_id` becomes its own if it is new.
    pub(super) fn with(kv: Arc<dyn Kv>, new_id: u128) -> Result<Store, StoreError> {
        let read = failed("read the store", 0);
        for space in [Space::Main, Space::Segments] {
            kv.create(space).map_err(failed("create the store", 0))?;
        }
        let id = identify(&*kv, new_id)?;
        let snapshot = kv.snapshot();
        let chain = Chain::verify(&*kv, &*snapshot)?;
        let tables = tables(&*kv, &*snapshot, &chain)?;
        let ceiling = kv.get(Space::Main, keys::CEILING).map_err(&read)?;
        let ceiling = ceiling.as_deref().and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);

        let generations = kv.spaces().into_iter().map(|space| match space {
            Space::Rows(_, generation) => generation,
            _ => 0,
        });
        let store = Store {
            id,
            ceiling: AtomicU64::new(ceiling.max(chain.last.ts.0)),
            next_generation: AtomicU64::new(generations.max().unwrap_or(0) + 1),
            next_segment: AtomicU64::new(1),
            healed: Mutex::default(),
            writer: Mutex::new(Writer { broken: None, anchor: chain.anchor, log_bytes: chain.log_bytes }),
            state: RwLock::new(Arc::new(State {
                kv: snapshot,
                tick: chain.last,
                positions: Arc::new(chain.positions),
                tables: Arc::new(tables),
                log_from: chain.anchor.ts,
            })),
            kv,
        };
        store.finish_tick(chain.newest.as_ref())?;
        store.sweep(&chain.segments)?;
        Ok(store)
    }

    fn finish_tick(&self, newest: Option<&TickRecord>) -> Result<(), StoreError> {
        let Some(record) = newest else { return Ok(()) };
        let mut writer = self.writer("finish a tick")?;
        let state = self.state();
        let mut tables = state.tables.as_ref().clone();
        self.apply(&mut writer, record, &mut tables)?;
        self.publish(State { kv: self.kv.snapshot(), tables: Arc::new(tables), ..state.again() });
        Ok(())
    }

    /// Deletes generations, segments and logs that nothing names.
    fn sweep(&self, named: &BTreeSet<u64>) -> Result<(), StoreError> {
        let state = self.state();
        for space in self.kv.spaces() {
            let Space::Rows(table, generation) = space else { continue };
            if state.tables.get(&table).and_then(|t| t.generation) != Some(generation) {
                self.kv.drop_space(space).map_err(self.failed("drop an unnamed generation"))?;
            }
        }
        let mut next = 0;
        while let Some(segment) = self.first(Space::Segments, &keys::segment(next), &[u8::MAX; 9], keys::segment_of)? {
            next = segment + 1;
            if !named.contains(&segment) {
                self.delete_range(Space::Segments, &keys::segment(segment), &keys::segment(next))?;
            }
        }
        let next = named.last().map_or(next, |newest| next.max(newest + 1));
        self.next_segment.store(next.max(1), Ordering::Relaxed);
        let mut from = ObjectId(0);
        let (_, end) = keys::letter_range(b'L');
        let start = |table| keys::log_range(table, Ts::default(), Ts(u64::MAX));
        while let Some(table) = self.first(Space::Main, &start(from).0, &end, keys::number)?.map(ObjectId) {
            from = ObjectId(table.0 + 1);
            if !state.tables.contains_key(&table) {
                let (log, until) = start(table);
                self.delete_range(Space::Main, &log, &until)?;
            }
        }
        Ok(())
    }

    /// The number in the first key of a range.
    fn first(
        &self,
        space: Space,
        from: &[u8],
        until: &[u8],
        number: fn(&[u8]) -> Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let Some(entry) = self.kv.snapshot().scan(space, from, until).next() else { return Ok(None) };
        let (key, _) = entry.map_err(self.failed("look for what is unnamed"))?;
        number(&key).map(Some).ok_or_else(|| self.damaged(format!("a key {key:02x?}")))
    }
}

fn random_id() -> Result<u128, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| StoreError::Io { action: "get a random number from the system", reason: e.to_string() })?;
    Ok(u128::from_le_bytes(bytes))
}

/// Reads who the store is, or makes it so.
fn identify(kv: &dyn Kv, new_id: u128) -> Result<u128, StoreError> {
    let damaged = |what: String| StoreError::Damaged { tick: 0, what };
    if let Some(bytes) = kv.get(Space::Main, keys::STORE).map_err(failed("read the store's record", 0))? {
        let record: StoreRecord =
            serde_json::from_slice(&bytes).map_err(|e| damaged(format!("the store's own record: {e}")))?;
        if record.format != FORMAT {
            return Err(StoreError::Format { found: record.format, expected: FORMAT });
        }
        return u128::from_str_radix(&record.id, 16).map_err(|e| damaged(format!("the store's id: {e}")));
    }
    let noted = kv.noted().map_err(failed("read the last tick's number", 0))?;
    if noted > 0 {
        return Err(damaged(format!("it has lost all its {noted} ticks")));
    }
    let record = StoreRecord { format: FORMAT, id: format!("{new_id:032x}") };
    let mut batch = Batch::default();
    batch.put(Space::Main, keys::STORE, serde_json::to_vec(&record).expect("the store's record is always JSON"));
    kv.write(batch, Durability::Synced).map_err(failed("create the store", 0))?;
    Ok(new_id)
}

/// The retained ticks, verified.
#[derive(Default)]
struct Chain {
    anchor: TickHeader,
    last: TickHeader,
    newest: Option<TickRecord>,
    positions: BTreeMap<ObjectId, Position>,
    log_bytes: u64,
    segments: BTreeSet<u64>,
    /// The tick that last changed the rows of a table, and the generation last installed, as far as the ticks go back.
    changed: BTreeMap<ObjectId, u64>,
    installed: BTreeMap<ObjectId, u64>,
}

impl Chain {
    fn verify(kv: &dyn Kv, snapshot: &dyn KvSnapshot) -> Result<Chain, StoreError> {
        let anchor = match kv.get(Space::Main, keys::ANCHOR).map_err(failed("read the oldest tick", 0))? {
            None => TickHeader::default(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| StoreError::Damaged {
                tick: 0,
                what: format!("the header of the newest trimmed tick: {e}"),
            })?,
        };
        let mut chain = Chain { anchor, last: anchor, ..Chain::default() };
        let (from, until) = keys::letter_range(b'K');
        for entry in snapshot.scan(Space::Main, &from, &until) {
            let tick = chain.last.number + 1;
            let (_, bytes) = entry.map_err(failed("read the ticks", tick))?;
            let (header, record) =
                TickRecord::unseal(&bytes, &chain.last).map_err(|what| StoreError::Damaged { tick, what })?;
            chain.add(header, record);
        }
        chain.finish(kv)
    }

    fn add(&mut self, header: TickHeader, record: TickRecord) {
        // Its segments are applied: only the newest tick can be pending.
        if let Some(before) = &self.newest {
            self.changed.extend(before.staged_tables().map(|table| (table, before.number)));
        }
        self.log_bytes += record.log_bytes();
        self.segments.extend(record.segments.iter().map(|s| s.segment));
        self.installed.extend(record.installs.iter().copied());
        self.changed.extend(record.installs.iter().map(|&(table, _)| (table, record.number - 1)));
        self.changed.extend(record.inline.keys().map(|&table| (table, record.number)));
        (self.last, self.newest) = (header, Some(record));
    }

    fn finish(mut self, kv: &dyn Kv) -> Result<Chain, StoreError> {
        let last = self.last;
        if let Some(newest) = &self.newest {
            self.positions = newest.positions.clone();
            let pending = kv.get(Space::Main, keys::PENDING).map_err(failed("read the pending tick", last.number))?;
            if pending.is_none() {
                self.changed.extend(newest.staged_tables().map(|table| (table, newest.number)));
            }
        }
        let noted = kv.noted().map_err(failed("read the last tick's number", last.number))?;
        if noted > last.number {
            let what = format!("ticks {} to {noted} were committed and are gone", last.number + 1);
            return Err(StoreError::Damaged { tick: last.number, what });
        }
        Ok(self)
    }

    /// Whether a table's rows can be those of its last change: the engine may bring back an older one.
    fn agrees(&self, table: ObjectId, generation: Option<u64>, counter: Counter) -> bool {
        let installed = self.installed.get(&table);
        let changed = self.changed.get(&table);
        installed.is_none_or(|installed| generation == Some(*installed))
            && (generation.is_none()
                || changed.map_or(counter.tick <= self.anchor.number, |tick| counter.tick == *tick))
    }
}

/// The tables, whose rows must be those of their last change.
fn tables(kv: &dyn Kv, snapshot: &dyn KvSnapshot, chain: &Chain) -> Result<BTreeMap<ObjectId, Table>, StoreError> {
    let tick = chain.last.number;
    let damaged = |what: String| StoreError::Damaged { tick, what };
    let read = failed("read the tables", tick);
    let mut tables = BTreeMap::new();
    let (from, until) = keys::letter_range(b'T');
    for entry in snapshot.scan(Space::Main, &from, &until) {
        let (key, value) = entry.map_err(&read)?;
        let id = keys::number(&key).map(ObjectId).ok_or_else(|| damaged(format!("a key {key:02x?}")))?;
        let record: TableRecord =
            serde_json::from_slice(&value).map_err(|e| damaged(format!("the definition of table {id}: {e}")))?;
        let mut counter = Counter::default();
        if let Some(generation) = record.generation {
            let space = Space::Rows(id, generation);
            if !kv.spaces().contains(&space) {
                return Err(damaged(format!("generation {generation} of table {id} is missing")));
            }
            let said = kv.get(Space::Main, &keys::counter(id)).map_err(&read)?;
            let found = kv.get(space, keys::ROWS_COUNTER).map_err(&read)?;
            let (said, found) =
                (said.as_deref().and_then(Counter::of_bytes), found.as_deref().and_then(Counter::of_bytes));
            counter = said.filter(|_| said == found).ok_or_else(|| {
                damaged(format!("the rows of table {id} are those of {found:?}, its last change is {said:?}"))
            })?;
        }
        if !chain.agrees(id, record.generation, counter) {
            return Err(damaged(format!(
                "the rows of table {id} are those of tick {}, not of its last change",
                counter.tick
            )));
        }
        let layout = Arc::new(Layout::new(record.schema));
        let table = Table { layout, generation: record.generation, loaded_at: record.loaded_at, counter };
        tables.insert(id, table);
    }
    Ok(tables)
}
