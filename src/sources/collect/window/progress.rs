//! How far each partition has been read: its watermark, and the messages that are still needed.

use std::collections::VecDeque;

use crate::sources::log::Partition;

/// Needed messages remembered of one partition; beyond it two neighbours are told as one.
const NEEDED_MAX: usize = 1 << 16;

/// All partitions, in the order of the log's answer.
#[derive(Debug)]
pub struct Progress {
    partitions: Vec<OfPartition>,
}

#[derive(Debug)]
struct OfPartition {
    /// `None`: it has not said one.
    watermark: Option<u64>,
    /// The offset after the last message taken.
    next: i64,
    /// Messages that are needed until everything up to a commit has been given: (offset, commit), both growing. One
    /// with a lower commit than an earlier message's is not in it: while it is needed, the earlier one is, too.
    needed: VecDeque<(i64, u64)>,
    /// It is where its topic's statements are told.
    tells_statements: bool,
}

impl Progress {
    /// Partitions that are read from their `next`; all of them have reached the watermark `reached`.
    pub fn new(partitions: &[Partition], reached: Option<u64>) -> Progress {
        let of = |partition: &Partition| OfPartition {
            watermark: reached,
            next: partition.next,
            needed: VecDeque::new(),
            tells_statements: partition.number == 0,
        };
        Progress { partitions: partitions.iter().map(of).collect() }
    }

    /// True for the partitions numbered 0: all others may have copies of the same statements.
    pub fn tells_statements(&self, partition: usize) -> bool {
        self.partitions[partition].tells_statements
    }

    /// Everything of this message has been taken.
    pub fn taken(&mut self, partition: usize, offset: i64) {
        let partition = &mut self.partitions[partition];
        // The log may have been opened anew, at an earlier offset.
        partition.next = partition.next.max(offset.saturating_add(1));
    }

    /// The message is needed until all of `commit` has been given.
    pub fn need(&mut self, partition: usize, offset: i64, commit: u64) {
        let needed = &mut self.partitions[partition].needed;
        if needed.back().is_some_and(|(_, last)| *last >= commit) {
            return;
        }
        needed.push_back((offset, commit));
        if needed.len() > NEEDED_MAX {
            thin(needed);
        }
    }

    /// False for a watermark that is not above what the partition said before: a replay.
    pub fn reach(&mut self, partition: usize, offset: i64, watermark: u64) -> bool {
        let known = &mut self.partitions[partition].watermark;
        if known.is_some_and(|known| watermark <= known) {
            return false;
        }
        *known = Some(watermark);
        // Until everything below it has been given, a restart must hear of it again.
        if let Some(last) = watermark.checked_sub(1) {
            self.need(partition, offset, last);
        }
        true
    }

    /// Every commit below it is complete; 0 while a partition has said nothing.
    pub fn closed(&self) -> u64 {
        self.partitions.iter().map(|p| p.watermark.unwrap_or(0)).min().unwrap_or(0)
    }

    /// The partition that holds `closed`, and its watermark.
    pub fn slowest(&self) -> Option<(usize, Option<u64>)> {
        let watermarks = self.partitions.iter().map(|p| p.watermark).enumerate();
        watermarks.min_by_key(|(_, watermark)| *watermark)
    }

    /// Partitions whose watermark is above that of others.
    pub fn ahead(&self) -> Vec<usize> {
        let closed = self.closed();
        let above = |p: &OfPartition| p.watermark.is_some_and(|watermark| watermark > closed);
        (0..self.partitions.len()).filter(|i| above(&self.partitions[*i])).collect()
    }

    /// Every commit below this one has been given.
    pub fn given(&mut self, below: u64) {
        for partition in &mut self.partitions {
            while partition.needed.front().is_some_and(|(_, commit)| *commit < below) {
                partition.needed.pop_front();
            }
        }
    }

    /// For each partition the offset of the first message that is needed, or the next one.
    pub fn resume(&self) -> Vec<i64> {
        self.partitions.iter().map(|p| p.needed.front().map_or(p.next, |(offset, _)| *offset)).collect()
    }
}

/// Halves the list: of two neighbours the earlier offset stays, until the later commit.
fn thin(needed: &mut VecDeque<(i64, u64)>) {
    let both = |pair: &[(i64, u64)]| (pair[0].0, pair[pair.len() - 1].1);
    *needed = needed.make_contiguous().chunks(2).map(both).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(partitions: i32) -> Progress {
        let partition = |number| Partition { topic: "t".to_string(), number, next: 0, end: 0 };
        Progress::new(&(0..partitions).map(partition).collect::<Vec<_>>(), None)
    }

    #[test]
    fn a_message_is_needed_until_its_commit_is_given() {
        let mut progress = progress(1);
        for (offset, commit) in [(0, 30), (1, 10), (2, 40), (3, 20)] {
            progress.need(0, offset, commit);
            progress.taken(0, offset);
        }
        let resume_after = |progress: &mut Progress, below| {
            progress.given(below);
            progress.resume()[0]
        };
        assert_eq!(resume_after(&mut progress, 30), 0);
        assert_eq!(resume_after(&mut progress, 31), 2);
        assert_eq!(resume_after(&mut progress, 41), 4);
    }

    #[test]
    fn a_long_list_is_thinned_towards_the_earlier_offset() {
        let mut progress = progress(1);
        let count = 5 * NEEDED_MAX as u64;
        for commit in 0..count {
            progress.need(0, commit as i64, commit);
        }
        assert!(progress.partitions[0].needed.len() <= NEEDED_MAX);
        for below in (0..count).step_by(9_999) {
            progress.given(below);
            assert!(progress.resume()[0] <= below as i64, "{below}: {:?}", progress.resume());
        }
        progress.given(count);
        assert_eq!(progress.resume(), [0], "nothing is needed; no message was taken");
    }

    #[test]
    fn the_slowest_partition_closes_and_one_that_said_nothing_is_the_slowest() {
        let mut progress = progress(3);
        assert!(progress.reach(0, 0, 20) && progress.reach(1, 0, 10));
        assert_eq!((progress.closed(), progress.slowest(), progress.ahead()), (0, Some((2, None)), vec![0, 1]));
        assert!(progress.reach(2, 0, 15) && !progress.reach(2, 1, 12));
        assert_eq!((progress.closed(), progress.slowest(), progress.ahead()), (10, Some((1, Some(10))), vec![0, 2]));
    }
}
