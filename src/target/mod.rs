//! The one client to a target: a connection that writes wide tables, and the ledger that fences it.
//!
//! A [`Target`] is one connection. It speaks text statements in its own [`dialect`]; what is written travels as
//! literals, so a statement of a thousand rows is one round trip, and what is read comes back exactly (binary
//! protocol).
//!
//! Invariants:
//! - a session is set up and *asserted* before it is used: strict sql_mode that still admits odd dates, UTC, utf8mb4;
//! - an error says what may be done about it ([`error::TargetError`]); a failed COMMIT is always *unknown*;
//! - no wait on the wire is longer than `mysql::ANSWER_SECONDS_MAX`;
//! - a password is in no Debug, error or log;
//! - nothing here knows a view, a batch or a dataflow.

pub mod dialect;
pub mod error;
pub mod ledger;
pub mod mysql;
mod sqlite;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::config::{Secret, Tls};
use crate::row::datum::Datum;
use crate::row::types::SqlType;
use crate::target::dialect::Dialect;
use crate::target::error::TargetError;

/// Where a target is and who writes to it.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// The connection's name: one fence row each.
    pub name: String,
    pub address: Address,
    /// Names this run of this server, unlike any other: who holds the fence.
    pub owner: String,
    /// Spreads retries of servers that lost one target together.
    pub jitter_seed: u64,
}

#[derive(Clone, Debug)]
pub enum Address {
    /// TiDB, MySQL or MariaDB.
    Mysql {
        host: String,
        port: u16,
        user: String,
        password: Secret,
        tls: Tls,
    },
    Sqlite {
        path: PathBuf,
    },
}

/// One connection to a target.
#[async_trait]
pub trait Target: Send {
    fn dialect(&self) -> Dialect;

    /// The most bytes one statement may have.
    fn statement_bytes_max(&self) -> usize;

    /// Runs a statement; the number of rows it changed.
    async fn execute(&mut self, sql: String) -> Result<u64, TargetError>;

    /// COMMIT: every failure is [`TargetError::Unknown`].
    async fn commit(&mut self) -> Result<(), TargetError>;

    /// Gives each row of a query, as values of these types, to `each`.
    async fn read(
        &mut self,
        sql: String,
        types: Vec<SqlType>,
        each: &mut (dyn FnMut(Vec<Datum>) + Send),
    ) -> Result<(), TargetError>;

    /// The rows of a query that has few.
    async fn rows(&mut self, sql: String, types: Vec<SqlType>) -> Result<Vec<Vec<Datum>>, TargetError> {
        let mut rows = Vec::new();
        self.read(sql, types, &mut |row| rows.push(row)).await?;
        Ok(rows)
    }

    async fn begin(&mut self) -> Result<(), TargetError> {
        self.execute(self.dialect().begin().to_string()).await.map(drop)
    }

    /// Ends a failed transaction; a broken link has ended it already.
    async fn rollback(&mut self) -> Result<(), TargetError> {
        self.execute("ROLLBACK".to_string()).await.map(drop)
    }
}

/// Opens a connection and sets its session up.
pub async fn connect(options: &TargetOptions) -> Result<Box<dyn Target>, TargetError> {
    Ok(match &options.address {
        Address::Mysql { host, port, user, password, tls } => {
            Box::new(mysql::Mysql::connect(host, *port, user, password, tls).await?)
        }
        Address::Sqlite { path } => Box::new(sqlite::Sqlite::open(path.clone()).await?),
    })
}
