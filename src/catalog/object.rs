//! What a catalog holds: secrets, connections, sources, tables and views.

use serde::{Deserialize, Serialize};

use crate::catalog::feed::{Feed, Registry};
use crate::config::SslMode;
use crate::row::ObjectId;
use crate::row::schema::{Layout, Schema};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    Secret(Secret),
    Connection(Connection),
    Source(Source),
    Table(Table),
    View(View),
}

/// A value that is looked up when it is used and never printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub id: ObjectId,
    pub name: String,
    pub from: SecretFrom,
}

/// Where a secret's value comes from; only `As` holds the value itself, which no printer shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretFrom {
    Env(String),
    File(String),
    As(String),
}

/// A server or file that sources read from and wide tables are written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: ObjectId,
    pub name: String,
    pub kind: ConnectionKind,
    pub options: ConnectionOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionKind {
    Mysql,
    Tidb,
    Sqlite,
    Kafka,
    /// Files in a folder or in an object store.
    Files,
    /// The built-in shop, for the demo and for tests.
    Generator,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionOptions {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    /// The secret that holds it.
    pub password: Option<ObjectId>,
    pub ssl_mode: Option<SslMode>,
    /// A PEM file of certificates to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_ca: Option<String>,
    /// Where snapshots are read, if not from `host`.
    pub snapshot_host: Option<String>,
    /// The SQLite file; of files the folder, or `s3://bucket/prefix`.
    pub path: Option<String>,
    /// Of the object store, where it is not Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The secrets that hold the store's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<StoreKeys>,
    /// Kafka's servers, `host:port` with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brokers: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslMechanism>,
    /// Of the schemas that Kafka's messages are written by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// The generated shop's random seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Transactions of the generated shop that happened before it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<u64>,
    /// Transactions a second of the generated shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// Who we are to an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreKeys {
    pub access: ObjectId,
    pub secret: ObjectId,
}

/// How Kafka is told who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// The followed tables of a connection; each table is an object of its own that names its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub id: ObjectId,
    pub name: String,
    pub connection: ObjectId,
    /// `[database, table]` or `[database, "*"]`, as declared; empty: every table the connection shows.
    pub tables: Vec<[String; 2]>,
    /// `[database, table, column]`, as declared.
    pub exclude_columns: Vec<[String; 3]>,
    /// Of a changefeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
    /// Without a changelog: the tables are read again that often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_seconds: Option<u64>,
}

/// Rows kept by the server: a table followed upstream, or a local one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub id: ObjectId,
    /// `connection, database, table` of a followed table; the one name of a local table.
    pub name: Vec<String>,
    /// `None`: a local table.
    pub source: Option<ObjectId>,
    pub schema: Schema,
    /// Of a followed table, the newest last; the older ones until no restart needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layouts: Vec<Layout>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub id: ObjectId,
    pub name: String,
    pub materialized: bool,
    /// As typed, from the first to the last word of the query.
    pub query_text: String,
    pub schema: Schema,
    /// The columns of `PRIMARY KEY (…)`.
    pub declared_key: Option<Vec<String>>,
    pub into: Option<WideTable>,
    pub options: ViewOptions,
    pub comment: Option<String>,
    /// The relations its query reads, plain views included.
    pub depends_on: Vec<ObjectId>,
    pub plan_hash: u64,
    pub semantics_version: u32,
    /// Of date functions; fixed when the view is created.
    pub time_zone: String,
}

/// Where a view is flushed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WideTable {
    pub connection: ObjectId,
    /// `[database, table]`; SQLite: `[table]`.
    pub table: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewOptions {
    /// `EXISTING ROWS RECONCILE`: a wide table that has rows is brought right instead of being refused.
    pub reconcile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Secret,
    Connection,
    Source,
    Table,
    View,
    MaterializedView,
}

impl Object {
    pub fn id(&self) -> ObjectId {
        match self {
            Object::Secret(o) => o.id,
            Object::Connection(o) => o.id,
            Object::Source(o) => o.id,
            Object::Table(o) => o.id,
            Object::View(o) => o.id,
        }
    }

    /// One part, or three for a followed table.
    pub fn parts(&self) -> &[String] {
        match self {
            Object::Secret(o) => std::slice::from_ref(&o.name),
            Object::Connection(o) => std::slice::from_ref(&o.name),
            Object::Source(o) => std::slice::from_ref(&o.name),
            Object::Table(o) => &o.name,
            Object::View(o) => std::slice::from_ref(&o.name),
        }
    }

    /// The parts with dots between.
    pub fn name(&self) -> String {
        self.parts().join(".")
    }

    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Secret(_) => ObjectKind::Secret,
            Object::Connection(_) => ObjectKind::Connection,
            Object::Source(_) => ObjectKind::Source,
            Object::Table(_) => ObjectKind::Table,
            Object::View(View { materialized: false, .. }) => ObjectKind::View,
            Object::View(View { materialized: true, .. }) => ObjectKind::MaterializedView,
        }
    }

    /// The objects that must be there for this one, each once.
    pub fn needs(&self) -> Vec<ObjectId> {
        match self {
            Object::Secret(_) => vec![],
            Object::Connection(connection) => {
                let options = &connection.options;
                let keys = options.keys.iter().flat_map(|keys| [keys.access, keys.secret]);
                let registry = options.registry.iter().filter_map(|registry| registry.password);
                unique(options.password.into_iter().chain(keys).chain(registry))
            }
            Object::Source(source) => {
                let others = source.feed.iter().flat_map(|feed| [feed.schemas, feed.claim_check]).flatten();
                let registry = source.feed.iter().filter_map(|feed| feed.registry.as_ref()?.password);
                unique([source.connection].into_iter().chain(others).chain(registry))
            }
            Object::Table(table) => table.source.into_iter().collect(),
            Object::View(view) => {
                let into = view.into.iter().map(|into| into.connection);
                view.depends_on.iter().copied().chain(into).collect()
            }
        }
    }
}

fn unique(ids: impl Iterator<Item = ObjectId>) -> Vec<ObjectId> {
    let mut unique = Vec::new();
    ids.for_each(|id| {
        if !unique.contains(&id) {
            unique.push(id)
        }
    });
    unique
}

impl Table {
    pub fn is_local(&self) -> bool {
        self.source.is_none()
    }
}

impl ConnectionKind {
    pub const ALL: [ConnectionKind; 6] = [
        ConnectionKind::Mysql,
        ConnectionKind::Tidb,
        ConnectionKind::Sqlite,
        ConnectionKind::Kafka,
        ConnectionKind::Files,
        ConnectionKind::Generator,
    ];

    pub fn word(self) -> &'static str {
        match self {
            ConnectionKind::Mysql => "MYSQL",
            ConnectionKind::Tidb => "TIDB",
            ConnectionKind::Sqlite => "SQLITE",
            ConnectionKind::Kafka => "KAFKA",
            ConnectionKind::Files => "FILES",
            ConnectionKind::Generator => "GENERATOR",
        }
    }

    /// How many parts the name of a wide table has after the connection's.
    pub fn table_parts(self) -> usize {
        if self == ConnectionKind::Sqlite { 1 } else { 2 }
    }
}

impl SaslMechanism {
    pub const ALL: [SaslMechanism; 3] = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];

    /// As Kafka names it.
    pub fn word(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl ObjectKind {
    pub const ALL: [ObjectKind; 6] = [
        ObjectKind::Secret,
        ObjectKind::Connection,
        ObjectKind::Source,
        ObjectKind::Table,
        ObjectKind::View,
        ObjectKind::MaterializedView,
    ];

    /// As written after CREATE and DROP.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            ObjectKind::Secret => &["SECRET"],
            ObjectKind::Connection => &["CONNECTION"],
            ObjectKind::Source => &["SOURCE"],
            ObjectKind::Table => &["TABLE"],
            ObjectKind::View => &["VIEW"],
            ObjectKind::MaterializedView => &["MATERIALIZED", "VIEW"],
        }
    }
}

/// In lower case, for messages.
impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words().join(" ").to_lowercase())
    }
}

impl std::fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretFrom::Env(name) => write!(f, "Env({name})"),
            SecretFrom::File(path) => write!(f, "File({path})"),
            SecretFrom::As(_) => f.write_str("As(…)"),
        }
    }
}
