//! Wires store, clock, sources, dataflow and sinks into one running server.
//!
//! The life of a view: CREATE writes the catalog and starts a job ([`build`]); the job has the source tables copied,
//! installs the dataflow at an `as_of` between two ticks, feeds the tables in pieces and lets it go live; then its wide
//! table is brought right by the sink. A restart is the same path for all views at once ([`recover`]).
//!
//! Invariants:
//! - the catalog in the store is written before anything is started for it, so a crash in between is a restart;
//! - a dataflow is installed only between two ticks, with the tables as of exactly that `as_of`;
//! - what a reader holds is not compacted; what nobody holds is;
//! - nothing here decides a `Ts`, parses SQL or knows a packet.

pub mod error;
pub mod session;

mod build;
mod changefeeds;
mod connect;
mod ddl;
mod dml;
mod downstream;
mod feeds;
mod files;
mod fit;
mod flows;
mod foreign;
mod jobs;
mod load;
mod names;
mod progress;
mod read;
mod recover;
mod registry;
mod replay;
mod retain;
mod show;
mod start;
mod subscribe;
mod targets;
mod upstream;
mod wait;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::catalog::Catalog;
use crate::clock::{Control, Limits, Reading};
use crate::dataflow::Dataflow;
use crate::engine::error::EngineError;
use crate::engine::session::Session;
use crate::row::Ts;
use crate::store::Store;

/// Source events waiting for the clock: the back-pressure on sources.
const EVENTS_MAX: usize = 256;
const CONTROLS_MAX: usize = 1_024;
/// How long a shutdown waits for sinks to end between two flushes.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How an engine is started. Time comes in as a value.
pub struct Options {
    /// `None`: everything in memory.
    pub data: Option<PathBuf>,
    pub workers: usize,
    pub limits: Limits,
    pub now: Arc<dyn Fn() -> Reading + Send + Sync>,
}

/// A running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

/// What the parts of the engine share.
pub struct Core {
    now: Arc<dyn Fn() -> Reading + Send + Sync>,
    /// When this run began, by the wall clock: a part of the name under which it takes a fence.
    started_ms: u64,
    store: Arc<Store>,
    dataflow: Dataflow,
    catalog: Mutex<Catalog>,
    progress: Arc<progress::Progress>,
    flows: Mutex<flows::Flows>,
    feeds: feeds::Feeds,
    targets: targets::Targets,
    jobs: jobs::Jobs,
    rows_in: AtomicU64,
    /// The change log was last trimmed through this `Ts`.
    trimmed: AtomicU64,
    control: mpsc::Sender<Control>,
    /// Bumped when tables are installed or a view goes live: what waiting jobs listen to.
    changed: watch::Sender<u64>,
    /// Why the clock stopped, if it did.
    stopped: watch::Sender<Option<String>>,
    stopping: watch::Sender<bool>,
    /// What runs beside the sessions: it holds the store, so a shutdown waits for it.
    tasks: Mutex<JoinSet<()>>,
    /// One DDL statement at a time.
    ddl: tokio::sync::Mutex<()>,
    /// One writer of local tables at a time, from the first write of a block to its end.
    writer: Arc<tokio::sync::Mutex<()>>,
}

/// How the engine stands, for a status line.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub complete: Ts,
    /// Milliseconds between now and the last complete `Ts`.
    pub lag_ms: u64,
    pub ticks: u64,
    /// Changed rows of base tables since the start.
    pub rows_in: u64,
    /// Each live view with the updates that it keeps: its rows, and what is not compacted yet.
    pub views: Vec<(String, u64)>,
    pub jobs_running: usize,
    pub stopped: Option<String>,
}

impl Engine {
    /// Opens the store, brings every view back and starts the sources.
    pub async fn open(options: Options) -> Result<Engine, EngineError> {
        recover::open(options).await
    }

    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.core))
    }

    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Completes when a dataflow worker has panicked: the process is to end, and a start brings everything back.
    pub async fn broken(&self) {
        self.core.dataflow.broken().await;
    }

    /// Stops sources, clock, sinks and workers, in that order; the store is free when the last session is gone.
    pub async fn shutdown(self) {
        let core = &self.core;
        core.stopping.send_replace(true);
        core.feeds.stop_all().await;
        // A clock that has failed takes no more commands.
        let _ = core.control.send(Control::Stop).await;
        core.targets.stop_all();
        let mut tasks = std::mem::take(&mut *core.tasks.lock().expect("no panic while tasks are held"));
        let done = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, done).await.is_err() {
            tracing::warn!("a sink or a job did not stop in time: it is ended");
        }
        tasks.shutdown().await;
        core.dataflow.shutdown();
    }
}

impl Core {
    /// Runs beside the sessions until it ends or the engine is shut down.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no panic while tasks are held");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
