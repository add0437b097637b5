//! The SQL port: what the server needs of the engine, and what it promises to clients.
//!
//! Invariants:
//! - only this floor knows packets and SQLSTATEs; what it asks of the engine is [`Backend`];
//! - a client can hold nothing but its own session: a statement that is cancelled, whose client is gone or does not
//!   read, is dropped, and dropping its future or stream ends the work;
//! - every buffer and wait of a connection has its limit in [`limits`];
//! - without a password the port is open on a loopback address only ([`listener::Listener::bind`]);
//! - a password is never printed, logged or sent.

mod backend;
pub mod limits;
pub mod listener;
pub mod pgwire;
mod sqlstate;

use async_trait::async_trait;

use crate::engine::error::EngineError;
use crate::engine::session::{Outcome, Prepared};
use crate::plan::statement::Statement;

/// Makes a session for each client.
pub trait Backend: Send + Sync + 'static {
    fn session(&self, user: &str) -> Box<dyn BackendSession>;
}

/// One client's session. Dropping it rolls an open transaction block back.
#[async_trait]
pub trait BackendSession: Send {
    /// Splits and parses a text of one or more statements; an empty text gives none. An error's position is in `text`.
    fn parse(&self, text: &str) -> Result<Vec<(Statement, String)>, EngineError>;
    /// Parses and describes one statement.
    async fn prepare(&mut self, text: &str) -> Result<Prepared, EngineError>;
    /// Runs it; parameters in text form, `None` for NULL. Dropping the future cancels the work.
    async fn execute(&mut self, prepared: &Prepared, parameters: &[Option<String>]) -> Result<Outcome, EngineError>;
    /// The statement ended outside of the session (cancelled, a row that cannot be sent): an open block has failed.
    fn fail_transaction(&mut self);
    /// Notices since the last call, in order.
    fn take_notices(&mut self) -> Vec<String>;
    /// 'I' idle, 'T' in a block, 'E' in a failed block.
    fn transaction_status(&self) -> u8;
    /// Names of objects and columns, for completion.
    fn names(&self) -> Vec<String>;
}
