//! The contract of a changelog format: the bytes of one message in, what it says out.
//!
//! A decoder knows wire values and nothing of transports, order or time. What each side may rely on:
//! - a decoder says what the message says, in the message's own order, and keeps no row between two messages;
//! - a change of a table that is not followed is passed over before its values are read;
//! - a row has one value a column of the table's [`Schema`](crate::row::schema::Schema), in the schema's order; a
//!   column that the schema has and the message lacks is an error, never a NULL, but for messages without an envelope
//!   ([`plain`]), whose producers leave out what is NULL;
//! - an UPDATE that changes the key is said as a `Delete` of the old row and an `Insert` of the new one;
//! - `Insert` and `Update` are said only where the message itself tells one from the other;
//! - a decoder asks nobody: where a message is written by a schema that it does not have ([`Decode::lacks`]), whoever
//!   reads the log asks the registry and tells it ([`Decode::learn`]) before the message is decoded;
//! - whatever the bytes are, a decoder returns: it does not panic, recurse without a bound, or allocate by a length
//!   that the message claims and does not have;
//! - a [`BadMessage`] names what is wrong in the message; where the message stands (topic, partition, offset, file) is
//!   added by who read it.
//!
//! Feeds in these formats deliver at least once, so changes are said as what a row *is* from now on, by key: the store
//! turns them into differences when it commits them.

pub mod avro;
pub mod canal;
pub mod claim;
pub mod debezium;
pub mod inflate;
pub mod open;
pub mod past;
pub mod plain;
pub mod scan;
pub mod simple;
pub mod text;
pub mod wire;

use std::collections::HashMap;

use crate::row::datum::Datum;
use crate::sources::mysql::gtid::GtidSet;
use crate::sources::{FollowedTable, Stop};

/// A message as a transport gives it; a file's line has only a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// As the log has it, milliseconds since the epoch.
    pub written_ms: Option<i64>,
    /// The first line of a file.
    pub begins_file: bool,
}

/// Reads messages of one format.
pub trait Decode: Send {
    /// Appends what the message says.
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage>;

    /// Where a message says that it lies as a whole, if that is all that it says ([`claim`]).
    fn claimed(&self, _message: Message<'_>) -> Option<String> {
        None
    }

    /// From now on nothing is said of these transactions, since the tables were copied behind them.
    fn pass_over(&mut self, _: GtidSet) {
        unreachable!("a format whose messages have GTIDs says what it does")
    }

    /// The number of a schema that the message is written by and the decoder has not.
    fn lacks(&self, _: &Message<'_>, _: &Tables) -> Option<u32> {
        None
    }

    /// What the registry says of that number.
    fn learn(&mut self, _: u32, _: avro::Learned) {}
}

/// One value a column, in the order of the table's schema.
pub type Row = Vec<Datum>;

#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Row(RowChange),
    /// TiCDC: every change of this partition with a commit timestamp below this TSO has been sent.
    Watermark(u64),
    Schema(SchemaChange),
    /// Debezium's transaction topic.
    Mark(TransactionMark),
}

#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Place in [`Tables`].
    pub table: usize,
    pub op: Op,
    /// TiCDC's commitTs.
    pub commit: Option<u64>,
    /// Debezium's transaction, where it says one.
    pub transaction: Option<InTransaction>,
    /// When it committed upstream, milliseconds since the epoch: a label, never an order.
    pub committed_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The row with this key is now this.
    Put(Row),
    /// The same, and there was none with this key.
    Insert(Row),
    /// The same, and there was one with this key.
    Update(Row),
    /// There was a row with this key, and it is gone. Values outside the key may be NULL where the feed sends only
    /// keys.
    Delete(Row),
    /// The table has no rows any more.
    Truncate,
}

/// A statement that changes tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    pub commit: Option<u64>,
    /// The statement's default database.
    pub database: String,
    pub table: String,
    pub sql: String,
}

/// Which transaction a row belongs to, and its place in it (from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTransaction {
    pub id: String,
    pub total_order: u64,
}

/// An edge of a transaction, as Debezium's transaction topic tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionMark {
    Begin {
        id: String,
    },
    /// How many events each `database.table` has in it.
    End {
        id: String,
        events: Vec<(String, u64)>,
        committed_ms: Option<u64>,
    },
}

/// A message that cannot be read, or that says what cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadMessage {
    /// A stable word: `BAD_MESSAGE`, `VALUE_UNREADABLE`, `FEED_WITHOUT_TIME`, `ROW_INCOMPLETE`, `SCHEMA_CHANGED`, …
    pub code: &'static str,
    pub reason: String,
    pub remedy: String,
}

/// Codes of what concerns one message alone.
const OF_ONE_MESSAGE: &[&str] = &[
    "BAD_MESSAGE",
    "ROW_INCOMPLETE",
    "VALUE_UNREADABLE",
    "CHECKSUM",
    "CLAIM_CHECK",
    "HANDLE_KEY_ONLY",
    "SCHEMA_UNKNOWN",
];

impl BadMessage {
    /// Whether leaving it out loses only what it says: the next message means what it would have meant.
    pub fn can_be_left_out(&self) -> bool {
        OF_ONE_MESSAGE.contains(&self.code)
    }

    /// The end of a source that leaves no message out.
    pub fn stop(self) -> Stop {
        let goes_on = if self.can_be_left_out() { "; ALTER SOURCE … RESUME goes on once it can be read" } else { "" };
        Stop { code: self.code, message: self.reason, position: None, remedy: self.remedy + goes_on }
    }

    /// Bytes that are not what the format says.
    pub fn malformed(reason: impl Into<String>) -> BadMessage {
        let remedy = "mend or remove the message, or create the source with ON BAD MESSAGE QUARANTINE";
        BadMessage { code: "BAD_MESSAGE", reason: reason.into(), remedy: remedy.to_string() }
    }
}

/// A TSO is milliseconds since the epoch above this many bits of a counter.
const TSO_LOGICAL_BITS: u32 = 18;

/// When a commit timestamp was given, in milliseconds since the epoch.
pub fn tso_ms(tso: u64) -> u64 {
    tso >> TSO_LOGICAL_BITS
}

/// What a person says of a feed that its messages do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of the clock on which TIMESTAMPs are written (TiCDC's `--tz`), east of UTC.
    pub time_zone_seconds: i32,
    pub compression: Compression,
}

/// Of values inside messages (TiCDC's `large-message-handle-compression`), on top of the transport's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Snappy,
    Lz4,
}

/// The followed tables, found by the names in messages.
#[derive(Debug, Default)]
pub struct Tables {
    tables: Vec<TableOf>,
    by_name: HashMap<String, HashMap<String, usize>>,
}

#[derive(Debug)]
pub struct TableOf {
    pub followed: FollowedTable,
    columns: HashMap<String, usize>,
}

impl Tables {
    pub fn new(followed: impl IntoIterator<Item = FollowedTable>) -> Tables {
        let mut tables = Tables::default();
        followed.into_iter().for_each(|table| tables.add(table));
        tables
    }

    pub fn add(&mut self, followed: FollowedTable) {
        let names = self.by_name.entry(followed.database.clone()).or_default();
        names.insert(followed.name.clone(), self.tables.len());
        let columns = followed.schema.columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        self.tables.push(TableOf { followed, columns });
    }

    pub fn find(&self, database: &str, table: &str) -> Option<usize> {
        self.by_name.get(database)?.get(table).copied()
    }

    pub fn get(&self, table: usize) -> &TableOf {
        &self.tables[table]
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &TableOf> {
        self.tables.iter()
    }
}

impl TableOf {
    /// A column's place in the schema; `None` for one that is not followed.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.get(name).copied()
    }

    /// The rows of an UPDATE as what they say: an `Update`, or where the key differs a `Delete` and an `Insert`.
    pub fn update(&self, before: Row, after: Row) -> impl Iterator<Item = Op> {
        let key = self.followed.schema.key.as_deref().unwrap_or_default();
        let moved = key.iter().any(|&c| before[c] != after[c]);
        let put = if moved { Op::Insert(after) } else { Op::Update(after) };
        moved.then_some(Op::Delete(before)).into_iter().chain([put])
    }
}
