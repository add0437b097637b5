//! The engine's handle on the workers: commands in, frontiers and readings out.

use std::sync::{Arc, Mutex, mpsc as threads};
use std::thread::{JoinHandle, Thread};

use tokio::sync::{mpsc, oneshot, watch};

use crate::dataflow::command::{Changes, Command};
use crate::dataflow::describe::Description;
use crate::dataflow::error::ErrorRow;
use crate::dataflow::report::{Shared, Stats};
use crate::dataflow::snapshot::{Snapshot, SnapshotRequest};
use crate::dataflow::tap::{Batch, Tap};
use crate::dataflow::worker;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};

/// The running workers.
pub struct Dataflow {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Commands go out one at a time, so that all workers get them in one order.
    order: Mutex<()>,
}

struct Worker {
    commands: threads::Sender<Command>,
    thread: Thread,
}

impl Dataflow {
    /// Starts the worker threads.
    pub fn start(workers: usize) -> Dataflow {
        let workers = workers.max(1);
        let shared = Arc::new(Shared::new(workers));
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (sender, receiver) = threads::channel();
            senders.push(sender);
            receivers.push(Some(receiver));
        }
        let (started, threads_started) = threads::channel();
        let thread = worker::spawn(receivers, Arc::clone(&shared), started);
        let mut threads: Vec<(usize, Thread)> = threads_started.iter().take(workers).collect();
        threads.sort_by_key(|(index, _)| *index);
        let workers = senders.into_iter().zip(threads).map(|(commands, (_, thread))| Worker { commands, thread });
        Dataflow { workers: workers.collect(), shared, thread: Mutex::new(Some(thread)), order: Mutex::new(()) }
    }

    fn send(&self, command: Command) {
        let _order = self.order.lock().expect("no panic while a command is sent");
        for worker in &self.workers {
            // A worker that has ended is told by `broken`, not to each who asks something of it.
            let _ = worker.commands.send(command.clone());
            worker.thread.unpark();
        }
    }

    pub fn install(&self, description: Description) {
        self.shared.add(&description);
        self.send(Command::Install(Arc::new(description)));
    }

    /// A load piece for one fed input, at a load time.
    pub fn feed(&self, dataflow: ObjectId, table: ObjectId, time: Ts, delta: Delta) {
        self.send(Command::Feed { dataflow, table, time, delta: Arc::new(delta) });
    }

    /// The fed inputs of a dataflow are closed below `to`.
    pub fn advance(&self, dataflow: ObjectId, to: Ts) {
        self.send(Command::Advance { dataflow, to });
    }

    /// Ticks after the `as_of` that came meanwhile are applied; later ones at once.
    pub fn go_live(&self, dataflow: ObjectId) {
        self.send(Command::GoLive { dataflow });
    }

    /// The changes of a tick, to every dataflow that reads their tables; time is closed through `ts`.
    pub fn tick(&self, ts: Ts, changes: Changes) {
        self.send(Command::Tick { ts, changes });
    }

    /// Reads below `since` are over.
    pub fn compact(&self, since: Ts) {
        self.send(Command::Compact { since });
    }

    /// Ends a dataflow that nobody imports.
    pub fn drop_dataflow(&self, dataflow: ObjectId) {
        self.shared.remove(dataflow);
        self.send(Command::Drop { dataflow });
    }

    /// Complete below this; the end of time for one that is not installed.
    pub fn frontier(&self, dataflow: ObjectId) -> Ts {
        self.shared.frontier(dataflow)
    }

    /// Changes whenever a frontier has moved.
    pub fn frontiers(&self) -> watch::Receiver<u64> {
        self.shared.versions()
    }

    /// The rows of a view at a `Ts` that the caller holds and that its frontier has passed.
    pub fn snapshot(&self, object: ObjectId, at: Ts) -> oneshot::Receiver<Result<Snapshot, ErrorRow>> {
        let (request, receiver) = SnapshotRequest::new(at, self.workers.len());
        self.send(Command::Snapshot { object, request });
        receiver
    }

    /// The changes of a view after a `Ts` that the caller holds until the first batch. Dropping the receiver ends it.
    pub fn tap(&self, object: ObjectId, after: Ts) -> mpsc::UnboundedReceiver<Batch> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.send(Command::Tap { object, tap: Arc::new(Tap::new(after, self.workers.len(), sender)) });
        receiver
    }

    pub fn stats(&self) -> Vec<Stats> {
        self.shared.stats()
    }

    /// Completes when a worker has panicked: nothing is computed any more, and only a new process helps.
    pub async fn broken(&self) {
        let mut broken = self.shared.broken();
        // Its sender is in `shared`.
        let _ = broken.wait_for(|broken| *broken).await;
    }

    /// Ends the workers, whatever they are doing.
    pub fn shutdown(&self) {
        self.send(Command::Shutdown);
        let thread = self.thread.lock().expect("no panic while the thread is held").take();
        if let Some(thread) = thread {
            // A worker that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
