//! The rows that wait for the watermark, by commit: in memory, and beyond a limit in a spill.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::size_of;

use crate::row::datum::Datum;
use crate::sources::Stop;
use crate::sources::collect::window::spill::Spill;
use crate::sources::collect::window::{Limits, too_large};
use crate::sources::formats::{Op, Row, RowChange};

/// What a row needs beside itself: its place in `Commit::places`.
const ROW_OVERHEAD_BYTES: usize = 24;
const COMMIT_OVERHEAD_BYTES: usize = 200;

pub struct Held {
    limits: Limits,
    memory: BTreeMap<u64, Commit>,
    memory_bytes: usize,
    spill: Option<Box<dyn Spill>>,
    spilled_bytes: usize,
    /// Rows that were ever spilled.
    pub spilled_rows: u64,
}

/// Whole commits.
#[derive(Debug)]
pub struct Taken {
    pub rows: Vec<RowChange>,
    /// The last of them.
    pub through: u64,
}

#[derive(Default)]
struct Commit {
    rows: Vec<RowChange>,
    /// Of each row's hash.
    places: HashMap<u64, usize>,
    bytes: usize,
}

impl Held {
    pub fn new(limits: Limits, spill: Option<Box<dyn Spill>>) -> Held {
        Held { limits, memory: BTreeMap::new(), memory_bytes: 0, spill, spilled_bytes: 0, spilled_rows: 0 }
    }

    /// Adds a row; false for one that its commit has already (one that is spilled is found when it comes back).
    pub fn push(&mut self, commit: u64, row: RowChange) -> Result<bool, Stop> {
        let of_commit = self.memory.entry(commit).or_default();
        let before = of_commit.bytes;
        if before == 0 {
            of_commit.bytes = COMMIT_OVERHEAD_BYTES;
        }
        let added = of_commit.push(row);
        self.memory_bytes += of_commit.bytes - before;
        if self.memory_bytes > self.limits.memory_bytes {
            self.spill()?;
        }
        Ok(added)
    }

    /// The lowest commit.
    pub fn first(&self) -> Option<u64> {
        let spilled = self.spill.as_ref().and_then(|spill| spill.first());
        self.memory.keys().next().copied().into_iter().chain(spilled).min()
    }

    /// Removes the lowest commits below `until`: one, and as many more as fit the limit; in each all deletes come
    /// before all puts, since a row may be deleted under one key and put under another's that is deleted as well.
    pub fn take(&mut self, until: u64) -> Result<Option<Taken>, Stop> {
        let mut taken: Option<Taken> = None;
        let mut bytes = 0;
        while let Some(number) = self.first().filter(|number| *number < until) {
            let mut commit = self.remove(number)?;
            bytes += commit.bytes;
            if taken.is_some() && bytes > self.limits.complete_bytes {
                self.memory_bytes += commit.bytes;
                self.memory.insert(number, commit);
                break;
            }
            commit.rows.sort_by_key(|row| phase(&row.op));
            match &mut taken {
                None => taken = Some(Taken { rows: commit.rows, through: number }),
                Some(taken) => {
                    taken.rows.append(&mut commit.rows);
                    taken.through = number;
                }
            }
        }
        Ok(taken)
    }

    /// All rows of a commit, also those that were spilled.
    fn remove(&mut self, number: u64) -> Result<Commit, Stop> {
        let in_memory = self.memory.remove(&number).unwrap_or_default();
        self.memory_bytes -= in_memory.bytes;
        let Some(spill) = self.spill.as_mut().filter(|spill| spill.first() == Some(number)) else {
            return Ok(in_memory);
        };
        // What was spilled came first, and may be many times the same.
        let mut whole = Commit { bytes: COMMIT_OVERHEAD_BYTES, ..Commit::default() };
        let (spilled_bytes, limit) = (&mut self.spilled_bytes, self.limits.window_bytes);
        spill.drain(number, &mut |row| {
            *spilled_bytes = spilled_bytes.saturating_sub(row_bytes(&row));
            whole.push(row);
            if whole.bytes > limit { Err(too_large(Some(number), whole.bytes)) } else { Ok(()) }
        })?;
        in_memory.rows.into_iter().for_each(|row| {
            whole.push(row);
        });
        Ok(whole)
    }

    /// Moves the highest commits out of memory until half of what may be there is.
    fn spill(&mut self) -> Result<(), Stop> {
        let Some(spill) = &mut self.spill else {
            let over = self.memory_bytes > self.limits.window_bytes;
            return if over { Err(too_large(None, self.memory_bytes)) } else { Ok(()) };
        };
        while self.memory_bytes > self.limits.memory_bytes / 2
            && let Some((number, commit)) = self.memory.pop_last()
        {
            self.memory_bytes -= commit.bytes;
            self.spilled_bytes += commit.rows.iter().map(row_bytes).sum::<usize>();
            self.spilled_rows += commit.rows.len() as u64;
            spill.append(number, commit.rows)?;
        }
        Ok(())
    }

    /// About, in memory and spilled.
    pub fn bytes(&self) -> usize {
        self.memory_bytes + self.spilled_bytes
    }

    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl Commit {
    /// False for a row that is there already.
    fn push(&mut self, row: RowChange) -> bool {
        let hash = hash(&row);
        let place = *self.places.entry(hash).or_insert(self.rows.len());
        if self.rows.get(place).is_some_and(|known| known.table == row.table && known.op == row.op) {
            return false;
        }
        // Two rows of one hash: the second cannot be found again, and twice does no harm.
        self.bytes += row_bytes(&row);
        self.rows.push(row);
        true
    }
}

/// Within one commit: what is deleted, what is put, and then, as a statement at this commit would, what is emptied.
fn phase(op: &Op) -> u8 {
    match op {
        Op::Delete(_) => 0,
        Op::Put(_) | Op::Insert(_) | Op::Update(_) => 1,
        Op::Truncate => 2,
    }
}

fn values(op: &Op) -> &[Datum] {
    match op {
        Op::Delete(row) | Op::Put(row) | Op::Insert(row) | Op::Update(row) => row,
        Op::Truncate => &[],
    }
}

fn row_bytes(row: &RowChange) -> usize {
    let heap = |datum: &Datum| match datum {
        Datum::Text(text) => text.len(),
        Datum::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let values: &[Datum] = values(&row.op);
    let of_values: usize = size_of::<Row>() + values.iter().map(|v| size_of::<Datum>() + heap(v)).sum::<usize>();
    size_of::<RowChange>() + ROW_OVERHEAD_BYTES + of_values
}

fn hash(row: &RowChange) -> u64 {
    let mut hasher = DefaultHasher::new();
    (row.table, phase(&row.op)).hash(&mut hasher);
    for value in values(&row.op) {
        std::mem::discriminant(value).hash(&mut hasher);
        match value {
            Datum::Null => {}
            Datum::Bool(v) => v.hash(&mut hasher),
            Datum::Int(v) | Datum::Time(v) | Datum::Datetime(v) | Datum::Timestamp(v) => v.hash(&mut hasher),
            Datum::UInt(v) => v.hash(&mut hasher),
            // 0 and -0 are equal rows: one hash too many keeps a duplicate, which does no harm.
            Datum::Float(v) => v.to_bits().hash(&mut hasher),
            Datum::Double(v) => v.to_bits().hash(&mut hasher),
            Datum::Decimal(v) => v.to_le_bytes().hash(&mut hasher),
            Datum::Text(v) => v.hash(&mut hasher),
            Datum::Bytes(v) => v.hash(&mut hasher),
            Datum::Date(v) => v.hash(&mut hasher),
        }
    }
    hasher.finish()
}
