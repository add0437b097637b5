//! Debezium's events in JSON, with or without schema, and in Avro; TiCDC's alike in JSON.
//!
//! Three kinds of topic are told apart by what their messages are, not by their names, which a person may route: row
//! events (`op`), the transaction topic (`status`), the schema change topic (`ddl`). What the connector loses before
//! we see it: dates with a zero part come as NULL or the epoch, a NULL may come as the column's default where the JSON
//! converter's `replace.null.with.default` is left on, a TINYINT(1) above 1 as true where it is made a truth value.
//!
//! TiCDC's `debezium` protocol has `source.commit_ts`, and says watermarks as events with op `m`.

mod avro;
pub(super) mod document;
mod event;
mod json;
pub(super) mod modes;
mod part;
pub(super) mod semantic;
pub(super) mod value;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::avro::DebeziumAvro;
pub use self::modes::{Bigints, Binaries, Decimals, Modes, Times};

use self::event::{Beside, Key};
use self::json::{Raw, not_json};
use self::part::{Members, Part, member};
use self::semantic::Fields;
use super::past::Past;
use super::{BadMessage, Decode, Message, Said, Tables};
use crate::sources::mysql::gtid::GtidSet;

/// Reads one feed in JSON; it keeps the schemas it has seen, since each message repeats its own.
#[derive(Debug, Default)]
pub struct Debezium {
    modes: Modes,
    schemas: HashMap<usize, KnownSchema>,
    past: Past,
}

#[derive(Debug)]
struct KnownSchema {
    text: String,
    fields: Arc<Fields>,
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
        let mut beside = BesideJson { known: &mut self.schemas, schema, key: message.key };
        let feed = event::Feed { modes: &self.modes, past: &self.past, tables };
        event::read(&members, message.topic, &mut beside, feed, said)
    }

    fn pass_over(&mut self, set: GtidSet) {
        self.past = Past::of(set);
    }
}

struct Payload<'a> {
    schema: Option<Raw<'a>>,
    members: Members<'a, Raw<'a>>,
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
    Ok(Some(Payload { schema: member(&members, "schema"), members: Part::members(payload)? }))
}

struct BesideJson<'d, 'a> {
    known: &'d mut HashMap<usize, KnownSchema>,
    schema: Option<Raw<'a>>,
    key: Option<&'a [u8]>,
}

impl<'a> Beside<'a, Raw<'a>> for BesideJson<'_, 'a> {
    /// What the message's schema says, read once as long as it stays the same.
    fn fields(&mut self, table: usize) -> Result<Option<Arc<Fields>>, BadMessage> {
        let Some(schema) = self.schema else { return Ok(None) };
        let text = schema.text();
        if self.known.get(&table).is_none_or(|known| known.text != text) {
            let fields = Arc::new(semantic::fields(schema).map_err(not_json)?);
            self.known.insert(table, KnownSchema { text: text.to_string(), fields });
        }
        Ok(Some(Arc::clone(&self.known[&table].fields)))
    }

    fn key(&self) -> Result<Option<Key<'a, Raw<'a>>>, BadMessage> {
        let Some(bytes) = self.key else { return Ok(None) };
        let Some(Payload { schema, members }) = payload(bytes)? else { return Ok(None) };
        let fields = schema.map(semantic::columns).transpose().map_err(not_json)?;
        Ok(Some(Key { members, fields }))
    }
}
