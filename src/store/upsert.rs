//! What a row is from now on, by key, turned into differences from what the table has.
//!
//! Feeds that deliver at least once say each change as the row's new value, perhaps more than once, perhaps a delete of
//! what is not there. Read against the rows just before a tick is committed, it becomes exact: a retraction of the row
//! that is stored and an insertion of the new one, or nothing where nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};

use crate::row::ObjectId;
use crate::store::base::Store;
use crate::store::kv::{Slice, Space};
use crate::store::layout::{Entries, Layout};
use crate::store::stage::{Changes, Held, Stage};
use crate::store::{StoreError, Tick};

/// Rows of a delta that is made out of upserts.
const DELTA_ROWS: usize = 8_192;
const SCAN_BYTES: usize = 1 << 20;

/// One table's part of a transaction, to be applied in order. The table has a key.
#[derive(Clone, Debug)]
pub enum Upsert {
    /// All columns of the table; of a row that is deleted those outside the key mean nothing (they may be NULL in any
    /// column).
    Rows { columns: Vec<ArrayRef>, writes: Vec<Write> },
    /// The table has no rows any more.
    Truncate,
}

/// What is said of one row, and with it of what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is this now, whatever was there.
    Put,
    /// It is this now, and there was none with its key.
    Insert,
    /// It is this now, and there was one with its key.
    Update,
    /// There was one with its key, and it is gone.
    Delete,
}

/// The first row of some upserts that the table does not bear out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disputed {
    /// Its upsert's place among them.
    pub upsert: usize,
    /// Its place in the upsert.
    pub row: usize,
}

/// What upserts said that the table did not bear out, since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Deletes of a row that is not there.
    pub deletes_of_nothing: u64,
    /// Rows that are what they were.
    pub unchanged: u64,
    /// Inserts over another row, and updates of none.
    pub mismatched: u64,
}

impl Write {
    pub fn is_put(self) -> bool {
        self != Write::Delete
    }

    /// Whether the row that is there is as it is said to be. One that was inserted already is: it comes again.
    fn agrees(self, before: Option<&[u8]>, row: &[u8]) -> bool {
        match (self, before) {
            (Write::Put, _) | (Write::Update | Write::Delete, Some(_)) | (Write::Insert, None) => true,
            (Write::Insert, Some(before)) => before == row,
            (Write::Update | Write::Delete, None) => false,
        }
    }
}

impl Upsert {
    pub fn rows(&self) -> u64 {
        match self {
            Upsert::Rows { writes, .. } => writes.len() as u64,
            Upsert::Truncate => 0,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Upsert::Rows { columns, writes } => {
                columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>() + writes.len()
            }
            Upsert::Truncate => 0,
        }
    }
}

impl Changes {
    /// Changes said as what rows are; they become differences in [`Store::resolve`].
    pub fn upserts(upserts: Vec<(ObjectId, Upsert)>) -> Changes {
        Changes { held: Held::Upserts(upserts) }
    }
}

impl Store {
    /// Turns the upserts of a tick into differences. Called by the thread that commits, right before it does: in
    /// between no one else may write.
    pub fn resolve(self: &Arc<Self>, tick: &mut Tick) -> Result<(), StoreError> {
        let mut tables = BTreeMap::new();
        for changes in &mut tick.changes {
            let Held::Upserts(upserts) = &mut changes.held else { continue };
            let mut stage = self.stage();
            for (table, upsert) in std::mem::take(upserts) {
                let opened = match tables.entry(table) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(new) => {
                        let Some(opened) = Rows::open(self, table, &tick.installs) else { continue };
                        new.insert(opened)
                    }
                };
                opened.apply(self, upsert, &mut stage)?;
            }
            *changes = stage.finish()?;
        }
        let mut healed = self.healed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (table, rows) in tables {
            let sum = healed.entry(table).or_default();
            sum.deletes_of_nothing += rows.healed.deletes_of_nothing;
            sum.unchanged += rows.healed.unchanged;
            sum.mismatched += rows.healed.mismatched;
        }
        Ok(())
    }

    /// The first row that the tables, as of the last tick, do not bear out: what [`Store::resolve`] would count as
    /// healed or mismatched, but for rows that are what they were. Nothing is changed or counted.
    pub fn disputed(&self, upserts: &[(ObjectId, Upsert)]) -> Result<Option<Disputed>, StoreError> {
        let mut tables = BTreeMap::new();
        for (upsert, (table, said)) in upserts.iter().enumerate() {
            let rows = tables.entry(*table).or_insert_with(|| Rows::open(self, *table, &[]));
            let Some(rows) = rows else { continue };
            if let Some(row) = rows.disputed(self, said)? {
                return Ok(Some(Disputed { upsert, row }));
            }
        }
        Ok(None)
    }

    pub fn healed(&self, table: ObjectId) -> Healed {
        let healed = self.healed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        healed.get(&table).copied().unwrap_or_default()
    }
}

/// A table's rows as they are within a tick that is not committed yet.
struct Rows {
    table: ObjectId,
    layout: Arc<Layout>,
    /// `None` once the tick has emptied it.
    stored: Option<Space>,
    /// What the tick has done so far, by key.
    over: BTreeMap<Vec<u8>, Option<Slice>>,
    healed: Healed,
}

impl Rows {
    /// `None`: not known or not loaded; its changes are passed over, as all such are.
    fn open(store: &Store, table: ObjectId, installs: &[(ObjectId, u64)]) -> Option<Rows> {
        let state = store.state();
        let known = state.tables.get(&table)?;
        let installed = installs.iter().rev().find(|(of, _)| *of == table).map(|(_, generation)| *generation);
        let generation = installed.or(known.generation)?;
        assert!(known.layout.keyed(), "table {table} has no key and is given by key");
        Some(Rows {
            table,
            layout: known.layout.clone(),
            stored: Some(Space::Rows(table, generation)),
            over: BTreeMap::new(),
            healed: Healed::default(),
        })
    }

    fn apply(&mut self, store: &Store, upsert: Upsert, stage: &mut Stage) -> Result<(), StoreError> {
        match upsert {
            Upsert::Rows { columns, writes } => self.rows(store, &columns, &writes, stage),
            Upsert::Truncate => self.truncate(store, stage),
        }
    }

    fn rows(
        &mut self,
        store: &Store,
        columns: &[ArrayRef],
        writes: &[Write],
        stage: &mut Stage,
    ) -> Result<(), StoreError> {
        let said = self.encode(columns, writes)?;
        let mut changed = Entries::default();
        for (i, write) in writes.iter().enumerate() {
            let (key, row, put) = (said.key(i), said.row(i), write.is_put());
            let before = self.get(store, key)?;
            match (&before, put) {
                (Some(before), true) if **before == *row => {
                    self.healed.unchanged += 1;
                    continue;
                }
                (None, false) => {
                    self.healed.deletes_of_nothing += 1;
                    continue;
                }
                _ => self.healed.mismatched += !write.agrees(before.as_deref(), row) as u64,
            }
            if let Some(before) = &before {
                changed.push(-1, key, before);
            }
            if put {
                changed.push(1, key, row);
            }
            self.over.insert(key.to_vec(), put.then(|| Slice::from(row)));
            if changed.len() >= DELTA_ROWS {
                stage.push_entries(self.table, &self.layout, &mut changed)?;
            }
        }
        stage.push_entries(self.table, &self.layout, &mut changed)
    }

    fn encode(&self, columns: &[ArrayRef], writes: &[Write]) -> Result<Entries, StoreError> {
        let puts: Vec<bool> = writes.iter().map(|write| write.is_put()).collect();
        let mut said = Entries::default();
        let encoded = self.layout.encode_upserts(columns, &puts, &mut said);
        encoded.map_err(|reason| StoreError::Row { table: self.table, reason })?;
        Ok(said)
    }

    /// Which row of an upsert is not borne out; if none is, the upsert is done, without its differences.
    fn disputed(&mut self, store: &Store, upsert: &Upsert) -> Result<Option<usize>, StoreError> {
        let Upsert::Rows { columns, writes } = upsert else {
            self.stored = None;
            self.over.clear();
            return Ok(None);
        };
        let said = self.encode(columns, writes)?;
        for (i, write) in writes.iter().enumerate() {
            let (key, row) = (said.key(i), said.row(i));
            if !write.agrees(self.get(store, key)?.as_deref(), row) {
                return Ok(Some(i));
            }
            self.over.insert(key.to_vec(), write.is_put().then(|| Slice::from(row)));
        }
        Ok(None)
    }

    fn get(&self, store: &Store, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        match (self.over.get(key), self.stored) {
            (Some(over), _) => Ok(over.clone()),
            (None, Some(space)) => store.kv.get(space, key).map_err(store.failed("read a row")),
            (None, None) => Ok(None),
        }
    }

    /// Retracts every row that is there: the stored ones that the tick has not touched, and those it has put.
    fn truncate(&mut self, store: &Store, stage: &mut Stage) -> Result<(), StoreError> {
        let mut gone = Entries::default();
        if let Some(space) = self.stored.take() {
            let (from, until) = crate::store::keys::rows_range();
            for entry in store.kv.snapshot().scan(space, &from, &until) {
                let (key, row) = entry.map_err(store.failed("read rows"))?;
                if !self.over.contains_key(&key[..]) {
                    gone.push(-1, &key, &row);
                }
                if gone.bytes() >= SCAN_BYTES {
                    stage.push_entries(self.table, &self.layout, &mut gone)?;
                }
            }
        }
        for (key, row) in std::mem::take(&mut self.over) {
            if let Some(row) = row {
                gone.push(-1, &key, &row);
            }
        }
        stage.push_entries(self.table, &self.layout, &mut gone)
    }
}
