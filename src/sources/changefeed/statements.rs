//! Statements that a feed tells of: what they do to the followed tables, and which end the source.

use super::upserts::Upserts;
use crate::sources::formats::{SchemaChange, Tables};
use crate::sources::mysql::ddl::{self, Query, What};
use crate::sources::{FollowedTable, Stop};

/// A statement on a followed table: harmless, TRUNCATE, or the end.
pub fn apply(tables: &Tables, change: &SchemaChange, upserts: &mut Upserts) -> Result<(), Stop> {
    let Query::Changes(changes) = ddl::read(&change.sql, &change.database) else { return Ok(()) };
    let creates = change.sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("create"));
    for found in changes {
        let of = |(_, table): &(usize, &FollowedTable)| {
            table.database == found.database && found.table.as_ref().is_none_or(|name| *name == table.name)
        };
        let mut tables = tables.iter().map(|table| &table.followed).enumerate();
        let Some((place, table)) = tables.find(of) else { continue };
        let why = match found.what {
            What::Truncate => {
                upserts.truncate(place);
                continue;
            }
            // The table's own beginning: rows say whether it is what was declared.
            What::Gone if creates => continue,
            What::Gone => "it is not what it was".to_string(),
            What::Rows => "rows were changed by a statement".to_string(),
            What::Alter(alter) => match alter.keeps(&table.schema) {
                Ok(()) => continue,
                Err(why) => why,
            },
        };
        return Err(Stop {
            code: "SCHEMA_CHANGED",
            message: format!("table {}.{}: {}: {why}", table.database, table.name, change.sql),
            position: None,
            remedy: "drop the source and create it with the table's new columns".to_string(),
        });
    }
    Ok(())
}
