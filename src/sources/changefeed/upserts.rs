//! Rows of whole transactions as the store takes them: columns, and which rows are put.

use std::collections::BTreeMap;

use crate::row::ObjectId;
use crate::row::datum::ColumnBuilder;
use crate::sources::formats::{Op, Row, RowChange, Tables};
use crate::store::{Changes, Upsert};

/// Rows that are gathered for one transaction.
#[derive(Default)]
pub struct Upserts {
    /// In each table the order is the feed's; between tables there is none within a transaction.
    tables: BTreeMap<usize, Vec<Step>>,
    rows: usize,
}

enum Step {
    Rows(Vec<(Row, bool)>),
    Truncate,
}

impl Upserts {
    pub fn push(&mut self, change: RowChange) {
        self.rows += 1;
        let steps = self.tables.entry(change.table).or_default();
        let (row, put) = match change.op {
            Op::Put(row) => (row, true),
            Op::Delete(row) => (row, false),
            Op::Truncate => return steps.push(Step::Truncate),
        };
        match steps.last_mut() {
            Some(Step::Rows(rows)) => rows.push((row, put)),
            _ => steps.push(Step::Rows(vec![(row, put)])),
        }
    }

    pub fn truncate(&mut self, table: usize) {
        self.rows += 1;
        self.tables.entry(table).or_default().push(Step::Truncate);
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `Err` names the table and column whose value its type cannot hold.
    pub fn finish(self, tables: &Tables) -> Result<Changes, String> {
        let mut upserts: Vec<(ObjectId, Upsert)> = Vec::new();
        for (table, steps) in self.tables {
            let followed = &tables.get(table).followed;
            for step in steps {
                let upsert = match step {
                    Step::Truncate => Upsert::Truncate,
                    Step::Rows(rows) => columns(&rows, followed)?,
                };
                upserts.push((followed.id, upsert));
            }
        }
        Ok(Changes::upserts(upserts))
    }
}

fn columns(rows: &[(Row, bool)], followed: &crate::sources::FollowedTable) -> Result<Upsert, String> {
    let mut columns = Vec::with_capacity(followed.schema.columns.len());
    for (i, column) in followed.schema.columns.iter().enumerate() {
        let mut builder = ColumnBuilder::new(&column.sql_type, rows.len());
        for (row, _) in rows {
            builder
                .push(&row[i])
                .map_err(|e| format!("{}.{}.{}: {e}", followed.database, followed.name, column.name))?;
        }
        columns.push(builder.finish());
    }
    Ok(Upsert::Rows { columns, puts: rows.iter().map(|(_, put)| *put).collect() })
}
