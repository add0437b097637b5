//! What went wrong, by what a client may do about it.

use crate::catalog::CatalogError;
use crate::plan::{PlanError, PlanErrorKind};
use crate::sources::mysql::connect as mysql;
use crate::store::StoreError;

/// An error as a client sees it; `server` adds the SQLSTATE.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub kind: ErrorKind,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Byte offset into the statement's text.
    pub position: Option<usize>,
}

/// `server::sqlstate` maps each to one SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Syntax,
    NotSupported,
    UnknownObject,
    UnknownColumn,
    UnknownFunction,
    Ambiguous,
    DuplicateObject,
    DependentObjects,
    TypeMismatch,
    InvalidValue,
    OutOfRange,
    /// A view holds error rows at this `Ts`.
    DataError,
    UniqueViolation,
    NotNullViolation,
    InFailedTransaction,
    IdleInTransaction,
    WrongObject,
    /// An upstream or a target cannot be reached.
    Connection,
    /// For example a view that is still loading.
    NotReady,
    Cancelled,
    LimitExceeded,
    Internal,
}

impl EngineError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> EngineError {
        EngineError { kind, message: message.into(), detail: None, hint: None, position: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> EngineError {
        self.hint = Some(hint.into());
        self
    }

    pub fn at(mut self, position: usize) -> EngineError {
        self.position.get_or_insert(position);
        self
    }
}

impl From<PlanError> for EngineError {
    fn from(error: PlanError) -> EngineError {
        let kind = match error.kind {
            PlanErrorKind::Syntax => ErrorKind::Syntax,
            PlanErrorKind::NotSupported => ErrorKind::NotSupported,
            PlanErrorKind::UnknownRelation => ErrorKind::UnknownObject,
            PlanErrorKind::UnknownColumn => ErrorKind::UnknownColumn,
            PlanErrorKind::UnknownFunction => ErrorKind::UnknownFunction,
            PlanErrorKind::Ambiguous => ErrorKind::Ambiguous,
            PlanErrorKind::TypeMismatch => ErrorKind::TypeMismatch,
            PlanErrorKind::InvalidValue => ErrorKind::InvalidValue,
            PlanErrorKind::Internal => ErrorKind::Internal,
        };
        EngineError { kind, message: error.message, detail: None, hint: error.hint, position: error.position }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> EngineError {
        EngineError::new(ErrorKind::Internal, error.to_string())
    }
}

/// Of a server that was asked for a statement.
impl From<mysql::Fault> for EngineError {
    fn from(fault: mysql::Fault) -> EngineError {
        EngineError::new(ErrorKind::Connection, fault.to_string())
    }
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> EngineError {
        let kind = match &error {
            CatalogError::Exists { .. } | CatalogError::TargetTaken { .. } => ErrorKind::DuplicateObject,
            CatalogError::Unknown { .. } => ErrorKind::UnknownObject,
            CatalogError::Ambiguous { .. } => ErrorKind::Ambiguous,
            CatalogError::WrongKind { .. } | CatalogError::Followed { .. } => ErrorKind::WrongObject,
            CatalogError::Needed { .. } => ErrorKind::DependentObjects,
            CatalogError::Damaged { .. } => ErrorKind::Internal,
        };
        EngineError { hint: error.hint(), ..EngineError::new(kind, error.to_string()) }
    }
}
