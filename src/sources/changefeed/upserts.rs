//! Rows of whole transactions as the store takes them: columns, and what is said of each row.

use std::collections::BTreeMap;

use crate::row::ObjectId;
use crate::row::datum::ColumnBuilder;
use crate::sources::FollowedTable;
use crate::sources::formats::{Op, Row, RowChange, Tables, text};
use crate::store::{Disputed, Upsert, Write};

/// Rows that are gathered for one transaction.
#[derive(Default)]
pub struct Upserts {
    /// In each table the order is the feed's; between tables there is none within a transaction.
    tables: BTreeMap<usize, Vec<Step>>,
    rows: usize,
}

enum Step {
    /// The rows, and the commit of each.
    Rows(Vec<(Row, Write)>, Vec<Option<u64>>),
    Truncate,
}

impl Upserts {
    pub fn push(&mut self, change: RowChange) {
        self.rows += 1;
        let steps = self.tables.entry(change.table).or_default();
        let said = match change.op {
            Op::Put(row) => (row, Write::Put),
            Op::Insert(row) => (row, Write::Insert),
            Op::Update(row) => (row, Write::Update),
            Op::Delete(row) => (row, Write::Delete),
            Op::Truncate => return steps.push(Step::Truncate),
        };
        match steps.last_mut() {
            Some(Step::Rows(rows, commits)) => {
                rows.push(said);
                commits.push(change.commit);
            }
            _ => steps.push(Step::Rows(vec![said], vec![change.commit])),
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
    pub fn finish(&self, tables: &Tables) -> Result<Vec<(ObjectId, Upsert)>, String> {
        let mut upserts: Vec<(ObjectId, Upsert)> = Vec::new();
        for (table, step) in self.steps() {
            let followed = &tables.get(table).followed;
            let upsert = match step {
                Step::Truncate => Upsert::Truncate,
                Step::Rows(rows, _) => columns(rows, followed)?,
            };
            upserts.push((followed.id, upsert));
        }
        Ok(upserts)
    }

    /// One row of what [`Upserts::finish`] made: its table, what was said of it, and its commit.
    pub fn row(&self, at: Disputed) -> Option<(usize, &(Row, Write), Option<u64>)> {
        match self.steps().nth(at.upsert)? {
            (table, Step::Rows(rows, commits)) => Some((table, rows.get(at.row)?, *commits.get(at.row)?)),
            (_, Step::Truncate) => None,
        }
    }

    fn steps(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.tables.iter().flat_map(|(table, steps)| steps.iter().map(|step| (*table, step)))
    }
}

/// Rows and what is said of each; `Err` as in [`Upserts::finish`].
pub fn columns(rows: &[(Row, Write)], followed: &FollowedTable) -> Result<Upsert, String> {
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
    Ok(Upsert::Rows { columns, writes: rows.iter().map(|(_, write)| *write).collect() })
}

/// The key of a row, for a person.
pub fn key_text(row: &Row, followed: &FollowedTable) -> String {
    let value = |&column: &usize| {
        let column_of = &followed.schema.columns[column];
        let value = row[column].text(&column_of.sql_type).unwrap_or_else(|| "NULL".to_string());
        format!("{} = {}", column_of.name, text::shown(&value))
    };
    followed.schema.key.iter().flatten().map(value).collect::<Vec<_>>().join(", ")
}
