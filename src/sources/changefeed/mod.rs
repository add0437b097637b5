//! A changelog in messages as a source: a log is read, decoded and put together.
//!
//! The way of a message: `Log::next` → `Registry::by_number`, where its schema is new → `Decode::decode` →
//! `Collect::take` … `Collect::next` → upserts of whole
//! transactions → the store reads what rows were and makes differences of them (`Store::resolve`).
//!
//! Invariants:
//! - the position is the log's offsets and the collector's state as of everything that was sent: never what the log's
//!   own server remembers;
//! - tables are followed from the beginning of the log: all of them before the first message is read, since what has
//!   passed does not come again; where they are copied first, the log is opened before that, and the messages of
//!   commits or transactions that the copy has are passed over;
//! - a message that cannot be read stops the source at its place, and nothing behind it is taken; or, where the source
//!   says so and nothing but the message itself is lost (`BadMessage::can_be_left_out`), it becomes a row of the
//!   source's quarantine in the transaction whose position is the first one past it, once, whatever is read again;
//! - what a message says to lie in a file (a claim check) is fetched before anything behind it is taken, from the one
//!   place that the source names, and stands for the message;
//! - a mismatch (an insert over another row, an update or a delete of none) is healed and counted; it stops the source
//!   only where it cannot be a repetition: by watermarks, whose collector drops what it gave before, with everything
//!   from the beginning on or a snapshot in the store. Then each transaction is compared with the store after all
//!   earlier ones are in it, and none of a transaction with a mismatch is sent;
//! - partitions that a topic got are read where commit timestamps, a topic of transactions or the rows' keys keep the
//!   order whatever partition a row is in; else only while they are empty, or where a person allows it ([`added`]);
//! - a schema that a registry cannot be asked for now holds the log at its message; one that the registry does not have
//!   makes the message one that cannot be read;
//! - a statement that leaves every followed column as it was is passed over, TRUNCATE empties its table, any other on
//!   a followed table stops the source.

mod added;
mod copy;
mod dispute;
pub mod messages;
mod positions;
pub mod quarantine;
mod run;
pub mod spill;
mod statements;
mod take;
pub mod upserts;

use std::sync::Arc;

use async_trait::async_trait;

use crate::row::ObjectId;
use crate::sources::collect::window::Limits;
use crate::sources::formats::Decode;
use crate::sources::log::files::storage::Storage;
use crate::sources::log::{Begin, Log};
use crate::sources::mysql::connect::Options;
use crate::sources::registry::Registry;
use crate::sources::{Event, Link, Positions, Source, Start};

/// What puts messages together to transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// TiCDC's watermarks: whole timestamps.
    Watermarks,
    /// Debezium's transaction topic: whole transactions.
    Transactions,
    /// Nothing: rows as they come.
    Rows,
}

/// Whether tables are copied before the first message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// The log has everything from the tables' beginning on.
    No,
    /// From a TiDB: messages tell by their commits whether the copy has them.
    ByTime,
    /// From a MySQL: by their GTIDs.
    ByGtid,
}

/// A running changefeed.
pub struct Changefeed {
    pub log: Box<dyn Log>,
    pub decode: Box<dyn Decode>,
    /// Of the schemas that messages are written by, where they are.
    pub registry: Option<Arc<dyn Registry>>,
    pub consistency: Consistency,
    pub begin: Begin,
    /// Of what waits for watermarks.
    pub limits: Limits,
    /// Debezium's topic of transactions.
    pub transactions: Option<String>,
    /// The server that the changes are of, where it is known.
    pub upstream: Option<Options>,
    pub copies: Copies,
    /// The table of messages that cannot be read; `None`: the source stops at them.
    pub quarantine: Option<ObjectId>,
    /// Where the files of messages are that were too large.
    pub claims: Option<Arc<dyn Storage>>,
    /// A row that is not as the feed says that it was stops the source: only where the feed's repetitions are known as
    /// such, and everything before it is in the store.
    pub stops_at_mismatch: bool,
    /// Partitions that were added are read also where a row's changes before and behind may come in any order.
    pub allows_reordering: bool,
}

#[async_trait]
impl Source for Changefeed {
    fn positions(&self) -> Arc<dyn Positions> {
        positions::positions(self)
    }

    async fn run(self: Box<Self>, start: Start, link: Link) {
        let (id, events) = (link.id, link.events.clone());
        if let Err(run::Ended::Stopped(stop)) = run::Runner::new(*self, start, link).run().await {
            tracing::error!(source = %id, code = stop.code, "{}", stop.message);
            // Nobody listens any more: then nobody needs to know.
            let _ = events.send((id, Event::Stopped(*stop))).await;
        }
    }
}
