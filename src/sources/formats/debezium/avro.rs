//! Debezium's events in Avro, as a Connect converter writes them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::event::{self, Beside, Key};
use super::modes::{Binaries, Modes};
use super::part::{Members, Part};
use super::semantic::{Fields, Semantic};
use super::value;
use crate::row::float::format_double;
use crate::sources::formats::avro::document::shown;
use crate::sources::formats::avro::schema::{Kind, Schema};
use crate::sources::formats::avro::span::Span;
use crate::sources::formats::avro::{Learned, Schemas, is_framed};
use crate::sources::formats::past::Past;
use crate::sources::formats::{BadMessage, Decode, Message, Said, Tables};
use crate::sources::mysql::gtid::GtidSet;

/// Reads one feed; what values mean stands in the schema that each was written by.
#[derive(Debug, Default)]
pub struct DebeziumAvro {
    modes: Modes,
    schemas: Schemas,
    past: Past,
}

impl DebeziumAvro {
    pub fn new(modes: Modes) -> DebeziumAvro {
        DebeziumAvro { modes, ..DebeziumAvro::default() }
    }
}

impl Decode for DebeziumAvro {
    fn decode(&mut self, message: Message<'_>, tables: &Tables, said: &mut Vec<Said>) -> Result<(), BadMessage> {
        let Some(value) = message.value else { return Ok(()) };
        let (schema, value) = self.schemas.of(value, "value")?;
        let value = Span::new(&schema, value)?;
        if value.is_null() {
            return Ok(());
        }
        // A key may be of another encoding: it is read only where nothing else tells the row.
        let of_key = |bytes| self.schemas.of(bytes, "key");
        let key = message.key.filter(|key| is_framed(key)).map(of_key);
        let key = key.as_ref().map(|key| key.as_ref().map(|(schema, bytes)| (&**schema, *bytes)));
        let mut beside = BesideAvro { key };
        let feed = event::Feed { modes: &self.modes, past: &self.past, tables };
        event::read(&Part::members(value)?, message.topic, &mut beside, feed, said)
    }

    fn pass_over(&mut self, set: GtidSet) {
        self.past = Past::of(set);
    }

    fn lacks(&self, message: &Message<'_>, _: &Tables) -> Option<u32> {
        message.value?;
        self.schemas.lack(message.value).or_else(|| self.schemas.lack(message.key))
    }

    fn learn(&mut self, number: u32, learned: Learned) {
        self.schemas.learn(number, learned);
    }
}

struct BesideAvro<'a> {
    key: Option<Result<(&'a Schema, &'a [u8]), &'a BadMessage>>,
}

impl<'a> Beside<'a, Span<'a>> for BesideAvro<'a> {
    /// Every value says it itself.
    fn fields(&mut self, _: usize) -> Result<Option<Arc<Fields>>, BadMessage> {
        Ok(None)
    }

    fn key(&self) -> Result<Option<Key<'a, Span<'a>>>, BadMessage> {
        let Some(key) = self.key else { return Ok(None) };
        let (schema, bytes) = key.map_err(BadMessage::clone)?;
        let key = Span::new(schema, bytes)?;
        match key.is_null() {
            true => Ok(None),
            false => Ok(Some(Key { members: Part::members(key)?, fields: None })),
        }
    }
}

impl<'a> Part<'a> for Span<'a> {
    fn is_null(self) -> bool {
        Span::is_null(self)
    }

    fn boolean(self) -> Option<bool> {
        Span::boolean(self)
    }

    fn integer(self) -> Option<i128> {
        match Span::long(self) {
            Some(value) => Some(value.into()),
            None => self.text()?.parse().ok(),
        }
    }

    fn long(self) -> Option<i64> {
        Span::long(self)
    }

    fn number(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(match self.node().kind {
            Kind::Int | Kind::Long => Span::long(self)?.to_string(),
            Kind::Float => self.float()?.to_string(),
            Kind::Double => format_double(self.double()?),
            _ => return None,
        }))
    }

    fn string(self) -> Option<Cow<'a, str>> {
        self.text().map(Cow::Borrowed)
    }

    fn bytes(self, binaries: Binaries) -> Option<Cow<'a, [u8]>> {
        match Span::bytes(self) {
            Some(bytes) => Some(Cow::Borrowed(bytes)),
            None => value::decode(self.text()?, binaries).map(Cow::Owned),
        }
    }

    fn members(self) -> Result<Members<'a, Span<'a>>, BadMessage> {
        let fields = self.fields().ok_or_else(|| not_an_event("a record"))?;
        fields.map(|field| field.map(|(field, value)| (Cow::Borrowed(field.name.as_str()), value))).collect()
    }

    fn elements(self) -> Result<Vec<Span<'a>>, BadMessage> {
        self.items().ok_or_else(|| not_an_event("an array"))?
    }

    fn semantic(self) -> Option<&'a Semantic> {
        Some(&self.node().semantic)
    }
}

fn not_an_event(wanted: &str) -> BadMessage {
    BadMessage::malformed(format!("the message is no event of Debezium's: a value is not {wanted}"))
}

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(*self))
    }
}
