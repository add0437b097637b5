//! A view's rows at one time, read on any thread from shared chunks.

use std::sync::{Arc, Mutex};

use arrow::compute::concat_batches;
use tokio::sync::oneshot;

use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::read::Reading;
use crate::dataflow::error::{ErrorRow, error_rows};
use crate::dataflow::export::Reader;
use crate::row::Ts;
use crate::row::delta::Delta;

/// The rows of a view at one `Ts`, in the order of its key's bytes.
pub struct Snapshot {
    at: Ts,
    read: Read,
}

/// Gives rows with their multiplicity, so many in each delta but the last.
type Read = Box<dyn FnOnce(usize) -> Rows + Send>;
type Rows = Box<dyn Iterator<Item = Delta> + Send>;

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(at {})", self.at)
    }
}

impl Snapshot {
    pub fn new(at: Ts, read: impl FnOnce(usize) -> Rows + Send + 'static) -> Snapshot {
        Snapshot { at, read: Box::new(read) }
    }

    pub fn at(&self) -> Ts {
        self.at
    }

    /// Rows with their multiplicity, at least `batch_rows` in each delta but the last.
    pub fn batches(self, batch_rows: usize) -> impl Iterator<Item = Delta> + Send {
        (self.read)(batch_rows)
    }

    /// Of sorted lists of chunks, the batches of every worker: held by `Arc`, read on any thread.
    fn of_chunks(at: Ts, reader: Reader, chunks: Vec<Vec<Chunk>>) -> Snapshot {
        Snapshot::new(at, move |batch_rows| {
            let stored = reader.stored.clone();
            let mut reading = Reading::new(chunks, at.0, &reader.layout, stored.clone());
            Box::new(std::iter::from_fn(move || {
                let (mut rows, mut diffs) = (Vec::new(), Vec::new());
                while diffs.len() < batch_rows.max(1) {
                    let Some(counted) = reading.next() else { break };
                    rows.push(counted.rows);
                    diffs.extend(counted.counts);
                }
                if diffs.is_empty() {
                    return None;
                }
                let rows = concat_batches(&stored, &rows).expect("batches of one schema");
                Some(Delta::new(reader.in_order(&rows), diffs))
            }))
        })
    }
}

/// Who waits for a snapshot, and what the workers have given so far.
pub(super) struct SnapshotRequest {
    pub at: Ts,
    state: Mutex<State>,
}

struct State {
    waiting: usize,
    reader: Option<Reader>,
    rows: Vec<Vec<Chunk>>,
    errors: Vec<Vec<Chunk>>,
    reply: Option<oneshot::Sender<Result<Snapshot, ErrorRow>>>,
}

/// What one worker has: how to read it, chunks of rows, chunks of errors.
pub(super) type Part = (Reader, Vec<Vec<Chunk>>, Vec<Vec<Chunk>>);

impl SnapshotRequest {
    pub fn new(at: Ts, workers: usize) -> (Arc<SnapshotRequest>, oneshot::Receiver<Result<Snapshot, ErrorRow>>) {
        let (reply, receiver) = oneshot::channel();
        let state = State { waiting: workers, reader: None, rows: Vec::new(), errors: Vec::new(), reply: Some(reply) };
        (Arc::new(SnapshotRequest { at, state: Mutex::new(state) }), receiver)
    }

    /// One worker's part; the last one answers. A dropped view answers nothing: the receiver ends.
    pub fn give(&self, part: Option<Part>) {
        let mut state = self.state.lock().expect("no panic while a snapshot is gathered");
        state.waiting -= 1;
        match part {
            Some((reader, rows, errors)) => {
                state.reader = Some(reader);
                state.rows.extend(rows);
                state.errors.extend(errors);
            }
            None => state.reply = None,
        }
        if state.waiting > 0 {
            return;
        }
        let (Some(reply), Some(reader)) = (state.reply.take(), state.reader.take()) else { return };
        let chunks = std::mem::take(&mut state.rows);
        let errors = std::mem::take(&mut state.errors);
        drop(state);
        let result = match first_error(errors, self.at) {
            Some(error) => Err(error),
            None => Ok(Snapshot::of_chunks(self.at, reader, chunks)),
        };
        // Whoever asked may be gone.
        let _ = reply.send(result);
    }
}

fn first_error(errors: Vec<Vec<Chunk>>, at: Ts) -> Option<ErrorRow> {
    let reader = Reader::of_errors();
    let counted = Reading::new(errors, at.0, &reader.layout, reader.stored.clone()).next()?;
    error_rows(counted.rows.columns()).into_iter().next()
}
