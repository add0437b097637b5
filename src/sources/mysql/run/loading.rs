//! Tables being read beside the stream, and installed once the stream has reached their point.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::connect::Fault;
use super::super::decode::Decoder;
use super::super::gtid::GtidSet;
use super::super::snapshot::{Progress, Snapshot};
use super::{Broken, Runner, Woken};
use crate::row::ObjectId;
use crate::sources::{Event, Link};
use crate::store::{Changes, Stage, StoreError};

/// An attempt holds up writers while it waits for its lock: most of the time none does.
const LOAD_AGAIN_SECONDS: u64 = 5;
const PROGRESS_REPORTS_MAX: usize = 16;

/// Tables being read, and what their installation will need.
pub struct Loading {
    tables: Vec<Arc<Decoder>>,
    set: GtidSet,
    pub kept: Stage,
    task: JoinHandle<Result<Vec<(ObjectId, u64)>, Fault>>,
    progress: mpsc::Receiver<Progress>,
    generations: Option<Vec<(ObjectId, u64)>>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Loading {
    pub fn has(&self, table: ObjectId) -> bool {
        self.tables.iter().any(|t| t.table.id == table)
    }
}

impl Runner {
    pub async fn loaded(&mut self, loaded: Result<Vec<(ObjectId, u64)>, Fault>) -> Result<(), Broken> {
        match loaded {
            Ok(generations) => {
                self.loading.as_mut().expect("it has loaded").generations = Some(generations);
                self.install().await
            }
            Err(Fault::Stop(stop)) => Err(Broken::Fault(Fault::Stop(stop))),
            Err(fault) => {
                self.abandon_loading();
                let event = Event::Waiting { reason: format!("reading tables starts again: {fault}") };
                self.send(event).await.map_err(Broken::Ended)
            }
        }
    }

    /// What the stream has given, also what waits for its end.
    fn seen(&self) -> GtidSet {
        let mut seen = self.executed.clone().expect("a session has a set");
        self.assembler.prepared().values().for_each(|gtid| seen.add(gtid));
        seen
    }

    /// Sends the loaded tables once the stream has reached their snapshot.
    pub async fn install(&mut self) -> Result<(), Broken> {
        let is_ready = |l: &Loading| l.generations.is_some() && l.set.is_subset(&self.seen());
        if !self.assembler.is_between_transactions() || !self.loading.as_ref().is_some_and(is_ready) {
            return Ok(());
        }
        let mut loading = self.loading.take().expect("it is ready");
        let generations = loading.generations.take().expect("it is ready");
        let kept = std::mem::replace(&mut loading.kept, self.link.store.stage());
        let changes = kept.finish().map_err(|e| {
            self.queue.extend(loading.tables.iter().map(|t| t.table.clone()));
            self.assembler.forget(&loading.tables.iter().map(|t| t.table.id).collect::<Vec<_>>());
            self.options.lost("stage kept changes", e)
        })?;
        self.assembler.finish_loading();
        self.transaction(None, generations, changes).await
    }

    /// Fixes the point of the tables that wait, and begins to read them.
    pub async fn start_loading(&mut self) -> Result<(), Broken> {
        let tables = Vec::from(self.queue.clone());
        let opened = Snapshot::open(&self.options, &tables, &self.seen(), &self.assembler.prepared()).await;
        let snapshot = match opened {
            Ok(snapshot) => snapshot,
            Err(Fault::Stop(stop)) => return Err(Broken::Fault(Fault::Stop(stop))),
            Err(fault) => {
                self.load_after = Instant::now() + Duration::from_secs(LOAD_AGAIN_SECONDS);
                let event = Event::Waiting { reason: fault.to_string() };
                return self.send(event).await.map_err(Broken::Ended);
            }
        };
        self.queue.clear();
        let (set, again, tables) = (snapshot.set.clone(), snapshot.again.clone(), snapshot.rows.tables.clone());
        for table in &tables {
            let (table, layouts) = (table.table.id, table.table.layouts.clone());
            self.send(Event::Layouts { table, layouts }).await.map_err(Broken::Ended)?;
        }
        let (reports, progress) = mpsc::channel(PROGRESS_REPORTS_MAX);
        self.assembler.start_loading(&tables, set.clone());
        let task = tokio::spawn(snapshot.rows.load(self.link.store.clone(), reports));
        let kept = self.link.store.stage();
        self.loading = Some(Loading { tables, set, kept, task, progress, generations: None });
        if again != GtidSet::default() {
            self.executed = self.executed.as_ref().map(|executed| executed.minus(&again));
            return Err(self
                .options
                .lost("go on", format!("prepared transactions {again} are read again for new tables"))
                .into());
        }
        self.send(Event::Running).await.map_err(Broken::Ended)
    }

    /// Drops what was loaded and kept; the tables are read again.
    pub fn abandon_loading(&mut self) {
        if let Some(loading) = self.loading.take() {
            let ids: Vec<ObjectId> = loading.tables.iter().map(|t| t.table.id).collect();
            self.assembler.forget(&ids);
            self.queue.extend(loading.tables.iter().map(|t| t.table.clone()));
        }
    }
}

pub fn append(kept: &mut Stage, changes: &Changes, link: &Link) -> Result<(), StoreError> {
    for delta in changes.deltas(&link.store) {
        let (table, delta) = delta?;
        kept.push(table, delta)?;
    }
    Ok(())
}

/// The load's next report or its end; never, where nothing is loading or all is loaded.
pub async fn next_of_loading(loading: &mut Option<Loading>) -> Woken {
    match loading {
        Some(Loading { generations: None, task, progress, .. }) => tokio::select! {
            Some(report) = progress.recv() => Woken::Progress(report),
            done = task => Woken::Loaded(done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))),
        },
        _ => std::future::pending().await,
    }
}
