//! What the threads of an open log share: client, topics as they were, how far each partition is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::sources::log::{Added, Fault, Partition};

use super::client::{Client, lost};
use super::options::{Options, Topics};
use super::topics::{Seen, difference, look};

pub struct Shared {
    pub client: Arc<Client>,
    pub wanted: Topics,
    pub added: Added,
    /// The topics as they were when the log was opened.
    pub opened: Seen,
    pub partitions: Vec<Partition>,
    /// For each partition the offset after the last that was read.
    pub next: Vec<AtomicI64>,
    /// Set when nobody reads any more.
    pub closed: AtomicBool,
}

impl Shared {
    pub fn new(client: Arc<Client>, options: &Options, opened: Seen, partitions: Vec<Partition>) -> Shared {
        let next = partitions.iter().map(|p| AtomicI64::new(p.next)).collect();
        // What is read once has been there at the opening.
        let added = if options.added == Added::Read { Added::Read } else { Added::Stop };
        let (wanted, closed) = (options.topics.clone(), AtomicBool::new(false));
        Shared { client, wanted, added, opened, partitions, next, closed }
    }

    pub fn next_of(&self, partition: usize) -> i64 {
        self.next[partition].load(Ordering::Relaxed)
    }

    pub fn names(&self) -> Vec<(&str, i32)> {
        self.partitions.iter().map(|p| (p.topic.as_str(), p.number)).collect()
    }

    /// The topics now, where those that were opened are what they were.
    pub fn look(&self) -> Result<Seen, Fault> {
        let seen = look(&self.client, &self.wanted)?;
        for (name, before) in &self.opened {
            let Some(now) = seen.get(name) else {
                return Err(lost(&self.client, "read", format!("the brokers have no topic `{name}` any more")));
            };
            if let Some(stop) = difference(name, before.identity.as_deref(), before.partitions.len(), now, self.added) {
                return Err(Fault::Stop(Box::new(stop)));
            }
        }
        Ok(seen)
    }
}
