//! TiCDC's canal-json and flat JSON of Alibaba's Canal: one shape, told apart by TiCDC's `_tidb`.
//!
//! Of a message with several JSON texts or several rows all is said or, with an error, nothing. Values are read by the
//! table's schema: what the message says of types (`sqlType`, `mysqlType`) differs between versions and rows and is
//! passed over. Of an UPDATE's old row only the key is read, unless the key changed.

mod message;
mod row;

use serde::de::DeserializeSeed;

use self::message::{Envelope, Extension, Reader};
use super::claim::CLAIM_CHECK;
use super::inflate::inflate;
use super::past::Past;
use super::wire::{CLAIMED_MESSAGES, LARGE_MESSAGES};
use super::{BadMessage, Decode, Message, Op, RowChange, Said, SchemaChange, Settings, Tables, tso_ms};
use crate::sources::mysql::gtid::GtidSet;

/// Decodes one feed.
#[derive(Debug)]
pub struct Canal {
    settings: Settings,
    expects: Expects,
    rows: row::Rows,
    past: Past,
}

/// Who writes the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// TiCDC with `enable-tidb-extension`: every message has its time.
    TiCdc,
    /// TiCDC, where rows without a time are taken as well: each is right, none is consistent with another.
    TiCdcRowLevel,
    /// Alibaba's Canal, which has no times.
    Official,
    /// Either, message by message.
    Either,
}

/// At most this much of what the JSON reader says is shown.
const REASON_CHARS_MAX: usize = 200;

impl Canal {
    pub fn new(settings: Settings, expects: Expects) -> Canal {
        let rows = row::Rows::new(settings.time_zone_seconds);
        Canal { settings, expects, rows, past: Past::default() }
    }

    fn read(&mut self, value: &[u8], tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let bytes = inflate(self.settings.compression, value)?;
        // Checked once, texts inside need not be checked each.
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let at = e.valid_up_to();
            BadMessage::malformed(format!("no UTF-8 at byte {at}: is the value compressed?"))
        })?;
        let mut json = serde_json::Deserializer::from_str(text);
        loop {
            let message = Reader(tables).deserialize(&mut json).map_err(no_json)?;
            self.say(message, tables, said)?;
            if json.end().is_ok() {
                return Ok(());
            }
        }
    }

    fn say(&mut self, message: Envelope, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        if message.extension.is_some() && self.expects == Expects::Official {
            return Err(BadMessage {
                code: "FEED_MISTAKEN",
                reason: "a message of TiCDC (`_tidb`) in a feed that was said to be Alibaba Canal's".into(),
                remedy: "create the source with FORMAT 'canal-json'".into(),
            });
        }
        let kind = message.kind.as_deref().unwrap_or_default();
        if !message.is_ddl && kind == "TIDB_WATERMARK" {
            let watermark = message.extension.and_then(|e| e.watermark_ts);
            let watermark =
                watermark.ok_or_else(|| BadMessage::malformed("a watermark without `_tidb.watermarkTs`"))?;
            said.push(Said::Watermark(watermark));
            return Ok(());
        }
        let large = message.extension.as_ref().and_then(too_large);
        if message.is_ddl {
            if self.past.has(message.gtid.as_deref())? {
                return Ok(());
            }
            let commit = self.commit(&message)?;
            let sql = message.sql.filter(|sql| !sql.is_empty());
            let sql = sql.ok_or_else(|| BadMessage::malformed("a statement without `sql`"))?.into_owned();
            let (database, table) = (message.database.unwrap_or_default(), message.table.unwrap_or_default());
            let (database, table) = (database.into_owned(), table.into_owned());
            said.push(Said::Schema(SchemaChange { commit, database, table, sql }));
            return Ok(());
        }
        match kind {
            "INSERT" | "UPDATE" | "DELETE" => self.say_rows(message, large, tables, said),
            // Older TiCDC writes a claim check without anything else.
            "" if large.is_some() => Err(large.unwrap_or_else(|| BadMessage::malformed("no `type`"))),
            // What was written as text beside the rows, and signs of life.
            "QUERY" | "GTID" | "MHEARTBEAT" | "XACOMMIT" => Ok(()),
            "XAROLLBACK" => Err(BadMessage {
                code: "XA_ROLLED_BACK",
                reason: "Canal sent the rows of an XA transaction when it was prepared, and it was rolled back".into(),
                remedy: "create the source again; use no XA transactions on tables that Canal reads".into(),
            }),
            "" => Err(BadMessage::malformed("no `type`")),
            other => Err(BadMessage::malformed(format!("unknown type {}", super::text::shown(other)))),
        }
    }

    fn say_rows(
        &mut self,
        message: Envelope,
        large: Option<BadMessage>,
        tables: &Tables,
        said: &mut Vec<Said>,
    ) -> Result<(), BadMessage> {
        let commit = self.commit(&message)?;
        let (Some(database), Some(name)) = (&message.database, &message.table) else {
            return Err(large.unwrap_or_else(|| BadMessage::malformed("a row without `database` or `table`")));
        };
        let Some(table) = tables.find(database, name) else { return Ok(()) };
        if self.past.has(message.gtid.as_deref())? {
            return Ok(());
        }
        let (place, table) = (table, tables.get(table));
        let committed_ms = message.es.or(commit.map(tso_ms));
        let mut put = |op| {
            said.push(Said::Row(RowChange { table: place, op, commit, transaction: None, committed_ms }));
        };
        let kind = message.kind.as_deref().unwrap_or_default();
        let data = match message.data.filter(|data| data.len() > 0) {
            Some(data) => data,
            None => return Err(no_rows(kind, database, name, message.sql.as_deref())),
        };
        if kind == "DELETE" {
            for i in 0..data.len() {
                // A row too large for its message is still found by its key.
                let row = self.rows.keyed(table, data.row(i));
                put(Op::Delete(row.map_err(|e| large.clone().filter(|_| e.code == "ROW_INCOMPLETE").unwrap_or(e))?));
            }
            return Ok(());
        }
        if let Some(large) = large {
            return Err(large);
        }
        if kind == "INSERT" {
            for i in 0..data.len() {
                put(Op::Insert(self.rows.complete(table, data.row(i))?));
            }
            return Ok(());
        }
        let old = message.old.filter(|old| old.len() == data.len());
        let old = old.ok_or_else(|| BadMessage::malformed("an UPDATE whose `old` has not a row for each of `data`"))?;
        for i in 0..data.len() {
            self.rows.updated(table, data.row(i), old.row(i), &mut put)?;
        }
        Ok(())
    }

    /// The time of a message that must have one, and of one that may.
    fn commit(&self, message: &Envelope) -> Result<Option<u64>, BadMessage> {
        match (&message.extension, self.expects) {
            (Some(Extension { commit_ts: Some(commit), .. }), _) => Ok(Some(*commit)),
            (_, Expects::TiCdcRowLevel) => Ok(None),
            (Some(_), _) => Err(BadMessage::malformed("`_tidb` has no commitTs")),
            (None, Expects::TiCdc) if message.id > 0 => Err(BadMessage {
                code: "FEED_WITHOUT_TIME",
                reason: "the message is of Alibaba's Canal, which does not say which transaction a row is of".into(),
                remedy:
                    "create the source again with CONSISTENCY 'row': each row is then shown as some message left it"
                        .into(),
            }),
            (None, Expects::TiCdc) => Err(BadMessage {
                code: "FEED_WITHOUT_TIME",
                reason: "a message without `_tidb`: without commit timestamps no transaction can be put together"
                    .into(),
                remedy:
                    "add `enable-tidb-extension=true` to the changefeed's sink URI: `cdc cli changefeed pause -c ID`, \
                    `cdc cli changefeed update -c ID --sink-uri='…&enable-tidb-extension=true'`, \
                    `cdc cli changefeed resume -c ID`; then create the source again"
                        .into(),
            }),
            (None, _) => Ok(None),
        }
    }
}

impl Decode for Canal {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let Some(value) = message.value else { return Ok(()) };
        let before = said.len();
        let read = self.read(value, tables, said);
        if read.is_err() {
            said.truncate(before);
        }
        read
    }

    fn pass_over(&mut self, set: GtidSet) {
        self.past = Past::of(set);
    }

    fn claimed(&self, message: Message<'_>) -> Option<String> {
        let bytes = inflate(self.settings.compression, message.value?).ok()?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let message = Reader(&Tables::default()).deserialize(&mut json).ok()?;
        // Of several texts one would stand for all.
        json.end().ok()?;
        let location = message.extension?.claim_check_location?.into_owned();
        Some(location).filter(|location| !location.is_empty())
    }
}

fn no_json(e: serde_json::Error) -> BadMessage {
    let reason: String = e.to_string().chars().take(REASON_CHARS_MAX).collect();
    BadMessage::malformed(format!("no canal-json: {reason}"))
}

/// What is wrong with a message that stands for a row too large for it.
fn too_large(extension: &Extension) -> Option<BadMessage> {
    let location = extension.claim_check_location.as_deref().filter(|location| !location.is_empty());
    let (code, reason, remedy) = match (location, extension.only_handle_key) {
        (Some(location), _) => {
            let reason = format!("a row was too large, and lies in {}", super::text::shown(location));
            (CLAIM_CHECK, reason, CLAIMED_MESSAGES)
        }
        (None, Some(true)) => {
            let reason = "a row was too large, and the message has only its key".to_string();
            ("HANDLE_KEY_ONLY", reason, LARGE_MESSAGES)
        }
        _ => return None,
    };
    Some(BadMessage { code, reason, remedy: remedy.into() })
}

fn no_rows(kind: &str, database: &str, table: &str, sql: Option<&str>) -> BadMessage {
    match sql.filter(|sql| !sql.is_empty()) {
        None => BadMessage::malformed(format!("an {kind} of {database}.{table} without `data`")),
        Some(sql) => BadMessage {
            code: "STATEMENT_CHANGE",
            reason: format!("{database}.{table} was changed by a statement in the binlog: {}", super::text::shown(sql)),
            remedy: "set binlog_format = ROW on the MySQL server, then create the source again".into(),
        },
    }
}
