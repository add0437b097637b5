//! TiCDC's simple protocol in JSON: one event a message, values as text, tables described apart.
//!
//! Written from TiCDC's document "TiCDC Simple Protocol". Rows say which version of their table they were written
//! under; BOOTSTRAP and DDL messages describe the versions. A row of a version that was described otherwise than the
//! table is followed is refused: a number of an ENUM that got other labels would be read as the wrong one.

mod described;

use std::borrow::Cow;

use super::inflate::inflate;
use super::scan::{Scanner, Value};
use super::text;
use super::wire::{self, Image};
use super::{BadMessage, Decode, Message, Op, Said, SchemaChange, Settings, TableOf, Tables};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::row::types::SqlType;
use described::Described;

const VERSION: u64 = 1;

/// Reads messages of TiCDC's simple protocol.
pub struct Simple {
    settings: Settings,
    described: Described,
}

impl Simple {
    pub fn new(settings: Settings) -> Simple {
        Simple { settings, described: Described::default() }
    }
}

impl Decode for Simple {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let value = message.value.ok_or_else(|| BadMessage::malformed("a simple-protocol message without a value"))?;
        let value = inflate(self.settings.compression, value)?;
        let event = Event::read(&value)?;
        match &*event.kind {
            "WATERMARK" => said.push(Said::Watermark(event.commit()?)),
            "BOOTSTRAP" => {
                let schema = event.schema.ok_or_else(|| BadMessage::malformed("BOOTSTRAP without `tableSchema`"))?;
                self.described.note(schema, tables)?;
            }
            "INSERT" | "UPDATE" | "DELETE" => self.row(&event, tables, said)?,
            "CREATE" | "RENAME" | "CINDEX" | "DINDEX" | "ERASE" | "TRUNCATE" | "ALTER" | "QUERY" => {
                said.push(self.ddl(event, tables)?);
            }
            other => return Err(BadMessage::malformed(format!("a message of unknown type {}", text::shown(other)))),
        }
        Ok(())
    }

    fn claimed(&self, message: Message<'_>) -> Option<String> {
        let value = inflate(self.settings.compression, message.value?).ok()?;
        Event::read(&value).ok()?.claim_check
    }
}

impl Simple {
    fn ddl(&mut self, event: Event<'_>, tables: &Tables) -> Result<Said, BadMessage> {
        let commit = event.commit()?;
        // A table that is renamed is followed under its old name, so that name counts where there are two.
        let mut name = (String::new(), String::new());
        for schema in [event.schema, event.schema_before].into_iter().flatten() {
            name = self.described.note(schema, tables)?;
        }
        let table = tables.find(&name.0, &name.1);
        Ok(match table.filter(|_| event.kind == "TRUNCATE") {
            Some(table) => wire::change(table, Op::Truncate, commit),
            None => {
                let sql = event.sql.ok_or_else(|| BadMessage::malformed(format!("{} without `sql`", event.kind)))?;
                let (database, table) = name;
                Said::Schema(SchemaChange { commit: Some(commit), database, table, sql: sql.into_owned() })
            }
        })
    }

    fn row(&self, event: &Event<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let (Some(database), Some(name)) = (&event.database, &event.table) else {
            return Err(BadMessage::malformed(format!("{} without `database` or `table`", event.kind)));
        };
        let Some(at) = tables.find(database, name) else { return Ok(()) };
        let (table, commit) = (tables.get(at), event.commit()?);
        let full_name = format!("{database}.{name}");
        if event.corrupted {
            return Err(wire::corrupted(&full_name));
        }
        if let Some(difference) = event.schema_version.and_then(|version| self.described.difference(at, version)) {
            return Err(wire::schema_changed(format!("a row of {full_name}: {difference}")));
        }
        let too_large = wire::too_large(&full_name, event.handle_key_only, event.claim_check.as_deref());
        let ops: Vec<Op> = match (&*event.kind, event.data, event.old, too_large) {
            ("DELETE", None, Some(old), too_large) => vec![self.image(old, table)?.deleted(table, too_large)?],
            (.., Some(too_large)) => return Err(too_large),
            ("INSERT", Some(data), None, None) => vec![Op::Insert(self.image(data, table)?.complete(table)?)],
            ("UPDATE", Some(data), Some(old), None) => {
                let after = self.image(data, table)?.complete(table)?;
                table.update(self.image(old, table)?.filled_from(&after), after).collect()
            }
            ("UPDATE", Some(data), None, None) => vec![Op::Put(self.image(data, table)?.complete(table)?)],
            (kind, ..) => {
                let reason = format!("{kind} of {full_name} with the wrong of `data` and `old`");
                return Err(BadMessage::malformed(reason));
            }
        };
        said.extend(ops.into_iter().map(|op| wire::change(at, op, commit)));
        Ok(())
    }

    fn image(&self, object: &str, table: &TableOf) -> Result<Image, BadMessage> {
        let mut image = Image::new(table);
        Scanner::of(object).object(|name, value| {
            let value = value.value()?;
            let Some(at) = table.column(name) else { return Ok(()) };
            image.set(at, self.datum(value, &table.followed.schema.columns[at])?)
        })?;
        Ok(image)
    }

    fn datum(&self, value: Value<'_>, column: &Column) -> Result<Datum, BadMessage> {
        let bytes = matches!(column.sql_type, SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_));
        let zone_seconds = self.settings.time_zone_seconds;
        match value {
            Value::Null => wire::null(column),
            Value::Text(text) if bytes => wire::from_base64(&text, column),
            Value::Text(text) => wire::from_text(&text, column, zone_seconds),
            Value::Nested(object) if matches!(column.sql_type, SqlType::Timestamp(_)) => {
                let (mut location, mut text) = (None, None);
                Scanner::of(object).object(|name, value| {
                    match name {
                        "location" => location = Some(value.text_of(name)?),
                        "value" => text = Some(value.text_of(name)?),
                        _ => drop(value.value()?),
                    }
                    Ok(())
                })?;
                let text = text.ok_or_else(|| {
                    BadMessage::malformed(format!("column `{}`: a timestamp without `value`", column.name))
                })?;
                wire::from_text(&text, column, location.and_then(|l| text::utc_offset(&l)).unwrap_or(zone_seconds))
            }
            _ => Err(BadMessage::malformed(format!("column `{}` is no text", column.name))),
        }
    }
}

/// A message's members; rows and schemas are not read yet.
#[derive(Default)]
struct Event<'a> {
    kind: Cow<'a, str>,
    commit: Option<u64>,
    database: Option<Cow<'a, str>>,
    table: Option<Cow<'a, str>>,
    sql: Option<Cow<'a, str>>,
    schema_version: Option<u64>,
    data: Option<&'a str>,
    old: Option<&'a str>,
    schema: Option<&'a str>,
    schema_before: Option<&'a str>,
    handle_key_only: bool,
    claim_check: Option<String>,
    corrupted: bool,
}

impl<'a> Event<'a> {
    fn read(bytes: &'a [u8]) -> Result<Event<'a>, BadMessage> {
        let mut event = Event::default();
        let mut version = None;
        let mut scanner = Scanner::new(bytes)?;
        scanner.object(|name, value| {
            match name {
                "version" => version = Some(value.u64_of(name)?),
                "type" => event.kind = value.text_of(name)?,
                "commitTs" => event.commit = Some(value.u64_of(name)?),
                "database" => event.database = Some(value.text_of(name)?),
                "table" => event.table = Some(value.text_of(name)?),
                "sql" => event.sql = Some(value.text_of(name)?),
                "schemaVersion" => event.schema_version = Some(value.u64_of(name)?),
                "data" => event.data = object_of(value, name)?,
                "old" => event.old = object_of(value, name)?,
                "tableSchema" => event.schema = object_of(value, name)?,
                "preTableSchema" => event.schema_before = object_of(value, name)?,
                "handleKeyOnly" => event.handle_key_only = value.value()?.is_true(),
                "claimCheckLocation" => {
                    event.claim_check = Some(value.text_of(name)?.into_owned()).filter(|location| !location.is_empty());
                }
                "checksum" => {
                    if let Some(checksum) = object_of(value, name)? {
                        Scanner::of(checksum).object(|name, value| {
                            let marked = value.value()?.is_true();
                            event.corrupted |= name == "corrupted" && marked;
                            Ok(())
                        })?;
                    }
                }
                _ => drop(value.value()?),
            }
            Ok(())
        })?;
        scanner.end()?;
        match version {
            Some(VERSION) => Ok(event),
            Some(other) => {
                Err(BadMessage::malformed(format!("version {other} of the simple protocol: {VERSION} is known")))
            }
            None => Err(BadMessage::malformed("no message of the simple protocol: it has no `version`")),
        }
    }

    fn commit(&self) -> Result<u64, BadMessage> {
        self.commit.ok_or_else(|| BadMessage::malformed(format!("{} without `commitTs`", self.kind)))
    }
}

/// A member that is an object or null.
fn object_of<'a>(value: &mut Scanner<'a>, member: &str) -> Result<Option<&'a str>, BadMessage> {
    match value.value()? {
        Value::Nested(object) => Ok(Some(object)),
        Value::Null => Ok(None),
        _ => Err(BadMessage::malformed(format!("`{member}` is no object"))),
    }
}
