//! How far everything is complete, what readers still hold, and which positions each tick bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::dataflow::Dataflow;
use crate::row::{ObjectId, Position, Ts};
use crate::store::TickHeader;

/// Bindings that are kept for sinks; a flush asks for a recent one.
const BINDINGS_MAX: usize = 10_000;

/// The engine's view of time. All of it is about closed timestamps; nothing here mints one.
///
/// Invariants: `complete` never falls; a hold taken at `t` keeps every dataflow's compaction at or below `t` until it
/// is dropped; a dataflow counts towards `complete` from the moment its own frontier has passed it.
pub struct Progress {
    state: Mutex<State>,
    complete: watch::Sender<Ts>,
}

struct State {
    /// The last `Ts` handed to the dataflow.
    last: Ts,
    live: BTreeSet<ObjectId>,
    holds: BTreeMap<Ts, usize>,
    bindings: BTreeMap<Ts, Binding>,
}

/// What a tick stood for.
#[derive(Clone, Debug)]
pub struct Binding {
    pub header: TickHeader,
    pub positions: BTreeMap<ObjectId, Position>,
}

/// Keeps rows at a `Ts` readable until it is dropped.
pub struct Hold {
    at: Ts,
    progress: Arc<Progress>,
}

impl Hold {
    pub fn at(&self) -> Ts {
        self.at
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.progress.lock();
        let count = state.holds.get_mut(&self.at).expect("a hold is counted until it is dropped");
        *count -= 1;
        if *count == 0 {
            state.holds.remove(&self.at);
        }
    }
}

impl Progress {
    pub fn new(last: Ts, binding: Binding) -> Arc<Progress> {
        let state =
            State { last, live: BTreeSet::new(), holds: BTreeMap::new(), bindings: BTreeMap::from([(last, binding)]) };
        Arc::new(Progress { state: Mutex::new(state), complete: watch::Sender::new(last) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while progress is held")
    }

    pub fn complete(&self) -> watch::Receiver<Ts> {
        self.complete.subscribe()
    }

    /// Every live view is complete through this `Ts`.
    pub fn completed(&self) -> Ts {
        *self.complete.borrow()
    }

    pub fn last(&self) -> Ts {
        self.lock().last
    }

    /// A tick or heartbeat was handed to the dataflow.
    pub fn ticked(&self, ts: Ts, header: TickHeader, positions: &BTreeMap<ObjectId, Position>) {
        let mut state = self.lock();
        assert!(ts > state.last, "time grows: {ts} after {}", state.last);
        state.last = ts;
        if !positions.is_empty() {
            let mut all = state.bindings.last_key_value().map(|(_, b)| b.positions.clone()).unwrap_or_default();
            all.extend(positions.iter().map(|(source, position)| (*source, position.clone())));
            state.bindings.insert(ts, Binding { header, positions: all });
        } else if state.bindings.last_key_value().is_none_or(|(_, b)| b.header.number != header.number) {
            let positions = state.bindings.last_key_value().map(|(_, b)| b.positions.clone()).unwrap_or_default();
            state.bindings.insert(ts, Binding { header, positions });
        }
        if state.bindings.len() > BINDINGS_MAX {
            state.bindings.pop_first();
        }
    }

    /// The binding of the last tick at or below `at`; the oldest kept one if that is gone.
    pub fn binding(&self, at: Ts) -> Binding {
        let state = self.lock();
        let found = state.bindings.range(..=at).next_back().or_else(|| state.bindings.first_key_value());
        found.map(|(_, binding)| binding.clone()).expect("the first binding is made with the progress")
    }

    /// How far a source had been read at `at`; `None`: nothing of it.
    pub fn position(&self, at: Ts, source: ObjectId) -> Option<Position> {
        let state = self.lock();
        state.bindings.range(..=at).next_back().and_then(|(_, binding)| binding.positions.get(&source).cloned())
    }

    /// Holds the rows at `at`, or at what is complete now.
    pub fn hold(self: &Arc<Self>, at: Option<Ts>) -> Hold {
        let mut state = self.lock();
        let at = at.unwrap_or(*self.complete.borrow());
        *state.holds.entry(at).or_default() += 1;
        Hold { at, progress: Arc::clone(self) }
    }

    /// Recomputes what is complete from the dataflow's frontiers and lets it compact what nobody holds.
    pub fn advance(&self, dataflow: &Dataflow) {
        let state = self.lock();
        let complete = complete(&state, dataflow);
        let since = state.holds.first_key_value().map_or(complete, |(held, _)| complete.min(*held));
        self.complete.send_if_modified(|current| {
            let moved = complete > *current;
            *current = complete.max(*current);
            moved
        });
        dataflow.compact(since);
    }

    /// Counts a dataflow towards `complete` if it has caught up; tried again by the caller until it has.
    pub fn try_join(&self, dataflow: &Dataflow, object: ObjectId) -> bool {
        let mut state = self.lock();
        let caught_up = dataflow.frontier(object) > *self.complete.borrow();
        if caught_up {
            state.live.insert(object);
        }
        caught_up
    }

    pub fn leave(&self, object: ObjectId) {
        self.lock().live.remove(&object);
    }
}

fn complete(state: &State, dataflow: &Dataflow) -> Ts {
    let slowest = state.live.iter().map(|object| dataflow.frontier(*object)).min();
    match slowest {
        Some(frontier) => Ts(frontier.0.saturating_sub(1)).min(state.last),
        None => state.last,
    }
}
