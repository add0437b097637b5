//! A Kafka log under test with what its reader would keep: where it stands in each partition.

use std::time::Duration;

use tidemill::sources::Stop;
use tidemill::sources::log::kafka::KafkaLog;
use tidemill::sources::log::kafka::options::{Options, Topics};
use tidemill::sources::log::{Added, Begin, Entry, Fault, Log, Offsets, Partition};
use tokio::time::timeout;

use super::kafka_broker::Broker;

pub const WAIT: Duration = Duration::from_secs(60);
/// Long enough for something that must not come.
const SILENCE: Duration = Duration::from_secs(2);

/// A log with what its reader would keep.
pub struct Reading {
    pub log: KafkaLog,
    pub partitions: Vec<Partition>,
    pub offsets: Offsets,
}

impl Reading {
    pub fn new(broker: &Broker, topics: Topics) -> Reading {
        let log = KafkaLog::new(Options::new(broker.address(), topics));
        Reading { log, partitions: Vec::new(), offsets: Offsets::default() }
    }

    pub fn named(broker: &Broker, topics: &[&str]) -> Reading {
        Reading::new(broker, Topics::Named(topics.iter().map(|t| t.to_string()).collect()))
    }

    /// One that reads on from where another stands.
    pub fn adding(broker: &Broker, topic: &str, added: Added, offsets: Offsets) -> Reading {
        let options = Options::new(broker.address(), Topics::Named(vec![topic.to_string()]));
        let log = KafkaLog::new(Options { added, ..options });
        Reading { log, partitions: Vec::new(), offsets }
    }

    pub async fn try_open(&mut self, begin: Begin) -> Result<(), Fault> {
        self.partitions = timeout(WAIT, self.log.open(&self.offsets, begin)).await.expect("it answers")?;
        for p in &self.partitions {
            let topic = self.offsets.topics.entry(p.topic.clone()).or_default();
            topic.identity = self.log.identity(&p.topic);
            topic.next.insert(p.number, p.next);
        }
        Ok(())
    }

    pub async fn open(&mut self, begin: Begin) {
        self.try_open(begin).await.expect("it opens");
    }

    /// Opens until that is no transient fault.
    pub async fn open_until_stopped(&mut self) -> Stop {
        for _ in 0..10 {
            match self.try_open(Begin::Earliest).await {
                Err(Fault::Stop(stop)) => return *stop,
                Err(Fault::Lost { action, reason }) => eprintln!("cannot {action}: {reason}"),
                Ok(()) => panic!("it opens"),
            }
        }
        panic!("transient faults only");
    }

    pub async fn next(&mut self) -> Result<Vec<Entry>, Fault> {
        let batch = timeout(WAIT, self.log.next()).await.expect("something comes")?;
        assert!(!batch.is_empty());
        for entry in &batch {
            let place = &self.partitions[entry.partition];
            let next = self.offsets.topics.get_mut(&place.topic).unwrap().next.get_mut(&place.number).unwrap();
            assert!(entry.offset >= *next, "offsets of a partition grow");
            *next = entry.offset + 1;
        }
        Ok(batch)
    }

    /// As many values, as text, in the order in which they come.
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        while values.len() < count {
            values.extend(self.next().await.expect("no fault").into_iter().map(text));
        }
        assert_eq!(values.len(), count, "no more than that: {values:?}");
        values
    }

    pub async fn stopped(&mut self) -> Stop {
        loop {
            match self.next().await {
                Ok(_) => {}
                Err(Fault::Stop(stop)) => return *stop,
                // As the reader does.
                Err(Fault::Lost { action, reason }) => {
                    eprintln!("cannot {action}: {reason}");
                    match self.try_open(Begin::Earliest).await {
                        Err(Fault::Stop(stop)) => return *stop,
                        other => eprintln!("opened again: {other:?}"),
                    }
                }
            }
        }
    }

    pub async fn is_silent(&mut self) {
        let nothing = timeout(SILENCE, self.log.next()).await;
        assert!(nothing.is_err(), "nothing more is to be had: {nothing:?}");
    }
}

pub fn text(entry: Entry) -> String {
    String::from_utf8(entry.value.expect("no tombstone")).expect("text was sent")
}
