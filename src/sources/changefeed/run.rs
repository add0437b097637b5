//! The changefeed's task: reads the log, sends what is whole, begins anew after a lost link.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::positions::Standing;
use super::quarantine::Quarantine;
use super::spill::{self, StoreSpill};
use super::upserts::Upserts;
use super::{Changefeed, Consistency, Copies, statements};
use crate::row::{ObjectId, Position};
use crate::sources::back_off::BackOff;
use crate::sources::collect::marked::Marked;
use crate::sources::collect::rows::Rows;
use crate::sources::collect::window::Window;
use crate::sources::collect::{Collect, Complete};
use crate::sources::formats::Tables;
use crate::sources::log::{Entry, Fault, Partition};
use crate::sources::{Command, Event, FollowedTable, Link, Start, Stop, Transaction};
use crate::store::{Changes, Store, StoreError};

/// Rows of small transactions that are sent together: every state between them is one that may be seen.
const TRANSACTION_ROWS: usize = 16_384;
/// What a collector may hold before partitions that are ahead are not read on.
const HELD_BYTES: usize = 64 << 20;
/// A position that moves without rows is made durable this often.
const QUIET_POSITION: Duration = Duration::from_secs(1);
/// What is waited for is told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why the task is over.
pub enum Ended {
    /// The command or the event channel is closed.
    Closed,
    Stopped(Box<Stop>),
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        Ended::Stopped(Box::new(stop))
    }
}

/// Why a session with the log is over.
pub enum Broken {
    Ended(Ended),
    Fault(Fault),
}

impl<E: Into<Ended>> From<E> for Broken {
    fn from(ended: E) -> Broken {
        Broken::Ended(ended.into())
    }
}

/// What was said last of what is waited for.
#[derive(Default)]
struct Told {
    waits_for: Option<String>,
    at: Option<Instant>,
    /// It may be something else by now.
    stale: bool,
}

pub struct Runner {
    pub(super) feed: Changefeed,
    pub(super) link: Link,
    pub(super) tables: Tables,
    /// Followed, and to be installed with the first transaction.
    new: Vec<FollowedTable>,
    /// Their rows, where they were copied.
    pub(super) copied: Vec<(ObjectId, u64)>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) standing: Standing,
    /// Of the last transaction, since the task began.
    pub(super) sent: Option<Position>,
    sent_at: Option<Instant>,
    /// The position may have moved since.
    unsent: bool,
    told: Told,
    back_off: BackOff,
}

impl Runner {
    pub fn new(mut feed: Changefeed, start: Start, link: Link) -> Runner {
        let standing = start.position.as_ref().map_or_else(Standing::default, Standing::of);
        if let Some(past) = &standing.past {
            feed.decode.pass_over(past.parse().expect("a GTID set that this source wrote"));
        }
        let (quarantine, tables) = start.tables.into_iter().partition(|table| Some(table.id) == feed.quarantine);
        let quarantine = Vec::into_iter(quarantine).next().map(|table| Quarantine::new(table, false));
        let tables = Tables::new(Vec::into_iter(tables));
        Runner {
            feed,
            link,
            tables,
            new: Vec::new(),
            copied: Vec::new(),
            quarantine,
            standing,
            sent: None,
            sent_at: None,
            unsent: false,
            told: Told::default(),
            back_off: BackOff::default(),
        }
    }

    pub async fn run(mut self) -> Result<(), Ended> {
        while self.tables.is_empty() && self.new.is_empty() {
            let command = self.link.commands.recv().await;
            self.command(command)?;
        }
        loop {
            let Err(broken) = self.session().await;
            let stopped = |stop: Stop| {
                let position = stop.position.clone().or_else(|| Some(self.standing.position()));
                Ended::from(Stop { position, ..stop })
            };
            let reason = match broken {
                Broken::Ended(Ended::Closed) => return Err(Ended::Closed),
                Broken::Ended(Ended::Stopped(stop)) | Broken::Fault(Fault::Stop(stop)) => return Err(stopped(*stop)),
                Broken::Fault(fault) => fault.to_string(),
            };
            tracing::warn!(source = %self.link.id, "{reason}");
            self.send(Event::Waiting { reason }).await?;
            self.back_off().await?;
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
        let partitions =
            self.feed.log.open(&self.standing.offsets, self.feed.begin.clone()).await.map_err(Broken::Fault)?;
        if let Some(options) = self.feed.upstream.clone()
            && !self.new.is_empty()
        {
            self.copy(&options, &self.new.clone()).await?;
        }
        let grown = self.admit(&partitions)?;
        let mut collector = self.collector(&partitions);
        self.told = Told::default();
        if grown {
            self.sent_at = None;
        }
        // New tables are there, empty, before anything was read; and where it was begun is durable.
        self.hand_on(&partitions, &mut *collector).await?;
        self.send(Event::Running).await?;
        let mut paused = vec![false; partitions.len()];
        loop {
            if let Some(event) = self.waits_for(&partitions, &*collector) {
                self.send(event).await?;
            }
            let wake = self.wake();
            let entries = tokio::select! {
                command = self.link.commands.recv() => {
                    self.command(command)?;
                    continue;
                }
                entries = self.feed.log.next() => entries.map_err(Broken::Fault)?,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Vec::new(),
            };
            let gave = !entries.is_empty();
            let taken = self.take_all(&partitions, &mut *collector, entries).await?;
            if gave && taken.is_ok() {
                self.back_off.reset();
            }
            // Also where a message cannot be read: what is whole before it is shown.
            self.hand_on(&partitions, &mut *collector).await?;
            taken.map_err(Broken::Fault)?;
            self.pace(&*collector, &mut paused)?;
        }
    }

    /// Takes messages up to the first that cannot be; what files have of them may be much more than they are.
    async fn take_all(
        &mut self,
        partitions: &[Partition],
        collector: &mut dyn Collect,
        entries: Vec<Entry>,
    ) -> Result<Result<(), Fault>, Broken> {
        let mut fetched = 0;
        for entry in entries {
            match self.take(partitions, collector, entry).await {
                Ok(bytes) => fetched += bytes,
                Err(fault) => return Ok(Err(fault)),
            }
            if fetched > HELD_BYTES {
                self.hand_on(partitions, collector).await?;
                fetched = 0;
            }
        }
        Ok(Ok(()))
    }

    /// As it was when everything up to the position had been sent.
    fn collector(&self, partitions: &[Partition]) -> Box<dyn Collect> {
        let next = partitions.iter().map(|partition| partition.next).collect();
        match self.feed.consistency {
            Consistency::Rows => Box::new(Rows::new(next)),
            Consistency::Watermarks => {
                let spill = Box::new(StoreSpill::new(&self.link.store));
                let window = Window::with(partitions, self.standing.state, self.feed.limits, Some(spill));
                Box::new(window.added(self.added_at(partitions)))
            }
            Consistency::Transactions => {
                let names = self.tables.iter().map(|table| &table.followed);
                Box::new(Marked::new(
                    next,
                    self.standing.state,
                    names.map(|table| format!("{}.{}", table.database, table.name)),
                ))
            }
        }
    }

    pub(super) fn command(&mut self, command: Option<Command>) -> Result<(), Ended> {
        match command {
            None => Err(Ended::Closed),
            Some(Command::Follow(tables)) => {
                for table in tables {
                    if Some(table.id) == self.feed.quarantine {
                        self.quarantine.get_or_insert_with(|| Quarantine::new(table, true));
                    } else if self.tables.find(&table.database, &table.name).is_none() {
                        self.tables.add(table.clone());
                        self.new.push(table);
                    }
                }
                Ok(())
            }
            // What is followed stays in the store: a later view finds it there.
            Some(Command::Forget(_) | Command::Refresh(_)) => Ok(()),
        }
    }

    /// Sends what is whole, with the position after it.
    async fn hand_on(&mut self, partitions: &[Partition], collector: &mut dyn Collect) -> Result<(), Broken> {
        // That of a message is told with its place, once what is whole before it is sent.
        let is_told = collector.fault().is_some();
        loop {
            let mut upserts = Upserts::default();
            let mut committed_ms = None;
            let mut stopped = Ok(());
            self.stand(partitions, collector);
            let before = self.feed.stops_at_mismatch.then(|| self.standing.clone());
            while upserts.rows() < TRANSACTION_ROWS
                && let Some(complete) = collector.next()
            {
                match complete {
                    Complete::Rows { rows, committed_ms: at } => {
                        rows.into_iter().for_each(|row| upserts.push(row));
                        committed_ms = at.or(committed_ms);
                    }
                    Complete::Schema(changes) => {
                        stopped =
                            changes.iter().try_for_each(|change| statements::apply(&self.tables, change, &mut upserts));
                    }
                }
                if stopped.is_err() {
                    // The position stays before the statement: a restart meets it again.
                    break;
                }
                self.stand(partitions, collector);
            }
            if let Some(stop) = collector.fault().filter(|_| !is_told) {
                stopped = Err(stop.clone());
            }
            let full = upserts.rows() >= TRANSACTION_ROWS;
            let quiet = self.sent_at.is_some_and(|at| at.elapsed() < QUIET_POSITION);
            let nothing_bad = self.quarantine.as_ref().is_none_or(|quarantine| quarantine.is_empty());
            if upserts.is_empty() && nothing_bad && self.new.is_empty() && quiet {
                self.unsent = true;
                return stopped.map_err(|stop| Broken::Fault(spill::fault(stop)));
            }
            let said = upserts;
            let mut upserts = said.finish(&self.tables).map_err(|reason| Stop {
                code: "VALUE_UNREADABLE",
                message: reason,
                position: None,
                remedy: "create the source with a wider type, or without the column".to_string(),
            })?;
            if let Some(before) = before {
                // Nothing of it was sent: whatever comes next reads it again.
                self.compare(&said, &upserts).await.inspect_err(|_| self.standing = before)?;
            }
            // Not while the channel is waited for.
            drop(said);
            if let Some(quarantine) = &mut self.quarantine {
                upserts.extend(quarantine.take().map(|upsert| (quarantine.table.id, upsert)));
            }
            self.transaction(committed_ms, Changes::upserts(upserts)).await?;
            stopped.map_err(|stop| Broken::Fault(spill::fault(stop)))?;
            if !full {
                return Ok(());
            }
        }
    }

    /// When something is to be said though no message comes.
    fn wake(&self) -> Option<Instant> {
        let unsent = self.sent_at.filter(|_| self.unsent).map(|at| at + QUIET_POSITION);
        let stale = self.told.at.filter(|_| self.told.stale).map(|at| at + TELL_EVERY);
        unsent.into_iter().chain(stale).min()
    }

    /// What is waited for, where it is another than was said last.
    fn waits_for(&mut self, partitions: &[Partition], collector: &dyn Collect) -> Option<Event> {
        self.told.stale = self.told.at.is_some_and(|at| at.elapsed() < TELL_EVERY);
        if self.told.stale {
            return None;
        }
        let place = |partition: usize| {
            let Partition { topic, number, .. } = &partitions[partition];
            format!("topic {topic}, partition {number}")
        };
        let waits_for = collector.waits_for(&place);
        if waits_for == self.told.waits_for {
            return None;
        }
        self.told = Told { waits_for: waits_for.clone(), at: Some(Instant::now()), stale: false };
        Some(Event::WaitsFor(waits_for))
    }

    fn stand(&mut self, partitions: &[Partition], collector: &dyn Collect) {
        for (partition, next) in partitions.iter().zip(collector.resume()) {
            let topic = self.standing.offsets.topics.entry(partition.topic.clone()).or_default();
            topic.identity = self.feed.log.identity(&partition.topic);
            topic.next.insert(partition.number, next);
        }
        self.standing.state = collector.state();
    }

    async fn transaction(&mut self, committed_ms: Option<u64>, changes: Changes) -> Result<(), Broken> {
        let mut installs = std::mem::take(&mut self.copied);
        let declared = self.new.iter().filter(|_| self.feed.copies == Copies::No);
        let quarantine = self.quarantine.iter().filter(|quarantine| quarantine.is_new).map(|new| &new.table);
        for table in declared.chain(quarantine) {
            let empty = self.link.store.load(table.id).and_then(|load| load.finish());
            installs.push((table.id, empty.map_err(store_failed)?));
        }
        self.new.clear();
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.is_new = false;
        }
        (self.sent_at, self.unsent) = (Some(Instant::now()), false);
        let position = self.standing.position();
        self.sent = Some(position.clone());
        let transaction = Transaction { position, committed_ms, installs, changes };
        Ok(self.send(Event::Transaction(transaction)).await?)
    }

    /// Reads no further where others have to catch up first.
    fn pace(&mut self, collector: &dyn Collect, paused: &mut [bool]) -> Result<(), Broken> {
        let ahead = if collector.bytes() > HELD_BYTES { collector.ahead() } else { Vec::new() };
        for (partition, is_paused) in paused.iter_mut().enumerate() {
            let pause = ahead.contains(&partition);
            if pause != *is_paused {
                self.feed.log.pause(partition, pause).map_err(Broken::Fault)?;
                *is_paused = pause;
            }
        }
        Ok(())
    }

    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.link.store)
    }

    pub(super) async fn next_command(&mut self) -> Option<Command> {
        self.link.commands.recv().await
    }

    pub(super) async fn send(&mut self, event: Event) -> Result<(), Ended> {
        self.link.events.send((self.link.id, event)).await.map_err(|_| Ended::Closed)
    }
}

/// A store that refuses rows for its own reasons (disk) may take them later.
pub fn store_failed(error: StoreError) -> Broken {
    Broken::Fault(Fault::Lost { action: "keep rows in the store", reason: error.to_string() })
}
