//! Claim checks: a message that was too large names a file, and the file has it.
//!
//! Written from TiCDC's document "Replicate Data to Kafka". The file's name is the last part of the location: where it
//! lies is the reader's to say, never the message's. What is in it is the message's key and value in base64
//! (`{"key":…,"value":…}`), or with `claim-check-raw-value` the value alone; which of both is told by the file.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{BadMessage, text};

/// The code of a message that is kept elsewhere.
pub const CLAIM_CHECK: &str = "CLAIM_CHECK";
/// Of a file. TiDB's largest row is 120 MiB (`txn-entry-size-limit`), and base64 makes four bytes of three.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
const NAME_BYTES_MAX: usize = 1024;

/// A message as it would have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A message in JSON; a raw value has other members, or is no JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

/// The name of the file that a location names.
pub fn file_name(location: &str) -> Result<&str, BadMessage> {
    let name = location.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_name = !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
    is_name.then_some(name).ok_or_else(|| {
        let reason = format!("a row was too large, and lies in {}, which names no file", text::shown(location));
        BadMessage { code: CLAIM_CHECK, ..BadMessage::malformed(reason) }
    })
}

/// Reads what is in the file.
pub fn read(bytes: Vec<u8>) -> Result<Claimed, BadMessage> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&bytes) else {
        return Ok(Claimed { key: None, value: Some(bytes) });
    };
    let decoded = |member: &str, text: Option<Cow<str>>| {
        let bytes = text.filter(|text| !text.is_empty()).map(|text| STANDARD.decode(&*text)).transpose();
        bytes.map_err(|e| BadMessage::malformed(format!("`{member}` is no base64: {e}")))
    };
    Ok(Claimed { key: decoded("key", envelope.key)?, value: decoded("value", envelope.value)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_location_counts() {
        for (location, name) in [
            ("s3://bucket/prefix/6f1d.json", "6f1d.json"),
            ("file:///claim/8a.json", "8a.json"),
            ("s3:/another/../../etc/8a.json", "8a.json"),
            ("8a.json", "8a.json"),
            ("C:\\claim\\8a.json", "8a.json"),
        ] {
            assert_eq!(file_name(location), Ok(name), "{location}");
        }
        for location in ["", "s3://bucket/", "s3://bucket/..", ".", "a/b\n.json", &"x".repeat(2000)] {
            assert_eq!(file_name(location).map_err(|bad| bad.code), Err(CLAIM_CHECK), "{location:?}");
        }
    }

    #[test]
    fn a_file_has_key_and_value_or_the_value_alone() {
        let claimed = |key: Option<&str>, value: &str| Claimed {
            key: key.map(|key| key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
        };
        let read = |text: &str| read(text.as_bytes().to_vec());
        assert_eq!(read(r#"{"key":"a2V5","value":"eyJhIjoxfQ=="}"#), Ok(claimed(Some("key"), r#"{"a":1}"#)));
        assert_eq!(read(r#"{"key":null,"value":"eyJhIjoxfQ=="}"#), Ok(claimed(None, r#"{"a":1}"#)));
        for raw in [r#"{"key":"a2V5","value":"dg==","type":"INSERT"}"#, "\u{1}no json", ""] {
            assert_eq!(read(raw), Ok(claimed(None, raw)));
        }
        assert_eq!(read(r#"{"key":null,"value":"?"}"#).map_err(|bad| bad.code), Err("BAD_MESSAGE"));
    }
}
