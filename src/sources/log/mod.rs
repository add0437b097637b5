//! The contract of a log: partitions of messages at offsets, read from where the reader says.
//!
//! What each side may rely on:
//! - the messages of one partition come in the order of their offsets, which grow but need not be gapless;
//! - nothing is skipped in silence: an offset that is no longer there, a topic that was deleted and made again are a
//!   [`Fault::Stop`] with a code and a remedy, never a jump; so is a partition that was added, but where the log is
//!   told to read it ([`Added`]), and then from its beginning on;
//! - where a log stands is what its reader says ([`Offsets`]): nothing is committed to the log's own server;
//! - memory is bounded: a log reads ahead by a named number of bytes, and not at all in a partition that is paused;
//! - a transient fault is [`Fault::Lost`]: the reader opens the log anew, at its own offsets.

pub mod files;
#[cfg(feature = "kafka")]
pub mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::sources::Stop;

/// Partitions of messages.
#[async_trait]
pub trait Log: Send {
    /// Connects, checks that the offsets can be had, and begins there; a partition without one begins at `begin`. The
    /// answer names the partitions: their place in it is what [`Entry::partition`] says.
    async fn open(&mut self, offsets: &Offsets, begin: Begin) -> Result<Vec<Partition>, Fault>;

    /// The next messages, those of one partition in order: at least one; waits until there is one. A call that is
    /// dropped while it waits loses nothing.
    async fn next(&mut self) -> Result<Vec<Entry>, Fault>;

    /// Stops or goes on reading a partition.
    fn pause(&mut self, partition: usize, paused: bool) -> Result<(), Fault>;

    /// Asks where the log ends, also while it is not open and when it is gone.
    fn ends(&self) -> Ends;

    /// What goes into [`TopicOffsets::identity`] of an open topic.
    fn identity(&self, _topic: &str) -> Option<String> {
        None
    }
}

/// The offset behind the last message of each partition, now; blocks as long as the log's server lets it wait.
pub type Ends = Arc<dyn Fn() -> Result<Offsets, Fault> + Send + Sync>;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the answer of [`Log::open`].
    pub partition: usize,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// As the log has it, milliseconds since the epoch.
    pub written_ms: Option<i64>,
    /// The first line of a file.
    pub begins_file: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub topic: String,
    pub number: i32,
    /// Where it begins to be read.
    pub next: i64,
    /// One past its last message when the log was opened.
    pub end: i64,
}

/// Where to go on: a part of a source's position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    pub topics: BTreeMap<String, TopicOffsets>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicOffsets {
    /// What tells a topic from another of the same name, where the log has such a thing.
    pub identity: Option<String>,
    /// The next offset to read of each partition.
    pub next: BTreeMap<i32, i64>,
}

/// Where a partition without an offset begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    #[default]
    Earliest,
    Latest,
    /// At the first message written at or after this time, milliseconds since the epoch.
    Time(i64),
    /// At these offsets; a partition that has none as `others` says, and there must be none such where it does not.
    Offsets {
        named: BTreeMap<NamedPartition, i64>,
        others: Option<Others>,
    },
}

/// The code of a topic that got partitions.
pub const PARTITIONS_ADDED: &str = "PARTITIONS_ADDED";

/// What becomes of partitions that a topic gets after it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Added {
    /// The log stops.
    #[default]
    Stop,
    /// Those that there are when it is opened next are read; it stops at later ones.
    Once,
    /// They are read.
    Read,
}

/// A topic and the number of a partition; `None`: the only topic.
pub type NamedPartition = (Option<String>, i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Earliest,
    Latest,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The link, the server: it may come back.
    #[error("cannot {action}: {reason}")]
    Lost { action: &'static str, reason: String },
    #[error("{}", .0.message)]
    Stop(Box<Stop>),
}
