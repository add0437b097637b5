//! What a dataflow shows to others: arrangements of rows and errors, and how to read them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::{Span, TraceReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::arrange::batch::Updates;
use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::layout::{Columns, Layout};
use crate::dataflow::arrange::{Trace, arrange};
use crate::dataflow::edge::Edge;
use crate::dataflow::error::error_schema;
use crate::dataflow::expr::{batch, edge_schema};
use crate::dataflow::linear;
use crate::row::schema::Schema;

/// Updates decoded in one edge, so that a large batch leaves in pieces.
const DECODE_ROWS_MAX: usize = 8_192;

/// How an arrangement's rows become batches with the columns in their own order.
#[derive(Clone)]
pub struct Reader {
    pub layout: Arc<Layout>,
    /// Key columns, then value columns.
    pub stored: SchemaRef,
    pub schema: SchemaRef,
    /// For each column of `schema` its place in `stored`.
    order: Vec<usize>,
    keys: Columns,
    values: Columns,
}

impl Reader {
    /// Of rows of a schema, keyed by some columns; the others are the value.
    pub fn new(schema: &Schema, key: &[usize]) -> Reader {
        Reader::with(edge_schema(schema), key, false)
    }

    /// The same, without the rows that have a NULL in the key.
    pub fn without_null_keys(schema: &Schema, key: &[usize]) -> Reader {
        Reader::with(edge_schema(schema), key, true)
    }

    pub fn of_errors() -> Reader {
        Reader::with(error_schema(), &[0, 1, 2], false)
    }

    fn with(schema: SchemaRef, key: &[usize], drop_null_keys: bool) -> Reader {
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let value: Vec<usize> = (0..types.len()).filter(|column| !key.contains(column)).collect();
        let stored: Vec<usize> = key.iter().chain(&value).copied().collect();
        let order = (0..types.len())
            .map(|column| stored.iter().position(|s| *s == column).expect("a column is key or value"))
            .collect();
        let mut layout = Layout::new(&types, key.to_vec(), value);
        if drop_null_keys {
            layout = layout.drop_null_keys();
        }
        let all = |codec: &crate::row::codec::RowCodec| Columns::new(codec, (0..codec.types().len()).collect());
        let (keys, values) = (all(layout.key()), all(layout.value()));
        let stored = Arc::new(schema.project(&stored).expect("columns of the schema"));
        Reader { layout: Arc::new(layout), stored, schema, order, keys, values }
    }

    /// Rows with the columns as `stored`, put into their own order.
    pub fn in_order(&self, rows: &RecordBatch) -> RecordBatch {
        let columns = self.order.iter().map(|at| rows.column(*at).clone()).collect();
        batch(&self.schema, columns, rows.num_rows())
    }

    /// The updates of some chunks as they are seen at `time_seen`, in edges of bounded size.
    pub fn edges(&self, chunks: &[Chunk], time_seen: impl Fn(u64) -> Option<u64>, mut each: impl FnMut(Edge)) {
        let mut taken: Vec<(&Chunk, usize)> = Vec::new();
        let (mut times, mut diffs) = (Vec::new(), Vec::new());
        for chunk in chunks {
            for row in 0..chunk.rows().len() {
                let Some(time) = time_seen(chunk.time(row)) else { continue };
                taken.push((chunk, row));
                times.push(time);
                diffs.push(chunk.count(row));
                if taken.len() == DECODE_ROWS_MAX {
                    each(self.edge(&taken, std::mem::take(&mut times), std::mem::take(&mut diffs)));
                    taken.clear();
                }
            }
        }
        if !taken.is_empty() {
            each(self.edge(&taken, times, diffs));
        }
    }

    fn edge(&self, taken: &[(&Chunk, usize)], times: Vec<u64>, diffs: Vec<i64>) -> Edge {
        let mut columns = self.keys.decode(taken.iter().map(|(chunk, row)| chunk.key(*row).bytes()));
        columns.extend(self.values.decode(taken.iter().map(|(chunk, row)| chunk.rows().value(*row))));
        let stored = batch(&self.stored, columns, taken.len());
        Edge { rows: self.in_order(&stored), times, diffs }
    }

    /// Arranges a stream so that this reads it.
    pub fn arrange<'s>(&self, stream: linear::Updates<'s>, name: &str) -> Arranged<'s, Trace> {
        arrange(stream, name, Arc::clone(&self.layout))
    }

    /// An arrangement as a stream of updates.
    pub fn flatten<'s, Tr>(&self, arranged: &Arranged<'s, Tr>, name: &str) -> linear::Updates<'s>
    where
        Tr: TraceReader<Time = u64, Batch: Updates> + 'static,
    {
        let reader = self.clone();
        let stream = arranged.stream.clone();
        stream.unary::<CapacityContainerBuilder<Edge>, _, _, _>(Pipeline, name, move |_, _| {
            move |input, output| {
                input.for_each(|time, spans: &mut Vec<Span<u64, Tr::Batch>>| {
                    let mut session = output.session(&time);
                    for span in spans.drain(..) {
                        let Some(batch) = span.inner else { continue };
                        let seen = |time| batch.time_seen(time);
                        reader.edges(batch.chunks(), seen, |mut edge| session.give_container(&mut edge));
                    }
                });
            }
        })
    }
}

/// The arrangements that a view exports; a shared arrangement has no errors of its own.
pub struct Export {
    pub rows: Trace,
    pub reader: Reader,
    pub errors: Option<Trace>,
}

impl Export {
    /// Reads below `since` are over.
    pub fn compact(&mut self, since: u64) {
        compact(&mut self.rows, since);
        if let Some(errors) = &mut self.errors {
            compact(errors, since);
        }
    }
}

fn compact<Tr: TraceReader<Time = u64>>(trace: &mut TraceAgent<Tr>, since: u64) {
    let since = timely::progress::Antichain::from_elem(since);
    trace.set_logical_compaction(since.borrow());
    trace.set_physical_compaction(since.borrow());
}
