//! Rows of a table that were read anew, turned into differences from what the table has.

use std::cmp::Ordering;

use crate::store::base::State;
use crate::store::kv::{KvIter, Slice, Space};
use crate::store::layout::Entries;
use crate::store::load::Load;
use crate::store::stage::Stage;
use crate::store::{StoreError, keys};

/// Changed rows that are encoded at once: by number, and by bytes where they are large.
const DELTA_ROWS: usize = 8_192;
const DELTA_BYTES: usize = 1 << 20;

impl Load {
    /// What makes the table as of the last tick hold exactly the rows that were pushed; of the load nothing stays. The
    /// table has a key, and no tick may change it before the one with these differences.
    pub fn difference(mut self, stage: &mut Stage) -> Result<(), StoreError> {
        assert!(self.layout.keyed(), "table {} has no key and is compared by key", self.table);
        self.flush()?;
        let state = self.store.state();
        let mut stored = self.stored(&state);
        let (from, until) = keys::rows_range();
        let mut read = self.store.kv.snapshot().scan(self.space(), &from, &until);
        let failed = || self.store.failed("compare rows");
        let (mut before, mut after) = (next(&mut stored, failed)?, next(&mut read, failed)?);
        let mut changed = Entries::default();
        loop {
            let order = match (&before, &after) {
                (Some((before, _)), Some((after, _))) => before.cmp(after),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            if before != after {
                if let Some((key, row)) = before.as_ref().filter(|_| order.is_le()) {
                    changed.push(-1, key, row);
                }
                if let Some((key, row)) = after.as_ref().filter(|_| order.is_ge()) {
                    changed.push(1, key, row);
                }
            }
            if order.is_le() {
                before = next(&mut stored, failed)?;
            }
            if order.is_ge() {
                after = next(&mut read, failed)?;
            }
            if changed.len() >= DELTA_ROWS || changed.bytes() >= DELTA_BYTES {
                stage.push_entries(self.table, &self.layout, &mut changed)?;
            }
        }
        stage.push_entries(self.table, &self.layout, &mut changed)
    }

    fn stored(&self, state: &State) -> KvIter {
        let (from, until) = keys::rows_range();
        match state.tables.get(&self.table).and_then(|known| known.generation) {
            Some(generation) => state.kv.scan(Space::Rows(self.table, generation), &from, &until),
            None => Box::new(std::iter::empty()),
        }
    }
}

type Entry = Option<(Slice, Slice)>;

fn next<E, F>(rows: &mut KvIter, failed: impl Fn() -> F) -> Result<Entry, StoreError>
where
    F: Fn(E) -> StoreError,
    KvIter: Iterator<Item = Result<(Slice, Slice), E>>,
{
    rows.next().transpose().map_err(failed())
}
