//! Files as a log: each folder is a topic of one partition, each line a message.
//!
//! The shape is TiCDC's storage sink's (`<database>/<table>/<version>/CDC000001.json`, and `metadata` beside them with
//! the checkpoint), and any other folder whose files are numbered by the last digits in their names. New ones come, and
//! on a disk they grow; nothing that was read may change. An offset is the file's number and the place of a line in it.
//!
//! A checkpoint is said of a folder when all is read that a listing had which was made after the checkpoint was read,
//! and only if that listing has no folder that is new: rows of its files may be below the checkpoint.
//!
//! Source: TiCDC's document "Replicate data to storage services".

pub mod disk;
mod folder;
#[cfg(feature = "objects")]
pub mod objects;
pub mod root;
pub mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::sources::Stop;
use crate::sources::log::{Begin, Ends, Entry, Fault, Log, Offsets, Partition};
use folder::Folder;
use storage::{Files, Lines, Listing, Storage, Whole, place};

/// How often a reader looks whether partitions that had to wait may be read again.
const PAUSED_POLL: Duration = Duration::from_millis(200);
/// Batches of messages that wait for the reader.
const BATCHES_MAX: usize = 4;
/// Messages of one batch, in bytes, but for a longer line.
const BATCH_BYTES: usize = 1 << 20;
/// TiCDC's file with the timestamp up to which everything is in the files.
const METADATA: &str = "metadata";
const METADATA_BYTES_MAX: u64 = 64 << 10;

/// Files under a root.
pub struct FilesLog {
    storage: Arc<dyn Storage>,
    lines: Lines,
    batches: Option<mpsc::Receiver<Result<Vec<Entry>, Fault>>>,
    /// Dropped, it ends the reader's wait.
    closed: Option<std::sync::mpsc::Sender<()>>,
    paused: Arc<Vec<AtomicBool>>,
}

impl FilesLog {
    pub fn new(storage: Arc<dyn Storage>, lines: Lines) -> FilesLog {
        FilesLog { storage, lines, batches: None, closed: None, paused: Arc::default() }
    }
}

#[async_trait]
impl Log for FilesLog {
    async fn open(&mut self, offsets: &Offsets, begin: Begin) -> Result<Vec<Partition>, Fault> {
        // Ends the reader of before.
        (self.batches, self.closed) = (None, None);
        if begin != Begin::Earliest && offsets.topics.is_empty() {
            return Err(Fault::Stop(Box::new(Stop {
                code: "START_UNSUPPORTED",
                message: "files are read from their beginning".to_string(),
                position: None,
                remedy: "create the source with START AT EARLIEST".to_string(),
            })));
        }
        let (storage, lines, offsets) = (Arc::clone(&self.storage), self.lines, offsets.clone());
        let begun = tokio::task::spawn_blocking(move || folders(&*storage, lines, &offsets)).await;
        let (folders, listing) = begun.expect("listing does not panic")?;
        let partition = |folder: &Folder| {
            let end = listing.get(folder.topic()).and_then(Files::end);
            let (topic, next) = (folder.topic().to_string(), folder.offset());
            Partition { topic, number: 0, next, end: end.unwrap_or(next) }
        };
        let partitions = folders.iter().map(partition).collect();
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        self.paused = Arc::new(folders.iter().map(|_| AtomicBool::new(false)).collect());
        let (close, closed) = std::sync::mpsc::channel();
        (self.batches, self.closed) = (Some(receiver), Some(close));
        let (storage, paused) = (Arc::clone(&self.storage), Arc::clone(&self.paused));
        let reader = Reader { storage, lines, folders, paused, sender, closed };
        std::thread::Builder::new()
            .name("files".to_string())
            .spawn(move || reader.run())
            .map_err(|e| Fault::Lost { action: "start a reader of files", reason: e.to_string() })?;
        Ok(partitions)
    }

    async fn next(&mut self) -> Result<Vec<Entry>, Fault> {
        let batches = self.batches.as_mut().expect("it was opened");
        let ended = || Fault::Lost { action: "read files", reason: "the reader has ended".to_string() };
        batches.recv().await.unwrap_or_else(|| Err(ended()))
    }

    fn ends(&self) -> Ends {
        let (storage, lines) = (Arc::clone(&self.storage), self.lines);
        Arc::new(move || {
            let mut ends = Offsets::default();
            for (topic, files) in storage.list(lines, &BTreeMap::new())? {
                ends.topics.entry(topic).or_default().next.insert(0, files.end().unwrap_or(0));
            }
            Ok(ends)
        })
    }

    fn pause(&mut self, partition: usize, paused: bool) -> Result<(), Fault> {
        self.paused[partition].store(paused, Ordering::Relaxed);
        Ok(())
    }
}

/// All folders that have files, each where it is to be read.
fn folders(storage: &dyn Storage, lines: Lines, offsets: &Offsets) -> Result<(Vec<Folder>, Listing), Fault> {
    let next = |topic: &str| offsets.topics.get(topic).and_then(|topic| topic.next.get(&0)).copied();
    let from = offsets.topics.keys().filter_map(|topic| Some((topic.clone(), place(next(topic)?).0))).collect();
    let listing = storage.list(lines, &from)?;
    if listing.is_empty() {
        let extensions = lines.extensions().join(", .");
        let reason = format!("there is no file .{extensions} under {}", storage.name());
        return Err(Fault::Lost { action: "read files", reason });
    }
    let open = |(topic, files): (&String, &Files)| Folder::open(lines, topic, next(topic), files);
    let folders = listing.iter().map(open).collect::<Result<Vec<Folder>, Fault>>()?;
    Ok((folders, listing))
}

/// The thread that reads: blocking work is not for the threads that everything else runs on.
struct Reader {
    storage: Arc<dyn Storage>,
    lines: Lines,
    folders: Vec<Folder>,
    paused: Arc<Vec<AtomicBool>>,
    sender: mpsc::Sender<Result<Vec<Entry>, Fault>>,
    closed: std::sync::mpsc::Receiver<()>,
}

/// What was there at one moment.
struct Seen {
    at: Instant,
    /// What it promises is in the listing, which is newer.
    checkpoint: Option<u64>,
    listing: Listing,
}

/// How far a listing was read.
enum Read {
    Whole,
    /// There are more files than it had.
    Part,
    /// Partitions have to wait.
    Paused,
    /// Nobody takes it any more.
    Closed,
}

impl Reader {
    fn run(mut self) {
        let fault = loop {
            match self.round() {
                Ok(true) => {}
                // Nobody listens any more.
                Ok(false) => return,
                Err(fault) => break fault,
            }
        };
        let _ = self.sender.blocking_send(Err(fault));
    }

    /// Reads everything that is there now, and waits until it may look again; false when nobody takes it.
    fn round(&mut self) -> Result<bool, Fault> {
        let seen = self.look()?;
        loop {
            let wait = match self.read(&seen)? {
                Read::Closed => return Ok(false),
                Read::Part => return Ok(true),
                Read::Whole => self.storage.poll().saturating_sub(seen.at.elapsed()),
                Read::Paused => PAUSED_POLL,
            };
            if self.closed.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return Ok(false);
            }
            if seen.at.elapsed() >= self.storage.poll() {
                return Ok(true);
            }
        }
    }

    fn look(&self) -> Result<Seen, Fault> {
        let at = Instant::now();
        // First: what it promises was in the files before it was written.
        let checkpoint = match self.lines {
            Lines::Changes => match self.storage.whole(METADATA, METADATA_BYTES_MAX)? {
                Whole::Bytes(bytes) => folder::checkpoint(&bytes),
                Whole::Missing | Whole::TooLarge => None,
            },
            Lines::Json | Lines::Csv => None,
        };
        let from = self.folders.iter().map(|folder| (folder.topic().to_string(), folder.number())).collect();
        let listing = self.storage.list(self.lines, &from)?;
        match listing.keys().find(|topic| !from.contains_key(*topic)) {
            None => Ok(Seen { at, checkpoint, listing }),
            Some(topic) => {
                let reason = format!("folder {topic} is new");
                Err(Fault::Lost { action: "go on with the same folders", reason })
            }
        }
    }

    fn read(&mut self, seen: &Seen) -> Result<Read, Fault> {
        let (mut done, none) = (Read::Whole, Files::default());
        for (partition, folder) in self.folders.iter_mut().enumerate() {
            let files = seen.listing.get(folder.topic()).unwrap_or(&none);
            let at_end = loop {
                if self.paused[partition].load(Ordering::Relaxed) {
                    folder.rest();
                    done = Read::Paused;
                    break false;
                }
                let entries = folder.read(&*self.storage, files, partition, BATCH_BYTES)?;
                if entries.is_empty() {
                    break files.are_all();
                }
                if self.sender.blocking_send(Ok(entries)).is_err() {
                    return Ok(Read::Closed);
                }
            };
            if !files.are_all() && matches!(done, Read::Whole) {
                done = Read::Part;
            }
            if at_end
                && let Some(checkpoint) = seen.checkpoint
                && let Some(entry) = folder.reached(partition, checkpoint)
                && self.sender.blocking_send(Ok(vec![entry])).is_err()
            {
                return Ok(Read::Closed);
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
