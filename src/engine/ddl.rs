//! CREATE and DROP: the catalog first, then what runs for it.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::object::{ConnectionKind, Object, ObjectKind, SecretFrom, Table, View};
use crate::engine::changefeeds::quarantine_of;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::jobs::{Job, Phase};
use crate::engine::retain::retained;
use crate::engine::upstream::collation_notice;
use crate::engine::{Core, connect};
use crate::plan::SEMANTICS_VERSION;
use crate::plan::define;
use crate::plan::explain::plan_hash;
use crate::plan::lower::{Lowered, Settings, lower};
use crate::plan::refuse::Use;
use crate::plan::relations::CatalogRelations;
use crate::plan::retention;
use crate::plan::statement::{ConnectionOption, CreateSource, CreateView, DropTarget, Name, Statement};
use crate::row::ObjectId;
use crate::row::schema::{Layout, Schema};
use crate::sources::UpstreamTable;
use crate::sources::log::Added;

/// Who the sources and targets see as us when nothing else is said.
const TIME_ZONE_DEFAULT: &str = "+00:00";

/// What a DDL statement did, beside its tag.
pub struct Created {
    pub notices: Vec<String>,
    pub job: Option<Arc<Job>>,
}

impl Created {
    pub(super) fn quietly() -> Created {
        Created { notices: vec![], job: None }
    }

    pub(super) fn notice(text: impl std::convert::Into<String>) -> Created {
        Created { notices: vec![text.into()], job: None }
    }
}

impl Core {
    /// Adds an object to the catalog, durably: the store first, then what everyone sees.
    fn add<E>(&self, make: impl FnOnce(&Catalog, ObjectId) -> Result<Object, E>) -> Result<ObjectId, EngineError>
    where
        EngineError: From<E>,
    {
        let mut catalog = self.lock_catalog();
        let mut next = catalog.clone();
        let id = next.allocate();
        let object = make(&next, id)?;
        let changes = next.add(object)?;
        self.store.write_catalog(changes)?;
        *catalog = next;
        Ok(id)
    }

    /// True if the name is taken and IF NOT EXISTS says that this is fine.
    fn is_there(&self, name: &Name, if_not_exists: bool, kind: ObjectKind) -> Result<bool, EngineError> {
        match self.lock_catalog().find(kind, &name.parts) {
            Ok(_) if if_not_exists => Ok(true),
            Ok(found) => {
                let message = format!("{kind} `{}` exists already", found.name());
                Err(EngineError::new(ErrorKind::DuplicateObject, message).at(name.at))
            }
            // A name of another kind is refused when the object is added.
            Err(_) => Ok(false),
        }
    }

    pub fn create_secret(&self, name: &Name, if_not_exists: bool, from: SecretFrom) -> Result<Created, EngineError> {
        if self.is_there(name, if_not_exists, ObjectKind::Secret)? {
            return Ok(Created::notice(format!("secret {name} already exists, nothing done")));
        }
        let mut created = Created::quietly();
        if let Err(reason) = connect::secret_value(&from) {
            created.notices.push(format!("secret {name} cannot be read yet: {reason}"));
        }
        self.add(|_, id| Ok::<_, EngineError>(Object::Secret(define::secret(id, name, &from))))?;
        Ok(created)
    }

    pub fn create_connection(
        &self,
        name: &Name,
        if_not_exists: bool,
        kind: ConnectionKind,
        options: &[ConnectionOption],
    ) -> Result<Created, EngineError> {
        if self.is_there(name, if_not_exists, ObjectKind::Connection)? {
            return Ok(Created::notice(format!("connection {name} already exists, nothing done")));
        }
        self.add(|catalog, id| define::connection(catalog, id, name, kind, options).map(Object::Connection))?;
        Ok(Created::quietly())
    }

    pub async fn create_source(self: &Arc<Self>, create: &CreateSource) -> Result<Created, EngineError> {
        if self.is_there(&create.name, create.if_not_exists, ObjectKind::Source)? {
            return Ok(Created::notice(format!("source {} already exists, nothing done", create.name)));
        }
        let Some(own) = &create.own else { return self.source_over_connection(create).await };
        self.create_connection(&own.name, false, own.kind, &own.options)?;
        let made = self.source_over_connection(create).await;
        match made {
            Ok(mut created) => {
                created.notices.insert(0, format!("connection {} is made for it", own.name));
                Ok(created)
            }
            Err(error) => {
                self.drop_named(ObjectKind::Connection, &own.name, false, false, DropTarget::Keep).await?;
                Err(error)
            }
        }
    }

    async fn source_over_connection(self: &Arc<Self>, create: &CreateSource) -> Result<Created, EngineError> {
        let connection = self.connection_named(&create.connection)?;
        // What the catalog or this build would refuse is told before anything is asked of a server.
        let drafted = define::source(&self.lock_catalog().clone(), ObjectId(u64::MAX), create)?;
        if drafted.feed.is_some() {
            self.changefeed(&connection, &drafted, Added::Stop, false)?;
        }
        let found = self.upstream_tables(&connection, create).await?;
        let bad: Vec<String> = found
            .iter()
            .flat_map(|table| {
                let name = format!("{}.{}", table.database, table.name);
                table.unsupported.iter().map(move |(column, reason)| format!("{name}.{column} ({reason})"))
            })
            .collect();
        if !bad.is_empty() {
            let message = format!("columns that cannot be followed: {}", bad.join(", "));
            let names: Vec<&str> = bad.iter().filter_map(|bad| bad.split(' ').next()).collect();
            return Err(EngineError::new(ErrorKind::NotSupported, message)
                .hint(format!("leave them out: EXCLUDE COLUMNS ({})", names.join(", "))));
        }
        if found.is_empty() {
            let message = format!("connection {} shows no table that matches", connection.name);
            return Err(EngineError::new(ErrorKind::UnknownObject, message)
                .hint(format!("SHOW TABLES FROM CONNECTION {} lists them", connection.name))
                .at(create.connection.at));
        }
        let quarantine = quarantine_of(&drafted, &found).map_err(|error| error.at(create.name.at))?;
        let source = self.add(|catalog, id| define::source(catalog, id, create).map(Object::Source))?;
        let mut notices = Vec::new();
        let count = found.len();
        for table in found {
            notices.extend(collation_notice(&table));
            self.add_followed(&connection.name, source, table)?;
        }
        notices.push(match (&create.feed, create.refresh_seconds) {
            (None, None) => format!("{count} tables can be used; each is copied when the first view needs it"),
            (None, Some(_)) => format!("{count} tables can be used; each is read in every round once a view needs it"),
            (Some(_), _) => format!("{count} tables are followed from here on"),
        });
        if let Some(table) = quarantine {
            notices.push(format!("messages that cannot be read are kept in {}.{}", table.database, table.name));
            self.add_followed(&connection.name, source, table)?;
        }
        self.start_source(source)?;
        Ok(Created { notices, job: None })
    }

    fn add_followed(&self, connection: &str, source: ObjectId, table: UpstreamTable) -> Result<(), EngineError> {
        let name = vec![connection.to_string(), table.database, table.name];
        let schema = table.schema.clone();
        let layouts = vec![Layout { since: None, columns: table.layout }];
        let id = self.add(|_, id| {
            Ok::<_, EngineError>(Object::Table(Table { id, name, source: Some(source), schema, layouts }))
        })?;
        Ok(self.store.create_table(id, &table.schema)?)
    }

    /// A round of a source without a changelog, now: what it finds is in every later answer.
    pub async fn refresh_source(&self, name: &Name) -> Result<(), EngineError> {
        let Object::Source(source) = self.resolve_kind(name, ObjectKind::Source)? else {
            unreachable!("resolved as a source")
        };
        if source.refresh_seconds.is_none() {
            let message = format!("source {} follows a changelog", source.name);
            let hint = "there is nothing to refresh: SHOW SOURCES tells how far it is";
            return Err(EngineError::new(ErrorKind::WrongObject, message).hint(hint).at(name.at));
        }
        self.feeds.refresh(source.id).await.map_err(|reason| {
            let message = format!("source {} could not be read again: {reason}", source.name);
            EngineError::new(ErrorKind::Connection, message)
        })
    }

    pub async fn create_table(
        &self,
        name: &Name,
        if_not_exists: bool,
        schema: &Schema,
    ) -> Result<Created, EngineError> {
        if self.is_there(name, if_not_exists, ObjectKind::Table)? {
            return Ok(Created::notice(format!("table {name} already exists, nothing done")));
        }
        let id = self.add(|_, id| Ok::<_, EngineError>(Object::Table(define::table(id, name, schema))))?;
        self.store.create_table(id, schema)?;
        self.install_local(id).await?;
        Ok(Created::quietly())
    }

    /// Plans the query of a CREATE VIEW: what the catalog will keep of it, its plan, and what to tell the user.
    pub fn define_view(
        &self,
        create: &CreateView,
        catalog: &Catalog,
        id: ObjectId,
    ) -> Result<(View, Lowered), EngineError> {
        let time_zone = define::option(create, "time_zone").unwrap_or(TIME_ZONE_DEFAULT).to_string();
        let settings = Settings { time_zone: time_zone.clone() };
        let relations = CatalogRelations::new(catalog);
        let lowered = lower(&create.query, &create.query_text, Use::View, &relations, &settings);
        let lowered = lowered.map_err(|error| {
            let position = error.position.map(|position| position + create.query_at);
            EngineError { position, ..EngineError::from(error) }
        })?;
        if create.materialized {
            let bounded = retention::check(&lowered.plan, &|object| retained(catalog, object));
            bounded.map_err(|error| EngineError::from(error).at(create.query_at))?;
        }
        let mut schema = lowered.plan.schema.clone();
        for (position, column) in schema.columns.iter().enumerate() {
            if schema.position(&column.name) != Some(position) {
                let message = format!("column {} appears twice in view {}", column.name, create.name);
                return Err(
                    EngineError::new(ErrorKind::DuplicateObject, message).hint("give one of them another name with AS")
                );
            }
        }
        if let Some(declared) = &create.key {
            schema.key = declared.iter().map(|column| schema.position(column)).collect();
        }
        let planned = define::Planned {
            schema,
            depends_on: relations.used(),
            plan_hash: plan_hash(&lowered.plan),
            semantics_version: SEMANTICS_VERSION,
            time_zone,
        };
        Ok((define::view(catalog, id, create, planned)?, lowered))
    }

    pub async fn create_view(self: &Arc<Self>, create: &CreateView) -> Result<Created, EngineError> {
        let kind = if create.materialized { ObjectKind::MaterializedView } else { ObjectKind::View };
        let there = self.lock_catalog().find(kind, &create.name.parts).ok().map(|object| object.id());
        match there {
            Some(id) if create.or_replace => {
                self.try_view(create)?;
                self.drop_object(id, false, DropTarget::Keep).await?;
            }
            _ if self.is_there(&create.name, create.if_not_exists, kind)? => {
                return Ok(Created::notice(format!("{kind} {} already exists, nothing done", create.name)));
            }
            _ => {}
        }
        let mut created = Created::quietly();
        let mut notices = Vec::new();
        let id = self.add(|catalog, id| {
            let (view, lowered) = self.define_view(create, catalog, id)?;
            notices = lowered.notices;
            Ok::<_, EngineError>(Object::View(view))
        })?;
        created.notices.extend(notices);
        if create.materialized {
            let job = self.start_build(id);
            created.notices.push(format!("job {} builds it; SHOW JOBS tells how far it is", job.number));
            created.job = Some(job);
        }
        Ok(created)
    }

    /// What a CREATE VIEW would make, without making it.
    pub fn try_view(&self, create: &CreateView) -> Result<Lowered, EngineError> {
        let catalog = self.lock_catalog().clone();
        let mut next = catalog.clone();
        let id = next.allocate();
        Ok(self.define_view(create, &catalog, id)?.1)
    }

    /// A job of `WITH (wait)`: returns when it is over.
    pub async fn wait_for(&self, job: &Job) -> Result<(), EngineError> {
        match job.wait().await {
            Phase::Failed(reason) => Err(EngineError::new(ErrorKind::Internal, reason)),
            Phase::Killed => Err(EngineError::new(ErrorKind::Cancelled, "the job was killed")),
            _ => Ok(()),
        }
    }

    pub async fn drop_named(
        self: &Arc<Self>,
        kind: ObjectKind,
        name: &Name,
        if_exists: bool,
        cascade: bool,
        target: DropTarget,
    ) -> Result<Created, EngineError> {
        match self.resolve_kind(name, kind) {
            Ok(object) => self.drop_object(object.id(), cascade, target).await.map(|()| Created::quietly()),
            Err(error) if if_exists && error.kind == ErrorKind::UnknownObject => {
                Ok(Created::notice(format!("{kind} {name} does not exist, nothing done")))
            }
            Err(error) => Err(error),
        }
    }

    async fn drop_object(self: &Arc<Self>, id: ObjectId, cascade: bool, target: DropTarget) -> Result<(), EngineError> {
        let dropped = self.lock_catalog().clone().drop(id, cascade)?;
        for object in &dropped.objects {
            self.stop_object(object, target).await?;
        }
        // Only DDL adds and drops objects, and this is the one DDL statement that runs.
        let mut catalog = self.lock_catalog();
        self.store.write_catalog(dropped.changes)?;
        Catalog::drop(&mut catalog, id, cascade)?;
        Ok(())
    }

    /// Keeps what a source says of a table's columns. A table that was dropped meanwhile needs it no more.
    pub fn keep_layouts(&self, table: ObjectId, layouts: Vec<Layout>) -> Result<(), EngineError> {
        let mut catalog = self.lock_catalog();
        let Some(Object::Table(table)) = catalog.get(table).map(|object| &**object) else { return Ok(()) };
        let table = Object::Table(Table { layouts, ..table.clone() });
        let mut next = catalog.clone();
        self.store.write_catalog(next.update(table))?;
        *catalog = next;
        Ok(())
    }

    /// Ends what runs for an object, before the catalog forgets it.
    async fn stop_object(self: &Arc<Self>, object: &Object, target: DropTarget) -> Result<(), EngineError> {
        let id = object.id();
        match object {
            Object::View(view) if view.materialized => {
                if let Some(job) = self.jobs.running(id) {
                    job.kill();
                    job.wait().await;
                }
                if let Some(into) = &view.into {
                    self.remove_from_target(id, into.connection, target == DropTarget::Drop).await?;
                }
                let dropped = self.lock_flows().remove(&self.dataflow, id);
                dropped.iter().for_each(|id| self.progress.leave(*id));
                self.progress.advance(&self.dataflow);
            }
            Object::Source(_) => self.feeds.stop(id).await,
            Object::Table(_) => self.store.drop_table(id)?,
            _ => {}
        }
        Ok(())
    }
}

pub fn option_is_set(create: &CreateView, name: &str) -> bool {
    create.options.iter().any(|(option, _)| option == name)
}

/// As PostgreSQL words it.
pub fn tag(statement: &Statement) -> String {
    let kind = |create: &CreateView| if create.materialized { "CREATE MATERIALIZED VIEW" } else { "CREATE VIEW" };
    match statement {
        Statement::CreateSecret { .. } => "CREATE SECRET".to_string(),
        Statement::CreateConnection { .. } => "CREATE CONNECTION".to_string(),
        Statement::CreateSource(_) => "CREATE SOURCE".to_string(),
        Statement::CreateTable { .. } => "CREATE TABLE".to_string(),
        Statement::CreateView(create) => kind(create).to_string(),
        Statement::AlterSource { .. } => "ALTER SOURCE".to_string(),
        Statement::Drop { kind, .. } => format!("DROP {}", kind.words().join(" ")),
        other => unreachable!("no tag for {other:?}"),
    }
}
