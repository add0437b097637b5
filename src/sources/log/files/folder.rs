//! One folder's files, read line by line in the order of their numbers.

use std::io::{BufRead, Read};

use super::storage::{FileAt, Files, Lines, Storage, below, offset, place};
use crate::sources::Stop;
use crate::sources::log::{Entry, Fault};

/// A line that does not end within this is no message.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Where a folder is read.
pub struct Folder {
    lines: Lines,
    topic: String,
    number: u64,
    place: u64,
    open: Option<Box<dyn BufRead + Send>>,
    /// The last checkpoint that was said.
    said: Option<u64>,
}

impl Folder {
    /// At an offset, or at the first of its files, which were listed from there on.
    pub fn open(lines: Lines, topic: &str, at: Option<i64>, files: &Files) -> Result<Folder, Fault> {
        let (number, place) = at.map_or_else(|| (files.first().unwrap_or(0), 0), place);
        let folder = Folder { lines, topic: topic.to_string(), number, place, open: None, said: None };
        if at.is_some() {
            folder.check(files)?;
        }
        Ok(folder)
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The file that it is read in.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn offset(&self) -> i64 {
        offset(self.number, self.place)
    }

    /// The next whole lines; none: there is nothing more in the listing.
    pub fn read(
        &mut self,
        storage: &dyn Storage,
        files: &Files,
        partition: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some((line, end)) = self.line(storage, files)? else {
                let Some(next) = files.behind(self.number) else { break };
                (self.number, self.place, self.open) = (next, 0, None);
                continue;
            };
            // The offset of a line is that of its last byte: going on behind it begins at the next one.
            let offset = offset(self.number, end - 1);
            let begins_file = self.place == 0;
            self.place = end;
            let text = self.lines.message(&line);
            if !text.is_empty() {
                bytes += text.len();
                let value = Some(text.to_vec());
                entries.push(Entry { partition, offset, key: None, value, written_ms: None, begins_file });
            }
        }
        Ok(entries)
    }

    /// Holds nothing open while it is not read.
    pub fn rest(&mut self) {
        self.open = None;
    }

    /// Says a checkpoint, once all that was there has been read, as TiCDC says it in messages.
    pub fn reached(&mut self, partition: usize, checkpoint: u64) -> Option<Entry> {
        if self.said >= Some(checkpoint) {
            return None;
        }
        self.said = Some(checkpoint);
        let extension = format!(r#""_tidb":{{"watermarkTs":{checkpoint}}}"#);
        let value = format!(r#"{{"database":"","table":"","isDdl":false,"type":"TIDB_WATERMARK",{extension}}}"#);
        let offset = self.offset() - 1;
        let value = Some(value.into_bytes());
        Some(Entry { partition, offset, key: None, value, written_ms: None, begins_file: false })
    }

    /// The next line and the place behind it. A last line without its end is whole where the file is.
    fn line(&mut self, storage: &dyn Storage, files: &Files) -> Result<Option<(Vec<u8>, u64)>, Fault> {
        // A file may have grown since it was listed; what it has when the one behind it is there is all of it.
        let is_last = files.behind(self.number).is_none();
        let has_more = |file: &&FileAt| self.place < file.bytes || storage.may_grow() && !is_last;
        let Some(file) = files.get(self.number).filter(has_more) else { return Ok(None) };
        let reader = match &mut self.open {
            Some(reader) => reader,
            none => {
                storage.foresee(&self.topic, &mut files.after(self.number));
                none.insert(storage.open(&self.topic, file, self.place)?)
            }
        };
        let mut line = Vec::new();
        let read = Read::take(&mut **reader, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| self.lost(storage, file, &error))? as u64;
        if line.last() == Some(&b'\n') {
            return Ok(Some((line, self.place + read)));
        }
        // Read again from its beginning when it has grown.
        self.open = None;
        if read == LINE_BYTES_MAX {
            return Err(self.stop("BAD_MESSAGE", format!("a line of more than {LINE_BYTES_MAX} bytes")));
        }
        let is_whole = !storage.may_grow() || !is_last;
        Ok((read > 0 && is_whole).then_some((line, self.place + read)))
    }

    /// What was read must still be there as it was.
    fn check(&self, files: &Files) -> Result<(), Fault> {
        match files.get(self.number) {
            Some(file) if file.bytes < self.place => {
                let path = below(&self.topic, &file.name);
                Err(self.stop("SOURCE_DIVERGED", format!("{path} is shorter than what was read of it")))
            }
            Some(_) => Ok(()),
            None if files.first().is_some_and(|first| first > self.number + 1) => {
                let message = format!("files {} and following are no longer there", self.number);
                Err(self.stop("SOURCE_GONE", message))
            }
            None => Ok(()),
        }
    }

    fn lost(&self, storage: &dyn Storage, file: &FileAt, error: &std::io::Error) -> Fault {
        let path = below(&self.topic, &file.name);
        Fault::Lost { action: "read files", reason: format!("{}: {path}: {error}", storage.name()) }
    }

    fn stop(&self, code: &'static str, what: String) -> Fault {
        Fault::Stop(Box::new(Stop {
            code,
            message: format!("folder {}, offset {}: {what}", self.topic, self.offset()),
            position: None,
            remedy: "put the files back as they were, then ALTER SOURCE … RESUME; or drop and create the source"
                .to_string(),
        }))
    }
}

/// TiCDC's `{"checkpoint-ts": n}`; `None` of a file that is just being written.
pub fn checkpoint(bytes: &[u8]) -> Option<u64> {
    let read: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    read.get("checkpoint-ts")?.as_u64()
}
