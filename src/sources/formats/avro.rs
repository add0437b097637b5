//! Avro in Confluent's framing: a zero, the number of a schema, the value as that schema says.
//!
//! A message is read by the schema that it was written by, and its fields are columns by name: what another version of
//! the schema adds, leaves out, moves or widens needs no reader's schema. The reader is our own, and so is the schema:
//! a Connect converter says what a value means (`connect.name`) at its type, also at a primitive one, where the crate
//! `apache-avro` keeps no attributes; and values go straight from the message to their columns, without a tree of them.
//!
//! Schemas come from whoever reads the log ([`Decode::lacks`](super::Decode::lacks)): here no server is asked.

pub mod columns;
pub mod document;
mod parse;
pub mod schema;
pub mod span;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use self::schema::Schema;
use super::BadMessage;

/// Schemas that a decoder keeps; beyond either limit those that came first are asked for again.
pub const SCHEMAS_MAX: usize = 1_000;
/// Of their texts together.
pub const SCHEMAS_BYTES_MAX: usize = 64 << 20;

/// The zero and the number, four bytes big-endian.
const FRAME_BYTES: usize = 5;

/// What a registry answers for a number.
pub type Learned = Result<Arc<Schema>, BadMessage>;

/// The schemas that a decoder was given.
#[derive(Debug, Default)]
pub struct Schemas {
    by_number: HashMap<u32, Learned>,
    /// The oldest first.
    order: VecDeque<u32>,
    bytes: usize,
}

impl Schemas {
    /// The number of the schema that bytes are written by, where it is not here.
    pub fn lack(&self, bytes: Option<&[u8]>) -> Option<u32> {
        let (number, _) = frame(bytes?)?;
        (!self.by_number.contains_key(&number)).then_some(number)
    }

    pub fn learn(&mut self, number: u32, learned: Learned) {
        let bytes = |learned: &Learned| learned.as_ref().map_or(0, |schema| schema.bytes);
        self.bytes += bytes(&learned);
        match self.by_number.insert(number, learned) {
            Some(before) => self.bytes -= bytes(&before),
            None => self.order.push_back(number),
        }
        while (self.by_number.len() > SCHEMAS_MAX || self.bytes > SCHEMAS_BYTES_MAX) && self.by_number.len() > 2 {
            // A message has two at most, of its key and of its value: those stay.
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.by_number.remove(&oldest).map_or(0, |learned| bytes(&learned));
        }
    }

    /// The schema that bytes are written by, and the value behind its number.
    pub fn of<'a>(&self, bytes: &'a [u8], what: &str) -> Result<(Arc<Schema>, &'a [u8]), BadMessage> {
        let (number, value) = frame(bytes).ok_or_else(|| not_framed(bytes, what))?;
        match self.by_number.get(&number) {
            Some(learned) => Ok((learned.clone()?, value)),
            None => Err(unknown(number, "the registry was not asked for it")),
        }
    }
}

/// Whether bytes can be Avro in this framing: no text begins with a zero.
pub fn is_framed(bytes: &[u8]) -> bool {
    frame(bytes).is_some()
}

fn frame(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (frame, value) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let [0, number @ ..] = frame else { return None };
    Some((u32::from_be_bytes(*number), value))
}

/// A number that the registry has no schema for, or none that is Avro.
pub fn unknown(number: u32, why: &str) -> BadMessage {
    BadMessage {
        code: "SCHEMA_UNKNOWN",
        reason: format!("the message is written by schema {number}: {why}"),
        remedy: "compare SCHEMA REGISTRY of the connection with the registry that the producers use; mend or remove \
                 the message, or create the source with ON BAD MESSAGE QUARANTINE"
            .into(),
    }
}

fn not_framed(bytes: &[u8], what: &str) -> BadMessage {
    let begins = match bytes {
        [] => "is empty".to_string(),
        [0, ..] => format!("has {} bytes, less than a schema's number takes", bytes.len()),
        [first, ..] => format!("begins with byte {first:#04x} instead of a zero and a schema's number"),
    };
    let remedy = match bytes.first() {
        Some(b'{') => "the message looks like JSON: create the source with FORMAT 'json' or 'debezium-json'",
        _ => "have the producer write Confluent's framing (its KafkaAvroSerializer, or a Connect AvroConverter)",
    };
    BadMessage { remedy: remedy.into(), ..BadMessage::malformed(format!("the message's {what} {begins}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_schemas_are_forgotten() {
        let mut schemas = Schemas::default();
        let schema = Arc::new(Schema::parse("\"long\"", &[]).expect("it is one"));
        for number in 0..SCHEMAS_MAX as u32 + 7 {
            schemas.learn(number, Ok(Arc::clone(&schema)));
        }
        let wanted = |number: u32| schemas.lack(Some(&[&[0][..], &number.to_be_bytes()].concat()));
        assert_eq!((wanted(6), wanted(7), wanted(1006)), (Some(6), None, None));
        assert_eq!(schemas.bytes, SCHEMAS_MAX * "\"long\"".len());
        assert_eq!(schemas.lack(Some(b"{}")), None);
        assert_eq!(schemas.lack(Some(&[0, 0, 0, 1])), None);
    }
}
