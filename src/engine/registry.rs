//! Schema registries: of a connection or a source, and tables whose columns they know.

use std::sync::Arc;

use crate::catalog::feed::{Feed, FeedFormat, Registry as Given, Topics};
use crate::catalog::object::Connection;
use crate::engine::Core;
#[cfg(feature = "avro")]
use crate::engine::connect;
use crate::engine::error::{EngineError, ErrorKind};
use crate::plan::define;
use crate::plan::statement::{CreateSource, FeedClauses, Name};
use crate::row::ObjectId;
use crate::sources::UpstreamTable;
use crate::sources::formats::avro::columns::{Rows, describe};
use crate::sources::formats::avro::schema::Schema;
use crate::sources::formats::plain;
use crate::sources::registry::Registry;
#[cfg(feature = "avro")]
use crate::sources::registry::confluent::{Confluent, Options};

impl Core {
    /// The registry of a feed's schemas; `None`: its messages have none.
    pub fn registry_of(&self, connection: &Connection, feed: &Feed) -> Result<Option<Arc<dyn Registry>>, EngineError> {
        if !feed.format.is_avro() {
            return Ok(None);
        }
        let given = feed.registry.as_ref().or(connection.options.registry.as_ref());
        self.registry(connection, given.expect("checked at CREATE SOURCE")).map(Some)
    }

    #[cfg(feature = "avro")]
    fn registry(&self, connection: &Connection, given: &Given) -> Result<Arc<dyn Registry>, EngineError> {
        let password = given.password.map(|id| self.secret(id)).transpose()?;
        let ca = connect::tls(connection)?.ca;
        let options = Options { url: given.url.clone(), user: given.user.clone(), password, ca };
        let registry = Confluent::new(options);
        registry.map(|registry| Arc::new(registry) as Arc<dyn Registry>).map_err(|fault| unreachable_now(&fault))
    }

    #[cfg(not(feature = "avro"))]
    fn registry(&self, _: &Connection, _: &Given) -> Result<Arc<dyn Registry>, EngineError> {
        let error = EngineError::new(ErrorKind::NotSupported, "this binary was built without Avro");
        Err(error.hint("build it with the feature `avro`, which is on by default"))
    }

    /// The tables that are not declared, with the columns that the registry's newest schemas of their topics have.
    pub async fn described_tables(
        &self,
        connection: &Connection,
        create: &CreateSource,
        clauses: &FeedClauses,
        format: FeedFormat,
    ) -> Result<Vec<UpstreamTable>, EngineError> {
        let drafted = define::source(&self.lock_catalog().clone(), ObjectId(u64::MAX), create)?;
        let registry = self.registry_of(connection, drafted.feed.as_ref().expect("it has clauses"))?;
        let registry = registry.expect("the format has one");
        let is_declared = |name: &&Name| create.declared.iter().any(|(declared, _)| declared.parts == name.parts);
        let keyed = format.is_debezium() || clauses.upsert.is_some();
        let mut found = Vec::new();
        for name in create.tables.iter().filter(|name| !is_declared(name)) {
            let topic = topic_of(&clauses.topics, create.tables.len(), format, name)?;
            let value = latest(&*registry, &format!("{topic}-value"), name).await?;
            let key = match keyed {
                true => Some(latest(&*registry, &format!("{topic}-key"), name).await?),
                false => None,
            };
            let rows = if format.is_debezium() { Rows::Debezium } else { Rows::Plain };
            let of_table = create.exclude_columns.iter().filter(|column| column.parts[..2] == name.parts[..]);
            let excluded: Vec<String> = of_table.map(|column| column.parts[2].clone()).collect();
            let described = describe(&value, key.as_deref(), rows, &excluded)
                .map_err(|why| undescribed(format!("the schemas of topic {topic} describe no table: {why}"), name))?;
            found.push(UpstreamTable {
                database: name.parts[0].clone(),
                name: name.parts[1].clone(),
                layout: described.schema.names(),
                schema: described.schema,
                unsupported: described.unsupported,
            });
        }
        Ok(found)
    }
}

async fn latest(registry: &dyn Registry, subject: &str, table: &Name) -> Result<Arc<Schema>, EngineError> {
    match registry.latest(subject).await.map_err(|fault| unreachable_now(&fault).at(table.at))? {
        Some(Ok(schema)) => Ok(schema),
        Some(Err(why)) => Err(undescribed(format!("the registry's schema {subject} cannot be read: {why}"), table)),
        None => {
            let error = undescribed(format!("the registry has no schema {subject}"), table);
            Err(EngineError { kind: ErrorKind::UnknownObject, ..error })
        }
    }
}

/// The topic that has a table's rows: the only one, or the one of its name.
fn topic_of<'a>(topics: &'a Topics, tables: usize, format: FeedFormat, table: &Name) -> Result<&'a str, EngineError> {
    let names: &[String] = match topics {
        Topics::Names(names) => names,
        Topics::Pattern(_) | Topics::Path(_) => &[],
    };
    let is_of = |topic: &&String| plain::is_named_after(topic, &table.parts[0], &table.parts[1]);
    match names {
        [only] if tables == 1 => Ok(only),
        // All of them have its rows: by the first.
        [first, ..] if tables == 1 && !format.is_debezium() => Ok(first),
        names => names.iter().find(is_of).map(String::as_str).ok_or_else(|| {
            undescribed(format!("no named topic has the name of table {table}, so that its schema is not known"), table)
        }),
    }
}

fn undescribed(message: String, table: &Name) -> EngineError {
    let hint = format!("declare its columns: TABLES ({table} (id BIGINT PRIMARY KEY, …))");
    EngineError::new(ErrorKind::NotSupported, message).hint(hint).at(table.at)
}

fn unreachable_now(fault: &crate::sources::log::Fault) -> EngineError {
    let hint = "see the reason: the address, user and password are of the connection, or of the source";
    EngineError::new(ErrorKind::Connection, fault.to_string()).hint(hint)
}
