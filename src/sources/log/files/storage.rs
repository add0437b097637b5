//! The contract of what files lie in: listed by folder and number, read from a place on.
//!
//! What each side may rely on:
//! - a path is the folder and the name below the root, with `/` between; nothing outside of the root is ever read;
//! - a listing is of one moment or of several after it was asked for: what was there before is in it, but for files
//!   below the numbers that it was asked from;
//! - files of a folder have an order, the last number in their names; two with one number are a fault;
//! - a listing is bounded: of a folder with more than [`FILES_LISTED_MAX`] files it has the first, and says so;
//! - what a storage refuses or does not answer is `Fault::Lost`, after its own retries; calls block, and are made on
//!   threads that may.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use crate::sources::Stop;
use crate::sources::log::Fault;

/// TiCDC's folders of schema and index files.
const META: &str = "meta";
/// Of one folder, in one listing.
pub const FILES_LISTED_MAX: usize = 4096;
/// The bits of an offset below a file's number.
const PLACE_BITS: u32 = 40;
const NUMBER_MAX: u64 = 1 << 22;

pub trait Storage: Send + Sync {
    /// The files of each folder that has some, from the numbers on that are given.
    fn list(&self, lines: Lines, from: &BTreeMap<String, u64>) -> Result<Listing, Fault>;

    /// A listed file from a place in it on.
    fn open(&self, folder: &str, file: &FileAt, place: u64) -> Result<Box<dyn BufRead + Send>, Fault>;

    /// Files that are opened next from their beginning: some may be fetched beforehand.
    fn foresee(&self, _folder: &str, _files: &mut dyn Iterator<Item = &FileAt>) {}

    /// A file as a whole.
    fn whole(&self, path: &str, bytes_max: u64) -> Result<Whole, Fault>;

    /// Asks for the root, for VALIDATE CONNECTION.
    fn look(&self) -> Result<(), Fault>;

    /// Whether files grow after they are first seen: then a last line without an end may be half of one.
    fn may_grow(&self) -> bool;

    /// At least this long between two listings.
    fn poll(&self) -> Duration;

    /// The root, as people name it.
    fn name(&self) -> String;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    Bytes(Vec<u8>),
    Missing,
    /// Larger than was wanted.
    TooLarge,
}

/// By folder.
pub type Listing = BTreeMap<String, Files>;

/// The files of a folder that were listed, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    files: BTreeMap<u64, FileAt>,
    /// Number and size of the last there is.
    last: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAt {
    pub name: String,
    pub bytes: u64,
}

/// What the lines of files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Changes in JSON, as TiCDC writes them, with its checkpoint beside them.
    Changes,
    Json,
    Csv,
}

impl Files {
    /// Takes a file into the listing; one that is not wanted, or of another kind, is passed over.
    pub fn add(&mut self, folder: &str, from: u64, file: FileAt) -> Result<(), Fault> {
        let number = number(&file.name);
        let refused = |what: String| {
            Err(Fault::Stop(Box::new(Stop {
                code: "BAD_FILE_NAME",
                message: format!("folder {folder}: {what}"),
                position: None,
                remedy: "name the files with numbers that tell their order, then ALTER SOURCE … RESUME".to_string(),
            })))
        };
        if number >= NUMBER_MAX {
            return refused(format!("{} has too large a number", file.name));
        }
        if number < from {
            return Ok(());
        }
        self.last = self.last.max(Some((number, file.bytes)));
        if let Some(other) = self.files.get(&number).filter(|other| other.name != file.name) {
            return refused(format!("{} and {} have one number", other.name, file.name));
        }
        self.files.insert(number, file);
        if self.files.len() > FILES_LISTED_MAX {
            self.files.pop_last();
        }
        Ok(())
    }

    pub fn get(&self, number: u64) -> Option<&FileAt> {
        self.files.get(&number)
    }

    pub fn first(&self) -> Option<u64> {
        self.files.keys().next().copied()
    }

    /// The number of the file behind this one.
    pub fn behind(&self, number: u64) -> Option<u64> {
        self.files.range(number + 1..).next().map(|(number, _)| *number)
    }

    /// The files behind this one.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &FileAt> {
        self.files.range(number + 1..).map(|(_, file)| file)
    }

    /// False: there are more than were listed.
    pub fn are_all(&self) -> bool {
        self.files.keys().next_back() == self.last.as_ref().map(|(number, _)| number)
    }

    /// One past the last byte there is.
    pub fn end(&self) -> Option<i64> {
        self.last.map(|(number, bytes)| offset(number, bytes))
    }
}

impl Lines {
    /// Of the files' names.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Lines::Changes | Lines::Json => &["json", "jsonl", "ndjson"],
            Lines::Csv => &["csv", "tsv"],
        }
    }

    /// Whether a file has lines to be read.
    pub fn are_in(self, name: &str) -> bool {
        let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
        extension.is_some_and(|extension| self.extensions().contains(&extension))
    }

    /// The message of a line; empty: it is none.
    pub fn message(self, line: &[u8]) -> &[u8] {
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

/// Whether a folder is one of TiCDC's own.
pub fn is_meta(folder: &str) -> bool {
    folder == META
}

/// A place in a folder, as an offset of its log.
pub fn offset(number: u64, place: u64) -> i64 {
    (number << PLACE_BITS | place) as i64
}

/// The file's number and the place in it.
pub fn place(offset: i64) -> (u64, u64) {
    (offset as u64 >> PLACE_BITS, offset as u64 & ((1 << PLACE_BITS) - 1))
}

/// The last digits in a file's name; 0 without any.
fn number(name: &str) -> u64 {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let end = stem.trim_end_matches(|c: char| !c.is_ascii_digit());
    let start = end.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let digits = &end[start..];
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
}

/// A path below the root.
pub fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_read_and_in_which_order() {
        for (name, wanted) in [
            ("CDC000012.json", 12),
            ("log-7.jsonl", 7),
            ("a.json", 0),
            ("2024-x5y.json", 5),
            ("99999999999999999999.csv", u64::MAX),
        ] {
            assert_eq!(number(name), wanted, "{name}");
        }
        assert!(Lines::Changes.are_in("a.ndjson") && Lines::Csv.are_in("a.b.tsv"));
        assert!(!Lines::Changes.are_in("CDC.index") && !Lines::Changes.are_in(".json") && !Lines::Csv.are_in("csv"));
    }

    #[test]
    fn a_listing_is_bounded_and_knows_where_its_folder_ends() {
        let mut files = Files::default();
        let last = FILES_LISTED_MAX as u64 + 9;
        for number in (1..=last).rev() {
            files.add("f", 5, FileAt { name: format!("CDC{number:06}.json"), bytes: number }).unwrap();
        }
        assert_eq!((files.first(), files.behind(5)), (Some(5), Some(6)), "those below were read");
        assert_eq!(files.files.len(), FILES_LISTED_MAX);
        assert!(!files.are_all());
        assert_eq!(files.end(), Some(offset(last, last)));
        assert_eq!(place(offset(7, 9)), (7, 9));
    }
}
