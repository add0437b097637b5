//! The contract of a source: whole transactions as handles, at positions only it can read.
//!
//! A source is a task that reads one changelog and sends [`Event`]s. What each side may rely on:
//! - a [`Transaction`] is sent only when it has committed upstream, whole, in commit order (checked: the position is
//!   the one *after* it);
//! - its changes are in memory when small and staged in the store when large (`store::Changes`): never a list of
//!   unknown length;
//! - after a restart the source is started at the position of the last tick and sends nothing the store already has;
//! - a table that a view needs is read once ([`Command::Follow`]), into a generation of the store, at one point of the
//!   changelog for all tables of the command; until the generation is installed by a transaction
//!   ([`Transaction::installs`]), changes of the table are kept by the source and come with that transaction;
//! - where a changelog tells columns by position, the source says of each new order before the first transaction that
//!   may need it ([`Event::Layouts`]) and is given all of them at a restart, to choose by its position;
//! - where there is no changelog, all tables are read again every so often, at one point each time, and what differs
//!   from the store is one transaction;
//! - a transient fault (the link, the server) is retried inside with back-off and never moves a position;
//! - a position is read by its source alone: who waits for one asks its [`Positions`], which say of the positions of
//!   ticks whether they have it;
//! - what cannot be retried is [`Event::Stopped`] with a code, a position and a remedy: no gap, no skip, no guess.
//!
//! Back-pressure is the bounded channel of events; a source that waits there holds its position.

mod back_off;
pub mod changefeed;
pub mod collect;
pub mod formats;
pub mod generator;
pub mod log;
pub mod mysql;
pub mod registry;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::row::schema::{Layout, Schema};
use crate::row::{ObjectId, Position};
use crate::store::{Changes, Store};

/// A running changelog reader.
#[async_trait]
pub trait Source: Send {
    /// Stays when the source runs, or has stopped.
    fn positions(&self) -> Arc<dyn Positions>;

    /// Runs until the command channel closes (clean stop) or the source cannot go on (after `Event::Stopped`).
    async fn run(self: Box<Self>, start: Start, link: Link);
}

/// Reads the positions of one source: to all others they are opaque.
#[async_trait]
pub trait Positions: Send + Sync {
    /// A position as the upstream writes it, or `now`: the one where the upstream is at this moment.
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError>;

    /// A position of the source as `wanted` reads it.
    fn text(&self, position: &Position) -> String;
}

/// What `now` is to [`Positions::wanted`], in any case.
pub fn is_now(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("now")
}

/// A position that someone waits for.
pub struct Wanted {
    /// As [`Positions::wanted`] reads it.
    pub text: String,
    reached: Box<dyn Fn(&Position) -> bool + Send + Sync>,
}

impl Wanted {
    pub fn new(text: String, reached: impl Fn(&Position) -> bool + Send + Sync + 'static) -> Wanted {
        Wanted { text, reached: Box::new(reached) }
    }

    /// True once everything up to it is in what the source sent up to `position`.
    pub fn is_in(&self, position: &Position) -> bool {
        (self.reached)(position)
    }
}

/// Why a position cannot be waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    #[error("{message}")]
    Unreadable { message: String, remedy: String },
    #[error("the upstream cannot be asked where it is: {reason}")]
    Upstream { reason: String },
}

/// Where and with what a source begins.
pub struct Start {
    /// The position of the last tick; `None`: the source has never been read.
    pub position: Option<Position>,
    /// Tables whose generation is installed: their changes after `position` are wanted.
    pub tables: Vec<FollowedTable>,
}

/// What ties a source to the rest.
pub struct Link {
    pub store: Arc<Store>,
    pub events: mpsc::Sender<(ObjectId, Event)>,
    pub commands: mpsc::Receiver<Command>,
    /// The source's own id, sent with every event.
    pub id: ObjectId,
}

/// A table that a source follows, under the store's id.
#[derive(Clone, Debug)]
pub struct FollowedTable {
    pub id: ObjectId,
    pub database: String,
    pub name: String,
    /// The columns that are followed; excluded ones are not in it.
    pub schema: Schema,
    /// The first as in [`UpstreamTable::layout`], then as in [`Event::Layouts`].
    pub layouts: Vec<Layout>,
}

impl FollowedTable {
    /// A table that has just these columns.
    pub fn declared(id: ObjectId, database: &str, name: &str, schema: Schema) -> FollowedTable {
        let layouts = vec![Layout { since: None, columns: schema.names() }];
        FollowedTable { id, database: database.to_string(), name: name.to_string(), schema, layouts }
    }

    /// The columns in the upstream's order, after all that is known.
    pub fn layout(&self) -> &[String] {
        self.layouts.last().map_or(&[], |layout| &layout.columns)
    }
}

#[derive(Clone, Debug)]
pub enum Command {
    /// Read these tables and follow them from then on.
    Follow(Vec<FollowedTable>),
    /// No view needs these tables any more.
    Forget(Vec<ObjectId>),
    /// Read again now what is read every so often; the answer comes when the store has it, or says why it has not. A
    /// source with a changelog is never asked.
    Refresh(mpsc::Sender<Result<(), String>>),
}

#[derive(Debug)]
pub enum Event {
    Transaction(Transaction),
    /// Rows read so far of a table being loaded; `rows_expected` is the server's estimate.
    Loading {
        table: ObjectId,
        rows: u64,
        rows_expected: Option<u64>,
    },
    /// All layouts of a table that a restart at the store's position or later may need, the newest last. They are
    /// made durable before any transaction that is sent after this, so a position never knows less than its changes.
    Layouts {
        table: ObjectId,
        layouts: Vec<Layout>,
    },
    /// The link is down and being retried: for SHOW SOURCES.
    Waiting {
        reason: String,
    },
    /// The link is up (again).
    Running,
    /// What the source, while its link is up, must hear before it can go on: for SHOW SOURCES. As long as nothing else
    /// is said and the link is up.
    WaitsFor(Option<String>),
    /// All is read: until that time in milliseconds since the epoch, by the source's clock, or until a table is wanted.
    Resting {
        until_ms: Option<u64>,
    },
    /// The source cannot go on by itself.
    Stopped(Stop),
}

/// One committed source transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The position after it.
    pub position: Position,
    /// When it committed upstream, milliseconds since the epoch by the source's clock: a label for lag, never an order.
    pub committed_ms: Option<u64>,
    /// Generations that become the tables' rows with this transaction, before its changes apply.
    pub installs: Vec<(ObjectId, u64)>,
    pub changes: Changes,
}

/// Why a source stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// A stable word: `SOURCE_GONE`, `SOURCE_DIVERGED`, `ROW_IMAGE_PARTIAL`, `SCHEMA_CHANGED`, `CHECKSUM`, …
    pub code: &'static str,
    pub message: String,
    pub position: Option<Position>,
    /// What a person can do about it.
    pub remedy: String,
}

/// One line of `tidemill check` and VALIDATE CONNECTION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub setting: String,
    pub have: String,
    pub need: String,
    pub ok: bool,
    /// A statement to paste where `ok` is false.
    pub remedy: Option<String>,
}

/// A table that an upstream shows, with the columns that cannot be read named and why.
#[derive(Clone, Debug)]
pub struct UpstreamTable {
    pub database: String,
    pub name: String,
    pub schema: Schema,
    /// Every column in the upstream's order, also those that are not followed: a changelog may tell columns by
    /// position.
    pub layout: Vec<String>,
    /// Column and reason; such a column must be excluded before the table can be followed.
    pub unsupported: Vec<(String, String)>,
}

impl UpstreamTable {
    /// A table that has just these columns.
    pub fn declared(database: &str, name: &str, schema: Schema) -> UpstreamTable {
        let layout = schema.names();
        UpstreamTable { database: database.to_string(), name: name.to_string(), schema, layout, unsupported: vec![] }
    }
}
