//! Messages that could not be read, as rows of a table beside the source's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::upserts::columns;
use crate::row::datum::Datum;
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};
use crate::sources::formats::{BadMessage, Row};
use crate::sources::log::{Entry, Partition};
use crate::sources::{FollowedTable, Stop};
use crate::store::{Store, Upsert, Write};

/// Of a key and of a value; of a longer one only the beginning is kept, of a value also its length and hash.
pub const KEPT_BYTES_MAX: usize = 256 << 10;
/// The beginning of a longer one.
pub const KEPT_PREFIX_BYTES: usize = 4 << 10;
/// A feed with more bad messages than this does not have a few of them: the source stops. What is on its way to the
/// table is not counted, so it may have somewhat more.
pub const MESSAGES_MAX: u64 = 10_000;

/// The table, and what goes into it with the next transaction.
pub struct Quarantine {
    pub table: FollowedTable,
    /// To be installed, without rows.
    pub is_new: bool,
    waiting: Vec<(Row, Write)>,
}

/// For each topic and partition, one past the last message that was kept. A message that is read again is not kept
/// again, also where its row has been deleted meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(BTreeMap<String, BTreeMap<i32, i64>>);

impl Kept {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, partition: &Partition, offset: i64) -> bool {
        let next = self.0.get(&partition.topic).and_then(|topic| topic.get(&partition.number));
        next.is_some_and(|next| offset < *next)
    }

    fn note(&mut self, partition: &Partition, offset: i64) {
        self.0.entry(partition.topic.clone()).or_default().insert(partition.number, offset + 1);
    }
}

/// The table's columns.
pub fn schema() -> Schema {
    let columns = vec![
        Column::new("topic", SqlType::Varchar(255), false),
        Column::new("partition", SqlType::Int { bytes: 4, unsigned: false }, false),
        Column::new("offset", BIGINT, false),
        Column::new("written_at", SqlType::Timestamp(3), true),
        Column::new("code", SqlType::Varchar(64), false),
        Column::new("reason", SqlType::Text(3), false),
        Column::new("key", SqlType::Blob(4), true),
        Column::new("value", SqlType::Blob(4), true),
        Column::new("value_bytes", BIGINT, true),
        Column::new("value_sha256", SqlType::Char(64), true),
    ];
    Schema { columns, key: Some(vec![0, 1, 2]) }
}

impl Quarantine {
    pub fn new(table: FollowedTable, is_new: bool) -> Quarantine {
        Quarantine { table, is_new, waiting: Vec::new() }
    }

    /// Keeps a message; false: it was kept before.
    pub fn keep(
        &mut self,
        store: &Store,
        kept: &mut Kept,
        partition: &Partition,
        entry: &Entry,
        bad: &BadMessage,
    ) -> Result<bool, Stop> {
        if kept.has(partition, entry.offset) {
            return Ok(false);
        }
        if store.snapshot().rows(self.table.id) + self.waiting.len() as u64 >= MESSAGES_MAX {
            return Err(self.full(bad));
        }
        kept.note(partition, entry.offset);
        self.waiting.push((row(partition, entry, bad), Write::Put));
        Ok(true)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits, for the next transaction.
    pub fn take(&mut self) -> Option<Upsert> {
        let rows = std::mem::take(&mut self.waiting);
        (!rows.is_empty()).then(|| columns(&rows, &self.table).expect("rows of its own schema"))
    }

    fn full(&self, bad: &BadMessage) -> Stop {
        let name = format!("{}.{}", self.table.database, self.table.name);
        Stop {
            code: "QUARANTINE_FULL",
            message: format!("{bad}, and {name} has {MESSAGES_MAX} messages already"),
            position: None,
            remedy: format!(
                "mend what writes them, DELETE FROM {name}, then ALTER SOURCE {} RESUME",
                self.table.database
            ),
        }
    }
}

fn row(partition: &Partition, entry: &Entry, bad: &BadMessage) -> Row {
    let (value_bytes, hash) = match &entry.value {
        None => (Datum::Null, Datum::Null),
        Some(value) if value.len() <= KEPT_BYTES_MAX => (Datum::Int(value.len() as i64), Datum::Null),
        Some(value) => (Datum::Int(value.len() as i64), Datum::Text(format!("{:x}", Sha256::digest(value)))),
    };
    vec![
        Datum::Text(partition.topic.clone()),
        Datum::Int(partition.number.into()),
        Datum::Int(entry.offset),
        entry.written_ms.map_or(Datum::Null, |ms| Datum::Timestamp(ms.saturating_mul(1000))),
        Datum::Text(bad.code.to_string()),
        Datum::Text(bad.reason.clone()),
        beginning(entry.key.as_deref()),
        beginning(entry.value.as_deref()),
        value_bytes,
        hash,
    ]
}

fn beginning(bytes: Option<&[u8]>) -> Datum {
    match bytes {
        None => Datum::Null,
        Some(bytes) if bytes.len() <= KEPT_BYTES_MAX => Datum::Bytes(bytes.to_vec()),
        Some(bytes) => Datum::Bytes(bytes[..KEPT_PREFIX_BYTES].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_value_the_beginning_the_length_and_the_hash_are_kept() {
        let partition = Partition { topic: "flow".to_string(), number: 3, next: 0, end: 9 };
        let bad = BadMessage::malformed("no JSON");
        let entry = |bytes: usize| Entry {
            partition: 0,
            offset: 7,
            key: None,
            value: Some(vec![b'x'; bytes]),
            written_ms: Some(1_500),
            begins_file: false,
        };
        let whole = row(&partition, &entry(KEPT_BYTES_MAX), &bad);
        assert_eq!(whole[7], Datum::Bytes(vec![b'x'; KEPT_BYTES_MAX]));
        assert_eq!((&whole[3], &whole[9]), (&Datum::Timestamp(1_500_000), &Datum::Null));
        let cut = row(&partition, &entry(KEPT_BYTES_MAX + 1), &bad);
        assert_eq!(cut[7], Datum::Bytes(vec![b'x'; KEPT_PREFIX_BYTES]));
        assert_eq!(cut[8], Datum::Int(KEPT_BYTES_MAX as i64 + 1));
        let hash = format!("{:x}", Sha256::digest(vec![b'x'; KEPT_BYTES_MAX + 1]));
        assert_eq!(cut[9], Datum::Text(hash));
        let schema = schema();
        let rows = [(whole, Write::Put), (cut, Write::Put)];
        let table = FollowedTable::declared(crate::row::ObjectId(1), "flow", "quarantine", schema);
        assert_eq!(columns(&rows, &table).expect("rows of its own schema").rows(), 2);
    }

    #[test]
    fn what_was_kept_once_is_known_by_its_place() {
        let partition = |number| Partition { topic: "flow".to_string(), number, next: 0, end: 9 };
        let mut kept = Kept::default();
        kept.note(&partition(1), 5);
        assert!(kept.has(&partition(1), 5) && kept.has(&partition(1), 2));
        assert!(!kept.has(&partition(1), 6) && !kept.has(&partition(0), 5));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
    }
}
