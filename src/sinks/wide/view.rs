//! One view of a target: where its table stands, and the changes that wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dataflow::{Batch, Snapshot};
use crate::row::Ts;
use crate::sinks::SinkView;
use crate::sinks::wide::changes::Net;
use crate::sinks::wide::load::Load;
use crate::sinks::wide::pending;
use crate::sinks::wide::place::Table;
use crate::sinks::wide::write::{Writer, copies};
use crate::target::Target;
use crate::target::error::TargetError;

/// Less than this is not worth folding.
const FOLD_BYTES_MIN: usize = 4 << 20;
/// An idle target's ledger moves at least this often.
pub const HEARTBEAT_FLUSH_MS: u64 = 5_000;
/// How often it is looked whether a view's rows are there.
const TAKEN_POLL_MS: u64 = 5;

pub struct View {
    pub spec: SinkView,
    pub phase: Phase,
    /// The changes after the ledger's point can still be had; once a view fell back it is loaded by diff.
    pub resumes: bool,
    /// The table holds the view at this point.
    pub at: Ts,
    pub generation: u64,
    pub changes: Option<mpsc::UnboundedReceiver<Batch>>,
    /// All changes through this point have come.
    pub through: Ts,
    pub pending: VecDeque<Batch>,
    pub pending_bytes: usize,
    /// What the pending changes came to when they were last folded.
    folded_bytes: usize,
    /// Why the table does not move, and when it is tried again.
    pub held: Option<(String, Instant)>,
}

pub enum Phase {
    New,
    /// Its rows are being taken out of the dataflow.
    Taking(JoinHandle<Result<(Ts, Snapshot), String>>),
    /// Being filled, a chunk a round, so that the other views move in between.
    Loading(Mutex<Box<Loading>>),
    /// Filled; live with its first flush.
    Filled(Table),
    /// Flushed under the name it was filled under; to be renamed.
    Flipping(Table),
    Live(Table),
}

/// A load under way, and the changes after it.
pub struct Loading {
    pub load: Load,
    pub at: Ts,
    pub changes: mpsc::UnboundedReceiver<Batch>,
}

impl View {
    pub fn new(spec: SinkView) -> View {
        View {
            spec,
            phase: Phase::New,
            resumes: true,
            at: Ts(0),
            generation: 0,
            changes: None,
            through: Ts(0),
            pending: VecDeque::new(),
            pending_bytes: 0,
            folded_bytes: 0,
            held: None,
        }
    }

    /// Not by what completes, but because something of its own goes on.
    pub fn looks_again_ms(&self) -> u64 {
        match self.phase {
            Phase::Loading(_) => 0,
            Phase::Taking(_) => TAKEN_POLL_MS,
            _ => HEARTBEAT_FLUSH_MS / 5,
        }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        let goes_on = match &self.phase {
            Phase::New | Phase::Loading(_) | Phase::Flipping(_) => true,
            Phase::Taking(taking) => taking.is_finished(),
            Phase::Filled(_) | Phase::Live(_) => false,
        };
        goes_on && self.held.as_ref().is_none_or(|(_, until)| *until <= now)
    }

    pub fn has_news(&self, to: Ts) -> bool {
        let filled = matches!(self.phase, Phase::Filled(_));
        let between = |t: &Ts| *t > self.at && *t <= to;
        filled || self.pending.iter().any(|batch| batch.updates.iter().any(|(_, times, _)| times.iter().any(between)))
    }

    /// An error row that the view has at this point.
    pub fn error_at(&self, to: Ts) -> Option<String> {
        let mut counts = BTreeMap::<_, i64>::new();
        for (error, ts, diff) in self.pending.iter().flat_map(|batch| &batch.errors) {
            if *ts > self.at && *ts <= to {
                *counts.entry(error).or_default() += diff;
            }
        }
        counts.into_iter().find(|(_, count)| *count != 0).map(|(error, _)| error.to_string())
    }

    /// Folds what waits once it has doubled, so that the work stays in proportion to what came.
    pub fn fold(&mut self, through: Ts) {
        if self.pending_bytes < FOLD_BYTES_MIN.max(2 * self.folded_bytes) {
            return;
        }
        let open = self.pending.iter().position(|batch| batch.upper > through.next()).unwrap_or(self.pending.len());
        let rest = self.pending.split_off(open);
        let closed = std::mem::replace(&mut self.pending, rest);
        if let Some(folded) = pending::fold(closed.into(), &self.spec.schema) {
            self.pending.push_front(folded);
        }
        self.pending_bytes = self.pending.iter().map(bytes).sum();
        self.folded_bytes = self.pending_bytes;
    }

    /// Drops all changes and starts anew.
    pub fn forget(&mut self) {
        (self.pending_bytes, self.changes, self.held) = (0, None, None);
        (self.phase, self.resumes) = (Phase::New, false);
        self.pending.clear();
    }

    pub fn forget_through(&mut self, ts: Ts) {
        while self.pending.front().is_some_and(|batch| batch.upper <= ts.next()) {
            let batch = self.pending.pop_front().expect("it was just looked at");
            self.pending_bytes -= bytes(&batch);
        }
    }
}

/// Writes what the view changed after its point, through `to`.
pub async fn write_changes(target: &mut dyn Target, view: &View, to: Ts) -> Result<(), TargetError> {
    let (Phase::Live(table) | Phase::Filled(table)) = &view.phase else {
        panic!("view {} is flushed, but it has no table yet", view.spec.name);
    };
    let mut net = Net::of(&table.layout, view.pending.iter(), view.at, to)?;
    if net.is_empty() {
        return Ok(());
    }
    if !net.copies.is_empty() {
        let prefixes: Vec<_> = net.copies.iter().map(|copies| copies.prefix).collect();
        let counts = copies(target, &table.name, &prefixes).await?;
        net.with_copies(&counts)?;
    }
    let mut writer = Writer::new(&table.layout, &table.name, target);
    for key in &net.deletes {
        writer.delete(target, key).await?;
    }
    writer.finish_deletes(target).await?;
    for row in &net.upserts {
        writer.upsert(target, &table.layout, row).await?;
    }
    writer.finish(target).await
}

/// Of a batch that waits.
pub fn bytes(batch: &Batch) -> usize {
    batch.updates.iter().map(|(rows, times, _)| rows.get_array_memory_size() + times.len() * 16).sum()
}
