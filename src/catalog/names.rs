//! From a name as typed to the object it means.
//!
//! A relation (table or view) is found by the end of its name: `connection.database.table`, `database.table`, `table`.
//! `public.name` is a local table or a view, for clients that write so and where an upstream table has the same name.
//! The case that was typed wins; without such a one case is ignored. More than one candidate is an error.

use std::sync::Arc;

use crate::catalog::object::{Object, ObjectKind};
use crate::catalog::{Catalog, CatalogError};
use crate::row::ObjectId;

/// The qualifier of local tables and views.
const LOCAL: &str = "public";

impl Catalog {
    /// The table or view that a name in FROM means.
    pub fn resolve(&self, parts: &[String]) -> Result<&Arc<Object>, CatalogError> {
        self.resolve_among(parts, |_| true)
    }

    /// The same among some relations only: a view that is planned again means what it meant when it was made.
    pub fn resolve_among(
        &self,
        parts: &[String],
        among: impl Fn(ObjectId) -> bool,
    ) -> Result<&Arc<Object>, CatalogError> {
        let relations: Vec<_> = self.objects().filter(|o| is_relation(o) && among(o.id())).collect();
        let exact = relations.iter().filter(|o| matches(o, parts, |a, b| a == b));
        let mut found: Vec<_> = exact.copied().collect();
        if found.is_empty() {
            let any_case = relations.iter().filter(|o| matches(o, parts, equal_without_case));
            found = any_case.copied().collect();
        }
        let name = parts.join(".");
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(CatalogError::Unknown {
                what: "table or view".to_string(),
                nearest: nearest_name(&name, relations.iter().flat_map(|o| spellings(o, parts.len()))),
                name,
            }),
            several => {
                let candidates = several.iter().map(|o| longest_name(o)).collect();
                Err(CatalogError::Ambiguous { name, candidates })
            }
        }
    }

    /// The object of this kind with this name, for DROP and SHOW CREATE.
    pub fn find(&self, kind: ObjectKind, parts: &[String]) -> Result<&Arc<Object>, CatalogError> {
        if matches!(kind, ObjectKind::Table | ObjectKind::View | ObjectKind::MaterializedView) {
            let object = self.resolve(parts).map_err(|e| named(e, kind))?;
            if object.kind() != kind {
                let (found, wanted) = (object.kind(), kind);
                return Err(CatalogError::WrongKind { name: object.name(), found, wanted });
            }
            return Ok(object);
        }
        let name = parts.join(".");
        let mut of_kind = self.objects().filter(|o| o.kind() == kind);
        of_kind.find(|o| equal_without_case(&o.name(), &name)).ok_or_else(|| CatalogError::Unknown {
            what: kind.to_string(),
            nearest: nearest_name(&name, self.objects().filter(|o| o.kind() == kind).map(|o| o.name())),
            name,
        })
    }

    /// The object that stands in the way of a new one's name.
    pub(super) fn same_name(&self, new: &Object) -> Option<&Arc<Object>> {
        self.objects().find(|old| {
            let one_set = set_of_names(old) == set_of_names(new) && old.parts().len() == new.parts().len();
            let followed = new.parts().len() > 1;
            let equal = |a: &str, b: &str| if followed { a == b } else { equal_without_case(a, b) };
            one_set && old.parts().iter().zip(new.parts()).all(|(a, b)| equal(a, b))
        })
    }
}

/// The candidate that was probably meant: few letters differ, for the word's length. Letter case does not count.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let differing_max = (typed.chars().count() / 3).clamp(1, 3);
    let distance = |candidate: &str| strsim::osa_distance(&typed, &candidate.to_lowercase());
    let scored = candidates.into_iter().map(|candidate| (distance(candidate), candidate));
    let best = scored.filter(|(d, candidate)| *d <= differing_max && *d < candidate.len()).min_by_key(|(d, _)| *d);
    best.map(|(_, candidate)| candidate)
}

fn nearest_name(typed: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<String> = names.collect();
    nearest(typed, names.iter().map(String::as_str)).map(str::to_string)
}

fn is_relation(object: &Object) -> bool {
    matches!(object, Object::Table(_) | Object::View(_))
}

fn set_of_names(object: &Object) -> u8 {
    match object {
        Object::Secret(_) => 0,
        Object::Connection(_) => 1,
        Object::Source(_) => 2,
        Object::Table(_) | Object::View(_) => 3,
    }
}

fn matches(object: &Object, typed: &[String], equal: impl Fn(&str, &str) -> bool) -> bool {
    let name = object.parts();
    match typed {
        [qualifier, local] if name.len() == 1 => equal_without_case(qualifier, LOCAL) && equal(&name[0], local),
        _ if typed.len() > name.len() => false,
        _ => name[name.len() - typed.len()..].iter().zip(typed).all(|(a, b)| equal(a, b)),
    }
}

/// The name that means this relation and no other.
fn longest_name(object: &Object) -> String {
    match object.parts() {
        [local] => format!("{LOCAL}.{local}"),
        _ => object.name(),
    }
}

/// A name with as many parts as were typed, and the full one.
fn spellings(object: &Object, parts: usize) -> Vec<String> {
    let name = object.parts();
    let end = name[name.len().saturating_sub(parts)..].join(".");
    vec![end, object.name()]
}

fn named(error: CatalogError, kind: ObjectKind) -> CatalogError {
    match error {
        CatalogError::Unknown { name, nearest, .. } => CatalogError::Unknown { what: kind.to_string(), name, nearest },
        other => other,
    }
}

/// Unicode case is ignored as MySQL's identifiers do.
fn equal_without_case(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}
