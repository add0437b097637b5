//! The changefeed of a CREATE SOURCE: whether its clauses go together.

use super::{connection_of, find};
use crate::catalog::Catalog;
use crate::catalog::feed::{
    Csv, Feed, FeedCompression, FeedFormat, OnBadMessage, OnMismatch, Registry, StartAt, StartOffset, Topics,
};
use crate::catalog::object::{Connection, ConnectionKind, ObjectKind};
use crate::plan::functions::cast::Zone;
use crate::plan::statement::{CreateSource, FeedClauses, Name};
use crate::plan::{PlanError, PlanErrorKind};
use crate::row::ObjectId;
use crate::sources::formats::plain;

pub(super) fn feed(
    catalog: &Catalog,
    connection: &Connection,
    create: &CreateSource,
    clauses: &FeedClauses,
) -> Result<Feed, PlanError> {
    let from = connection.kind;
    let at = create.connection.at;
    let Some(format) = clauses.format else {
        let words = FeedFormat::ALL.map(|format| format!("'{}'", format.word())).join(", ");
        return wrong("a changefeed needs its FORMAT", format!("the formats are {words}"), at);
    };
    if clauses.transactions.is_some() && !format.is_debezium() {
        let message = format!("'{}' has no topic of transactions", format.word());
        return wrong(message, "leave TRANSACTIONS TOPIC out", at);
    }
    if clauses.transactions.is_some() && clauses.on_bad_message == OnBadMessage::Quarantine {
        let hint = "leave out ON BAD MESSAGE QUARANTINE, or TRANSACTIONS TOPIC: rows are then shown as they come";
        return wrong("a transaction that lacks a message is not whole", hint, at);
    }
    if let (OnMismatch::Stop, Some(why)) = (clauses.on_mismatch, may_mismatch(format, clauses)) {
        let message = format!("ON MISMATCH STOP would stop at what is no fault: {why}");
        return wrong(message, "leave it out, and look at `mismatched` in SHOW TABLES", at);
    }
    let registry = registry(catalog, format, connection, clauses, at)?;
    check_tables(format, create, clauses)?;
    check_plain(format, from, create, clauses)?;
    check_retain(format, from, create, clauses)?;
    check_start(clauses, at)?;
    if let Some((zone, at)) = &clauses.time_zone
        && Zone::parse(zone).is_none()
    {
        let hint = "write it as '+08:00' or 'UTC': TiCDC's --tz";
        return wrong(format!("time zone '{zone}' is not known"), hint, *at);
    }
    Ok(Feed {
        topics: clauses.topics.clone(),
        transactions: clauses.transactions.clone(),
        start: clauses.start.clone(),
        format,
        by_row: clauses.by_row,
        time_zone: clauses.time_zone.as_ref().map(|(zone, _)| zone.clone()),
        compression: clauses.compression,
        csv: clauses.csv.clone(),
        schemas: schemas(catalog, format, clauses)?,
        snapshot: clauses.snapshot,
        on_bad_message: clauses.on_bad_message,
        on_mismatch: clauses.on_mismatch,
        retain_seconds: clauses.retain.map(|(seconds, _)| seconds),
        claim_check: claim_check(catalog, format, from, clauses)?,
        registry,
    })
}

/// The connection that has messages which were too large.
fn claim_check(
    catalog: &Catalog,
    format: FeedFormat,
    from: ConnectionKind,
    clauses: &FeedClauses,
) -> Result<Option<ObjectId>, PlanError> {
    let Some(name) = &clauses.claim_check else { return Ok(None) };
    let files = connection_of(catalog, name)?;
    if !matches!(format, FeedFormat::CanalJson | FeedFormat::OpenProtocol | FeedFormat::Simple) {
        let message = format!("'{}' has no claim checks", format.word());
        return wrong(message, "leave CLAIM CHECK out: it is of TiCDC's messages", name.at);
    }
    if from != ConnectionKind::Kafka {
        return wrong("no message in files is too large", "leave CLAIM CHECK out: it is of messages in Kafka", name.at);
    }
    if files.kind != ConnectionKind::Files {
        let message = format!("a {} connection has no files", files.kind.word());
        return wrong(message, "name a FILES connection whose PATH is the claim-check-storage-uri", name.at);
    }
    Ok(Some(files.id))
}

/// The registry of this source alone; `None`: the connection's.
fn registry(
    catalog: &Catalog,
    format: FeedFormat,
    connection: &Connection,
    clauses: &FeedClauses,
    at: usize,
) -> Result<Option<Registry>, PlanError> {
    if !format.is_avro() {
        return Ok(None);
    }
    if connection.kind != ConnectionKind::Kafka {
        let message = format!("'{}' is of Kafka's messages, not of files", format.word());
        return wrong(message, "name a KAFKA connection", at);
    }
    let Some(given) = &clauses.registry else {
        if connection.options.registry.is_some() {
            return Ok(None);
        }
        let hint = "name it once for all, CREATE CONNECTION … TO KAFKA (…, SCHEMA REGISTRY 'http://…'), or here: \
                    FORMAT … ENCODE AVRO (schema.registry = 'http://…')";
        return wrong("the schema registry is not known", hint, at);
    };
    let password = given.password.as_ref().map(|secret| find(catalog, ObjectKind::Secret, secret));
    let password = password.transpose()?.map(|secret| secret.id());
    Ok(Some(Registry { url: given.url.clone(), user: given.user.clone(), password }))
}

/// Why a row may not be as the feed says that it was, though nothing is wrong.
fn may_mismatch(format: FeedFormat, clauses: &FeedClauses) -> Option<&'static str> {
    if format.is_debezium() || format.is_plain() || clauses.by_row {
        return Some("without watermarks changes that come again cannot be told from new ones");
    }
    if clauses.start != StartAt::Earliest && !clauses.snapshot {
        return Some("rows from before the source's beginning are not there");
    }
    (clauses.on_bad_message == OnBadMessage::Quarantine).then_some("rows of messages in quarantine are not there")
}

/// The connection that knows the columns, and has the rows to begin with where they are copied.
fn schemas(catalog: &Catalog, format: FeedFormat, clauses: &FeedClauses) -> Result<Option<ObjectId>, PlanError> {
    let Some(name) = &clauses.schemas else { return Ok(None) };
    let schemas = connection_of(catalog, name)?;
    if clauses.snapshot {
        check_snapshot(schemas.kind, format, clauses, name.at)?;
    }
    Ok(Some(schemas.id))
}

/// Messages must tell which of them the copy has: by commit timestamps of a TiDB, or by GTIDs of a MySQL.
fn check_snapshot(from: ConnectionKind, format: FeedFormat, clauses: &FeedClauses, at: usize) -> Result<(), PlanError> {
    let has_times = !(format.is_debezium() || format.is_plain() || clauses.by_row);
    let has_gtids = format.is_debezium() || (format == FeedFormat::CanalJson && clauses.by_row);
    match from {
        ConnectionKind::Tidb if has_times => Ok(()),
        ConnectionKind::Mysql if has_gtids && clauses.transactions.is_none() => Ok(()),
        ConnectionKind::Mysql if has_gtids => {
            let hint = "leave TRANSACTIONS TOPIC out, or read the feed from its beginning: Debezium sends a snapshot \
                        of its own";
            wrong("a transaction of which the snapshot has a part would never be whole", hint, at)
        }
        ConnectionKind::Tidb => {
            let message = format!("'{}' has no timestamps that tell what a snapshot has", format.word());
            let hint = "name the MYSQL connection whose changes Canal or Debezium sends, or read the feed from its \
                        beginning";
            wrong(message, hint, at)
        }
        ConnectionKind::Mysql => {
            let message = format!("'{}' has no GTIDs that tell what a snapshot of a MYSQL has", format.word());
            let hint = "TiCDC's feeds are copied from a TIDB connection; Canal's are FORMAT 'canal-json' CONSISTENCY \
                        'row'";
            wrong(message, hint, at)
        }
        from => {
            let message = format!("a {} connection has no tables to copy", from.word());
            let hint = "SNAPSHOT FROM CONNECTION names the TIDB or MYSQL whose changes the feed sends";
            wrong(message, hint, at)
        }
    }
}

/// Their columns are known, and so are their keys where rows are to be told apart.
fn check_tables(format: FeedFormat, create: &CreateSource, clauses: &FeedClauses) -> Result<(), PlanError> {
    let at = create.connection.at;
    let named = create.tables.iter().all(|table| table.parts[1] != "*");
    let by_registry = format.is_avro() && named;
    let declared = create.tables.len() == create.declared.len();
    if clauses.schemas.is_none() && !declared && !by_registry || create.tables.is_empty() {
        let hint = match format.is_avro() {
            true => "name each table: TABLES (database.table, …); its columns are those that the registry has",
            false => {
                "add SCHEMAS FROM CONNECTION name TABLES (database.table, …), or declare them: \
                 TABLES (database.table (id INT PRIMARY KEY, …))"
            }
        };
        return wrong("the columns of the followed tables are not known", hint, at);
    }
    let keyless = create.declared.iter().find(|(_, schema)| schema.key.is_none());
    match keyless {
        Some((table, _)) if !format.is_plain() => {
            let hint = "changes in messages may come twice: only a key tells whether a row is there already";
            wrong(format!("table {table} has no primary key"), hint, table.at)
        }
        Some((table, _)) if clauses.upsert.is_some() => {
            let hint = "declare its PRIMARY KEY, or say FORMAT PLAIN: each message is a row of its own then";
            wrong(format!("table {table} has no primary key to upsert by"), hint, table.at)
        }
        _ => Ok(()),
    }
}

/// What only messages without an envelope have, and what they have not.
fn check_plain(
    format: FeedFormat,
    from: ConnectionKind,
    create: &CreateSource,
    clauses: &FeedClauses,
) -> Result<(), PlanError> {
    let at = create.connection.at;
    if format != FeedFormat::Csv && clauses.csv != Csv::default() {
        let message = format!("'{}' has neither delimiters nor a header", format.word());
        return wrong(message, "leave DELIMITER and HEADER out: they are of FORMAT 'csv'", at);
    }
    if clauses.csv.header && from != ConnectionKind::Files {
        let hint = "leave HEADER out: a message is a record, its fields in the order of the declared columns";
        return wrong("messages of Kafka have no first line", hint, at);
    }
    if !format.is_plain() {
        return Ok(());
    }
    if clauses.compression != FeedCompression::None {
        let hint = "leave COMPRESSION out: what Kafka's own producers compress is read without a word";
        return wrong("COMPRESSION is of TiCDC's values", hint, at);
    }
    match &clauses.topics {
        Topics::Names(topics) if create.tables.len() > 1 && create.tables.iter().all(|table| table.parts[1] != "*") => {
            check_topics(topics, &create.tables, at)
        }
        _ => Ok(()),
    }
}

/// Only rows that nothing refers to again have an age: those of messages, each a row of its own.
fn check_retain(
    format: FeedFormat,
    from: ConnectionKind,
    create: &CreateSource,
    clauses: &FeedClauses,
) -> Result<(), PlanError> {
    let Some((_, at)) = clauses.retain else { return Ok(()) };
    if !format.is_plain() {
        let hint = "leave it out: the upstream deletes rows, and its changelog says so";
        return wrong(format!("rows of '{}' are as old as their last change", format.word()), hint, at);
    }
    if from != ConnectionKind::Kafka {
        let hint = "leave it out, or read the rows over Kafka, which has the time of each message";
        return wrong("lines of files have no time from which their age counts", hint, at);
    }
    let keyed = create.declared.iter().find(|(_, schema)| schema.key.is_some() && !plain::place::is_in_order(schema));
    match keyed {
        Some((table, _)) => {
            let hint = "leave RETAIN out: a row is there until a message without a value deletes it; or declare no \
                        PRIMARY KEY: each message is a row of its own then";
            wrong(format!("table {table} has a primary key, by which a row may be put again"), hint, at)
        }
        None if clauses.schemas.is_some() => {
            let hint = "declare the tables' columns, without a PRIMARY KEY";
            wrong("tables of an upstream have keys, by which a row may be put again", hint, at)
        }
        None => Ok(()),
    }
}

/// Several tables share their topics by name.
fn check_topics(topics: &[String], tables: &[Name], at: usize) -> Result<(), PlanError> {
    const HINT: &str = "each of several tables has the topics of its name, `table` or `database.table`; a source of \
                        one table has all its topics, whatever their names";
    let is_of = |topic: &String, table: &Name| plain::is_named_after(topic, &table.parts[0], &table.parts[1]);
    for topic in topics {
        let mut named = tables.iter().filter(|table| is_of(topic, table));
        match (named.next(), named.next()) {
            (None, _) => return wrong(format!("topic '{topic}' has the name of no table"), HINT, at),
            (Some(one), Some(other)) => {
                let message = format!("topic '{topic}' may be of {one} and of {other}");
                return wrong(message, "name the topic 'database.table', or create a source for each", at);
            }
            _ => {}
        }
    }
    match tables.iter().find(|table| !topics.iter().any(|topic| is_of(topic, table))) {
        None => Ok(()),
        Some(table) => wrong(format!("table {table} has no topic of its name"), HINT, table.at),
    }
}

/// Offsets are of topics that are read, each partition once.
fn check_start(clauses: &FeedClauses, at: usize) -> Result<(), PlanError> {
    let StartAt::Offsets { named, .. } = &clauses.start else { return Ok(()) };
    let topics = match &clauses.topics {
        Topics::Names(names) => names.as_slice(),
        Topics::Pattern(_) => &[],
        Topics::Path(_) => {
            return wrong("files are read from their beginning", "leave START AT out", at);
        }
    };
    for (i, start) in named.iter().enumerate() {
        match &start.topic {
            None if topics.len() != 1 || clauses.transactions.is_some() => {
                let message = format!("'{}:{}' does not say which topic it is of", start.partition, start.offset);
                return wrong(message, "say 'topic:partition:offset': the source reads more than one", at);
            }
            Some(topic) if !topics.is_empty() && !topics.contains(topic) && clauses.transactions != start.topic => {
                let message = format!("START AT OFFSETS names topic '{topic}', which is not read");
                return wrong(message, format!("the topics are {}", topics.join(", ")), at);
            }
            _ => {}
        }
        let of = start.topic.as_ref().or(topics.first());
        let again =
            |other: &StartOffset| other.partition == start.partition && other.topic.as_ref().or(topics.first()) == of;
        if named[..i].iter().any(again) {
            let message = format!("START AT OFFSETS says partition {} twice", start.partition);
            return wrong(message, "say one offset a partition", at);
        }
    }
    Ok(())
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>, at: usize) -> Result<T, PlanError> {
    let (kind, message, hint) = (PlanErrorKind::InvalidValue, message.into(), Some(hint.into()));
    Err(PlanError { kind, message, hint, position: Some(at) })
}
