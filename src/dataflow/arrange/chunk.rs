//! A sorted, consolidated run of updates, shared and immutable: what arrangements are made of.
//!
//! Built by [`ChunkBuilder`]; how chunks merge, split, advance and settle is in `maintain`.

use std::sync::Arc;

use crate::dataflow::arrange::lanes::Lanes;
use crate::dataflow::arrange::rows::{Key, Rows};

/// A chunk holds at most this many updates.
pub const CHUNK_ROWS_MAX: usize = 4096;
/// A chunk's rows have at most this many bytes, or it is a single row.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Updates ordered by (key, value, time), no two alike, none zero. Cloning shares the body; any thread may read it.
#[derive(Clone, Debug)]
pub struct Chunk {
    rows: Arc<Rows>,
    times: Times,
    diffs: Diffs,
}

/// The times of a chunk's updates, one number when they are equal: after a tick, and again once compacted.
#[derive(Clone, Debug)]
enum Times {
    Same(u64),
    Each(Arc<Vec<u64>>),
}

#[derive(Clone, Debug)]
enum Diffs {
    /// Every diff is one row and there are no lanes.
    Ones,
    Words(Arc<Vec<i64>>, Lanes),
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk { rows: Arc::default(), times: Times::Same(0), diffs: Diffs::Ones }
    }
}

impl timely::Accountable for Chunk {
    fn record_count(&self) -> i64 {
        self.rows.len() as i64
    }
}

impl Chunk {
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    #[inline]
    pub fn key(&self, i: usize) -> Key<'_> {
        self.rows.key(i)
    }

    #[inline]
    pub fn time(&self, i: usize) -> u64 {
        match &self.times {
            Times::Same(time) => *time,
            Times::Each(times) => times[i],
        }
    }

    /// The one time of all updates, if it is one.
    pub fn same_time(&self) -> Option<u64> {
        match &self.times {
            Times::Same(time) => Some(*time),
            Times::Each(_) => None,
        }
    }

    pub fn lanes(&self) -> Lanes {
        match &self.diffs {
            Diffs::Ones => Lanes::NONE,
            Diffs::Words(_, lanes) => *lanes,
        }
    }

    /// The words of the update's diff, the row count first.
    #[inline]
    pub fn diff(&self, i: usize) -> &[i64] {
        match &self.diffs {
            Diffs::Ones => &[1],
            Diffs::Words(words, lanes) => &words[i * lanes.words()..(i + 1) * lanes.words()],
        }
    }

    /// The row count of the update's diff.
    #[inline]
    pub fn count(&self, i: usize) -> i64 {
        match &self.diffs {
            Diffs::Ones => 1,
            Diffs::Words(words, lanes) => words[i * lanes.words()],
        }
    }

    /// Bytes in memory, bodies shared with other chunks included.
    pub fn heap_bytes(&self) -> usize {
        let times = match &self.times {
            Times::Same(_) => 0,
            Times::Each(times) => times.capacity() * size_of::<u64>(),
        };
        let diffs = match &self.diffs {
            Diffs::Ones => 0,
            Diffs::Words(words, _) => words.capacity() * size_of::<i64>(),
        };
        self.rows.heap_bytes() + times + diffs
    }

    /// The same updates, all at `time`; only for a chunk whose updates have one time.
    pub(super) fn at(mut self, time: u64) -> Chunk {
        self.times = Times::Same(time);
        self
    }

    /// The same updates, no time below `time`; only for a chunk that holds no row twice.
    pub(super) fn not_before(mut self, time: u64) -> Chunk {
        if let Times::Each(times) = &self.times {
            self.times = fold_times(times.iter().map(|t| (*t).max(time)).collect());
        }
        self
    }
}

/// Collects updates, in order and consolidated by the caller, into a chunk.
#[derive(Debug)]
pub struct ChunkBuilder {
    rows: Rows,
    times: Vec<u64>,
    diffs: Vec<i64>,
    lanes: Lanes,
}

impl ChunkBuilder {
    pub fn new(lanes: Lanes) -> ChunkBuilder {
        ChunkBuilder { rows: Rows::default(), times: Vec::new(), diffs: Vec::new(), lanes }
    }

    pub fn with_capacity(lanes: Lanes, rows: usize, bytes: usize) -> ChunkBuilder {
        let rows = rows.min(CHUNK_ROWS_MAX);
        ChunkBuilder {
            rows: Rows::with_capacity(bytes),
            times: Vec::with_capacity(rows),
            diffs: Vec::with_capacity(rows * lanes.words()),
            lanes,
        }
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether a row of `bytes` more bytes still goes into this chunk.
    #[inline]
    pub fn fits(&self, bytes: usize) -> bool {
        let rows = self.len();
        rows == 0 || (rows < CHUNK_ROWS_MAX && self.rows.bytes_in(0, rows) + bytes <= CHUNK_BYTES_MAX)
    }

    #[inline]
    pub fn push(&mut self, rows: &Rows, i: usize, time: u64, diff: &[i64]) {
        self.rows.extend(rows, i, i + 1);
        self.times.push(time);
        self.diffs.extend_from_slice(diff);
    }

    /// Appends `lo..hi` of a chunk.
    pub fn extend(&mut self, chunk: &Chunk, lo: usize, hi: usize) {
        self.rows.extend(&chunk.rows, lo, hi);
        match &chunk.times {
            Times::Same(time) => self.times.resize(self.times.len() + hi - lo, *time),
            Times::Each(times) => self.times.extend_from_slice(&times[lo..hi]),
        }
        match &chunk.diffs {
            Diffs::Ones => self.diffs.resize(self.diffs.len() + hi - lo, 1),
            Diffs::Words(words, lanes) => {
                self.diffs.extend_from_slice(&words[lo * lanes.words()..hi * lanes.words()]);
            }
        }
    }

    /// The updates so far as a chunk, unless there are none; the builder begins anew.
    pub fn finish(&mut self) -> Option<Chunk> {
        if self.is_empty() {
            return None;
        }
        let mut built = std::mem::replace(self, ChunkBuilder::new(self.lanes));
        built.rows.seal();
        let ones = built.lanes == Lanes::NONE && built.diffs.iter().all(|d| *d == 1);
        built.diffs.shrink_to_fit();
        let diffs = if ones { Diffs::Ones } else { Diffs::Words(Arc::new(built.diffs), built.lanes) };
        Some(Chunk { rows: Arc::new(built.rows), times: fold_times(built.times), diffs })
    }
}

fn fold_times(mut times: Vec<u64>) -> Times {
    if times.iter().all(|t| *t == times[0]) {
        return Times::Same(times[0]);
    }
    times.shrink_to_fit();
    Times::Each(Arc::new(times))
}
