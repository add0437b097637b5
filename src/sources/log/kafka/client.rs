//! The Kafka client: its log lines and errors, and requests with a limit of time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::sources::log::Fault;

use super::options::Options;

/// For one answer of the brokers.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

pub type Client = BaseConsumer<Context>;

/// Keeps the last reason for which a broker could not be had: what a request fails with says only that it did.
#[derive(Default)]
pub struct Context {
    reason: Mutex<Option<String>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(?level, facility, "librdkafka: {line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        let mut last = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down comes after why the last of them is.
        if last.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *last = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Context {}

impl Context {
    pub fn forget_reason(&self) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub fn create(options: &Options) -> Result<Arc<Client>, Fault> {
    let client: Result<Client, KafkaError> = options.config()?.create_with_context(Context::default());
    client.map(Arc::new).map_err(|e| Fault::Lost { action: "set up the Kafka client", reason: e.to_string() })
}

/// The fault of a request that failed.
pub fn lost(client: &Client, action: &'static str, error: impl std::fmt::Display) -> Fault {
    let reason = match client.context().reason() {
        Some(reason) => format!("{error}: {reason}"),
        None => error.to_string(),
    };
    Fault::Lost { action, reason }
}

/// Errors wait in the queue of messages: before that is read, they are taken out here, so that `lost` can say them.
pub fn drain_errors(client: &Client) {
    while client.poll(Duration::from_millis(1)).is_some() {}
}

/// For each partition the offset at a place in time, `Offset::Beginning`, `Offset::End` or a timestamp: one request
/// to each leader. A timestamp after the last message gives `None`.
pub fn offsets_at(client: &Client, partitions: &[(&str, i32)], at: Offset) -> Result<Vec<Option<i64>>, Fault> {
    const ACTION: &str = "read offsets of the partitions";
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, number) in partitions {
        list.add_partition_offset(topic, *number, at).map_err(|e| lost(client, ACTION, e))?;
    }
    let list = client.offsets_for_times(list, REQUEST_TIMEOUT).map_err(|e| lost(client, ACTION, e))?;
    let mut found = Vec::with_capacity(partitions.len());
    for (topic, number) in partitions {
        let Some(element) = list.find_partition(topic, *number) else {
            return Err(lost(client, ACTION, format!("no answer for partition {number} of {topic}")));
        };
        element.error().map_err(|e| lost(client, ACTION, format!("{topic}, partition {number}: {e}")))?;
        found.push(match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
    }
    Ok(found)
}
