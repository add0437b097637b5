//! Puts TiCDC's feed together: rows wait for the watermark of all partitions and go by commit.
//!
//! A commit timestamp is the unit, not a transaction: several transactions may share one. The rules, and why:
//! - a partition's watermark W says that all its rows below W have been sent, so a commit C is complete once every
//!   partition has said a W above C. At C = W one more watermark is waited for: rows of W may still come;
//! - a partition from which no watermark has come holds all others; a watermark that falls back is a replay;
//! - a row is dropped only below what has been given ([`Collect::state`]): it was sent before. It must never be dropped
//!   because a later commit of its table or key was seen: after a producer's retry the order B, A, B can come with A
//!   never seen before;
//! - within a commit all deletes apply before all puts, so that rows may exchange keys; copies of a row collapse;
//! - statements count where their topic's partition 0 tells them (other partitions may hold copies), once each, and
//!   stand after the rows of their own commit. TiDB makes rows under the new schema only after the statement's commit,
//!   so a row that shares the timestamp was written under the old one.
//!
//! Not found: a row that comes below the watermark with another content than what was given. That would need a digest
//! of each key for ever; such rows are dropped and counted with all others ([`Counts::late`]).

mod held;
mod progress;
pub mod spill;

use std::collections::BTreeMap;

use crate::row::temporal;
use crate::sources::Stop;
use crate::sources::collect::window::held::Held;
use crate::sources::collect::window::progress::Progress;
use crate::sources::collect::window::spill::Spill;
use crate::sources::collect::{Collect, Complete};
use crate::sources::formats::{RowChange, Said, SchemaChange, tso_ms};
use crate::sources::log::Partition;

/// Above it partitions that are ahead of others need not be read on.
pub const WINDOW_BYTES_SOFT: usize = 64 << 20;
/// Rows in memory; beyond it they are spilled, where there is a spill.
pub const WINDOW_MEMORY_BYTES_MAX: usize = 256 << 20;
/// Without a spill: all that may wait. With one: what a single commit may have, which goes whole and through memory.
pub const WINDOW_BYTES_MAX: usize = 1 << 30;
/// Whole commits are given together up to this; a larger one goes alone.
pub const COMPLETE_BYTES: usize = 1 << 20;

/// Collects rows between two watermarks.
pub struct Window {
    progress: Progress,
    rows: Held,
    statements: BTreeMap<u64, Vec<SchemaChange>>,
    statement_bytes: usize,
    /// Every commit below has been given, with its statements.
    given: u64,
    /// The rows of every commit below have been given: one more than `given` where only statements are left.
    rows_given: u64,
    limits: Limits,
    /// For each partition what had been given when it was added; 0: it was there from the beginning.
    added_at: Vec<u64>,
    counts: Counts,
    /// Nothing is taken or given after it.
    fault: Option<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// [`WINDOW_BYTES_SOFT`].
    pub soft_bytes: usize,
    /// [`WINDOW_MEMORY_BYTES_MAX`].
    pub memory_bytes: usize,
    /// [`WINDOW_BYTES_MAX`].
    pub window_bytes: usize,
    /// [`COMPLETE_BYTES`].
    pub complete_bytes: usize,
}

/// What was met, since the window was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows and statements below what had been given: sent again after a restart of the feed or of this window.
    pub late: u64,
    /// Rows and statements that their commit had already.
    pub duplicates: u64,
    /// Copies of statements in other partitions.
    pub copies: u64,
    /// Watermarks that were not above an earlier one of their partition.
    pub fallen_back: u64,
    /// Rows that went through the spill.
    pub spilled: u64,
}

impl Window {
    /// A window over partitions that are read from their `next`, after `state`; `None`: nothing has been given. To
    /// begin after a snapshot at a TSO, `state` is the TSO + 1: everything up to it has been given.
    pub fn with(partitions: &[Partition], state: Option<u64>, limits: Limits, spill: Option<Box<dyn Spill>>) -> Window {
        let given = state.unwrap_or(0);
        Window {
            progress: Progress::new(partitions, state),
            rows: Held::new(limits, spill),
            statements: BTreeMap::new(),
            statement_bytes: 0,
            given,
            rows_given: given,
            limits,
            added_at: vec![0; partitions.len()],
            counts: Counts::default(),
            fault: None,
        }
    }

    /// Partitions that were added when all below these commits had been given: no row below can be told to have been
    /// among it.
    pub fn added(self, added_at: Vec<u64>) -> Window {
        Window { added_at, ..self }
    }

    pub fn counts(&self) -> Counts {
        Counts { spilled: self.rows.spilled_rows, ..self.counts }
    }

    /// The partition that holds back all others, and what it said last.
    pub fn slowest(&self) -> Option<(usize, Option<u64>)> {
        self.progress.slowest()
    }

    /// Of [`Collect::bytes`] those that are not spilled.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.statement_bytes
    }

    fn take_one(&mut self, partition: usize, offset: i64, said: Said) -> Result<(), Stop> {
        match said {
            Said::Row(row) => {
                let commit = row.commit.ok_or_else(without_time)?;
                self.take_row(partition, offset, commit, row)
            }
            Said::Schema(change) => {
                let commit = change.commit.ok_or_else(without_time)?;
                self.take_statement(partition, offset, commit, change)
            }
            Said::Watermark(watermark) => {
                if !self.progress.reach(partition, offset, watermark) {
                    self.counts.fallen_back += 1;
                }
                self.close();
                Ok(())
            }
            Said::Mark(_) => Err(without_time()),
        }
    }

    fn take_row(&mut self, partition: usize, offset: i64, commit: u64, row: RowChange) -> Result<(), Stop> {
        if commit < self.rows_given {
            if commit < self.added_at[partition] {
                return Err(late_in_added(commit, self.added_at[partition]));
            }
            self.counts.late += 1;
            return Ok(());
        }
        self.progress.need(partition, offset, commit);
        if !self.rows.push(commit, row)? {
            self.counts.duplicates += 1;
        }
        Ok(())
    }

    fn take_statement(&mut self, partition: usize, offset: i64, commit: u64, change: SchemaChange) -> Result<(), Stop> {
        if !self.progress.tells_statements(partition) {
            self.counts.copies += 1;
            return Ok(());
        }
        if commit < self.given {
            self.counts.late += 1;
            return Ok(());
        }
        self.progress.need(partition, offset, commit);
        let of_commit = self.statements.entry(commit).or_default();
        if of_commit.contains(&change) {
            self.counts.duplicates += 1;
            return Ok(());
        }
        self.statement_bytes += statement_bytes(&change);
        of_commit.push(change);
        match self.memory_bytes() > self.limits.window_bytes {
            true => Err(too_large(None, self.memory_bytes())),
            false => Ok(()),
        }
    }

    /// Moves `given` to the global watermark when nothing below it is left.
    fn close(&mut self) {
        let closed = self.progress.closed();
        let first = self.rows.first().into_iter().chain(self.statements.keys().next().copied()).min();
        if first.is_none_or(|first| first >= closed) {
            self.given = self.given.max(closed);
        }
        self.rows_given = self.rows_given.max(self.given);
        self.progress.given(self.given);
    }

    fn next_complete(&mut self) -> Result<Option<Complete>, Stop> {
        let closed = self.progress.closed();
        let statement = self.statements.keys().next().copied().filter(|commit| *commit < closed);
        // Rows of the statement's own commit come before it, later ones after it.
        let until = statement.map_or(closed, |commit| commit + 1);
        if let Some(taken) = self.rows.take(until)? {
            self.rows_given = taken.through + 1;
            // With the statement still to come, the rows of its commit must be read again after a restart, all of
            // them: a part of a commit's rows must not apply twice.
            self.given = if statement == Some(taken.through) { taken.through } else { taken.through + 1 };
            self.close();
            let committed_ms = taken.rows.iter().rev().find_map(|row| row.committed_ms);
            return Ok(Some(Complete::Rows { rows: taken.rows, committed_ms }));
        }
        let Some(commit) = statement else { return Ok(None) };
        let changes = self.statements.remove(&commit).expect("it is the first key");
        self.statement_bytes -= changes.iter().map(statement_bytes).sum::<usize>();
        self.given = commit + 1;
        self.close();
        Ok(Some(Complete::Schema(changes)))
    }
}

impl Collect for Window {
    fn take(&mut self, partition: usize, offset: i64, said: Vec<Said>) -> Result<(), Stop> {
        if self.fault.is_none() {
            let taken = said.into_iter().try_for_each(|said| self.take_one(partition, offset, said));
            self.fault = taken.err();
        }
        match &self.fault {
            Some(stop) => Err(stop.clone()),
            None => {
                self.progress.taken(partition, offset);
                Ok(())
            }
        }
    }

    /// A fault of the spill ends the completes.
    fn next(&mut self) -> Option<Complete> {
        if self.fault.is_some() {
            return None;
        }
        self.next_complete().unwrap_or_else(|stop| {
            self.fault = Some(stop);
            None
        })
    }

    fn fault(&self) -> Option<&Stop> {
        self.fault.as_ref()
    }

    fn resume(&self) -> Vec<i64> {
        self.progress.resume()
    }

    /// Every commit below has been given.
    fn state(&self) -> Option<u64> {
        (self.given > 0).then_some(self.given)
    }

    /// The partition that holds the others back, also while nothing is held: it tells how far the feed is behind.
    fn waits_for(&self, place: &dyn Fn(usize) -> String) -> Option<String> {
        let (partition, watermark) = self.slowest()?;
        let place = place(partition);
        Some(match watermark {
            Some(tso) => {
                let at = temporal::format_datetime(tso_ms(tso) as i64 * 1_000, 3);
                format!("the next watermark of {place}; its last one is of {at} UTC")
            }
            None => format!("the first watermark of {place}"),
        })
    }

    fn bytes(&self) -> usize {
        self.rows.bytes() + self.statement_bytes
    }

    /// Those above the global watermark, once what waits is above the soft limit; never the slowest ones, for which
    /// the others wait.
    fn ahead(&self) -> Vec<usize> {
        if self.bytes() > self.limits.soft_bytes { self.progress.ahead() } else { Vec::new() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            soft_bytes: WINDOW_BYTES_SOFT,
            memory_bytes: WINDOW_MEMORY_BYTES_MAX,
            window_bytes: WINDOW_BYTES_MAX,
            complete_bytes: COMPLETE_BYTES,
        }
    }
}

fn statement_bytes(change: &SchemaChange) -> usize {
    size_of::<SchemaChange>() + change.database.len() + change.table.len() + change.sql.len()
}

fn without_time() -> Stop {
    Stop {
        code: "FEED_WITHOUT_TIME",
        message: "the feed has rows or statements without a commit timestamp, so no transaction can be put together"
            .to_string(),
        position: None,
        remedy: "create the changefeed anew with enable-tidb-extension=true".to_string(),
    }
}

fn late_in_added(commit: u64, given: u64) -> Stop {
    Stop {
        code: "ROW_LATE",
        message: format!(
            "the partition was added when all before {given} had been shown, and has a row of commit {commit}: what \
             was shown may lack it"
        ),
        position: None,
        remedy: "create the source anew with SNAPSHOT FROM CONNECTION".to_string(),
    }
}

/// `commit`: one that is too large by itself. Reading the same log again would fill the window again: what helps is a
/// later beginning.
fn too_large(commit: Option<u64>, bytes: usize) -> Stop {
    let mib = bytes >> 20;
    let message = match commit {
        Some(commit) => format!("the rows of commit {commit} alone have more than {mib} MiB"),
        None => format!("{mib} MiB of rows wait for the watermark that completes them"),
    };
    let remedy = "wait until the changefeed's checkpoint is past this backlog, then create the source anew, so that it \
                  begins with a later snapshot";
    Stop { code: "WINDOW_TOO_LARGE", message, position: None, remedy: remedy.to_string() }
}

#[cfg(test)]
mod tests;
