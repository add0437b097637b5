//! Batches as operators read them: chunks, times as of an import, a position.

use std::rc::Rc;

use differential_dataflow::trace::chunk::ChunkBatch;
use differential_dataflow::trace::wrappers::frontier::BatchFrontier;

use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::rows::{Key, gallop};

/// A batch of an arrangement of this dataflow or of an imported one.
pub trait Updates: Clone + 'static {
    fn chunks(&self) -> &[Chunk];

    /// An update's time as the reader has to see it; `None` if it must not see the update at all.
    fn time_seen(&self, time: u64) -> Option<u64>;
}

impl Updates for Rc<ChunkBatch<Chunk>> {
    fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    #[inline]
    fn time_seen(&self, time: u64) -> Option<u64> {
        Some(time)
    }
}

impl<B: Updates> Updates for BatchFrontier<B, u64> {
    fn chunks(&self) -> &[Chunk] {
        self.inner().chunks()
    }

    #[inline]
    fn time_seen(&self, time: u64) -> Option<u64> {
        let mut time = self.inner().time_seen(time)?;
        self.advance_time(&mut time).then_some(time)
    }
}

/// Where a reader stands in the chunks of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub chunk: usize,
    pub row: usize,
}

impl Position {
    /// The chunk and row here; `None` at the end.
    #[inline]
    pub fn get(self, chunks: &[Chunk]) -> Option<(&Chunk, usize)> {
        chunks.get(self.chunk).map(|chunk| (chunk, self.row))
    }

    /// The place of the row here, if its key is `key`.
    #[inline]
    pub fn with_key<'a>(self, chunks: &'a [Chunk], key: &Key) -> Option<(&'a Chunk, usize)> {
        self.get(chunks).filter(|(chunk, row)| chunk.rows().compare_key(*row, key).is_eq())
    }

    /// Moves to `row` of the same chunk, or to the next chunk if that is its end.
    #[inline]
    pub fn go_to(&mut self, chunks: &[Chunk], row: usize) {
        self.row = row;
        if row == chunks[self.chunk].rows().len() {
            (self.chunk, self.row) = (self.chunk + 1, 0);
        }
    }

    /// Moves forward to the first row whose key is `key` or above.
    pub fn seek(&mut self, chunks: &[Chunk], key: &Key) {
        let below = |chunk: &Chunk| chunk.rows().compare_key(chunk.rows().len() - 1, key).is_lt();
        let at = gallop(self.chunk, chunks.len(), |c| below(&chunks[c]));
        if at != self.chunk {
            (self.chunk, self.row) = (at, 0);
        }
        if let Some(chunk) = chunks.get(at) {
            self.row = gallop(self.row, chunk.rows().len(), |i| chunk.rows().compare_key(i, key).is_lt());
        }
    }

    /// Calls `each` for the updates with `key` from here on, and moves behind them.
    pub fn drain_key<'a, B: Updates>(&mut self, batch: &'a B, key: &Key, mut each: impl FnMut(&'a Chunk, usize, u64)) {
        let chunks = batch.chunks();
        while let Some((chunk, row)) = self.with_key(chunks, key) {
            if let Some(time) = batch.time_seen(chunk.time(row)) {
                each(chunk, row, time);
            }
            self.go_to(chunks, row + 1);
        }
    }
}
