//! INSERT, UPDATE and DELETE on local tables: validated here, applied in one tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use futures::StreamExt;
use sqlparser::ast::{self, SelectItem, SetExpr};
use tokio::sync::oneshot;

use crate::catalog::object::{Object, ObjectKind, Table};
use crate::clock::Control;
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::fit::fit;
use crate::engine::session::Block;
use crate::plan::lower::{Settings, lower};
use crate::plan::parse::parse_query;
use crate::plan::refuse::Use;
use crate::plan::relations::CatalogRelations;
use crate::plan::statement::{Insert, Name, Statement, Update};
use crate::plan::temporal::bind_expr;
use crate::row::codec::RowCodec;
use crate::row::datum::Datum;
use crate::row::delta::Delta;
use crate::row::schema::Schema;
use crate::row::types::SqlType;
use crate::row::{ObjectId, Ts};
use crate::store::Changes;

/// Of functions of dates in a write.
const TIME_ZONE: &str = "+00:00";
/// Rows that one transaction of local tables may change, in bytes.
const WRITE_BYTES_MAX: usize = 256 << 20;

impl Core {
    /// Runs one write in a block: its changes are added to the block's pending ones.
    pub(super) async fn write_statement(
        &self,
        statement: &Statement,
        text: &str,
        block: &mut Block,
    ) -> Result<String, EngineError> {
        if block.writer.is_none() {
            if block.point.is_some() {
                let message = "a transaction block that has read cannot write";
                return Err(EngineError::new(ErrorKind::NotSupported, message)
                    .hint("begin a new block with the write, so that what it reads is current"));
            }
            block.writer = Some(Arc::clone(&self.writer).lock_owned().await);
            block.point = Some(self.read_point().await?);
        }
        let (table, rows, tag) = match statement {
            Statement::Insert(insert) => self.insert(insert, text, block).await?,
            Statement::Update(update) => self.update(update, text, block).await?,
            Statement::Delete { table, predicate } => self.delete(table, predicate.as_ref(), text, block).await?,
            other => unreachable!("no write: {other:?}"),
        };
        let point = block.point.as_mut().expect("set above");
        if !rows.is_empty() {
            point.pending.push((table, rows));
        }
        let bytes: usize = point.pending.iter().map(|(_, delta)| delta.bytes()).sum();
        if bytes > WRITE_BYTES_MAX {
            let message = format!("the transaction changes more than {WRITE_BYTES_MAX} bytes");
            return Err(EngineError::new(ErrorKind::LimitExceeded, message).hint("write in several transactions"));
        }
        Ok(tag)
    }

    /// Makes changes of local tables durable and visible; returns their `Ts`.
    pub(super) async fn write_tick(&self, pending: Vec<(ObjectId, Delta)>) -> Result<Ts, EngineError> {
        self.send_tick(vec![], Changes::in_memory(pending)).await
    }

    /// A new local table is loaded from the start: it has no rows.
    pub(super) async fn install_local(&self, table: ObjectId) -> Result<(), EngineError> {
        let generation = self.store.load(table)?.finish()?;
        self.send_tick(vec![(table, generation)], Changes::none()).await.map(|_| ())
    }

    pub(super) async fn send_tick(&self, installs: Vec<(ObjectId, u64)>, changes: Changes) -> Result<Ts, EngineError> {
        let (done, written) = oneshot::channel();
        let stopped = || {
            let reason = self.stopped.borrow().clone().unwrap_or_else(|| "the server is stopping".to_string());
            EngineError::new(ErrorKind::NotReady, format!("nothing can be written: {reason}"))
        };
        self.control.send(Control::Write { installs, changes, done }).await.map_err(|_| stopped())?;
        match written.await {
            Ok(Ok(ts)) => Ok(ts),
            Ok(Err(reason)) => Err(EngineError::new(ErrorKind::Internal, reason)),
            Err(_) => Err(stopped()),
        }
    }

    /// Types of the parameters of a write.
    pub(super) fn write_parameters(&self, statement: &Statement, text: &str) -> Result<Vec<SqlType>, EngineError> {
        match statement {
            Statement::Insert(insert) => {
                let table = self.local_table(&insert.table)?;
                let targets = target_columns(&table, &insert.columns)?;
                let given = placeholders_by_column(&insert.query);
                let of_column = |column: Option<usize>| match column.and_then(|column| targets.get(column)) {
                    Some(target) => table.schema.columns[*target].sql_type.clone(),
                    None => SqlType::Text(4),
                };
                Ok(given.into_iter().map(of_column).collect())
            }
            Statement::Update(update) => {
                let table = self.local_table(&update.table)?;
                Ok(self.lower_write(&update_query(&table, update)?, text)?.parameters)
            }
            Statement::Delete { table, predicate } => {
                let table = self.deletable(table)?;
                Ok(self.lower_write(&select_query(&table, predicate.as_ref())?, text)?.parameters)
            }
            _ => Ok(vec![]),
        }
    }

    pub(super) fn lower_write(
        &self,
        query: &ast::Query,
        text: &str,
    ) -> Result<crate::plan::lower::Lowered, EngineError> {
        let settings = Settings { time_zone: TIME_ZONE.to_string() };
        Ok(lower(query, text, Use::Select, &CatalogRelations::new(&self.lock_catalog()), &settings)?)
    }

    fn local_table(&self, name: &Name) -> Result<Table, EngineError> {
        match self.resolve_kind(name, ObjectKind::Table)? {
            Object::Table(table) if table.is_local() => Ok(table),
            other => {
                let message = format!("table {} is followed from a source and cannot be written here", other.name());
                Err(EngineError::new(ErrorKind::WrongObject, message).hint("write it upstream").at(name.at))
            }
        }
    }

    /// A local table, or one of messages that could not be read: nobody upstream deletes those.
    fn deletable(&self, name: &Name) -> Result<Table, EngineError> {
        if let Object::Table(table) = self.resolve_kind(name, ObjectKind::Table)?
            && let Some(source) = table.source
            && let Object::Source(source) = self.object(source)?
            && self.lock_catalog().quarantine(&source).is_some_and(|quarantine| quarantine.id == table.id)
        {
            return Ok(table);
        }
        self.local_table(name)
    }

    async fn rows_of(
        &self,
        query: &ast::Query,
        text: &str,
        block: &Block,
    ) -> Result<(RecordBatch, Schema), EngineError> {
        let lowered = self.lower_write(query, text)?;
        let mut schema = lowered.plan.schema.clone();
        schema.columns.truncate(schema.columns.len() - lowered.hidden);
        let mut rows = self.select(lowered, &[], block.point.as_ref().expect("a write has a read point")).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await {
            batches.push(batch?);
        }
        let arrow = batches.first().map_or_else(|| schema.arrow(), |batch| batch.schema());
        Ok((concat_batches(&arrow, &batches).map_err(internal)?, schema))
    }

    async fn insert(
        &self,
        insert: &Insert,
        text: &str,
        block: &Block,
    ) -> Result<(ObjectId, Delta, String), EngineError> {
        let table = self.local_table(&insert.table)?;
        let targets = target_columns(&table, &insert.columns)?;
        let (rows, given) = match insert.query.body.as_ref() {
            SetExpr::Values(values) => values_rows(&table, &targets, &values.rows, text, block)?,
            _ => self.rows_of(&insert.query, text, block).await?,
        };
        if given.columns.len() != targets.len() {
            let message = format!("{} values for {} columns of {}", given.columns.len(), targets.len(), insert.table);
            return Err(EngineError::new(ErrorKind::Syntax, message).at(insert.table.at));
        }
        let columns = table.schema.columns.iter().enumerate().map(|(position, column)| {
            match targets.iter().position(|target| *target == position) {
                Some(from) => fit(rows.column(from), &given.columns[from].sql_type, column),
                None => fit(&new_null_array(&column.sql_type.arrow(), rows.num_rows()), &column.sql_type, column),
            }
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let new = RecordBatch::try_new(table.schema.arrow(), columns).map_err(internal)?;
        self.check_keys(&table, &new, None, block).await?;
        let tag = format!("INSERT 0 {}", new.num_rows());
        Ok((table.id, Delta::inserts(new), tag))
    }

    async fn delete(
        &self,
        table: &Name,
        predicate: Option<&ast::Expr>,
        text: &str,
        block: &Block,
    ) -> Result<(ObjectId, Delta, String), EngineError> {
        let table = self.deletable(table)?;
        let (rows, _) = self.rows_of(&select_query(&table, predicate)?, text, block).await?;
        let tag = format!("DELETE {}", rows.num_rows());
        let diffs = vec![-1; rows.num_rows()];
        Ok((table.id, Delta::new(rows.with_schema(table.schema.arrow()).map_err(internal)?, diffs), tag))
    }

    async fn update(
        &self,
        update: &Update,
        text: &str,
        block: &Block,
    ) -> Result<(ObjectId, Delta, String), EngineError> {
        let table = self.local_table(&update.table)?;
        let (rows, given) = self.rows_of(&update_query(&table, update)?, text, block).await?;
        let width = table.schema.columns.len();
        let old = rows.project(&(0..width).collect::<Vec<_>>()).map_err(internal)?;
        let mut columns = old.columns().to_vec();
        for (position, (name, _)) in update.assignments.iter().enumerate() {
            let target = position_of(&table, name)?;
            let value = width + position;
            columns[target] = fit(rows.column(value), &given.columns[value].sql_type, &table.schema.columns[target])?;
        }
        let new = RecordBatch::try_new(table.schema.arrow(), columns).map_err(internal)?;
        self.check_keys(&table, &new, Some(&old), block).await?;
        let count = new.num_rows();
        // All old rows go before any new one comes, so that keys may move among the rows.
        let old = old.with_schema(new.schema()).map_err(internal)?;
        let both = concat_batches(&new.schema(), [&old, &new]).map_err(internal)?;
        let diffs = std::iter::repeat_n(-1, count).chain(std::iter::repeat_n(1, count)).collect();
        Ok((table.id, Delta::new(both, diffs), format!("UPDATE {count}")))
    }

    /// No two rows may have one key: neither among the new ones nor with those that stay.
    async fn check_keys(
        &self,
        table: &Table,
        new: &RecordBatch,
        replaced: Option<&RecordBatch>,
        block: &Block,
    ) -> Result<(), EngineError> {
        let Some(key) = table.schema.key.clone() else { return Ok(()) };
        let codec = RowCodec::new(key.iter().map(|&c| table.schema.columns[c].sql_type.arrow()));
        let mut taken = BTreeSet::new();
        for (row, bytes) in encode(&codec, new, &key)?.into_iter().enumerate() {
            if !taken.insert(bytes) {
                return Err(duplicate_key(table, new, &key, row));
            }
        }
        let replaced: BTreeSet<Vec<u8>> = match replaced {
            Some(old) => encode(&codec, old, &key)?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        let point = block.point.as_ref().expect("a write has a read point");
        let (tables, id, wanted) = (point.tables.clone(), table.id, new.clone());
        let stored = tokio::task::spawn_blocking(move || tables.with_keys_of(id, &wanted)).await;
        let stored = stored.map_err(|error| EngineError::new(ErrorKind::Internal, error.to_string()))??;
        let pending = point.pending.iter().filter(|(id, _)| *id == table.id).map(|(_, delta)| delta.clone());
        let mut counts = BTreeMap::<Vec<u8>, (i64, RecordBatch, usize)>::new();
        for delta in std::iter::once(Delta::inserts(stored)).chain(pending) {
            for (row, bytes) in encode(&codec, &delta.rows, &key)?.into_iter().enumerate() {
                if taken.contains(&bytes) && !replaced.contains(&bytes) {
                    counts.entry(bytes).or_insert((0, delta.rows.clone(), row)).0 += delta.diffs[row];
                }
            }
        }
        match counts.into_values().find(|(count, ..)| *count > 0) {
            Some((_, rows, row)) => Err(duplicate_key(table, &rows, &key, row)),
            None => Ok(()),
        }
    }
}

fn encode(codec: &RowCodec, rows: &RecordBatch, key: &[usize]) -> Result<Vec<Vec<u8>>, EngineError> {
    let columns: Vec<ArrayRef> = key.iter().map(|&c| ArrayRef::clone(rows.column(c))).collect();
    let encoded = codec.encode(&columns).map_err(internal)?;
    Ok(encoded.iter().map(|row| row.data().to_vec()).collect())
}

fn duplicate_key(table: &Table, rows: &RecordBatch, key: &[usize], row: usize) -> EngineError {
    let value = |&c: &usize| {
        let sql_type = &table.schema.columns[c].sql_type;
        Datum::of(rows.column(c), sql_type, row).text(sql_type).unwrap_or_else(|| "NULL".to_string())
    };
    let values: Vec<String> = key.iter().map(value).collect();
    let message = format!("key ({}) already exists in table {}", values.join(", "), table.name.join("."));
    EngineError::new(ErrorKind::UniqueViolation, message)
}

fn position_of(table: &Table, name: &Name) -> Result<usize, EngineError> {
    let column = name.parts.last().expect("a name has a part");
    table.schema.position(column).ok_or_else(|| {
        let message = format!("table {} has no column {column}", table.name.join("."));
        EngineError::new(ErrorKind::UnknownColumn, message).at(name.at)
    })
}

fn target_columns(table: &Table, names: &[Name]) -> Result<Vec<usize>, EngineError> {
    if names.is_empty() {
        return Ok((0..table.schema.columns.len()).collect());
    }
    names.iter().map(|name| position_of(table, name)).collect()
}

/// The rows of VALUES, as the columns they go into hold them.
fn values_rows(
    table: &Table,
    targets: &[usize],
    values: &[ast::Parens<Vec<ast::Expr>>],
    text: &str,
    block: &Block,
) -> Result<(RecordBatch, Schema), EngineError> {
    let now = block.point.as_ref().expect("a write has a read point").at();
    let settings = Settings { time_zone: TIME_ZONE.to_string() };
    let name = table.name.join(".");
    let lowering = crate::plan::lower::Table { name: &name, schema: &table.schema, text, settings: &settings };
    let schema = Schema { columns: targets.iter().map(|&c| table.schema.columns[c].clone()).collect(), key: None };
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let empty =
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::empty()), vec![], &options).map_err(internal)?;
    let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(values.len()); targets.len()];
    for row in values {
        for (column, expr) in lowering.row(targets, &row.content)?.into_iter().enumerate() {
            let value = bind_expr(&expr, now).physical.evaluate(&empty).and_then(|value| value.into_array(1));
            columns[column].push(value.map_err(|error| {
                let name = &schema.columns[column].name;
                let message = format!("value {} for column {name}: {}", expr.text, error.strip_backtrace());
                EngineError::new(ErrorKind::InvalidValue, message)
            })?);
        }
    }
    let columns = columns.iter().zip(&schema.columns).map(|(parts, column)| {
        if parts.is_empty() {
            return Ok(new_null_array(&column.sql_type.arrow(), 0));
        }
        concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>()).map_err(internal)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<Field> = schema
        .columns
        .iter()
        .zip(&columns)
        .map(|(column, values)| Field::new(&column.name, values.data_type().clone(), true))
        .collect();
    let rows = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).map_err(internal)?;
    Ok((rows, schema))
}

/// `SELECT * FROM table [WHERE …]`.
pub(super) fn select_query(table: &Table, predicate: Option<&ast::Expr>) -> Result<ast::Query, EngineError> {
    let quoted: Vec<String> = table.name.iter().map(|part| format!("`{}`", part.replace('`', "``"))).collect();
    let mut query = parse_query(&format!("SELECT * FROM {}", quoted.join(".")))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.selection = predicate.cloned();
    }
    Ok(*query)
}

/// `SELECT *, value, … FROM table [WHERE …]`: the old rows beside the new values.
fn update_query(table: &Table, update: &Update) -> Result<ast::Query, EngineError> {
    let mut query = select_query(table, update.predicate.as_ref())?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        for (position, (_, value)) in update.assignments.iter().enumerate() {
            let alias = ast::Ident::new(format!("_new_{position}"));
            select.projection.push(SelectItem::ExprWithAlias { expr: value.clone(), alias });
        }
    }
    Ok(query)
}

/// For each placeholder of a VALUES list, in order of number, the column it stands in.
fn placeholders_by_column(query: &ast::Query) -> Vec<Option<usize>> {
    let mut found = std::collections::BTreeMap::new();
    if let SetExpr::Values(values) = query.body.as_ref() {
        for row in &values.rows {
            for (column, expr) in row.iter().enumerate() {
                if let ast::Expr::Value(value) = expr
                    && let ast::Value::Placeholder(name) = &value.value
                    && let Some(number) = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok())
                {
                    found.insert(number, column);
                }
            }
        }
    }
    let last = found.last_key_value().map_or(0, |(number, _)| *number);
    (1..=last).map(|number| found.get(&number).copied()).collect()
}

fn internal(error: arrow::error::ArrowError) -> EngineError {
    EngineError::new(ErrorKind::Internal, error.to_string())
}
