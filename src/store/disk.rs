//! The key-value engine on disk: fjall, and beside it the number of the last tick.
//!
//! They are `<directory>/kv` and `<directory>/tick`. fjall cuts its journal at an entry that it cannot decode, without
//! an error, and so goes back in time; the number beside it does not, which is how opening notices. A power cut may
//! bring an older number back: it is written after the tick's sync, without a sync of its own.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::row::ObjectId;
use crate::store::kv::{Batch, Durability, Kv, KvError, KvIter, KvSnapshot, Slice, Space};

const CACHE_BYTES: u64 = 64 << 20;
/// Of one space; tables are many, so it is far below fjall's default.
const MEMTABLE_BYTES: u64 = 16 << 20;
const JOURNAL_BYTES_MAX: u64 = 512 << 20;

pub struct DiskKv {
    database: Database,
    /// Replaced whole when a space comes or goes, so that a snapshot keeps the handles it may read.
    spaces: RwLock<Arc<BTreeMap<Space, Keyspace>>>,
    note: Mutex<File>,
}

impl DiskKv {
    pub fn open(directory: &Path) -> Result<DiskKv, KvError> {
        std::fs::create_dir_all(directory).map_err(io)?;
        let builder = Database::builder(directory.join("kv"));
        let builder = builder.cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES_MAX);
        // fjall asserts some lengths that it reads from its journal: on a damaged one it panics.
        let database = catch_unwind(AssertUnwindSafe(|| builder.open()))
            .map_err(|_| KvError::Damaged("its journal cannot be read".to_string()))?
            .map_err(error)?;
        let mut spaces = BTreeMap::new();
        for name in database.list_keyspace_names() {
            let space = parse(&name).ok_or_else(|| KvError::Damaged(format!("unknown keyspace {name:?}")))?;
            spaces.insert(space, database.keyspace(&name, options).map_err(error)?);
        }
        let note = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join("tick"));
        Ok(DiskKv { database, spaces: RwLock::new(Arc::new(spaces)), note: Mutex::new(note.map_err(io)?) })
    }

    fn handles(&self) -> Arc<BTreeMap<Space, Keyspace>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn handle(&self, space: Space) -> Result<Keyspace, KvError> {
        self.handles().get(&space).cloned().ok_or_else(|| missing(space))
    }
}

impl Kv for DiskKv {
    fn spaces(&self) -> Vec<Space> {
        self.handles().keys().copied().collect()
    }

    fn create(&self, space: Space) -> Result<(), KvError> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        if !spaces.contains_key(&space) {
            let handle = self.database.keyspace(&name(space), options).map_err(error)?;
            Arc::make_mut(&mut spaces).insert(space, handle);
        }
        Ok(())
    }

    fn drop_space(&self, space: Space) -> Result<(), KvError> {
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        match Arc::make_mut(&mut spaces).remove(&space) {
            Some(handle) => self.database.delete_keyspace(handle).map_err(error),
            None => Ok(()),
        }
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, KvError> {
        self.handle(space)?.get(key).map_err(error)
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        Arc::new(DiskSnapshot { at: self.database.snapshot(), spaces: self.handles() })
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let handles = self.handles();
        let mode = match durability {
            Durability::Synced => PersistMode::SyncData,
            Durability::Later => PersistMode::Buffer,
        };
        let mut writes = self.database.batch().durability(Some(mode));
        for (space, key, value) in batch.writes {
            let handle = handles.get(&space).ok_or_else(|| missing(space))?;
            match value {
                Some(value) => writes.insert(handle, key, value),
                None => writes.remove(handle, key),
            }
        }
        writes.commit().map_err(error)
    }

    fn ingest(&self, space: Space, rows: &mut dyn Iterator<Item = (&[u8], Slice)>) -> Result<(), KvError> {
        let handle = self.handle(space)?;
        let mut ingestion = handle.start_ingestion().map_err(error)?;
        for (key, value) in rows {
            ingestion.write(key, value).map_err(error)?;
        }
        ingestion.finish().map_err(error)
    }

    fn noted(&self) -> Result<u64, KvError> {
        let mut file = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::with_capacity(NOTE_BYTES);
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(io)?;
        // A torn write says nothing; it is the note of a tick that was synced before it anyway.
        let halves = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
        Ok(match halves {
            (Some(number), Some(check)) if bytes.len() == NOTE_BYTES => {
                let (number, check) = (u64::from_le_bytes(*number), u64::from_le_bytes(*check));
                if number == !check { number } else { 0 }
            }
            _ => 0,
        })
    }

    fn note(&self, number: u64) -> Result<(), KvError> {
        let mut file = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; NOTE_BYTES];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&(!number).to_le_bytes());
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&bytes)).map_err(io)
    }
}

/// The number, and its complement as a check.
const NOTE_BYTES: usize = 16;

struct DiskSnapshot {
    at: ::fjall::Snapshot,
    spaces: Arc<BTreeMap<Space, Keyspace>>,
}

impl KvSnapshot for DiskSnapshot {
    fn scan(&self, space: Space, from: &[u8], until: &[u8]) -> KvIter {
        match self.spaces.get(&space) {
            Some(handle) => Box::new(self.at.range(handle, from..until).map(|entry| entry.into_inner().map_err(error))),
            None => Box::new(std::iter::empty()),
        }
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

fn name(space: Space) -> String {
    match space {
        Space::Main => "main".to_string(),
        Space::Segments => "segments".to_string(),
        Space::Rows(table, generation) => format!("rows-{}-{generation}", table.0),
    }
}

fn parse(name: &str) -> Option<Space> {
    match name {
        "main" => Some(Space::Main),
        "segments" => Some(Space::Segments),
        _ => {
            let (table, generation) = name.strip_prefix("rows-")?.split_once('-')?;
            Some(Space::Rows(ObjectId(table.parse().ok()?), generation.parse().ok()?))
        }
    }
}

fn missing(space: Space) -> KvError {
    KvError::Io(format!("space {} was dropped", name(space)))
}

fn io(error: std::io::Error) -> KvError {
    KvError::Io(error.to_string())
}

fn error(error: ::fjall::Error) -> KvError {
    use ::fjall::{Error, LsmError};
    match error {
        Error::Locked => KvError::Locked,
        Error::Io(e) | Error::Storage(LsmError::Io(e)) => io(e),
        Error::Poisoned => KvError::Io("an earlier write failed: free the disk and restart the server".to_string()),
        Error::KeyspaceDeleted => KvError::Io("the space was dropped".to_string()),
        other => KvError::Damaged(other.to_string()),
    }
}
