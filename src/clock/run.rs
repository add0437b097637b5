//! The clock's task: gathers transactions, seals ticks, hands them on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::mint::{CEILING_AHEAD_MS, Mint, Reading};
use crate::row::delta::Delta;
use crate::row::{ObjectId, Position, Ts};
use crate::sources::{Event, Transaction};
use crate::store::{Changes, Snapshot, Store, StoreError, Tick, TickHeader};

#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    #[error("the clock has stopped: {0}")]
    Stopped(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the clock drives. Called in order of time, from one task; must not block for long.
pub trait Downstream: Send + Sync + 'static {
    /// The changes of a tick that is durable, or none for a heartbeat: everything is closed up to `ts`.
    fn tick(
        &self,
        ts: Ts,
        header: TickHeader,
        positions: &BTreeMap<ObjectId, Position>,
        changes: Vec<(ObjectId, Delta)>,
    );
    /// Generations that a tick installed; called after `tick`.
    fn installed(&self, tables: &[(ObjectId, u64)]);
    /// An event of a source that is no transaction.
    fn source_event(&self, source: ObjectId, event: Event);
    /// Time is closed up to here by every dataflow.
    fn complete(&self) -> watch::Receiver<Ts>;
    /// The clock cannot go on, e.g. the disk is full: views stay readable at the last tick.
    fn stopped(&self, reason: &str);
}

/// Bounds on what a tick takes and on what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub tick_bytes_max: usize,
    pub in_flight_ticks_max: usize,
    pub in_flight_bytes_max: usize,
    pub heartbeat_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { tick_bytes_max: 8 << 20, in_flight_ticks_max: 4, in_flight_bytes_max: 64 << 20, heartbeat_ms: 1_000 }
    }
}

/// What the engine asks of the clock.
pub enum Control {
    /// A transaction of local tables, with the generations of new ones; the answer is the `Ts` at which it is visible.
    Write { installs: Vec<(ObjectId, u64)>, changes: Changes, done: oneshot::Sender<Result<Ts, String>> },
    /// Runs between two ticks, with the last `Ts` handed on and the tables as of it.
    Between(Box<dyn FnOnce(Ts, Snapshot) + Send>),
    /// Stop after the tick in hand.
    Stop,
}

/// Everything the clock needs; `run` consumes it.
pub struct Clock {
    pub store: Arc<Store>,
    pub downstream: Arc<dyn Downstream>,
    pub sources: mpsc::Receiver<(ObjectId, Event)>,
    pub control: mpsc::Receiver<Control>,
    /// Reads the wall clock.
    pub now: Box<dyn FnMut() -> Reading + Send>,
    /// No `Ts` at or below this is minted, e.g. the highest in any ledger.
    pub floor: Ts,
    pub limits: Limits,
}

/// A tick while it is gathered.
#[derive(Default)]
struct Gathered {
    positions: BTreeMap<ObjectId, Position>,
    installs: Vec<(ObjectId, u64)>,
    changes: Vec<Changes>,
    bytes: usize,
    writers: Vec<oneshot::Sender<Result<Ts, String>>>,
    between: Vec<Box<dyn FnOnce(Ts, Snapshot) + Send>>,
    stop: bool,
}

impl Gathered {
    fn is_heartbeat(&self) -> bool {
        self.positions.is_empty() && self.changes.is_empty()
    }

    fn take(&mut self, source: ObjectId, transaction: Transaction) {
        self.bytes += transaction.changes.bytes();
        self.positions.insert(source, transaction.position);
        self.installs.extend(transaction.installs);
        self.changes.push(transaction.changes);
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Write { installs, changes, done } => {
                self.installs.extend(installs);
                self.bytes += changes.bytes();
                self.changes.push(changes);
                self.writers.push(done);
            }
            Control::Between(run) => self.between.push(run),
            Control::Stop => self.stop = true,
        }
    }
}

impl Clock {
    /// Runs until told to stop or until the store fails; a failed store ends it, since nothing may be used undurably.
    pub async fn run(mut self) -> Result<(), ClockError> {
        let floor = self.floor.max(self.store.ceiling()).max(self.store.last_tick().ts);
        let mut mint = Mint::new(floor, (self.now)());
        let mut flight = Flight::new(self.downstream.complete(), self.limits);
        loop {
            let mut gathered = self.gather().await;
            flight.wait().await;
            self.top_up(&mut gathered);
            let sealed = self.seal(&mut mint, &mut gathered).await;
            match sealed {
                Ok(ts) => {
                    gathered.writers.drain(..).for_each(|done| drop(done.send(Ok(ts))));
                    flight.started(ts, gathered.bytes);
                    if !gathered.between.is_empty() {
                        let snapshot = self.store.snapshot();
                        gathered.between.drain(..).for_each(|run| run(ts, snapshot.clone()));
                    }
                }
                Err(error) => {
                    let reason = error.to_string();
                    gathered.writers.drain(..).for_each(|done| drop(done.send(Err(reason.clone()))));
                    self.downstream.stopped(&reason);
                    return Err(error.into());
                }
            }
            if gathered.stop {
                return Ok(());
            }
        }
    }

    /// Waits for something to seal, or for the heartbeat.
    async fn gather(&mut self) -> Gathered {
        let mut gathered = Gathered::default();
        let heartbeat = tokio::time::sleep(Duration::from_millis(self.limits.heartbeat_ms));
        tokio::pin!(heartbeat);
        loop {
            tokio::select! {
                biased;
                control = self.control.recv() => gathered.control(control.unwrap_or(Control::Stop)),
                Some((source, event)) = self.sources.recv() => match event {
                    Event::Transaction(transaction) => gathered.take(source, transaction),
                    other => {
                        self.downstream.source_event(source, other);
                        continue;
                    }
                },
                () = &mut heartbeat => {}
            }
            return gathered;
        }
    }

    /// Takes what else is waiting, up to the tick's limit.
    fn top_up(&mut self, gathered: &mut Gathered) {
        while gathered.bytes < self.limits.tick_bytes_max {
            if let Ok(control) = self.control.try_recv() {
                gathered.control(control);
                continue;
            }
            match self.sources.try_recv() {
                Ok((source, Event::Transaction(transaction))) => gathered.take(source, transaction),
                Ok((source, other)) => self.downstream.source_event(source, other),
                Err(_) => return,
            }
        }
    }

    async fn seal(&mut self, mint: &mut Mint, gathered: &mut Gathered) -> Result<Ts, StoreError> {
        let before = mint.jumped;
        let ts = mint.mint((self.now)());
        if mint.jumped && !before {
            tracing::warn!(%ts, "the wall clock jumped forward; time goes on with the monotonic clock until a restart");
        }
        let heartbeat = gathered.is_heartbeat();
        let mut tick = Tick {
            ts,
            positions: std::mem::take(&mut gathered.positions),
            installs: std::mem::take(&mut gathered.installs),
            changes: std::mem::take(&mut gathered.changes),
        };
        let store = Arc::clone(&self.store);
        // Disk work: off the async threads, and one tick after the other.
        let (header, tick, deltas) = tokio::task::spawn_blocking(move || {
            if store.ceiling() < tick.ts {
                store.raise_ceiling(Ts(tick.ts.0 + CEILING_AHEAD_MS))?;
            }
            store.resolve(&mut tick)?;
            let header = if heartbeat { store.last_tick() } else { store.commit(&tick)? };
            let mut deltas = Vec::new();
            for changes in &tick.changes {
                for delta in changes.deltas(&store) {
                    deltas.push(delta?);
                }
            }
            Ok::<_, StoreError>((header, tick, deltas))
        })
        .await
        .expect("sealing a tick does not panic")?;
        self.downstream.tick(ts, header, &tick.positions, deltas);
        if !tick.installs.is_empty() {
            self.downstream.installed(&tick.installs);
        }
        Ok(ts)
    }
}

/// The ticks that are durable but not yet through the dataflow.
struct Flight {
    complete: watch::Receiver<Ts>,
    limits: Limits,
    ticks: std::collections::VecDeque<(Ts, usize)>,
}

impl Flight {
    fn new(complete: watch::Receiver<Ts>, limits: Limits) -> Flight {
        Flight { complete, limits, ticks: Default::default() }
    }

    fn started(&mut self, ts: Ts, bytes: usize) {
        self.ticks.push_back((ts, bytes));
    }

    /// Waits until another tick may start.
    async fn wait(&mut self) {
        loop {
            let complete = *self.complete.borrow_and_update();
            while self.ticks.front().is_some_and(|(ts, _)| *ts <= complete) {
                self.ticks.pop_front();
            }
            let bytes: usize = self.ticks.iter().map(|(_, bytes)| bytes).sum();
            if self.ticks.len() < self.limits.in_flight_ticks_max && bytes < self.limits.in_flight_bytes_max {
                return;
            }
            if self.complete.changed().await.is_err() {
                return;
            }
        }
    }
}
