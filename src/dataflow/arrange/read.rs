//! Reading an arrangement from outside: chunks merged and consolidated at one time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use differential_dataflow::trace::TraceReader;

use crate::dataflow::arrange::batch::Updates;
use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::layout::{Columns, Layout};

/// Rows in one batch of a reading.
pub const READ_ROWS_MAX: usize = 8192;
/// Encoded bytes in one batch of a reading, unless a single row has more.
pub const READ_BYTES_MAX: usize = 4 << 20;

/// What a trace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub updates: usize,
    pub bytes: usize,
    pub batches: usize,
}

pub fn stats<Tr: TraceReader<Batch: Updates>>(trace: &Tr) -> Stats {
    let mut stats = Stats::default();
    trace.map_spans(|span| {
        let Some(batch) = &span.inner else { return };
        stats.batches += 1;
        for chunk in batch.chunks() {
            stats.updates += chunk.rows().len();
            stats.bytes += chunk.heap_bytes();
        }
    });
    stats
}

/// The chunks of a trace, batch by batch; each inner list is in order. Any thread may read them.
pub fn chunks<Tr: TraceReader<Batch: Updates>>(trace: &Tr) -> Vec<Vec<Chunk>> {
    let mut all = Vec::new();
    trace.map_spans(|span| all.extend(span.inner.as_ref().map(|batch| batch.chunks().to_vec())));
    all
}

/// Rows of an arrangement at one time, in the order of their bytes, as Arrow batches with counts.
///
/// The chunks must hold every update at or before the time, and not be compacted beyond it.
pub struct Reading {
    runs: BinaryHeap<Run>,
    at: u64,
    keys: Columns,
    values: Columns,
    schema: SchemaRef,
}

/// Some rows and how often each is there: negative if the input broke its contract.
#[derive(Clone, Debug)]
pub struct Counted {
    pub rows: RecordBatch,
    pub counts: Vec<i64>,
}

/// The next update of one batch; the least is the greatest, for the heap.
struct Run {
    chunks: std::vec::IntoIter<Chunk>,
    chunk: Chunk,
    row: usize,
}

impl Reading {
    /// Key columns, then value columns, named and typed as `schema` says.
    pub fn new(batches: Vec<Vec<Chunk>>, at: u64, layout: &Layout, schema: SchemaRef) -> Reading {
        let all = |codec: &crate::row::codec::RowCodec| Columns::new(codec, (0..codec.types().len()).collect());
        Reading {
            runs: batches.into_iter().filter_map(Run::new).collect(),
            at,
            keys: all(layout.key()),
            values: all(layout.value()),
            schema,
        }
    }

    /// The next row and its count, unless that is zero.
    fn next_row(&mut self) -> Option<(Chunk, usize, i64)> {
        while let Some(run) = self.runs.pop() {
            let (chunk, row) = (run.chunk.clone(), run.row);
            let mut count = 0;
            let mut next = Some(run);
            while let Some(run) = next {
                if run.chunk.time(run.row) <= self.at {
                    count += run.chunk.count(run.row);
                }
                self.runs.extend(run.step());
                let same = |run: &Run| run.chunk.rows().compare(run.row, chunk.rows(), row).is_eq();
                next = if self.runs.peek().is_some_and(same) { self.runs.pop() } else { None };
            }
            if count != 0 {
                return Some((chunk, row, count));
            }
        }
        None
    }
}

impl Iterator for Reading {
    type Item = Counted;

    fn next(&mut self) -> Option<Counted> {
        let (mut found, mut counts, mut bytes) = (Vec::new(), Vec::new(), 0);
        while found.len() < READ_ROWS_MAX && bytes < READ_BYTES_MAX {
            let Some((chunk, row, count)) = self.next_row() else { break };
            bytes += chunk.rows().bytes_in(row, row + 1);
            found.push((chunk, row));
            counts.push(count);
        }
        if found.is_empty() {
            return None;
        }
        let mut columns: Vec<ArrayRef> = self.keys.decode(found.iter().map(|(chunk, row)| chunk.key(*row).bytes()));
        columns.extend(self.values.decode(found.iter().map(|(chunk, row)| chunk.rows().value(*row))));
        let options = RecordBatchOptions::new().with_row_count(Some(counts.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        Some(Counted { rows: rows.expect("the schema is of the layout's columns"), counts })
    }
}

impl Run {
    fn new(chunks: Vec<Chunk>) -> Option<Run> {
        let mut chunks = chunks.into_iter();
        let chunk = chunks.next()?;
        Some(Run { chunks, chunk, row: 0 })
    }

    fn step(mut self) -> Option<Run> {
        self.row += 1;
        if self.row == self.chunk.rows().len() {
            (self.chunk, self.row) = (self.chunks.next()?, 0);
        }
        Some(self)
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Run) -> Ordering {
        other.chunk.rows().compare(other.row, self.chunk.rows(), self.row)
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Run) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Run) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run {}
