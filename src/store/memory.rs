//! The key-value engine in memory: deterministic, and able to fail and crash at a numbered point.
//!
//! Each key holds its versions by the number of the batch that wrote them; a snapshot is a batch number, and a crash
//! forgets every version above the last synced one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::kv::{Batch, Durability, Kv, KvError, KvIter, KvSnapshot, Slice, Space};

/// Entries copied out under the lock at a time by a scan.
const SCAN_ENTRIES: usize = 512;

#[derive(Clone, Default)]
pub struct MemoryKv {
    state: Arc<Mutex<State>>,
}

impl MemoryKv {
    pub fn new() -> MemoryKv {
        MemoryKv::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    spaces: BTreeMap<Space, SharedSpace>,
    /// The number of the last batch.
    last: u64,
    synced: u64,
    noted: u64,
    /// Snapshots in use, by batch number.
    held: BTreeMap<u64, usize>,
    /// Keys that were deleted, by batch number: forgotten when nothing can show them any more.
    graves: VecDeque<(u64, Space, Slice)>,
    #[cfg(test)]
    faults: faults::Faults,
}

type SharedSpace = Arc<Mutex<BTreeMap<Slice, Versions>>>;

/// Ascending by batch number; `None`: deleted.
type Versions = Vec<(u64, Option<Slice>)>;

impl State {
    fn space(&self, space: Space) -> Result<SharedSpace, KvError> {
        self.spaces.get(&space).cloned().ok_or_else(|| KvError::Io(format!("space {space:?} was dropped")))
    }

    /// Every version that a snapshot, or a crash, could still show is at or after the newest one at or below this.
    fn horizon(&self) -> u64 {
        self.held.keys().next().copied().unwrap_or(self.last).min(self.synced)
    }

    fn bury(&mut self, horizon: u64) {
        while let Some((_, space, key)) = self.graves.pop_front_if(|(number, ..)| *number <= horizon) {
            let Some(entries) = self.spaces.get(&space) else { continue };
            let mut entries = lock(entries);
            if entries.get(&key).is_some_and(|versions| matches!(versions.last(), Some((n, None)) if *n <= horizon)) {
                entries.remove(&key);
            }
        }
    }

    /// Counts an operation that changes something; the test's hook to fail it.
    fn step(&mut self) -> Result<(), KvError> {
        #[cfg(test)]
        self.faults.step()?;
        Ok(())
    }
}

impl Kv for MemoryKv {
    fn spaces(&self) -> Vec<Space> {
        self.lock().spaces.keys().copied().collect()
    }

    fn create(&self, space: Space) -> Result<(), KvError> {
        let mut state = self.lock();
        state.step()?;
        state.spaces.entry(space).or_default();
        Ok(())
    }

    fn drop_space(&self, space: Space) -> Result<(), KvError> {
        let mut state = self.lock();
        state.step()?;
        state.spaces.remove(&space);
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, KvError> {
        let entries = self.lock().space(space)?;
        let entries = lock(&entries);
        Ok(entries.get(key).and_then(|versions| at(versions, u64::MAX)))
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        let mut state = self.lock();
        let at = state.last;
        *state.held.entry(at).or_default() += 1;
        Arc::new(MemorySnapshot { hold: Arc::new(Hold { kv: self.clone(), at }), spaces: state.spaces.clone() })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let mut state = self.lock();
        state.step()?;
        for (space, ..) in &batch.writes {
            state.space(*space)?;
        }
        state.last += 1;
        let (number, horizon) = (state.last, state.horizon());
        for (space, key, value) in batch.writes {
            let entries = state.space(space)?;
            if value.is_none() {
                state.graves.push_back((number, space, key.clone()));
            }
            insert(&mut lock(&entries), key, value, number, horizon);
        }
        state.bury(horizon);
        if durability == Durability::Synced {
            state.synced = number;
        }
        // The batch is written; that it is may still not reach the caller.
        state.step()
    }

    fn ingest(&self, space: Space, rows: &mut dyn Iterator<Item = (&[u8], Slice)>) -> Result<(), KvError> {
        let mut state = self.lock();
        state.step()?;
        let entries = state.space(space)?;
        let mut entries = lock(&entries);
        // Durable at once: under the number of a batch that is.
        let number = state.synced;
        for (key, value) in rows {
            insert(&mut entries, Slice::from(key), Some(value), number, number);
        }
        Ok(())
    }

    fn noted(&self) -> Result<u64, KvError> {
        Ok(self.lock().noted)
    }

    fn note(&self, number: u64) -> Result<(), KvError> {
        let mut state = self.lock();
        state.step()?;
        state.noted = number;
        Ok(())
    }
}

fn lock(space: &SharedSpace) -> MutexGuard<'_, BTreeMap<Slice, Versions>> {
    space.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at(versions: &Versions, number: u64) -> Option<Slice> {
    versions.iter().rev().find(|(n, _)| *n <= number).and_then(|(_, value)| value.clone())
}

fn insert(entries: &mut BTreeMap<Slice, Versions>, key: Slice, value: Option<Slice>, number: u64, horizon: u64) {
    let versions = entries.entry(key).or_default();
    let seen = versions.iter().rposition(|(n, _)| *n <= horizon).unwrap_or(0);
    versions.drain(..seen);
    match versions.last_mut() {
        Some(last) if last.0 == number => last.1 = value,
        _ => versions.push((number, value)),
    }
}

struct Hold {
    kv: MemoryKv,
    at: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.kv.lock();
        if let Some(count) = state.held.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.at);
            }
        }
    }
}

struct MemorySnapshot {
    hold: Arc<Hold>,
    spaces: BTreeMap<Space, SharedSpace>,
}

impl KvSnapshot for MemorySnapshot {
    fn scan(&self, space: Space, from: &[u8], until: &[u8]) -> KvIter {
        let Some(entries) = self.spaces.get(&space).cloned() else {
            return Box::new(std::iter::empty());
        };
        let (hold, until) = (self.hold.clone(), Slice::from(until));
        let mut from = Some(Slice::from(from));
        let chunks = std::iter::from_fn(move || {
            let start = from.take().filter(|start| *start < until)?;
            let entries = lock(&entries);
            let mut chunk = Vec::with_capacity(SCAN_ENTRIES);
            for (key, versions) in entries.range(start..until.clone()) {
                if chunk.len() == SCAN_ENTRIES {
                    from = Some(key.clone());
                    break;
                }
                chunk.extend(at(versions, hold.at).map(|value| Ok((key.clone(), value))));
            }
            Some(chunk)
        });
        Box::new(chunks.flatten())
    }
}

#[cfg(test)]
mod faults {
    //! A crash or an error at a numbered operation.

    use super::*;

    #[derive(Default)]
    pub struct Faults {
        steps: u64,
        fail_at: Option<u64>,
    }

    impl Faults {
        pub fn step(&mut self) -> Result<(), KvError> {
            self.steps += 1;
            match self.fail_at {
                Some(at) if self.steps >= at => Err(KvError::Io(format!("injected fault at operation {at}"))),
                _ => Ok(()),
            }
        }
    }

    impl MemoryKv {
        /// Operation `at` (from 1) and every later one fail.
        pub fn fail_at(&self, at: u64) {
            self.lock().faults.fail_at = Some(at);
        }

        pub fn steps(&self) -> u64 {
            self.lock().faults.steps
        }

        /// What a power cut leaves: what was synced, and up to `more` batches after it.
        pub fn crash(&self, more: u64) -> MemoryKv {
            let state = self.lock();
            let kept = state.last.min(state.synced + more);
            let spaces = state.spaces.iter().map(|(space, entries)| {
                let entries = lock(entries);
                let survive = entries.iter().filter_map(|(key, versions)| {
                    let versions: Versions = versions.iter().filter(|(n, _)| *n <= kept).cloned().collect();
                    (!versions.is_empty()).then(|| (key.clone(), versions))
                });
                (*space, Arc::new(Mutex::new(survive.collect())))
            });
            let state =
                State { spaces: spaces.collect(), last: kept, synced: kept, noted: state.noted, ..State::default() };
            MemoryKv { state: Arc::new(Mutex::new(state)) }
        }
    }
}
