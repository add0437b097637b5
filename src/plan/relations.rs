//! The catalog as the planner sees it: names in FROM become rows or queries.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::catalog::object::{Connection, ConnectionKind, Object, ObjectKind, View};
use crate::catalog::{Catalog, CatalogError};
use crate::plan::foreign::Foreign;
use crate::plan::{PlanError, PlanErrorKind, Relation, Relations};
use crate::row::ObjectId;

/// Resolves names and remembers what they meant.
pub struct CatalogRelations<'a> {
    catalog: &'a Catalog,
    /// The only relations that a name can mean; `None`: all.
    among: Option<&'a [ObjectId]>,
    used: Mutex<BTreeSet<ObjectId>>,
    /// Tables that no source follows, for this statement.
    foreign: &'a [Foreign],
    /// Those that could be had of a connection and are not among them: connection, database, table.
    wanted: Mutex<Vec<(ObjectId, [String; 3])>>,
}

impl<'a> CatalogRelations<'a> {
    /// For a new statement.
    pub fn new(catalog: &'a Catalog) -> CatalogRelations<'a> {
        CatalogRelations { catalog, among: None, used: Mutex::default(), foreign: &[], wanted: Mutex::default() }
    }

    /// For a statement that may read tables which no source follows.
    pub fn with(self, foreign: &'a [Foreign]) -> CatalogRelations<'a> {
        CatalogRelations { foreign, ..self }
    }

    /// For a view that is planned again: tables that came later do not make its names ambiguous.
    pub fn of_view(catalog: &'a Catalog, view: &'a View) -> CatalogRelations<'a> {
        CatalogRelations { among: Some(&view.depends_on), ..CatalogRelations::new(catalog) }
    }

    /// The relations that were asked for, those inside plain views included, in the order of their ids.
    pub fn used(&self) -> Vec<ObjectId> {
        self.used.lock().expect("no holder of the lock panics").iter().copied().collect()
    }

    /// The names that stood for nothing and may be tables of a connection.
    pub fn wanted(&self) -> Vec<(ObjectId, [String; 3])> {
        self.wanted.lock().expect("no holder of the lock panics").clone()
    }

    fn unknown(&self, parts: &[String], error: CatalogError) -> Result<Relation, PlanError> {
        let is_this = |foreign: &&Foreign| {
            parts.len() == 3 && foreign.name.iter().zip(parts).all(|(a, b)| a.eq_ignore_ascii_case(b))
        };
        if let Some(Foreign { object, name, schema, .. }) = self.foreign.iter().find(is_this) {
            return Ok(Relation::Stored { object: *object, name: name.join("."), schema: schema.clone() });
        }
        let mut unknown = plan_error(error);
        if let ([connection, database, table], PlanErrorKind::UnknownRelation) = (parts, unknown.kind)
            && let Ok(found) = self.catalog.find(ObjectKind::Connection, std::slice::from_ref(connection))
            && let Object::Connection(Connection { id, kind, .. }) = &**found
        {
            let mut follow = format!(
                "no source follows it: CREATE SOURCE … FROM CONNECTION {connection} TABLES ({database}.{table})"
            );
            if matches!(kind, ConnectionKind::Mysql | ConnectionKind::Tidb) {
                let name = [connection, database, table].map(String::clone);
                self.wanted.lock().expect("no holder of the lock panics").push((*id, name));
                follow += ", with REFRESH EVERY '1 minute' where there is no changelog";
            }
            unknown.hint.get_or_insert(follow);
        }
        Err(unknown)
    }
}

impl Relations for CatalogRelations<'_> {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        let found = self.catalog.resolve_among(parts, |id| self.among.is_none_or(|among| among.contains(&id)));
        let object = match found {
            Ok(object) => object,
            Err(error) => return self.unknown(parts, error),
        };
        self.used.lock().expect("no holder of the lock panics").insert(object.id());
        Ok(match &**object {
            Object::Table(table) => {
                Relation::Stored { object: table.id, name: object.name(), schema: table.schema.clone() }
            }
            Object::View(View { materialized: false, name, query_text, .. }) => {
                Relation::View { name: name.clone(), query_text: query_text.clone() }
            }
            Object::View(view) => {
                Relation::Stored { object: view.id, name: view.name.clone(), schema: view.schema.clone() }
            }
            other => panic!("{} `{}` was resolved as a relation", other.kind(), other.name()),
        })
    }
}

/// The catalog's error in the planner's words; its position is the caller's to fill in.
pub(super) fn plan_error(error: CatalogError) -> PlanError {
    let kind = match &error {
        CatalogError::Unknown { .. } => PlanErrorKind::UnknownRelation,
        CatalogError::Ambiguous { .. } => PlanErrorKind::Ambiguous,
        CatalogError::Exists { .. }
        | CatalogError::WrongKind { .. }
        | CatalogError::Needed { .. }
        | CatalogError::TargetTaken { .. }
        | CatalogError::Followed { .. } => PlanErrorKind::InvalidValue,
        CatalogError::Damaged { .. } => PlanErrorKind::Internal,
    };
    PlanError { kind, message: error.to_string(), hint: error.hint(), position: None }
}
