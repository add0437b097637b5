//! One client's messages, in order, and the statements of the simple protocol.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pgwire::messages::PgWireFrontendMessage as Incoming;
use pgwire::messages::response::EmptyQueryResponse;
use pgwire::messages::{PgWireBackendMessage as Message, data::DataRow};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::engine::error::EngineError;
use crate::engine::session::{Outcome, Prepared};
use crate::plan::statement::Statement;
use crate::row::datum::Datum;
use crate::server::limits::Limits;
use crate::server::pgwire::extended::{Portal, Stored};
use crate::server::pgwire::probes::{self, Answer};
use crate::server::pgwire::reply::{self, Failure};
use crate::server::pgwire::rows::Cursor;
use crate::server::pgwire::types::{self, Format};
use crate::server::pgwire::wire::{Wire, WireError};
use crate::server::{BackendSession, sqlstate};

/// What ends a message's work early.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The statement fails; the connection goes on.
    #[error(transparent)]
    Statement(Failure),
    /// The client is told, and the connection ends.
    #[error(transparent)]
    Fatal(Failure),
    #[error(transparent)]
    Wire(#[from] WireError),
}

pub struct Connection<S> {
    pub(super) wire: Wire<S>,
    pub(super) session: Box<dyn BackendSession>,
    pub(super) interrupt: Interrupt,
    pub(super) user: String,
    pub(super) statements: BTreeMap<String, Arc<Stored>>,
    pub(super) portals: BTreeMap<String, Portal>,
    /// A message of the extended protocol failed: everything up to the next Sync is passed over.
    skipping: bool,
    message_bytes: usize,
    idle_in_transaction: Duration,
}

/// What may end a running statement from outside.
pub struct Interrupt {
    /// Changes with each CancelRequest.
    cancels: watch::Receiver<()>,
    /// True when the server stops.
    stop: watch::Receiver<bool>,
}

impl<S: AsyncRead + AsyncWrite + Send> Connection<S> {
    pub fn new(
        wire: Wire<S>,
        session: Box<dyn BackendSession>,
        user: String,
        limits: &Limits,
        interrupt: Interrupt,
    ) -> Connection<S> {
        Connection {
            wire,
            session,
            interrupt,
            user,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skipping: false,
            message_bytes: limits.message_bytes,
            idle_in_transaction: limits.idle_in_transaction,
        }
    }

    /// The parts to say goodbye with; whatever the client still ran is dropped.
    pub fn into_parts(self) -> (Wire<S>, Box<dyn BackendSession>) {
        (self.wire, self.session)
    }

    /// Serves messages until the client ends the conversation.
    pub async fn run(&mut self) -> Result<(), Fault> {
        loop {
            let message = self.receive().await?;
            let extended = message.is_extended_query();
            match message {
                Incoming::Terminate(_) => return Ok(()),
                Incoming::Sync(_) => self.sync().await?,
                _ if self.skipping => {}
                message => match self.handle(message).await {
                    Err(Fault::Statement(failure)) => self.fail(failure, extended).await?,
                    other => other?,
                },
            }
        }
    }

    async fn receive(&mut self) -> Result<Incoming, Fault> {
        let in_block = self.session.transaction_status() != b'I';
        let limit = self.idle_in_transaction;
        let idle = async move {
            match in_block {
                true => tokio::time::sleep(limit).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.wire.message(self.message_bytes) => Ok(message?),
            () = idle => {
                let message = format!("nothing came for {limit:?} inside a transaction block");
                Err(Fault::Fatal(Failure::fatal(sqlstate::IDLE_IN_TRANSACTION, message)))
            }
            fault = stopping(&mut self.interrupt.stop) => Err(fault),
        }
    }

    async fn handle(&mut self, message: Incoming) -> Result<(), Fault> {
        match message {
            Incoming::Query(query) => self.query(&query.query).await,
            Incoming::Parse(parse) => self.parse(parse).await,
            Incoming::Bind(bind) => self.bind(bind),
            Incoming::Describe(describe) => self.describe(describe),
            Incoming::Execute(execute) => self.execute(execute).await,
            Incoming::Close(close) => self.close(close),
            Incoming::Flush(_) => Ok(self.wire.flush().await?),
            // Left over from a COPY that was refused.
            Incoming::CopyData(_) | Incoming::CopyDone(_) | Incoming::CopyFail(_) => Ok(()),
            _ => Err(Fault::Wire(WireError::Malformed("a message out of place".into()))),
        }
    }

    /// Reports a failure, and fails the open block with it.
    async fn fail(&mut self, failure: Failure, extended: bool) -> Result<(), Fault> {
        self.session.fail_transaction();
        self.say_notices();
        self.wire.push(failure.message());
        self.skipping = extended;
        if !extended {
            self.wire.push(reply::ready(self.session.transaction_status()));
        }
        Ok(self.wire.flush().await?)
    }

    /// The end of a run of extended messages, where an implicit transaction ends and its portals with it.
    async fn sync(&mut self) -> Result<(), Fault> {
        self.skipping = false;
        let status = self.session.transaction_status();
        if status == b'I' {
            self.portals.clear();
        }
        self.wire.push(reply::ready(status));
        Ok(self.wire.flush().await?)
    }

    /// A query text of the simple protocol: its statements one after the other, up to the first that fails.
    async fn query(&mut self, text: &str) -> Result<(), Fault> {
        self.interrupt.begin();
        if let Some(answer) = probes::answer(text, &self.user) {
            self.wire.push(reply::row_description(&answer.columns(), |_| Format::Text));
            self.answer(&answer, |_| Format::Text);
        } else if let Some(refusal) = probes::refusal(text) {
            return Err(Fault::Statement(refusal));
        } else {
            let statements = self.session.parse(text).map_err(|error| failed(error, text, 0))?;
            if statements.is_empty() {
                self.wire.push(Message::EmptyQueryResponse(EmptyQueryResponse::new()));
            }
            let mut end = 0;
            for (_, statement) in &statements {
                let at = text[end..].find(statement.as_str()).map_or(end, |offset| end + offset);
                self.statement(statement, text, at).await?;
                end = (at + statement.len()).min(text.len());
            }
        }
        self.wire.push(reply::ready(self.session.transaction_status()));
        Ok(self.wire.flush().await?)
    }

    /// One statement of a query text, beginning at byte `at`.
    async fn statement(&mut self, statement: &str, text: &str, at: usize) -> Result<(), Fault> {
        let prepared = self.prepare(statement).await?.map_err(|error| failed(error, text, at))?;
        if !prepared.parameters.is_empty() {
            let failure = Failure::error(sqlstate::UNDEFINED_PARAMETER, "a query text has no values for parameters");
            return Err(Fault::Statement(failure.hint("bind them: use a prepared statement of your driver")));
        }
        let run = self.session.execute(&prepared, &[]);
        let outcome = self.interrupt.run(&mut self.wire, run).await?.map_err(|error| failed(error, text, at))?;
        self.say_notices();
        match outcome {
            Outcome::Done { tag } => self.wire.push(reply::complete(tag)),
            Outcome::Rows { columns, rows } => {
                self.wire.push(reply::row_description(&columns, |_| Format::Text));
                let mut cursor = Cursor::new(columns, rows);
                let text = |_| Format::Text;
                let (sent, _) = cursor.send(&mut self.wire, &mut self.interrupt, text, 0).await?;
                self.say_notices();
                self.wire.push(reply::complete(rows_tag(&prepared.statement, sent)));
            }
        }
        Ok(())
    }

    pub(super) async fn prepare(&mut self, text: &str) -> Result<Result<Prepared, EngineError>, Fault> {
        let prepare = self.session.prepare(text);
        self.interrupt.run(&mut self.wire, prepare).await
    }

    /// Sends a probe's rows and tag; the description is the caller's.
    pub(super) fn answer(&mut self, answer: &Answer, format: impl Fn(usize) -> Format) {
        let values = match answer {
            Answer::Value { value, .. } => vec![value.clone()],
            Answer::Names => self.session.names(),
            Answer::Done(_) => vec![],
        };
        let rows = values.len();
        for (column, value) in answer.columns().iter().cycle().zip(values) {
            let mut row = bytes::BytesMut::new();
            types::put(&Datum::Text(value), &column.sql_type, format(0), &mut row).expect("text is no date");
            self.wire.push(Message::DataRow(DataRow::new(row, 1)));
        }
        self.wire.push(reply::complete(answer.tag(rows)));
    }

    pub(super) fn say_notices(&mut self) {
        for text in self.session.take_notices() {
            self.wire.push(reply::notice(&text));
        }
    }
}

impl Interrupt {
    pub fn new(cancels: watch::Receiver<()>, stop: watch::Receiver<bool>) -> Interrupt {
        Interrupt { cancels, stop }
    }

    /// A statement begins: CancelRequests that came before it are not for it.
    pub fn begin(&mut self) {
        self.cancels.mark_unchanged();
    }

    /// Fails if the statement was cancelled.
    pub fn check(&self) -> Result<(), Fault> {
        match self.cancels.has_changed() {
            Ok(true) => Err(cancelled()),
            _ => Ok(()),
        }
    }

    /// Runs a statement's work until it is done, the client cancels it or goes away, or the server stops.
    pub async fn run<S: AsyncRead + AsyncWrite + Send, T>(
        &mut self,
        wire: &mut Wire<S>,
        work: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let cancel = async {
            match self.cancels.changed().await {
                Ok(()) => cancelled(),
                // The key outlives the connection.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            fault = cancel => Err(fault),
            fault = stopping(&mut self.stop) => Err(fault),
            result = work => Ok(result),
            error = wire.gone() => Err(Fault::Wire(error)),
        }
    }
}

/// Waits until the server stops; one that dropped the sender has.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn stopping(stop: &mut watch::Receiver<bool>) -> Fault {
    stopped(stop).await;
    Fault::Fatal(Failure::fatal(sqlstate::ADMIN_SHUTDOWN, "the server is stopping"))
}

fn cancelled() -> Fault {
    Fault::Statement(Failure::error(sqlstate::QUERY_CANCELLED, "canceling statement due to user request"))
}

pub(super) fn failed(error: EngineError, text: &str, at: usize) -> Fault {
    Fault::Statement(probes::explain(Failure::of_engine(error, text, at), text))
}

/// The tag after rows, as PostgreSQL words it where it has the statement.
pub(super) fn rows_tag(statement: &Statement, rows: usize) -> String {
    match statement {
        Statement::Explain(_) => "EXPLAIN".to_string(),
        Statement::Show(_) => "SHOW".to_string(),
        Statement::ValidateConnection { .. } => "VALIDATE CONNECTION".to_string(),
        Statement::ReplayQuarantine { .. } => "REPLAY QUARANTINE".to_string(),
        Statement::Subscribe { .. } => format!("SUBSCRIBE {rows}"),
        _ => format!("SELECT {rows}"),
    }
}
