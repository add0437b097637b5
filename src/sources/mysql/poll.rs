//! Tables without a changelog, read again every so often: a round's finds are one transaction.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connect::{Fault, Options, connect, one};
use super::settle::settled;
use super::snapshot::{Progress, Reading};
use crate::row::temporal::{format_datetime, parse_datetime};
use crate::row::{ObjectId, Position};
use crate::sources::back_off::BackOff;
use crate::sources::{
    Command, Event, FollowedTable, Link, PositionError, Positions, Source, Start, Stop, Transaction, Wanted, is_now,
};
use crate::store::Changes;

const PROGRESS_REPORTS_MAX: usize = 16;
/// In milliseconds, by the server's clock.
const NOW: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)";

/// Tables of a MySQL or TiDB that are read whole, over and over.
pub struct Polled {
    pub options: Options,
    /// From the beginning of a round to that of the next.
    pub every: Duration,
}

#[async_trait]
impl Source for Polled {
    fn positions(&self) -> Arc<dyn Positions> {
        Arc::new(RoundPositions { options: self.options.for_snapshot() })
    }

    async fn run(self: Box<Self>, start: Start, link: Link) {
        let (id, events) = (link.id, link.events.clone());
        if let Err(Ended::Stopped(stop)) = Runner::new(*self, start, link).run().await {
            tracing::error!(source = %id, code = stop.code, "{}", stop.message);
            // Nobody listens any more: then nobody needs to know.
            let _ = events.send((id, Event::Stopped(*stop))).await;
        }
    }
}

/// A round by its number; `now` is the first that began to be read from now on.
struct RoundPositions {
    options: Options,
}

#[async_trait]
impl Positions for RoundPositions {
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError> {
        if is_now(text) {
            let asked = now_ms(&self.options).await;
            let now_ms = asked.map_err(|fault| PositionError::Upstream { reason: fault.to_string() })?;
            return Ok(Wanted::new(format!("a round from {}", moment(now_ms)), move |at| read_ms(at) > now_ms));
        }
        let number = text.trim().strip_prefix("round ").unwrap_or(text.trim());
        let number = number.split(',').next().unwrap_or_default().parse::<u64>();
        let round = number.map_err(|_| PositionError::Unreadable {
            message: format!("'{text}' is no round of the source"),
            remedy: "give a round's number as SHOW SOURCES shows it, or 'now'".to_string(),
        })?;
        Ok(Wanted::new(format!("round {round}"), move |at| round_of(at) >= round))
    }

    fn text(&self, position: &Position) -> String {
        position.0.clone()
    }
}

/// Why the task is over.
enum Ended {
    /// The command or the event channel is closed.
    Closed,
    Stopped(Box<Stop>),
}

/// Why a round did not come to its end.
enum Broken {
    Ended(Ended),
    Fault(Fault),
}

impl From<Ended> for Broken {
    fn from(ended: Ended) -> Broken {
        Broken::Ended(ended)
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

/// Who asked for a round now.
type Asked = Vec<mpsc::Sender<Result<(), String>>>;

struct Runner {
    options: Options,
    every: Duration,
    link: Link,
    tables: Vec<FollowedTable>,
    /// Of these, the ones whose rows the store has not been given yet.
    new: BTreeSet<ObjectId>,
    round: u64,
    /// The last transaction that was sent.
    sent: Option<Position>,
    asked: Asked,
    back_off: BackOff,
}

impl Runner {
    fn new(polled: Polled, start: Start, link: Link) -> Runner {
        Runner {
            options: polled.options.for_snapshot(),
            every: polled.every,
            link,
            tables: start.tables,
            new: BTreeSet::new(),
            round: start.position.as_ref().map_or(0, round_of),
            sent: None,
            asked: Vec::new(),
            back_off: BackOff::default(),
        }
    }

    async fn run(mut self) -> Result<(), Ended> {
        loop {
            while self.tables.is_empty() {
                answer(&mut self.asked, &Ok(()));
                self.send(Event::Resting { until_ms: None }).await?;
                self.next_command().await?;
            }
            let began = Instant::now();
            let mut asked = std::mem::take(&mut self.asked);
            match self.round().await {
                Ok(read_ms) => {
                    answer(&mut asked, &Ok(()));
                    self.back_off.reset();
                    let until_ms = Some(read_ms + self.every.as_millis() as u64);
                    self.send(Event::Resting { until_ms }).await?;
                    self.rest(began + self.every).await?;
                }
                Err(Broken::Ended(ended)) => return Err(ended),
                Err(Broken::Fault(fault)) => {
                    answer(&mut asked, &Err(fault.to_string()));
                    let reason = self.judge(fault)?;
                    tracing::warn!(source = %self.link.id, "{reason}");
                    self.send(Event::Waiting { reason }).await?;
                    let again = Instant::now() + self.back_off.next();
                    while let Ok(command) = tokio::time::timeout_at(again, self.link.commands.recv()).await {
                        self.command(command)?;
                    }
                }
            }
        }
    }

    /// A fault that may pass becomes its reason; the others end the source.
    fn judge(&self, fault: Fault) -> Result<String, Ended> {
        match fault {
            Fault::Stop(stop) => {
                let position = self.link.store.positions().get(&self.link.id).cloned();
                Err(Ended::Stopped(Box::new(Stop { position, ..*stop })))
            }
            other => Ok(other.to_string()),
        }
    }

    /// Until the next round is due, or there is a reason for one now.
    async fn rest(&mut self, until: Instant) -> Result<(), Ended> {
        while self.new.is_empty() && self.asked.is_empty() && !self.tables.is_empty() {
            match tokio::time::timeout_at(until, self.link.commands.recv()).await {
                Ok(command) => self.command(command)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn next_command(&mut self) -> Result<(), Ended> {
        let command = self.link.commands.recv().await;
        self.command(command)
    }

    fn command(&mut self, command: Option<Command>) -> Result<(), Ended> {
        match command {
            None => return Err(Ended::Closed),
            Some(Command::Follow(tables)) => {
                for table in tables {
                    if self.tables.iter().all(|known| known.id != table.id) {
                        self.new.insert(table.id);
                        self.tables.push(table);
                    }
                }
            }
            Some(Command::Forget(forgotten)) => {
                self.tables.retain(|table| !forgotten.contains(&table.id));
                self.new.retain(|table| !forgotten.contains(table));
            }
            Some(Command::Refresh(who)) => self.asked.push(who),
        }
        Ok(())
    }

    /// Reads all tables at one point and sends what differs; says when that point was. The store has it then.
    async fn round(&mut self) -> Result<u64, Broken> {
        // Differences are from what the store holds: it must hold what was sent, also where waiting for it failed.
        self.settle().await?;
        // Before the transaction begins: whatever had committed by then is in it.
        let read_ms = now_ms(&self.options).await?;
        let reading = Reading::open(&self.options, &self.tables).await?;
        let (installs, changes) = self.read(reading).await?;
        self.new.retain(|table| installs.iter().all(|(installed, _)| installed != table));
        self.round += 1;
        let position = position(self.round, read_ms);
        self.sent = Some(position.clone());
        let transaction = Transaction { position, committed_ms: Some(read_ms), installs, changes };
        self.send(Event::Transaction(transaction)).await?;
        self.settle().await?;
        Ok(read_ms)
    }

    async fn settle(&self) -> Result<(), Fault> {
        match &self.sent {
            Some(sent) if !settled(&self.link, sent).await => {
                Err(self.options.lost("begin a round", "the store is far behind"))
            }
            _ => Ok(()),
        }
    }

    /// New tables become generations, the others differences; commands are heard meanwhile.
    async fn read(&mut self, reading: Reading) -> Result<(Vec<(ObjectId, u64)>, Changes), Broken> {
        let store = Arc::clone(&self.link.store);
        let stage = Arc::new(Mutex::new(store.stage()));
        let (new, differences) = (self.new.clone(), Arc::clone(&stage));
        let (reports, mut progress) = mpsc::channel(PROGRESS_REPORTS_MAX);
        let read = reading.read(Arc::clone(&store), reports, move |table, load| match new.contains(&table) {
            true => Ok(Some((table, load.finish()?))),
            false => {
                load.difference(&mut differences.lock().expect("no panic while it is held"))?;
                Ok(None)
            }
        });
        tokio::pin!(read);
        let installs = loop {
            tokio::select! {
                installs = &mut read => break installs?,
                Some(Progress { table, rows, rows_expected }) = progress.recv() => {
                    if self.new.contains(&table) {
                        self.send(Event::Loading { table, rows, rows_expected }).await?;
                    }
                }
                command = self.link.commands.recv() => self.command(command)?,
            }
        };
        let stage = std::mem::replace(&mut *stage.lock().expect("no panic while it is held"), store.stage());
        let changes = stage.finish().map_err(|e| self.options.lost("stage differences", e))?;
        Ok((installs.into_iter().flatten().collect(), changes))
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.link.events.send((self.link.id, event)).await.map_err(|_| Ended::Closed)
    }
}

fn answer(asked: &mut Asked, with: &Result<(), String>) {
    for who in asked.drain(..) {
        // Who does not listen any more does not need to know.
        let _ = who.try_send(with.clone());
    }
}

fn position(round: u64, read_ms: u64) -> Position {
    Position(format!("round {round}, read {}", moment(read_ms)))
}

async fn now_ms(options: &Options) -> Result<u64, Fault> {
    one(options, &mut connect(options).await?, NOW).await
}

fn moment(ms: u64) -> String {
    format!("{} UTC", format_datetime(ms as i64 * 1000, 3))
}

fn read_ms(position: &Position) -> u64 {
    let read = position.0.split_once(", read ").and_then(|(_, at)| parse_datetime(at.strip_suffix(" UTC")?));
    let micros = read.unwrap_or_else(|| panic!("a position that this source did not make: {position}"));
    micros as u64 / 1000
}

fn round_of(position: &Position) -> u64 {
    let round = position.0.strip_prefix("round ").and_then(|rest| rest.split_once(',')?.0.parse().ok());
    round.unwrap_or_else(|| panic!("a position that this source did not make: {position}"))
}
