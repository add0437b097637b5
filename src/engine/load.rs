//! Feeds base tables into new dataflows, in pieces at load times below their `as_of`.

use std::collections::BTreeMap;

use crate::dataflow::Dataflow;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::jobs::Job;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};
use crate::store::{Log, Snapshot, Store};

/// A piece is what a worker takes in between two live ticks: its size bounds how long a live tick waits.
const PIECE_BYTES: usize = 4 << 20;
/// Pieces handed to the workers and not yet through.
const PIECES_IN_FLIGHT_MAX: u64 = 2;

/// Dataflows that are installed at one `as_of` and become live together.
pub struct LoadGroup {
    pub as_of: Ts,
    /// Each new dataflow with the tables that are fed to it, in order of installation.
    pub dataflows: Vec<(ObjectId, Vec<ObjectId>)>,
    /// The tables as of the last tick at or after `as_of`.
    pub snapshot: Snapshot,
    /// Set by recovery: the snapshot is at this later `Ts`; the retained changes in between are taken off the load
    /// and fed again at their own times.
    pub replay_through: Option<Ts>,
}

impl LoadGroup {
    /// Feeds everything, then lets the dataflows go live. Blocks: call it off the async threads.
    pub fn run(&self, dataflow: &Dataflow, store: &Store, job: &Job) -> Result<(), EngineError> {
        let mut times = LoadTimes { next: 1, dataflow, group: self };
        let tables = self.tables();
        let expected: u64 = tables.keys().map(|table| self.snapshot.rows(*table)).sum();
        let mut rows = 0;
        for (table, readers) in self.smallest_first(&tables) {
            let columns: Vec<usize> = self.snapshot.columns(table);
            for piece in self.snapshot.scan(table, &columns, PIECE_BYTES) {
                if job.is_killed() {
                    return Err(EngineError::new(ErrorKind::Cancelled, "the job was killed"));
                }
                let piece = piece?;
                rows += piece.len() as u64;
                times.feed(table, readers, piece);
                job.rows(rows, Some(expected));
            }
            if let Some(through) = self.replay_through {
                for change in whole(store.log(table, self.as_of, through), table)? {
                    let (_, delta) = change?;
                    let taken_off = Delta::new(delta.rows, delta.diffs.iter().map(|d| -d).collect());
                    times.feed(table, readers, taken_off);
                }
            }
        }
        for (id, _) in &self.dataflows {
            dataflow.advance(*id, self.as_of.next());
        }
        for (id, _) in &self.dataflows {
            dataflow.go_live(*id);
        }
        Ok(())
    }

    /// The retained changes after `as_of`, to be handed to the dataflow as ticks after `run`: in order of time.
    pub fn replay(&self, dataflow: &Dataflow, store: &Store) -> Result<(), EngineError> {
        let Some(through) = self.replay_through else { return Ok(()) };
        let mut logs = Vec::new();
        for table in self.tables().keys() {
            logs.push((*table, whole(store.log(*table, self.as_of, through), *table)?.peekable()));
        }
        loop {
            let mut next: Option<Ts> = None;
            for (_, log) in &mut logs {
                match log.peek() {
                    Some(Ok((ts, _))) => next = Some(next.map_or(*ts, |n: Ts| n.min(*ts))),
                    Some(Err(_)) => {
                        let Some(Err(error)) = log.next() else { unreachable!("peeked an error") };
                        return Err(error.into());
                    }
                    None => {}
                }
            }
            let Some(ts) = next else { break };
            let mut changes = Vec::new();
            for (table, log) in &mut logs {
                while let Some(Ok((_, delta))) = log.next_if(|entry| matches!(entry, Ok((at, _)) if *at == ts)) {
                    changes.push((*table, delta));
                }
            }
            dataflow.tick(ts, changes.into());
        }
        Ok(())
    }

    fn tables(&self) -> BTreeMap<ObjectId, Vec<ObjectId>> {
        let mut tables: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
        for (dataflow, fed) in &self.dataflows {
            for table in fed {
                tables.entry(*table).or_default().push(*dataflow);
            }
        }
        tables
    }

    /// Small tables are dimensions as a rule: when they are there first, outer joins make fewer corrections.
    fn smallest_first<'a>(&self, tables: &'a BTreeMap<ObjectId, Vec<ObjectId>>) -> Vec<(ObjectId, &'a Vec<ObjectId>)> {
        let mut order: Vec<_> = tables.iter().map(|(table, readers)| (*table, readers)).collect();
        order.sort_by_key(|(table, _)| (self.snapshot.rows(*table), *table));
        order
    }
}

type Changes = Box<dyn Iterator<Item = Result<(Ts, Delta), crate::store::StoreError>> + Send>;

fn whole(log: Log, table: ObjectId) -> Result<Changes, EngineError> {
    match log {
        Log::Whole(changes) => Ok(changes),
        Log::Cut => Err(EngineError::new(
            ErrorKind::Internal,
            format!("the change log of table {table} was cut during a replay"),
        )),
    }
}

/// Hands out load times, one a piece, and waits for the workers to keep up.
struct LoadTimes<'a> {
    next: u64,
    dataflow: &'a Dataflow,
    group: &'a LoadGroup,
}

impl LoadTimes<'_> {
    fn feed(&mut self, table: ObjectId, readers: &[ObjectId], piece: Delta) {
        let time = Ts(self.next);
        assert!(time.next() < Ts::LOADS_END, "load times stay below every minted time");
        for reader in readers {
            self.dataflow.feed(*reader, table, time, piece.clone());
        }
        self.next += 1;
        for (id, _) in &self.group.dataflows {
            self.dataflow.advance(*id, Ts(self.next));
        }
        let through = Ts(self.next.saturating_sub(PIECES_IN_FLIGHT_MAX));
        let mut frontiers = self.dataflow.frontiers();
        let runtime = tokio::runtime::Handle::current();
        while self.group.dataflows.iter().any(|(id, _)| self.dataflow.frontier(*id) < through) {
            if runtime.block_on(frontiers.changed()).is_err() {
                return;
            }
        }
    }
}
