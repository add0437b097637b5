//! SQL text to a plan: parse, lower, optimize, explain.
//!
//! Invariants:
//! - only `resolve`, `scalars` and `lower` know DataFusion's planner; what leaves this floor is [`ir::Plan`];
//! - no analyzer or optimizer rule of DataFusion runs: it resolves names, and types and rewrites are this floor's;
//! - nothing here reads a clock: now() stays a call, bound to a read's `Ts`, or becomes bounds of a view's rows;
//! - what is not supported is refused by name, with its byte offset in the text.

mod build;
pub mod define;
mod desugar;
pub mod dialect;
pub mod explain;
pub mod foreign;
pub mod functions;
pub mod ir;
mod keys;
pub mod lower;
mod optimize;
pub mod parameters;
pub mod parse;
pub mod print;
pub mod refuse;
pub mod relations;
mod resolve;
pub mod retention;
mod scalars;
pub mod statement;
pub mod temporal;
#[cfg(test)]
mod tests;
pub mod wait;

use crate::row::ObjectId;
use crate::row::schema::Schema;

/// Goes into every plan's hash: raised by any change of what a plan's results mean.
pub const SEMANTICS_VERSION: u32 = 1;

/// What a name in FROM stands for.
#[derive(Clone, Debug)]
pub enum Relation {
    /// Rows kept by the server: a followed table, a local table or a materialized view.
    Stored { object: ObjectId, name: String, schema: Schema },
    /// A plain view: its query is planned in place.
    View { name: String, query_text: String },
}

/// Resolves the names in FROM; the catalog does it for the server, a map for tests.
pub trait Relations {
    /// One to three parts, as typed. The error's `position` is filled in by the caller.
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError>;
}

/// Why a statement cannot be planned.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct PlanError {
    pub kind: PlanErrorKind,
    pub message: String,
    pub hint: Option<String>,
    /// Byte offset into the statement's text.
    pub position: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanErrorKind {
    Syntax,
    NotSupported,
    UnknownRelation,
    UnknownColumn,
    UnknownFunction,
    Ambiguous,
    TypeMismatch,
    InvalidValue,
    Internal,
}
