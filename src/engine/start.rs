//! A source's task: started with the source and with the server, and again after it has stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::catalog::object::{ConnectionKind, Object, ObjectKind};
use crate::clock::Control;
use crate::engine::Core;
use crate::engine::ddl::Created;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::feeds::FeedState;
use crate::plan::statement::{Name, SourceChange};
use crate::row::ObjectId;
use crate::sources::generator::Generator;
use crate::sources::log::{Added, PARTITIONS_ADDED};
use crate::sources::mysql::{MySql, Polled};
use crate::sources::{FollowedTable, Stop};

/// How long ALTER SOURCE waits for the source to run, or to stop again.
const RESUME_WAIT: Duration = Duration::from_secs(10);

impl Core {
    /// Starts the task of a source at the position of the last tick.
    pub fn start_source(&self, source: ObjectId) -> Result<(), EngineError> {
        self.start_reading(source, Added::Stop, false)
    }

    fn start_reading(&self, source: ObjectId, added: Added, allow_reordering: bool) -> Result<(), EngineError> {
        let Object::Source(entry) = self.object(source)? else { panic!("{source} is a source") };
        let connection = self.connection(entry.connection)?;
        let tables = self.tables_of(source);
        let loaded: Vec<ObjectId> = tables.iter().copied().filter(|table| self.store.is_loaded(*table)).collect();
        let position = self.store.positions().get(&source).cloned();
        let task: Box<dyn crate::sources::Source> = match (connection.kind, entry.refresh_seconds) {
            (_, Some(seconds)) => {
                let every = Duration::from_secs(seconds);
                Box::new(Polled { options: self.mysql_options(&connection)?, every })
            }
            (ConnectionKind::Generator, None) => Box::new(Generator { shop: Core::shop(&connection) }),
            (ConnectionKind::Mysql, None) => Box::new(MySql::new(self.mysql_options(&connection)?)),
            (ConnectionKind::Kafka | ConnectionKind::Files, None) => {
                Box::new(self.changefeed(&connection, &entry, added, allow_reordering)?)
            }
            (ConnectionKind::Tidb | ConnectionKind::Sqlite, None) => panic!("refused at CREATE SOURCE"),
        };
        // What has passed does not come again: a changefeed follows all its tables from its beginning.
        let wanted = if entry.feed.is_some() { tables } else { self.feeds.requested(source) };
        self.feeds.start(source, task, position, self.followed_tables(&loaded));
        self.feeds.follow_at_once(source, self.followed_tables(&wanted));
        Ok(())
    }

    fn tables_of(&self, source: ObjectId) -> Vec<ObjectId> {
        self.lock_catalog().tables(source).map(|table| table.id).collect()
    }

    fn followed_tables(&self, tables: &[ObjectId]) -> Vec<FollowedTable> {
        self.followed(tables).into_iter().flat_map(|(_, tables)| tables).collect()
    }

    /// Lets a source go on that has stopped; returns when it runs.
    pub async fn alter_source(self: &Arc<Self>, name: &Name, change: SourceChange) -> Result<Created, EngineError> {
        let source = self.resolve_kind(name, ObjectKind::Source)?.id();
        let stop = match self.feeds.state(source) {
            Some(FeedState::Stopped(stop)) => stop,
            state => return Err(has_not_stopped(name, state)),
        };
        let (added, allow_reordering) = match change {
            SourceChange::Resume => (Added::Stop, false),
            SourceChange::AddPartitions { allow_reordering } if stop.code == PARTITIONS_ADDED => {
                (Added::Once, allow_reordering)
            }
            SourceChange::AddPartitions { .. } => {
                let message = format!("source {name} did not stop because of partitions: {}", stop.code);
                let hint = "ALTER SOURCE … RESUME, once its reason is mended; SHOW SOURCES tells it";
                return Err(EngineError::new(ErrorKind::NotReady, message).hint(hint).at(name.at));
            }
        };
        // What it sent before it stopped is in the store behind this, and so is its position.
        self.between_ticks().await?;
        self.start_reading(source, added, allow_reordering)?;
        let created = match self.outcome(source, name).await? {
            FeedState::Waiting(reason) => {
                Created::notice(format!("source {name} tries to go on: {reason}; SHOW SOURCES tells when it does"))
            }
            FeedState::Starting => {
                Created::notice(format!("source {name} is starting; SHOW SOURCES tells when it runs"))
            }
            _ => Created::quietly(),
        };
        // So is what it began with.
        self.between_ticks().await?;
        self.build_again(source)?;
        Ok(created)
    }

    /// How a source does that was just started: it runs, or has not stopped again within the time limit.
    async fn outcome(&self, source: ObjectId, name: &Name) -> Result<FeedState, EngineError> {
        let mut changed = self.changed.subscribe();
        let limit = tokio::time::sleep(RESUME_WAIT);
        tokio::pin!(limit);
        loop {
            let state = self.feeds.state(source);
            match state {
                None => return Err(has_not_stopped(name, None)),
                Some(FeedState::Stopped(Stop { code, message, remedy, .. })) => {
                    let message = format!("source {name} has stopped again: {code}: {message}");
                    return Err(EngineError::new(ErrorKind::NotReady, message).hint(remedy).at(name.at));
                }
                Some(state @ (FeedState::Running | FeedState::Resting(_))) => return Ok(state),
                Some(state) => tokio::select! {
                    _ = changed.changed() => {}
                    () = &mut limit => return Ok(state),
                },
            }
        }
    }

    /// Returns when everything is durable that the clock had taken before.
    async fn between_ticks(&self) -> Result<(), EngineError> {
        let (reply, between) = oneshot::channel();
        let run = Box::new(move |_, _| {
            // Who asked may have gone.
            let _ = reply.send(());
        });
        let stopped = || {
            let reason = self.stopped.borrow().clone().unwrap_or_else(|| "the server is stopping".to_string());
            EngineError::new(ErrorKind::NotReady, format!("no tick can be made: {reason}"))
        };
        self.control.send(Control::Between(run)).await.map_err(|_| stopped())?;
        between.await.map_err(|_| stopped())
    }

    /// The views that could not be built because the source had stopped, and those on them.
    fn build_again(self: &Arc<Self>, source: ObjectId) -> Result<(), EngineError> {
        let mut affected: BTreeSet<ObjectId> = self.tables_of(source).into_iter().collect();
        for view in self.materialized_views() {
            if self.lock_flows().is_installed(view) || self.jobs.running(view).is_some() {
                continue;
            }
            if self.plan_view(view)?.plan.objects().iter().any(|input| affected.contains(input)) {
                affected.insert(view);
                self.start_build(view);
            }
        }
        Ok(())
    }
}

fn has_not_stopped(name: &Name, state: Option<FeedState>) -> EngineError {
    let Some(state) = state else {
        return EngineError::new(ErrorKind::UnknownObject, format!("source {name} was dropped")).at(name.at);
    };
    let message = format!("source {name} has not stopped: it is {state}");
    let hint = "a source stops when it cannot go on by itself; SHOW SOURCES tells its state";
    EngineError::new(ErrorKind::NotReady, message).hint(hint).at(name.at)
}
