//! The running sinks, one a target, and how they read the views of the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::dataflow::{Batch, Snapshot};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::progress::Hold;
use crate::row::{ObjectId, Position, Ts};
use crate::sinks::{SinkCommand, SinkEvent, SinkHandle, ViewReader};

/// All sinks of this server.
#[derive(Default)]
pub struct Targets {
    sinks: Mutex<BTreeMap<ObjectId, mpsc::Sender<SinkCommand>>>,
    views: Mutex<BTreeMap<ObjectId, watch::Sender<TargetState>>>,
    /// Holds at a sink's snapshot, or where a replay began, until it asked for the changes after it.
    holds: Mutex<BTreeMap<ObjectId, Hold>>,
}

/// What SHOW MATERIALIZED VIEWS tells of a wide table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetState {
    pub committed: Option<Ts>,
    pub live: bool,
    pub rows_loaded: u64,
    /// Why it does not move, if it does not.
    pub held: Option<String>,
    /// Why the target cannot be reached, if it cannot.
    pub waiting: Option<String>,
    pub fenced_by: Option<String>,
}

impl TargetState {
    pub fn describe(&self) -> String {
        match (&self.fenced_by, &self.held, &self.waiting) {
            (Some(owner), ..) => format!("fenced by {owner}"),
            (_, Some(reason), _) => format!("held: {reason}"),
            (.., Some(reason)) => format!("waiting: {reason}"),
            _ if self.live => "live".to_string(),
            _ => format!("filling, {} rows", self.rows_loaded),
        }
    }
}

/// A wide table that is being filled.
pub struct Filled(watch::Receiver<TargetState>);

impl Filled {
    /// Waits until the wide table is live; a held or fenced one is an error with its reason.
    pub async fn wait(mut self, progress: impl Fn(u64)) -> Result<(), EngineError> {
        loop {
            let state = self.0.borrow_and_update().clone();
            progress(state.rows_loaded);
            if state.live {
                return Ok(());
            }
            if let Some(owner) = &state.fenced_by {
                let message = format!("another server ({owner}) has taken over the target");
                return Err(EngineError::new(ErrorKind::Connection, message));
            }
            if let Some(reason) = &state.held {
                return Err(EngineError::new(ErrorKind::Connection, format!("the wide table is held: {reason}")));
            }
            let moved = self.0.changed().await;
            moved.map_err(|_| EngineError::new(ErrorKind::NotReady, "the view was dropped"))?;
        }
    }
}

impl Targets {
    fn sinks(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, mpsc::Sender<SinkCommand>>> {
        self.sinks.lock().expect("no panic while sinks are held")
    }

    fn views(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, watch::Sender<TargetState>>> {
        self.views.lock().expect("no panic while sink states are held")
    }

    fn holds(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Hold>> {
        self.holds.lock().expect("no panic while holds are held")
    }

    pub fn is_empty(&self) -> bool {
        self.views().is_empty()
    }

    pub fn state(&self, view: ObjectId) -> Option<TargetState> {
        self.views().get(&view).map(|state| state.borrow().clone())
    }

    /// The lowest `Ts` that every live wide table has: changes at or below it need not be kept.
    pub fn committed(&self) -> Option<Ts> {
        let views = self.views();
        let committed: Option<Vec<Ts>> = views.values().map(|state| state.borrow().committed).collect();
        committed?.into_iter().min()
    }

    fn heard(&self, event: SinkEvent, connection_views: &[ObjectId]) {
        let views = self.views();
        let update = |view: &ObjectId, change: &dyn Fn(&mut TargetState)| {
            if let Some(state) = views.get(view) {
                state.send_modify(|state| change(state));
            }
        };
        match event {
            SinkEvent::Committed { view, ts } => update(&view, &|state| {
                state.committed = Some(ts);
                state.waiting = None;
            }),
            SinkEvent::Loading { view, rows } => update(&view, &|state| {
                state.live = false;
                state.rows_loaded = rows;
            }),
            SinkEvent::Live { view } => update(&view, &|state| {
                *state = TargetState { committed: state.committed, live: true, ..Default::default() }
            }),
            SinkEvent::Held { view, reason } => {
                tracing::warn!(view = %view, reason, "wide table is held");
                update(&view, &|state| state.held = Some(reason.clone()));
            }
            SinkEvent::Waiting { reason } => {
                tracing::warn!(reason, "target cannot be reached, retrying");
                connection_views.iter().for_each(|view| update(view, &|state| state.waiting = Some(reason.clone())));
            }
            SinkEvent::Fenced { by } => {
                tracing::error!(by, "another server has taken over the target: this server no longer writes to it");
                connection_views.iter().for_each(|view| update(view, &|state| state.fenced_by = Some(by.clone())));
            }
        }
    }

    pub fn stop_all(&self) {
        // A sink ends when its command channel closes; it leaves its target at a committed flush.
        self.sinks().clear();
    }
}

impl Core {
    /// Gives a view to the sink of its target; `None` if the view has no wide table. A replayed view comes with a hold
    /// where its replay began: were its changes compacted before the sink asks for those after its ledger, rows that
    /// the target has would come once more.
    pub async fn add_to_target(
        self: &Arc<Self>,
        view: ObjectId,
        replayed: Option<Hold>,
    ) -> Result<Option<Filled>, EngineError> {
        let replay_from = replayed.as_ref().map_or(Ts(u64::MAX), Hold::at);
        let Some((connection, sink_view)) = self.sink_view(view, replay_from)? else { return Ok(None) };
        if let Some(hold) = replayed {
            self.targets.holds().insert(view, hold);
        }
        let state = watch::Sender::new(TargetState::default());
        let filled = Filled(state.subscribe());
        self.targets.views().insert(view, state);
        let commands = self.sink(connection)?;
        let added = commands.send(SinkCommand::Add(sink_view)).await;
        added.map_err(|_| EngineError::new(ErrorKind::Connection, "the sink of this target has stopped"))?;
        Ok(Some(filled))
    }

    /// Takes a view from its sink.
    pub async fn remove_from_target(
        &self,
        view: ObjectId,
        connection: ObjectId,
        drop_table: bool,
    ) -> Result<(), EngineError> {
        let commands = self.targets.sinks().get(&connection).cloned();
        self.targets.views().remove(&view);
        self.targets.holds().remove(&view);
        let Some(commands) = commands else { return Ok(()) };
        let (done, removed) = oneshot::channel();
        if commands.send(SinkCommand::Remove { view, drop_table, done }).await.is_err() {
            return Ok(());
        }
        let removed = removed.await;
        // The sink may have been taking its rows.
        self.targets.holds().remove(&view);
        match removed {
            Ok(Err(reason)) => Err(EngineError::new(ErrorKind::Connection, reason)),
            _ => Ok(()),
        }
    }

    fn sink(self: &Arc<Self>, connection: ObjectId) -> Result<mpsc::Sender<SinkCommand>, EngineError> {
        if let Some(commands) = self.targets.sinks().get(&connection) {
            return Ok(commands.clone());
        }
        let options = self.target_options(connection)?;
        let reader: Arc<dyn ViewReader> = Arc::clone(self) as Arc<dyn ViewReader>;
        let SinkHandle { commands, events } = crate::sinks::wide::start(options, reader);
        let commands = self.targets.sinks().entry(connection).or_insert(commands).clone();
        self.spawn(Arc::clone(self).hear(connection, events));
        Ok(commands)
    }

    async fn hear(self: Arc<Self>, connection: ObjectId, mut events: mpsc::UnboundedReceiver<(ObjectId, SinkEvent)>) {
        while let Some((_, event)) = events.recv().await {
            let committed = matches!(event, SinkEvent::Committed { .. });
            let views = self.views_into(connection);
            self.targets.heard(event, &views);
            if committed && let Some(through) = self.targets.committed() {
                self.trim(through);
            }
        }
    }
}

#[async_trait]
impl ViewReader for Core {
    async fn snapshot(&self, view: ObjectId) -> Result<(Ts, Snapshot), String> {
        let hold = self.progress.hold(None);
        let at = hold.at();
        let snapshot = self.dataflow.snapshot(view, at).await;
        let snapshot = snapshot.map_err(|_| "the view was dropped".to_string())?;
        let snapshot = snapshot.map_err(|error| format!("the view has an error row: {error}"))?;
        self.targets.holds().insert(view, hold);
        Ok((at, snapshot))
    }

    fn changes(&self, view: ObjectId, after: Ts) -> mpsc::UnboundedReceiver<Batch> {
        let changes = self.dataflow.tap(view, after);
        self.targets.holds().remove(&view);
        changes
    }

    fn complete(&self) -> watch::Receiver<Ts> {
        self.progress.complete()
    }

    fn positions(&self, at: Ts) -> Vec<(String, Position)> {
        let binding = self.progress.binding(at);
        binding.positions.into_iter().map(|(source, position)| (self.object_name(source), position)).collect()
    }

    fn store_tick(&self, at: Ts) -> (u128, u64) {
        (self.store.id(), self.progress.binding(at).header.number)
    }
}
