//! CREATE SOURCE: the tables of a server, or the messages of a changefeed.

use crate::catalog::names::nearest;
use crate::plan::parse::columns;
use crate::plan::parse::connection::one_of_texts;
use crate::plan::parse::create::IF_NOT_EXISTS;
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::parse::{registry, ticdc};
use crate::plan::statement::{
    CreateSource, FeedClauses, FeedCompression, FeedFormat, Name, OnBadMessage, OnMismatch, OtherPartitions, StartAt,
    StartOffset, Statement, Topics,
};
use crate::plan::{PlanError, PlanErrorKind};

pub(super) fn source(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("SOURCE")?;
    let if_not_exists = cursor.condition(IF_NOT_EXISTS)?;
    let name = cursor.local_name("a source's name")?;
    cursor.expect_word("FROM")?;
    let ticdc = cursor.expect_one_of(&["CONNECTION", "TICDC"])? == "TICDC";
    let (connection, own, feed) = if ticdc {
        let at = cursor.at();
        let sink = ticdc::sink(&cursor.text("a changefeed's sink URI")?, &name, at)?;
        (sink.over.name.clone(), Some(sink.over), Some(sink.feed))
    } else {
        let connection = cursor.local_name("a connection's name")?;
        let feed = if cursor.opens_parenthesis() { Some(topics(cursor)?) } else { None };
        (connection, None, feed)
    };
    let mut create = CreateSource {
        name,
        if_not_exists,
        connection,
        own,
        tables: vec![],
        exclude_columns: vec![],
        declared: vec![],
        feed,
        refresh_seconds: None,
    };
    clauses(cursor, &mut create)?;
    Ok(Statement::CreateSource(create))
}

/// Each round reads every followed table whole.
const REFRESH_SECONDS_MIN: u64 = 1;
const REFRESH_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// A sweep of old rows comes each second.
const RETAIN_SECONDS_MIN: u64 = 1;
const RETAIN_SECONDS_MAX: u64 = 3_650 * 24 * 60 * 60;
/// The longest first.
const REFRESH_UNITS: [(&str, u64); 4] = [("day", 24 * 60 * 60), ("hour", 60 * 60), ("minute", 60), ("second", 1)];

const FEED_CLAUSES: &[&str] = &[
    "FORMAT",
    "CONSISTENCY",
    "TIME ZONE",
    "COMPRESSION",
    "ON BAD MESSAGE",
    "ON MISMATCH",
    "CLAIM CHECK FROM CONNECTION",
    "DELIMITER",
    "HEADER",
    "SCHEMAS FROM CONNECTION",
    "SNAPSHOT FROM CONNECTION",
    "TABLES",
    "EXCLUDE COLUMNS",
    "RETAIN",
];

/// What follows the connection, each clause once, in any order.
fn clauses(cursor: &mut Cursor, create: &mut CreateSource) -> Result<(), PlanError> {
    let mut left = match create.feed {
        None => vec!["TABLES", "EXCLUDE COLUMNS", "REFRESH EVERY"],
        Some(_) => FEED_CLAUSES.to_vec(),
    };
    // A sink URI has said it.
    left.retain(|clause| *clause != "FORMAT" || create.own.is_none());
    while let Some(clause) = left.iter().copied().find(|clause| cursor.words(&clause.split(' ').collect::<Vec<_>>())) {
        left.retain(|word| *word != clause);
        match (clause, &mut create.feed) {
            ("TABLES", feed) => {
                let may_declare = feed.is_some();
                for (name, declared) in cursor.list(|c| followed_table(c, may_declare))? {
                    create.declared.extend(declared.map(|schema| (name.clone(), schema)));
                    create.tables.push(name);
                }
            }
            ("EXCLUDE COLUMNS", _) => {
                create.exclude_columns = cursor.list(|c| followed_name(c, 3, "a column as database.table.column"))?;
            }
            ("REFRESH EVERY", _) => {
                let seconds = (REFRESH_SECONDS_MIN, REFRESH_SECONDS_MAX);
                create.refresh_seconds = Some(interval(cursor, ["tables are read again every", "every "], seconds)?);
            }
            ("RETAIN", Some(feed)) => {
                let (at, seconds) = (cursor.at(), (RETAIN_SECONDS_MIN, RETAIN_SECONDS_MAX));
                feed.retain = Some((interval(cursor, ["rows are kept for", ""], seconds)?, at));
            }
            ("FORMAT", Some(feed)) => format(cursor, feed)?,
            ("DELIMITER", Some(feed)) => feed.csv.delimiter = Some(delimiter(cursor)?),
            ("HEADER", Some(feed)) => feed.csv.header = true,
            ("CONSISTENCY", Some(feed)) => feed.by_row = by_row(cursor)?,
            ("ON BAD MESSAGE", Some(feed)) => {
                feed.on_bad_message = match cursor.expect_one_of(&["STOP", "QUARANTINE"])? {
                    "STOP" => OnBadMessage::Stop,
                    _ => OnBadMessage::Quarantine,
                };
            }
            ("ON MISMATCH", Some(feed)) => {
                feed.on_mismatch = match cursor.expect_one_of(&["HEAL", "STOP"])? {
                    "HEAL" => OnMismatch::Heal,
                    _ => OnMismatch::Stop,
                };
            }
            ("COMPRESSION", Some(feed)) => {
                let words = FeedCompression::ALL.map(FeedCompression::word);
                let word = one_of_texts(cursor, "compression", &words)?;
                let found = FeedCompression::ALL.into_iter().find(|compression| compression.word() == word);
                feed.compression = found.expect("it is one of the words");
            }
            ("CLAIM CHECK FROM CONNECTION", Some(feed)) => {
                feed.claim_check = Some(cursor.local_name("a connection's name")?);
            }
            ("TIME ZONE", Some(feed)) => feed.time_zone = Some((cursor.text("a time zone")?, cursor.at())),
            (clause, Some(feed)) => {
                feed.schemas = Some(cursor.local_name("a connection's name")?);
                feed.snapshot = clause.starts_with("SNAPSHOT");
                // One of them names the connection.
                left.retain(|word| !matches!(*word, "SCHEMAS FROM CONNECTION" | "SNAPSHOT FROM CONNECTION"));
            }
            (clause, None) => unreachable!("{clause} is offered to changefeeds only"),
        }
    }
    let of_feeds = ["FORMAT", "SNAPSHOT", "CONSISTENCY", "ON", "RETAIN", "CLAIM"];
    if let Some(later) = of_feeds.into_iter().find(|word| create.feed.is_none() && cursor.next_is(word)) {
        let hint = "name what is read: FROM CONNECTION kafka (TOPIC 'name') FORMAT 'canal-json' …";
        return Err(cursor.refuse(format!("{later} belongs to a changefeed, and no topic is named"), hint));
    }
    cursor.expect_end(&left)
}

/// `(TOPIC 'orders', START AT EARLIEST)`.
fn topics(cursor: &mut Cursor) -> Result<FeedClauses, PlanError> {
    let at = cursor.at();
    let mut feed = FeedClauses::default();
    cursor.list(|c| {
        match c.expect_one_of(&["TOPIC", "TOPICS", "PATH", "TRANSACTIONS", "START"])? {
            "TOPIC" => feed.topics = Topics::Names(vec![c.text("a topic's name")?]),
            "TOPICS" if c.opens_parenthesis() => {
                feed.topics = Topics::Names(c.list(|c| c.text("a topic's name"))?);
            }
            "TOPICS" => feed.topics = Topics::Pattern(c.text("a pattern of topics' names")?),
            "PATH" => feed.topics = Topics::Path(c.text("a folder under the connection's path")?),
            "TRANSACTIONS" => {
                c.expect_word("TOPIC")?;
                feed.transactions = Some(c.text("a topic's name")?);
            }
            _ => {
                c.expect_word("AT")?;
                feed.start = start(c)?;
            }
        }
        Ok(())
    })?;
    if matches!(&feed.topics, Topics::Names(names) if names.is_empty()) {
        return Err(error(PlanErrorKind::Syntax, "a changefeed needs TOPIC, TOPICS or PATH", at));
    }
    Ok(feed)
}

fn start(cursor: &mut Cursor) -> Result<StartAt, PlanError> {
    let at = cursor.at();
    Ok(match cursor.expect_one_of(&["EARLIEST", "LATEST", "TIMESTAMP", "OFFSETS"])? {
        "EARLIEST" => StartAt::Earliest,
        "LATEST" => StartAt::Latest,
        "OFFSETS" => {
            let named = cursor.list(offset)?;
            let others = match cursor.word("OTHERS") {
                false => None,
                true => Some(match cursor.expect_one_of(&["EARLIEST", "LATEST"])? {
                    "EARLIEST" => OtherPartitions::Earliest,
                    _ => OtherPartitions::Latest,
                }),
            };
            StartAt::Offsets { named, others }
        }
        _ => {
            let text = cursor.text("a time in UTC")?;
            let micros = crate::row::temporal::parse_datetime(&text);
            let micros = micros.ok_or_else(|| {
                error(PlanErrorKind::InvalidValue, "expected a time in UTC as 'YYYY-MM-DD hh:mm:ss'", at)
            })?;
            StartAt::Time(micros / 1000)
        }
    })
}

/// `'partition:offset'`, or `'topic:partition:offset'`.
fn offset(cursor: &mut Cursor) -> Result<StartOffset, PlanError> {
    let at = cursor.at();
    let text = cursor.text("an offset as 'partition:offset'")?;
    let read = || {
        let (rest, offset) = text.rsplit_once(':')?;
        let (topic, partition) = match rest.rsplit_once(':') {
            Some((topic, partition)) => (Some(topic.to_string()), partition),
            None => (None, rest),
        };
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (partition >= 0 && offset >= 0).then_some(StartOffset { topic, partition, offset })
    };
    read().ok_or_else(|| {
        let message = "expected an offset as 'partition:offset' or 'topic:partition:offset', such as '0:123'";
        error(PlanErrorKind::InvalidValue, message, at)
    })
}

fn delimiter(cursor: &mut Cursor) -> Result<char, PlanError> {
    let at = cursor.at();
    let text = cursor.text("a delimiter")?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(delimiter), None) if !matches!(delimiter, '"' | '\r' | '\n') => Ok(delimiter),
        _ => {
            let message = "a delimiter is one character, and no quote or end of a line";
            Err(error(PlanErrorKind::InvalidValue, message, at))
        }
    }
}

/// `'canal-json'`, or in RisingWave's words `CANAL ENCODE JSON`; of Avro also where its schemas are.
fn format(cursor: &mut Cursor, feed: &mut FeedClauses) -> Result<(), PlanError> {
    let at = cursor.at();
    if cursor.next_is_text() {
        feed.format = Some(format_text(cursor)?);
    } else {
        let word = cursor.expect_one_of(&["CANAL", "DEBEZIUM", "PLAIN", "UPSERT"])?;
        cursor.expect_word("ENCODE")?;
        let encodings: &[&str] = match word {
            "CANAL" => &["JSON"],
            "DEBEZIUM" => &["JSON", "AVRO"],
            _ => &["JSON", "CSV", "AVRO"],
        };
        feed.format = Some(match (word, cursor.expect_one_of(encodings)?) {
            ("CANAL", _) => FeedFormat::CanalJson,
            ("DEBEZIUM", "AVRO") => FeedFormat::DebeziumAvro,
            ("DEBEZIUM", _) => FeedFormat::DebeziumJson,
            (_, "CSV") => FeedFormat::Csv,
            (_, "AVRO") => FeedFormat::Avro,
            _ => FeedFormat::Json,
        });
        feed.upsert = (word == "UPSERT").then_some(at);
    }
    if feed.format.is_some_and(FeedFormat::is_avro) && cursor.opens_parenthesis() {
        feed.registry = Some(registry::options(cursor)?);
    }
    Ok(())
}

fn format_text(cursor: &mut Cursor) -> Result<FeedFormat, PlanError> {
    let at = cursor.at();
    let given = cursor.text("a format")?;
    let words = FeedFormat::ALL.map(FeedFormat::word);
    let found = FeedFormat::ALL.into_iter().find(|format| format.word().eq_ignore_ascii_case(&given));
    found.ok_or_else(|| {
        let message = format!("unknown format; the formats are {}", words.map(|word| format!("'{word}'")).join(", "));
        let hint = nearest(&given, words.iter().copied()).map(|word| format!("did you mean '{word}'?"));
        PlanError { hint, ..error(PlanErrorKind::InvalidValue, message, at) }
    })
}

/// `'90 seconds'`, `'1 minute'`.
fn interval(cursor: &mut Cursor, [what, again]: [&str; 2], (min, max): (u64, u64)) -> Result<u64, PlanError> {
    let at = cursor.at();
    let given = cursor.text("an interval")?;
    let unit = |word: &str| {
        let word = word.to_ascii_lowercase();
        let same = |(unit, _): &&(&str, u64)| word == *unit || word.strip_suffix('s') == Some(*unit);
        REFRESH_UNITS.iter().find(same).map(|(_, seconds)| *seconds)
    };
    let seconds = given.trim().split_once(' ').and_then(|(number, word)| {
        let number: u64 = number.parse().ok()?;
        Some(number.saturating_mul(unit(word.trim())?))
    });
    match seconds {
        Some(seconds) if (min..=max).contains(&seconds) => Ok(seconds),
        Some(_) => {
            let days = max / REFRESH_UNITS[0].1;
            let message = format!("{what} {min} second to {again}{days} days");
            Err(error(PlanErrorKind::InvalidValue, message, at))
        }
        None => {
            let message = "expected an interval such as '30 seconds', '1 minute', '2 hours' or '1 day'";
            Err(error(PlanErrorKind::InvalidValue, message, at))
        }
    }
}

/// In the words of `REFRESH EVERY`, the longest that has no rest.
pub(in crate::plan) fn interval_text(seconds: u64) -> String {
    let whole = REFRESH_UNITS.iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
    let (word, unit) = whole.expect("a second has no rest");
    let number = seconds / unit;
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn by_row(cursor: &mut Cursor) -> Result<bool, PlanError> {
    let at = cursor.at();
    match cursor.text("a consistency")?.to_ascii_lowercase().as_str() {
        "row" => Ok(true),
        "transaction" => Ok(false),
        _ => Err(error(PlanErrorKind::InvalidValue, "consistency is 'transaction' (the default) or 'row'", at)),
    }
}

/// `database.table`, `database.*`, or of a changefeed also `database.table (columns)`.
fn followed_table(
    cursor: &mut Cursor,
    may_declare: bool,
) -> Result<(Name, Option<crate::row::schema::Schema>), PlanError> {
    let name = followed_name(cursor, 2, "a table as database.table or database.*")?;
    if !may_declare || !cursor.opens_parenthesis() {
        return Ok((name, None));
    }
    let schema = columns::definition(cursor, &name)?;
    Ok((name, Some(schema)))
}

pub(super) fn followed_name(cursor: &mut Cursor, parts: usize, what: &str) -> Result<Name, PlanError> {
    let name = cursor.name(what)?;
    if name.parts.len() == parts {
        return Ok(name);
    }
    Err(error(PlanErrorKind::Syntax, format!("expected {what}, found `{name}`"), name.at))
}
