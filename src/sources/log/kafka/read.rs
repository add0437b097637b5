//! The thread that takes messages out of the client and hands them on in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc;

use crate::sources::log::{Entry, Fault};

use super::client::{lost, offsets_at};
use super::place::{diverged, gone};
use super::shared::Shared;

/// A batch goes on when nothing more is there, or at one of these.
const BATCH_MESSAGES_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Besides what the client itself fetches ahead.
pub const BATCHES_AHEAD_MAX: usize = 4;
/// How long the end of a session may go unnoticed by this thread.
const WAIT: Duration = Duration::from_millis(200);
const ACTION: &str = "read";

pub struct Reader {
    shared: Arc<Shared>,
    batches: mpsc::Sender<Vec<Entry>>,
    faults: mpsc::Sender<Fault>,
    /// For each topic its partitions' places.
    places: HashMap<String, HashMap<i32, usize>>,
    batch: Vec<Entry>,
    bytes: usize,
}

impl Reader {
    pub fn new(shared: Arc<Shared>, batches: mpsc::Sender<Vec<Entry>>, faults: mpsc::Sender<Fault>) -> Reader {
        let mut places: HashMap<String, HashMap<i32, usize>> = HashMap::new();
        for (place, partition) in shared.partitions.iter().enumerate() {
            places.entry(partition.topic.clone()).or_default().insert(partition.number, place);
        }
        Reader { shared, batches, faults, places, batch: Vec::new(), bytes: 0 }
    }

    /// Until the session closes or a fault ends it.
    pub fn run(mut self) {
        let client = self.shared.client.clone();
        while !self.shared.closed.load(Ordering::Relaxed) {
            let wait = if self.batch.is_empty() { WAIT } else { Duration::ZERO };
            match client.poll(wait) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    if let Some(fault) = self.meaning(&error) {
                        // A fault that is there already says why.
                        let _ = self.faults.try_send(fault);
                        return;
                    }
                }
                None if self.batch.is_empty() => continue,
                None => {
                    if !self.hand_on() {
                        return;
                    }
                }
            }
            let full = self.batch.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX;
            if full && !self.hand_on() {
                return;
            }
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let place = self.places.get(message.topic()).and_then(|numbers| numbers.get(&message.partition()));
        let Some(&partition) = place else { return };
        let offset = message.offset();
        // What comes again after a pause or a new leader has been given already.
        if offset < self.shared.next_of(partition) {
            return;
        }
        self.shared.next[partition].store(offset + 1, Ordering::Relaxed);
        let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
        self.bytes += key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len);
        let written_ms = message.timestamp().to_millis();
        self.batch.push(Entry { partition, offset, key, value, written_ms, begins_file: false });
    }

    /// False: nobody reads any more.
    fn hand_on(&mut self) -> bool {
        self.bytes = 0;
        self.batches.blocking_send(std::mem::take(&mut self.batch)).is_ok()
    }

    /// The fault that an error of the client is; `None`: the client deals with it by itself, or the watch does.
    fn meaning(&self, error: &KafkaError) -> Option<Fault> {
        let client = &self.shared.client;
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        match code {
            Some(Code::AutoOffsetReset) => Some(self.out_of_range()),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Some(lost(client, ACTION, "a topic or partition is not there any more"))
            }
            Some(Code::TopicAuthorizationFailed | Code::BadMessage | Code::InvalidMessage | Code::Authentication) => {
                Some(lost(client, ACTION, error))
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Some(lost(client, ACTION, error)),
            // Connections that break are made again; the group's coordinator is asked for and not needed.
            _ => {
                tracing::debug!("kafka: {error}");
                None
            }
        }
    }

    /// Which partition has no longer what is to be read next.
    fn out_of_range(&self) -> Fault {
        let client = &self.shared.client;
        let reason = client.context().reason().unwrap_or_default();
        // A topic that was made again ends elsewhere, too.
        if let Err(fault) = self.shared.look() {
            return fault;
        }
        let names = self.shared.names();
        let range = offsets_at(client, &names, Offset::Beginning)
            .and_then(|firsts| Ok((firsts, offsets_at(client, &names, Offset::End)?)));
        let (firsts, ends) = match range {
            Ok(range) => range,
            Err(fault) => return fault,
        };
        let stop = names.iter().enumerate().find_map(|(i, (topic, number))| {
            gone(topic, *number, self.shared.next_of(i), firsts[i].unwrap_or(0), ends[i].unwrap_or(0))
        });
        match stop {
            Some(stop) => Fault::Stop(Box::new(stop)),
            // The leader's epochs show a truncation that was filled up since.
            None if reason.contains("truncation") => {
                let at = names.iter().position(|(topic, number)| reason.contains(&format!("{topic} [{number}]")));
                let (topic, number) = names[at.unwrap_or(0)];
                Fault::Stop(Box::new(diverged(topic, number, self.shared.next_of(at.unwrap_or(0)), &reason)))
            }
            None => lost(client, ACTION, "an offset was out of range and is not any more"),
        }
    }
}
