//! Messages as decoders take them: with their place, and with the schemas that they are written by.

use crate::sources::formats::avro::unknown;
use crate::sources::formats::{Decode, Message, Tables};
use crate::sources::log::{Entry, Fault, Partition};
use crate::sources::registry::Registry;

pub fn message<'a>(partition: &'a Partition, entry: &'a Entry) -> Message<'a> {
    Message {
        key: entry.key.as_deref(),
        value: entry.value.as_deref(),
        topic: partition.topic.as_str(),
        partition: partition.number,
        offset: entry.offset,
        written_ms: entry.written_ms,
        begins_file: entry.begins_file,
    }
}

/// Tells the decoder what it lacks of a message's schemas. While the registry cannot be asked, the message is not
/// taken: the log is read again from there on.
pub async fn learn(
    decode: &mut dyn Decode,
    registry: Option<&dyn Registry>,
    message: &Message<'_>,
    tables: &Tables,
) -> Result<(), Fault> {
    while let Some(number) = decode.lacks(message, tables) {
        let learned = match registry {
            Some(registry) => registry.by_number(number).await?,
            None => Err(unknown(number, "the source has no registry")),
        };
        decode.learn(number, learned);
    }
    Ok(())
}
