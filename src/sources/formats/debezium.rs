//! Debezium's JSON: its MySQL connector's events with or without schema, and TiCDC's alike.
//!
//! Three kinds of topic are told apart by what their messages are, not by their names, which a person may route: row
//! events (`op`), the transaction topic (`status`), the schema change topic (`ddl`). What the connector loses before
//! we see it: dates with a zero part come as NULL or the epoch, a NULL may come as the column's default where the JSON
//! converter's `replace.null.with.default` is left on, a TINYINT(1) above 1 as true where it is made a truth value.
//!
//! TiCDC's `debezium` protocol has `source.commit_ts`, and says watermarks as events with op `m`.

pub(super) mod document;
mod json;
mod modes;
mod semantic;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;

pub use self::modes::{Bigints, Binaries, Decimals, Modes, Times};

use self::json::{Members, Raw, member};
use self::semantic::{Fields, Semantic};
use super::TransactionMark;
use super::past::Past;
use super::{BadMessage, Decode, InTransaction, Message, Op, Row, RowChange, Said, SchemaChange, TableOf, Tables};
use crate::row::datum::Datum;
use crate::sources::mysql::gtid::GtidSet;

/// Reads one feed; it keeps the schemas it has seen, since each message repeats its own.
#[derive(Debug, Default)]
pub struct Debezium {
    modes: Modes,
    schemas: HashMap<usize, KnownSchema>,
    past: Past,
}

#[derive(Debug)]
struct KnownSchema {
    text: String,
    fields: Fields,
}

impl Debezium {
    pub fn new(modes: Modes) -> Debezium {
        Debezium { modes, schemas: HashMap::new(), past: Past::default() }
    }
}

impl Decode for Debezium {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let Some(value) = message.value else { return Ok(()) };
        let Some(Payload { schema, members }) = payload(value)? else { return Ok(()) };
        let text = |name: &str| member(&members, name).and_then(Raw::string);
        if let Some(op) = text("op") {
            return self.event(&op, Event::new(schema, &members, message.key)?, tables, said);
        }
        match text("status").as_deref() {
            Some("BEGIN") => said.push(Said::Mark(TransactionMark::Begin { id: transaction_id(&members)? })),
            Some("END") => said.push(Said::Mark(end(&members)?)),
            _ if members.iter().any(|(name, _)| name == "ddl") => {
                if !self.past.has(gtid(&source(&members)?).as_deref())? {
                    said.extend(schema_change(&members)?);
                }
            }
            _ if is_heartbeat(message.topic, &members) => {}
            _ => {
                let reason = "the message is no Debezium event: it has neither op nor status nor ddl";
                let remedy =
                    "send whole events: without the ExtractNewRecordState transformation, which cuts them down";
                return Err(BadMessage { remedy: remedy.into(), ..BadMessage::malformed(reason) });
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, set: GtidSet) {
        self.past = Past::of(set);
    }
}

struct Payload<'a> {
    schema: Option<Raw<'a>>,
    members: Members<'a>,
}

/// The payload, bare or beside its schema; `None`: a tombstone.
fn payload(bytes: &[u8]) -> Result<Option<Payload<'_>>, BadMessage> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadMessage::malformed("the message is not UTF-8"))?;
    let Some(members) = json::object(text).map_err(not_json)? else { return Ok(None) };
    let is_wrapper = members.iter().any(|(name, _)| name == "payload") && member(&members, "op").is_none();
    if !is_wrapper {
        return Ok(Some(Payload { schema: None, members }));
    }
    let Some(payload) = member(&members, "payload") else { return Ok(None) };
    Ok(Some(Payload { schema: member(&members, "schema"), members: payload.members().map_err(not_json)? }))
}

fn not_json(error: json::NotJson) -> BadMessage {
    BadMessage::malformed(error.to_string())
}

/// A row event taken apart, its values unread.
struct Event<'a> {
    schema: Option<Raw<'a>>,
    source: Members<'a>,
    before: Option<Raw<'a>>,
    after: Option<Raw<'a>>,
    transaction: Option<InTransaction>,
    key: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    fn new(schema: Option<Raw<'a>>, members: &Members<'a>, key: Option<&'a [u8]>) -> Result<Event<'a>, BadMessage> {
        Ok(Event {
            schema,
            source: source(members)?,
            before: member(members, "before"),
            after: member(members, "after"),
            transaction: member(members, "transaction").map(in_transaction).transpose()?,
            key,
        })
    }

    fn name(&self, what: &str) -> Result<Cow<'a, str>, BadMessage> {
        let name = member(&self.source, what).and_then(Raw::string);
        name.ok_or_else(|| BadMessage::malformed(format!("the event's source has no {what}")))
    }

    fn commit(&self) -> Option<u64> {
        member(&self.source, "commit_ts").and_then(Raw::unsigned)
    }
}

impl Debezium {
    fn event(&mut self, op: &str, event: Event<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        if op == "m" {
            // Debezium's own messages of this kind are the application's; TiCDC's are watermarks.
            said.extend(event.commit().map(Said::Watermark));
            return Ok(());
        }
        let Some(place) = tables.find(&event.name("db")?, &event.name("table")?) else { return Ok(()) };
        let table = tables.get(place);
        // Behind a copy, what Debezium's own snapshot reads is there, or comes as a change.
        if self.past.is_known() && (op == "r" || self.past.has(gtid(&event.source).as_deref())?) {
            return Ok(());
        }
        if self.modes.transactions && matches!(op, "c" | "u" | "d") {
            let known = event.transaction.is_some() || event.commit().is_some();
            known.then_some(()).ok_or_else(without_transaction)?;
        }
        let ops = self.ops(op, &event, place, table)?;
        let (commit, committed_ms) = (event.commit(), milliseconds(&event.source));
        let transaction = event.transaction;
        said.extend(ops.into_iter().map(|op| {
            Said::Row(RowChange { table: place, op, commit, transaction: transaction.clone(), committed_ms })
        }));
        Ok(())
    }

    fn ops(&mut self, op: &str, event: &Event<'_>, place: usize, table: &TableOf) -> Result<Vec<Op>, BadMessage> {
        if op == "t" {
            return Ok(vec![Op::Truncate]);
        }
        let modes = self.modes;
        let fields = match event.schema {
            Some(schema) => Some(self.fields(place, schema)?),
            None => None,
        };
        let reader = Reader { table, fields, modes };
        if op == "d" {
            return reader.deleted(event).map(|row| vec![Op::Delete(row)]);
        }
        let whole = |side: Option<Raw<'_>>| {
            let side = side.ok_or_else(|| BadMessage::malformed(format!("an event with op {op} has no after")))?;
            reader.row(side, Wanted::Whole)
        };
        match op {
            "c" => Ok(vec![Op::Insert(whole(event.after)?)]),
            "r" => Ok(vec![Op::Put(whole(event.after)?)]),
            "u" => {
                let after = whole(event.after)?;
                // TiCDC may leave the row before out; where it is there, its key tells whether the row moved.
                let Some(before) = event.before else { return Ok(vec![Op::Put(after)]) };
                let key = table.followed.schema.key.as_deref().unwrap_or_default();
                let old = reader.row(before, Wanted::KeyOnly)?;
                match key.iter().any(|&c| old[c] != after[c]) {
                    true => Ok(table.update(reader.row(before, Wanted::Key)?, after).collect()),
                    false => Ok(vec![Op::Update(after)]),
                }
            }
            _ => {
                let op: String = op.chars().take(20).collect();
                Err(BadMessage::malformed(format!("the event has the op {op:?}, which is none of Debezium's")))
            }
        }
    }

    /// What the message's schema says, read once as long as it stays the same.
    fn fields(&mut self, table: usize, schema: Raw<'_>) -> Result<&Fields, BadMessage> {
        let text = schema.text();
        if self.schemas.get(&table).is_none_or(|known| known.text != text) {
            let fields = semantic::fields(schema).map_err(not_json)?;
            self.schemas.insert(table, KnownSchema { text: text.to_string(), fields });
        }
        Ok(&self.schemas[&table].fields)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Every column, NULL only where the column may be.
    Whole,
    /// The key's columns; others are NULL where they are missing.
    Key,
    /// The key's columns; others are NULL and not read: most updates leave the key, and their row before is not needed.
    KeyOnly,
}

struct Reader<'a> {
    table: &'a TableOf,
    /// `None`: the message has no schema.
    fields: Option<&'a Fields>,
    modes: Modes,
}

impl Reader<'_> {
    /// The row that an event deletes: whole, or its key where only that is sent, in the message's key at the last.
    fn deleted(&self, event: &Event<'_>) -> Result<Row, BadMessage> {
        if let Some(before) = event.before {
            return self.row(before, Wanted::Key);
        }
        let missing = || self.incomplete("a DELETE has neither the row before nor a key");
        let Payload { schema, members } = payload(event.key.ok_or_else(missing)?)?.ok_or_else(missing)?;
        let fields = schema.map(semantic::columns).transpose().map_err(not_json)?;
        Reader { fields: fields.as_ref(), ..*self }.of_members(members, Wanted::Key)
    }

    fn row(&self, side: Raw<'_>, wanted: Wanted) -> Result<Row, BadMessage> {
        self.of_members(side.members().map_err(not_json)?, wanted)
    }

    fn of_members(&self, members: Members<'_>, wanted: Wanted) -> Result<Row, BadMessage> {
        let schema = &self.table.followed.schema;
        let mut row: Vec<Option<Datum>> = vec![None; schema.columns.len()];
        let in_key = |column: usize| schema.key.as_ref().is_none_or(|key| key.contains(&column));
        for (name, value) in members {
            let Some(column) = self.table.column(&name) else { continue };
            if wanted != Wanted::KeyOnly || in_key(column) {
                row[column] = Some(self.value(column, value)?);
            }
        }
        for (i, (column, value)) in schema.columns.iter().zip(&row).enumerate() {
            let needed = wanted == Wanted::Whole || in_key(i);
            match value {
                None if needed => return Err(self.incomplete(&format!("the message lacks column {}", column.name))),
                Some(Datum::Null) if needed && !column.nullable => {
                    return Err(self.incomplete(&format!("column {} is NOT NULL and has no value", column.name)));
                }
                _ => {}
            }
        }
        Ok(row.into_iter().map(|value| value.unwrap_or(Datum::Null)).collect())
    }

    fn value(&self, column: usize, value: Raw<'_>) -> Result<Datum, BadMessage> {
        if value.is_null() {
            return Ok(Datum::Null);
        }
        let column = &self.table.followed.schema.columns[column];
        let by_type;
        let semantic = match self.fields {
            Some(fields) => fields.get(&column.name).unwrap_or(&Semantic::Plain),
            None => {
                by_type = Semantic::of(&column.sql_type, &self.modes);
                &by_type
            }
        };
        let (name, sql_type) = (&column.name, &column.sql_type);
        if !semantic.carries(sql_type) {
            return Err(BadMessage {
                code: "SCHEMA_CHANGED",
                reason: format!("{} has {value} in column {name}, which is {sql_type}", self.name()),
                remedy: "create the source's table again with the columns that it has now".into(),
            });
        }
        value::datum(value, sql_type, semantic, &self.modes).ok_or_else(|| BadMessage {
            code: "BAD_MESSAGE",
            reason: format!("{} has {value} in column {name}, which is no value of {sql_type}", self.name()),
            remedy: match self.fields {
                Some(_) => "compare the column's type with the table's; mend or remove the message".into(),
                None => "name the connector's handling modes as they are set, or have it send schemas".into(),
            },
        })
    }

    fn incomplete(&self, what: &str) -> BadMessage {
        BadMessage {
            code: "ROW_INCOMPLETE",
            reason: format!("{}: {what}", self.name()),
            remedy: "set binlog_row_image=FULL upstream and let the connector send every followed column".into(),
        }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.table.followed.database, self.table.followed.name)
    }
}

fn without_transaction() -> BadMessage {
    BadMessage {
        code: "FEED_WITHOUT_TRANSACTIONS",
        reason: "a change does not say which transaction it belongs to".into(),
        remedy: "set provide.transaction.metadata=true at the connector, or follow the feed row by row".into(),
    }
}

fn source<'a>(members: &Members<'a>) -> Result<Members<'a>, BadMessage> {
    let source = member(members, "source").ok_or_else(|| BadMessage::malformed("the event has no source"))?;
    source.members().map_err(not_json)
}

fn gtid<'a>(source: &Members<'a>) -> Option<Cow<'a, str>> {
    member(source, "gtid").and_then(Raw::string)
}

/// Zero is what a snapshot of old connectors and TiCDC's statements have for no time.
fn milliseconds(members: &Members<'_>) -> Option<u64> {
    member(members, "ts_ms").and_then(Raw::unsigned).filter(|ms| *ms > 0)
}

fn in_transaction(block: Raw<'_>) -> Result<InTransaction, BadMessage> {
    let members = block.members().map_err(not_json)?;
    let total_order = member(&members, "total_order").and_then(Raw::unsigned);
    let missing = || BadMessage::malformed("the transaction has no total_order");
    Ok(InTransaction { id: transaction_id(&members)?, total_order: total_order.ok_or_else(missing)? })
}

fn transaction_id(members: &Members<'_>) -> Result<String, BadMessage> {
    let id = member(members, "id").and_then(Raw::string);
    id.map(Cow::into_owned).ok_or_else(|| BadMessage::malformed("the transaction has no id"))
}

fn end(members: &Members<'_>) -> Result<TransactionMark, BadMessage> {
    let bad = || BadMessage::malformed("the transaction's end does not say how many events each table has");
    let collections = match member(members, "data_collections") {
        Some(collections) => collections.elements().map_err(not_json)?,
        // A transaction without events.
        None => Vec::new(),
    };
    let mut events = Vec::with_capacity(collections.len());
    for collection in collections {
        let collection = collection.members().map_err(not_json)?;
        let name = member(&collection, "data_collection").and_then(Raw::string).ok_or_else(bad)?;
        events.push((name.into_owned(), member(&collection, "event_count").and_then(Raw::unsigned).ok_or_else(bad)?));
    }
    Ok(TransactionMark::End { id: transaction_id(members)?, events, committed_ms: milliseconds(members) })
}

/// A statement; `None` for one by which a snapshot tells what is already so.
fn schema_change(members: &Members<'_>) -> Result<Option<Said>, BadMessage> {
    let source = source(members)?;
    let text = |members: &Members<'_>, name: &str| {
        member(members, name).and_then(Raw::string).map(Cow::into_owned).unwrap_or_default()
    };
    let (snapshot, sql) = (text(&source, "snapshot"), text(members, "ddl"));
    let is_snapshot = member(&source, "snapshot").and_then(Raw::boolean).unwrap_or(!matches!(&*snapshot, "" | "false"));
    if is_snapshot || sql.is_empty() {
        return Ok(None);
    }
    let database = Some(text(members, "databaseName")).filter(|name| !name.is_empty());
    Ok(Some(Said::Schema(SchemaChange {
        commit: member(&source, "commit_ts").and_then(Raw::unsigned),
        database: database.unwrap_or_else(|| text(&source, "db")),
        table: text(&source, "table"),
        sql,
    })))
}

fn is_heartbeat(topic: &str, members: &Members<'_>) -> bool {
    topic.starts_with("__debezium-heartbeat") || matches!(&members[..], [(name, _)] if name == "ts_ms")
}
