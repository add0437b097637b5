//! What the clock drives: the dataflow, the progress, the waiting jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use crate::clock::Downstream;
use crate::engine::Core;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Position, Ts};
use crate::sources::Event;
use crate::store::TickHeader;

/// The change log is trimmed this much more seldom than it could be: a trim takes the store's writer for a moment.
const TRIM_EVERY_MS: u64 = 1_000;

impl Core {
    /// Nobody resumes at or below this `Ts` any more.
    pub fn trim(&self, through: Ts) {
        let trimmed = self.trimmed.load(Ordering::Relaxed);
        if through.0 < trimmed + TRIM_EVERY_MS {
            return;
        }
        self.trimmed.store(through.0, Ordering::Relaxed);
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.trim(through) {
                tracing::warn!(%error, "the change log cannot be trimmed");
            }
        });
    }
}

impl Downstream for Core {
    fn tick(
        &self,
        ts: Ts,
        header: TickHeader,
        positions: &BTreeMap<ObjectId, Position>,
        changes: Vec<(ObjectId, Delta)>,
    ) {
        let rows: usize = changes.iter().map(|(_, delta)| delta.len()).sum();
        self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
        self.progress.ticked(ts, header, positions);
        self.dataflow.tick(ts, Arc::new(changes));
        self.progress.advance(&self.dataflow);
        if self.targets.is_empty() {
            self.trim(ts);
        }
    }

    fn installed(&self, tables: &[(ObjectId, u64)]) {
        tracing::info!(tables = tables.len(), "source tables are loaded");
        self.changed.send_modify(|version| *version += 1);
    }

    fn source_event(&self, source: ObjectId, event: Event) {
        if let Event::Layouts { table, layouts } = event {
            if let Err(error) = self.keep_layouts(table, layouts) {
                // A store that failed once writes no tick either: no position moves past the layout.
                tracing::error!(%table, %error, "the columns of a source table cannot be kept");
            }
            return;
        }
        self.feeds.heard(source, event);
        self.changed.send_modify(|version| *version += 1);
    }

    fn complete(&self) -> watch::Receiver<Ts> {
        self.progress.complete()
    }

    fn stopped(&self, reason: &str) {
        tracing::error!(reason, "no new tick can be made; views stay readable at the last one");
        self.stopped.send_replace(Some(reason.to_string()));
    }
}
