//! Connections to a MySQL source: options, sessions, time limits, and what a failure means.
//!
//! A [`Fault`] is *lost* (the world: retry with back-off), *corrupt* (once more, then definite) or *stop* (a person
//! must act). Every wait has a limit; a password appears in no message.

use std::fmt;
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder};

use crate::config::{Secret, Tls};
use crate::sources::Stop;
use crate::target::mysql::ssl_opts;

const CONNECT_SECONDS_MAX: u64 = 10;
/// For one query of the catalog, and for one batch of rows of a snapshot.
pub const READ_SECONDS_MAX: u64 = 60;
/// The largest packet the protocol can carry; events of one row can be that large.
const PACKET_BYTES_MAX: usize = 1 << 30;

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Options {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Tls,
    /// A replica to read snapshots from, so that the primary is not burdened.
    pub snapshot: Option<(String, u16)>,
}

/// Why something with the server did not work.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{server}: cannot {doing}: {reason}")]
    Lost { server: String, doing: &'static str, reason: String },
    /// Bytes that are not what the server wrote; the same again at the same place is definite.
    #[error("{server}: {reason}")]
    Corrupt { server: String, reason: String },
    #[error("{}: {}", .0.code, .0.message)]
    Stop(Box<Stop>),
}

impl Fault {
    pub fn stop(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::Stop(Box::new(Stop { code, message: message.into(), position: None, remedy: remedy.into() }))
    }
}

impl Options {
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>, password: Option<Secret>) -> Options {
        let (host, user) = (host.into(), user.into());
        Options { host, port, user, password, tls: Tls::default(), snapshot: None }
    }

    /// The same, for the server that snapshots are read from.
    pub fn for_snapshot(&self) -> Options {
        let mut options = self.clone();
        if let Some((host, port)) = options.snapshot.take() {
            (options.host, options.port) = (host, port);
        }
        options
    }

    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub fn lost(&self, doing: &'static str, reason: impl fmt::Display) -> Fault {
        Fault::Lost { server: self.server(), doing, reason: reason.to_string() }
    }

    fn opts(&self) -> Opts {
        // Text as UTF-8, instants in UTC, CHAR without its padding, and time for us to be slow in reading.
        let session = "SET NAMES utf8mb4; SET time_zone = '+00:00', sql_mode = '', net_write_timeout = 600";
        OptsBuilder::default()
            .ip_or_hostname(&self.host)
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(self.password.as_ref().map(Secret::reveal))
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .ssl_opts(ssl_opts(&self.tls))
            .init(session.split("; ").map(String::from).collect())
            .into()
    }
}

/// One session, set up as this source reads.
pub async fn connect(options: &Options) -> Result<Conn, Fault> {
    within(options, "connect", CONNECT_SECONDS_MAX, Conn::new(options.opts())).await
}

/// All rows of a small query.
pub async fn query<T>(options: &Options, conn: &mut Conn, sql: &str) -> Result<Vec<T>, Fault>
where
    T: FromRow + Send + 'static,
{
    within(options, "query", READ_SECONDS_MAX, conn.query(sql)).await
}

/// A statement without rows.
pub async fn execute(options: &Options, conn: &mut Conn, sql: &str) -> Result<(), Fault> {
    within(options, "run a statement", READ_SECONDS_MAX, conn.query_drop(sql)).await
}

/// The answer of a query of one row, which it always has.
pub async fn one<T>(options: &Options, conn: &mut Conn, sql: &str) -> Result<T, Fault>
where
    T: FromRow + Send + 'static,
{
    query(options, conn, sql).await?.pop().ok_or_else(|| options.lost("query", format!("no answer to {sql}")))
}

/// Waits no longer than that.
pub async fn within<T>(
    options: &Options,
    doing: &'static str,
    seconds: u64,
    work: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(Duration::from_secs(seconds), work).await {
        Ok(done) => done.map_err(|e| options.lost(doing, e)),
        Err(_) => Err(options.lost(doing, format!("no answer in {seconds} s"))),
    }
}

/// A name as an identifier in SQL.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A value as a string literal in SQL, whatever `sql_mode` says of backslashes (ours says nothing).
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_text_shows_the_password() {
        let options = Options::new("db", 3306, "repl", Some(Secret::new("hunter2")));
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
