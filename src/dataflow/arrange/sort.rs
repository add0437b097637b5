//! Encoded updates in the order they came, and how they become sorted chunks.

use std::collections::VecDeque;

use timely::container::{ContainerBuilder, PushInto};

use crate::dataflow::arrange::chunk::{CHUNK_ROWS_MAX, Chunk, ChunkBuilder};
use crate::dataflow::arrange::lanes::{DIFF_WORDS_MAX, Lanes};
use crate::dataflow::arrange::rows::Rows;

/// Small containers are sorted together up to this many rows.
const SORT_ROWS_MIN: usize = 2 * CHUNK_ROWS_MAX;
/// And up to this many bytes.
const SORT_BYTES_MIN: usize = 1 << 20;

/// Encoded updates, unordered; `words` of a diff are as `lanes` says.
#[derive(Clone, Debug)]
pub struct Raw {
    pub rows: Rows,
    pub times: Vec<u64>,
    pub diffs: Vec<i64>,
    pub lanes: Lanes,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw::new(Lanes::NONE)
    }
}

impl timely::Accountable for Raw {
    fn record_count(&self) -> i64 {
        self.times.len() as i64
    }
}

impl Raw {
    pub fn new(lanes: Lanes) -> Raw {
        Raw { rows: Rows::default(), times: Vec::new(), diffs: Vec::new(), lanes }
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    #[inline]
    pub fn diff(&self, i: usize) -> &[i64] {
        &self.diffs[i * self.lanes.words()..(i + 1) * self.lanes.words()]
    }

    /// Appends `lo..hi` of another container of the same arrangement.
    pub fn extend(&mut self, other: &Raw, lo: usize, hi: usize) {
        let words = other.lanes.words();
        self.lanes = other.lanes;
        self.rows.extend(&other.rows, lo, hi);
        self.times.extend_from_slice(&other.times[lo..hi]);
        self.diffs.extend_from_slice(&other.diffs[lo * words..hi * words]);
    }

    fn is_large(&self) -> bool {
        self.len() >= SORT_ROWS_MIN || self.rows.bytes_in(0, self.len()) >= SORT_BYTES_MIN
    }

    /// The updates in order, equal ones added up, as chunks.
    pub(super) fn sorted(&self, out: &mut VecDeque<Chunk>) {
        let (rows, words) = (&self.rows, self.lanes.words());
        let mut order: Vec<(u128, u32)> = (0..self.len()).map(|i| (rows.row_prefix(i), i as u32)).collect();
        order.sort_unstable_by(|(a_prefix, a), (b_prefix, b)| {
            let (a, b) = (*a as usize, *b as usize);
            a_prefix.cmp(b_prefix).then_with(|| {
                rows.compare(a, rows, b).then_with(|| self.times[a].cmp(&self.times[b])).then_with(|| a.cmp(&b))
            })
        });
        let bytes = rows.bytes_in(0, self.len());
        let mut chunk = ChunkBuilder::with_capacity(self.lanes, self.len(), bytes);
        let mut sum = [0; DIFF_WORDS_MAX];
        let sum = &mut sum[..words];
        let mut at = 0;
        while at < order.len() {
            let (prefix, head) = (order[at].0, order[at].1 as usize);
            sum.copy_from_slice(self.diff(head));
            at += 1;
            while let Some((other_prefix, other)) = order.get(at)
                && *other_prefix == prefix
                && self.times[head] == self.times[*other as usize]
                && rows.compare(head, rows, *other as usize).is_eq()
            {
                self.lanes.add(sum, self.diff(*other as usize));
                at += 1;
            }
            if sum.iter().any(|word| *word != 0) {
                if !chunk.fits(rows.bytes_in(head, head + 1)) {
                    out.extend(chunk.finish());
                    chunk = ChunkBuilder::with_capacity(self.lanes, order.len() - at, bytes);
                }
                chunk.push(rows, head, self.times[head], sum);
            }
        }
        out.extend(chunk.finish());
    }
}

/// Sorts encoded updates into chunks, some containers at a time: the first stage of the merge batcher.
#[derive(Debug, Default)]
pub struct Sorter {
    pending: Raw,
    ready: VecDeque<Chunk>,
    current: Chunk,
}

impl<'a> PushInto<&'a mut Raw> for Sorter {
    fn push_into(&mut self, raw: &'a mut Raw) {
        let raw = std::mem::take(raw);
        if raw.is_large() {
            return raw.sorted(&mut self.ready);
        }
        if self.pending.len() == 0 {
            self.pending = raw;
        } else {
            self.pending.extend(&raw, 0, raw.len());
        }
        if self.pending.is_large() {
            std::mem::take(&mut self.pending).sorted(&mut self.ready);
        }
    }
}

impl ContainerBuilder for Sorter {
    type Container = Chunk;

    fn extract(&mut self) -> Option<&mut Chunk> {
        self.current = self.ready.pop_front()?;
        Some(&mut self.current)
    }

    fn finish(&mut self) -> Option<&mut Chunk> {
        if self.pending.len() > 0 {
            std::mem::take(&mut self.pending).sorted(&mut self.ready);
        }
        self.extract()
    }
}
