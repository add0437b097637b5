//! The extended protocol: Parse, Bind, Describe, Execute, Close over named statements and portals.

use std::sync::Arc;

use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::EmptyQueryResponse;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::session::{Outcome, Prepared};
use crate::row::schema::Column;
use crate::server::limits::STATEMENTS_MAX;
use crate::server::pgwire::connection::{Connection, Fault, failed, rows_tag};
use crate::server::pgwire::parameters;
use crate::server::pgwire::probes::{self, Answer};
use crate::server::pgwire::reply::{self, Failure};
use crate::server::pgwire::rows::Cursor;
use crate::server::pgwire::types::{self, Format};
use crate::server::sqlstate::{self, SqlState};

/// A parsed statement.
pub struct Stored {
    text: String,
    body: Body,
    /// As the client declared them, else as the statement expects them.
    parameters: Vec<Type>,
}

enum Body {
    Empty,
    Probe(Answer),
    Prepared(Box<Prepared>),
}

/// A statement with its parameters, and how far it has run.
pub struct Portal {
    stored: Arc<Stored>,
    parameters: Vec<Option<String>>,
    formats: Vec<Format>,
    state: State,
}

enum State {
    Bound,
    Running(Cursor),
    Done,
}

impl Stored {
    fn columns(&self) -> Vec<Column> {
        match &self.body {
            Body::Empty => vec![],
            Body::Probe(answer) => answer.columns(),
            Body::Prepared(prepared) => prepared.columns.clone(),
        }
    }
}

impl Portal {
    fn format(&self, column: usize) -> Format {
        format_of(&self.formats, column)
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Connection<S> {
    pub(super) async fn parse(&mut self, message: Parse) -> Result<(), Fault> {
        self.interrupt.begin();
        let name = message.name.unwrap_or_default();
        if !name.is_empty() && self.statements.contains_key(&name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(error(sqlstate::DUPLICATE_STATEMENT, text));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            let text = format!("{STATEMENTS_MAX} prepared statements are open: close some");
            return Err(error(sqlstate::LIMIT_EXCEEDED, text));
        }
        let text = message.query;
        let body = if text.chars().all(|c| c == ';' || c.is_whitespace()) {
            Body::Empty
        } else if let Some(answer) = probes::answer(&text, &self.user) {
            Body::Probe(answer)
        } else if let Some(refusal) = probes::refusal(&text) {
            return Err(Fault::Statement(refusal));
        } else {
            let prepared = self.prepare(&text).await?.map_err(|error| failed(error, &text, 0))?;
            Body::Prepared(Box::new(prepared))
        };
        let expected = match &body {
            Body::Prepared(prepared) => prepared.parameters.as_slice(),
            _ => &[],
        };
        let declared = |i: usize| message.type_oids.get(i).filter(|oid| **oid != 0);
        let parameters = expected
            .iter()
            .enumerate()
            .map(|(i, sql_type)| match declared(i) {
                Some(oid) => Type::from_oid(*oid).unwrap_or(Type::UNKNOWN),
                None => types::pg_type(sql_type),
            })
            .collect();
        self.say_notices();
        self.statements.insert(name, Arc::new(Stored { text, body, parameters }));
        self.wire.push(Message::ParseComplete(ParseComplete::new()));
        Ok(())
    }

    pub(super) fn bind(&mut self, message: Bind) -> Result<(), Fault> {
        let stored = self.stored(message.statement_name.as_deref().unwrap_or_default())?.clone();
        let name = message.portal_name.unwrap_or_default();
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(error(sqlstate::DUPLICATE_CURSOR, format!("portal \"{name}\" already exists")));
        }
        if self.portals.len() >= STATEMENTS_MAX {
            return Err(error(sqlstate::LIMIT_EXCEEDED, format!("{STATEMENTS_MAX} portals are open: close some")));
        }
        let (given, needed) = (message.parameters.len(), stored.parameters.len());
        if given != needed {
            let text = format!("{given} parameters are bound, the statement has {needed}");
            return Err(error(sqlstate::PROTOCOL_VIOLATION, text));
        }
        let sent = formats(&message.parameter_format_codes, needed, "parameter")?;
        let formats = formats(&message.result_column_format_codes, stored.columns().len(), "result")?;
        let mut values = Vec::with_capacity(needed);
        for (i, bytes) in message.parameters.iter().enumerate() {
            let expected = match &stored.body {
                Body::Prepared(prepared) => prepared.parameters.get(i),
                _ => None,
            };
            let read = |bytes| parameters::text(i + 1, bytes, format_of(&sent, i), &stored.parameters[i], expected);
            let value = bytes.as_deref().map(read).transpose();
            values.push(value.map_err(|bad| error(sqlstate::INVALID_TEXT, bad.to_string()))?);
        }
        self.portals.insert(name, Portal { stored, parameters: values, formats, state: State::Bound });
        self.wire.push(Message::BindComplete(BindComplete::new()));
        Ok(())
    }

    pub(super) fn describe(&mut self, message: Describe) -> Result<(), Fault> {
        let name = message.name.as_deref().unwrap_or_default();
        let (columns, formats) = match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let stored = self.stored(name)?.clone();
                let oids = stored.parameters.iter().map(Type::oid).collect();
                self.wire.push(Message::ParameterDescription(ParameterDescription::new(oids)));
                (stored.columns(), vec![])
            }
            _ => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (portal.stored.columns(), portal.formats.clone())
            }
        };
        self.wire.push(match columns.is_empty() {
            true => Message::NoData(NoData::new()),
            false => reply::row_description(&columns, |i| format_of(&formats, i)),
        });
        Ok(())
    }

    pub(super) async fn execute(&mut self, message: Execute) -> Result<(), Fault> {
        self.interrupt.begin();
        let name = message.name.unwrap_or_default();
        // Taken out while it runs: a statement that fails takes its portal with it.
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        self.advance(&mut portal, message.max_rows.max(0) as usize).await?;
        self.portals.insert(name, portal);
        if self.wire.is_full() {
            self.wire.flush().await?;
        }
        Ok(())
    }

    async fn advance(&mut self, portal: &mut Portal, max_rows: usize) -> Result<(), Fault> {
        let stored = portal.stored.clone();
        let prepared = match &stored.body {
            Body::Empty => {
                self.wire.push(Message::EmptyQueryResponse(EmptyQueryResponse::new()));
                return Ok(());
            }
            Body::Probe(answer) => {
                self.answer(answer, |i| portal.format(i));
                return Ok(());
            }
            Body::Prepared(prepared) => prepared,
        };
        if let State::Bound = portal.state {
            let run = self.session.execute(prepared, &portal.parameters);
            let outcome = self.interrupt.run(&mut self.wire, run).await?;
            self.say_notices();
            portal.state = match outcome.map_err(|error| failed(error, &stored.text, 0))? {
                Outcome::Rows { columns, rows } => State::Running(Cursor::new(columns, rows)),
                Outcome::Done { tag } => {
                    self.wire.push(reply::complete(tag));
                    portal.state = State::Done;
                    return Ok(());
                }
            };
        }
        let formats = &portal.formats;
        let (sent, more) = match &mut portal.state {
            State::Running(cursor) => {
                let format = |i: usize| format_of(formats, i);
                cursor.send(&mut self.wire, &mut self.interrupt, format, max_rows).await?
            }
            State::Bound | State::Done => (0, false),
        };
        self.say_notices();
        if more {
            self.wire.push(Message::PortalSuspended(PortalSuspended::new()));
        } else {
            portal.state = State::Done;
            self.wire.push(reply::complete(rows_tag(&prepared.statement, sent)));
        }
        Ok(())
    }

    pub(super) fn close(&mut self, message: Close) -> Result<(), Fault> {
        let name = message.name.as_deref().unwrap_or_default();
        match message.target_type {
            TARGET_TYPE_BYTE_PORTAL => drop(self.portals.remove(name)),
            _ => drop(self.statements.remove(name)),
        }
        self.wire.push(Message::CloseComplete(CloseComplete::new()));
        Ok(())
    }

    fn stored(&self, name: &str) -> Result<&Arc<Stored>, Fault> {
        self.statements.get(name).ok_or_else(|| {
            error(sqlstate::INVALID_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
        })
    }
}

/// One code for all, none (text), or one each.
fn formats(codes: &[i16], count: usize, what: &str) -> Result<Vec<Format>, Fault> {
    if codes.len() > 1 && codes.len() != count {
        let text = format!("{} {what} format codes for {count} values", codes.len());
        return Err(error(sqlstate::PROTOCOL_VIOLATION, text));
    }
    let format = |code: &i16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => Err(error(sqlstate::PROTOCOL_VIOLATION, format!("{what} format code {other}"))),
    };
    codes.iter().map(format).collect()
}

fn format_of(formats: &[Format], i: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each[i],
    }
}

fn error(code: SqlState, text: String) -> Fault {
    Fault::Statement(Failure::error(code, text))
}

fn no_portal(name: &str) -> Fault {
    error(sqlstate::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}
