//! How chunks merge, split by time, advance to a compaction frontier and settle into full ones.

use std::cmp::Ordering;
use std::collections::VecDeque;

use differential_dataflow::trace::chunk::Chunk as ChunkOps;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use crate::dataflow::arrange::chunk::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, Chunk, ChunkBuilder};
use crate::dataflow::arrange::lanes::{DIFF_WORDS_MAX, Lanes};
use crate::dataflow::arrange::rows::gallop;

/// Times are totally ordered, so a frontier is one time, or none when everything is behind it.
fn total(frontier: AntichainRef<u64>) -> Option<u64> {
    frontier.iter().next().copied()
}

impl ChunkOps for Chunk {
    type Time = u64;
    const TARGET: usize = CHUNK_ROWS_MAX;

    fn len(&self) -> usize {
        self.rows().len()
    }

    fn merge(in1: &mut VecDeque<Chunk>, in2: &mut VecDeque<Chunk>, out: &mut VecDeque<Chunk>) {
        let (mut a, mut b) = (Reader::new(in1), Reader::new(in2));
        let mut run = Run::new(a.chunk.lanes(), a.chunk.rows().heap_bytes() + b.chunk.rows().heap_bytes());
        loop {
            match compare(&a.chunk, a.at, &b.chunk, b.at) {
                Ordering::Less => run.take_below(&mut a, &b, out),
                Ordering::Greater => run.take_below(&mut b, &a, out),
                Ordering::Equal => {
                    run.add(&a.chunk, a.at);
                    run.add(&b.chunk, b.at);
                    run.close(&a.chunk, a.at, a.chunk.time(a.at), out);
                    a.at += 1;
                    b.at += 1;
                }
            }
            let (more_a, more_b) = (a.refill(in1), b.refill(in2));
            if !more_a || !more_b {
                break;
            }
        }
        run.flush(out);
        a.give_back(in1);
        b.give_back(in2);
    }

    fn extract(
        input: &mut VecDeque<Chunk>,
        frontier: AntichainRef<u64>,
        residual: &mut Antichain<u64>,
        keep: &mut VecDeque<Chunk>,
        ship: &mut VecDeque<Chunk>,
    ) {
        let Some(chunk) = input.pop_front() else { return };
        let Some(frontier) = total(frontier) else {
            ship.push_back(chunk);
            return;
        };
        if let Some(time) = chunk.same_time() {
            if time < frontier {
                ship.push_back(chunk);
            } else {
                residual.insert(time);
                keep.push_back(chunk);
            }
            return;
        }
        let (mut kept, mut shipped) = (Run::new(chunk.lanes(), 0), Run::new(chunk.lanes(), 0));
        for i in 0..chunk.len() {
            if chunk.time(i) < frontier {
                shipped.extend(&chunk, i, i + 1, ship);
            } else {
                residual.insert(chunk.time(i));
                kept.extend(&chunk, i, i + 1, keep);
            }
        }
        kept.flush(keep);
        shipped.flush(ship);
    }

    fn advance(input: &mut VecDeque<Chunk>, frontier: AntichainRef<u64>, done: bool, out: &mut VecDeque<Chunk>) {
        let Some(frontier) = total(frontier) else {
            // Nothing can be read any more.
            input.clear();
            return;
        };
        while let Some(chunks) = chunks_to_split(input, done) {
            advance_chunks(chunks, frontier, out);
        }
    }

    fn settle(input: &mut VecDeque<Chunk>, done: bool, out: &mut VecDeque<Chunk>) {
        let (mut carry, mut rows, mut bytes) = (VecDeque::new(), 0, 0);
        while let Some(chunk) = input.pop_front() {
            let (more_rows, more_bytes) = (chunk.len(), row_bytes(&chunk));
            if !carry.is_empty() && (rows + more_rows > CHUNK_ROWS_MAX || bytes + more_bytes > CHUNK_BYTES_MAX) {
                out.push_back(combine(&mut carry));
                (rows, bytes) = (0, 0);
            }
            (rows, bytes) = (rows + more_rows, bytes + more_bytes);
            carry.push_back(chunk);
        }
        match (done, carry.is_empty()) {
            (_, true) => {}
            (true, false) => out.push_back(combine(&mut carry)),
            (false, false) => *input = carry,
        }
    }
}

/// Orders updates: by row, then by time.
#[inline]
fn compare(a: &Chunk, i: usize, b: &Chunk, j: usize) -> Ordering {
    a.rows().compare(i, b.rows(), j).then_with(|| a.time(i).cmp(&b.time(j)))
}

fn row_bytes(chunk: &Chunk) -> usize {
    chunk.rows().bytes_in(0, chunk.len())
}

/// One side of a merge: a chunk and how far it is read.
struct Reader {
    chunk: Chunk,
    at: usize,
}

impl Reader {
    fn new(input: &mut VecDeque<Chunk>) -> Reader {
        Reader { chunk: input.pop_front().expect("merge is called with two non-empty inputs"), at: 0 }
    }

    /// Goes on to the next chunk at the end of this one; false if there is none.
    #[inline]
    fn refill(&mut self, input: &mut VecDeque<Chunk>) -> bool {
        if self.at < self.chunk.len() {
            return true;
        }
        let Some(chunk) = input.pop_front() else { return false };
        *self = Reader { chunk, at: 0 };
        true
    }

    fn give_back(self, input: &mut VecDeque<Chunk>) {
        if self.at == 0 {
            input.push_front(self.chunk);
        } else if self.at < self.chunk.len() {
            let mut rest = ChunkBuilder::new(self.chunk.lanes());
            rest.extend(&self.chunk, self.at, self.chunk.len());
            input.push_front(rest.finish().expect("a rest has updates"));
        }
    }
}

/// Chunks being written: updates in order, and the sum of the diffs of the update that is open.
struct Run {
    lanes: Lanes,
    bytes_guess: usize,
    chunk: ChunkBuilder,
    sum: [i64; DIFF_WORDS_MAX],
}

impl Run {
    fn new(lanes: Lanes, bytes_guess: usize) -> Run {
        let bytes_guess = bytes_guess.min(CHUNK_BYTES_MAX);
        let rows = if bytes_guess > 0 { CHUNK_ROWS_MAX } else { 0 };
        Run {
            lanes,
            bytes_guess,
            chunk: ChunkBuilder::with_capacity(lanes, rows, bytes_guess),
            sum: [0; DIFF_WORDS_MAX],
        }
    }

    #[inline]
    fn add(&mut self, chunk: &Chunk, i: usize) {
        self.lanes.add(&mut self.sum[..self.lanes.words()], chunk.diff(i));
    }

    /// Writes row `i` with what was added, unless that is nothing.
    fn close(&mut self, chunk: &Chunk, i: usize, time: u64, out: &mut VecDeque<Chunk>) {
        let words = self.lanes.words();
        if self.sum[..words].iter().any(|w| *w != 0) {
            self.make_room(chunk.rows().bytes_in(i, i + 1), out);
            self.chunk.push(chunk.rows(), i, time, &self.sum[..words]);
            self.sum[..words].fill(0);
        }
    }

    /// Takes the updates of `from` that are below the next one of `bound`: whole chunks as they are.
    fn take_below(&mut self, from: &mut Reader, bound: &Reader, out: &mut VecDeque<Chunk>) {
        let len = from.chunk.len();
        let end = gallop(from.at + 1, len, |i| compare(&from.chunk, i, &bound.chunk, bound.at).is_lt());
        if from.at == 0 && end == len && self.chunk.is_empty() {
            out.push_back(from.chunk.clone());
        } else {
            self.extend(&from.chunk, from.at, end, out);
        }
        from.at = end;
    }

    fn extend(&mut self, chunk: &Chunk, mut lo: usize, hi: usize, out: &mut VecDeque<Chunk>) {
        while lo < hi {
            self.make_room(chunk.rows().bytes_in(lo, lo + 1), out);
            let room = CHUNK_ROWS_MAX - self.chunk.len();
            let mut end = hi.min(lo + room);
            while end > lo + 1 && !self.chunk.fits(chunk.rows().bytes_in(lo, end)) {
                end = lo + (end - lo) / 2;
            }
            self.chunk.extend(chunk, lo, end);
            lo = end;
        }
    }

    #[inline]
    fn make_room(&mut self, bytes: usize, out: &mut VecDeque<Chunk>) {
        if !self.chunk.fits(bytes) {
            self.flush(out);
            self.chunk = ChunkBuilder::with_capacity(self.lanes, CHUNK_ROWS_MAX, self.bytes_guess);
        }
    }

    fn flush(&mut self, out: &mut VecDeque<Chunk>) {
        out.extend(self.chunk.finish());
    }
}

/// The chunks at the front that share rows at their borders; `None` while the last one may go on in a chunk to come.
fn chunks_to_split(input: &mut VecDeque<Chunk>, done: bool) -> Option<Vec<Chunk>> {
    let continues = |a: &Chunk, b: &Chunk| a.rows().compare(a.len() - 1, b.rows(), 0).is_eq();
    let mut count = 1;
    while count < input.len() && continues(&input[count - 1], &input[count]) {
        count += 1;
    }
    if input.is_empty() || (count == input.len() && !done) {
        return None;
    }
    Some(input.drain(..count).collect())
}

fn advance_chunks(mut chunks: Vec<Chunk>, frontier: u64, out: &mut VecDeque<Chunk>) {
    if let [chunk] = &chunks[..] {
        let time = chunk.same_time();
        let unique = time.is_some() || (1..chunk.len()).all(|i| chunk.rows().compare(i - 1, chunk.rows(), i).is_ne());
        if unique && let Some(chunk) = chunks.pop() {
            out.push_back(match time {
                Some(time) => chunk.at(time.max(frontier)),
                None => chunk.not_before(frontier),
            });
            return;
        }
    }
    let mut run = Run::new(chunks[0].lanes(), chunks.iter().map(row_bytes).sum());
    let mut open: Option<(&Chunk, usize, u64)> = None;
    for chunk in &chunks {
        for i in 0..chunk.len() {
            let time = chunk.time(i).max(frontier);
            if let Some((head, at, head_time)) = open
                && (head_time != time || head.rows().compare(at, chunk.rows(), i).is_ne())
            {
                run.close(head, at, head_time, out);
                open = None;
            }
            run.add(chunk, i);
            open.get_or_insert((chunk, i, time));
        }
    }
    if let Some((head, at, time)) = open {
        run.close(head, at, time, out);
    }
    run.flush(out);
}

/// A run of chunks as one.
fn combine(run: &mut VecDeque<Chunk>) -> Chunk {
    if run.len() > 1 {
        let (rows, bytes) = (run.iter().map(Chunk::len).sum(), run.iter().map(row_bytes).sum());
        let mut combined = ChunkBuilder::with_capacity(run[0].lanes(), rows, bytes);
        run.drain(..).for_each(|chunk| combined.extend(&chunk, 0, chunk.len()));
        run.extend(combined.finish());
    }
    run.pop_front().expect("a run has a chunk")
}
