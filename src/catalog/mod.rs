//! What the server knows about: secrets, connections, sources, tables and views.
//!
//! A catalog is a value: it is cloned, the clone is changed, its changes are made durable by the engine, and only then
//! does the clone take the old one's place.
//!
//! Invariants:
//! - nothing here does IO: a change is a list of keys to write or delete, atomic together;
//! - an id is never used twice in one data directory: the counter is part of the changes that use it;
//! - every object that an object needs is there: nothing is dropped from under another;
//! - secrets, connections and sources have names of their own each; local tables and views share one set of names; no
//!   two names of a set differ only in case. Only tables followed upstream may;
//! - a wide table is written by one view;
//! - a secret's value appears in no message and no Debug text.

pub mod feed;
pub mod names;
pub mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::row::ObjectId;
use feed::{OnBadMessage, QUARANTINE};
use object::{Object, ObjectKind, Source, Table, View};

/// Keys of the store's catalog to write or, with `None`, to delete: in one atomic write.
pub type Changes = Vec<(String, Option<Vec<u8>>)>;

const NEXT_ID_KEY: &str = "next_id";
const OBJECT_PREFIX: &str = "object/";

#[derive(Clone, Debug)]
pub struct Catalog {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    next_id: u64,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CatalogError {
    #[error("{kind} `{name}` exists already")]
    Exists { kind: ObjectKind, name: String },
    #[error("there is no {what} `{name}`")]
    Unknown { what: String, name: String, nearest: Option<String> },
    #[error("`{name}` is ambiguous: it can be {}", candidates.join(" or "))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("`{name}` is a {found}, not a {wanted}")]
    WrongKind { name: String, found: ObjectKind, wanted: ObjectKind },
    #[error("{kind} `{name}` is needed by {}", dependents.join(", "))]
    Needed { kind: ObjectKind, name: String, dependents: Vec<String> },
    #[error("table `{table}` belongs to source `{source_name}`")]
    Followed { table: String, source_name: String },
    #[error("wide table `{table}` is written by view `{view}`")]
    TargetTaken { table: String, view: String },
    #[error("the catalog's entry {key} cannot be read: {reason}")]
    Damaged { key: String, reason: String },
}

impl CatalogError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            CatalogError::Exists { .. } => Some("use IF NOT EXISTS, OR REPLACE or another name".to_string()),
            CatalogError::Unknown { nearest, .. } => nearest.as_ref().map(|name| format!("did you mean `{name}`?")),
            CatalogError::Ambiguous { .. } => Some("write the longer name".to_string()),
            CatalogError::WrongKind { found, .. } => Some(format!("write {}", found.words().join(" "))),
            CatalogError::Needed { .. } => Some("drop these first, or use CASCADE".to_string()),
            CatalogError::Followed { source_name, .. } => {
                Some(format!("drop source `{source_name}` or make it again with fewer tables"))
            }
            CatalogError::TargetTaken { .. } => Some("write INTO another table: a wide table has one view".to_string()),
            CatalogError::Damaged { .. } => {
                Some("start with an empty data directory and apply the SQL files again".to_string())
            }
        }
    }
}

/// What a drop takes away.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Each before what it needs.
    pub objects: Vec<Arc<Object>>,
    pub changes: Changes,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog { objects: BTreeMap::new(), next_id: 1 }
    }
}

impl Catalog {
    /// From what the store kept; keys that are not the catalog's are left alone.
    pub fn load(stored: &BTreeMap<String, Vec<u8>>) -> Result<Catalog, CatalogError> {
        let damaged = |key: &str, reason: String| CatalogError::Damaged { key: key.to_string(), reason };
        let mut catalog = Catalog::default();
        for (key, value) in stored.iter().filter(|(key, _)| key.starts_with(OBJECT_PREFIX)) {
            let object: Object = serde_json::from_slice(value).map_err(|e| damaged(key, e.to_string()))?;
            if *key != object_key(object.id()) {
                return Err(damaged(key, format!("it holds object {}", object.id())));
            }
            catalog.objects.insert(object.id(), Arc::new(object));
        }
        if let Some(value) = stored.get(NEXT_ID_KEY) {
            catalog.next_id = serde_json::from_slice(value).map_err(|e| damaged(NEXT_ID_KEY, e.to_string()))?;
        }
        if let Some((last, _)) = catalog.objects.last_key_value()
            && catalog.next_id <= last.0
        {
            return Err(damaged(NEXT_ID_KEY, format!("it is {} and object {last} exists", catalog.next_id)));
        }
        for object in catalog.objects.values() {
            if let Some(missing) = object.needs().into_iter().find(|id| !catalog.objects.contains_key(id)) {
                return Err(damaged(
                    &object_key(object.id()),
                    format!("it needs object {missing}, which is not there"),
                ));
            }
        }
        Ok(catalog)
    }

    /// An id for an object to add; it is used up once the changes of that `add` are durable.
    pub fn allocate(&mut self) -> ObjectId {
        let id = ObjectId(self.next_id);
        self.next_id += 1;
        id
    }

    /// Adds an object whose id was allocated here and whose needs are met.
    pub fn add(&mut self, object: Object) -> Result<Changes, CatalogError> {
        let id = object.id();
        assert!(id.0 < self.next_id && !self.objects.contains_key(&id), "object {id} was not allocated for an add");
        for need in object.needs() {
            assert!(
                need < id && self.objects.contains_key(&need),
                "object {id} needs {need}, which is not there before it"
            );
        }
        if let Some(other) = self.same_name(&object) {
            return Err(CatalogError::Exists { kind: other.kind(), name: other.name() });
        }
        if let Some(error) = self.taken_target(&object) {
            return Err(error);
        }
        let value = serde_json::to_vec(&object).expect("catalog objects are always JSON");
        self.objects.insert(id, Arc::new(object));
        Ok(vec![(object_key(id), Some(value)), self.next_id_change()])
    }

    /// Puts an object, under an id of its own, in the place of one with its name that nothing else needs.
    pub fn replace(&mut self, old: ObjectId, new: Object) -> Result<(Arc<Object>, Changes), CatalogError> {
        let replaced = self.object(old).clone();
        assert!(self.same_name(&new).is_some_and(|o| o.id() == old), "object {old} has not the name of its successor");
        if replaced.kind() != new.kind() {
            let (found, wanted) = (replaced.kind(), new.kind());
            return Err(CatalogError::WrongKind { name: replaced.name(), found, wanted });
        }
        let mut next = self.clone();
        let mut changes = next.drop(old, false)?.changes;
        changes.extend(next.add(new)?);
        *self = next;
        Ok((replaced, changes))
    }

    /// Drops an object, a source with its tables; with `cascade` also everything that needs it.
    pub fn drop(&mut self, id: ObjectId, cascade: bool) -> Result<Dropped, CatalogError> {
        let object = self.object(id).clone();
        if let Object::Table(Table { source: Some(source), .. }) = &*object {
            let source_name = self.object(*source).name();
            return Err(CatalogError::Followed { table: object.name(), source_name });
        }
        let own: BTreeSet<ObjectId> = self.tables(id).map(|table| table.id).chain([id]).collect();
        let all = self.closure(&own);
        if !cascade && all.len() > own.len() {
            let others = all.iter().filter(|id| !own.contains(id)).map(|id| self.object(*id));
            let dependents = others.map(|o| format!("{} `{}`", o.kind(), o.name())).collect();
            return Err(CatalogError::Needed { kind: object.kind(), name: object.name(), dependents });
        }
        let objects: Vec<_> = all.iter().rev().filter_map(|id| self.objects.remove(id)).collect();
        let changes = objects.iter().map(|object| (object_key(object.id()), None)).collect();
        Ok(Dropped { objects, changes })
    }

    /// Replaces the content of an object that keeps its id, name and kind: a table whose schema was read again.
    pub fn update(&mut self, object: Object) -> Changes {
        let old = self.object(object.id());
        assert!(old.kind() == object.kind() && old.parts() == object.parts(), "{} became another object", old.name());
        let value = serde_json::to_vec(&object).expect("catalog objects are always JSON");
        let change = (object_key(object.id()), Some(value));
        self.objects.insert(object.id(), Arc::new(object));
        vec![change]
    }

    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// In the order of their ids: each after what it needs.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The tables that a source follows.
    pub fn tables(&self, source: ObjectId) -> impl Iterator<Item = &Table> {
        self.objects.values().filter_map(move |object| match &**object {
            Object::Table(table) if table.source == Some(source) => Some(table),
            _ => None,
        })
    }

    /// The table of the messages that a changefeed could not read, where it keeps them.
    pub fn quarantine(&self, source: &Source) -> Option<&Table> {
        let keeps = source.feed.as_ref().is_some_and(|feed| feed.on_bad_message == OnBadMessage::Quarantine);
        let mut own = self.tables(source.id).filter(|_| keeps);
        own.find(|table| table.name[1..] == [source.name.as_str(), QUARANTINE])
    }

    /// The objects that need this one directly, in the order of their ids.
    pub fn dependents(&self, id: ObjectId) -> Vec<ObjectId> {
        self.objects.values().filter(|object| object.needs().contains(&id)).map(|object| object.id()).collect()
    }

    /// Names that a statement could mean, for completion: sorted, each once.
    pub fn names(&self) -> Vec<String> {
        self.objects.values().map(|object| object.name()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// These and all that need them. An object is made after what it needs, so ids give an order for both ways.
    fn closure(&self, roots: &BTreeSet<ObjectId>) -> BTreeSet<ObjectId> {
        let mut all = roots.clone();
        for (id, object) in &self.objects {
            if object.needs().iter().any(|need| all.contains(need)) {
                all.insert(*id);
            }
        }
        all
    }

    /// Another view that writes the wide table of this one; table names of a target may ignore case.
    fn taken_target(&self, new: &Object) -> Option<CatalogError> {
        let key = |object: &Object| match object {
            Object::View(View { into: Some(into), .. }) => Some((into.connection, into.table.join(".").to_lowercase())),
            _ => None,
        };
        let (connection, table) = key(new)?;
        let other = self.objects.values().find(|old| key(old).is_some_and(|k| k == (connection, table.clone())))?;
        let table = format!("{}.{table}", self.object(connection).name());
        Some(CatalogError::TargetTaken { table, view: other.name() })
    }

    /// An id that came out of this catalog.
    fn object(&self, id: ObjectId) -> &Arc<Object> {
        self.objects.get(&id).unwrap_or_else(|| panic!("object {id} is not in the catalog"))
    }

    fn next_id_change(&self) -> (String, Option<Vec<u8>>) {
        (NEXT_ID_KEY.to_string(), Some(self.next_id.to_string().into_bytes()))
    }
}

/// Padded, so that keys sort as ids do.
fn object_key(id: ObjectId) -> String {
    format!("{OBJECT_PREFIX}{:020}", id.0)
}

#[cfg(test)]
mod tests;
