//! SHOW, EXPLAIN and the status line: what the server knows, as rows of text.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;

use crate::catalog::object::{Object, ObjectKind};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::session::Outcome;
use crate::engine::{Core, Status};
use crate::plan::explain::explain;
use crate::plan::print;
use crate::plan::statement::{Show, Upstream};
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::store::Healed;

/// An answer of text columns.
struct Listing {
    columns: Vec<Column>,
    rows: Vec<Vec<Option<String>>>,
}

pub fn columns_of(show: &Show) -> Vec<Column> {
    let names: &[&str] = match show {
        Show::Secrets => &["name", "from"],
        Show::Connections => &["name", "kind", "address"],
        Show::Sources => &["name", "connection", "state", "position", "tables", "waits_for", "quarantined"],
        Show::Upstream { what: Upstream::Databases, .. } => &["name", "tables"],
        Show::Upstream { what: Upstream::Tables { .. }, .. } => &["name", "columns", "key", "cannot_be_read"],
        Show::Upstream { what: Upstream::Columns { .. }, .. } => {
            &["name", "type", "nullable", "key", "comment", "cannot_be_read"]
        }
        Show::Tables => &["name", "source", "loaded", "rows", "columns", "healed", "mismatched"],
        Show::Views => &["name", "query"],
        Show::MaterializedViews => &["name", "state", "updates", "bytes", "complete_ts", "into", "target", "target_ts"],
        Show::Jobs => &["job", "object", "phase", "rows", "rows_expected", "rows_a_second", "seconds_left"],
        Show::Create { .. } | Show::TargetDdl { .. } => &["statement"],
        Show::Columns { .. } => &["name", "type", "nullable", "key", "comment"],
        Show::Setting(_) => &["value"],
    };
    text_columns(names)
}

pub fn text_columns(names: &[&str]) -> Vec<Column> {
    names.iter().map(|name| Column::new(*name, SqlType::Text(4), true)).collect()
}

/// One column of lines.
pub fn lines(column: &str, text: &str) -> Outcome {
    let rows = text.lines().map(|line| vec![Some(line.to_string())]).collect();
    Listing { columns: text_columns(&[column]), rows }.into()
}

/// Rows of text under these names.
pub fn table(names: &[&str], rows: Vec<Vec<Option<String>>>) -> Outcome {
    Listing { columns: text_columns(names), rows }.into()
}

impl From<Listing> for Outcome {
    fn from(listing: Listing) -> Outcome {
        let columns = (0..listing.columns.len())
            .map(|c| Arc::new(listing.rows.iter().map(|row| row[c].as_deref()).collect::<StringArray>()) as ArrayRef)
            .collect();
        let schema = Schema { columns: listing.columns.clone(), key: None };
        let batch = RecordBatch::try_new(schema.arrow(), columns).expect("text columns of one length");
        Outcome::Rows { columns: listing.columns, rows: Box::pin(futures::stream::iter([Ok(batch)])) }
    }
}

impl Core {
    pub async fn show(&self, show: &Show) -> Result<Outcome, EngineError> {
        let rows = match show {
            Show::Secrets => self.show_secrets(),
            Show::Connections => self.show_connections(),
            Show::Sources => self.show_sources(),
            Show::Tables => self.show_tables(),
            Show::Upstream { connection, what } => self.show_upstream(connection, what).await?,
            Show::Views => self.show_views(),
            Show::MaterializedViews => self.show_materialized_views(),
            Show::Jobs => self.show_jobs(),
            Show::Create { kind, name } => {
                let object = self.resolve_kind(name, *kind)?;
                vec![vec![Some(print::create(&self.lock_catalog(), &object))]]
            }
            Show::Columns { name } => {
                let object = self.resolve(name)?;
                let schema = match &object {
                    Object::Table(table) => &table.schema,
                    Object::View(view) => &view.schema,
                    _ => {
                        let message = format!("{} {} has no columns", object.kind(), object.name());
                        return Err(EngineError::new(ErrorKind::WrongObject, message).at(name.at));
                    }
                };
                (0..schema.columns.len()).map(|position| show_column(schema, position)).collect()
            }
            Show::TargetDdl { name } => {
                let object = self.resolve(name)?;
                vec![vec![Some(self.target_ddl(object.id())?)]]
            }
            Show::Setting(name) => vec![vec![Some(setting(name)?)]],
        };
        Ok(Listing { columns: columns_of(show), rows }.into())
    }

    fn show_secrets(&self) -> Vec<Vec<Option<String>>> {
        let catalog = self.lock_catalog();
        let secrets = catalog.objects().filter_map(|object| match &**object {
            Object::Secret(secret) => Some(vec![Some(secret.name.clone()), Some(format!("{:?}", secret.from))]),
            _ => None,
        });
        secrets.collect()
    }

    fn show_connections(&self) -> Vec<Vec<Option<String>>> {
        let catalog = self.lock_catalog();
        let connections = catalog.objects().filter_map(|object| match &**object {
            Object::Connection(connection) => {
                let options = &connection.options;
                let host = options.host.as_ref().map(|host| match options.port {
                    Some(port) => format!("{host}:{port}"),
                    None => host.clone(),
                });
                let address = host.or_else(|| options.path.clone());
                Some(vec![Some(connection.name.clone()), Some(connection.kind.word().to_lowercase()), address])
            }
            _ => None,
        });
        connections.collect()
    }

    fn show_sources(&self) -> Vec<Vec<Option<String>>> {
        let positions = self.progress.binding(self.progress.last()).positions;
        let snapshot = self.store.snapshot();
        let catalog = self.lock_catalog();
        let sources = catalog.objects().filter_map(|object| match &**object {
            Object::Source(source) => {
                let quarantine = catalog.quarantine(source).map(|table| table.id);
                let tables = catalog.tables(source.id).filter(|table| Some(table.id) != quarantine);
                Some(vec![
                    Some(source.name.clone()),
                    catalog.get(source.connection).map(|o| o.name()),
                    self.feeds.state(source.id).map(|state| state.to_string()),
                    self.position_text(source.id, positions.get(&source.id)),
                    Some(tables.count().to_string()),
                    self.feeds.waits_for(source.id),
                    quarantine.map(|table| snapshot.rows(table).to_string()),
                ])
            }
            _ => None,
        });
        sources.collect()
    }

    fn show_tables(&self) -> Vec<Vec<Option<String>>> {
        let snapshot = self.store.snapshot();
        let catalog = self.lock_catalog();
        let tables = catalog.objects().filter_map(|object| match &**object {
            Object::Table(table) => {
                let loaded = self.store.is_loaded(table.id);
                let found = self.store.healed(table.id);
                Some(vec![
                    Some(table.name.join(".")),
                    table.source.and_then(|source| catalog.get(source)).map(|o| o.name()),
                    Some(if loaded { "yes" } else { "no" }.to_string()),
                    loaded.then(|| snapshot.rows(table.id).to_string()),
                    Some(table.schema.columns.len().to_string()),
                    healed(found),
                    (found.mismatched > 0).then(|| found.mismatched.to_string()),
                ])
            }
            _ => None,
        });
        tables.collect()
    }

    fn show_views(&self) -> Vec<Vec<Option<String>>> {
        let catalog = self.lock_catalog();
        let views = catalog.objects().filter_map(|object| match &**object {
            Object::View(view) if !view.materialized => {
                Some(vec![Some(view.name.clone()), Some(view.query_text.clone())])
            }
            _ => None,
        });
        views.collect()
    }

    fn show_materialized_views(&self) -> Vec<Vec<Option<String>>> {
        let stats = self.dataflow.stats();
        let complete = self.progress.completed();
        let catalog = self.lock_catalog();
        let views = catalog.objects().filter_map(|object| match &**object {
            Object::View(view) if view.materialized => {
                let live = self.is_live(view.id);
                let stats = stats.iter().find(|stats| stats.id == view.id);
                let state = match (live, self.jobs.running(view.id)) {
                    (true, _) => "live".to_string(),
                    (false, Some(job)) => job.state().phase.to_string(),
                    (false, None) => "not built".to_string(),
                };
                let target = self.targets.state(view.id);
                let into = view.into.as_ref().map(|into| {
                    let connection = catalog.get(into.connection).map(|o| o.name()).unwrap_or_default();
                    format!("{connection}.{}", into.table.join("."))
                });
                Some(vec![
                    Some(view.name.clone()),
                    Some(state),
                    stats.map(|stats| stats.rows.to_string()),
                    stats.map(|stats| stats.bytes.to_string()),
                    live.then(|| complete.to_string()),
                    into,
                    target.as_ref().map(|target| target.describe()),
                    target.and_then(|target| target.committed).map(|ts| ts.to_string()),
                ])
            }
            _ => None,
        });
        views.collect()
    }

    fn show_jobs(&self) -> Vec<Vec<Option<String>>> {
        let now = (self.now)().wall_ms;
        let line = |job: Arc<crate::engine::jobs::Job>| {
            let state = job.state();
            let seconds = now.saturating_sub(job.started_ms) as f64 / 1_000.0;
            let rate = (seconds > 0.0 && state.rows > 0).then(|| state.rows as f64 / seconds);
            let left = rate.zip(state.rows_expected).map(|(rate, rows)| rows.saturating_sub(state.rows) as f64 / rate);
            vec![
                Some(job.number.to_string()),
                Some(job.name.clone()),
                Some(state.phase.to_string()),
                Some(state.rows.to_string()),
                state.rows_expected.map(|rows| rows.to_string()),
                rate.filter(|_| !state.phase.is_over()).map(|rate| format!("{rate:.0}")),
                left.filter(|_| !state.phase.is_over()).map(|left| format!("{left:.0}")),
            ]
        };
        self.jobs.list().into_iter().map(line).collect()
    }

    /// The plan of a materialized view, with what it shares.
    pub fn explain_view(&self, object: &Object) -> Result<String, EngineError> {
        if object.kind() != ObjectKind::MaterializedView {
            let message = format!("{} is a {}, not a materialized view", object.name(), object.kind());
            return Err(EngineError::new(ErrorKind::WrongObject, message));
        }
        let planned = self.plan_view(object.id())?;
        Ok(explain(&planned.plan))
    }

    pub fn status(&self) -> Status {
        let complete = self.progress.completed();
        let now = (self.now)().wall_ms;
        let stats = self.dataflow.stats();
        let views = self.materialized_views();
        let rows = |id| stats.iter().find(|stats| stats.id == id).map_or(0, |stats| stats.rows);
        Status {
            complete,
            lag_ms: now.saturating_sub(complete.0),
            ticks: self.store.last_tick().number,
            rows_in: self.rows_in.load(Ordering::Relaxed),
            views: views.iter().filter(|id| self.is_live(**id)).map(|id| (self.object_name(*id), rows(*id))).collect(),
            jobs_running: self.jobs.list().iter().filter(|job| !job.state().phase.is_over()).count(),
            stopped: self.stopped.borrow().clone(),
        }
    }
}

/// What a feed said that its table did not bear out, since the server started.
fn healed(Healed { unchanged, deletes_of_nothing, .. }: Healed) -> Option<String> {
    let said = [(unchanged, "rows as they were"), (deletes_of_nothing, "deletes of nothing")];
    let said: Vec<String> = said.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Name, type, nullable, key, comment.
pub fn show_column(schema: &Schema, position: usize) -> Vec<Option<String>> {
    let column = &schema.columns[position];
    let key = schema.key.as_ref().is_some_and(|key| key.contains(&position));
    vec![
        Some(column.name.clone()),
        Some(column.sql_type.to_string().to_lowercase()),
        Some(if column.nullable { "yes" } else { "no" }.to_string()),
        Some(if key { "key" } else { "" }.to_string()),
        column.comment.clone(),
    ]
}

/// Settings that drivers and psql ask for.
fn setting(name: &str) -> Result<String, EngineError> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "server_version" => crate::engine::session::SERVER_VERSION.to_string(),
        "server_encoding" | "client_encoding" => "UTF8".to_string(),
        "timezone" | "time zone" => "UTC".to_string(),
        "datestyle" => "ISO, MDY".to_string(),
        "standard_conforming_strings" => "on".to_string(),
        "transaction_isolation" | "transaction isolation level" => "serializable".to_string(),
        "search_path" => "public".to_string(),
        other => {
            let message = format!("unknown setting {other}");
            return Err(EngineError::new(ErrorKind::InvalidValue, message));
        }
    })
}
