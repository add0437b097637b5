//! The tables that CREATE SOURCE can follow, as their connection shows them.

use crate::catalog::object::{Connection, ConnectionKind};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::plan::statement::CreateSource;
use crate::row::types::SqlType;
use crate::sources::UpstreamTable;
use crate::sources::generator;

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
            ConnectionKind::Mysql => self.mysql_tables(connection, create).await,
            ConnectionKind::Kafka | ConnectionKind::Files => self.tables_of_feed(create).await,
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
        let found = crate::sources::mysql::schema::tables(&options, &tables, &excluded).await;
        found.map_err(|error| EngineError::new(ErrorKind::Connection, error.to_string()))
    }
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
