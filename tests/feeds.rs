//! Changelog formats: what messages say, in golden files, and that no bytes harm a decoder.
//!
//! A file of `tests/golden/feeds/<format>/` begins with what its cases share: `decoder` and a variant of the format,
//! settings, tables as CREATE TABLE. Then come cases: `== title`, messages, and after each message what it says. A
//! message is up to four lines, the last of them `value` or `tombstone`:
//!
//! ```text
//! topic NAME
//! key BYTES
//! value BYTES            value.snappy and value.lz4 compress what stands here
//! > what it says
//! ```
//!
//! BYTES are the line's text, and bytes that are no text in hexadecimal between ‹ and ›. `TIDEMILL_BLESS=1` writes
//! the lines with `>`.

#[path = "feeds/formats.rs"]
mod formats;
#[path = "support/splitmix.rs"]
mod splitmix;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use formats::{FORMATS, Make};
use tidemill::plan::parse::parse;
use tidemill::plan::statement::Statement;
use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::{BadMessage, Compression, Decode, Message, Op, Row, Said, Settings, TableOf, Tables};

/// What a file's cases share, and its messages in order.
struct Feed {
    path: PathBuf,
    decoder: Box<dyn Decode>,
    tables: Tables,
    lines: Vec<Line>,
}

enum Line {
    /// Kept as it is.
    Plain(String),
    /// Ends a message; what it says follows.
    End(String, Parts),
    Said,
}

#[derive(Clone, Debug, Default)]
struct Parts {
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Parts {
    fn message(&self) -> Message<'_> {
        Message { key: self.key.as_deref(), value: self.value.as_deref(), topic: &self.topic }
    }
}

fn feed(path: PathBuf, make: Make) -> Feed {
    let text = fs::read_to_string(&path).unwrap();
    let (mut variant, mut settings, mut sql) = (String::new(), Settings::default(), String::new());
    let (mut lines, mut parts, mut in_cases) = (Vec::new(), Parts::default(), false);
    for line in text.lines() {
        in_cases |= line.starts_with("== ");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (in_cases, word) {
            (_, "#" | "" | "==") => {}
            (false, "decoder") => variant = rest.to_string(),
            (false, "time_zone_seconds") => settings.time_zone_seconds = rest.parse().unwrap(),
            (false, "compression") => settings.compression = compression(rest),
            (false, _) => sql += &format!("{line}\n"),
            (true, "topic") => parts.topic = rest.to_string(),
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
    let decoder = make(&variant, settings).unwrap_or_else(|| panic!("{}: no decoder {variant}", path.display()));
    Feed { path, decoder, tables: tables(&sql), lines }
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
fn tables(sql: &str) -> Tables {
    let followed = sql.lines().enumerate().map(|(i, line)| {
        let name = line.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once('.'));
        let (database, rest) = name.unwrap_or_else(|| panic!("CREATE TABLE database.table …: {line}"));
        let statement =
            parse(&format!("CREATE TABLE {rest}")).unwrap_or_else(|e| panic!("{e:?} in {line}")).remove(0).0;
        let Statement::CreateTable { name, schema, .. } = statement else { panic!("only CREATE TABLE: {line}") };
        FollowedTable::declared(ObjectId(i as u64 + 1), database, &name.to_string(), schema)
    });
    Tables::new(followed)
}

fn feeds() -> Vec<Feed> {
    let mut feeds = Vec::new();
    for (folder, make) in FORMATS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/feeds").join(folder);
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "no cases in {}", folder.display());
        feeds.extend(paths.into_iter().map(|path| feed(path, *make)));
    }
    feeds
}

/// The lines for what a message says.
fn shown(said: Result<Vec<Said>, BadMessage>, tables: &Tables) -> Vec<String> {
    match said {
        Ok(said) if said.is_empty() => vec!["> nothing".to_string()],
        Ok(said) => said.iter().map(|said| format!("> {}", shown_one(said, tables))).collect(),
        Err(bad) => vec![format!("> error {}: {}", bad.code, bad.reason), format!(">   remedy: {}", bad.remedy)],
    }
}

fn shown_one(said: &Said, tables: &Tables) -> String {
    let commit = |commit: Option<u64>| commit.map_or(String::new(), |commit| format!(" commit {commit}"));
    match said {
        Said::Row(change) => {
            let table = tables.get(change.table);
            let mut line = match &change.op {
                Op::Put(row) => format!("put {}", shown_row(row, table)),
                Op::Delete(row) => format!("delete {}", shown_row(row, table)),
                Op::Truncate => format!("truncate {}.{}", table.followed.database, table.followed.name),
            };
            line += &commit(change.commit);
            if let Some(transaction) = &change.transaction {
                line += &format!(" transaction {} place {}", transaction.id, transaction.total_order);
            }
            if let Some(ms) = change.committed_ms {
                line += &format!(" at {ms} ms");
            }
            line
        }
        Said::Watermark(tso) => format!("watermark {tso}"),
        Said::Schema(change) => {
            let place = format!("{:?} {:?}", change.database, change.table);
            format!("schema{} in {place}: {}", commit(change.commit), change.sql)
        }
        Said::Mark(mark) => format!("{mark:?}"),
    }
}

fn shown_row(row: &Row, table: &TableOf) -> String {
    let columns = &table.followed.schema.columns;
    assert_eq!(row.len(), columns.len(), "one value a column");
    let values = columns.iter().zip(row).map(|(column, value)| {
        let value = match value {
            Datum::Text(text) => format!("{text:?}"),
            Datum::Bytes(bytes) => format!("0x{}", bytes.iter().map(|b| format!("{b:02X}")).collect::<String>()),
            other => other.text(&column.sql_type).unwrap_or_else(|| "NULL".to_string()),
        };
        format!("{}={value}", column.name)
    });
    let values: Vec<String> = values.collect();
    format!("{}.{} {}", table.followed.database, table.followed.name, values.join(" "))
}

#[test]
fn messages_say_what_the_golden_files_say() {
    let mut faults = Vec::new();
    let mut cases = 0;
    for mut feed in feeds() {
        let mut lines = Vec::new();
        for line in &feed.lines {
            match line {
                Line::Plain(line) => {
                    cases += line.starts_with("== ") as usize;
                    lines.push(line.clone());
                }
                Line::End(line, parts) => {
                    lines.push(line.clone());
                    let mut said = Vec::new();
                    let result = feed.decoder.decode(parts.message(), &feed.tables, &mut said).map(|()| said);
                    lines.extend(shown(result, &feed.tables));
                }
                Line::Said => {}
            }
        }
        let text = lines.join("\n") + "\n";
        let before = fs::read_to_string(&feed.path).unwrap();
        if text == before {
            continue;
        }
        match std::env::var_os("TIDEMILL_BLESS") {
            Some(_) => fs::write(&feed.path, text).unwrap(),
            None => {
                let differs = text.lines().zip(before.lines()).find(|(new, old)| new != old);
                faults.push(format!("{}: {differs:#?}", feed.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "(now, in the file):\n{}", faults.join("\n"));
    println!("{cases} cases");
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What JSON and binary readers trip over.
const SPLINTERS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"-",
    b"9999999999999999999999",
    b"1e999",
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\x00",
    b"\xc3\x28",
    b"{\"a\":",
    b"[[[[",
    b"\"\"",
    b"true",
    b"0000-00-00",
    b"-838:59:59.9",
];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, others: &[Parts]) {
    let at = random.below(bytes.len());
    let end = (at + random.below(64)).min(bytes.len());
    match random.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => {
            let splinter = SPLINTERS[random.below(SPLINTERS.len())];
            bytes.splice(at..end.min(at + random.below(8)), splinter.iter().copied());
        }
        6 => {
            let depth = random.below(2000);
            let nest: &[u8] = [b"[".as_slice(), b"{\"a\":"][random.below(2)];
            bytes.splice(at..at, nest.iter().copied().cycle().take(nest.len() * depth));
        }
        _ => {
            let other = others[random.below(others.len())].value.clone().unwrap_or_default();
            let from = random.below(other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
    }
}

/// Prints what broke, if it did.
struct Tell<'a>(u64, &'a Path, &'a Parts);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("TIDEMILL_SEED={} broke a decoder of {}: {:?}", self.0, self.1.display(), self.2);
        }
    }
}

#[test]
fn no_bytes_harm_a_decoder() {
    let count = std::env::var("TIDEMILL_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    let mut feeds: Vec<Feed> = feeds();
    let end = |line: &Line| match line {
        Line::End(_, parts) => Some(parts.clone()),
        _ => None,
    };
    let messages: Vec<Vec<Parts>> = feeds.iter().map(|feed| feed.lines.iter().filter_map(end).collect()).collect();
    let mut random = Random(seed);
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..count {
        let chosen = random.below(feeds.len());
        let feed = &mut feeds[chosen];
        let parts = &messages[chosen];
        let mut broken = parts[random.below(parts.len())].clone();
        for _ in 0..=random.below(2) * random.below(3) {
            match (random.below(4), &mut broken.key, &mut broken.value) {
                (0, Some(key), _) => mutate(&mut random, key, parts),
                (_, _, Some(value)) => mutate(&mut random, value, parts),
                _ => {}
            }
        }
        let _tell = Tell(seed, &feed.path, &broken);
        let mut said = vec![Said::Watermark(1)];
        let result = feed.decoder.decode(broken.message(), &feed.tables, &mut said);
        match result {
            Ok(()) => fine += 1,
            Err(bad) => {
                refused += 1;
                assert_eq!(said.len(), 1, "a message that cannot be read says nothing");
                assert!(bad.reason.len() + bad.remedy.len() < 2000, "{bad:?}");
            }
        }
        // Compression makes at most so much of it; every row takes more than a byte.
        let size = 256 * broken.value.as_ref().map_or(1, |value| value.len() + 16);
        assert!(said.len() <= size, "{} said", said.len());
        said.iter().for_each(|said| drop(shown_one(said, &feed.tables)));
    }
    println!("{fine} could be read, {refused} were refused");
    assert!(count < 1000 || (fine > 0 && refused > count / 4));
}
