//! From a CREATE statement to the catalog object it defines.
//!
//! References become ids here, and what only the catalog can tell (is the secret there, can this connection be read)
//! is checked here. The engine allocates the id, plans a view's query and adds the object.

use crate::catalog::Catalog;
use crate::catalog::feed::{Feed, FeedFormat, OnBadMessage, OnMismatch, StartAt};
use crate::catalog::object::{
    Connection, ConnectionKind, ConnectionOptions, Object, ObjectKind, SaslMechanism, Secret, SecretFrom, Source,
    SslMode, Table, View, ViewOptions, WideTable,
};
use crate::plan::functions::cast::Zone;
use crate::plan::relations::plan_error;
use crate::plan::statement::{ConnectionOption, CreateSource, CreateView, FeedClauses, Name, OptionValue};
use crate::plan::{PlanError, PlanErrorKind};
use crate::row::ObjectId;
use crate::row::schema::Schema;

pub fn secret(id: ObjectId, name: &Name, from: &SecretFrom) -> Secret {
    Secret { id, name: local(name), from: from.clone() }
}

pub fn table(id: ObjectId, name: &Name, schema: &Schema) -> Table {
    Table { id, name: name.parts.clone(), source: None, schema: schema.clone(), layouts: vec![] }
}

pub fn connection(
    catalog: &Catalog,
    id: ObjectId,
    name: &Name,
    kind: ConnectionKind,
    given: &[ConnectionOption],
) -> Result<Connection, PlanError> {
    let mut options = ConnectionOptions::default();
    for option in given {
        match (option.name.as_str(), &option.value) {
            ("HOST", OptionValue::Text(host)) => options.host = Some(host.clone()),
            ("PORT", OptionValue::Number(port)) => options.port = u16::try_from(*port).ok(),
            ("USER", OptionValue::Text(user)) => options.user = Some(user.clone()),
            ("PASSWORD", OptionValue::Secret(secret)) => {
                options.password = Some(find(catalog, ObjectKind::Secret, secret)?.id());
            }
            ("SSL MODE", OptionValue::Text(mode)) => {
                options.ssl_mode = SslMode::ALL.into_iter().find(|known| known.word() == mode);
            }
            ("BROKERS", OptionValue::Text(brokers)) => options.brokers = Some(brokers.clone()),
            ("SASL MECHANISM", OptionValue::Text(word)) => {
                options.sasl = SaslMechanism::ALL.into_iter().find(|known| known.word() == word);
            }
            ("SNAPSHOT HOST", OptionValue::Text(host)) => options.snapshot_host = Some(host.clone()),
            ("SEED", OptionValue::Number(seed)) => options.seed = Some(*seed),
            ("HISTORY", OptionValue::Number(history)) => options.history = Some(*history),
            ("RATE", OptionValue::Number(rate)) => options.rate = Some(*rate),
            ("PATH", OptionValue::Text(path)) => options.path = Some(path.clone()),
            (unknown, value) => panic!("the parser let option {unknown} through with {value:?}"),
        }
    }
    Ok(Connection { id, name: local(name), kind, options })
}

pub fn source(catalog: &Catalog, id: ObjectId, create: &CreateSource) -> Result<Source, PlanError> {
    let connection = connection_of(catalog, &create.connection)?;
    let at = create.connection.at;
    let refused = |message: String, hint: &str| {
        let (kind, hint) = (PlanErrorKind::NotSupported, Some(hint.to_string()));
        Err(PlanError { kind, message, hint, position: Some(at) })
    };
    let polled = create.refresh_seconds.is_some();
    let feed = match (connection.kind, &create.feed) {
        (ConnectionKind::Mysql | ConnectionKind::Tidb, None) if polled => None,
        (kind, _) if polled => {
            let message = format!("a {} connection has no tables to read again", kind.word());
            return refused(message, "REFRESH EVERY reads the tables of a MYSQL or TIDB connection");
        }
        (ConnectionKind::Mysql | ConnectionKind::Generator, None) => None,
        (ConnectionKind::Kafka | ConnectionKind::Files, Some(clauses)) => Some(feed(catalog, create, clauses)?),
        (ConnectionKind::Kafka, None) => {
            return refused("no topic is named".to_string(), "FROM CONNECTION … (TOPIC 'name') FORMAT 'canal-json' …");
        }
        (ConnectionKind::Files, None) => {
            return refused("no folder is named".to_string(), "FROM CONNECTION … (PATH '.') FORMAT 'canal-json' …");
        }
        (kind @ (ConnectionKind::Mysql | ConnectionKind::Generator), Some(_)) => {
            let message = format!("a {} connection has no topics", kind.word());
            return refused(message, "CREATE SOURCE … FROM CONNECTION … TABLES (database.table)");
        }
        (kind @ (ConnectionKind::Tidb | ConnectionKind::Sqlite), _) => {
            let message = format!("a source cannot read a {} connection", kind.word());
            let hint = "TiDB's changes come by TiCDC: name a KAFKA or FILES connection. Tables that are small or \
                        change seldom can be read again and again: add REFRESH EVERY '1 minute'";
            let hint = if kind == ConnectionKind::Tidb { hint } else { "sources read MYSQL, KAFKA and FILES" };
            return refused(message, hint);
        }
    };
    Ok(Source {
        id,
        name: local(&create.name),
        connection: connection.id,
        tables: create.tables.iter().map(parts).collect(),
        exclude_columns: create.exclude_columns.iter().map(parts).collect(),
        feed,
        refresh_seconds: create.refresh_seconds,
    })
}

fn feed(catalog: &Catalog, create: &CreateSource, clauses: &FeedClauses) -> Result<Feed, PlanError> {
    let at = create.connection.at;
    let wrong = |message: String, hint: String, at: usize| {
        Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint: Some(hint), position: Some(at) })
    };
    let Some(format) = clauses.format else {
        let words = FeedFormat::ALL.map(|format| format!("'{}'", format.word())).join(", ");
        return wrong("a changefeed needs its FORMAT".to_string(), format!("the formats are {words}"), at);
    };
    if clauses.transactions.is_some() && format != FeedFormat::DebeziumJson {
        let message = format!("'{}' has no topic of transactions", format.word());
        return wrong(message, "leave TRANSACTIONS TOPIC out".to_string(), at);
    }
    if clauses.transactions.is_some() && clauses.on_bad_message == OnBadMessage::Quarantine {
        let message = "a transaction that lacks a message is not whole".to_string();
        let hint = "leave out ON BAD MESSAGE QUARANTINE, or TRANSACTIONS TOPIC: rows are then shown as they come";
        return wrong(message, hint.to_string(), at);
    }
    if let (OnMismatch::Stop, Some(why)) = (clauses.on_mismatch, may_mismatch(format, clauses)) {
        let message = format!("ON MISMATCH STOP would stop at what is no fault: {why}");
        let hint = "leave it out, and look at `mismatched` in SHOW TABLES";
        return wrong(message, hint.to_string(), at);
    }
    if clauses.schemas.is_none() && create.tables.len() != create.declared.len() || create.tables.is_empty() {
        let message = "the columns of the followed tables are not known".to_string();
        let hint = "add SCHEMAS FROM CONNECTION name TABLES (database.table, …), or declare them: \
                    TABLES (database.table (id INT PRIMARY KEY, …))";
        return wrong(message, hint.to_string(), at);
    }
    if let Some((table, _)) = create.declared.iter().find(|(_, schema)| schema.key.is_none()) {
        let message = format!("table {table} has no primary key");
        let hint = "changes in messages may come twice: only a key tells whether a row is there already";
        return wrong(message, hint.to_string(), table.at);
    }
    if let Some((zone, at)) = &clauses.time_zone
        && Zone::parse(zone).is_none()
    {
        let hint = "write it as '+08:00' or 'UTC': TiCDC's --tz".to_string();
        return wrong(format!("time zone '{zone}' is not known"), hint, *at);
    }
    let schemas = clauses.schemas.as_ref().map(|name| connection_of(catalog, name)).transpose()?;
    if let (true, Some(schemas), Some(name)) = (clauses.snapshot, schemas, &clauses.schemas) {
        if schemas.kind != ConnectionKind::Tidb {
            let message = format!("a {} connection has no timestamps to begin at", schemas.kind.word());
            let hint =
                "SNAPSHOT FROM CONNECTION names a TIDB connection; SCHEMAS FROM CONNECTION takes the columns only";
            return wrong(message, hint.to_string(), name.at);
        }
        if format == FeedFormat::DebeziumJson || clauses.by_row {
            let message = format!("'{}' has no timestamps that tell what a snapshot has", format.word());
            let hint = "read the feed from its beginning: Debezium sends a snapshot of its own";
            return wrong(message, hint.to_string(), name.at);
        }
    }
    Ok(Feed {
        topics: clauses.topics.clone(),
        transactions: clauses.transactions.clone(),
        start: clauses.start,
        format,
        by_row: clauses.by_row,
        time_zone: clauses.time_zone.as_ref().map(|(zone, _)| zone.clone()),
        compression: clauses.compression,
        schemas: schemas.map(|found| found.id),
        snapshot: clauses.snapshot,
        on_bad_message: clauses.on_bad_message,
        on_mismatch: clauses.on_mismatch,
    })
}

/// Why a row may not be as the feed says that it was, though nothing is wrong.
fn may_mismatch(format: FeedFormat, clauses: &FeedClauses) -> Option<&'static str> {
    if format == FeedFormat::DebeziumJson || clauses.by_row {
        return Some("without watermarks changes that come again cannot be told from new ones");
    }
    if clauses.start != StartAt::Earliest && !clauses.snapshot {
        return Some("rows from before the source's beginning are not there");
    }
    (clauses.on_bad_message == OnBadMessage::Quarantine).then_some("rows of messages in quarantine are not there")
}

/// What planning a view's query found.
#[derive(Clone, Debug)]
pub struct Planned {
    pub schema: Schema,
    /// All relations that were read, plain views included: `CatalogRelations::used`.
    pub depends_on: Vec<ObjectId>,
    pub plan_hash: u64,
    pub semantics_version: u32,
    /// Where the view declares none.
    pub time_zone: String,
}

pub fn view(catalog: &Catalog, id: ObjectId, create: &CreateView, planned: Planned) -> Result<View, PlanError> {
    for column in create.key.iter().flatten() {
        if planned.schema.position(column).is_none() {
            let message = format!("the primary key names `{column}`, which is no column of the view");
            let columns: Vec<&str> = planned.schema.columns.iter().map(|c| c.name.as_str()).collect();
            let hint = Some(format!("the columns are {}", columns.join(", ")));
            return Err(PlanError {
                kind: PlanErrorKind::UnknownColumn,
                message,
                hint,
                position: Some(create.name.at),
            });
        }
    }
    Ok(View {
        id,
        name: local(&create.name),
        materialized: create.materialized,
        query_text: create.query_text.clone(),
        schema: planned.schema,
        declared_key: create.key.clone(),
        into: create.into.as_ref().map(|name| wide_table(catalog, name)).transpose()?,
        options: ViewOptions { reconcile: option(create, "existing_rows").is_some() },
        comment: create.comment.clone(),
        depends_on: planned.depends_on,
        plan_hash: planned.plan_hash,
        semantics_version: planned.semantics_version,
        time_zone: option(create, "time_zone").map_or(planned.time_zone, str::to_string),
    })
}

/// The text of an option of `WITH (…)`, if it is given.
pub fn option<'a>(create: &'a CreateView, name: &str) -> Option<&'a str> {
    let (_, value) = create.options.iter().find(|(option, _)| option == name)?;
    match value {
        OptionValue::Text(text) => Some(text),
        other => panic!("the parser let option {name} through with {other:?}"),
    }
}

fn wide_table(catalog: &Catalog, name: &Name) -> Result<WideTable, PlanError> {
    let [first, table @ ..] = name.parts.as_slice() else { panic!("a name without parts: {name:?}") };
    let connection = connection_of(catalog, &Name { parts: vec![first.clone()], at: name.at })?;
    let (kind, word) = (connection.kind, connection.kind.word());
    let refused =
        |message| PlanError { kind: PlanErrorKind::InvalidValue, message, hint: None, position: Some(name.at) };
    if kind == ConnectionKind::Generator {
        return Err(refused("a GENERATOR connection holds no wide tables".to_string()));
    }
    if table.len() != kind.table_parts() {
        let wanted = if kind.table_parts() == 1 { "connection.table" } else { "connection.database.table" };
        return Err(refused(format!("a wide table of a {word} connection is {wanted}, found `{name}`")));
    }
    Ok(WideTable { connection: connection.id, table: table.to_vec() })
}

fn connection_of<'a>(catalog: &'a Catalog, name: &Name) -> Result<&'a Connection, PlanError> {
    match &**find(catalog, ObjectKind::Connection, name)? {
        Object::Connection(connection) => Ok(connection),
        other => panic!("{} was found as a connection", other.name()),
    }
}

fn find<'a>(catalog: &'a Catalog, kind: ObjectKind, name: &Name) -> Result<&'a std::sync::Arc<Object>, PlanError> {
    catalog.find(kind, &name.parts).map_err(|e| PlanError { position: Some(name.at), ..plan_error(e) })
}

fn local(name: &Name) -> String {
    let [name] = name.parts.as_slice() else { panic!("the parser let `{name}` through as a name of one part") };
    name.clone()
}

fn parts<const N: usize>(name: &Name) -> [String; N] {
    name.parts.clone().try_into().unwrap_or_else(|_| panic!("the parser let `{name}` through as a name of {N} parts"))
}
