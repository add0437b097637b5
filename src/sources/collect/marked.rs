//! Debezium's transactions, whole: rows from the tables' topics, edges from the transaction topic.
//!
//! A transaction is complete when its END has come and, of every followed table, as many events as END counts. They
//! are given in the order of their ENDs, which is the order of the upstream's log. A row that says no transaction (a
//! snapshot's) is complete by itself, but not before what stands in front of it in its partition.
//!
//! The connector sends again what it had sent before a crash. An event is known by its transaction and its place in
//! it, a transaction by its id, for [`memory::REMEMBERED_MAX`] transactions: what is known is dropped. The memory is in
//! the log itself: the transaction topic is read again from the oldest that is remembered, and what has its END before
//! the offset that [`Collect::state`] says is known.
//!
//! Rows are given without their transaction's other rows where the feed itself has lost the edge:
//! - END without BEGIN: the source was begun inside the transaction;
//! - BEGIN without END, then another transaction: the connector gave up its place and read a new snapshot;
//! - neither, and a later transaction's row behind it in the partition: the edges lie before where the source began.

mod held;
mod memory;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use self::held::{Partition, What};
use self::memory::{Fate, Memory};
use super::size::bytes_of;
use super::{Collect, Complete};
use crate::sources::Stop;
use crate::sources::formats::{InTransaction, RowChange, Said, TransactionMark};

/// The collector.
#[derive(Debug)]
pub struct Marked {
    /// `database.table`s as END writes them, with their place in the followed tables.
    names: HashMap<String, usize>,
    partitions: Vec<Partition>,
    /// The partition of the transaction topic, once it has said something.
    marks: Option<usize>,
    open: HashMap<Arc<str>, Open>,
    /// Transactions whose END was read, in that order.
    ended: VecDeque<End>,
    /// The last BEGIN, until its END is read, and where it lies.
    begun: Option<(Arc<str>, i64)>,
    /// Transactions whose BEGIN was read and whose END was not: one, but for a connector that began anew.
    unended: Vec<Arc<str>>,
    memory: Memory,
    /// The offset in the transaction topic after the last END up to which every transaction was given.
    given: i64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Open {
    /// Where its BEGIN lies, the last one.
    begin: Option<i64>,
    is_ended: bool,
    events: BTreeMap<u64, Vec<RowChange>>,
    counts: BTreeMap<usize, u64>,
    partitions: BTreeSet<usize>,
}

#[derive(Debug)]
struct End {
    id: Arc<str>,
    offset: i64,
    /// Where its BEGIN lies.
    begin: i64,
    /// Events of the followed tables.
    counts: Vec<(usize, u64)>,
    committed_ms: Option<u64>,
}

/// Rows that stand alone are given together up to this number.
const ROWS_TOGETHER_MAX: usize = 1024;

impl Marked {
    /// Each partition's next offset; the state that was said with it; the followed tables' `database.table`, in the
    /// order of [`Tables`](crate::sources::formats::Tables).
    pub fn new(next: Vec<i64>, state: Option<u64>, tables: impl IntoIterator<Item = String>) -> Marked {
        Marked {
            names: tables.into_iter().enumerate().map(|(i, name)| (name, i)).collect(),
            partitions: next.into_iter().map(Partition::new).collect(),
            marks: None,
            open: HashMap::new(),
            ended: VecDeque::new(),
            begun: None,
            unended: Vec::new(),
            memory: Memory::default(),
            given: state.and_then(|state| state.try_into().ok()).unwrap_or(0),
            bytes: 0,
        }
    }

    fn row(&mut self, partition: usize, offset: i64, change: RowChange) {
        let bytes = bytes_of(&change);
        let partition_of = &mut self.partitions[partition];
        let Some(InTransaction { id, total_order }) = &change.transaction else {
            self.bytes += bytes;
            return partition_of.push_loose(offset, change);
        };
        let id: Arc<str> = match self.open.get_key_value(id.as_str()) {
            Some((id, _)) => id.clone(),
            None => id.as_str().into(),
        };
        match self.memory.fate(&id) {
            Some(Fate::Given) => return,
            Some(Fate::Loose) => {
                self.bytes += bytes;
                return partition_of.push_loose(offset, change);
            }
            None => {}
        }
        let open = self.open.entry(id.clone()).or_default();
        let (table, total_order) = (change.table, *total_order);
        match open.events.get_mut(&total_order) {
            // A second row of the same event: an UPDATE that moves a row is two.
            Some(rows) if partition_of.ends_with(offset) => rows.push(change),
            Some(_) => return,
            None => {
                open.events.insert(total_order, vec![change]);
                open.partitions.insert(partition);
                *open.counts.entry(table).or_default() += 1;
                partition_of.push(offset, What::Event(id, total_order));
            }
        }
        self.bytes += bytes;
    }

    fn mark(&mut self, partition: usize, offset: i64, mark: TransactionMark) -> Result<(), Stop> {
        if *self.marks.get_or_insert(partition) != partition {
            return Err(many_transaction_topics());
        }
        match mark {
            TransactionMark::Begin { id } => self.begin(id.into(), offset),
            TransactionMark::End { id, events, committed_ms } => {
                let counts = events.into_iter().filter_map(|(name, n)| Some((*self.names.get(&name)?, n))).collect();
                let id: Arc<str> = id.into();
                let begun = self.begun.take().filter(|(begun, _)| *begun == id);
                self.end(End { id, offset, begin: begun.map_or(offset, |(_, begin)| begin), counts, committed_ms });
                if self.ended.is_empty() {
                    // It was known: with it, everything up to here is.
                    self.given = self.given.max(offset + 1);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: Arc<str>, offset: i64) {
        self.begun = Some((id.clone(), offset));
        if self.memory.fate(&id).is_some() || self.open.get(&id).is_some_and(|open| open.is_ended) {
            return;
        }
        self.open.entry(id.clone()).or_default().begin = Some(offset);
        if !self.unended.contains(&id) {
            self.unended.push(id);
        }
    }

    fn end(&mut self, end: End) {
        if self.memory.fate(&end.id).is_some() {
            return;
        }
        match self.open.get_mut(&end.id) {
            Some(open) if open.is_ended => return,
            Some(open) if open.begin.is_some() => open.is_ended = true,
            _ => return self.release(&end.id, end.offset),
        }
        // One begins after the other has ended, unless the other's end was given up.
        for id in std::mem::take(&mut self.unended).into_iter().filter(|id| *id != end.id) {
            let begin = self.open.get(&id).and_then(|open| open.begin);
            self.release(&id, begin.unwrap_or(end.offset));
        }
        if end.offset < self.given {
            // Given before we were started anew.
            self.close(&end);
            return;
        }
        self.ended.push_back(end);
    }

    /// From now on the rows of this transaction stand alone.
    fn release(&mut self, id: &Arc<str>, begin: i64) {
        self.memory.remember(id.clone(), Fate::Loose, begin);
        self.unended.retain(|unended| unended != id);
        let Some(mut open) = self.open.remove(id) else { return };
        for partition in &open.partitions {
            for held in &mut self.partitions[*partition].held {
                if let What::Event(of, order) = &held.what
                    && of == id
                {
                    held.what = What::Loose(open.events.remove(order).unwrap_or_default());
                }
            }
        }
    }

    /// Cuts off in front what was given.
    fn trim(&mut self) {
        let is_given = |what: &What| matches!(what, What::Event(id, _) if !self.open.contains_key(id));
        self.partitions.iter_mut().for_each(|partition| partition.trim(is_given));
    }

    /// Rows and statements that stand alone and have nothing in front of them.
    fn next_loose(&mut self) -> Option<Complete> {
        let mut rows: Vec<RowChange> = Vec::new();
        for partition in &mut self.partitions {
            while let Some(held) = partition.held.pop_front_if(|held| match held.what {
                What::Loose(_) => rows.len() < ROWS_TOGETHER_MAX,
                What::Schema(_) => rows.is_empty(),
                What::Event(..) => false,
            }) {
                match held.what {
                    What::Loose(more) => rows.extend(more),
                    What::Schema(change) => {
                        self.bytes -= change.sql.len();
                        return Some(Complete::Schema(vec![change]));
                    }
                    What::Event(..) => {}
                }
            }
        }
        self.bytes -= rows.iter().map(bytes_of).sum::<usize>();
        let committed_ms = rows.iter().filter_map(|row| row.committed_ms).max();
        (!rows.is_empty()).then_some(Complete::Rows { rows, committed_ms })
    }

    fn is_complete(&self, end: &End) -> bool {
        let open = self.open.get(&end.id);
        let have = |table: &usize| open.and_then(|open| open.counts.get(table)).copied().unwrap_or(0);
        end.counts.iter().all(|(table, count)| have(table) >= *count)
    }

    /// Transactions without an edge whose rows stand in front of those of this one, and so ended before it.
    fn strays_before(&self, id: &Arc<str>) -> Vec<Arc<str>> {
        let mut strays = Vec::new();
        for partition in self.open.get(id).into_iter().flat_map(|open| &open.partitions) {
            for held in &self.partitions[*partition].held {
                match &held.what {
                    What::Event(of, _) if of == id => break,
                    What::Event(of, _) if self.is_unmarked(of) && !strays.contains(of) => {
                        strays.push(of.clone());
                    }
                    _ => {}
                }
            }
        }
        strays
    }

    /// The rows of a transaction, which is dealt with.
    fn close(&mut self, end: &End) -> Vec<RowChange> {
        let events = self.open.remove(&end.id).map(|open| open.events).unwrap_or_default();
        self.memory.remember(end.id.clone(), Fate::Given, end.begin);
        self.trim();
        let rows: Vec<RowChange> = events.into_values().flatten().collect();
        self.bytes -= rows.iter().map(bytes_of).sum::<usize>();
        rows
    }

    /// Gives the first transaction that has ended.
    fn give(&mut self, end: End) -> Option<Complete> {
        self.given = end.offset + 1;
        let rows = self.close(&end);
        let committed_ms = rows.iter().filter_map(|row| row.committed_ms).max().or(end.committed_ms);
        (!rows.is_empty()).then_some(Complete::Rows { rows, committed_ms })
    }

    fn is_unmarked(&self, id: &Arc<str>) -> bool {
        self.open.get(id).is_some_and(|open| open.begin.is_none())
    }

    /// What the partition said last, if it belongs to another transaction that is open.
    fn other_at_end(&self, partition: usize, id: &Arc<str>) -> Option<&Open> {
        match &self.partitions[partition].held.back()?.what {
            What::Event(of, _) if of != id => self.open.get(of),
            _ => None,
        }
    }

    /// Every partition is past a transaction that is not complete.
    fn check_incomplete(&self) -> Result<(), Stop> {
        let Some(end) = self.ended.front().filter(|end| !self.is_complete(end)) else { return Ok(()) };
        let mut others = (0..self.partitions.len()).filter(|p| Some(*p) != self.marks).peekable();
        let begin = self.open.get(&end.id).and_then(|open| open.begin);
        let is_past = |partition| self.other_at_end(partition, &end.id).is_some_and(|other| other.begin > begin);
        if others.peek().is_none() || !others.all(is_past) {
            return Ok(());
        }
        Err(Stop {
            code: "TRANSACTION_INCOMPLETE",
            message: format!("{}, and every partition is past it", self.waiting().unwrap_or_default()),
            position: None,
            remedy:
                "remove filters between the connector and the log, or create the source again from a snapshot: the \
                     log has lost events"
                    .into(),
        })
    }
}

impl Collect for Marked {
    fn take(&mut self, partition: usize, offset: i64, said: Vec<Said>) -> Result<(), Stop> {
        if offset < self.partitions[partition].next {
            return Ok(());
        }
        self.partitions[partition].next = offset + 1;
        for what in said {
            match what {
                Said::Row(change) => self.row(partition, offset, change),
                Said::Schema(change) => {
                    self.bytes += change.sql.len();
                    self.partitions[partition].push(offset, What::Schema(change));
                }
                Said::Mark(mark) => self.mark(partition, offset, mark)?,
                // TiCDC's; its feeds have no transaction topic.
                Said::Watermark(_) => {}
            }
        }
        self.check_incomplete()
    }

    fn next(&mut self) -> Option<Complete> {
        loop {
            if let Some(loose) = self.next_loose() {
                self.trim();
                return Some(loose);
            }
            let end = self.ended.front().filter(|end| self.is_complete(end))?;
            let strays = self.strays_before(&end.id);
            if !strays.is_empty() {
                let begin = end.begin;
                strays.iter().for_each(|id| self.release(id, begin));
                continue;
            }
            let end = self.ended.pop_front()?;
            if let Some(complete) = self.give(end) {
                return Some(complete);
            }
        }
    }

    fn resume(&self) -> Vec<i64> {
        let mut offsets: Vec<i64> = self.partitions.iter().map(Partition::resume).collect();
        if let Some(marks) = self.marks {
            let pending = self.ended.front().map(|end| end.begin).or(self.begun.as_ref().map(|(_, begin)| *begin));
            offsets[marks] = [pending, self.memory.oldest()].into_iter().flatten().fold(offsets[marks], i64::min);
        }
        offsets
    }

    fn state(&self) -> Option<u64> {
        u64::try_from(self.given).ok().filter(|given| *given > 0)
    }

    fn waits_for(&self, _: &dyn Fn(usize) -> String) -> Option<String> {
        self.waiting()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn ahead(&self) -> Vec<usize> {
        let data = (0..self.partitions.len()).filter(|partition| Some(*partition) != self.marks);
        match self.ended.front() {
            None => data.filter(|partition| !self.partitions[*partition].held.is_empty()).collect(),
            Some(end) if self.is_complete(end) => Vec::new(),
            Some(end) => {
                data.filter(|partition| self.other_at_end(*partition, &end.id).is_some()).chain(self.marks).collect()
            }
        }
    }
}

fn many_transaction_topics() -> Stop {
    Stop {
        code: "TRANSACTION_TOPIC_PARTITIONED",
        message: "transactions begin and end in more than one partition, so that they have no order".into(),
        position: None,
        remedy: "give the transaction topic one partition, and the source one connector's topics".into(),
    }
}
