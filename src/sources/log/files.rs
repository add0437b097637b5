//! Files as a log: each folder is a topic of one partition, each line a message.
//!
//! The shape is TiCDC's storage sink's (`<database>/<table>/<version>/CDC000001.json`, and `metadata` beside them with
//! the checkpoint), and any other folder whose files are numbered by the last digits in their names. Files grow and
//! new ones come; nothing that was read may change. An offset is the file's number and the place of a line in it.
//!
//! Source: TiCDC's document "Replicate data to storage services".

mod folder;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::sources::Stop;
use crate::sources::log::{Begin, Ends, Entry, Fault, Log, Offsets, Partition};
pub use folder::Lines;
use folder::{Folder, folders};

/// How often a folder is looked at that gave nothing.
const POLL: Duration = Duration::from_millis(200);
/// Batches of messages that wait for the reader.
const BATCHES_MAX: usize = 4;
/// Messages of one batch, in bytes, but for a longer line.
const BATCH_BYTES: usize = 1 << 20;
/// TiCDC's file with the timestamp up to which everything is in the files.
const METADATA: &str = "metadata";

/// Files under a folder.
pub struct FilesLog {
    root: PathBuf,
    lines: Lines,
    batches: Option<mpsc::Receiver<Result<Vec<Entry>, Fault>>>,
    /// Dropped, it ends the reader's wait.
    closed: Option<std::sync::mpsc::Sender<()>>,
    paused: Arc<Vec<AtomicBool>>,
}

impl FilesLog {
    pub fn new(root: PathBuf, lines: Lines) -> FilesLog {
        FilesLog { root, lines, batches: None, closed: None, paused: Arc::default() }
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
        let (root, lines) = (self.root.clone(), self.lines);
        let found =
            tokio::task::spawn_blocking(move || folders(&root, lines)).await.expect("listing does not panic")?;
        if found.is_empty() {
            let extensions = lines.extensions().join(", .");
            let reason = format!("there is no file .{extensions} under {}", self.root.display());
            return Err(Fault::Lost { action: "read files", reason });
        }
        let mut folders = Vec::new();
        let mut partitions = Vec::new();
        for topic in found {
            let next = offsets.topics.get(&topic).and_then(|topic| topic.next.get(&0)).copied();
            let folder = Folder::open(&self.root, lines, &topic, next)?;
            partitions.push(Partition { topic, number: 0, next: folder.offset(), end: folder.end()? });
            folders.push(folder);
        }
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        self.paused = Arc::new(folders.iter().map(|_| AtomicBool::new(false)).collect());
        let (close, closed) = std::sync::mpsc::channel();
        (self.batches, self.closed) = (Some(receiver), Some(close));
        let reader =
            Reader { root: self.root.clone(), lines, folders, paused: Arc::clone(&self.paused), sender, closed };
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
        let (root, lines) = (self.root.clone(), self.lines);
        Arc::new(move || {
            let mut ends = Offsets::default();
            for topic in folders(&root, lines)? {
                let end = Folder::open(&root, lines, &topic, None)?.end()?;
                ends.topics.entry(topic).or_default().next.insert(0, end);
            }
            Ok(ends)
        })
    }

    fn pause(&mut self, partition: usize, paused: bool) -> Result<(), Fault> {
        self.paused[partition].store(paused, Ordering::Relaxed);
        Ok(())
    }
}

/// The thread that reads: disk work is not for the threads that everything else runs on.
struct Reader {
    root: PathBuf,
    lines: Lines,
    folders: Vec<Folder>,
    paused: Arc<Vec<AtomicBool>>,
    sender: mpsc::Sender<Result<Vec<Entry>, Fault>>,
    closed: std::sync::mpsc::Receiver<()>,
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

    /// Everything that is there now, then the checkpoint that it reaches; false when nobody takes it.
    fn round(&mut self) -> Result<bool, Fault> {
        // First: what it promises was in the files before it was written.
        let checkpoint = match self.lines {
            Lines::Changes => folder::checkpoint(&self.root.join(METADATA))?,
            Lines::Json | Lines::Csv => None,
        };
        let mut quiet = true;
        for partition in 0..self.folders.len() {
            let folder = &mut self.folders[partition];
            while !self.paused[partition].load(Ordering::Relaxed) {
                let entries = folder.read(partition, BATCH_BYTES)?;
                if entries.is_empty() {
                    break;
                }
                quiet = false;
                if self.sender.blocking_send(Ok(entries)).is_err() {
                    return Ok(false);
                }
            }
            if let Some(checkpoint) = checkpoint
                && let Some(entry) = folder.reached(partition, checkpoint)?
                && self.sender.blocking_send(Ok(vec![entry])).is_err()
            {
                return Ok(false);
            }
        }
        if quiet {
            if folders(&self.root, self.lines)?.len() > self.folders.len() {
                let reason = "a new folder has come".to_string();
                return Err(Fault::Lost { action: "go on with the same files", reason });
            }
            return Ok(self.closed.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
