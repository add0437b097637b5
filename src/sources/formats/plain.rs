//! Rows without an envelope, as programs write them: JSON objects, records of CSV or of Avro.
//!
//! A table with a primary key is upserted: a message puts its row, a tombstone deletes the row of its key. A table
//! without one is appended to: its key is the message's place ([`place`]). A column that a message lacks is NULL where
//! it may be; members that are no column are passed over. One table has all topics; of several each has those that are
//! named after it.

mod avro;
mod csv;
mod json;
pub mod place;
mod value;

use self::place::Place;
use super::avro::{Learned, Schemas, is_framed};
use super::{BadMessage, Decode, Message, Op, Row, RowChange, Said, Settings, TableOf, Tables, wire};
use crate::row::datum::Datum;
use crate::row::schema::Column;

pub use csv::Csv;

/// Decodes one feed.
#[derive(Debug)]
pub struct Plain {
    settings: Settings,
    encoding: Encoding,
    /// Of Avro.
    schemas: Schemas,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Csv(Csv),
    Avro,
}

/// What to do where bytes are no text.
const BINARY: &str = "have the producer write text: a key or value in binary form (a LongSerializer's number) cannot \
                      be read; what is Avro is read with FORMAT 'avro'";

/// What some programs write at a file's beginning.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A value a column of the table's schema, where there is one.
type Fields = Vec<Option<Datum>>;

impl Plain {
    pub fn new(settings: Settings, encoding: Encoding) -> Plain {
        Plain { settings, encoding, schemas: Schemas::default() }
    }

    fn op(&self, message: &Message<'_>, table: &TableOf) -> Result<Option<Op>, BadMessage> {
        let schema = &table.followed.schema;
        let columns: Vec<usize> =
            (0..schema.columns.len()).filter(|at| Place::of(&schema.columns[*at].name).is_none()).collect();
        let zone = self.settings.time_zone_seconds;
        let text = |value| {
            let text = utf8(value, "value")?;
            Ok(if message.begins_file { text.trim_start_matches(BYTE_ORDER_MARK) } else { text })
        };
        let fields = match (message.value, self.encoding) {
            (None, _) => None,
            (Some(value), Encoding::Avro) => avro::record(value, &self.schemas, &columns, table, zone)?,
            (Some(value), Encoding::Json) => json::object(text(value)?, &columns, table, zone)?,
            (Some(value), Encoding::Csv(csv)) if csv.header && message.begins_file => {
                return csv::check_header(text(value)?, csv, &columns, table).map(|()| None);
            }
            (Some(value), Encoding::Csv(csv)) => Some(csv::record(text(value)?, csv, &columns, table, zone)?),
        };
        let Some(mut fields) = fields else {
            // In what is appended to, nothing is ever taken back.
            return match place::is_append(schema) {
                true => Ok(None),
                false => self.deleted(message, table).map(|row| Some(Op::Delete(row))),
            };
        };
        for (at, column) in schema.columns.iter().enumerate() {
            if let Some(place) = Place::of(&column.name) {
                fields[at] = place.datum(message);
            }
        }
        let key = schema.key.as_deref().unwrap_or_default();
        if key.iter().any(|&at| fields[at].is_none()) && message.key.is_some() {
            for (field, of_key) in fields.iter_mut().zip(self.key(message, table)?) {
                *field = field.take().or(of_key);
            }
        }
        let values = fields.into_iter().enumerate().map(|(at, value)| match value {
            Some(value) => Ok(value),
            None if schema.columns[at].nullable => Ok(Datum::Null),
            None => Err(incomplete(table, &schema.columns[at])),
        });
        values.collect::<Result<Row, BadMessage>>().map(|row| Some(Op::Put(row)))
    }

    /// The row of a tombstone: its key.
    fn deleted(&self, message: &Message<'_>, table: &TableOf) -> Result<Row, BadMessage> {
        let key = table.followed.schema.key.as_deref().unwrap_or_default();
        let fields = self.key(message, table)?;
        let values = fields.into_iter().enumerate().map(|(at, value)| match value {
            Some(value) => Ok(value),
            None if !key.contains(&at) => Ok(Datum::Null),
            None => Err(no_key(table, &format!("has no `{}`", table.followed.schema.columns[at].name))),
        });
        values.collect()
    }

    /// The values that the message's key has of the table's key.
    fn key(&self, message: &Message<'_>, table: &TableOf) -> Result<Fields, BadMessage> {
        let bytes = message.key.ok_or_else(|| no_key(table, "is not there"))?;
        let columns = table.followed.schema.key.as_deref().unwrap_or_default();
        let (text, zone) = (|| utf8(bytes, "key"), self.settings.time_zone_seconds);
        match self.encoding {
            Encoding::Avro if is_framed(bytes) => avro::key(bytes, &self.schemas, columns, table, zone),
            // Many write keys with a StringSerializer.
            Encoding::Json | Encoding::Avro => json::key(text()?, columns, table, zone),
            Encoding::Csv(csv) => csv::record(text()?, csv, columns, table, zone),
        }
    }
}

impl Decode for Plain {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let Some(at) = table_of(message.topic, tables)? else { return Ok(()) };
        let committed_ms = message.written_ms.and_then(|ms| u64::try_from(ms).ok());
        let op = self.op(&message, tables.get(at))?;
        let change = |op| Said::Row(RowChange { table: at, op, commit: None, transaction: None, committed_ms });
        said.extend(op.map(change));
        Ok(())
    }

    fn lacks(&self, message: &Message<'_>, tables: &Tables) -> Option<u32> {
        if self.encoding != Encoding::Avro {
            return None;
        }
        let table = tables.get(table_of(message.topic, tables).ok()??);
        // The keys of what is appended to are nobody's business, and may be any bytes.
        let key = message.key.filter(|_| !place::is_append(&table.followed.schema));
        self.schemas.lack(message.value).or_else(|| self.schemas.lack(key))
    }

    fn learn(&mut self, number: u32, learned: Learned) {
        self.schemas.learn(number, learned);
    }
}

/// Whether a topic, or a folder, is named after a table: `table`, `database.table`, or something before that.
pub fn is_named_after(topic: &str, database: &str, table: &str) -> bool {
    let topic = topic.replace('/', ".");
    let full = format!("{database}.{table}");
    topic == table || topic == full || topic.ends_with(&format!(".{full}"))
}

/// `None`: its rows are of no table that is followed.
fn table_of(topic: &str, tables: &Tables) -> Result<Option<usize>, BadMessage> {
    let mut all = tables.iter().enumerate();
    if let (Some(_), None) = (all.next(), all.next()) {
        return Ok(Some(0));
    }
    let named = |(_, table): &(usize, &TableOf)| is_named_after(topic, &table.followed.database, &table.followed.name);
    let mut found = tables.iter().enumerate().filter(named).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (at, None) => Ok(at),
        (_, Some(_)) => Err(BadMessage {
            code: "TOPIC_AMBIGUOUS",
            reason: format!("topic {topic} has the name of more than one table"),
            remedy: "create a source for each of these tables".into(),
        }),
    }
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, BadMessage> {
    std::str::from_utf8(bytes).map_err(|e| {
        let reason = format!("the message's {what} is no UTF-8 at byte {}", e.valid_up_to());
        BadMessage { remedy: BINARY.into(), ..BadMessage::malformed(reason) }
    })
}

/// The one column of a key that is a value by itself.
fn bare_key(columns: &[usize], table: &TableOf) -> Result<usize, BadMessage> {
    match columns {
        [at] => Ok(*at),
        _ => Err(no_key(table, "is one value, and the primary key has several columns")),
    }
}

fn no_value(value: &str, column: &Column) -> BadMessage {
    let declared = wire::briefly(&column.sql_type);
    let null = if column.nullable { "" } else { " NOT NULL" };
    BadMessage {
        code: "BAD_MESSAGE",
        reason: format!("{value} is no value of column `{}`, which is {declared}{null}", column.name),
        remedy: "mend or remove the message, or create the source with a type of the column that holds such values"
            .into(),
    }
}

fn no_key(table: &TableOf, what: &str) -> BadMessage {
    let name = format!("{}.{}", table.followed.database, table.followed.name);
    BadMessage {
        code: "KEY_INCOMPLETE",
        reason: format!("the row of {name} that is deleted is not known: the message's key {what}"),
        remedy: "have the producer write the primary key as the message's key: a JSON object or an Avro record by \
                 column, or the value of a key of one column"
            .into(),
    }
}

fn incomplete(table: &TableOf, column: &Column) -> BadMessage {
    BadMessage {
        code: "ROW_INCOMPLETE",
        reason: format!(
            "a row of {}.{} has no value of column `{}`, which is NOT NULL",
            table.followed.database, table.followed.name, column.name
        ),
        remedy: "have the producer write the column, or create the source with the column as it may be: without \
                 NOT NULL"
            .into(),
    }
}
