//! The job that brings one new view to life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Control;
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::feeds::FeedState;
use crate::engine::flows::ViewFlow;
use crate::engine::jobs::{Job, Phase};
use crate::engine::load::LoadGroup;
use crate::engine::progress::Hold;
use crate::plan::ir::Plan;
use crate::row::{ObjectId, Ts};

/// A job looks again at least this often, also when nobody told it of a change.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Core {
    /// Starts the job of a view that the catalog has and the dataflow has not.
    pub fn start_build(self: &Arc<Self>, view: ObjectId) -> Arc<Job> {
        let job = self.jobs.start(view, self.object_name(view), (self.now)().wall_ms);
        let (core, handle) = (Arc::clone(self), Arc::clone(&job));
        let mut stopping = self.stopping.subscribe();
        self.spawn(async move {
            let result = tokio::select! {
                result = core.build(view, &handle) => result,
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = handle.killed() => Err(EngineError::new(ErrorKind::Cancelled, "the job was killed")),
            };
            match result {
                Ok(()) => handle.phase(Phase::Done),
                Err(error) if error.kind == ErrorKind::Cancelled => handle.phase(Phase::Killed),
                Err(error) => {
                    tracing::error!(view = core.object_name(view), %error, "the view cannot be built");
                    handle.phase(Phase::Failed(error.message));
                }
            }
        });
        job
    }

    async fn build(self: &Arc<Self>, view: ObjectId, job: &Arc<Job>) -> Result<(), EngineError> {
        let planned = self.plan_view(view)?;
        self.copy_tables(&planned.plan, job).await?;
        self.wait_for_views(&planned.plan, job).await?;
        job.phase(Phase::Computing);
        let (group, hold) = self.install(planned).await?;
        let ids: Vec<ObjectId> = group.dataflows.iter().map(|(id, _)| *id).collect();
        let as_of = group.as_of;
        let core = Arc::clone(self);
        let loading = Arc::clone(job);
        let loaded = tokio::task::spawn_blocking(move || group.run(&core.dataflow, &core.store, &loading)).await;
        loaded
            .map_err(|error| EngineError::new(ErrorKind::Internal, format!("the load ended abnormally: {error}")))??;
        self.join(&ids, as_of).await?;
        drop(hold);
        self.fill(view, job).await
    }

    /// Has every source table of the plan copied that is not yet in the store.
    async fn copy_tables(self: &Arc<Self>, plan: &Plan, job: &Job) -> Result<(), EngineError> {
        let mut changed = self.changed.subscribe();
        loop {
            let missing: Vec<ObjectId> =
                plan.objects().into_iter().filter(|id| self.is_table(*id) && !self.store.is_loaded(*id)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            job.phase(Phase::Copying);
            let (mut rows, mut expected) = (0, Some(0));
            for (source, tables) in self.followed(&missing) {
                if let Some(FeedState::Stopped(stop)) = self.feeds.state(source) {
                    let message = format!("source {} stopped: {}", self.object_name(source), stop.message);
                    return Err(EngineError::new(ErrorKind::Connection, message).hint(stop.remedy));
                }
                for table in &tables {
                    let (done, estimate) = self.feeds.loading(source, table.id).unwrap_or((0, None));
                    rows += done;
                    expected = expected.zip(estimate).map(|(a, b)| a + b.max(done));
                }
                self.feeds.follow(source, tables).await;
            }
            job.rows(rows, expected);
            let _ = tokio::time::timeout(LOOK_AGAIN, changed.changed()).await;
        }
    }

    async fn wait_for_views(&self, plan: &Plan, job: &Job) -> Result<(), EngineError> {
        let mut changed = self.changed.subscribe();
        for input in plan.objects().into_iter().filter(|id| !self.is_table(*id)) {
            while !self.is_live(input) {
                let name = self.object_name(input);
                job.phase(Phase::Waiting(format!("view {name}")));
                if self.jobs.running(input).is_none() && !self.is_live(input) {
                    let message = format!("view {name}, which this one reads, was not built");
                    return Err(EngineError::new(ErrorKind::NotReady, message).hint("see SHOW JOBS"));
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, changed.changed()).await;
            }
        }
        Ok(())
    }

    /// Installs a view's dataflow between two ticks.
    async fn install(self: &Arc<Self>, view: ViewFlow) -> Result<(LoadGroup, Hold), EngineError> {
        let (reply, installed) = oneshot::channel();
        let core = Arc::clone(self);
        let between = Box::new(move |as_of, snapshot| {
            let hold = core.progress.hold(Some(as_of));
            let relation = |id| core.relation(id);
            let dataflows = core.lock_flows().install(&core.dataflow, view, as_of, &relation);
            let group = LoadGroup { as_of, dataflows, snapshot, replay_through: None };
            let _ = reply.send((group, hold));
        });
        let stopped = |_| EngineError::new(ErrorKind::NotReady, "the server is stopping");
        self.control.send(Control::Between(between)).await.map_err(|_| stopped(()))?;
        installed.await.map_err(|_| stopped(()))
    }

    /// Waits until new dataflows are as complete as the others, then lets them count. Not before a read is at their
    /// `as_of`: below, they show what they were loaded with and not what they import.
    pub async fn join(&self, ids: &[ObjectId], as_of: Ts) -> Result<(), EngineError> {
        let stopping = |_| EngineError::new(ErrorKind::NotReady, "the server is stopping");
        self.progress.complete().wait_for(|complete| *complete >= as_of).await.map_err(stopping)?;
        let mut frontiers = self.dataflow.frontiers();
        for id in ids {
            while !self.progress.try_join(&self.dataflow, *id) {
                let moved = frontiers.changed().await;
                moved.map_err(|_| EngineError::new(ErrorKind::NotReady, "the server is stopping"))?;
            }
            self.lock_flows().set_live(*id);
        }
        self.changed.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Hands a live view to its sink, if it has one, and waits until the wide table equals it.
    pub async fn fill(self: &Arc<Self>, view: ObjectId, job: &Job) -> Result<(), EngineError> {
        let Some(filled) = self.add_to_target(view, None).await? else { return Ok(()) };
        job.phase(Phase::Filling);
        filled.wait(|rows| job.rows(rows, None)).await
    }
}
