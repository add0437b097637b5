//! The equijoin of two arrangements, a batch at a time.
//! together.
//!
//! Both sides are arranged by keys of one list of types; the empty key makes it a cross join. A key with many rows on
//! both sides is left and taken up again in between: what is gathered is bounded by rows and by bytes.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::operators::join::{Fresh, JoinTactic, join_with_tactic};
use differential_dataflow::trace::TraceReader;
use timely::dataflow::Stream;
use timely::order::TotalOrder;

use crate::dataflow::arrange::batch::{Position, Updates};
use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::layout::{Columns, Layout};
use crate::dataflow::arrange::rows::gallop;
use crate::dataflow::edge::Edge;

/// Rows in one output container.
const JOIN_ROWS_MAX: usize = 8192;
/// Encoded bytes that go into one output container, unless a single match has more.
const JOIN_BYTES_MAX: usize = 4 << 20;

/// A column of the join's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinColumn {
    /// A column of the key, which both sides share.
    Key(usize),
    /// A column of the left layout's value.
    Left(usize),
    /// A column of the right layout's value.
    Right(usize),
}

/// What a join makes of a match.
#[derive(Clone)]
pub struct JoinOutput {
    schema: SchemaRef,
    columns: Vec<JoinColumn>,
    key: Columns,
    left: Columns,
    right: Columns,
}

impl JoinOutput {
    /// The `columns`, named and typed as `schema` says; only they are decoded.
    pub fn new(left: &Layout, right: &Layout, columns: Vec<JoinColumn>, schema: SchemaRef) -> JoinOutput {
        assert_eq!(left.key().types(), right.key().types(), "both sides of a join have keys of one list of types");
        let wanted = |of: fn(&JoinColumn) -> Option<usize>| columns.iter().filter_map(of).collect();
        let key = wanted(|c| if let JoinColumn::Key(i) = c { Some(*i) } else { None });
        let left_value = wanted(|c| if let JoinColumn::Left(i) = c { Some(*i) } else { None });
        let right_value = wanted(|c| if let JoinColumn::Right(i) = c { Some(*i) } else { None });
        JoinOutput {
            schema,
            columns,
            key: Columns::new(left.key(), key),
            left: Columns::new(left.value(), left_value),
            right: Columns::new(right.value(), right_value),
        }
    }

    fn batch(&self, key: Vec<ArrayRef>, left: Vec<ArrayRef>, right: Vec<ArrayRef>, len: usize) -> RecordBatch {
        let (mut key, mut left, mut right) = (key.into_iter(), left.into_iter(), right.into_iter());
        let column = |column: &JoinColumn| match column {
            JoinColumn::Key(_) => key.next(),
            JoinColumn::Left(_) => left.next(),
            JoinColumn::Right(_) => right.next(),
        };
        let columns: Option<Vec<ArrayRef>> = self.columns.iter().map(column).collect();
        let columns = columns.expect("one decoded column for each wanted one");
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        rows.expect("the output's schema is of the layouts' columns")
    }
}

/// Joins two arrangements: of this dataflow, or imported as of a time.
pub fn join<'s, L, R>(
    left: Arranged<'s, L>,
    right: Arranged<'s, R>,
    name: &str,
    output: JoinOutput,
) -> Stream<'s, u64, Edge>
where
    L: TraceReader<Time = u64, Batch: Updates> + 'static,
    R: TraceReader<Time = u64, Batch: Updates> + 'static,
    u64: TotalOrder,
{
    join_with_tactic::<_, _, _, Edge>(left, right, name, Gather { output: Arc::new(output) })
}

struct Gather {
    output: Arc<JoinOutput>,
}

impl<L: Updates, R: Updates> JoinTactic<u64, L, R, Edge> for Gather {
    fn prep(&mut self, left: Vec<L>, right: Vec<R>, fresh: Fresh, meet: u64) -> Box<dyn Iterator<Item = Edge>> {
        let output = self.output.clone();
        match fresh {
            Fresh::Input0 => Box::new(Matches::new(left, right, true, meet, output)),
            Fresh::Input1 => Box::new(Matches::new(right, left, false, meet, output)),
        }
    }
}

/// The matches of some fresh batches with everything on the other side, container by container.
struct Matches<F, O> {
    fresh: Vec<F>,
    /// The batch, chunk and rows of the run of equal keys in `fresh` that is matched.
    batch: usize,
    chunk: usize,
    run: Range<usize>,
    others: Vec<O>,
    /// Where the run's key, or the first above it, is in each of `others`.
    positions: Vec<Position>,
    /// The product that was left: in which other batch, where in it, and which row of the run comes next.
    left_off: Option<(usize, Position, usize)>,
    meet: u64,
    fresh_is_left: bool,
    output: Arc<JoinOutput>,
    found: Found,
}

/// A row of a list of batches.
#[derive(Clone, Copy)]
struct At {
    batch: u32,
    chunk: u32,
    row: u32,
}

/// Matches by position, in parallel lists.
#[derive(Default)]
struct Found {
    fresh: Vec<At>,
    other: Vec<At>,
    times: Vec<u64>,
    diffs: Vec<i64>,
    bytes: usize,
}

impl<F: Updates, O: Updates> Matches<F, O> {
    fn new(fresh: Vec<F>, others: Vec<O>, fresh_is_left: bool, meet: u64, output: Arc<JoinOutput>) -> Matches<F, O> {
        let positions = vec![Position::default(); others.len()];
        let (batch, chunk, run, left_off, found) = (0, 0, 0..0, None, Found::default());
        Matches { fresh, batch, chunk, run, others, positions, left_off, meet, fresh_is_left, output, found }
    }

    /// Goes to the next run of equal keys within a chunk; false at the end.
    fn next_run(&mut self) -> bool {
        loop {
            let Some(batch) = self.fresh.get(self.batch) else { return false };
            let Some(chunk) = batch.chunks().get(self.chunk) else {
                (self.batch, self.chunk, self.run) = (self.batch + 1, 0, 0..0);
                self.positions.fill(Position::default());
                continue;
            };
            let (rows, start) = (chunk.rows(), self.run.end);
            if start == rows.len() {
                (self.chunk, self.run) = (self.chunk + 1, 0..0);
                continue;
            }
            let key = chunk.key(start);
            self.run = start..gallop(start + 1, rows.len(), |i| rows.compare_key(i, &key).is_eq());
            return true;
        }
    }

    /// Matches the run with the others from where it was left; stops early when enough is found.
    fn match_run(&mut self) {
        let fresh_batch = &self.fresh[self.batch];
        let fresh = &fresh_batch.chunks()[self.chunk];
        let key = fresh.key(self.run.start);
        let mut left_off = self.left_off.take();
        let first = left_off.as_ref().map_or(0, |(other, ..)| *other);
        for (o, other) in self.others.iter().enumerate().skip(first) {
            let chunks = other.chunks();
            let (mut position, mut next) = match left_off.take() {
                Some((_, position, next)) => (position, next),
                None => {
                    self.positions[o].seek(chunks, &key);
                    (self.positions[o], self.run.start)
                }
            };
            while let Some((chunk, row)) = position.with_key(chunks, &key) {
                let at = At { batch: o as u32, chunk: position.chunk as u32, row: row as u32 };
                if let Some(time) = other.time_seen(chunk.time(row)) {
                    let (time, count) = (time.max(self.meet), chunk.count(row));
                    let bytes = chunk.rows().bytes_in(row, row + 1);
                    while next < self.run.end {
                        if self.found.is_full() {
                            self.left_off = Some((o, position, next));
                            return;
                        }
                        if let Some(fresh_time) = fresh_batch.time_seen(fresh.time(next)) {
                            let fresh_at = At { batch: self.batch as u32, chunk: self.chunk as u32, row: next as u32 };
                            let diff = count.checked_mul(fresh.count(next)).expect("a multiplicity is below 2^63");
                            let bytes = bytes + fresh.rows().bytes_in(next, next + 1);
                            self.found.push(fresh_at, at, time.max(fresh_time), diff, bytes);
                        }
                        next += 1;
                    }
                }
                next = self.run.start;
                position.go_to(chunks, row + 1);
            }
        }
    }

    /// What is found so far, decoded; `None` if that is nothing.
    fn take(&mut self) -> Option<Edge> {
        let found = std::mem::take(&mut self.found);
        let len = found.times.len();
        if len == 0 {
            return None;
        }
        let fresh = || found.fresh.iter().map(|at| at.of(&self.fresh));
        let other = || found.other.iter().map(|at| at.of(&self.others));
        let output = &self.output;
        let (of_fresh, of_other) =
            if self.fresh_is_left { (&output.left, &output.right) } else { (&output.right, &output.left) };
        let key = output.key.decode(fresh().map(|(chunk, row)| chunk.key(row).bytes()));
        let of_fresh = of_fresh.decode(fresh().map(|(chunk, row)| chunk.rows().value(row)));
        let of_other = of_other.decode(other().map(|(chunk, row)| chunk.rows().value(row)));
        let (left, right) = if self.fresh_is_left { (of_fresh, of_other) } else { (of_other, of_fresh) };
        Some(Edge { rows: output.batch(key, left, right, len), times: found.times, diffs: found.diffs })
    }
}

impl<F: Updates, O: Updates> Iterator for Matches<F, O> {
    type Item = Edge;

    fn next(&mut self) -> Option<Edge> {
        loop {
            if self.left_off.is_some() || self.next_run() {
                self.match_run();
            } else {
                return self.take();
            }
            if self.found.is_full() {
                return self.take();
            }
        }
    }
}

impl At {
    fn of<B: Updates>(self, batches: &[B]) -> (&Chunk, usize) {
        (&batches[self.batch as usize].chunks()[self.chunk as usize], self.row as usize)
    }
}

impl Found {
    fn is_full(&self) -> bool {
        self.times.len() >= JOIN_ROWS_MAX || self.bytes >= JOIN_BYTES_MAX
    }

    fn push(&mut self, fresh: At, other: At, time: u64, diff: i64, bytes: usize) {
        self.fresh.push(fresh);
        self.other.push(other);
        self.times.push(time);
        self.diffs.push(diff);
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests;
