//! Row events of followed tables: from a table map and images to rows with their diffs.
//!
//! ```text
//! FollowedTable → Decoder ── table map ──> RowMap ── rows event ──> Batch (before −1, after +1) → Delta
//! ```
//!
//! With minimal metadata a table map has types only, so columns are found by their position in the layout that was read
//! with the schema; with full metadata by name. Either way each followed column's type is compared with the schema, and
//! each image must hold every followed column.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use mysql_common::binlog::events::{OptionalMetadataField, RowsEventData, TableMapEvent};
use mysql_common::collations::{Collation, CollationId};

use super::text::Charset;
use super::value::Wire;
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::delta::Delta;
use crate::row::schema::Schema;
use crate::row::types::SqlType;
use crate::sources::FollowedTable;

const BATCH_ROWS_MAX: usize = 8192;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Why rows of a followed table cannot be read; each one stops the source.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Undecodable {
    #[error("column {column} {reason}")]
    Schema { column: String, reason: String },
    #[error("the row image has no column {column}")]
    PartialImage { column: String },
    #[error("the event changes parts of a JSON value")]
    PartialJson,
    #[error("column {column}: {reason}")]
    Value { column: String, reason: String },
    #[error("the row image ends inside column {column}")]
    Cut { column: String },
}

/// A followed table, ready to read its events.
pub struct Decoder {
    pub table: FollowedTable,
    arrow: SchemaRef,
    charsets: Vec<Charset>,
}

/// What one table map says: how to walk an image, and where each value goes.
pub struct RowMap {
    decoder: Arc<Decoder>,
    /// In the order of the image; the place in the schema where the column is followed.
    columns: Vec<(Wire, Option<usize>)>,
}

/// Rows of one table with their diffs, in the order of the source.
pub struct Batch {
    arrow: SchemaRef,
    builders: Vec<ColumnBuilder>,
    diffs: Vec<i64>,
    bytes: usize,
}

impl Decoder {
    pub fn new(table: FollowedTable) -> Decoder {
        let charset = |collation: Option<&str>| Charset::of_collation(collation).unwrap_or(Charset::Utf8);
        let charsets = table.schema.columns.iter().map(|c| charset(c.collation.as_deref())).collect();
        Decoder { arrow: table.schema.arrow(), table, charsets }
    }

    pub fn map(self: &Arc<Self>, event: &TableMapEvent<'_>) -> Result<RowMap, Undecodable> {
        let count = event.columns_count() as usize;
        let names = self.names(event, count)?;
        let unsigned = unsigned_columns(event, count);
        let schema = &self.table.schema;
        let mut columns = Vec::with_capacity(count);
        for (i, charset) in text_charsets(event, count).into_iter().enumerate() {
            let name = || names.get(i).cloned().unwrap_or_else(|| format!("number {}", i + 1));
            let target = names.get(i).and_then(|name| schema.position(name));
            let column_type = event.get_column_type(i).ok().flatten();
            let meta = event.get_column_metadata(i).unwrap_or(&[]);
            let wire = column_type.and_then(|t| Wire::new(t, meta)).ok_or_else(|| Undecodable::Schema {
                column: name(),
                reason: format!("has a form that is not supported: {column_type:?}"),
            })?;
            if let Some(target) = target {
                let sql_type = &schema.columns[target].sql_type;
                let sign_fits = match (sql_type, unsigned.get(i).copied().flatten()) {
                    (SqlType::Int { unsigned, .. }, Some(is_unsigned)) => *unsigned == is_unsigned,
                    _ => true,
                };
                if !wire.carries(sql_type) || !sign_fits {
                    let reason = format!("was {sql_type} when the source was created and comes as {wire:?} now");
                    return Err(Undecodable::Schema { column: name(), reason });
                }
                let is_text = matches!(sql_type, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_));
                if is_text && charset.is_some_and(|charset| charset != Some(self.charsets[target])) {
                    let reason = "has another character set than when the source was created".into();
                    return Err(Undecodable::Schema { column: name(), reason });
                }
            }
            columns.push((wire, target));
        }
        for (position, column) in schema.columns.iter().enumerate() {
            if !columns.iter().any(|(_, target)| *target == Some(position)) {
                let reason = "is not in the table any more".into();
                return Err(Undecodable::Schema { column: column.name.clone(), reason });
            }
        }
        Ok(RowMap { decoder: self.clone(), columns })
    }

    pub fn batch(&self) -> Batch {
        Batch::new(&self.table.schema, self.arrow.clone())
    }

    /// Column names by position. Columns beyond the layout are the server's own: some versions show those of
    /// indexes over expressions.
    fn names(&self, event: &TableMapEvent<'_>, count: usize) -> Result<Vec<String>, Undecodable> {
        for field in event.iter_optional_meta().flatten() {
            if let OptionalMetadataField::ColumnName(names) = field {
                return Ok(names.iter_names().flatten().map(|n| n.name().into_owned()).collect());
            }
        }
        let layout = self.table.layout();
        if let Some(missing) = layout.get(count) {
            return Err(Undecodable::Schema { column: missing.clone(), reason: "is not in the table any more".into() });
        }
        Ok(layout.to_vec())
    }
}

/// Whether a column is unsigned, where the table map says so.
fn unsigned_columns(event: &TableMapEvent<'_>, count: usize) -> Vec<Option<bool>> {
    let mut unsigned = vec![None; count];
    for field in event.iter_optional_meta().flatten() {
        if let OptionalMetadataField::Signedness(bits) = field {
            let numeric = |i: &usize| matches!(event.get_column_type(*i), Ok(Some(t)) if t.is_numeric_type());
            for (i, bit) in (0..count).filter(numeric).zip(bits.iter().by_vals()) {
                unsigned[i] = Some(bit);
            }
        }
    }
    unsigned
}

/// The character sets of columns, where the table map says them and their collation is known; within, `None`: one that
/// cannot be read.
fn text_charsets(event: &TableMapEvent<'_>, count: usize) -> Vec<Option<Option<Charset>>> {
    let mut charsets = vec![None; count];
    let has_one = |i: &usize| matches!(event.get_column_type(*i), Ok(Some(t)) if t.is_character_type());
    let columns: Vec<usize> = (0..count).filter(has_one).collect();
    for field in event.iter_optional_meta().flatten() {
        let collations: Vec<u16> = match &field {
            OptionalMetadataField::ColumnCharset(all) => all.iter_charsets().flatten().collect(),
            OptionalMetadataField::DefaultCharset(default) => {
                let mut all = vec![default.default_charset(); columns.len()];
                for other in default.iter_non_default().flatten() {
                    all.iter_mut().skip(other.column_index() as usize).take(1).for_each(|c| *c = other.charset());
                }
                all
            }
            _ => continue,
        };
        for (column, collation) in columns.iter().zip(collations) {
            let id = CollationId::from(collation);
            let is_known = id != CollationId::UNKNOWN_COLLATION_ID;
            charsets[*column] = is_known.then(|| Charset::of_collation(Some(Collation::resolve(id).collation())));
        }
    }
    charsets
}

/// A VARCHAR may have grown since the source was created; a value that needs it does not fit what was made of it.
fn is_too_long(value: &Datum, sql_type: &SqlType) -> bool {
    match (value, sql_type) {
        // Characters are counted only where the bytes leave a doubt.
        (Datum::Text(text), SqlType::Varchar(n)) => text.len() > *n as usize && text.chars().count() > *n as usize,
        (Datum::Bytes(bytes), SqlType::Varbinary(n)) => bytes.len() > *n as usize,
        _ => false,
    }
}

impl RowMap {
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Appends the event's rows.
    pub fn decode(&self, event: &RowsEventData<'_>, batch: &mut Batch) -> Result<(), Undecodable> {
        if matches!(event, RowsEventData::PartialUpdateRowsEvent(_)) {
            return Err(Undecodable::PartialJson);
        }
        if event.num_columns() as usize != self.columns.len() {
            let reason = format!("is one of {} where the table map has {}", event.num_columns(), self.columns.len());
            return Err(Undecodable::Schema { column: "count".into(), reason });
        }
        let before: Option<Vec<bool>> = event.columns_before_image().map(|bits| bits.iter().by_vals().collect());
        let after: Option<Vec<bool>> = event.columns_after_image().map(|bits| bits.iter().by_vals().collect());
        for present in [&before, &after].into_iter().flatten() {
            self.check_complete(present)?;
        }
        let mut data = event.rows_data();
        let mut row = vec![Datum::Null; self.decoder.table.schema.columns.len()];
        while !data.is_empty() {
            for (present, diff) in [(&before, -1), (&after, 1)] {
                if let Some(present) = present {
                    self.image(present, &mut data, &mut row)?;
                    batch.push(&row, diff).map_err(|(at, reason)| self.bad_value(at, reason))?;
                }
            }
        }
        Ok(())
    }

    fn check_complete(&self, present: &[bool]) -> Result<(), Undecodable> {
        match self.columns.iter().zip(present).find(|((_, target), present)| target.is_some() && !**present) {
            Some(((_, Some(target)), _)) => {
                let column = self.decoder.table.schema.columns[*target].name.clone();
                Err(Undecodable::PartialImage { column })
            }
            _ => Ok(()),
        }
    }

    fn image(&self, present: &[bool], data: &mut &[u8], row: &mut [Datum]) -> Result<(), Undecodable> {
        let cut = |target: Option<usize>| Undecodable::Cut {
            column: target.map_or("(not followed)".into(), |t| self.decoder.table.schema.columns[t].name.clone()),
        };
        let bitmap_bytes = present.iter().filter(|p| **p).count().div_ceil(8);
        let (nulls, rest) = data.split_at_checked(bitmap_bytes).ok_or_else(|| cut(None))?;
        *data = rest;
        let columns = self.columns.iter().zip(present).filter(|(_, present)| **present);
        for (i, ((wire, target), _)) in columns.enumerate() {
            let is_null = nulls[i / 8] >> (i % 8) & 1 == 1;
            let bytes = if is_null { None } else { Some(wire.cut(data).ok_or_else(|| cut(*target))?) };
            let Some(target) = *target else { continue };
            row[target] = match bytes {
                None => Datum::Null,
                Some(bytes) => {
                    let sql_type = &self.decoder.table.schema.columns[target].sql_type;
                    let value = wire.datum(bytes, sql_type, self.decoder.charsets[target]);
                    let value = value.map_err(|reason| self.bad_value(target, reason))?;
                    if is_too_long(&value, sql_type) {
                        let column = self.decoder.table.schema.columns[target].name.clone();
                        let reason = format!("was {sql_type} when the source was created and holds a longer value now");
                        return Err(Undecodable::Schema { column, reason });
                    }
                    value
                }
            };
        }
        Ok(())
    }

    fn bad_value(&self, column: usize, reason: String) -> Undecodable {
        Undecodable::Value { column: self.decoder.table.schema.columns[column].name.clone(), reason }
    }
}

impl Batch {
    pub fn new(schema: &Schema, arrow: SchemaRef) -> Batch {
        let builders = schema.columns.iter().map(|c| ColumnBuilder::new(&c.sql_type, 0)).collect();
        Batch { arrow, builders, diffs: Vec::new(), bytes: 0 }
    }

    /// Appends a row; on an error (the column and why) the batch is of no more use.
    pub fn push(&mut self, row: &[Datum], diff: i64) -> Result<(), (usize, String)> {
        for (i, (builder, datum)) in self.builders.iter_mut().zip(row).enumerate() {
            if *datum == Datum::Null && !self.arrow.field(i).is_nullable() {
                return Err((i, "is NULL and was NOT NULL when the source was created".into()));
            }
            builder.push(datum).map_err(|e| (i, e.to_string()))?;
            self.bytes += match datum {
                Datum::Text(text) => text.len() + 8,
                Datum::Bytes(bytes) => bytes.len() + 8,
                _ => 8,
            };
        }
        self.diffs.push(diff);
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.diffs.len() >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// The rows so far, which leave the batch empty; `None` if there are none.
    pub fn take(&mut self) -> Option<Delta> {
        if self.diffs.is_empty() {
            return None;
        }
        self.bytes = 0;
        let columns = self.builders.iter_mut().map(ColumnBuilder::finish).collect();
        let rows = RecordBatch::try_new(self.arrow.clone(), columns);
        Some(Delta::new(rows.expect("NULLs were refused in columns without them"), std::mem::take(&mut self.diffs)))
    }
}
