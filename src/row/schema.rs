//! The columns of a table or view, with their key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::row::Position;
use crate::row::types::SqlType;

/// One column. `name` keeps the case it was declared with; lookups ignore case, as MySQL's do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub sql_type: SqlType,
    pub nullable: bool,
    /// The collation of a text column as the source names it; comparisons are bytewise until collations are built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Column {
    pub fn new(name: impl Into<String>, sql_type: SqlType, nullable: bool) -> Column {
        Column { name: name.into(), sql_type, nullable, collation: None, comment: None }
    }
}

/// Columns in order, and the positions of the key's columns if rows have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub columns: Vec<Column>,
    /// Positions in `columns`; values of these columns are unique together. Empty key: at most one row.
    pub key: Option<Vec<usize>>,
}

/// Every column of an upstream table in its order, also those that are not followed: a changelog may tell columns by
/// position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Holds from the changelog's positions on that include this one; `None`: from the table's first row on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    pub columns: Vec<String>,
}

/// The key of Arrow field metadata under which a column's `SqlType` (JSON) travels through the planner.
pub const SQL_TYPE_METADATA: &str = "tidemill.type";

impl Schema {
    /// The Arrow schema; each field carries its `SqlType` under [`SQL_TYPE_METADATA`].
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The position of a column by name, without regard to case.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Of the columns, in their order.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    pub fn project(&self, columns: &[usize]) -> Schema {
        let key = self
            .key
            .as_ref()
            .and_then(|key| key.iter().map(|k| columns.iter().position(|c| c == k)).collect::<Option<Vec<_>>>());
        Schema { columns: columns.iter().map(|&c| self.columns[c].clone()).collect(), key }
    }
}

fn field(column: &Column) -> Field {
    let sql_type = serde_json::to_string(&column.sql_type).expect("a SqlType is always JSON");
    Field::new(&column.name, column.sql_type.arrow(), column.nullable)
        .with_metadata(HashMap::from([(SQL_TYPE_METADATA.to_string(), sql_type)]))
}
