//! From a changefeed of the catalog to the source that reads it.

use crate::catalog::feed::{
    Feed, FeedCompression, FeedFormat, OnBadMessage, OnMismatch, OtherPartitions, QUARANTINE, StartAt, Topics,
};
#[cfg(feature = "kafka")]
use crate::catalog::object::SaslMechanism;
use crate::catalog::object::{Connection, ConnectionKind, Source};
use crate::engine::Core;
#[cfg(feature = "kafka")]
use crate::engine::connect;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::upstream::keyed;
use crate::plan::functions::cast::Zone;
use crate::plan::statement::CreateSource;
use crate::sources::changefeed::{Changefeed, Consistency, Copies, quarantine};
use crate::sources::collect::window::Limits;
use crate::sources::formats::canal::{Canal, Expects};
use crate::sources::formats::debezium::{Debezium, DebeziumAvro, Modes};
use crate::sources::formats::open::OpenProtocol;
use crate::sources::formats::plain::{Csv, Encoding, Plain, place};
use crate::sources::formats::simple::Simple;
use crate::sources::formats::{Compression, Decode, Settings};
use crate::sources::log::files::FilesLog;
use crate::sources::log::files::storage::Lines;
#[cfg(feature = "kafka")]
use crate::sources::log::kafka::{KafkaLog, options as kafka};
use crate::sources::log::{Added, Begin, Log, Others};
use crate::sources::{Check, UpstreamTable};

impl Core {
    /// `added`: what becomes of partitions that its topics got, where that matters to the feed.
    pub fn changefeed(
        &self,
        connection: &Connection,
        source: &Source,
        added: Added,
        allows_reordering: bool,
    ) -> Result<Changefeed, EngineError> {
        let feed = source.feed.as_ref().expect("a source of this connection is a changefeed");
        let added = if self.is_appended(source) { Added::Read } else { added };
        let log = self.log(connection, feed, added)?;
        let claims = feed.claim_check.map(|id| self.storage(&self.connection(id)?, ".")).transpose()?;
        let quarantine = self.lock_catalog().quarantine(source).map(|table| table.id);
        let upstream = feed.schemas.map(|id| self.connection(id)).transpose()?;
        let copies = match &upstream {
            Some(upstream) if feed.snapshot && upstream.kind == ConnectionKind::Mysql => Copies::ByGtid,
            _ if feed.snapshot => Copies::ByTime,
            _ => Copies::No,
        };
        let upstream = upstream.map(|upstream| self.mysql_options(&upstream)).transpose()?;
        Ok(Changefeed {
            log,
            decode: decoder(feed),
            registry: self.registry_of(connection, feed)?,
            consistency: consistency(feed),
            begin: begin(&feed.start),
            limits: Limits::default(),
            transactions: feed.transactions.clone(),
            upstream,
            copies,
            quarantine,
            claims,
            stops_at_mismatch: feed.on_mismatch == OnMismatch::Stop,
            allows_reordering,
        })
    }

    /// Each message is a row of its own, wherever it is.
    fn is_appended(&self, source: &Source) -> bool {
        let catalog = self.lock_catalog();
        let quarantine = catalog.quarantine(source).map(|table| table.id);
        let mut tables = catalog.tables(source.id).filter(|table| Some(table.id) != quarantine);
        tables.all(|table| place::is_append(&table.schema))
    }

    fn log(&self, connection: &Connection, feed: &Feed, added: Added) -> Result<Box<dyn Log>, EngineError> {
        match (connection.kind, &feed.topics) {
            (ConnectionKind::Files, Topics::Path(path)) => {
                let lines = match feed.format {
                    FeedFormat::Csv => Lines::Csv,
                    FeedFormat::Json => Lines::Json,
                    _ => Lines::Changes,
                };
                Ok(Box::new(FilesLog::new(self.storage(connection, path)?, lines)))
            }
            (ConnectionKind::Kafka, Topics::Names(_) | Topics::Pattern(_)) => self.kafka_log(connection, feed, added),
            (kind, _) => {
                let message = format!("a {} connection has no such thing to read", kind.word());
                let hint = "KAFKA has TOPIC and TOPICS, FILES has PATH";
                Err(EngineError::new(ErrorKind::NotSupported, message).hint(hint))
            }
        }
    }

    #[cfg(feature = "kafka")]
    fn kafka_log(&self, connection: &Connection, feed: &Feed, added: Added) -> Result<Box<dyn Log>, EngineError> {
        let topics = match &feed.topics {
            Topics::Pattern(pattern) => kafka::Topics::Matching(pattern.clone()),
            Topics::Names(names) => kafka::Topics::Named(names.iter().chain(&feed.transactions).cloned().collect()),
            Topics::Path(_) => unreachable!("a folder is read of files"),
        };
        let options = kafka::Options { added, ..self.kafka_options(connection, topics)? };
        Ok(Box::new(KafkaLog::new(options)))
    }

    /// The brokers and every topic.
    #[cfg(feature = "kafka")]
    pub async fn kafka_checks(&self, connection: &Connection) -> Result<Vec<Check>, EngineError> {
        let options = self.kafka_options(connection, kafka::Topics::Matching("*".to_string()))?;
        Ok(crate::sources::log::kafka::check(&options).await)
    }

    #[cfg(feature = "kafka")]
    fn kafka_options(&self, connection: &Connection, topics: kafka::Topics) -> Result<kafka::Options, EngineError> {
        let given = &connection.options;
        let brokers = given.brokers.clone().expect("checked at CREATE CONNECTION");
        let mut options = kafka::Options::new(brokers, topics);
        options.tls = connect::tls(connection)?;
        options.sasl = match (given.sasl, &given.user) {
            (None, None) => None,
            (mechanism, user) => Some(kafka::Sasl {
                mechanism: match mechanism.unwrap_or(SaslMechanism::Plain) {
                    SaslMechanism::Plain => kafka::Mechanism::Plain,
                    SaslMechanism::ScramSha256 => kafka::Mechanism::ScramSha256,
                    SaslMechanism::ScramSha512 => kafka::Mechanism::ScramSha512,
                },
                user: user.clone().unwrap_or_default(),
                password: self.password(connection)?.unwrap_or_default(),
            }),
        };
        Ok(options)
    }

    #[cfg(not(feature = "kafka"))]
    pub async fn kafka_checks(&self, _: &Connection) -> Result<Vec<Check>, EngineError> {
        Err(without_kafka())
    }

    #[cfg(not(feature = "kafka"))]
    fn kafka_log(&self, _: &Connection, _: &Feed, _: Added) -> Result<Box<dyn Log>, EngineError> {
        Err(without_kafka())
    }

    /// The tables of a changefeed with their columns: declared, or as another connection or a registry knows them.
    pub async fn tables_of_feed(
        &self,
        connection: &Connection,
        create: &CreateSource,
    ) -> Result<Vec<UpstreamTable>, EngineError> {
        let feed = create.feed.as_ref().expect("checked with the connection's kind");
        let format = feed.format.expect("checked with the clauses");
        let mut found = match &feed.schemas {
            Some(name) => {
                let connection = self.connection_named(name)?;
                if !matches!(connection.kind, ConnectionKind::Mysql | ConnectionKind::Tidb) {
                    let message = format!("a {} connection has no tables to ask", connection.kind.word());
                    return Err(EngineError::new(ErrorKind::NotSupported, message).at(name.at));
                }
                self.mysql_tables(&connection, create).await?
            }
            None if format.is_avro() => self.described_tables(connection, create, feed, format).await?,
            None => Vec::new(),
        };
        for (name, schema) in &create.declared {
            let (database, table) = (&name.parts[0], &name.parts[1]);
            found.retain(|known| known.database != *database || known.name != *table);
            found.push(UpstreamTable::declared(database, table, schema.clone()));
        }
        if format.is_plain() {
            found = found.into_iter().map(|table| with_place(table, create)).collect::<Result<_, _>>()?;
        }
        let hint = "changes in messages may come twice: only a key tells whether a row is there already";
        keyed(&found, hint, create.name.at)?;
        Ok(found)
    }
}

/// Where a changefeed keeps messages that it cannot read, beside the tables that it follows.
pub fn quarantine_of(source: &Source, found: &[UpstreamTable]) -> Result<Option<UpstreamTable>, EngineError> {
    if source.feed.as_ref().is_none_or(|feed| feed.on_bad_message == OnBadMessage::Stop) {
        return Ok(None);
    }
    let (database, name) = (&source.name, QUARANTINE);
    if found.iter().any(|table| table.database == *database && table.name == name) {
        let message = format!("table {database}.{name} would be the upstream's and the one of messages that are kept");
        let hint = "give the source a name that no database with such a table has";
        return Err(EngineError::new(ErrorKind::DuplicateObject, message).hint(hint));
    }
    Ok(Some(UpstreamTable::declared(database, name, quarantine::schema())))
}

#[cfg(not(feature = "kafka"))]
fn without_kafka() -> EngineError {
    let error = EngineError::new(ErrorKind::NotSupported, "this binary was built without Kafka");
    error.hint("build it with the feature `kafka`, which is on by default")
}

/// A table of rows without an envelope: without a key of its own, it has the place of the message.
fn with_place(table: UpstreamTable, create: &CreateSource) -> Result<UpstreamTable, EngineError> {
    if let Some((column, sql_type)) = place::misdeclared(&table.schema) {
        let name = format!("{}.{}.{}", table.database, table.name, column.name);
        let message = format!("{name} holds the place of the message, which is no {}", column.sql_type);
        let hint = format!("declare it {} {sql_type}, or give the column another name", column.name);
        return Err(EngineError::new(ErrorKind::NotSupported, message).hint(hint).at(create.name.at));
    }
    let mut schema = place::keyed(table.schema);
    if create.feed.as_ref().is_some_and(|feed| feed.retain.is_some()) {
        schema = place::timed(schema);
    }
    Ok(UpstreamTable { layout: schema.names(), schema, ..table })
}

fn begin(start: &StartAt) -> Begin {
    match start {
        StartAt::Earliest => Begin::Earliest,
        StartAt::Latest => Begin::Latest,
        StartAt::Time(ms) => Begin::Time(*ms),
        StartAt::Offsets { named, others } => Begin::Offsets {
            named: named.iter().map(|named| ((named.topic.clone(), named.partition), named.offset)).collect(),
            others: others.map(|others| match others {
                OtherPartitions::Earliest => Others::Earliest,
                OtherPartitions::Latest => Others::Latest,
            }),
        },
    }
}

fn consistency(feed: &Feed) -> Consistency {
    match feed.format {
        _ if feed.by_row => Consistency::Rows,
        format if format.is_debezium() && feed.transactions.is_some() => Consistency::Transactions,
        FeedFormat::DebeziumJson | FeedFormat::DebeziumAvro => Consistency::Rows,
        FeedFormat::Json | FeedFormat::Csv | FeedFormat::Avro => Consistency::Rows,
        FeedFormat::CanalJson | FeedFormat::OpenProtocol | FeedFormat::Simple => Consistency::Watermarks,
    }
}

pub fn decoder(feed: &Feed) -> Box<dyn Decode> {
    let zone = feed.time_zone.as_deref().and_then(Zone::parse).unwrap_or(Zone::UTC);
    let compression = match feed.compression {
        FeedCompression::None => Compression::None,
        FeedCompression::Snappy => Compression::Snappy,
        FeedCompression::Lz4 => Compression::Lz4,
    };
    let settings = Settings { time_zone_seconds: zone.offset_seconds(), compression };
    match feed.format {
        FeedFormat::CanalJson if feed.by_row => Box::new(Canal::new(settings, Expects::Either)),
        FeedFormat::CanalJson => Box::new(Canal::new(settings, Expects::TiCdc)),
        FeedFormat::OpenProtocol => Box::new(OpenProtocol::new(settings)),
        FeedFormat::Simple => Box::new(Simple::new(settings)),
        FeedFormat::DebeziumJson => Box::new(Debezium::new(Modes::default())),
        FeedFormat::DebeziumAvro => Box::new(DebeziumAvro::new(Modes::default())),
        FeedFormat::Json => Box::new(Plain::new(settings, Encoding::Json)),
        FeedFormat::Avro => Box::new(Plain::new(settings, Encoding::Avro)),
        FeedFormat::Csv => {
            let (delimiter, header) = (feed.csv.delimiter.unwrap_or(','), feed.csv.header);
            Box::new(Plain::new(settings, Encoding::Csv(Csv { delimiter, header })))
        }
    }
}
