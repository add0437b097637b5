//! From a connection of the catalog to what a source or a target connects with.

use crate::catalog::object::{Connection, ConnectionKind, Object, ObjectKind, SecretFrom};
use crate::config::{Secret, SslMode, Tls};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::plan::statement::Name;
use crate::row::ObjectId;
use crate::sources::Check;
use crate::sources::generator::Shop;
use crate::sources::mysql::check::{checks as mysql_checks, tidb_checks};
use crate::sources::mysql::connect as mysql;
use crate::target::dialect::Dialect;
use crate::target::{Address, TargetOptions};

fn default_port(kind: ConnectionKind) -> u16 {
    if kind == ConnectionKind::Tidb { 4000 } else { 3306 }
}

/// The value of a secret, looked up now; the error never holds it.
pub fn secret_value(from: &SecretFrom) -> Result<String, String> {
    match from {
        SecretFrom::As(value) => Ok(value.clone()),
        SecretFrom::Env(name) => std::env::var(name).map_err(|_| format!("environment variable {name} is not set")),
        SecretFrom::File(path) => match std::fs::read_to_string(path) {
            Ok(value) => Ok(value.trim_end_matches(['\r', '\n']).to_string()),
            Err(error) => Err(format!("file {path}: {error}")),
        },
    }
}

/// Certificates to trust mean that they are checked.
pub fn tls(connection: &Connection) -> Result<Tls, EngineError> {
    let given = &connection.options;
    let default = if given.ssl_ca.is_some() { SslMode::VerifyIdentity } else { SslMode::Disabled };
    if let Some(path) = &given.ssl_ca
        && let Err(error) = std::fs::File::open(path)
    {
        let message = format!("certificates of connection {} cannot be read: file {path}: {error}", connection.name);
        return Err(EngineError::new(ErrorKind::Connection, message).hint("SSL CA is a PEM file on this server"));
    }
    Ok(Tls { mode: given.ssl_mode.unwrap_or(default), ca: given.ssl_ca.clone().map(Into::into) })
}

impl Core {
    pub fn connection_named(&self, name: &Name) -> Result<Connection, EngineError> {
        match self.resolve_kind(name, ObjectKind::Connection)? {
            Object::Connection(connection) => Ok(connection),
            other => unreachable!("resolved as a connection, not as a {}", other.kind()),
        }
    }

    /// What is read from and written to is named by the id of a connection.
    pub fn connection(&self, id: ObjectId) -> Result<Connection, EngineError> {
        match self.object(id)? {
            Object::Connection(connection) => Ok(connection),
            other => panic!("{id} is a connection, not a {}", other.kind()),
        }
    }

    pub fn mysql_options(&self, connection: &Connection) -> Result<mysql::Options, EngineError> {
        let given = &connection.options;
        let host = given.host.clone().expect("checked at CREATE CONNECTION");
        let user = given.user.clone().expect("checked at CREATE CONNECTION");
        let port = given.port.unwrap_or(default_port(connection.kind));
        let password = self.password(connection)?;
        let mut options = mysql::Options::new(host, port, user, password);
        options.tls = tls(connection)?;
        options.snapshot = given.snapshot_host.clone().map(|host| (host, port));
        Ok(options)
    }

    /// Where a target is, and who we are to it: a name that no other run of any server has.
    pub fn target_options(&self, connection: ObjectId) -> Result<TargetOptions, EngineError> {
        let connection = self.connection(connection)?;
        let given = &connection.options;
        let address = match connection.kind {
            ConnectionKind::Sqlite => {
                Address::Sqlite { path: given.path.clone().expect("checked at CREATE CONNECTION").into() }
            }
            ConnectionKind::Mysql | ConnectionKind::Tidb => Address::Mysql {
                host: given.host.clone().expect("checked at CREATE CONNECTION"),
                port: given.port.unwrap_or(default_port(connection.kind)),
                user: given.user.clone().expect("checked at CREATE CONNECTION"),
                password: self.password(&connection)?.unwrap_or_default(),
                tls: tls(&connection)?,
            },
            ConnectionKind::Generator | ConnectionKind::Kafka | ConnectionKind::Files => {
                panic!("refused at CREATE MATERIALIZED VIEW")
            }
        };
        let run = (self.now)();
        let owner = format!("{:032x}/{}/{}", self.store.id(), std::process::id(), self.started_ms);
        Ok(TargetOptions { name: connection.name, address, owner, jitter_seed: run.wall_ms })
    }

    /// The statement that makes a view's wide table, for one who has the right to run it.
    pub fn target_ddl(&self, view: ObjectId) -> Result<String, EngineError> {
        let view = self.view(view)?;
        let Some(into) = &view.into else {
            let message = format!("view {} has no wide table", view.name);
            return Err(
                EngineError::new(ErrorKind::WrongObject, message).hint("INTO connection.database.table names one")
            );
        };
        let connection = self.connection(into.connection)?;
        let dialect = match connection.kind {
            ConnectionKind::Sqlite => Dialect::Sqlite,
            ConnectionKind::Tidb => Dialect::TiDb,
            ConnectionKind::Mysql | ConnectionKind::Generator | ConnectionKind::Kafka | ConnectionKind::Files => {
                Dialect::MySql
            }
        };
        Ok(crate::sinks::wide::ddl(dialect, &into.table, &view.schema, view.comment.as_deref()))
    }

    /// The generated shop of a connection.
    pub fn shop(connection: &Connection) -> Shop {
        let (given, default) = (&connection.options, Shop::default());
        Shop {
            seed: given.seed.unwrap_or(default.seed),
            history: given.history.unwrap_or(default.history),
            transactions_a_second: given.rate.unwrap_or(default.transactions_a_second),
        }
    }

    /// VALIDATE CONNECTION: a line a check.
    pub async fn validate(&self, name: &Name) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        let connection = self.connection_named(name)?;
        let checks = match connection.kind {
            ConnectionKind::Mysql => mysql_checks(&self.mysql_options(&connection)?).await?,
            ConnectionKind::Tidb => tidb_checks(&self.mysql_options(&connection)?).await?,
            ConnectionKind::Kafka => self.kafka_checks(&connection).await?,
            ConnectionKind::Files => self.files_checks(&connection).await?,
            kind => {
                let message = format!("a {} connection has nothing to validate", kind.word().to_lowercase());
                return Err(EngineError::new(ErrorKind::NotSupported, message).at(name.at));
            }
        };
        let line = |check: Check| {
            let ok = if check.ok { "yes" } else { "no" };
            vec![Some(check.setting), Some(check.have), Some(check.need), Some(ok.to_string()), check.remedy]
        };
        Ok(checks.into_iter().map(line).collect())
    }

    /// The value of a connection's password, looked up now.
    pub fn password(&self, connection: &Connection) -> Result<Option<Secret>, EngineError> {
        connection.options.password.map(|id| self.secret(id)).transpose()
    }

    /// The value of a secret, looked up now.
    pub fn secret(&self, id: ObjectId) -> Result<Secret, EngineError> {
        match self.object(id)? {
            Object::Secret(secret) => secret_value(&secret.from).map(Secret::new).map_err(|reason| {
                let message = format!("secret {} cannot be read: {reason}", secret.name);
                EngineError::new(ErrorKind::Connection, message)
            }),
            other => panic!("{id} is a secret, not a {}", other.kind()),
        }
    }
}
