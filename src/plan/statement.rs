//! The statements a user can send, as the parser gives them.

use sqlparser::ast;

pub use crate::catalog::feed::{
    Csv, FeedCompression, FeedFormat, OnBadMessage, OnMismatch, OtherPartitions, StartAt, StartOffset, Topics,
};
pub use crate::catalog::object::{ConnectionKind, ObjectKind, SecretFrom};
use crate::row::schema::Schema;

/// One statement. Names are as typed; `catalog` and `plan` resolve them.
#[derive(Clone, Debug)]
pub enum Statement {
    CreateSecret {
        name: Name,
        if_not_exists: bool,
        from: SecretFrom,
    },
    CreateConnection {
        name: Name,
        if_not_exists: bool,
        to: ConnectionKind,
        options: Vec<ConnectionOption>,
    },
    ValidateConnection {
        name: Name,
    },
    CreateSource(CreateSource),
    RefreshSource {
        name: Name,
    },
    AlterSource {
        name: Name,
        change: SourceChange,
    },
    /// `REPLAY QUARANTINE OF source [WHERE …]`: the messages of its quarantine, read again.
    ReplayQuarantine {
        source: Name,
        predicate: Option<ast::Expr>,
    },
    CreateTable {
        name: Name,
        if_not_exists: bool,
        schema: Schema,
    },
    CreateView(CreateView),
    Drop {
        kind: ObjectKind,
        name: Name,
        if_exists: bool,
        cascade: bool,
        target: DropTarget,
    },
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete {
        table: Name,
        predicate: Option<ast::Expr>,
    },
    Select(Box<ast::Query>),
    /// `SELECT tidemill_wait(…)`: its arguments, read by `plan::wait` once parameters have values.
    Wait {
        arguments: Vec<ast::Expr>,
    },
    Explain(Box<Explain>),
    Show(Show),
    Subscribe {
        name: Name,
        snapshot: bool,
    },
    KillJob {
        job: u64,
    },
    /// `SET name = value`: accepted for clients that send it; unknown names give a notice.
    Set {
        name: String,
        value: String,
    },
    Begin,
    Commit,
    Rollback,
}

/// A name of one to three parts, with the byte offset of its first part in the statement's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub parts: Vec<String>,
    pub at: usize,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

/// `HOST 'db'`, `PORT 3306`, `PASSWORD SECRET name`: the option's name in upper case with single spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionOption {
    pub name: String,
    pub value: OptionValue,
    pub at: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    Text(String),
    Number(u64),
    Secret(Name),
}

#[derive(Clone, Debug)]
pub struct CreateSource {
    pub name: Name,
    pub if_not_exists: bool,
    pub connection: Name,
    /// Made with the source, under the name of `connection`.
    pub own: Option<OwnConnection>,
    /// `database.table` or `database.*`; empty: every table the connection shows.
    pub tables: Vec<Name>,
    /// `database.table.column`.
    pub exclude_columns: Vec<Name>,
    /// The tables that are declared with their columns.
    pub declared: Vec<(Name, Schema)>,
    /// Of a changefeed: what is read and how.
    pub feed: Option<FeedClauses>,
    /// `REFRESH EVERY '1 minute'`: there is no changelog, the tables are read again that often.
    pub refresh_seconds: Option<u64>,
}

/// What ALTER SOURCE does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceChange {
    /// It has stopped, and goes on from where it is.
    Resume,
    /// The same, and it reads the partitions that its topics got.
    AddPartitions {
        /// Also where changes of one row may have lost their order.
        allow_reordering: bool,
    },
}

/// A connection that is made for one source, as `FROM TICDC 'uri'` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnConnection {
    pub name: Name,
    pub kind: ConnectionKind,
    pub options: Vec<ConnectionOption>,
}

/// What CREATE SOURCE says of a changefeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedClauses {
    pub topics: Topics,
    /// Debezium's topic of transactions.
    pub transactions: Option<String>,
    pub start: StartAt,
    pub format: Option<FeedFormat>,
    /// `CONSISTENCY 'row'`.
    pub by_row: bool,
    /// Of TIMESTAMPs in messages, and the place behind it.
    pub time_zone: Option<(String, usize)>,
    pub compression: FeedCompression,
    pub csv: Csv,
    /// `FORMAT UPSERT`, and its place: rows need a key.
    pub upsert: Option<usize>,
    /// The connection that knows the tables' columns.
    pub schemas: Option<Name>,
    /// Its tables are copied first.
    pub snapshot: bool,
    pub on_bad_message: OnBadMessage,
    pub on_mismatch: OnMismatch,
    /// `RETAIN '7 days'`, and its place.
    pub retain: Option<(u64, usize)>,
    /// The connection that has messages which were too large.
    pub claim_check: Option<Name>,
    pub registry: Option<RegistryClause>,
}

/// `(schema.registry = 'url', …)` behind a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryClause {
    pub url: String,
    pub user: Option<String>,
    /// A secret.
    pub password: Option<Name>,
    pub at: usize,
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: Name,
    pub materialized: bool,
    pub if_not_exists: bool,
    pub or_replace: bool,
    /// The declared `PRIMARY KEY (…)`.
    pub key: Option<Vec<String>>,
    pub comment: Option<String>,
    /// `INTO connection.database.table` (`connection.table` for SQLite).
    pub into: Option<Name>,
    /// `WITH (name = value, …)`.
    pub options: Vec<(String, OptionValue)>,
    pub query: Box<ast::Query>,
    /// The query's text as typed, from which the view is planned again after a restart.
    pub query_text: String,
    /// Where `query_text` begins in the statement.
    pub query_at: usize,
}

/// What becomes of the wide table when its view is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropTarget {
    #[default]
    Keep,
    Drop,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub table: Name,
    pub columns: Vec<Name>,
    /// VALUES or a query.
    pub query: ast::Query,
}

#[derive(Clone, Debug)]
pub struct Update {
    pub table: Name,
    pub assignments: Vec<(Name, ast::Expr)>,
    pub predicate: Option<ast::Expr>,
}

#[derive(Clone, Debug)]
pub enum Explain {
    Query(Box<ast::Query>),
    /// `EXPLAIN MATERIALIZED VIEW name`.
    View(Name),
    /// `EXPLAIN CREATE MATERIALIZED VIEW …`.
    Create(Box<CreateView>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    Secrets,
    Connections,
    Sources,
    Tables,
    /// `SHOW … FROM CONNECTION name`: what is there to be read.
    Upstream {
        connection: Name,
        what: Upstream,
    },
    Views,
    MaterializedViews,
    Jobs,
    Create {
        kind: ObjectKind,
        name: Name,
    },
    /// `SHOW COLUMNS FROM t`, `DESCRIBE t`.
    Columns {
        name: Name,
    },
    /// `SHOW TARGET DDL FOR view`.
    TargetDdl {
        name: Name,
    },
    /// `SHOW name`: a session setting.
    Setting(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    Databases,
    Tables {
        like: Option<String>,
    },
    /// Of a table as `database.table`.
    Columns {
        table: Name,
    },
}
