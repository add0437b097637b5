//! What a connection shows: databases, tables, columns, for SHOW and for CREATE SOURCE to follow.

use arrow::array::StringArray;
use arrow::compute::ilike;

use crate::catalog::object::{Connection, ConnectionKind};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::show::show_column;
use crate::plan::statement::{CreateSource, Name, Upstream};
use crate::row::types::SqlType;
use crate::sources::mysql::schema;
use crate::sources::{UpstreamTable, generator};

/// Cells of an answer's row, NULL where there is none.
type Line = Vec<Option<String>>;

impl Core {
    /// The tables that a source may follow, of those that its statement names.
    pub async fn upstream_tables(
        &self,
        connection: &Connection,
        create: &CreateSource,
    ) -> Result<Vec<UpstreamTable>, EngineError> {
        match connection.kind {
            ConnectionKind::Generator => {
                let wanted = |table: &UpstreamTable| {
                    create.tables.is_empty()
                        || create.tables.iter().any(|name| {
                            let [database, pattern] = pair(&name.parts);
                            database == table.database && (pattern == "*" || pattern == table.name)
                        })
                };
                Ok(generator::tables().into_iter().filter(wanted).collect())
            }
            ConnectionKind::Mysql | ConnectionKind::Tidb if create.refresh_seconds.is_some() => {
                let found = self.mysql_tables(connection, create).await?;
                let hint = "only a key tells which row it is that was read again";
                keyed(&found, hint, create.name.at)?;
                Ok(found)
            }
            ConnectionKind::Mysql => self.mysql_tables(connection, create).await,
            ConnectionKind::Kafka | ConnectionKind::Files => self.tables_of_feed(connection, create).await,
            kind => {
                let message = format!("a {} connection has no changelog to follow", kind.word().to_lowercase());
                Err(EngineError::new(ErrorKind::NotSupported, message).at(create.connection.at))
            }
        }
    }

    /// The tables that a server shows and the statement names.
    pub async fn mysql_tables(
        &self,
        connection: &Connection,
        create: &CreateSource,
    ) -> Result<Vec<UpstreamTable>, EngineError> {
        let options = self.mysql_options(connection)?;
        let tables: Vec<(String, String)> = create.tables.iter().map(|name| pair(&name.parts).into()).collect();
        let excluded: Vec<(String, String, String)> =
            create.exclude_columns.iter().map(|name| triple(&name.parts).into()).collect();
        Ok(schema::tables(&options, &tables, &excluded).await?)
    }

    /// SHOW … FROM CONNECTION: what can be read, and what stands in the way.
    pub async fn show_upstream(&self, name: &Name, what: &Upstream) -> Result<Vec<Line>, EngineError> {
        let connection = self.connection_named(name)?;
        match what {
            Upstream::Databases => {
                let found = self.shown_databases(&connection, name.at).await?;
                Ok(found.into_iter().map(|(name, tables)| vec![Some(name), Some(tables.to_string())]).collect())
            }
            Upstream::Tables { like } => {
                let found = self.shown_tables(&connection, None, name.at).await?;
                like_those(found, like.as_deref(), name.at)
            }
            Upstream::Columns { table } => {
                let found = self.shown_tables(&connection, Some(table), name.at).await?;
                let Some(found) = found.first() else {
                    let message = format!("connection {} shows no table {table}", connection.name);
                    let hint = format!("SHOW TABLES FROM CONNECTION {} lists them", connection.name);
                    return Err(EngineError::new(ErrorKind::UnknownObject, message).hint(hint).at(table.at));
                };
                Ok(found.layout.iter().map(|column| column_line(found, column)).collect())
            }
        }
    }

    async fn shown_databases(&self, connection: &Connection, at: usize) -> Result<Vec<(String, u64)>, EngineError> {
        match connection.kind {
            ConnectionKind::Generator => Ok(vec![(generator::DATABASE.to_string(), generator::tables().len() as u64)]),
            ConnectionKind::Mysql | ConnectionKind::Tidb => {
                Ok(schema::databases(&self.mysql_options(connection)?).await?)
            }
            kind => Err(shows_nothing(kind, at)),
        }
    }

    /// All tables, or the one that is asked for.
    async fn shown_tables(
        &self,
        connection: &Connection,
        only: Option<&Name>,
        at: usize,
    ) -> Result<Vec<UpstreamTable>, EngineError> {
        let only: Vec<(String, String)> = only.iter().map(|name| pair(&name.parts).into()).collect();
        match connection.kind {
            ConnectionKind::Generator => {
                let mut found = generator::tables();
                found.retain(|t| only.iter().all(|(database, table)| *database == t.database && *table == t.name));
                Ok(found)
            }
            ConnectionKind::Mysql | ConnectionKind::Tidb => {
                Ok(schema::tables(&self.mysql_options(connection)?, &only, &[]).await?)
            }
            kind => Err(shows_nothing(kind, at)),
        }
    }
}

fn shows_nothing(kind: ConnectionKind, at: usize) -> EngineError {
    let message = format!("the tables of a {} connection cannot be listed", kind.word());
    let hint = match kind {
        ConnectionKind::Kafka => "VALIDATE CONNECTION lists its topics",
        _ => "a MYSQL or TIDB connection tells its tables",
    };
    EngineError::new(ErrorKind::NotSupported, message).hint(hint).at(at)
}

/// The tables whose name (as `database.table` where the pattern has a point) is like the pattern, in any case.
fn like_those(tables: Vec<UpstreamTable>, pattern: Option<&str>, at: usize) -> Result<Vec<Line>, EngineError> {
    let pattern = pattern.unwrap_or("%");
    let full = |table: &UpstreamTable| format!("{}.{}", table.database, table.name);
    let names = tables.iter().map(|table| Some(if pattern.contains('.') { full(table) } else { table.name.clone() }));
    let is_like = ilike(&names.collect::<StringArray>(), &StringArray::new_scalar(pattern));
    let is_like = is_like.map_err(|error| EngineError::new(ErrorKind::InvalidValue, error.to_string()).at(at))?;
    let line = |table: &UpstreamTable| {
        let column = |position: &usize| table.schema.columns[*position].name.as_str();
        let key = table.schema.key.as_ref().map(|key| key.iter().map(column).collect::<Vec<_>>().join(", "));
        let bad: Vec<String> = table.unsupported.iter().map(|(c, reason)| format!("{c} ({reason})")).collect();
        let bad = (!bad.is_empty()).then(|| bad.join(", "));
        vec![Some(full(table)), Some(table.layout.len().to_string()), key, bad]
    };
    Ok(tables
        .iter()
        .zip(is_like.iter())
        .filter(|(_, like)| *like == Some(true))
        .map(|(table, _)| line(table))
        .collect())
}

/// A column as it is read, or why it cannot be.
fn column_line(table: &UpstreamTable, column: &str) -> Line {
    match table.schema.position(column) {
        Some(position) => [show_column(&table.schema, position), vec![None]].concat(),
        None => {
            let reason = table.unsupported.iter().find(|(name, _)| name == column).map(|(_, reason)| reason.clone());
            vec![Some(column.to_string()), None, None, None, None, reason]
        }
    }
}

/// Refuses tables whose rows cannot be told apart.
pub fn keyed(tables: &[UpstreamTable], hint: &str, at: usize) -> Result<(), EngineError> {
    let Some(table) = tables.iter().find(|table| table.schema.key.is_none()) else { return Ok(()) };
    let message = format!("table {}.{} has no primary key", table.database, table.name);
    Err(EngineError::new(ErrorKind::NotSupported, message).hint(hint).at(at))
}

fn pair(parts: &[String]) -> [String; 2] {
    <[String; 2]>::try_from(parts.to_vec()).expect("the parser gives database and table")
}

fn triple(parts: &[String]) -> [String; 3] {
    <[String; 3]>::try_from(parts.to_vec()).expect("the parser gives database, table and column")
}

/// Comparisons are bytewise until collations are built: said once, where it can make a difference.
pub fn collation_notice(table: &UpstreamTable) -> Option<String> {
    let folding = |column: &&crate::row::schema::Column| {
        let ci = column.collation.as_ref().is_some_and(|collation| collation.contains("_ci"));
        ci && !matches!(column.sql_type, SqlType::Enum(_) | SqlType::Set(_))
    };
    let columns: Vec<&str> = table.schema.columns.iter().filter(folding).map(|column| column.name.as_str()).collect();
    (!columns.is_empty()).then(|| {
        format!(
            "{}.{}: comparisons of {} are by bytes, not by collation",
            table.database,
            table.name,
            columns.join(", ")
        )
    })
}
