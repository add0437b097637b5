//! From a CREATE statement to the catalog object it defines.
//!
//! References become ids here, and what only the catalog can tell (is the secret there, can this connection be read)
//! is checked here. The engine allocates the id, plans a view's query and adds the object.

mod feed;
mod files;

use crate::catalog::Catalog;
use crate::catalog::feed::Registry;
use crate::catalog::object::{
    Connection, ConnectionKind, ConnectionOptions, Object, ObjectKind, SaslMechanism, Secret, SecretFrom, Source,
    Table, View, ViewOptions, WideTable,
};
use crate::config::SslMode;
use crate::plan::relations::plan_error;
use crate::plan::statement::{ConnectionOption, CreateSource, CreateView, Name, OptionValue};
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
    let mut registry = Registry { url: String::new(), user: None, password: None };
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
            ("SSL CA", OptionValue::Text(path)) => options.ssl_ca = Some(path.clone()),
            ("BROKERS", OptionValue::Text(brokers)) => options.brokers = Some(brokers.clone()),
            ("SASL MECHANISM", OptionValue::Text(word)) => {
                options.sasl = SaslMechanism::ALL.into_iter().find(|known| known.word() == word);
            }
            ("SCHEMA REGISTRY", OptionValue::Text(url)) => registry.url = url.clone(),
            ("REGISTRY USER", OptionValue::Text(user)) => registry.user = Some(user.clone()),
            ("REGISTRY PASSWORD", OptionValue::Secret(secret)) => {
                registry.password = Some(find(catalog, ObjectKind::Secret, secret)?.id());
            }
            ("SNAPSHOT HOST", OptionValue::Text(host)) => options.snapshot_host = Some(host.clone()),
            ("SEED", OptionValue::Number(seed)) => options.seed = Some(*seed),
            ("HISTORY", OptionValue::Number(history)) => options.history = Some(*history),
            ("RATE", OptionValue::Number(rate)) => options.rate = Some(*rate),
            ("PATH", OptionValue::Text(path)) => options.path = Some(path.clone()),
            ("ENDPOINT" | "REGION" | "ACCESS KEY" | "SECRET KEY", _) if kind == ConnectionKind::Files => {}
            (unknown, value) => panic!("the parser let option {unknown} through with {value:?}"),
        }
    }
    if let Some(ca) = given.iter().find(|option| option.name == "SSL CA")
        && let Some(mode) = options.ssl_mode.filter(|mode| !mode.verifies())
    {
        let message = format!("SSL MODE '{}' checks no certificate, so SSL CA would say nothing", mode.word());
        let hint =
            Some("say SSL MODE 'verify_ca' or 'verify_identity', or leave it out: 'verify_identity' then".to_string());
        return Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint, position: Some(ca.at) });
    }
    if kind == ConnectionKind::Files {
        files::options(catalog, name.at, given, &mut options)?;
    }
    options.registry = Some(registry).filter(|registry| !registry.url.is_empty());
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
        (ConnectionKind::Kafka | ConnectionKind::Files, Some(clauses)) => {
            Some(feed::feed(catalog, connection, create, clauses)?)
        }
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
