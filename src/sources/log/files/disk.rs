//! A folder of this machine's disk as a storage of files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::storage::{FileAt, Lines, Listing, Storage, Whole, below, is_meta};
use crate::sources::log::Fault;

const POLL: Duration = Duration::from_millis(200);
/// Links may go in circles.
const DEPTH_MAX: usize = 8;

pub struct Disk {
    root: PathBuf,
}

impl Disk {
    pub fn new(root: impl Into<PathBuf>) -> Disk {
        Disk { root: root.into() }
    }
}

impl Storage for Disk {
    fn list(&self, lines: Lines, from: &BTreeMap<String, u64>) -> Result<Listing, Fault> {
        let mut listing = Listing::new();
        let mut left = vec![(String::new(), 0)];
        while let Some((folder, depth)) = left.pop() {
            let path = self.root.join(&folder);
            let from = from.get(&folder).copied().unwrap_or(0);
            for entry in fs::read_dir(&path).map_err(|e| lost(&path, e))? {
                let path = entry.map_err(|e| lost(&path, e))?.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let about = match fs::metadata(&path) {
                    Ok(about) => about,
                    // It has gone meanwhile, or is a link to nothing.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(lost(&path, e)),
                };
                if about.is_dir() && depth < DEPTH_MAX && !is_meta(name) {
                    left.push((below(&folder, name), depth + 1));
                } else if about.is_file() && lines.are_in(name) {
                    let file = FileAt { name: name.to_string(), bytes: about.len() };
                    listing.entry(folder.clone()).or_default().add(&folder, from, file)?;
                }
            }
        }
        Ok(listing)
    }

    fn open(&self, folder: &str, file: &FileAt, place: u64) -> Result<Box<dyn BufRead + Send>, Fault> {
        let path = self.root.join(folder).join(&file.name);
        let mut file = File::open(&path).map_err(|e| lost(&path, e))?;
        file.seek(SeekFrom::Start(place)).map_err(|e| lost(&path, e))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn whole(&self, path: &str, bytes_max: u64) -> Result<Whole, Fault> {
        let path = self.root.join(path);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Whole::Missing),
            Err(e) => return Err(lost(&path, e)),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|e| lost(&path, e))?;
        Ok(if bytes.len() as u64 > bytes_max { Whole::TooLarge } else { Whole::Bytes(bytes) })
    }

    fn look(&self) -> Result<(), Fault> {
        fs::read_dir(&self.root).map(drop).map_err(|e| lost(&self.root, e))
    }

    fn may_grow(&self) -> bool {
        true
    }

    fn poll(&self) -> Duration {
        POLL
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }
}

fn lost(path: &Path, error: std::io::Error) -> Fault {
    Fault::Lost { action: "read files", reason: format!("{}: {error}", path.display()) }
}
