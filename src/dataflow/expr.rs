//! Evaluates expressions over the rows of an edge, whole batches at a time.
//!
//! When a batch fails, each of its rows goes through the single-row path alone: what a row gives never depends on the
//! rows that happen to share its batch, so its error and its result can be retracted exactly.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_empty_array};
use arrow::compute::{concat, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::DataFusionError;

use crate::dataflow::edge::Edge;
use crate::dataflow::error::{ErrorBuilder, ErrorCode, row_text};
use crate::plan::ir::Expr;
use crate::row::schema::Schema;

/// The Arrow schema of an edge: the columns' types and metadata, every column nullable.
///
/// A plan's nullability is a promise of the planner's; a batch that broke it would be refused by Arrow, not by us.
pub fn edge_schema(schema: &Schema) -> SchemaRef {
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    Arc::new(ArrowSchema::new(schema.arrow().fields().iter().map(nullable).collect::<Vec<_>>()))
}

/// A batch of these columns; `rows` counts when there are none.
pub fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows)).with_match_field_names(false);
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .unwrap_or_else(|e| panic!("an operator's columns have its schema's types: {e}"))
}

/// The rows of an edge that are marked true.
pub fn select(edge: Edge, mask: &BooleanArray) -> Edge {
    if mask.true_count() == edge.times.len() {
        return edge;
    }
    let keep = |i: &usize| mask.value(*i);
    let kept: Vec<usize> = (0..edge.times.len()).filter(keep).collect();
    Edge {
        rows: filter_record_batch(&edge.rows, mask).expect("a mask of the batch's length"),
        times: kept.iter().map(|&i| edge.times[i]).collect(),
        diffs: kept.iter().map(|&i| edge.diffs[i]).collect(),
    }
}

/// Predicates tried in order: a later one sees only the rows that passed those before it.
pub struct Filter {
    predicates: Vec<Expr>,
    input: Schema,
    arrow: SchemaRef,
}

impl Filter {
    pub fn new(predicates: &[Expr], input: &Schema) -> Filter {
        Filter { predicates: predicates.to_vec(), input: input.clone(), arrow: edge_schema(input) }
    }

    /// The rows for which every predicate is TRUE.
    pub fn apply(&self, edge: Edge, errors: &mut ErrorBuilder) -> Edge {
        let mut edge = with_schema(edge, &self.arrow);
        for predicate in &self.predicates {
            if edge.times.is_empty() {
                break;
            }
            let mask = truths(predicate, &edge.rows).unwrap_or_else(|_| self.row_by_row(predicate, &edge, errors));
            edge = select(edge, &mask);
        }
        edge
    }

    fn row_by_row(&self, predicate: &Expr, edge: &Edge, errors: &mut ErrorBuilder) -> BooleanArray {
        let truth = |i: usize| match truths(predicate, &edge.rows.slice(i, 1)) {
            Ok(mask) => mask.value(0),
            Err(error) => {
                fail(&error, predicate, &self.input, edge, i, errors);
                false
            }
        };
        (0..edge.times.len()).map(truth).map(Some).collect()
    }
}

/// Expressions over one row, giving the columns of a new one.
pub struct Projection {
    exprs: Vec<Expr>,
    input: Schema,
    input_arrow: SchemaRef,
    output_arrow: SchemaRef,
}

impl Projection {
    pub fn new(exprs: &[Expr], input: &Schema, output: &Schema) -> Projection {
        Projection {
            exprs: exprs.to_vec(),
            input: input.clone(),
            input_arrow: edge_schema(input),
            output_arrow: edge_schema(output),
        }
    }

    pub fn apply(&self, edge: Edge, errors: &mut ErrorBuilder) -> Edge {
        let edge = with_schema(edge, &self.input_arrow);
        let columns: Result<Vec<ArrayRef>, _> = self.exprs.iter().map(|e| values(e, &edge.rows)).collect();
        match columns {
            Ok(columns) => {
                let rows = batch(&self.output_arrow, columns, edge.times.len());
                Edge { rows, ..edge }
            }
            Err(_) => self.row_by_row(&edge, errors),
        }
    }

    fn row_by_row(&self, edge: &Edge, errors: &mut ErrorBuilder) -> Edge {
        let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.exprs.len()];
        let (mut times, mut diffs) = (Vec::new(), Vec::new());
        for i in 0..edge.times.len() {
            let row = edge.rows.slice(i, 1);
            let value = |expr| values(expr, &row).map_err(|error| (error, expr));
            match self.exprs.iter().map(value).collect::<Result<Vec<_>, _>>() {
                Ok(values) => {
                    columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                    times.push(edge.times[i]);
                    diffs.push(edge.diffs[i]);
                }
                Err((error, expr)) => fail(&error, expr, &self.input, edge, i, errors),
            }
        }
        let columns = columns.iter().zip(self.output_arrow.fields()).map(|(parts, field)| match parts.is_empty() {
            true => new_empty_array(field.data_type()),
            false => {
                let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
                concat(&parts).expect("values of one expression have one type")
            }
        });
        let rows = batch(&self.output_arrow, columns.collect(), times.len());
        Edge { rows, times, diffs }
    }
}

/// Functions may look at a field's metadata, which a join or an arrangement does not keep.
fn with_schema(edge: Edge, schema: &SchemaRef) -> Edge {
    let rows = batch(schema, edge.rows.columns().to_vec(), edge.times.len());
    Edge { rows, ..edge }
}

fn values(expr: &Expr, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    match expr.column() {
        Some(i) => Ok(rows.column(i).clone()),
        None => expr.physical.evaluate(rows)?.into_array_of_size(rows.num_rows()),
    }
}

/// NULL is not TRUE; neither is the untyped NULL.
fn truths(predicate: &Expr, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let truths = values(predicate, rows)?;
    Ok(match truths.as_any().downcast_ref::<BooleanArray>() {
        Some(truths) if truths.null_count() > 0 => prep_null_mask_filter(truths),
        Some(truths) => truths.clone(),
        None => vec![false; rows.num_rows()].into(),
    })
}

fn fail(error: &DataFusionError, expr: &Expr, input: &Schema, edge: &Edge, i: usize, errors: &mut ErrorBuilder) {
    let row = row_text(edge.rows.columns(), input, i);
    errors.push(ErrorCode::of(error), &expr.text, &row, edge.times[i], edge.diffs[i]);
}
