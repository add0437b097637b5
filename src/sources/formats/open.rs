//! TiCDC's open protocol: batches of events, a key and a value each, behind 8-byte lengths.
//!
//! Written from TiCDC's document "TiCDC Open Protocol". What it does not tell:
//! - the value of a resolved event is nothing, one zero length, or a word like `none`;
//! - an UPDATE whose changefeed keeps old values to itself looks like an INSERT, so `u` alone sets the row;
//! - `p` may lack the columns that did not change, `d` those outside the key;
//! - a DDL event comes once in every partition.

mod column;

use std::borrow::Cow;

use super::inflate::inflate;
use super::scan::Scanner;
use super::wire::{self, Image};
use super::{BadMessage, Decode, Message, Op, Said, SchemaChange, Settings, TableOf, Tables};

const VERSION: u64 = 1;
const LENGTH_BYTES: usize = 8;

// Event types in keys.
const ROW: u64 = 1;
const DDL: u64 = 2;
const RESOLVED: u64 = 3;

/// TiDB's action code of TRUNCATE TABLE.
const TRUNCATE_TABLE: u64 = 11;

/// Reads messages of TiCDC's open protocol.
pub struct OpenProtocol {
    settings: Settings,
}

impl OpenProtocol {
    pub fn new(settings: Settings) -> OpenProtocol {
        OpenProtocol { settings }
    }
}

impl Decode for OpenProtocol {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let before = said.len();
        let result = self.batch(message, tables, said);
        if result.is_err() {
            // A batch is read whole or not at all.
            said.truncate(before);
        }
        result
    }

    fn claimed(&self, message: Message<'_>) -> Option<String> {
        let mut keys = message.key?;
        number(&mut keys)?;
        let key = Key::read(piece(&mut keys, "key").ok()?).ok()?;
        // Of several events one would stand for all.
        key.claim_check.filter(|_| keys.is_empty())
    }
}

impl OpenProtocol {
    fn batch(&self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let mut keys = message.key.ok_or_else(|| BadMessage::malformed("an open-protocol message without a key"))?;
        let mut values = message.value.unwrap_or_default();
        let version = number(&mut keys).ok_or_else(|| BadMessage::malformed("a key too short for its version"))?;
        if version != VERSION {
            return Err(BadMessage::malformed(format!("version {version} of the open protocol: {VERSION} is known")));
        }
        if keys.is_empty() {
            return Err(BadMessage::malformed("a batch without events"));
        }
        while !keys.is_empty() {
            let key = Key::read(piece(&mut keys, "key")?)?;
            if key.event == RESOLVED && keys.is_empty() && is_nothing(values) {
                values = &[];
                said.push(Said::Watermark(key.ts));
                continue;
            }
            if values.is_empty() {
                return Err(BadMessage::malformed("a batch with fewer values than keys"));
            }
            self.event(key, piece(&mut values, "value")?, tables, said)?;
        }
        match values.is_empty() {
            true => Ok(()),
            false => Err(BadMessage::malformed("a batch with more values than keys")),
        }
    }

    fn event(&self, key: Key<'_>, value: &[u8], tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        match key.event {
            ROW => {
                let Some(table) = tables.find(&key.schema, &key.table) else { return Ok(()) };
                let ops = self.row(&key, value, tables.get(table))?;
                said.extend(ops.into_iter().map(|op| wire::change(table, op, key.ts)));
            }
            DDL => {
                let value = inflate(self.settings.compression, value)?;
                let (sql, action) = ddl(&value)?;
                let table = tables.find(&key.schema, &key.table);
                said.push(match table.filter(|_| action == TRUNCATE_TABLE) {
                    Some(table) => wire::change(table, Op::Truncate, key.ts),
                    None => Said::Schema(SchemaChange {
                        commit: Some(key.ts),
                        database: key.schema.into_owned(),
                        table: key.table.into_owned(),
                        sql,
                    }),
                });
            }
            RESOLVED => said.push(Said::Watermark(key.ts)),
            other => return Err(BadMessage::malformed(format!("an event of unknown type {other}"))),
        }
        Ok(())
    }

    fn row(&self, key: &Key<'_>, value: &[u8], table: &TableOf) -> Result<Vec<Op>, BadMessage> {
        let name = format!("{}.{}", key.schema, key.table);
        if key.corrupted {
            return Err(wire::corrupted(&name));
        }
        let too_large = wire::too_large(&name, key.only_handle_key, key.claim_check.as_deref());
        let value = inflate(self.settings.compression, value)?;
        match (Images::read(&value, table, self.settings.time_zone_seconds)?, too_large) {
            (Images { new: None, old: None, deleted: Some(deleted) }, too_large) => {
                Ok(vec![deleted.deleted(table, too_large)?])
            }
            (_, Some(too_large)) => Err(too_large),
            (Images { new: Some(new), old, deleted: None }, None) => {
                let after = new.complete(table)?;
                match old {
                    Some(old) => Ok(table.update(old.filled_from(&after), after).collect()),
                    // An INSERT, or an UPDATE of a feed without old values.
                    None => Ok(vec![Op::Put(after)]),
                }
            }
            _ => Err(BadMessage::malformed(format!("a row of {name} that is neither set nor deleted"))),
        }
    }
}

/// An event's key.
struct Key<'a> {
    ts: u64,
    event: u64,
    schema: Cow<'a, str>,
    table: Cow<'a, str>,
    only_handle_key: bool,
    claim_check: Option<String>,
    corrupted: bool,
}

impl<'a> Key<'a> {
    fn read(bytes: &'a [u8]) -> Result<Key<'a>, BadMessage> {
        let (mut ts, mut event) = (None, None);
        let mut key = Key {
            ts: 0,
            event: 0,
            schema: "".into(),
            table: "".into(),
            only_handle_key: false,
            claim_check: None,
            corrupted: false,
        };
        let mut scanner = Scanner::new(bytes)?;
        scanner.object(|name, value| {
            match name {
                "ts" => ts = Some(value.u64_of("ts")?),
                "t" => event = Some(value.u64_of("t")?),
                "scm" => key.schema = value.text_of("scm")?,
                "tbl" => key.table = value.text_of("tbl")?,
                "ohk" => key.only_handle_key = value.value()?.is_true(),
                "ccl" => key.claim_check = Some(value.text_of("ccl")?.into_owned()).filter(|l| !l.is_empty()),
                "corrupted" => key.corrupted = value.value()?.is_true(),
                // `rid` and `ptn` tell which partition of a partitioned table it was: a row's key tells enough.
                _ => drop(value.value()?),
            }
            Ok(())
        })?;
        scanner.end()?;
        key.ts = ts.ok_or_else(|| BadMessage::malformed("an event's key without `ts`"))?;
        key.event = event.ok_or_else(|| BadMessage::malformed("an event's key without `t`"))?;
        if key.event == ROW && (key.schema.is_empty() || key.table.is_empty()) {
            return Err(BadMessage::malformed("a row's key without `scm` or `tbl`"));
        }
        Ok(key)
    }
}

/// A row event's value: `u`, `p` and `d`.
#[derive(Default)]
struct Images {
    new: Option<Image>,
    old: Option<Image>,
    deleted: Option<Image>,
}

impl Images {
    fn read(bytes: &[u8], table: &TableOf, zone_seconds: i32) -> Result<Images, BadMessage> {
        let mut images = Images::default();
        let mut scanner = Scanner::new(bytes)?;
        scanner.object(|name, value| {
            let image = match name {
                "u" => &mut images.new,
                "p" => &mut images.old,
                "d" => &mut images.deleted,
                _ => return value.value().map(drop),
            };
            match image.replace(column::image(value, table, zone_seconds)?) {
                None => Ok(()),
                Some(_) => Err(BadMessage::malformed(format!("`{name}` stands twice in a row"))),
            }
        })?;
        scanner.end()?;
        Ok(images)
    }
}

/// A DDL event's statement and action code.
fn ddl(bytes: &[u8]) -> Result<(String, u64), BadMessage> {
    let (mut sql, mut action) = (None, None);
    let mut scanner = Scanner::new(bytes)?;
    scanner.object(|name, value| {
        match name {
            "q" => sql = Some(value.text_of("q")?.into_owned()),
            "t" => action = Some(value.u64_of("t")?),
            _ => drop(value.value()?),
        }
        Ok(())
    })?;
    scanner.end()?;
    let missing = |what: &str| BadMessage::malformed(format!("a DDL event without `{what}`"));
    Ok((sql.ok_or_else(|| missing("q"))?, action.ok_or_else(|| missing("t"))?))
}

/// True for the value of a resolved event that stands alone in its batch.
fn is_nothing(value: &[u8]) -> bool {
    let word = |bytes: &[u8]| ["", "none", "null"].iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()));
    let mut rest = value;
    let framed = number(&mut rest).is_some_and(|length| length == rest.len() as u64 && word(rest));
    word(value) || framed
}

/// Cuts an 8-byte number off.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*head))
}

/// Cuts a length and that many bytes off.
fn piece<'a>(bytes: &mut &'a [u8], what: &str) -> Result<&'a [u8], BadMessage> {
    let length = number(bytes).ok_or_else(|| BadMessage::malformed(format!("a {what} cut off in its length")))?;
    let cut = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (piece, rest) =
        cut.ok_or_else(|| BadMessage::malformed(format!("a {what} of {length} bytes where {} are left", bytes.len())))?;
    *bytes = rest;
    Ok(piece)
}
