//! Changelog formats: what messages say, in golden files, and that no bytes harm a decoder.

#[path = "feeds/formats.rs"]
mod formats;
#[path = "feeds/golden.rs"]
mod golden;
#[path = "feeds/inputs.rs"]
mod inputs;
#[path = "support/splitmix.rs"]
mod splitmix;

use std::fs;
use std::path::Path;

use golden::{Feed, Line, Parts};
use tidemill::row::datum::Datum;
use tidemill::sources::formats::claim::CLAIM_CHECK;
use tidemill::sources::formats::{BadMessage, Op, Row, Said, TableOf, Tables};

fn feeds() -> Vec<Feed> {
    golden::feeds(Path::new(env!("CARGO_MANIFEST_DIR")))
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
                Op::Insert(row) => format!("insert {}", shown_row(row, table)),
                Op::Update(row) => format!("update {}", shown_row(row, table)),
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
                    if let Err(BadMessage { code: CLAIM_CHECK, .. }) = &result {
                        assert!(feed.decoder.claimed(parts.message()).is_some(), "{}", feed.path.display());
                    }
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

/// Inputs that reach what no other does, and all that ever broke a decoder: `fuzz/` finds them.
#[test]
fn what_fuzzing_kept_harms_no_decoder() {
    let feeds = feeds();
    for (format, _) in formats::FORMATS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fuzz").join(format);
        // A format that was never fuzzed has its golden messages only.
        let kept = fs::read(&path).unwrap_or_default();
        let seeds = inputs::seeds(&feeds, format);
        assert!(!seeds.is_empty());
        let kept: Vec<&[u8]> = inputs::kept(&kept).collect();
        kept.iter()
            .copied()
            .chain(seeds.iter().map(Vec::as_slice))
            .for_each(|input| inputs::decode(&feeds, format, input));
        println!("{format}: {} kept inputs", kept.len());
    }
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
                drop(feed.decoder.claimed(broken.message()));
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

/// A registry is trusted no more than the messages are.
#[test]
fn no_schema_harms_a_decoder() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    println!("TIDEMILL_SEED={seed}");
    let mut random = Random(seed);
    let feeds: Vec<Feed> = feeds().into_iter().filter(|feed| !feed.schemas.is_empty()).collect();
    let (mut read, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let feed = &feeds[random.below(feeds.len())];
        let (number, text) = &feed.schemas[random.below(feed.schemas.len())];
        let messages: Vec<Parts> = feed
            .lines
            .iter()
            .filter_map(|line| match line {
                Line::End(_, parts) => Some(parts.clone()),
                _ => None,
            })
            .collect();
        let mut bytes = text.clone().into_bytes();
        (0..=random.below(2)).for_each(|_| mutate(&mut random, &mut bytes, &messages));
        let learned = golden::learned(*number, &String::from_utf8_lossy(&bytes));
        *(if learned.is_ok() { &mut read } else { &mut refused }) += 1;
        let mut decoder = feed.decoder();
        decoder.learn(*number, learned);
        for message in &messages {
            let mut said = Vec::new();
            if decoder.decode(message.message(), &feed.tables, &mut said).is_err() {
                assert!(said.is_empty(), "a message that cannot be read says nothing");
            }
        }
    }
    println!("{read} schemas could be read, {refused} were refused");
    assert!(read > 100 && refused > 100);
}
