//! A schema with its names resolved: a list of types, each at its place.

use std::collections::BTreeMap;

use crate::sources::formats::debezium::semantic::Semantic;

/// What a message is written by.
#[derive(Debug)]
pub struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
    /// Of its text and of what it refers to.
    pub bytes: usize,
}

/// A type.
#[derive(Debug)]
pub struct Node {
    pub kind: Kind,
    /// What its values mean: by the name that a Connect converter gave the type, else by its logical type.
    pub semantic: Semantic,
    /// `connect.name`.
    pub connect: Option<String>,
    /// `connect.parameters`, and the digits of Avro's decimals as `precision`.
    pub parameters: BTreeMap<String, String>,
    /// Values that one of this type has at least, itself included.
    pub(super) weight: usize,
}

/// Places are of the schema's list.
#[derive(Debug)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub(super) node: usize,
}

impl Schema {
    pub fn root(&self) -> &Node {
        &self.nodes[self.root]
    }

    /// The fields of the root, if it is a record, or one in a union with null.
    pub fn fields(&self) -> Option<&[Field]> {
        self.record(self.root)
    }

    /// The fields of a field that is a record.
    pub fn fields_of(&self, field: &Field) -> Option<&[Field]> {
        self.record(field.node)
    }

    fn record(&self, at: usize) -> Option<&[Field]> {
        match &self.nodes[self.only(at)?.0].kind {
            Kind::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// The type of a field, and whether it may be null; `None`: it may be of several types.
    pub fn node_of(&self, field: &Field) -> Option<(&Node, bool)> {
        self.only(field.node).map(|(at, nullable)| (&self.nodes[at], nullable))
    }

    /// The type of a value that is not null.
    pub fn only_of_root(&self) -> Option<&Node> {
        self.only(self.root).map(|(at, _)| &self.nodes[at])
    }

    fn only(&self, at: usize) -> Option<(usize, bool)> {
        let Kind::Union(branches) = &self.nodes[at].kind else { return Some((at, false)) };
        let is_null = |at: &&usize| matches!(self.nodes[**at].kind, Kind::Null);
        let mut others = branches.iter().filter(|at| !is_null(at));
        match (others.next(), others.next()) {
            (Some(only), None) => Some((*only, branches.len() > 1)),
            _ => None,
        }
    }
}
