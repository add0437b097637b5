//! Long work that a statement started: its progress, waiting for it, ending it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::row::ObjectId;

/// Finished jobs that SHOW JOBS still lists.
const FINISHED_MAX: usize = 100;

/// All jobs of this run of the server, by number.
#[derive(Default)]
pub struct Jobs {
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
}

/// One job. Its state is a watch, so that anyone can wait for it.
pub struct Job {
    pub number: u64,
    pub object: ObjectId,
    pub name: String,
    pub started_ms: u64,
    state: watch::Sender<JobState>,
    killed: watch::Sender<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState {
    pub phase: Phase,
    pub rows: u64,
    pub rows_expected: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for something named.
    Waiting(String),
    /// Source tables are being copied into the store.
    Copying,
    /// The view is being computed.
    Computing,
    /// The wide table is being filled.
    Filling,
    Done,
    Failed(String),
    Killed,
}

impl Phase {
    pub fn is_over(&self) -> bool {
        matches!(self, Phase::Done | Phase::Failed(_) | Phase::Killed)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Phase::Waiting(what) => write!(f, "waiting for {what}"),
            Phase::Copying => f.write_str("copying source tables"),
            Phase::Computing => f.write_str("computing the view"),
            Phase::Filling => f.write_str("filling the wide table"),
            Phase::Done => f.write_str("done"),
            Phase::Failed(reason) => write!(f, "failed: {reason}"),
            Phase::Killed => f.write_str("killed"),
        }
    }
}

impl Jobs {
    pub fn start(&self, object: ObjectId, name: String, started_ms: u64) -> Arc<Job> {
        let mut jobs = self.jobs.lock().expect("no panic while jobs are held");
        let number = jobs.last_key_value().map_or(1, |(number, _)| number + 1);
        let state = JobState { phase: Phase::Waiting("its turn".into()), rows: 0, rows_expected: None };
        let job = Arc::new(Job {
            number,
            object,
            name,
            started_ms,
            state: watch::Sender::new(state),
            killed: watch::Sender::new(false),
        });
        jobs.insert(number, Arc::clone(&job));
        let over: Vec<u64> = jobs.iter().filter(|(_, j)| j.state().phase.is_over()).map(|(n, _)| *n).collect();
        for number in over.iter().take(over.len().saturating_sub(FINISHED_MAX)) {
            jobs.remove(number);
        }
        job
    }

    pub fn list(&self) -> Vec<Arc<Job>> {
        self.jobs.lock().expect("no panic while jobs are held").values().cloned().collect()
    }

    pub fn get(&self, number: u64) -> Option<Arc<Job>> {
        self.jobs.lock().expect("no panic while jobs are held").get(&number).cloned()
    }

    /// The newest job of an object, if it is not over.
    pub fn running(&self, object: ObjectId) -> Option<Arc<Job>> {
        self.list().into_iter().rev().find(|job| job.object == object && !job.state().phase.is_over())
    }
}

impl Job {
    pub fn state(&self) -> JobState {
        self.state.borrow().clone()
    }

    pub fn phase(&self, phase: Phase) {
        self.state.send_modify(|state| {
            if !state.phase.is_over() {
                *state = JobState { phase, rows: 0, rows_expected: state.rows_expected };
            }
        });
    }

    pub fn rows(&self, rows: u64, expected: Option<u64>) {
        self.state.send_modify(|state| {
            state.rows = rows;
            state.rows_expected = expected;
        });
    }

    /// Waits until the job is over and tells how it ended.
    pub async fn wait(&self) -> Phase {
        let mut watch = self.state.subscribe();
        let over = watch.wait_for(|state| state.phase.is_over()).await;
        over.map(|state| state.phase.clone()).expect("a job outlives those who wait for it")
    }

    pub fn kill(&self) {
        self.killed.send_replace(true);
    }

    pub fn is_killed(&self) -> bool {
        *self.killed.borrow()
    }

    pub async fn killed(&self) {
        let mut watch = self.killed.subscribe();
        let killed = watch.wait_for(|killed| *killed).await;
        killed.expect("a job outlives those who wait for it");
    }
}
