//! Rows of topics that are kept for a time only: the old ones leave, in ticks of their own.
//!
//! A sweep takes the rows whose time is further back than what is complete allows, a bounded number at a time, and
//! has them deleted by key: what is in the store decides, so that a delete that comes twice, after a crash or beside a
//! message that is read again, deletes once. A message that is older when it comes is a row until the next sweep.

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::Catalog;
use crate::catalog::object::{Object, Table};
use crate::engine::Core;
use crate::engine::error::EngineError;
use crate::plan::retention::{Retained, SLACK_SECONDS};
use crate::row::ObjectId;
use crate::sources::formats::plain::place::TIMESTAMP;
use crate::store::{Changes, Upsert, Write};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Rows that leave in one tick.
const SWEEP_ROWS_MAX: usize = 8_192;

/// What a table keeps, if it does not keep all.
pub fn retained(catalog: &Catalog, table: ObjectId) -> Option<Retained> {
    let Object::Table(Table { source: Some(source), schema, .. }) = &**catalog.get(table)? else { return None };
    let Object::Source(source) = &**catalog.get(*source)? else { return None };
    let seconds = source.feed.as_ref()?.retain_seconds?;
    Some(Retained { time: schema.position(TIMESTAMP)?, seconds })
}

impl Core {
    /// Sweeps until the server stops.
    pub(super) async fn retain(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            for (table, kept) in self.retained_tables() {
                match self.sweep(table, kept).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::debug!(%table, rows, "rows left that were old enough"),
                    Err(error) => tracing::warn!(%table, %error, "old rows stay until the next sweep"),
                }
            }
        }
    }

    fn retained_tables(&self) -> Vec<(ObjectId, Retained)> {
        let catalog = self.lock_catalog();
        let tables = catalog.objects().filter_map(|object| match &**object {
            Object::Table(table) => Some((table.id, retained(&catalog, table.id)?)),
            _ => None,
        });
        tables.filter(|(table, _)| self.store.is_loaded(*table)).collect()
    }

    /// Deletes what is old, tick by tick; returns how many rows that were.
    async fn sweep(&self, table: ObjectId, kept: Retained) -> Result<usize, EngineError> {
        let mut all = 0;
        loop {
            // Every view is past this time, and so past all rows that are older by what it may keep.
            let now = self.progress.completed();
            let age = kept.seconds.saturating_add(SLACK_SECONDS).saturating_mul(1_000);
            let before = i64::try_from(now.0.saturating_sub(age)).unwrap_or(i64::MAX).saturating_mul(1_000);
            let snapshot = self.store.snapshot();
            let oldest = move || snapshot.oldest(table, kept.time, before, SWEEP_ROWS_MAX);
            let found = tokio::task::spawn_blocking(oldest).await;
            let found = found.map_err(|error| {
                EngineError::new(crate::engine::error::ErrorKind::Internal, format!("a sweep ended: {error}"))
            })??;
            let Some(rows) = found else { return Ok(all) };
            let count = rows.num_rows();
            let deletes = Upsert::Rows { columns: rows.columns().to_vec(), writes: vec![Write::Delete; count] };
            self.send_tick(vec![], Changes::upserts(vec![(table, deletes)])).await?;
            all += count;
            if count < SWEEP_ROWS_MAX {
                return Ok(all);
            }
        }
    }
}
