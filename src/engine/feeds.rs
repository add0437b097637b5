//! The running sources: starting them, asking them to follow tables, hearing from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::row::temporal::format_datetime;
use crate::row::{ObjectId, Position};
use crate::sources::{Command, Event, FollowedTable, Link, Positions, Source, Start, Stop};
use crate::store::Store;

/// Commands waiting for a source that is busy.
const COMMANDS_MAX: usize = 64;

/// All sources of this server.
pub struct Feeds {
    store: Arc<Store>,
    events: mpsc::Sender<(ObjectId, Event)>,
    feeds: Mutex<BTreeMap<ObjectId, Feed>>,
}

struct Feed {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    positions: Arc<dyn Positions>,
    requested: BTreeSet<ObjectId>,
    state: FeedState,
    /// While it runs, what it must hear to go on.
    waits_for: Option<String>,
    loading: BTreeMap<ObjectId, (u64, Option<u64>)>,
}

/// What SHOW SOURCES tells of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedState {
    Starting,
    Running,
    /// Until that time in milliseconds since the epoch, or until a view needs its tables.
    Resting(Option<u64>),
    Waiting(String),
    Stopped(Stop),
}

impl std::fmt::Display for FeedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FeedState::Starting => f.write_str("starting"),
            FeedState::Running => f.write_str("running"),
            FeedState::Resting(None) => f.write_str("running; no view needs its tables yet"),
            FeedState::Resting(Some(until_ms)) => {
                write!(f, "running; next round at {} UTC", format_datetime(*until_ms as i64 * 1000, 0))
            }
            FeedState::Waiting(reason) => write!(f, "waiting: {reason}"),
            FeedState::Stopped(stop) => write!(f, "stopped: {}: {}; {}", stop.code, stop.message, stop.remedy),
        }
    }
}

impl Feeds {
    pub fn new(store: Arc<Store>, events: mpsc::Sender<(ObjectId, Event)>) -> Feeds {
        Feeds { store, events, feeds: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Feed>> {
        self.feeds.lock().expect("no panic while feeds are held")
    }

    /// Starts a source where the last tick left it, following the tables that are loaded.
    pub fn start(&self, id: ObjectId, source: Box<dyn Source>, position: Option<Position>, tables: Vec<FollowedTable>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let requested = tables.iter().map(|table| table.id).collect();
        let link = Link { store: Arc::clone(&self.store), events: self.events.clone(), commands: receiver, id };
        let positions = source.positions();
        // Held from before the task begins: what it says first is heard by a feed that is there.
        let mut feeds = self.lock();
        let task = tokio::spawn(source.run(Start { position, tables }, link));
        let (state, loading) = (FeedState::Starting, BTreeMap::new());
        feeds.insert(id, Feed { commands, task, positions, requested, state, waits_for: None, loading });
    }

    /// As the first thing that a source hears.
    pub fn follow_at_once(&self, id: ObjectId, tables: Vec<FollowedTable>) {
        let mut feeds = self.lock();
        let feed = feeds.get_mut(&id).expect("it was just started");
        let new: Vec<FollowedTable> = tables.into_iter().filter(|table| feed.requested.insert(table.id)).collect();
        if !new.is_empty() {
            feed.commands.try_send(Command::Follow(new)).expect("nothing was sent to it before");
        }
    }

    /// Asks a source for tables it was not asked for before.
    pub async fn follow(&self, id: ObjectId, tables: Vec<FollowedTable>) {
        let commands = {
            let mut feeds = self.lock();
            let Some(feed) = feeds.get_mut(&id) else { return };
            let new: Vec<FollowedTable> = tables.into_iter().filter(|table| feed.requested.insert(table.id)).collect();
            (!new.is_empty()).then(|| (feed.commands.clone(), new))
        };
        if let Some((commands, tables)) = commands {
            // A closed channel is a source that stopped: its state says why.
            let _ = commands.send(Command::Follow(tables)).await;
        }
    }

    /// Has a source read again what it reads every so often; returns when the store has it.
    pub async fn refresh(&self, id: ObjectId) -> Result<(), String> {
        let gone = || self.state(id).map_or_else(|| "it was dropped".to_string(), |state| state.to_string());
        let commands = self.lock().get(&id).map(|feed| feed.commands.clone()).ok_or_else(gone)?;
        let (who, mut answer) = mpsc::channel(1);
        commands.send(Command::Refresh(who)).await.map_err(|_| gone())?;
        answer.recv().await.unwrap_or_else(|| Err(gone()))
    }

    /// The tables that a source was asked for, while it ran or after.
    pub fn requested(&self, id: ObjectId) -> Vec<ObjectId> {
        self.lock().get(&id).map_or_else(Vec::new, |feed| feed.requested.iter().copied().collect())
    }

    pub fn heard(&self, id: ObjectId, event: Event) {
        let mut feeds = self.lock();
        let Some(feed) = feeds.get_mut(&id) else { return };
        if let Event::Waiting { .. } | Event::Stopped(_) = event {
            feed.waits_for = None;
        }
        match event {
            Event::Transaction(_) | Event::Layouts { .. } => {
                unreachable!("transactions go to the clock, layouts to the catalog")
            }
            Event::Loading { table, rows, rows_expected } => {
                feed.loading.insert(table, (rows, rows_expected));
            }
            Event::Waiting { reason } => {
                tracing::warn!(source = %id, reason, "source waits");
                feed.state = FeedState::Waiting(reason);
            }
            Event::Running => feed.state = FeedState::Running,
            Event::WaitsFor(what) => feed.waits_for = what,
            Event::Resting { until_ms } => feed.state = FeedState::Resting(until_ms),
            Event::Stopped(stop) => {
                tracing::error!(source = %id, code = stop.code, message = stop.message, "source stopped");
                feed.state = FeedState::Stopped(stop);
            }
        }
    }

    pub fn state(&self, id: ObjectId) -> Option<FeedState> {
        self.lock().get(&id).map(|feed| feed.state.clone())
    }

    /// What a running source must hear to go on.
    pub fn waits_for(&self, id: ObjectId) -> Option<String> {
        self.lock().get(&id).and_then(|feed| feed.waits_for.clone())
    }

    /// What reads the positions of a source.
    pub fn positions(&self, id: ObjectId) -> Option<Arc<dyn Positions>> {
        self.lock().get(&id).map(|feed| Arc::clone(&feed.positions))
    }

    /// Rows read so far of a table that is being loaded.
    pub fn loading(&self, id: ObjectId, table: ObjectId) -> Option<(u64, Option<u64>)> {
        self.lock().get(&id).and_then(|feed| feed.loading.get(&table).copied())
    }

    /// Ends a source; returns when it has ended.
    pub async fn stop(&self, id: ObjectId) {
        let feed = self.lock().remove(&id);
        if let Some(feed) = feed {
            drop(feed.commands);
            feed.task.abort();
            let _ = feed.task.await;
        }
    }

    pub async fn stop_all(&self) {
        let ids: Vec<ObjectId> = self.lock().keys().copied().collect();
        for id in ids {
            self.stop(id).await;
        }
    }
}
