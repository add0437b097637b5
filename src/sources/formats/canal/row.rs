//! Rows out of a message's cells, in the order of the table's schema.

use super::message::Cell;
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::sources::formats::{BadMessage, Op, Row, TableOf, text};

/// Makes rows; keeps what it needs for one to make the next.
#[derive(Debug)]
pub struct Rows {
    /// Which columns the row at hand has.
    seen: Vec<bool>,
    zone_seconds: i32,
}

impl Rows {
    pub fn new(zone_seconds: i32) -> Rows {
        Rows { seen: Vec::new(), zone_seconds }
    }

    /// A row with every column.
    pub fn complete(&mut self, table: &TableOf, cells: &[Cell]) -> Result<Row, BadMessage> {
        let row = self.row(table, cells)?;
        match self.seen.iter().position(|seen| !seen) {
            None => Ok(row),
            Some(column) => Err(incomplete(table, &table.followed.schema.columns[column])),
        }
    }

    /// A row that has the key's columns; others may be missing and are NULL then. Without a key it has all.
    pub fn keyed(&mut self, table: &TableOf, cells: &[Cell]) -> Result<Row, BadMessage> {
        let Some(key) = &table.followed.schema.key else { return self.complete(table, cells) };
        let row = self.row(table, cells)?;
        match key.iter().find(|column| !self.seen[**column]) {
            None => Ok(row),
            Some(column) => Err(incomplete(table, &table.followed.schema.columns[*column])),
        }
    }

    /// An UPDATE's row as what it says: `old` has the columns that changed or all, and those it lacks did not change.
    pub fn updated(
        &mut self,
        table: &TableOf,
        cells: &[Cell],
        old: &[Cell],
        mut say: impl FnMut(Op),
    ) -> Result<(), BadMessage> {
        let after = self.complete(table, cells)?;
        let moved = self.moved(table, old, &after)?;
        if moved {
            let mut before = after.clone();
            self.each(table, old, |column, cell, zone| {
                before[column] = value(table, column, cell, zone)?;
                Ok(())
            })?;
            say(Op::Delete(before));
        }
        say(if moved { Op::Insert(after) } else { Op::Update(after) });
        Ok(())
    }

    /// Whether `old` has another key; of a table without one every column is it.
    fn moved(&mut self, table: &TableOf, old: &[Cell], after: &Row) -> Result<bool, BadMessage> {
        let key = table.followed.schema.key.as_deref();
        let mut moved = false;
        self.each(table, old, |column, cell, zone| {
            if key.is_none_or(|key| key.contains(&column)) {
                moved |= value(table, column, cell, zone)? != after[column];
            }
            Ok(())
        })?;
        Ok(moved)
    }

    fn row(&mut self, table: &TableOf, cells: &[Cell]) -> Result<Row, BadMessage> {
        let mut row = vec![Datum::Null; table.followed.schema.columns.len()];
        self.each(table, cells, |column, cell, zone| {
            row[column] = value(table, column, cell, zone)?;
            Ok(())
        })?;
        Ok(row)
    }

    /// Calls with each cell of a followed column.
    fn each(
        &mut self,
        table: &TableOf,
        cells: &[Cell],
        mut take: impl FnMut(usize, &Cell, i32) -> Result<(), BadMessage>,
    ) -> Result<(), BadMessage> {
        self.seen.clear();
        self.seen.resize(table.followed.schema.columns.len(), false);
        let mut next = 0;
        for cell in cells {
            let Some(column) = place(table, &cell.name, next) else { continue };
            if std::mem::replace(&mut self.seen[column], true) {
                return Err(BadMessage::malformed(format!("{}: column `{}` stands twice", named(table), cell.name)));
            }
            next = column + 1;
            take(column, cell, self.zone_seconds)?;
        }
        Ok(())
    }
}

/// A column's place, which is `likely` when columns come in the schema's order. Names match without regard to case, as
/// MySQL's do.
fn place(table: &TableOf, name: &str, likely: usize) -> Option<usize> {
    let columns = &table.followed.schema.columns;
    if columns.get(likely).is_some_and(|column| column.name == name) {
        return Some(likely);
    }
    let folded = || match name.is_ascii() {
        true => columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)),
        false => columns.iter().position(|column| column.name.to_lowercase() == name.to_lowercase()),
    };
    table.column(name).or_else(folded)
}

fn value(table: &TableOf, place: usize, cell: &Cell, zone_seconds: i32) -> Result<Datum, BadMessage> {
    let column = &table.followed.schema.columns[place];
    match &cell.value {
        None if column.nullable => Ok(Datum::Null),
        None => Err(misfit(table, column, "NULL")),
        Some(written) => text::datum(written, &column.sql_type, zone_seconds)
            .ok_or_else(|| misfit(table, column, &text::shown(written))),
    }
}

fn named(table: &TableOf) -> String {
    format!("{}.{}", table.followed.database, table.followed.name)
}

fn misfit(table: &TableOf, column: &Column, value: &str) -> BadMessage {
    let null = if column.nullable { "" } else { " NOT NULL" };
    BadMessage {
        code: "VALUE_UNREADABLE",
        reason: format!("{value} is no value of column {}.{}: {}{null}", named(table), column.name, column.sql_type),
        remedy: "create the source again with the table as it is upstream now".into(),
    }
}

fn incomplete(table: &TableOf, column: &Column) -> BadMessage {
    BadMessage {
        code: "ROW_INCOMPLETE",
        reason: format!("a row of {} has no value of column `{}`", named(table), column.name),
        remedy: "have the feed send whole rows (MySQL: binlog_row_image = FULL; TiCDC: no column-selectors that leave \
            the column out), or create the source again without the column"
            .into(),
    }
}
