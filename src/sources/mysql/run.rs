//! The source's task: one binlog stream, at most one snapshot beside it, commands in, events out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::assemble::{Assembler, Commit};
use super::binlog::{Binlog, DIVERGED};
use super::connect::{Fault, Options};
use super::decode::Decoder;
use super::gtid::GtidSet;
use super::snapshot::{Progress, Snapshot};
use crate::row::{ObjectId, Position};
use crate::sources::{Command, Event, FollowedTable, Link, Source, Start, Stop, Transaction};
use crate::store::{Changes, Stage};

/// A quiet source still moves its position, that often; a snapshot that could not start is tried again as often.
const TICK_SECONDS: u64 = 1;
const BACK_OFF_MILLIS_MIN: u64 = 100;
const BACK_OFF_MILLIS_MAX: u64 = 10_000;
/// How often a server that lacks transactions is asked again before it counts as another history.
const DIVERGED_ATTEMPTS_MAX: u32 = 10;
const PROGRESS_REPORTS_MAX: usize = 16;
/// How long the store may take to reach what was sent, when a TRUNCATE needs the rows there are.
const STORE_SECONDS_MAX: u64 = 60;
const STORE_POLL_MILLIS: u64 = 5;
const DELETE_BYTES: usize = 1 << 20;

/// A MySQL server's changelog.
pub struct MySql {
    options: Options,
}

impl MySql {
    pub fn new(options: Options) -> MySql {
        MySql { options }
    }
}

#[async_trait]
impl Source for MySql {
    async fn run(self: Box<Self>, start: Start, link: Link) {
        let (id, events) = (link.id, link.events.clone());
        if let Err(Ended::Stopped(stop)) = Runner::new(self.options, start, link).run().await {
            tracing::error!(source = %id, code = stop.code, "{}", stop.message);
            // Nobody listens any more: then nobody needs to know.
            let _ = events.send((id, Event::Stopped(stop))).await;
        }
    }
}

/// Why the task is over.
enum Ended {
    /// The command or the event channel is closed.
    Closed,
    Stopped(Stop),
}

/// Why a session with the server is over.
enum Broken {
    Ended(Ended),
    Fault(Fault),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

struct Runner {
    options: Options,
    link: Link,
    server_id: u32,
    /// `None` until the first connection of a source that was never read.
    executed: Option<GtidSet>,
    /// The set has grown since the last transaction was sent.
    unsent: bool,
    /// A transaction was sent: the store's position follows.
    sent_any: bool,
    assembler: Assembler,
    loading: Option<Loading>,
    /// To be followed when the snapshot before is done.
    queue: VecDeque<FollowedTable>,
    /// Where bytes were unreadable the last time.
    corrupt_at: Option<GtidSet>,
    attempts: u32,
    diverged: u32,
}

/// Tables being read, and what their installation will need.
struct Loading {
    tables: Vec<Arc<Decoder>>,
    set: GtidSet,
    kept: Stage,
    task: JoinHandle<Result<Vec<(ObjectId, u64)>, Fault>>,
    progress: mpsc::Receiver<Progress>,
    generations: Option<Vec<(ObjectId, u64)>>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What woke the task.
enum Woken {
    Command(Option<Command>),
    Event(Result<Box<mysql_common::binlog::events::Event>, Fault>),
    Progress(Progress),
    Loaded(Result<Vec<(ObjectId, u64)>, Fault>),
    Tick,
}

impl Runner {
    fn new(options: Options, start: Start, link: Link) -> Runner {
        // One number for each source of each data directory: a new stream of ours ends an old one, no one else's does.
        let mut hash = Sha256::new();
        hash.update(link.store.id().to_be_bytes());
        hash.update(link.id.0.to_be_bytes());
        let digest = hash.finalize();
        let server_id = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) | 1 << 31;
        let executed = start.position.map(|position| {
            position.0.parse().unwrap_or_else(|e| panic!("a position that this source did not make: {e}"))
        });
        let assembler = Assembler::new(options.clone(), link.store.clone(), start.tables);
        Runner {
            options,
            link,
            server_id,
            executed,
            unsent: false,
            sent_any: false,
            assembler,
            loading: None,
            queue: VecDeque::new(),
            corrupt_at: None,
            attempts: 0,
            diverged: 0,
        }
    }

    async fn run(mut self) -> Result<(), Ended> {
        loop {
            let Err(broken) = self.session().await;
            self.assembler.reset();
            let reason = match broken {
                Broken::Ended(ended) => return Err(ended),
                Broken::Fault(fault) => self.judge(fault)?,
            };
            tracing::warn!(source = %self.link.id, "{reason}");
            self.send(Event::Waiting { reason }).await?;
            self.back_off().await?;
        }
    }

    /// A fault that may pass becomes its reason; the others end the source.
    fn judge(&mut self, fault: Fault) -> Result<String, Ended> {
        let position = self.executed.as_ref().map(|set| Position(set.to_string()));
        match fault {
            Fault::Lost { .. } => Ok(fault.to_string()),
            Fault::Corrupt { .. } if self.corrupt_at != self.executed => {
                self.corrupt_at = self.executed.clone();
                Ok(fault.to_string())
            }
            Fault::Corrupt { .. } => Err(Ended::Stopped(Stop {
                code: "CHECKSUM",
                message: format!("twice at the same place: {fault}"),
                position,
                remedy: "check the server's binlog with mysqlbinlog --verify-binlog-checksum; if it is damaged, \
                         drop and create the source"
                    .into(),
            })),
            Fault::Stop(stop) if stop.code == DIVERGED && self.diverged < DIVERGED_ATTEMPTS_MAX => {
                self.diverged += 1;
                Ok(stop.message)
            }
            Fault::Stop(stop) => Err(Ended::Stopped(Stop { position: stop.position.or(position), ..*stop })),
        }
    }

    /// Waits before the next attempt, longer each time; commands are heard meanwhile.
    async fn back_off(&mut self) -> Result<(), Ended> {
        let millis = (BACK_OFF_MILLIS_MIN << self.attempts.min(16)).min(BACK_OFF_MILLIS_MAX);
        self.attempts += 1;
        let until = Instant::now() + Duration::from_millis(millis);
        loop {
            tokio::select! {
                command = self.link.commands.recv() => self.command(command)?,
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Reads until something breaks.
    async fn session(&mut self) -> Result<std::convert::Infallible, Broken> {
        let opened = Binlog::open(&self.options, self.executed.clone(), self.server_id).await;
        let (mut binlog, executed) = opened?;
        self.executed = Some(executed);
        self.diverged = 0;
        self.send(Event::Running).await.map_err(Broken::Ended)?;
        let mut ticks = tokio::time::interval(Duration::from_secs(TICK_SECONDS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let woken = {
                let (commands, loading) = (&mut self.link.commands, &mut self.loading);
                tokio::select! {
                    command = commands.recv() => Woken::Command(command),
                    event = binlog.next() => Woken::Event(event.map(Box::new)),
                    woken = next_of_loading(loading) => woken,
                    _ = ticks.tick() => Woken::Tick,
                }
            };
            match woken {
                Woken::Command(command) => self.command(command).map_err(Broken::Ended)?,
                Woken::Event(event) => self.event(&*event?).await?,
                Woken::Progress(Progress { table, rows, rows_expected }) => {
                    let event = Event::Loading { table, rows, rows_expected };
                    self.send(event).await.map_err(Broken::Ended)?;
                }
                Woken::Loaded(loaded) => self.loaded(loaded).await?,
                Woken::Tick => self.tick().await?,
            }
        }
    }

    fn command(&mut self, command: Option<Command>) -> Result<(), Ended> {
        match command {
            None => return Err(Ended::Closed),
            Some(Command::Follow(tables)) => {
                for table in tables {
                    let is_known = self.assembler.follows(table.id) || self.queue.iter().any(|t| t.id == table.id);
                    if !is_known {
                        self.queue.push_back(table);
                    }
                }
            }
            Some(Command::Forget(tables)) => {
                self.queue.retain(|t| !tables.contains(&t.id));
                if self.loading.as_ref().is_some_and(|l| l.tables.iter().any(|t| tables.contains(&t.table.id))) {
                    self.abandon_loading();
                    self.queue.retain(|t| !tables.contains(&t.id));
                }
                self.assembler.forget(&tables);
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: &mysql_common::binlog::events::Event) -> Result<(), Broken> {
        if let Some(commit) = self.assembler.event(event)? {
            self.committed(commit).await?;
        }
        Ok(())
    }

    async fn committed(&mut self, mut commit: Commit) -> Result<(), Broken> {
        for table in std::mem::take(&mut commit.truncated) {
            let is_loading = |l: &Loading| l.tables.iter().any(|t| t.table.id == table);
            if self.loading.as_ref().is_some_and(is_loading) {
                self.abandon_loading();
            } else {
                commit.changes = self.all_deleted(table).await?;
            }
        }
        // Without a load, it was abandoned while the transaction was open: what it kept is read anew.
        if let Some(loading) = self.loading.as_mut().filter(|_| commit.kept.rows() > 0)
            && let Err(e) = append(&mut loading.kept, &commit.kept, &self.link)
        {
            // The kept changes are cut short: only a new load can be whole.
            self.abandon_loading();
            return Err(self.options.lost("keep changes of a table being read", e).into());
        }
        self.executed.as_mut().expect("a session has a set").add(&commit.gtid);
        self.unsent = true;
        self.attempts = 0;
        if commit.changes.rows() > 0 {
            self.transaction(commit.committed_ms, Vec::new(), commit.changes).await?;
        }
        self.install().await
    }

    /// Every row of a table as a delete: TRUNCATE names none. The rows are those of the last tick, so the store must
    /// have taken all that was sent.
    async fn all_deleted(&mut self, table: ObjectId) -> Result<Changes, Broken> {
        if self.unsent {
            self.transaction(None, Vec::new(), Changes::none()).await?;
        }
        let sent = self.executed.as_ref().map(|set| Position(set.to_string()));
        let deadline = Instant::now() + Duration::from_secs(STORE_SECONDS_MAX);
        while self.sent_any && self.link.store.positions().get(&self.link.id) != sent.as_ref() {
            if Instant::now() > deadline {
                return Err(self.options.lost("empty a table", "the store is far behind").into());
            }
            tokio::select! {
                command = self.link.commands.recv() => self.command(command).map_err(Broken::Ended)?,
                () = tokio::time::sleep(Duration::from_millis(STORE_POLL_MILLIS)) => {}
            }
        }
        let mut stage = self.link.store.stage();
        let columns: Vec<usize> = (0..self.assembler.columns(table)).collect();
        let deleted = self.link.store.snapshot().scan(table, &columns, DELETE_BYTES).try_for_each(|delta| {
            let mut delta = delta?;
            delta.diffs.iter_mut().for_each(|diff| *diff = -*diff);
            stage.push(table, delta)
        });
        deleted.and_then(|()| stage.finish()).map_err(|e| self.options.lost("empty a table", e).into())
    }

    async fn loaded(&mut self, loaded: Result<Vec<(ObjectId, u64)>, Fault>) -> Result<(), Broken> {
        match loaded {
            Ok(generations) => {
                self.loading.as_mut().expect("it has loaded").generations = Some(generations);
                self.install().await
            }
            Err(Fault::Stop(stop)) => Err(Broken::Fault(Fault::Stop(stop))),
            Err(fault) => {
                self.abandon_loading();
                let event = Event::Waiting { reason: format!("reading tables starts again: {fault}") };
                self.send(event).await.map_err(Broken::Ended)
            }
        }
    }

    /// Sends the loaded tables once the stream has reached their snapshot.
    async fn install(&mut self) -> Result<(), Broken> {
        let executed = self.executed.as_ref().expect("a session has a set");
        let is_ready = |l: &Loading| l.generations.is_some() && l.set.is_subset(executed);
        if !self.assembler.is_between_transactions() || !self.loading.as_ref().is_some_and(is_ready) {
            return Ok(());
        }
        let mut loading = self.loading.take().expect("it is ready");
        let generations = loading.generations.take().expect("it is ready");
        let kept = std::mem::replace(&mut loading.kept, self.link.store.stage());
        let changes = kept.finish().map_err(|e| {
            self.queue.extend(loading.tables.iter().map(|t| t.table.clone()));
            self.assembler.forget(&loading.tables.iter().map(|t| t.table.id).collect::<Vec<_>>());
            self.options.lost("stage kept changes", e)
        })?;
        self.assembler.finish_loading();
        self.transaction(None, generations, changes).await
    }

    async fn tick(&mut self) -> Result<(), Broken> {
        if self.unsent {
            self.transaction(None, Vec::new(), Changes::none()).await?;
        }
        if self.loading.is_some() || self.queue.is_empty() || !self.assembler.is_between_transactions() {
            return Ok(());
        }
        let tables: Vec<Arc<Decoder>> = self.queue.iter().map(|t| Arc::new(Decoder::new(t.clone()))).collect();
        let executed = self.executed.as_ref().expect("a session has a set");
        let snapshot = match Snapshot::open(&self.options, &tables, executed).await {
            Ok(snapshot) => snapshot,
            Err(Fault::Stop(stop)) => return Err(Broken::Fault(Fault::Stop(stop))),
            Err(fault) => {
                let event = Event::Waiting { reason: fault.to_string() };
                return self.send(event).await.map_err(Broken::Ended);
            }
        };
        self.queue.clear();
        let (reports, progress) = mpsc::channel(PROGRESS_REPORTS_MAX);
        let set = snapshot.set.clone();
        self.assembler.start_loading(&tables, set.clone());
        let task = tokio::spawn(snapshot.load(self.link.store.clone(), reports));
        let kept = self.link.store.stage();
        self.loading = Some(Loading { tables, set, kept, task, progress, generations: None });
        self.send(Event::Running).await.map_err(Broken::Ended)
    }

    /// Drops what was loaded and kept; the tables are read again.
    fn abandon_loading(&mut self) {
        if let Some(loading) = self.loading.take() {
            let ids: Vec<ObjectId> = loading.tables.iter().map(|t| t.table.id).collect();
            self.assembler.forget(&ids);
            self.queue.extend(loading.tables.iter().map(|t| t.table.clone()));
        }
    }

    async fn transaction(
        &mut self,
        committed_ms: Option<u64>,
        installs: Vec<(ObjectId, u64)>,
        changes: Changes,
    ) -> Result<(), Broken> {
        let position = Position(self.executed.as_ref().expect("a session has a set").to_string());
        self.unsent = false;
        self.sent_any = true;
        let transaction = Transaction { position, committed_ms, installs, changes };
        self.send(Event::Transaction(transaction)).await.map_err(Broken::Ended)
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.link.events.send((self.link.id, event)).await.map_err(|_| Ended::Closed)
    }
}

fn append(kept: &mut Stage, changes: &Changes, link: &Link) -> Result<(), crate::store::StoreError> {
    for delta in changes.deltas(&link.store) {
        let (table, delta) = delta?;
        kept.push(table, delta)?;
    }
    Ok(())
}

/// The load's next report or its end; never, where nothing is loading or all is loaded.
async fn next_of_loading(loading: &mut Option<Loading>) -> Woken {
    match loading {
        Some(Loading { generations: None, task, progress, .. }) => tokio::select! {
            Some(report) = progress.recv() => Woken::Progress(report),
            done = task => Woken::Loaded(done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))),
        },
        _ => std::future::pending().await,
    }
}
