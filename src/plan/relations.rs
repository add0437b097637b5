//! The catalog as the planner sees it: names in FROM become rows or queries.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::catalog::object::{Object, ObjectKind, View};
use crate::catalog::{Catalog, CatalogError};
use crate::plan::{PlanError, PlanErrorKind, Relation, Relations};
use crate::row::ObjectId;

/// Resolves names and remembers what they meant.
pub struct CatalogRelations<'a> {
    catalog: &'a Catalog,
    /// The only relations that a name can mean; `None`: all.
    among: Option<&'a [ObjectId]>,
    used: Mutex<BTreeSet<ObjectId>>,
}

impl<'a> CatalogRelations<'a> {
    /// For a new statement.
    pub fn new(catalog: &'a Catalog) -> CatalogRelations<'a> {
        CatalogRelations { catalog, among: None, used: Mutex::default() }
    }

    /// For a view that is planned again: tables that came later do not make its names ambiguous.
    pub fn of_view(catalog: &'a Catalog, view: &'a View) -> CatalogRelations<'a> {
        CatalogRelations { catalog, among: Some(&view.depends_on), used: Mutex::default() }
    }

    /// The relations that were asked for, those inside plain views included, in the order of their ids.
    pub fn used(&self) -> Vec<ObjectId> {
        self.used.lock().expect("no holder of the lock panics").iter().copied().collect()
    }

    fn unknown(&self, parts: &[String], error: CatalogError) -> PlanError {
        let mut unknown = plan_error(error);
        if let ([connection, database, table], None) = (parts, &unknown.hint)
            && self.catalog.find(ObjectKind::Connection, std::slice::from_ref(connection)).is_ok()
        {
            unknown.hint = Some(format!(
                "no source follows it: CREATE SOURCE … FROM CONNECTION {connection} TABLES ({database}.{table})"
            ));
        }
        unknown
    }
}

impl Relations for CatalogRelations<'_> {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        let found = self.catalog.resolve_among(parts, |id| self.among.is_none_or(|among| among.contains(&id)));
        let object = found.map_err(|e| self.unknown(parts, e))?;
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
