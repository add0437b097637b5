//! REPLAY QUARANTINE: kept messages read again, and applied where that is certainly right.
//!
//! A feed says what a row is and not since when: a row from an old message could overwrite a newer one, and bring back
//! one that was deleted. A row that is its message's place has neither: there is one message for it, ever. Such rows
//! are put, and their messages leave the quarantine, in one tick: after a crash a message is there, or its row is.
//! All others stay, with what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use futures::StreamExt;
use sqlparser::ast;

use crate::catalog::feed::{Feed, FeedFormat};
use crate::catalog::object::{Object, ObjectKind, Source, Table};
use crate::engine::Core;
use crate::engine::changefeeds::decoder;
use crate::engine::dml::select_query;
use crate::engine::error::{EngineError, ErrorKind};
use crate::plan::statement::Name;
use crate::row::datum::Datum;
use crate::sources::changefeed::messages::learn;
use crate::sources::changefeed::quarantine::KEPT_BYTES_MAX;
use crate::sources::changefeed::upserts::{columns, key_text};
use crate::sources::formats::plain::place;
use crate::sources::formats::{Decode, Message, Op, Row, Said, Tables};
use crate::sources::registry::Registry;
use crate::store::{Changes, Upsert, Write};

/// Messages whose rows become one tick.
const MESSAGES_A_TICK_MAX: usize = 256;

pub const REPLAY_COLUMNS: [&str; 5] = ["topic", "partition", "offset", "outcome", "reason"];

/// What became of a message.
enum Outcome {
    /// Rows by table; none where it says nothing.
    Replayed(Vec<(usize, Row)>),
    Unreadable(String),
    /// It can be read, and cannot be applied.
    Refused(String),
}

/// A source's messages, and how they are read.
struct Replay {
    quarantine: Table,
    tables: Tables,
    decode: Box<dyn Decode>,
    registry: Option<Arc<dyn Registry>>,
    feed: Feed,
}

/// A message of the quarantine.
struct Kept {
    topic: String,
    partition: i32,
    offset: i64,
    written_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    value_bytes: Option<i64>,
}

impl Core {
    /// A line a message.
    pub async fn replay_quarantine(
        &self,
        name: &Name,
        predicate: Option<&ast::Expr>,
        text: &str,
    ) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        let Object::Source(source) = self.resolve_kind(name, ObjectKind::Source)? else {
            unreachable!("resolved as a source")
        };
        let mut replay = self.replay_of(&source, name)?;
        // As a DELETE: what is read is what is deleted.
        let _writer = Arc::clone(&self.writer).lock_owned().await;
        let point = self.read_point().await?;
        let lowered = self.lower_write(&select_query(&replay.quarantine, predicate)?, text)?;
        let mut rows = self.select(lowered, &[], &point).await?;
        let mut lines = Vec::new();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            for from in (0..batch.num_rows()).step_by(MESSAGES_A_TICK_MAX) {
                let count = MESSAGES_A_TICK_MAX.min(batch.num_rows() - from);
                let messages = batch.slice(from, count);
                replay.learn(&messages).await?;
                let upserts = replay.read(&messages, &mut lines)?;
                if !upserts.is_empty() {
                    self.send_tick(vec![], Changes::upserts(upserts)).await?;
                }
            }
        }
        Ok(lines)
    }

    fn replay_of(&self, source: &Source, name: &Name) -> Result<Replay, EngineError> {
        let (quarantine, tables) = {
            let catalog = self.lock_catalog();
            let Some(quarantine) = catalog.quarantine(source).cloned() else {
                let message = format!("source {} keeps no messages that it cannot read", source.name);
                let hint = "ON BAD MESSAGE QUARANTINE of CREATE SOURCE has it do so";
                return Err(EngineError::new(ErrorKind::WrongObject, message).hint(hint).at(name.at));
            };
            let tables = catalog.tables(source.id).map(|table| table.id);
            let tables: Vec<_> = tables.filter(|table| *table != quarantine.id).collect();
            (quarantine, tables)
        };
        if let Some(table) = tables.iter().chain([&quarantine.id]).find(|table| !self.store.is_loaded(**table)) {
            let message = format!("table {} has not been read yet", self.object_name(*table));
            return Err(EngineError::new(ErrorKind::NotReady, message).hint("SHOW SOURCES tells how far the source is"));
        }
        let feed = source.feed.clone().expect("only a changefeed keeps messages");
        let followed = self.followed(&tables).into_iter().flat_map(|(_, tables)| tables);
        let registry = self.registry_of(&self.connection(source.connection)?, &feed)?;
        Ok(Replay { quarantine, tables: Tables::new(followed), decode: decoder(&feed), registry, feed })
    }
}

impl Replay {
    /// Has the decoder told of the schemas that messages are written by.
    async fn learn(&mut self, messages: &RecordBatch) -> Result<(), EngineError> {
        for at in 0..messages.num_rows() {
            let kept = Kept::of(messages, &self.quarantine, at);
            let registry = self.registry.as_deref();
            let learned = learn(&mut *self.decode, registry, &kept.message(), &self.tables).await;
            learned.map_err(|fault| EngineError::new(ErrorKind::Connection, fault.to_string()))?;
        }
        Ok(())
    }

    /// What becomes of each message, as lines; and what is to be written, both rows and messages.
    fn read(
        &mut self,
        messages: &RecordBatch,
        lines: &mut Vec<Vec<Option<String>>>,
    ) -> Result<Vec<(crate::row::ObjectId, Upsert)>, EngineError> {
        let mut rows: BTreeMap<usize, Vec<(Row, Write)>> = BTreeMap::new();
        let mut done = Vec::new();
        for at in 0..messages.num_rows() {
            let kept = Kept::of(messages, &self.quarantine, at);
            let (outcome, reason) = match self.outcome(&kept) {
                Outcome::Replayed(said) => {
                    said.into_iter().for_each(|(table, row)| rows.entry(table).or_default().push((row, Write::Put)));
                    done.push(at as u32);
                    ("replayed", None)
                }
                Outcome::Unreadable(reason) => ("unreadable", Some(reason)),
                Outcome::Refused(reason) => ("refused", Some(reason)),
            };
            let Kept { topic, partition, offset, .. } = kept;
            let place = [topic, partition.to_string(), offset.to_string(), outcome.to_string()];
            lines.push(place.into_iter().map(Some).chain([reason]).collect());
        }
        let mut upserts = Vec::new();
        for (table, rows) in rows {
            let followed = &self.tables.get(table).followed;
            let columns = columns(&rows, followed).map_err(|e| EngineError::new(ErrorKind::Internal, e))?;
            upserts.push((followed.id, columns));
        }
        if !done.is_empty() {
            let writes = vec![Write::Delete; done.len()];
            let taken = arrow::compute::take_record_batch(messages, &UInt32Array::from(done));
            let taken = taken.map_err(|e| EngineError::new(ErrorKind::Internal, e.to_string()))?;
            let columns: Vec<ArrayRef> = taken.columns().to_vec();
            upserts.push((self.quarantine.id, Upsert::Rows { columns, writes }));
        }
        Ok(upserts)
    }

    fn outcome(&mut self, kept: &Kept) -> Outcome {
        if kept.value_bytes.is_some_and(|bytes| bytes > KEPT_BYTES_MAX as i64) {
            return Outcome::Unreadable("only the beginning of the message is kept".to_string());
        }
        if self.feed.format == FeedFormat::Simple {
            let reason = "a message of the simple protocol is read with the descriptions of tables before it";
            return Outcome::Refused(reason.to_string());
        }
        if self.feed.csv.header {
            let reason = "with HEADER it may be a file's first line, which is no row: that is not kept of a message";
            return Outcome::Refused(reason.to_string());
        }
        let mut said = Vec::new();
        if let Err(bad) = self.decode.decode(kept.message(), &self.tables, &mut said) {
            return Outcome::Unreadable(format!("{}: {}", bad.code, bad.reason));
        }
        let mut rows = Vec::new();
        for said in said {
            match said {
                Said::Row(change) => match self.row(change.table, change.op) {
                    Ok(row) => rows.push((change.table, row)),
                    Err(outcome) => return outcome,
                },
                Said::Schema(_) | Said::Watermark(_) | Said::Mark(_) => {
                    return Outcome::Refused("it is not of a row: what came behind it has been shown".to_string());
                }
            }
        }
        Outcome::Replayed(rows)
    }

    /// A row that may be put.
    fn row(&self, table: usize, op: Op) -> Result<Row, Outcome> {
        let followed = &self.tables.get(table).followed;
        let name = format!("{}.{}", followed.database, followed.name);
        match op {
            Op::Put(row) if place::is_append(&followed.schema) => {
                let said = [(row, Write::Put)];
                columns(&said, followed).map_err(|e| Outcome::Unreadable(format!("VALUE_UNREADABLE: {e}")))?;
                let [(row, _)] = said;
                Ok(row)
            }
            Op::Put(row) | Op::Insert(row) | Op::Update(row) | Op::Delete(row) => {
                let key = key_text(&row, followed);
                Err(Outcome::Refused(format!(
                    "it is of row ({key}) of {name}, of which a later change may have been shown: change the row \
                     upstream, and its new message says what it is"
                )))
            }
            Op::Truncate => Err(Outcome::Refused(format!("it empties {name}, of which later rows have been shown"))),
        }
    }
}

impl Kept {
    fn of(messages: &RecordBatch, table: &Table, at: usize) -> Kept {
        let datum = |name: &str| {
            let column = table.schema.position(name).expect("a column of the quarantine");
            Datum::of(messages.column(column), &table.schema.columns[column].sql_type, at)
        };
        let number = |name: &str| match datum(name) {
            Datum::Int(number) => Some(number),
            _ => None,
        };
        let bytes = |name: &str| match datum(name) {
            Datum::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        Kept {
            topic: match datum("topic") {
                Datum::Text(topic) => topic,
                other => unreachable!("a topic is a text, not {other:?}"),
            },
            partition: number("partition").and_then(|n| n.try_into().ok()).expect("an INT"),
            offset: number("offset").expect("a BIGINT"),
            written_ms: match datum("written_at") {
                Datum::Timestamp(micros) => Some(micros / 1000),
                _ => None,
            },
            key: bytes("key"),
            value: bytes("value"),
            value_bytes: number("value_bytes"),
        }
    }

    fn message(&self) -> Message<'_> {
        Message {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            written_ms: self.written_ms,
            begins_file: false,
        }
    }
}
