//! Partitions that a topic got after it was read: where they may be read on.

use super::Consistency;
use super::run::Runner;
use crate::sources::Stop;
use crate::sources::formats::plain::place::is_append;
use crate::sources::log::{PARTITIONS_ADDED, Partition};

impl Runner {
    /// Takes in the partitions that the log reads for the first time of topics that were read before.
    ///
    /// Hashing spreads keys anew, so that the changes of one row lie in two partitions, those before in one and those
    /// since in another. By watermarks they are put in the order of their commits, by a topic of transactions in that
    /// of their ends, and a row that is its message's place has one change only. In all other feeds nothing tells
    /// which of the two is the later: only while nothing was written to the added ones is all that was read, and all
    /// that is before the present ends, earlier than what comes.
    pub(super) fn admit(&mut self, partitions: &[Partition]) -> Result<bool, Stop> {
        let offsets = &self.standing.offsets.topics;
        let is_added = |p: &&Partition| offsets.get(&p.topic).is_some_and(|topic| !topic.next.contains_key(&p.number));
        let added: Vec<&Partition> = partitions.iter().filter(is_added).collect();
        match self.feed.consistency {
            Consistency::Watermarks => {
                let given = self.standing.state.unwrap_or(0);
                for partition in &added {
                    let of_topic = self.standing.added.entry(partition.topic.clone()).or_default();
                    of_topic.insert(partition.number, given);
                }
            }
            Consistency::Transactions => {}
            Consistency::Rows => {
                let any_order =
                    self.feed.allows_reordering || self.tables.iter().all(|t| is_append(&t.followed.schema));
                if let Some(used) = added.iter().find(|p| p.end > 0 && !any_order) {
                    return Err(is_used(used));
                }
            }
        }
        Ok(!added.is_empty())
    }

    /// For each partition what was given when it was added.
    pub(super) fn added_at(&self, partitions: &[Partition]) -> Vec<u64> {
        let of = |p: &Partition| self.standing.added.get(&p.topic).and_then(|topic| topic.get(&p.number)).copied();
        partitions.iter().map(|p| of(p).unwrap_or(0)).collect()
    }
}

fn is_used(Partition { topic, number, end, .. }: &Partition) -> Stop {
    Stop {
        code: PARTITIONS_ADDED,
        message: format!(
            "partition {number} of topic {topic} was added and has {end} messages already: a row may have a change \
             in it and another, not read yet, in another partition, and nothing tells which of the two is the later"
        ),
        position: None,
        remedy: "ALTER SOURCE … ADD PARTITIONS ALLOW REORDERING goes on all the same: a row that was changed in both \
                 may show the earlier change until it is changed again; or create the source anew"
            .to_string(),
    }
}
