//! What the workers report: how far each dataflow is, and what it keeps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::dataflow::describe::Description;
use crate::row::{ObjectId, Ts};

/// What the workers report.
pub struct Shared {
    pub workers: usize,
    reports: Mutex<BTreeMap<ObjectId, Report>>,
    version: watch::Sender<u64>,
    broken: watch::Sender<bool>,
}

#[derive(Clone)]
struct Report {
    name: String,
    frontiers: Vec<u64>,
    sizes: Vec<(u64, u64)>,
}

/// See [`Shared::alarm`].
pub struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.send_replace(true);
        }
    }
}

/// What one dataflow keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    pub id: ObjectId,
    pub name: String,
    pub frontier: Ts,
    /// Updates in what it exports (the rows, and what is not yet compacted) and those that wait for their time.
    pub rows: u64,
    pub bytes: u64,
}

impl Shared {
    pub fn new(workers: usize) -> Shared {
        Shared { workers, reports: Mutex::default(), version: watch::Sender::new(0), broken: watch::Sender::new(false) }
    }

    /// Complete below this; the end of time for a dataflow that is not installed.
    pub fn frontier(&self, dataflow: ObjectId) -> Ts {
        let reports = self.reports.lock().expect("no panic while reports are held");
        let frontier = reports.get(&dataflow).and_then(|report| report.frontiers.iter().min().copied());
        Ts(frontier.unwrap_or(u64::MAX))
    }

    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// True once a worker has panicked.
    pub fn broken(&self) -> watch::Receiver<bool> {
        self.broken.subscribe()
    }

    /// Tells of a panic when the thread that holds this unwinds; the other workers may wait for it for ever.
    pub fn alarm(self: &Arc<Self>) -> Alarm {
        Alarm(Arc::clone(self))
    }

    pub fn stats(&self) -> Vec<Stats> {
        let reports = self.reports.lock().expect("no panic while reports are held");
        let stats = reports.iter().map(|(id, report)| Stats {
            id: *id,
            name: report.name.clone(),
            frontier: Ts(report.frontiers.iter().min().copied().unwrap_or(u64::MAX)),
            rows: report.sizes.iter().map(|(rows, _)| rows).sum(),
            bytes: report.sizes.iter().map(|(_, bytes)| bytes).sum(),
        });
        stats.collect()
    }

    pub fn add(&self, description: &Description) {
        let report = Report {
            name: description.name.clone(),
            frontiers: vec![0; self.workers],
            sizes: vec![(0, 0); self.workers],
        };
        self.reports.lock().expect("no panic while reports are held").insert(description.id, report);
    }

    pub fn remove(&self, id: ObjectId) {
        self.reports.lock().expect("no panic while reports are held").remove(&id);
        self.version.send_modify(|version| *version += 1);
    }

    /// A worker's frontiers and, where it has them, sizes that have changed.
    pub fn report(&self, worker: usize, moved: &[(ObjectId, u64)], sizes: &[(ObjectId, (u64, u64))]) {
        {
            let mut reports = self.reports.lock().expect("no panic while reports are held");
            for (id, frontier) in moved {
                if let Some(report) = reports.get_mut(id) {
                    report.frontiers[worker] = *frontier;
                }
            }
            for (id, size) in sizes {
                if let Some(report) = reports.get_mut(id) {
                    report.sizes[worker] = *size;
                }
            }
        }
        if !moved.is_empty() {
            self.version.send_modify(|version| *version += 1);
        }
    }
}
