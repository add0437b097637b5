//! Questions to the catalog, answered under its lock and without it afterwards.

use std::sync::MutexGuard;

use crate::catalog::Catalog;
use crate::catalog::object::{Object, ObjectKind, View};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::flows::{Flows, ViewFlow};
use crate::plan::lower::{Settings, lower};
use crate::plan::parse::parse_query;
use crate::plan::refuse::Use;
use crate::plan::relations::CatalogRelations;
use crate::plan::statement::Name;
use crate::row::schema::Schema;
use crate::row::{ObjectId, Ts};
use crate::sinks::SinkView;
use crate::sources::FollowedTable;

impl Core {
    pub fn lock_catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().expect("no panic while the catalog is held")
    }

    pub fn lock_flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().expect("no panic while the flows are held")
    }

    pub fn object(&self, id: ObjectId) -> Result<Object, EngineError> {
        let gone = || EngineError::new(ErrorKind::UnknownObject, format!("object {id} was dropped"));
        self.lock_catalog().get(id).map(|object| Object::clone(object)).ok_or_else(gone)
    }

    pub fn object_name(&self, id: ObjectId) -> String {
        self.lock_catalog().get(id).map_or_else(|| id.to_string(), |object| object.name())
    }

    pub fn is_table(&self, id: ObjectId) -> bool {
        matches!(self.lock_catalog().get(id).map(|object| &**object), Some(Object::Table(_)))
    }

    pub fn is_live(&self, id: ObjectId) -> bool {
        self.lock_flows().is_live(id)
    }

    pub fn view(&self, id: ObjectId) -> Result<View, EngineError> {
        match self.object(id)? {
            Object::View(view) => Ok(view),
            other => Err(EngineError::new(ErrorKind::WrongObject, format!("{} is no view", other.name()))),
        }
    }

    /// The schema of a table or view, and whether it is a view.
    pub fn relation(&self, id: ObjectId) -> (Schema, bool) {
        match self.lock_catalog().get(id).map(|object| &**object) {
            Some(Object::Table(table)) => (table.schema.clone(), false),
            Some(Object::View(view)) => (view.schema.clone(), true),
            other => panic!("a plan reads tables and views only, {id} is {other:?}"),
        }
    }

    /// Plans a view again from its catalog entry.
    pub fn plan_view(&self, id: ObjectId) -> Result<ViewFlow, EngineError> {
        let view = self.view(id)?;
        let query = parse_query(&view.query_text)?;
        let settings = Settings { time_zone: view.time_zone.clone() };
        let catalog = self.lock_catalog();
        let relations = CatalogRelations::of_view(&catalog, &view);
        let lowered = lower(&query, &view.query_text, Use::View, &relations, &settings)?;
        let declared_key = view.declared_key.as_ref().map(|columns| {
            let position = |column: &String| view.schema.position(column).expect("checked at CREATE");
            columns.iter().map(position).collect()
        });
        Ok(ViewFlow { id, name: view.name, plan: lowered.plan, declared_key })
    }

    /// The followed tables among these, by source.
    pub fn followed(&self, tables: &[ObjectId]) -> Vec<(ObjectId, Vec<FollowedTable>)> {
        let catalog = self.lock_catalog();
        let mut by_source = std::collections::BTreeMap::<ObjectId, Vec<FollowedTable>>::new();
        for id in tables {
            if let Some(Object::Table(table)) = catalog.get(*id).map(|object| &**object)
                && let Some(source) = table.source
            {
                let [_, database, name] = &table.name[..] else {
                    panic!("a followed table is named by connection, database and table: {:?}", table.name)
                };
                let followed = FollowedTable {
                    id: *id,
                    database: database.clone(),
                    name: name.clone(),
                    schema: table.schema.clone(),
                    layouts: table.layouts.clone(),
                };
                by_source.entry(source).or_default().push(followed);
            }
        }
        by_source.into_iter().collect()
    }

    /// Resolves a name to an object of a wanted kind.
    pub fn resolve(&self, name: &Name) -> Result<Object, EngineError> {
        let catalog = self.lock_catalog();
        let found = catalog.resolve(&name.parts).map(|object| Object::clone(object));
        found.map_err(|error| EngineError::from(error).at(name.at))
    }

    /// Resolves a name to an object of this kind.
    pub fn resolve_kind(&self, name: &Name, kind: ObjectKind) -> Result<Object, EngineError> {
        let catalog = self.lock_catalog();
        let found = catalog.find(kind, &name.parts).map(|object| Object::clone(object));
        found.map_err(|error| EngineError::from(error).at(name.at))
    }

    /// The materialized views, each after the views it reads.
    pub fn materialized_views(&self) -> Vec<ObjectId> {
        let catalog = self.lock_catalog();
        catalog.objects().filter(|object| object.kind() == ObjectKind::MaterializedView).map(|o| o.id()).collect()
    }

    /// The views that are written to a connection.
    pub fn views_into(&self, connection: ObjectId) -> Vec<ObjectId> {
        let catalog = self.lock_catalog();
        let views = catalog.objects().filter_map(|object| match &**object {
            Object::View(view) if view.into.as_ref().is_some_and(|into| into.connection == connection) => Some(view.id),
            _ => None,
        });
        views.collect()
    }

    /// What a sink is told of a view, with the connection it goes to; `None` if it has no wide table.
    pub fn sink_view(&self, id: ObjectId, replay_from: Ts) -> Result<Option<(ObjectId, SinkView)>, EngineError> {
        let view = self.view(id)?;
        let Some(into) = view.into else { return Ok(None) };
        let sink_view = SinkView {
            view: id,
            name: view.name,
            table: into.table,
            schema: view.schema,
            comment: view.comment,
            plan_hash: view.plan_hash,
            replay_from,
            reconcile: view.options.reconcile,
        };
        Ok(Some((into.connection, sink_view)))
    }
}
