//! The engine behind the port.

use async_trait::async_trait;

use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::session::{Outcome, Prepared, Session};
use crate::plan::statement::Statement;
use crate::server::{Backend, BackendSession};

impl Backend for Engine {
    fn session(&self, _user: &str) -> Box<dyn BackendSession> {
        Box::new(Engine::session(self))
    }
}

#[async_trait]
impl BackendSession for Session {
    fn parse(&self, text: &str) -> Result<Vec<(Statement, String)>, EngineError> {
        Session::parse(self, text)
    }

    async fn prepare(&mut self, text: &str) -> Result<Prepared, EngineError> {
        Session::prepare(self, text).await
    }

    async fn execute(&mut self, prepared: &Prepared, parameters: &[Option<String>]) -> Result<Outcome, EngineError> {
        Session::execute(self, prepared, parameters).await
    }

    fn fail_transaction(&mut self) {
        Session::fail_transaction(self);
    }

    fn take_notices(&mut self) -> Vec<String> {
        Session::take_notices(self)
    }

    fn transaction_status(&self) -> u8 {
        Session::transaction_status(self)
    }

    fn names(&self) -> Vec<String> {
        Session::names(self)
    }
}
