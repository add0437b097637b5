//! One walk from a plan to operators; the operators are elsewhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::dataflow::arrange::Trace;
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::describe::{ArrangementKey, JoinSide, drops_null_keys, left_keys, right_keys, shareable};
use crate::dataflow::edge::Edge;
use crate::dataflow::error::{ErrorBuilder, ErrorCode, row_text};
use crate::dataflow::export::Reader;
use crate::dataflow::expr::{Filter, Projection, batch, edge_schema};
use crate::dataflow::join::{JoinColumn, JoinOutput, join};
use crate::dataflow::linear::{Updates, constant, fallible, map, negate, union};
use crate::dataflow::reduce::{Fault, FaultKind, Reduced, Reduction, doubled_keys, reduce};
use crate::dataflow::temporal::{Waiting, temporal};
use crate::plan::explain::aggregate_text;
use crate::plan::ir::{Aggregate, JoinKind, Op, Plan};
use crate::row::ObjectId;
use crate::row::schema::Schema;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::wrappers::frontier::TraceFrontier;

/// A trace of another dataflow, seen as of a time.
pub type Imported = TraceFrontier<Trace>;

/// What a plan is rendered over.
pub struct Sources<'s> {
    pub scope: Scope<'s, u64>,
    /// Objects as streams of all their columns.
    pub streams: BTreeMap<ObjectId, Updates<'s>>,
    /// Shared arrangements, imported.
    pub shared: BTreeMap<ArrangementKey, Arranged<'s, Imported>>,
    /// True on the one worker that gives what is there from the start.
    pub first: bool,
    /// Nothing below is seen.
    pub as_of: u64,
    /// What the rows wait for that come and go by the time: filled while rendering.
    pub waiting: RefCell<Vec<Waiting>>,
}

/// A collection: its rows, and the streams of errors that were met on the way.
pub struct Rendered<'s> {
    pub rows: Updates<'s>,
    pub errors: Vec<Updates<'s>>,
}

/// One side of a join: arranged here, or shared.
enum Side<'s> {
    Own(Arranged<'s, Trace>, Updates<'s>, Vec<Updates<'s>>),
    Shared(Arranged<'s, Imported>),
}

impl<'s> Sources<'s> {
    /// Of a run by itself: nothing is shared, there is one worker, and every time is seen.
    pub fn alone(scope: Scope<'s, u64>, streams: BTreeMap<ObjectId, Updates<'s>>) -> Sources<'s> {
        Sources { scope, streams, shared: BTreeMap::new(), first: true, as_of: 0, waiting: RefCell::default() }
    }

    pub fn render(&self, plan: &Plan) -> Rendered<'s> {
        match &plan.op {
            Op::Get { object, columns, name } => self.get(*object, columns, name, &plan.schema),
            Op::Constant { rows } => {
                let rows = batch(&edge_schema(&plan.schema), rows.columns().to_vec(), rows.num_rows());
                Rendered { rows: self.once(rows), errors: vec![] }
            }
            Op::Filter { input, predicates } => {
                let filter = Filter::new(predicates, &input.schema);
                self.fallible(input, "filter", move |edge, errors| filter.apply(edge, errors))
            }
            Op::Temporal { input, bounds } => {
                let Rendered { rows, mut errors } = self.render(input);
                let waiting = Waiting::default();
                self.waiting.borrow_mut().push(Waiting::clone(&waiting));
                let (rows, failed) = temporal(rows, &input.schema, bounds, self.as_of, waiting);
                errors.push(failed);
                Rendered { rows, errors }
            }
            Op::Project { input, exprs } => {
                let projection = Projection::new(exprs, &input.schema, &plan.schema);
                self.fallible(input, "project", move |edge, errors| projection.apply(edge, errors))
            }
            Op::Join { left, right, kind, on } => self.join(left, right, *kind, on, &plan.schema),
            Op::Reduce { input, keys, aggregates } => self.reduce(input, keys, aggregates, &plan.schema),
            Op::Union { inputs } => self.union(inputs, &plan.schema),
        }
    }

    fn get(&self, object: ObjectId, columns: &[usize], name: &str, schema: &Schema) -> Rendered<'s> {
        let stream = self.streams.get(&object).unwrap_or_else(|| panic!("{name} ({object}) is read as a stream"));
        let (columns, schema) = (columns.to_vec(), edge_schema(schema));
        let rows = map(stream.clone(), &format!("get {name}"), move |edge| {
            let kept: Vec<ArrayRef> = columns.iter().map(|column| edge.rows.column(*column).clone()).collect();
            let rows = batch(&schema, kept, edge.times.len());
            Edge { rows, ..edge }
        });
        Rendered { rows, errors: vec![] }
    }

    /// Rows that are there from the start, on one worker.
    fn once(&self, rows: arrow::array::RecordBatch) -> Updates<'s> {
        let count = if self.first { rows.num_rows() } else { 0 };
        constant(self.scope, Edge { rows: rows.slice(0, count), times: vec![0; count], diffs: vec![1; count] })
    }

    fn fallible(
        &self,
        input: &Plan,
        name: &str,
        logic: impl FnMut(Edge, &mut ErrorBuilder) -> Edge + 'static,
    ) -> Rendered<'s> {
        let Rendered { rows, mut errors } = self.render(input);
        let (rows, failed) = fallible(rows, name, logic);
        errors.push(failed);
        Rendered { rows, errors }
    }

    fn union(&self, inputs: &[Plan], schema: &Schema) -> Rendered<'s> {
        let schema = edge_schema(schema);
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for input in inputs {
            let rendered = self.render(input);
            let schema = Arc::clone(&schema);
            rows.push(map(rendered.rows, "union", move |edge| renamed(edge, &schema)));
            errors.extend(rendered.errors);
        }
        Rendered { rows: union(self.scope, rows), errors }
    }

    fn reduce(&self, input: &Plan, keys: &[usize], aggregates: &[Aggregate], schema: &Schema) -> Rendered<'s> {
        let Rendered { mut rows, mut errors } = self.render(input);
        let types: Vec<_> = input.schema.columns.iter().map(|column| column.sql_type.arrow()).collect();
        // Without keys there is a row over no input: one row that is not counted keeps the group there.
        let seeded = keys.is_empty() && !aggregates.is_empty();
        if seeded {
            let nulls = types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
            let seed = self.once(batch(&edge_schema(&input.schema), nulls, 1));
            rows = union(self.scope, vec![rows, seed]);
        }
        let reduction = Reduction {
            types,
            keys: keys.to_vec(),
            aggregates: aggregates.to_vec(),
            schema: edge_schema(schema),
            seeded,
        };
        let name = if aggregates.is_empty() { "distinct" } else { "reduce" };
        let faults = Faults::of_reduce(&reduction, aggregates, &input.schema);
        let Reduced { rows, faults: found } = reduce(rows, name, reduction);
        errors.push(faults.errors(found));
        Rendered { rows, errors }
    }

    fn join(&self, left: &Plan, right: &Plan, kind: JoinKind, on: &[(usize, usize)], schema: &Schema) -> Rendered<'s> {
        let (left_key, right_key) = (left_keys(on), right_keys(on));
        let left_side = self.side(left, &left_key, JoinSide::Left, kind);
        let right_side = self.side(right, &right_key, JoinSide::Right, kind);
        let (left_reader, right_reader) = (reader(left, &left_key), reader(right, &right_key));
        let mut columns = side_columns(left, &left_key, JoinColumn::Left);
        columns.extend(side_columns(right, &right_key, JoinColumn::Right));
        let output = JoinOutput::new(&left_reader.layout, &right_reader.layout, columns, edge_schema(schema));
        let matched = match (&left_side, &right_side) {
            (Side::Own(l, ..), Side::Own(r, ..)) => join(l.clone(), r.clone(), "join", output),
            (Side::Own(l, ..), Side::Shared(r)) => join(l.clone(), r.clone(), "join", output),
            (Side::Shared(l), Side::Own(r, ..)) => join(l.clone(), r.clone(), "join", output),
            (Side::Shared(l), Side::Shared(r)) => join(l.clone(), r.clone(), "join", output),
        };
        let mut errors = Vec::new();
        let rows = match kind {
            JoinKind::Inner => matched,
            JoinKind::Left => {
                let keys = self.present_keys(&right_side, &right_reader, right, &right_key, &mut errors);
                let unmatched = self.unmatched(&left_side, &left_reader, left, &left_key, keys);
                let width = right.schema.columns.len();
                let types: Vec<_> =
                    schema.columns[schema.columns.len() - width..].iter().map(|c| c.sql_type.arrow()).collect();
                let extended = edge_schema(schema);
                let unmatched = map(unmatched, "extend with NULL", move |edge| {
                    let mut columns = edge.rows.columns().to_vec();
                    columns.extend(types.iter().map(|data_type| new_null_array(data_type, edge.times.len())));
                    let rows = batch(&extended, columns, edge.times.len());
                    Edge { rows, ..edge }
                });
                union(self.scope, vec![matched, unmatched])
            }
        };
        for side in [left_side, right_side] {
            if let Side::Own(_, _, met) = side {
                errors.extend(met);
            }
        }
        Rendered { rows, errors }
    }

    fn side(&self, plan: &Plan, key: &[usize], which: JoinSide, kind: JoinKind) -> Side<'s> {
        if let Some(shared) = shareable(plan, key.to_vec(), which, kind).and_then(|key| self.shared.get(&key)) {
            return Side::Shared(shared.clone());
        }
        let Rendered { rows, errors } = self.render(plan);
        let reader = if drops_null_keys(plan, key, which, kind) {
            Reader::without_null_keys(&plan.schema, key)
        } else {
            reader(plan, key)
        };
        Side::Own(reader.arrange(rows.clone(), "join side"), rows, errors)
    }

    /// The keys that the right side has, each once, arranged.
    fn present_keys(
        &self,
        side: &Side<'s>,
        reader: &Reader,
        plan: &Plan,
        key: &[usize],
        errors: &mut Vec<Updates<'s>>,
    ) -> Arranged<'s, Trace> {
        let rows = match side {
            Side::Own(arranged, ..) => reader.flatten(arranged, "rows of the right side"),
            Side::Shared(arranged) => reader.flatten(arranged, "rows of the right side"),
        };
        let keys = plan.schema.project(key);
        let reduction = Reduction {
            types: plan.schema.columns.iter().map(|column| column.sql_type.arrow()).collect(),
            keys: key.to_vec(),
            aggregates: vec![],
            schema: edge_schema(&keys),
            seeded: false,
        };
        let faults = Faults::of_reduce(&reduction, &[], &plan.schema);
        let Reduced { rows, faults: found } = reduce(rows, "keys of the right side", reduction);
        errors.push(faults.errors(found));
        let all: Vec<usize> = (0..key.len()).collect();
        Reader::new(&keys, &all).arrange(rows, "keys of the right side")
    }

    /// The left rows whose key the right side has not.
    fn unmatched(
        &self,
        side: &Side<'s>,
        reader: &Reader,
        plan: &Plan,
        key: &[usize],
        keys: Arranged<'s, Trace>,
    ) -> Updates<'s> {
        let present = Layout::new(reader.layout.key().types(), (0..key.len()).collect(), vec![]);
        let columns = side_columns(plan, key, JoinColumn::Left);
        let output = JoinOutput::new(&reader.layout, &present, columns, edge_schema(&plan.schema));
        let (all, matched) = match side {
            Side::Own(arranged, rows, _) => (rows.clone(), join(arranged.clone(), keys, "matched left rows", output)),
            Side::Shared(arranged) => {
                let all = reader.flatten(arranged, "left rows");
                (all, join(arranged.clone(), keys, "matched left rows", output))
            }
        };
        union(self.scope, vec![all, negate(matched)])
    }
}

/// The index of a view and the errors of its dataflow, with the declared key checked.
pub fn index<'s>(
    scope: Scope<'s, u64>,
    rendered: Rendered<'s>,
    schema: &Schema,
    declared_key: Option<&[usize]>,
    reader: &Reader,
) -> (Arranged<'s, Trace>, Updates<'s>) {
    let rows = reader.arrange(rendered.rows, "view");
    let mut errors = rendered.errors;
    if declared_key.is_some() {
        let faults = Faults { layout: (*reader.layout).clone(), keys: key_schema(schema), names: vec![] };
        errors.push(faults.errors(doubled_keys(rows.clone(), "declared key", &reader.layout)));
    }
    (rows, union(scope, errors))
}

fn key_schema(schema: &Schema) -> Schema {
    schema.project(schema.key.as_deref().unwrap_or_default())
}

fn reader(plan: &Plan, key: &[usize]) -> Reader {
    Reader::new(&plan.schema, key)
}

/// The columns of one side in the output: from the key where they are in it, else from the value.
fn side_columns(plan: &Plan, key: &[usize], value: impl Fn(usize) -> JoinColumn) -> Vec<JoinColumn> {
    let mut next = 0;
    let column = |column: usize| match key.iter().position(|k| *k == column) {
        Some(at) => JoinColumn::Key(at),
        None => {
            next += 1;
            value(next - 1)
        }
    };
    (0..plan.schema.columns.len()).map(column).collect()
}

/// The same columns under a schema that other inputs share.
fn renamed(edge: Edge, schema: &SchemaRef) -> Edge {
    let rows = batch(schema, edge.rows.columns().to_vec(), edge.times.len());
    Edge { rows, ..edge }
}

/// Words the faults of groups as errors.
struct Faults {
    layout: Layout,
    keys: Schema,
    /// What EXPLAIN calls each aggregate.
    names: Vec<String>,
}

impl Faults {
    fn of_reduce(reduction: &Reduction, aggregates: &[Aggregate], input: &Schema) -> Faults {
        let names = aggregates.iter().map(|aggregate| aggregate_text(aggregate, input)).collect();
        Faults { layout: reduction.key_layout(), keys: input.project(&reduction.keys), names }
    }

    fn errors<'s>(self, faults: timely::dataflow::Stream<'s, u64, Vec<Fault>>) -> Updates<'s> {
        faults.unary::<CapacityContainerBuilder<Edge>, _, _, _>(Pipeline, "faults", move |_, _| {
            let mut errors = ErrorBuilder::default();
            move |input, output| {
                input.for_each(|time, faults: &mut Vec<Fault>| {
                    for fault in faults.drain(..) {
                        let (code, name) = self.word(fault.kind);
                        errors.push(code, &name, &self.key_text(&fault.key), fault.time, fault.diff);
                    }
                    output.session(&time).give_container(&mut errors.finish());
                });
            }
        })
    }

    fn word(&self, kind: FaultKind) -> (ErrorCode, String) {
        match kind {
            FaultKind::Overflow { aggregate } => (ErrorCode::Overflow, self.names[aggregate].clone()),
            FaultKind::NegativeCount => (ErrorCode::NegativeCount, "count".to_string()),
            FaultKind::DoubledKey => (ErrorCode::KeyViolation, "PRIMARY KEY".to_string()),
        }
    }

    fn key_text(&self, key: &[u8]) -> String {
        if self.keys.columns.is_empty() {
            return "()".to_string();
        }
        let columns = self.layout.key().decode([key]).expect("a key decodes with the codec that encoded it");
        row_text(&columns, &self.keys, 0)
    }
}
