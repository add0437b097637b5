//! Golden files of changelog formats: what their cases share, and the messages in them.
//!
//! A file of `tests/golden/feeds/<format>/` begins with what its cases share: `decoder` and a variant of the format,
//! settings, `schema NUMBER JSON` as a registry has them (`schema NUMBER !` one that it has not), tables as CREATE
//! TABLE. Then come cases: `== title`, messages, and after each message what it says. A
//! message is up to five lines, the last of them `value` or `tombstone`:
//!
//! ```text
//! topic NAME
//! at PARTITION OFFSET MS   when the log got it; or `file`: it begins one
//! key BYTES
//! value BYTES            value.snappy and value.lz4 compress what stands here
//! > what it says
//! ```
//!
//! BYTES are the line's text, and bytes that are no text in hexadecimal between ‹ and ›. `TIDEMILL_BLESS=1` writes
//! the lines with `>`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill::plan::parse::parse;
use tidemill::plan::statement::Statement;
use tidemill::row::ObjectId;
use tidemill::row::schema::Schema;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::avro::schema::Schema as Written;
use tidemill::sources::formats::avro::{Learned, unknown};
use tidemill::sources::formats::plain::place;
use tidemill::sources::formats::{Compression, Decode, Message, Settings, Tables};

use crate::formats::{FORMATS, Make};

/// What a file's cases share, and its messages in order.
pub struct Feed {
    /// The folder it is in.
    pub format: &'static str,
    pub path: PathBuf,
    pub make: Make,
    pub variant: String,
    pub settings: Settings,
    pub decoder: Box<dyn Decode>,
    pub tables: Tables,
    pub schemas: Vec<(u32, String)>,
    pub lines: Vec<Line>,
}

impl Feed {
    /// A decoder that has not read anything.
    pub fn decoder(&self) -> Box<dyn Decode> {
        let mut decoder = (self.make)(&self.variant, self.settings.clone()).expect("the file's own variant");
        self.schemas.iter().for_each(|(number, text)| decoder.learn(*number, learned(*number, text)));
        decoder
    }
}

/// What a registry that has this text says.
pub fn learned(number: u32, text: &str) -> Learned {
    match text {
        "!" => Err(unknown(number, "the registry does not have it")),
        text => Written::parse(text, &[]).map(Arc::new).map_err(|why| unknown(number, &why)),
    }
}

pub enum Line {
    /// Kept as it is.
    Plain(String),
    /// Ends a message; what it says follows.
    End(String, Parts),
    Said,
}

#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub topic: String,
    partition: i32,
    offset: i64,
    written_ms: Option<i64>,
    begins_file: bool,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl Parts {
    fn stands(&mut self, at: &str) {
        self.begins_file = at == "file";
        if !self.begins_file {
            let numbers: Vec<i64> = at.split(' ').map(|number| number.parse().unwrap()).collect();
            (self.partition, self.offset) = (numbers[0] as i32, numbers[1]);
            self.written_ms = numbers.get(2).copied();
        }
    }

    pub fn message(&self) -> Message<'_> {
        Message {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            written_ms: self.written_ms,
            begins_file: self.begins_file,
        }
    }
}

fn feed(format: &'static str, path: PathBuf, make: Make) -> Feed {
    let text = fs::read_to_string(&path).unwrap();
    let (mut variant, mut settings, mut sql) = (String::new(), Settings::default(), String::new());
    let (mut lines, mut parts, mut schemas, mut in_cases) = (Vec::new(), Parts::default(), Vec::new(), false);
    for line in text.lines() {
        in_cases |= line.starts_with("== ");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (in_cases, word) {
            (_, "#" | "" | "==") => {}
            (false, "decoder") => variant = rest.to_string(),
            (false, "time_zone_seconds") => settings.time_zone_seconds = rest.parse().unwrap(),
            (false, "compression") => settings.compression = compression(rest),
            (false, "schema") => {
                let (number, text) = rest.split_once(' ').expect("a number and a schema");
                schemas.push((number.parse().unwrap(), text.to_string()));
            }
            (false, _) => sql += &format!("{line}\n"),
            (true, "topic") => parts.topic = rest.to_string(),
            (true, "at") => parts.stands(rest),
            (true, "key") => parts.key = Some(bytes(rest)),
            (true, "value" | "value.snappy" | "value.lz4") => {
                parts.value = Some(compressed(word.strip_prefix("value.").unwrap_or("none"), bytes(rest)));
                lines.push(Line::End(line.to_string(), std::mem::take(&mut parts)));
                continue;
            }
            (true, "tombstone") => {
                lines.push(Line::End(line.to_string(), std::mem::take(&mut parts)));
                continue;
            }
            (true, ">") => {
                lines.push(Line::Said);
                continue;
            }
            (true, _) => panic!("{}: a line that begins with `{word}`", path.display()),
        }
        lines.push(Line::Plain(line.to_string()));
    }
    let decoder = make(&variant, settings.clone());
    let decoder = decoder.unwrap_or_else(|| panic!("{}: no decoder {variant}", path.display()));
    let finish = if format == "plain" || variant == "plain" { place::keyed } else { |schema| schema };
    let tables = tables(&sql, finish);
    let mut feed = Feed { format, path, make, variant, settings, decoder, tables, schemas, lines };
    feed.decoder = feed.decoder();
    feed
}

fn compression(name: &str) -> Compression {
    match name {
        "none" => Compression::None,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        _ => panic!("no compression {name}"),
    }
}

fn compressed(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    match compression(name) {
        Compression::None => bytes,
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(&bytes).unwrap(),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('‹') {
        bytes.extend_from_slice(plain.as_bytes());
        let (digits, after) = after.split_once('›').expect("a › for each ‹");
        let digits: Vec<char> = digits.chars().filter(|c| *c != ' ').collect();
        bytes.extend(digits.chunks(2).map(|two| u8::from_str_radix(&String::from_iter(two), 16).unwrap()));
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A statement a line, with names of two parts, which the parser takes for upstream tables only.
fn tables(sql: &str, finish: fn(Schema) -> Schema) -> Tables {
    let followed = sql.lines().enumerate().map(|(i, line)| {
        let name = line.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once('.'));
        let (database, rest) = name.unwrap_or_else(|| panic!("CREATE TABLE database.table …: {line}"));
        let statement =
            parse(&format!("CREATE TABLE {rest}")).unwrap_or_else(|e| panic!("{e:?} in {line}")).remove(0).0;
        let Statement::CreateTable { name, schema, .. } = statement else { panic!("only CREATE TABLE: {line}") };
        FollowedTable::declared(ObjectId(i as u64 + 1), database, &name.to_string(), finish(schema))
    });
    Tables::new(followed)
}

/// Every file; `root` is the checkout.
pub fn feeds(root: &Path) -> Vec<Feed> {
    let mut feeds = Vec::new();
    for (folder, make) in FORMATS {
        let files = root.join("tests/golden/feeds").join(folder);
        let mut paths: Vec<PathBuf> = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "no cases in {}", files.display());
        feeds.extend(paths.into_iter().map(|path| feed(folder, path, *make)));
    }
    feeds
}
