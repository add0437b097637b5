//! One table: each kind of error and its SQLSTATE.

use crate::engine::error::ErrorKind;

/// A class and condition of the SQL standard or of PostgreSQL.
pub type SqlState = &'static str;

pub const FEATURE_NOT_SUPPORTED: SqlState = "0A000";
pub const PROTOCOL_VIOLATION: SqlState = "08P01";
pub const DATETIME_OVERFLOW: SqlState = "22008";
pub const INVALID_TEXT: SqlState = "22P02";
pub const INVALID_STATEMENT_NAME: SqlState = "26000";
pub const INVALID_PASSWORD: SqlState = "28P01";
pub const INVALID_CURSOR_NAME: SqlState = "34000";
pub const UNDEFINED_PARAMETER: SqlState = "42P02";
pub const DUPLICATE_CURSOR: SqlState = "42P03";
pub const DUPLICATE_STATEMENT: SqlState = "42P05";
pub const SYNTAX: SqlState = "42601";
pub const TOO_MANY_CONNECTIONS: SqlState = "53300";
pub const LIMIT_EXCEEDED: SqlState = "54000";
pub const NOT_IN_PREREQUISITE_STATE: SqlState = "55000";
pub const QUERY_CANCELLED: SqlState = "57014";
pub const ADMIN_SHUTDOWN: SqlState = "57P01";
pub const IDLE_IN_TRANSACTION: SqlState = "25P03";

pub fn of(kind: ErrorKind) -> SqlState {
    match kind {
        ErrorKind::Syntax => SYNTAX,
        ErrorKind::NotSupported => FEATURE_NOT_SUPPORTED,
        ErrorKind::UnknownObject => "42P01",
        ErrorKind::UnknownColumn => "42703",
        ErrorKind::UnknownFunction => "42883",
        ErrorKind::Ambiguous => "42702",
        ErrorKind::DuplicateObject => "42P07",
        ErrorKind::DependentObjects => "2BP01",
        ErrorKind::TypeMismatch => "42804",
        ErrorKind::InvalidValue => "22023",
        ErrorKind::OutOfRange => "22003",
        ErrorKind::DataError => "22000",
        ErrorKind::UniqueViolation => "23505",
        ErrorKind::NotNullViolation => "23502",
        ErrorKind::InFailedTransaction => "25P02",
        ErrorKind::IdleInTransaction => IDLE_IN_TRANSACTION,
        ErrorKind::WrongObject => "42809",
        ErrorKind::Connection => "08006",
        ErrorKind::NotReady => NOT_IN_PREREQUISITE_STATE,
        ErrorKind::Cancelled => QUERY_CANCELLED,
        ErrorKind::LimitExceeded => LIMIT_EXCEEDED,
        ErrorKind::Internal => "XX000",
    }
}
