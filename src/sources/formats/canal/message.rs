//! One message as JSON has it: fields in any order, rows as names and texts out of its bytes.
//!
//! A key that stands twice is an error: nobody can tell which of the two was meant. Unknown keys are passed over.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::sources::formats::Tables;

#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// Canal counts its messages from 1; TiCDC's are all 0.
    pub id: u64,
    pub database: Option<Cow<'a, str>>,
    pub table: Option<Cow<'a, str>>,
    pub kind: Option<Cow<'a, str>>,
    pub is_ddl: bool,
    /// Milliseconds since the epoch.
    pub es: Option<u64>,
    /// Of all transactions up to this one, where Canal reads by GTIDs.
    pub gtid: Option<Cow<'a, str>>,
    pub sql: Option<Cow<'a, str>>,
    /// `None` for a table that was found not to be followed, too.
    pub data: Option<Rows<'a>>,
    pub old: Option<Rows<'a>>,
    pub extension: Option<Extension<'a>>,
}

/// `_tidb`, which TiCDC writes with `enable-tidb-extension`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extension<'a> {
    pub commit_ts: Option<u64>,
    pub watermark_ts: Option<u64>,
    pub only_handle_key: Option<bool>,
    #[serde(borrow)]
    pub claim_check_location: Option<Cow<'a, str>>,
}

/// Rows one after another.
#[derive(Debug, Default)]
pub struct Rows<'a> {
    cells: Vec<Cell<'a>>,
    /// For each row the place after its last cell.
    ends: Vec<usize>,
}

/// A column's name and value; `None`: NULL.
#[derive(Debug)]
pub struct Cell<'a> {
    pub name: Cow<'a, str>,
    pub value: Option<Cow<'a, str>>,
}

impl<'a> Rows<'a> {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn row(&self, row: usize) -> &[Cell<'a>] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.cells[start..self.ends[row]]
    }
}

/// Reads a message; `tables` tells which rows are worth reading.
pub struct Reader<'t>(pub &'t Tables);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Envelope<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut message = Envelope::default();
        let mut seen = 0u32;
        while let Some(key) = map.next_key::<Key>()? {
            let bit = 1 << key as u32;
            if key != Key::Other && seen & bit != 0 {
                return Err(A::Error::custom(format_args!("the key `{}` stands twice", key.name())));
            }
            seen |= bit;
            match key {
                Key::Id => message.id = map.next_value::<Id>()?.0,
                Key::Database => message.database = map.next_value::<Value>()?.0,
                Key::Table => message.table = map.next_value::<Value>()?.0,
                Key::Type => message.kind = map.next_value::<Value>()?.0,
                Key::Gtid => message.gtid = map.next_value::<Value>()?.0,
                Key::Sql => message.sql = map.next_value::<Value>()?.0,
                Key::IsDdl => message.is_ddl = map.next_value::<Option<bool>>()?.unwrap_or_default(),
                Key::Es => message.es = map.next_value::<Option<i64>>()?.and_then(|es| u64::try_from(es).ok()),
                Key::Data => message.data = self.rows(&message, &mut map)?,
                Key::Old => message.old = self.rows(&message, &mut map)?,
                Key::Tidb => message.extension = map.next_value()?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(message)
    }
}

impl Reader<'_> {
    /// Rows, unless their table is known by now and not followed.
    fn rows<'de, A: MapAccess<'de>>(
        &self,
        message: &Envelope<'de>,
        map: &mut A,
    ) -> Result<Option<Rows<'de>>, A::Error> {
        let mut columns = 0;
        if let (Some(database), Some(table)) = (&message.database, &message.table) {
            let Some(table) = self.0.find(database, table) else {
                map.next_value::<IgnoredAny>()?;
                return Ok(None);
            };
            let followed = &self.0.get(table).followed;
            columns = followed.layout().len().max(followed.schema.columns.len());
        }
        map.next_value_seed(RowsReader { columns })
    }
}

/// The keys that matter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Id,
    Database,
    Table,
    Type,
    IsDdl,
    Es,
    Gtid,
    Sql,
    Data,
    Old,
    Tidb,
    Other,
}

const KEYS: [(&str, Key); 11] = [
    ("id", Key::Id),
    ("database", Key::Database),
    ("table", Key::Table),
    ("type", Key::Type),
    ("isDdl", Key::IsDdl),
    ("es", Key::Es),
    ("gtid", Key::Gtid),
    ("sql", Key::Sql),
    ("data", Key::Data),
    ("old", Key::Old),
    ("_tidb", Key::Tidb),
];

impl Key {
    fn name(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Keys;
        impl Visitor<'_> for Keys {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(KEYS.iter().find(|(name, _)| *name == text).map_or(Key::Other, |(_, key)| *key))
            }
        }
        deserializer.deserialize_str(Keys)
    }
}

/// A number; anything else is none of anybody's ids.
struct Id(u64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as `id`")
            }

            fn visit_u64<E>(self, id: u64) -> Result<Id, E> {
                Ok(Id(id))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Id, E> {
                Ok(Id(0))
            }

            fn visit_str<E>(self, _: &str) -> Result<Id, E> {
                Ok(Id(0))
            }

            fn visit_unit<E>(self) -> Result<Id, E> {
                Ok(Id(0))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A text or `null`; a whole number is taken as its digits, one with a fraction may have lost some.
struct Value<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Owned(text.to_string()))))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value(Some(Cow::Owned(number.to_string()))))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value(None))
    }
}

/// `data` or `old`: an array of rows, or `null`.
struct RowsReader {
    /// About as many cells are in a row; 0: unknown.
    columns: usize,
}

impl<'de> DeserializeSeed<'de> for RowsReader {
    type Value = Option<Rows<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowsReader {
    type Value = Option<Rows<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut rows = Rows { cells: Vec::with_capacity(self.columns), ends: Vec::with_capacity(1) };
        while seq.next_element_seed(RowReader(&mut rows.cells))?.is_some() {
            rows.ends.push(rows.cells.len());
        }
        Ok(Some(rows))
    }
}

/// Appends the cells of one row.
struct RowReader<'r, 'de>(&'r mut Vec<Cell<'de>>);

impl<'de> DeserializeSeed<'de> for RowReader<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowReader<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            self.0.push(Cell { name, value: map.next_value::<Value>()?.0 });
        }
        Ok(())
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'de>, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(Names)
    }
}
