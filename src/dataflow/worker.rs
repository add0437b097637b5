//! A worker thread: commands, a slice of work, a report; parked when there is none.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use arrow::array::RecordBatch;
use differential_dataflow::operators::arrange::ShutdownButton;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::core::input::Handle as Input;
use timely::dataflow::operators::probe::Handle as Probe;
use timely::worker::Worker as Timely;

use crate::dataflow::command::{Changes, Command, share};
use crate::dataflow::edge::Edge;
use crate::dataflow::export::Export;
use crate::dataflow::report::Shared;
use crate::dataflow::snapshot::SnapshotRequest;
use crate::dataflow::temporal::Waiting;
use crate::dataflow::{arrange::read, worker::build::build};
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};

mod build;

/// A worker looks up from parking at least this often.
const PARK_MILLIS_MAX: u64 = 100;
/// Sizes are reported with every so many reports of frontiers: counting them walks over all chunks.
const SIZES_EVERY: u64 = 32;

pub(super) type EdgeInput = Input<u64, CapacityContainerBuilder<Edge>>;

/// One dataflow on one worker.
pub(super) struct Installed {
    pub as_of: Ts,
    /// The tables that are fed to it.
    pub inputs: BTreeMap<ObjectId, EdgeInput>,
    pub export: Option<Export>,
    pub probe: Probe<u64>,
    pub buttons: Vec<ShutdownButton<CapabilitySet<u64>>>,
    /// Updates of rows that come and go by the time.
    pub waiting: Vec<Waiting>,
    /// Ticks that came before it went live; `None` once it is.
    pub pending: Option<Vec<(Ts, Changes)>>,
    /// As last reported.
    pub reported: u64,
}

/// Starts the threads; each sends its own handle, so that it can be unparked.
pub(super) fn spawn(
    receivers: Vec<Option<Receiver<Command>>>,
    shared: Arc<Shared>,
    started: Sender<(usize, Thread)>,
) -> JoinHandle<()> {
    let config = timely::Config::process(receivers.len());
    let receivers = Mutex::new(receivers);
    let started = Mutex::new(started);
    let run = move || {
        let guards = timely::execute(config, move |timely| {
            let index = timely.index();
            let _alarm = shared.alarm();
            let commands = receivers.lock().expect("no panic while workers start")[index].take();
            let commands = commands.expect("each worker starts once");
            let thread = std::thread::current();
            started.lock().expect("no panic while workers start").send((index, thread)).expect("the handle waits");
            State { index, shared: Arc::clone(&shared), flows: BTreeMap::new(), taps: Vec::new(), reports: 0 }
                .run(timely, commands);
        });
        // A panic was told by the worker's alarm.
        let _ = guards.map(|guards| guards.join());
    };
    std::thread::Builder::new().name("dataflow".to_string()).spawn(run).expect("a thread can be started")
}

struct State {
    index: usize,
    shared: Arc<Shared>,
    flows: BTreeMap<ObjectId, Installed>,
    taps: Vec<build::Tapped>,
    reports: u64,
}

impl State {
    fn run(mut self, timely: &mut Timely, commands: Receiver<Command>) {
        loop {
            loop {
                match commands.try_recv() {
                    Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => {
                        // Operators of unfinished dataflows are dropped with the worker.
                        for id in timely.installed_dataflows() {
                            timely.drop_dataflow(id);
                        }
                        return;
                    }
                    Ok(command) => self.apply(timely, command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            timely.step_or_park(Some(Duration::from_millis(PARK_MILLIS_MAX)));
            self.report();
        }
    }

    fn apply(&mut self, timely: &mut Timely, command: Command) {
        match command {
            Command::Install(description) => {
                let installed = build(timely, &description, &mut self.flows);
                self.flows.insert(description.id, installed);
            }
            Command::Feed { dataflow, table, time, delta } => {
                let share = share(&delta, self.index, self.shared.workers);
                if let Some(flow) = self.flows.get_mut(&dataflow) {
                    flow.feed(table, time, share);
                }
            }
            Command::Advance { dataflow, to } => {
                if let Some(flow) = self.flows.get_mut(&dataflow) {
                    flow.advance(to);
                }
            }
            Command::GoLive { dataflow } => {
                if let Some(flow) = self.flows.get_mut(&dataflow) {
                    for (ts, changes) in flow.pending.take().into_iter().flatten() {
                        flow.tick(ts, &changes, self.index, self.shared.workers);
                    }
                }
            }
            Command::Tick { ts, changes } => self.tick(ts, &changes),
            Command::Compact { since } => {
                // What is still loading goes at its own pace: see `fold_load`.
                for flow in self.flows.values_mut().filter(|flow| flow.pending.is_none()) {
                    if let Some(export) = &mut flow.export {
                        export.compact(since.0);
                    }
                }
                self.taps.retain_mut(|tapped| tapped.is_wanted());
            }
            Command::Drop { dataflow } => {
                // Inputs close, imports end; the dataflow drains and timely lets it go.
                if let Some(mut flow) = self.flows.remove(&dataflow) {
                    self.taps.retain_mut(|tapped| tapped.keep_without(dataflow));
                    flow.buttons.iter_mut().for_each(ShutdownButton::press);
                }
            }
            Command::Snapshot { object, request } => self.snapshot(object, &request),
            Command::Tap { object, tap } => {
                if let Some(flow) = self.flows.get_mut(&object)
                    && let Some(export) = &mut flow.export
                {
                    self.taps.push(build::tap(timely, object, export, tap, self.index));
                }
            }
            Command::Shutdown => unreachable!("ends the loop"),
        }
    }

    fn tick(&mut self, ts: Ts, changes: &Changes) {
        for flow in self.flows.values_mut() {
            match &mut flow.pending {
                Some(pending) if ts > flow.as_of => {
                    let mine = |(table, _): &&(ObjectId, Delta)| flow.inputs.contains_key(table);
                    let relevant = if changes.iter().any(|change| mine(&change)) {
                        Arc::clone(changes)
                    } else {
                        Changes::default()
                    };
                    pending.push((ts, relevant));
                }
                Some(_) => {}
                None => flow.tick(ts, changes, self.index, self.shared.workers),
            }
        }
    }

    fn snapshot(&self, object: ObjectId, request: &SnapshotRequest) {
        let export = self.flows.get(&object).and_then(|flow| flow.export.as_ref());
        request.give(export.map(|export| {
            let errors = export.errors.as_ref().map(read::chunks).unwrap_or_default();
            (export.reader.clone(), read::chunks(&export.rows), errors)
        }));
    }

    fn report(&mut self) {
        let mut moved = Vec::new();
        for (id, flow) in &mut self.flows {
            // What is complete has left through the taps as well.
            let taps = self.taps.iter().filter(|tapped| tapped.object == *id).map(|tapped| first(&tapped.probe));
            let frontier = taps.min().unwrap_or(u64::MAX).min(first(&flow.probe));
            if frontier != flow.reported {
                flow.reported = frontier;
                flow.fold_load();
                moved.push((*id, frontier));
            }
        }
        if moved.is_empty() {
            return;
        }
        self.reports += 1;
        let sizes = if self.reports.is_multiple_of(SIZES_EVERY) || self.reports < SIZES_EVERY {
            self.flows.iter().filter_map(|(id, flow)| Some((*id, flow.size()?))).collect()
        } else {
            Vec::new()
        };
        self.shared.report(self.index, &moved, &sizes);
    }
}

impl Installed {
    /// Updates that are kept, and their bytes.
    fn size(&self) -> Option<(u64, u64)> {
        let stats = read::stats(&self.export.as_ref()?.rows);
        let kept = (stats.updates as u64, stats.bytes as u64);
        Some(self.waiting.iter().map(|waiting| waiting.get()).fold(kept, |sum, more| (sum.0 + more.0, sum.1 + more.1)))
    }

    fn feed(&mut self, table: ObjectId, time: Ts, delta: Delta) {
        let Some(input) = self.inputs.get_mut(&table) else { return };
        if !delta.is_empty() {
            send(input, delta.rows, time, delta.diffs);
        }
    }

    /// What came of load times that are over becomes one as the load goes on: nobody reads below `as_of`, and importers
    /// hold what they need. Left to the end, all of it would be merged in one step.
    fn fold_load(&mut self) {
        if let (Some(_), Some(export)) = (&self.pending, &mut self.export) {
            export.compact(self.reported.min(self.as_of.0));
        }
    }

    fn advance(&mut self, to: Ts) {
        for input in self.inputs.values_mut() {
            if *input.time() < to.0 {
                input.advance_to(to.0);
            }
        }
    }

    fn tick(&mut self, ts: Ts, changes: &Changes, worker: usize, workers: usize) {
        for (table, delta) in changes.iter() {
            if self.inputs.contains_key(table) {
                self.feed(*table, ts, share(delta, worker, workers));
            }
        }
        self.advance(ts.next());
    }
}

/// The frontier; the end of time for a dataflow that is over.
fn first(probe: &Probe<u64>) -> u64 {
    probe.with_frontier(|frontier| frontier.first().copied().unwrap_or(u64::MAX))
}

fn send(input: &mut EdgeInput, rows: RecordBatch, time: Ts, diffs: Vec<i64>) {
    assert!(time.0 >= *input.time(), "an input is fed at {time}, which is closed");
    let mut edge = Edge { rows, times: vec![time.0; diffs.len()], diffs };
    input.send_batch(&mut edge);
}
