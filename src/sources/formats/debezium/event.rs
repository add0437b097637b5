//! A message taken apart, in whichever encoding: what it says of rows, transactions and statements.

use std::borrow::Cow;
use std::sync::Arc;

use super::modes::Modes;
use super::part::{Members, Part, member};
use super::semantic::{Fields, Semantic};
use super::value;
use crate::row::datum::Datum;
use crate::sources::formats::past::Past;
use crate::sources::formats::{
    BadMessage, InTransaction, Op, Row, RowChange, Said, SchemaChange, TableOf, Tables, TransactionMark,
};

/// What stands beside a message's value, read where it is needed.
pub trait Beside<'a, P> {
    /// What the values of that table's rows mean; `None`: they say it themselves, or nothing does.
    fn fields(&mut self, table: usize) -> Result<Option<Arc<Fields>>, BadMessage>;

    /// The message's key, and what its values mean; `None`: it has none.
    fn key(&self) -> Result<Option<Key<'a, P>>, BadMessage>;
}

pub struct Key<'a, P> {
    pub members: Members<'a, P>,
    pub fields: Option<Fields>,
}

/// What all messages of a feed are read by.
#[derive(Clone, Copy)]
pub struct Feed<'f> {
    pub modes: &'f Modes,
    pub past: &'f Past,
    pub tables: &'f Tables,
}

/// Appends what a message says.
pub fn read<'a, P: Part<'a>>(
    members: &Members<'a, P>,
    topic: &str,
    beside: &mut impl Beside<'a, P>,
    feed: Feed<'_>,
    said: &mut Vec<Said>,
) -> Result<(), BadMessage> {
    let text = |name: &str| member(members, name).and_then(Part::string);
    if let Some(op) = text("op") {
        return Event::new(members)?.read(&op, beside, feed, said);
    }
    match text("status").as_deref() {
        Some("BEGIN") => said.push(Said::Mark(TransactionMark::Begin { id: transaction_id(members)? })),
        Some("END") => said.push(Said::Mark(end(members)?)),
        _ if members.iter().any(|(name, _)| name == "ddl") => {
            if !feed.past.has(gtid(&source(members)?).as_deref())? {
                said.extend(schema_change(members)?);
            }
        }
        _ if is_heartbeat(topic, members) => {}
        _ => {
            let reason = "the message is no Debezium event: it has neither op nor status nor ddl";
            let remedy = "send whole events: without the ExtractNewRecordState transformation, which cuts them down";
            return Err(BadMessage { remedy: remedy.into(), ..BadMessage::malformed(reason) });
        }
    }
    Ok(())
}

/// A row event taken apart, its values unread.
struct Event<'a, P> {
    source: Members<'a, P>,
    before: Option<P>,
    after: Option<P>,
    transaction: Option<InTransaction>,
}

impl<'a, P: Part<'a>> Event<'a, P> {
    fn new(members: &Members<'a, P>) -> Result<Event<'a, P>, BadMessage> {
        Ok(Event {
            source: source(members)?,
            before: member(members, "before"),
            after: member(members, "after"),
            transaction: member(members, "transaction").map(in_transaction).transpose()?,
        })
    }

    fn name(&self, what: &str) -> Result<Cow<'a, str>, BadMessage> {
        let name = member(&self.source, what).and_then(Part::string);
        name.ok_or_else(|| BadMessage::malformed(format!("the event's source has no {what}")))
    }

    fn commit(&self) -> Option<u64> {
        member(&self.source, "commit_ts").and_then(Part::unsigned)
    }

    fn read(
        self,
        op: &str,
        beside: &mut impl Beside<'a, P>,
        feed: Feed<'_>,
        said: &mut Vec<Said>,
    ) -> Result<(), BadMessage> {
        let Feed { modes, past, tables } = feed;
        if op == "m" {
            // Debezium's own messages of this kind are the application's; TiCDC's are watermarks.
            said.extend(self.commit().map(Said::Watermark));
            return Ok(());
        }
        let Some(place) = tables.find(&self.name("db")?, &self.name("table")?) else { return Ok(()) };
        let table = tables.get(place);
        // Behind a copy, what Debezium's own snapshot reads is there, or comes as a change.
        if past.is_known() && (op == "r" || past.has(gtid(&self.source).as_deref())?) {
            return Ok(());
        }
        if modes.transactions && matches!(op, "c" | "u" | "d") {
            let known = self.transaction.is_some() || self.commit().is_some();
            known.then_some(()).ok_or_else(without_transaction)?;
        }
        let ops = self.ops(op, beside, modes, place, table)?;
        let (commit, committed_ms) = (self.commit(), milliseconds(&self.source));
        let transaction = self.transaction;
        said.extend(ops.into_iter().map(|op| {
            Said::Row(RowChange { table: place, op, commit, transaction: transaction.clone(), committed_ms })
        }));
        Ok(())
    }

    fn ops(
        &self,
        op: &str,
        beside: &mut impl Beside<'a, P>,
        modes: &Modes,
        place: usize,
        table: &TableOf,
    ) -> Result<Vec<Op>, BadMessage> {
        if op == "t" {
            return Ok(vec![Op::Truncate]);
        }
        let fields = beside.fields(place)?;
        let reader = Reader { table, fields: fields.as_deref(), modes };
        if op == "d" {
            return self.deleted(&reader, beside).map(|row| vec![Op::Delete(row)]);
        }
        let whole = |side: Option<P>| {
            let side = side.ok_or_else(|| BadMessage::malformed(format!("an event with op {op} has no after")))?;
            reader.row(side, Wanted::Whole)
        };
        match op {
            "c" => Ok(vec![Op::Insert(whole(self.after)?)]),
            "r" => Ok(vec![Op::Put(whole(self.after)?)]),
            "u" => {
                let after = whole(self.after)?;
                // TiCDC may leave the row before out; where it is there, its key tells whether the row moved.
                let Some(before) = self.before else { return Ok(vec![Op::Put(after)]) };
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

    /// The row that an event deletes: whole, or its key where only that is sent, in the message's key at the last.
    fn deleted(&self, reader: &Reader<'_>, beside: &impl Beside<'a, P>) -> Result<Row, BadMessage> {
        if let Some(before) = self.before {
            return reader.row(before, Wanted::Key);
        }
        let missing = || reader.incomplete("a DELETE has neither the row before nor a key");
        let Key { members, fields } = beside.key()?.ok_or_else(missing)?;
        Reader { fields: fields.as_ref(), ..*reader }.of_members(members, Wanted::Key)
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
    modes: &'a Modes,
}

impl Reader<'_> {
    fn row<'p>(&self, side: impl Part<'p>, wanted: Wanted) -> Result<Row, BadMessage> {
        self.of_members(side.members()?, wanted)
    }

    fn of_members<'p, P: Part<'p>>(&self, members: Members<'p, P>, wanted: Wanted) -> Result<Row, BadMessage> {
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

    fn value<'p>(&self, column: usize, value: impl Part<'p>) -> Result<Datum, BadMessage> {
        if value.is_null() {
            return Ok(Datum::Null);
        }
        let column = &self.table.followed.schema.columns[column];
        let by_type;
        let semantic = match (value.semantic(), self.fields) {
            (Some(own), _) => own,
            (None, Some(fields)) => fields.get(&column.name).unwrap_or(&Semantic::Plain),
            (None, None) => {
                by_type = Semantic::of(&column.sql_type, self.modes);
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
        value::datum(value, sql_type, semantic, self.modes).ok_or_else(|| BadMessage {
            code: "BAD_MESSAGE",
            reason: format!("{} has {value} in column {name}, which is no value of {sql_type}", self.name()),
            remedy: match self.fields.is_some() || value.semantic().is_some() {
                true => "compare the column's type with the table's; mend or remove the message".into(),
                false => "name the connector's handling modes as they are set, or have it send schemas".into(),
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

fn source<'a, P: Part<'a>>(members: &Members<'a, P>) -> Result<Members<'a, P>, BadMessage> {
    let source = member(members, "source").ok_or_else(|| BadMessage::malformed("the event has no source"))?;
    source.members()
}

fn gtid<'a, P: Part<'a>>(source: &Members<'a, P>) -> Option<Cow<'a, str>> {
    member(source, "gtid").and_then(Part::string)
}

/// Zero is what a snapshot of old connectors and TiCDC's statements have for no time.
fn milliseconds<'a, P: Part<'a>>(members: &Members<'a, P>) -> Option<u64> {
    member(members, "ts_ms").and_then(Part::unsigned).filter(|ms| *ms > 0)
}

fn in_transaction<'a>(block: impl Part<'a>) -> Result<InTransaction, BadMessage> {
    let members = block.members()?;
    let total_order = member(&members, "total_order").and_then(Part::unsigned);
    let missing = || BadMessage::malformed("the transaction has no total_order");
    Ok(InTransaction { id: transaction_id(&members)?, total_order: total_order.ok_or_else(missing)? })
}

fn transaction_id<'a, P: Part<'a>>(members: &Members<'a, P>) -> Result<String, BadMessage> {
    let id = member(members, "id").and_then(Part::string);
    id.map(Cow::into_owned).ok_or_else(|| BadMessage::malformed("the transaction has no id"))
}

fn end<'a, P: Part<'a>>(members: &Members<'a, P>) -> Result<TransactionMark, BadMessage> {
    let bad = || BadMessage::malformed("the transaction's end does not say how many events each table has");
    let collections = match member(members, "data_collections") {
        Some(collections) => collections.elements()?,
        // A transaction without events.
        None => Vec::new(),
    };
    let mut events = Vec::with_capacity(collections.len());
    for collection in collections {
        let collection = collection.members()?;
        let name = member(&collection, "data_collection").and_then(Part::string).ok_or_else(bad)?;
        events.push((name.into_owned(), member(&collection, "event_count").and_then(Part::unsigned).ok_or_else(bad)?));
    }
    Ok(TransactionMark::End { id: transaction_id(members)?, events, committed_ms: milliseconds(members) })
}

/// A statement; `None` for one by which a snapshot tells what is already so.
fn schema_change<'a, P: Part<'a>>(members: &Members<'a, P>) -> Result<Option<Said>, BadMessage> {
    let source = source(members)?;
    let text = |members: &Members<'a, P>, name: &str| {
        member(members, name).and_then(Part::string).map(Cow::into_owned).unwrap_or_default()
    };
    let (snapshot, sql) = (text(&source, "snapshot"), text(members, "ddl"));
    let is_snapshot =
        member(&source, "snapshot").and_then(Part::boolean).unwrap_or(!matches!(&*snapshot, "" | "false"));
    if is_snapshot || sql.is_empty() {
        return Ok(None);
    }
    let database = Some(text(members, "databaseName")).filter(|name| !name.is_empty());
    Ok(Some(Said::Schema(SchemaChange {
        commit: member(&source, "commit_ts").and_then(Part::unsigned),
        database: database.unwrap_or_else(|| text(&source, "db")),
        table: text(&source, "table"),
        sql,
    })))
}

fn is_heartbeat<'a, P: Part<'a>>(topic: &str, members: &Members<'a, P>) -> bool {
    topic.starts_with("__debezium-heartbeat") || matches!(&members[..], [(name, _)] if name == "ts_ms")
}
