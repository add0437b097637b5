//! One folder's files, read line by line in the order of their numbers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::sources::Stop;
use crate::sources::log::{Entry, Fault};

/// TiCDC's folder of schema files.
const META: &str = "meta";
const DEPTH_MAX: usize = 8;
/// A line that does not end within this is no message.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// The bits of an offset below a file's number.
const PLACE_BITS: u32 = 40;
const NUMBER_MAX: u64 = 1 << 22;

/// What the lines of files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Changes in JSON, as TiCDC writes them, with its checkpoint beside them.
    Changes,
    Json,
    Csv,
}

impl Lines {
    /// Of the files' names.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Lines::Changes | Lines::Json => &["json", "jsonl", "ndjson"],
            Lines::Csv => &["csv", "tsv"],
        }
    }

    /// The message of a line; empty: it is none.
    fn message(self, line: &[u8]) -> &[u8] {
        match self {
            Lines::Changes | Lines::Json => line.trim_ascii(),
            // White space may be a field, or separate two.
            Lines::Csv => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                line.strip_suffix(b"\r").unwrap_or(line)
            }
        }
    }
}

/// Where a folder is read.
pub struct Folder {
    path: PathBuf,
    lines: Lines,
    topic: String,
    number: u64,
    place: u64,
    open: Option<BufReader<File>>,
    /// The last checkpoint that was said.
    said: Option<u64>,
    /// The last reading found nothing more.
    at_end: bool,
}

impl Folder {
    pub fn open(root: &Path, lines: Lines, topic: &str, offset: Option<i64>) -> Result<Folder, Fault> {
        let mut folder = Folder {
            path: root.join(topic),
            lines,
            topic: topic.to_string(),
            number: 0,
            place: 0,
            open: None,
            said: None,
            at_end: false,
        };
        if let Some(offset) = offset {
            (folder.number, folder.place) = (offset as u64 >> PLACE_BITS, offset as u64 & ((1 << PLACE_BITS) - 1));
            folder.check()?;
        } else if let Some(first) = folder.files()?.keys().next() {
            folder.number = *first;
        }
        Ok(folder)
    }

    pub fn offset(&self) -> i64 {
        offset(self.number, self.place)
    }

    /// One past the last byte there is.
    pub fn end(&self) -> Result<i64, Fault> {
        match self.files()?.last_key_value() {
            Some((number, path)) => Ok(offset(*number, size(path)?)),
            None => Ok(self.offset()),
        }
    }

    /// The next whole lines; none: there is nothing more now.
    pub fn read(&mut self, partition: usize, bytes_max: usize) -> Result<Vec<Entry>, Fault> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        self.at_end = false;
        while bytes < bytes_max {
            let Some((line, end)) = self.line()? else {
                if self.next_file()? {
                    continue;
                }
                self.at_end = true;
                break;
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

    /// Says a checkpoint, once all that was there has been read, as TiCDC says it in messages.
    pub fn reached(&mut self, partition: usize, checkpoint: u64) -> Result<Option<Entry>, Fault> {
        if !self.at_end || self.said >= Some(checkpoint) {
            return Ok(None);
        }
        self.said = Some(checkpoint);
        let extension = format!(r#""_tidb":{{"watermarkTs":{checkpoint}}}"#);
        let value = format!(r#"{{"database":"","table":"","isDdl":false,"type":"TIDB_WATERMARK",{extension}}}"#);
        let offset = self.offset() - 1;
        let value = Some(value.into_bytes());
        Ok(Some(Entry { partition, offset, key: None, value, written_ms: None, begins_file: false }))
    }

    /// The next line and the place behind it. A last line without its end is whole only when a later file is there.
    fn line(&mut self) -> Result<Option<(Vec<u8>, u64)>, Fault> {
        if self.open.is_none() {
            let Some(path) = self.files()?.remove(&self.number) else { return Ok(None) };
            let mut file = File::open(&path).map_err(|e| lost(&path, e))?;
            file.seek(SeekFrom::Start(self.place)).map_err(|e| lost(&path, e))?;
            self.open = Some(BufReader::new(file));
        }
        let reader = self.open.as_mut().expect("it was just opened");
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut *reader, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|e| lost(&self.path, e))? as u64;
        if line.last() == Some(&b'\n') {
            return Ok(Some((line, self.place + read)));
        }
        // Read again from its beginning when it has grown.
        self.open = None;
        if read == LINE_BYTES_MAX {
            return Err(self.stop("BAD_MESSAGE", format!("a line of more than {LINE_BYTES_MAX} bytes")));
        }
        let is_last = self.files()?.last_key_value().is_none_or(|(number, _)| *number <= self.number);
        Ok((read > 0 && !is_last).then_some((line, self.place + read)))
    }

    fn next_file(&mut self) -> Result<bool, Fault> {
        let files = self.files()?;
        let Some((next, _)) = files.range(self.number + 1..).next() else { return Ok(false) };
        // What grew between reading the file's end and seeing the next one comes first.
        let grown = files.get(&self.number).map(|path| size(path)).transpose()?.is_some_and(|size| size > self.place);
        if !grown {
            (self.number, self.place) = (*next, 0);
            self.open = None;
        }
        Ok(true)
    }

    /// What was read must still be there as it was.
    fn check(&self) -> Result<(), Fault> {
        let files = self.files()?;
        match files.get(&self.number) {
            Some(path) if size(path)? < self.place => {
                let message = format!("{} is shorter than what was read of it", path.display());
                Err(self.stop("SOURCE_DIVERGED", message))
            }
            Some(_) => Ok(()),
            None if files.keys().next().is_some_and(|first| *first > self.number + 1) => {
                let message = format!("files {} and following are no longer there", self.number);
                Err(self.stop("SOURCE_GONE", message))
            }
            None => Ok(()),
        }
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

    /// By number. Two files of one number have no order.
    fn files(&self) -> Result<BTreeMap<u64, PathBuf>, Fault> {
        let mut files = BTreeMap::<u64, PathBuf>::new();
        for path in entries(&self.path)?.into_iter().filter(|path| is_log(path, self.lines)) {
            let number = number(&path);
            if number >= NUMBER_MAX {
                return Err(self.stop("BAD_FILE_NAME", format!("{} has too large a number", path.display())));
            }
            if let Some(other) = files.insert(number, path.clone()) {
                let what = format!("{} and {} have one number", other.display(), path.display());
                return Err(self.stop("BAD_FILE_NAME", what));
            }
        }
        Ok(files)
    }
}

/// The folders under this one that have files, as paths from it, in order.
pub fn folders(root: &Path, lines: Lines) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    let mut left = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = left.pop() {
        let entries = entries(&folder)?;
        if entries.iter().any(|path| is_log(path, lines)) {
            let topic = folder.strip_prefix(root).expect("it is under the root");
            found.push(topic.to_string_lossy().into_owned());
        }
        let below = entries.into_iter().filter(|path| path.is_dir() && path.file_name().is_some_and(|n| n != META));
        left.extend(below.filter(|_| depth < DEPTH_MAX).map(|path| (path, depth + 1)));
    }
    found.sort();
    Ok(found)
}

/// TiCDC's `{"checkpoint-ts": n}`; `None` where there is no such file, or it is just being written.
pub fn checkpoint(path: &Path) -> Result<Option<u64>, Fault> {
    match fs::read(path) {
        Ok(bytes) => {
            let read: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            Ok(read.and_then(|value| value.get("checkpoint-ts")?.as_u64()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(lost(path, e)),
    }
}

fn offset(number: u64, place: u64) -> i64 {
    (number << PLACE_BITS | place) as i64
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = fs::read_dir(folder).map_err(|e| lost(folder, e))?;
    entries.map(|entry| Ok(entry.map_err(|e| lost(folder, e))?.path())).collect()
}

fn is_log(path: &Path, lines: Lines) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| lines.extensions().contains(&e)) && path.is_file()
}

/// The last digits in a file's name; 0 without any.
fn number(path: &Path) -> u64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let end = stem.trim_end_matches(|c: char| !c.is_ascii_digit());
    let start = end.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let digits = &end[start..];
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
}

fn size(path: &Path) -> Result<u64, Fault> {
    Ok(fs::metadata(path).map_err(|e| lost(path, e))?.len())
}

fn lost(path: &Path, error: std::io::Error) -> Fault {
    Fault::Lost { action: "read files", reason: format!("{}: {error}", path.display()) }
}
