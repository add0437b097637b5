//! The thread that looks after brokers away, topics changed and partitions cut short.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use tokio::sync::mpsc;

use crate::sources::log::Fault;

use super::client::{lost, offsets_at};
use super::place::diverged;
use super::shared::Shared;

/// Between two looks. A topic that is deleted, made again and filled to the old offset faster than this may give
/// messages of the new topic before the source stops.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A broker may be away this long before it is a fault; the last look's own time limit comes on top.
pub const AWAY_MAX: Duration = Duration::from_secs(10);

pub struct Watch {
    pub shared: Arc<Shared>,
    pub faults: mpsc::Sender<Fault>,
}

impl Watch {
    /// Until the other end of `closed` is dropped.
    pub fn run(self, closed: &Receiver<()>) {
        let mut away: Option<Instant> = None;
        while closed.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let fault = match self.look() {
                Ok(None) => {
                    away = None;
                    self.shared.client.context().forget_reason();
                    continue;
                }
                // It may come back before anyone needs to know.
                Err(Fault::Lost { action, reason }) if away.get_or_insert_with(Instant::now).elapsed() < AWAY_MAX => {
                    tracing::debug!("kafka: cannot {action}: {reason}");
                    continue;
                }
                Ok(Some(fault)) | Err(fault) => fault,
            };
            // A fault that is there already says why.
            let _ = self.faults.try_send(fault);
            return;
        }
    }

    /// An `Err` that is transient may pass; `Some` is for the reader at once.
    fn look(&self) -> Result<Option<Fault>, Fault> {
        let client = &self.shared.client;
        let next: Vec<i64> = (0..self.shared.partitions.len()).map(|i| self.shared.next_of(i)).collect();
        let seen = self.shared.look()?;
        let opened = |name: &String| self.shared.opened.contains_key(name);
        if let Some((name, topic)) = seen.iter().find(|(name, topic)| opened(name) && topic.leaderless > 0) {
            return Err(lost(client, "read", format!("{} partitions of {name} have no leader", topic.leaderless)));
        }
        let names = self.shared.names();
        let ends = offsets_at(client, &names, Offset::End)?;
        for (i, (topic, number)) in names.iter().enumerate() {
            // The end was asked for after `next` had been read, and it never falls.
            if let Some(end) = ends[i].filter(|end| *end < next[i]) {
                let how = format!("the partition ends at {end}");
                return Err(Fault::Stop(Box::new(diverged(topic, *number, next[i], &how))));
            }
        }
        let count = |name: &String| self.shared.opened.get(name).map_or(0, |topic| topic.partitions.len());
        let grown = seen.iter().find(|(name, topic)| opened(name) && topic.partitions.len() > count(name));
        if let Some((name, topic)) = grown {
            let more = topic.partitions.len() - count(name);
            let reason = format!("topic {name} has {more} more partitions, which are read from now on");
            return Ok(Some(lost(client, "go on", reason)));
        }
        let new = seen.keys().find(|name| !opened(name));
        Ok(new.map(|name| lost(client, "go on", format!("topic {name} is new and is read from now on"))))
    }
}
