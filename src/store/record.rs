//! What a tick, a table and the store write about themselves.
//!
//! A tick's record is its checksum and its content as JSON; the checksum is a hash of the checksum before it and the
//! content, which holds a digest of the changes: one number seals all history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::row::schema::Schema;
use crate::row::{ObjectId, Position, Ts};
use crate::store::TickHeader;

/// Written by `STORE`; raised by every change of an encoding or key.
pub const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub struct StoreRecord {
    pub format: u32,
    /// Hexadecimal.
    pub id: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TableRecord {
    pub schema: Schema,
    /// `None`: not loaded yet.
    pub generation: Option<u64>,
    /// The tick that installed the generation: the table's log begins after it.
    pub loaded_at: Ts,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TickRecord {
    pub number: u64,
    pub ts: Ts,
    /// Of every source, also of those that did not move.
    pub positions: BTreeMap<ObjectId, Position>,
    pub installs: Vec<(ObjectId, u64)>,
    /// Changes written with the tick.
    pub inline: BTreeMap<ObjectId, Part>,
    /// Changes staged before it, in the order in which they apply.
    pub segments: Vec<SegmentRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SegmentRecord {
    pub segment: u64,
    pub parts: BTreeMap<ObjectId, Part>,
}

/// The changes of one table in a tick or segment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    pub pieces: u64,
    pub bytes: u64,
    pub rows: u64,
    /// The sum of the diffs.
    pub net: i64,
    /// A hash of the pieces, in order.
    pub digest: u64,
}

impl Part {
    pub fn add(&mut self, piece: &[u8], rows: u64, net: i64) {
        self.pieces += 1;
        self.bytes += piece.len() as u64;
        self.rows += rows;
        self.net += net;
        self.digest = chain(self.digest, piece);
    }
}

impl TickRecord {
    pub fn log_bytes(&self) -> u64 {
        let staged = self.segments.iter().flat_map(|s| s.parts.values());
        self.inline.values().chain(staged).map(|part| part.bytes).sum()
    }

    /// The tables whose changes are in segments.
    pub fn staged_tables(&self) -> impl Iterator<Item = ObjectId> {
        self.segments.iter().flat_map(|segment| segment.parts.keys().copied())
    }

    /// The header and the record's bytes, after the tick before it.
    pub fn seal(&self, before: u64) -> (TickHeader, Vec<u8>) {
        let content = serde_json::to_vec(self).expect("a tick's record is always JSON");
        let checksum = chain(before, &content);
        let header = TickHeader { number: self.number, ts: self.ts, checksum };
        (header, [&checksum.to_le_bytes()[..], &content].concat())
    }

    /// The record, if it follows the tick before it.
    pub fn unseal(bytes: &[u8], before: &TickHeader) -> Result<(TickHeader, TickRecord), String> {
        let (checksum, content) = bytes.split_first_chunk().ok_or("its record is too short")?;
        let checksum = u64::from_le_bytes(*checksum);
        if checksum != chain(before.checksum, content) {
            return Err("its checksum does not follow from its content and the tick before it".to_string());
        }
        let record: TickRecord = serde_json::from_slice(content).map_err(|e| e.to_string())?;
        if record.number != before.number + 1 || record.ts <= before.ts {
            return Err(format!(
                "it says number {} at {}, after {} at {}",
                record.number, record.ts, before.number, before.ts
            ));
        }
        Ok((TickHeader { number: record.number, ts: record.ts, checksum }, record))
    }
}

fn chain(before: u64, content: &[u8]) -> u64 {
    let hash = Sha256::new_with_prefix(before.to_le_bytes()).chain_update(content).finalize();
    u64::from_le_bytes(*hash.first_chunk().expect("a SHA-256 has 32 bytes"))
}

/// How many rows a table has and the last tick that changed them; written beside the rows and in the main space, so
/// that the one without the other shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub rows: i64,
    pub tick: u64,
}

impl Counter {
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..].copy_from_slice(&self.tick.to_le_bytes());
        bytes
    }

    pub fn of_bytes(bytes: &[u8]) -> Option<Counter> {
        let (rows, tick) = bytes.split_first_chunk()?;
        Some(Counter { rows: i64::from_le_bytes(*rows), tick: u64::from_le_bytes(tick.try_into().ok()?) })
    }
}
