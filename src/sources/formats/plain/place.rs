//! Where a row's message stands, as columns of its table.
//!
//! A row without a primary key of its own is told from others by the place of its message: a message that comes again
//! is the same row, so that at-least-once is exactly once.

use crate::row::datum::Datum;
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::sources::formats::Message;

/// The column of the time at which the log got a message.
pub const TIMESTAMP: &str = "_timestamp";
/// The longest name of a topic.
const TOPIC_CHARS_MAX: u32 = 249;

/// What a message's place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Topic,
    Partition,
    Offset,
    /// When the log got it.
    Timestamp,
}

impl Place {
    const ALL: [Place; 4] = [Place::Topic, Place::Partition, Place::Offset, Place::Timestamp];
    /// What tells one message from all others.
    const KEY: [Place; 3] = [Place::Topic, Place::Partition, Place::Offset];

    /// What a column of this name holds; `None`: it is read from the message.
    pub fn of(column: &str) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.name().eq_ignore_ascii_case(column))
    }

    fn name(self) -> &'static str {
        match self {
            Place::Topic => "_topic",
            Place::Partition => "_partition",
            Place::Offset => "_offset",
            Place::Timestamp => TIMESTAMP,
        }
    }

    fn column(self) -> Column {
        let (sql_type, nullable) = match self {
            Place::Topic => (SqlType::Varchar(TOPIC_CHARS_MAX), false),
            Place::Partition => (SqlType::Int { bytes: 4, unsigned: false }, false),
            Place::Offset => (SqlType::Int { bytes: 8, unsigned: false }, false),
            Place::Timestamp => (SqlType::Timestamp(3), true),
        };
        let mut column = Column::new(self.name(), sql_type, nullable);
        column.collation = (self == Place::Topic).then(|| "utf8mb4_bin".to_string());
        column
    }

    /// `None`: the log does not say it.
    pub fn datum(self, message: &Message<'_>) -> Option<Datum> {
        Some(match self {
            Place::Topic => Datum::Text(message.topic.to_string()),
            Place::Partition => Datum::Int(message.partition as i64),
            Place::Offset => Datum::Int(message.offset),
            Place::Timestamp => Datum::Timestamp(message.written_ms?.checked_mul(1000)?),
        })
    }
}

/// Makes the place of the message the key of a table that has none.
pub fn keyed(mut schema: Schema) -> Schema {
    if schema.key.is_none() {
        let key = Place::KEY.map(|place| {
            let at = schema.position(place.name()).unwrap_or_else(|| {
                schema.columns.push(place.column());
                schema.columns.len() - 1
            });
            schema.columns[at].nullable = false;
            at
        });
        schema.key = Some(key.to_vec());
    }
    schema
}

/// Each message is a row of its own: the key is of its place.
pub fn is_append(schema: &Schema) -> bool {
    let key = schema.key.as_deref().unwrap_or_default();
    !key.is_empty() && key.iter().all(|column| Place::of(&schema.columns[*column].name).is_some())
}

/// The key is a message's place, in the order in which messages come.
pub fn is_in_order(schema: &Schema) -> bool {
    let key = schema.key.as_deref().unwrap_or_default();
    key.len() == Place::KEY.len()
        && key.iter().zip(Place::KEY).all(|(column, place)| Place::of(&schema.columns[*column].name) == Some(place))
}

/// Gives a table the time of the message, from which its rows' age counts.
pub fn timed(mut schema: Schema) -> Schema {
    if schema.position(TIMESTAMP).is_none() {
        schema.columns.push(Place::Timestamp.column());
    }
    schema
}

/// The column and the type it must have, where one that holds a message's place was declared otherwise.
pub fn misdeclared(schema: &Schema) -> Option<(&Column, SqlType)> {
    let declared =
        schema.columns.iter().filter_map(|column| Some((column, Place::of(&column.name)?.column().sql_type)));
    declared.into_iter().find(|(column, sql_type)| column.sql_type != *sql_type)
}
