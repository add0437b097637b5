//! The source's task: one binlog stream, at most one snapshot beside it, commands in, events out.

mod loading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, MissedTickBehavior};

use super::assemble::{Assembler, Commit};
use super::binlog::{Binlog, DIVERGED};
use super::connect::{Fault, Options};
use super::gtid::{Gtid, GtidSet};
use super::positions::GtidPositions;
use super::settle::settled;
use super::snapshot::Progress;
use crate::row::schema::Layout;
use crate::row::{ObjectId, Position};
use crate::sources::back_off::BackOff;
use crate::sources::{Command, Event, FollowedTable, Link, Positions, Source, Start, Stop, Transaction};
use crate::store::Changes;
use loading::{Loading, append, next_of_loading};

/// A quiet source still moves its position, that often.
const TICK_SECONDS: u64 = 1;
/// How often a server that lacks transactions is asked again before it counts as another history.
const DIVERGED_ATTEMPTS_MAX: u32 = 10;
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
    fn positions(&self) -> Arc<dyn Positions> {
        Arc::new(GtidPositions { options: self.options.clone() })
    }

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
    /// A snapshot that could not start is not tried again before.
    load_after: Instant,
    /// Where bytes were unreadable the last time.
    corrupt_at: Option<GtidSet>,
    back_off: BackOff,
    diverged: u32,
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
        let executed = start.position.as_ref().map(set);
        let mut tables = start.tables;
        for table in &mut tables {
            // Later ones are made again when their ALTERs come by again.
            table.layouts.retain(|layout| holds(layout, executed.as_ref().unwrap_or(&GtidSet::default())));
        }
        let assembler = Assembler::new(options.clone(), link.store.clone(), tables);
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
            load_after: Instant::now(),
            corrupt_at: None,
            back_off: BackOff::default(),
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
        let until = Instant::now() + self.back_off.next();
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
        // Where a source begins that was never read is a position, too.
        self.unsent |= self.executed.is_none();
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
                    let is_known =
                        self.assembler.table(table.id).is_some() || self.queue.iter().any(|t| t.id == table.id);
                    if !is_known {
                        self.queue.push_back(table);
                    }
                }
            }
            Some(Command::Forget(tables)) => {
                self.queue.retain(|t| !tables.contains(&t.id));
                if self.loading.as_ref().is_some_and(|l| tables.iter().any(|t| l.has(*t))) {
                    self.abandon_loading();
                    self.queue.retain(|t| !tables.contains(&t.id));
                }
                self.assembler.forget(&tables);
            }
            Some(Command::Refresh(_)) => {}
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
        for (table, columns) in std::mem::take(&mut commit.layouts) {
            self.altered(table, columns, &commit.gtids[0]).await?;
        }
        for table in std::mem::take(&mut commit.truncated) {
            if self.loading.as_ref().is_some_and(|l| l.has(table)) {
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
        let executed = self.executed.as_mut().expect("a session has a set");
        commit.gtids.iter().for_each(|gtid| executed.add(gtid));
        self.unsent |= !commit.gtids.is_empty();
        self.back_off.reset();
        if commit.changes.rows() > 0 {
            self.transaction(commit.committed_ms, Vec::new(), commit.changes).await?;
        }
        self.install().await
    }

    /// Tells of a table's columns after an ALTER, before the position has it: a restart replays the ALTER or knows.
    async fn altered(&mut self, table: ObjectId, columns: Vec<String>, gtid: &Gtid) -> Result<(), Broken> {
        let altered = self.assembler.table(table).expect("only followed tables are altered");
        let mut layouts = altered.layouts.clone();
        layouts.push(Layout { since: Some(Position(gtid.to_string())), columns });
        let durable = self.link.store.positions().get(&self.link.id).map(set).unwrap_or_default();
        let oldest = layouts.iter().rposition(|layout| holds(layout, &durable)).unwrap_or(0);
        layouts.drain(..oldest);
        self.assembler.set_layouts(table, layouts.clone());
        self.send(Event::Layouts { table, layouts }).await.map_err(Broken::Ended)
    }

    /// Every row of a table as a delete: TRUNCATE names none. The rows are those of the last tick, so the store must
    /// have taken all that was sent.
    async fn all_deleted(&mut self, table: ObjectId) -> Result<Changes, Broken> {
        if self.unsent {
            self.transaction(None, Vec::new(), Changes::none()).await?;
        }
        let sent = Position(self.executed.as_ref().expect("a session has a set").to_string());
        if self.sent_any && !settled(&self.link, &sent).await {
            return Err(self.options.lost("empty a table", "the store is far behind").into());
        }
        let mut stage = self.link.store.stage();
        let columns = self.assembler.table(table).map_or(0, |t| t.schema.columns.len());
        let columns: Vec<usize> = (0..columns).collect();
        let deleted = self.link.store.snapshot().scan(table, &columns, DELETE_BYTES).try_for_each(|delta| {
            let mut delta = delta?;
            delta.diffs.iter_mut().for_each(|diff| *diff = -*diff);
            stage.push(table, delta)
        });
        deleted.and_then(|()| stage.finish()).map_err(|e| self.options.lost("empty a table", e).into())
    }

    async fn tick(&mut self) -> Result<(), Broken> {
        if self.unsent {
            self.transaction(None, Vec::new(), Changes::none()).await?;
        }
        let is_due = self.loading.is_none() && !self.queue.is_empty() && Instant::now() >= self.load_after;
        if is_due && self.assembler.is_between_transactions() { self.start_loading().await } else { Ok(()) }
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

pub(super) fn set(position: &Position) -> GtidSet {
    position.0.parse().unwrap_or_else(|e| panic!("a position that this source did not make: {e}"))
}

/// Rows after that position have the layout or a newer one.
fn holds(layout: &Layout, executed: &GtidSet) -> bool {
    layout.since.as_ref().is_none_or(|since| set(since).is_subset(executed))
}
