//! A view's changes as they become complete, handed to one reader.

use std::sync::Mutex;

use arrow::array::{BooleanArray, RecordBatch};
use tokio::sync::mpsc;

use crate::dataflow::edge::Edge;
use crate::dataflow::error::{ErrorRow, error_rows};
use crate::dataflow::expr::select;
use crate::row::Ts;

/// Diffs of a view for `[lower, upper)`; without updates it says only that nothing changed.
#[derive(Clone, Debug)]
pub struct Batch {
    pub lower: Ts,
    pub upper: Ts,
    /// Rows, their times and diffs.
    pub updates: Vec<(RecordBatch, Vec<Ts>, Vec<i64>)>,
    pub errors: Vec<(ErrorRow, Ts, i64)>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.errors.is_empty()
    }
}

/// Where the workers put what they have of a tapped view; what all of them have closed leaves as a batch.
pub(super) struct Tap {
    /// Nothing at or below this leaves.
    pub after: u64,
    state: Mutex<State>,
}

struct State {
    /// Complete below, worker by worker.
    frontiers: Vec<u64>,
    lower: u64,
    rows: Vec<Edge>,
    errors: Vec<Edge>,
    sender: mpsc::UnboundedSender<Batch>,
}

impl Tap {
    pub fn new(after: Ts, workers: usize, sender: mpsc::UnboundedSender<Batch>) -> Tap {
        let lower = after.0 + 1;
        let state = State { frontiers: vec![lower; workers], lower, rows: Vec::new(), errors: Vec::new(), sender };
        Tap { after: after.0, state: Mutex::new(state) }
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().expect("no panic while a tap is held").sender.is_closed()
    }

    /// What one worker read since the last call, and below which time it has everything.
    pub fn give(&self, worker: usize, frontier: u64, rows: Vec<Edge>, errors: Vec<Edge>) {
        let mut state = self.state.lock().expect("no panic while a tap is held");
        state.rows.extend(rows);
        state.errors.extend(errors);
        state.frontiers[worker] = frontier.max(state.frontiers[worker]);
        let upper = *state.frontiers.iter().min().expect("there is a worker");
        if upper <= state.lower {
            return;
        }
        let lower = std::mem::replace(&mut state.lower, upper);
        let updates = closed(&mut state.rows, upper)
            .into_iter()
            .map(|edge| (edge.rows, edge.times.into_iter().map(Ts).collect(), edge.diffs))
            .collect();
        let errors = closed(&mut state.errors, upper)
            .into_iter()
            .flat_map(|edge| {
                let rows = error_rows(edge.rows.columns());
                rows.into_iter().zip(edge.times.into_iter().map(Ts)).zip(edge.diffs)
            })
            .map(|((error, time), diff)| (error, time, diff))
            .collect();
        // A reader that is gone ends the tap at the worker's next look.
        let _ = state.sender.send(Batch { lower: Ts(lower), upper: Ts(upper), updates, errors });
    }
}

/// Takes the updates below `upper` out of some edges.
fn closed(edges: &mut Vec<Edge>, upper: u64) -> Vec<Edge> {
    let mut closed = Vec::new();
    let mut open = Vec::new();
    for edge in edges.drain(..) {
        let below: BooleanArray = edge.times.iter().map(|time| Some(*time < upper)).collect();
        match below.true_count() {
            0 => open.push(edge),
            all if all == edge.times.len() => closed.push(edge),
            _ => {
                let rest: BooleanArray = edge.times.iter().map(|time| Some(*time >= upper)).collect();
                open.push(select(edge.clone(), &rest));
                closed.push(select(edge, &below));
            }
        }
    }
    *edges = open;
    closed
}
