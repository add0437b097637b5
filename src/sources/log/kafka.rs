//! Kafka topics as a log, read without a consumer group: only its reader says where it stands.
//!
//! ```text
//! options ── config ──> client (librdkafka: fetches ahead, reconnects)
//!                         │ messages                    │ requests, once a second
//!   open: topics, place   read (a thread) ── batches    watch (a thread) ── faults
//!                                └───────> KafkaLog::next <──────┘
//! ```
//!
//! - Aborted transactions are not seen (`read_committed`); their offsets, control records and compaction leave gaps.
//! - A topic is told from one of the same name by its id, a truncation by an end before what was read or, while open,
//!   by the leader's epochs. Not noticed: a partition that was truncated *and* filled again beyond our offset while
//!   the log was closed, since offsets keep no epoch; and messages of a topic made again within one look of `watch`,
//!   which are followed by the stop.
//! - A partition whose last offsets are control records, and which retention then empties, is told to have lost them:
//!   they cannot be told from messages once they are gone.
//! - Memory: what the client fetches ahead and a few batches, both bounded (`options`, `read`), and one batch of
//!   messages of any size above that.

mod check;
mod client;
mod describe;
pub mod options;
mod place;
mod read;
mod shared;
mod topics;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::sources::Stop;
use crate::sources::log::{Added, Begin, Ends, Entry, Fault, Log, Offsets, Partition};

pub use check::check;
use client::{Client, create, drain_errors, lost};
use options::Options;
use read::{BATCHES_AHEAD_MAX, Reader};
use shared::Shared;
use topics::Seen;
use watch::Watch;

/// A topic that is not there may be on its way (made by the feed's first message, or by brokers that just started):
/// so many openings in a row must miss it before the log stops.
pub const MISSING_OPENINGS_MAX: u32 = 5;

/// Topics of one Kafka cluster.
pub struct KafkaLog {
    options: Options,
    session: Option<Session>,
    /// Openings in a row that missed a topic.
    missed: u32,
}

/// An open log. Dropped, its threads end by themselves.
struct Session {
    shared: Arc<Shared>,
    batches: mpsc::Receiver<Vec<Entry>>,
    faults: mpsc::Receiver<Fault>,
    /// For each partition that is paused what had been read of it.
    paused: Vec<Option<Vec<Entry>>>,
    /// What was read before a pause that is over.
    held: VecDeque<Vec<Entry>>,
    _closed: std::sync::mpsc::Sender<()>,
}

/// How an opening ended, short of a fault.
enum Opening {
    Open(Box<Session>),
    Missing(String),
}

impl KafkaLog {
    pub fn new(options: Options) -> KafkaLog {
        KafkaLog { options, session: None, missed: 0 }
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn open(&mut self, offsets: &Offsets, begin: Begin) -> Result<Vec<Partition>, Fault> {
        self.session = None;
        let (options, offsets) = (self.options.clone(), offsets.clone());
        let opening = tokio::task::spawn_blocking(move || Session::open(&options, &offsets, begin)).await;
        let opening = opening.map_err(|e| Fault::Lost { action: "open the topics", reason: e.to_string() })??;
        match opening {
            Opening::Open(session) => {
                self.missed = 0;
                if self.options.added == Added::Once {
                    self.options.added = Added::Stop;
                }
                Ok(self.session.insert(*session).shared.partitions.clone())
            }
            Opening::Missing(reason) => {
                self.missed += 1;
                if self.missed < MISSING_OPENINGS_MAX {
                    return Err(Fault::Lost { action: "open the topics", reason });
                }
                self.missed = 0;
                let message = format!("{reason} (looked for {MISSING_OPENINGS_MAX} times)");
                let remedy = "start the feed or create the topic, then ALTER SOURCE … RESUME; or create the source \
                              with the right name";
                Err(stop("TOPIC_MISSING", message, remedy))
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<Entry>, Fault> {
        let Some(session) = &mut self.session else {
            return Err(Fault::Lost { action: "read", reason: "the log is not open".to_string() });
        };
        let next = session.next().await;
        if next.is_err() {
            self.session = None;
        }
        next
    }

    fn ends(&self) -> Ends {
        let options = self.options.clone();
        Arc::new(move || {
            let client = create(&options)?;
            let seen = topics::look(&client, &options.topics)?;
            match topics::missing(&client, &options.topics, &seen) {
                Some(reason) => Err(Fault::Lost { action: "find the topics", reason }),
                None => place::ends(&client, &seen),
            }
        })
    }

    fn pause(&mut self, partition: usize, paused: bool) -> Result<(), Fault> {
        match &mut self.session {
            Some(session) => session.pause(partition, paused),
            None => Err(Fault::Lost { action: "pause", reason: "the log is not open".to_string() }),
        }
    }

    fn identity(&self, topic: &str) -> Option<String> {
        self.session.as_ref()?.shared.opened.get(topic)?.identity.clone()
    }
}

impl Session {
    fn open(options: &Options, offsets: &Offsets, begin: Begin) -> Result<Opening, Fault> {
        let client = create(options)?;
        let opened = Session::prepare(options, &client, offsets, begin);
        match opened {
            // The client knows why by now; the queue of its errors was not read yet.
            Err(Fault::Lost { action, reason }) if client.context().reason().is_none() => {
                drain_errors(&client);
                Err(lost(&client, action, reason))
            }
            Ok(Err(missing)) => Ok(Opening::Missing(missing)),
            Ok(Ok((seen, partitions))) => Session::start(options, client, seen, partitions).map(Opening::Open),
            Err(fault) => Err(fault),
        }
    }

    /// The topics and where their partitions begin; the inner error says which topic is not there.
    fn prepare(
        options: &Options,
        client: &Client,
        offsets: &Offsets,
        begin: Begin,
    ) -> Result<Result<(Seen, Vec<Partition>), String>, Fault> {
        let seen = topics::look(client, &options.topics)?;
        if let Some(name) = offsets.topics.keys().find(|name| options.topics.take(name) && !seen.contains_key(*name)) {
            return Ok(Err(format!("topic `{name}` was read before, and the brokers do not have it any more")));
        }
        if let Some(missing) = topics::missing(client, &options.topics, &seen) {
            return Ok(Err(missing));
        }
        let partitions = place::place(client, options, &seen, offsets, &begin)?;
        Ok(Ok((seen, partitions)))
    }

    fn start(
        options: &Options,
        client: Arc<Client>,
        seen: Seen,
        partitions: Vec<Partition>,
    ) -> Result<Box<Session>, Fault> {
        const ACTION: &str = "begin to read";
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for p in &partitions {
            list.add_partition_offset(&p.topic, p.number, Offset::Offset(p.next))
                .map_err(|e| lost(&client, ACTION, e))?;
        }
        client.assign(&list).map_err(|e| lost(&client, ACTION, e))?;
        let paused = partitions.iter().map(|_| None).collect();
        let shared = Arc::new(Shared::new(client, options, seen, partitions));
        let (batch_sender, batches) = mpsc::channel(BATCHES_AHEAD_MAX);
        let (fault_sender, faults) = mpsc::channel(1);
        let (closed, closed_receiver) = std::sync::mpsc::channel();
        let reader = Reader::new(shared.clone(), batch_sender, fault_sender.clone());
        let watch = Watch { shared: shared.clone(), faults: fault_sender };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
        let session = Session { shared, batches, faults, paused, held: VecDeque::new(), _closed: closed };
        thread("kafka-read").spawn(move || reader.run()).map_err(|e| lost(&session.shared.client, ACTION, e))?;
        thread("kafka-watch")
            .spawn(move || watch.run(&closed_receiver))
            .map_err(|e| lost(&session.shared.client, ACTION, e))?;
        Ok(Box::new(session))
    }

    /// Gives up its place between two batches: a caller that stops waiting loses nothing.
    async fn next(&mut self) -> Result<Vec<Entry>, Fault> {
        if let Some(batch) = self.held.pop_front() {
            return Ok(batch);
        }
        loop {
            let batch = tokio::select! {
                biased;
                Some(fault) = self.faults.recv() => return Err(fault),
                batch = self.batches.recv() => batch,
            };
            let Some(mut batch) = batch else {
                let fault = self.faults.try_recv();
                let ended = || Fault::Lost { action: "read", reason: "the reading thread has ended".to_string() };
                return Err(fault.unwrap_or_else(|_| ended()));
            };
            if self.paused.iter().any(Option::is_some) {
                batch = self.keep_back(batch);
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Without the messages of partitions that were paused after these had been read.
    fn keep_back(&mut self, batch: Vec<Entry>) -> Vec<Entry> {
        let mut given = Vec::with_capacity(batch.len());
        for entry in batch {
            match &mut self.paused[entry.partition] {
                Some(kept) => kept.push(entry),
                None => given.push(entry),
            }
        }
        given
    }

    fn pause(&mut self, partition: usize, paused: bool) -> Result<(), Fault> {
        const ACTION: &str = "pause a partition";
        let client = &self.shared.client;
        if paused == self.paused[partition].is_some() {
            return Ok(());
        }
        let place = &self.shared.partitions[partition];
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&place.topic, place.number);
        match paused {
            true => {
                client.pause(&list).map_err(|e| lost(client, ACTION, e))?;
                // What waits to be given from an earlier pause is kept back anew.
                let mut kept = Vec::new();
                self.held.retain_mut(|batch| {
                    kept.extend(batch.extract_if(.., |entry| entry.partition == partition));
                    !batch.is_empty()
                });
                self.paused[partition] = Some(kept);
            }
            false => {
                client.resume(&list).map_err(|e| lost(client, ACTION, e))?;
                self.held.extend(self.paused[partition].take().filter(|kept| !kept.is_empty()));
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // The last holder of the client waits for its threads: never the caller, which may be a thread of the runtime.
        let shared = self.shared.clone();
        let closing = std::thread::Builder::new().name("kafka-close".to_string()).spawn(move || drop(shared));
        if let Err(e) = closing {
            tracing::debug!("kafka: closing without a thread of its own: {e}");
        }
    }
}

fn stop_of(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Stop {
    Stop { code, message: message.into(), position: None, remedy: remedy.into() }
}

fn stop(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault::Stop(Box::new(stop_of(code, message, remedy)))
}
