//! Builds the dataflows of one worker: imports, operators, exports; and taps on them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::arrange::ShutdownButton;
use differential_dataflow::trace::Span;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::core::Input as _;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::{Handle as Probe, Probe as _};
use timely::progress::Antichain;
use timely::worker::Worker as Timely;

use super::{EdgeInput, Installed};
use crate::dataflow::arrange::batch::Updates as Seen;
use crate::dataflow::describe::{ArrangementKey, Build, Description, fed_tables};
use crate::dataflow::edge::Edge;
use crate::dataflow::export::{Export, Reader};
use crate::dataflow::linear::{Updates, map, union};
use crate::dataflow::render::{Sources, index};
use crate::dataflow::tap::Tap;
use crate::dataflow::temporal::Waiting;
use crate::plan::ir::Plan;
use crate::row::ObjectId;
use crate::row::schema::Schema;

type Flows = BTreeMap<ObjectId, Installed>;
type Button = ShutdownButton<CapabilitySet<u64>>;

/// What is gathered while a dataflow is built.
#[derive(Default)]
struct Parts {
    inputs: BTreeMap<ObjectId, EdgeInput>,
    buttons: Vec<Button>,
    waiting: Vec<Waiting>,
}

/// Installs a dataflow on this worker.
pub fn build(timely: &mut Timely, description: &Description, flows: &mut Flows) -> Installed {
    let first = timely.index() == 0;
    let as_of = description.as_of;
    let mut parts = Parts::default();
    let probe = Probe::new();
    let export = timely.dataflow_named(&description.name, |scope: Scope<'_, u64>| match &description.build {
        Build::Arrangement { of, of_view, schema, columns, key, drop_null_keys } => {
            let (stream, errors) = if *of_view {
                let (rows, errors) = import_view(scope, *of, flows, as_of.0, &mut parts.buttons);
                (rows, Some(errors))
            } else {
                (fed(scope, *of, &mut parts), None)
            };
            // Errors of the view reach its readers directly; this only keeps the probe honest.
            drop(errors);
            let chosen = columns.clone();
            let stream = map(stream, "columns", move |edge| {
                let rows = edge.rows.project(&chosen).expect("columns of the object");
                Edge { rows, ..edge }
            });
            let schema = schema.project(columns);
            let reader = match drop_null_keys {
                true => Reader::without_null_keys(&schema, key),
                false => Reader::new(&schema, key),
            };
            let arranged = reader.arrange(stream, &description.name);
            arranged.stream.probe_with(&probe);
            Export { rows: arranged.trace, reader, errors: None }
        }
        Build::View { plan, declared_key, shared } => {
            let sources = sources(scope, plan, shared, flows, as_of.0, first, &mut parts);
            let imported_errors = sources.1;
            let mut rendered = sources.0.render(plan);
            parts.waiting = sources.0.waiting.into_inner();
            rendered.errors.extend(imported_errors);
            view(scope, rendered, &plan.schema, declared_key.as_deref(), &probe)
        }
    });
    Installed {
        as_of,
        inputs: parts.inputs,
        export: Some(export),
        probe,
        buttons: parts.buttons,
        waiting: parts.waiting,
        pending: Some(Vec::new()),
        reported: 0,
    }
}

/// Arranges a view's rows and errors; both are complete where the probe is.
fn view<'s>(
    scope: Scope<'s, u64>,
    rendered: crate::dataflow::render::Rendered<'s>,
    schema: &Schema,
    declared_key: Option<&[usize]>,
    probe: &Probe<u64>,
) -> Export {
    let mut schema = schema.clone();
    if let Some(declared) = declared_key {
        schema.key = Some(declared.to_vec());
    }
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let key = schema.key.clone().unwrap_or(all);
    let reader = Reader::new(&schema, &key);
    let (rows, errors) = index(scope, rendered, &schema, declared_key, &reader);
    let errors = Reader::of_errors().arrange(errors, "errors");
    rows.stream.probe_with(probe);
    errors.stream.probe_with(probe);
    Export { rows: rows.trace, reader, errors: Some(errors.trace) }
}

fn sources<'s>(
    scope: Scope<'s, u64>,
    plan: &Plan,
    shared: &[(ArrangementKey, ObjectId)],
    flows: &mut Flows,
    as_of: u64,
    first: bool,
    parts: &mut Parts,
) -> (Sources<'s>, Vec<Updates<'s>>) {
    let is_view = |object: ObjectId| flows.get(&object).is_some_and(|flow| flow.export.is_some());
    let fed_tables: Vec<ObjectId> = fed_tables(plan, &is_view);
    let views: Vec<ObjectId> = plan.objects().into_iter().filter(|object| is_view(*object)).collect();
    let mut streams = BTreeMap::new();
    for table in fed_tables {
        streams.insert(table, fed(scope, table, parts));
    }
    let mut errors = Vec::new();
    for object in views {
        let (rows, met) = import_view(scope, object, flows, as_of, &mut parts.buttons);
        streams.insert(object, rows);
        errors.push(met);
    }
    let mut arrangements = BTreeMap::new();
    for (key, id) in shared {
        let flow = flows.get_mut(id).expect("a shared arrangement is installed before what imports it");
        let since = since(flow, as_of);
        let export = flow.export.as_mut().expect("an arrangement exports");
        let (arranged, button) = export.rows.import_frontier_core(
            scope,
            "shared arrangement",
            Antichain::from_elem(since),
            Antichain::new(),
        );
        parts.buttons.push(button);
        arrangements.insert(key.clone(), arranged);
    }
    (Sources { scope, streams, shared: arrangements, first, as_of, waiting: Default::default() }, errors)
}

/// A table's changes: load pieces, then ticks.
fn fed<'s>(scope: Scope<'s, u64>, table: ObjectId, parts: &mut Parts) -> Updates<'s> {
    let (input, stream) = scope.new_input::<Edge>();
    parts.inputs.insert(table, input);
    stream
}

/// What another dataflow is read as of: one that is still loading is read as it loads.
fn since(flow: &Installed, as_of: u64) -> u64 {
    if flow.pending.is_some() { 0 } else { as_of }
}

/// A view's rows and errors as streams.
fn import_view<'s>(
    scope: Scope<'s, u64>,
    object: ObjectId,
    flows: &mut Flows,
    as_of: u64,
    buttons: &mut Vec<Button>,
) -> (Updates<'s>, Updates<'s>) {
    let flow = flows.get_mut(&object).unwrap_or_else(|| panic!("view {object} is installed before what imports it"));
    let since = Antichain::from_elem(since(flow, as_of));
    let export = flow.export.as_mut().expect("a view exports");
    let (rows, button) = export.rows.import_frontier_core(scope, "rows of a view", since.clone(), Antichain::new());
    buttons.push(button);
    let rows = export.reader.flatten(&rows, "rows of a view");
    let errors = match &mut export.errors {
        Some(errors) => {
            let (errors, button) = errors.import_frontier_core(scope, "errors of a view", since, Antichain::new());
            buttons.push(button);
            Reader::of_errors().flatten(&errors, "errors of a view")
        }
        None => union(scope, vec![]),
    };
    (rows, errors)
}

/// A tap on this worker.
pub struct Tapped {
    pub object: ObjectId,
    /// What has been given to the tap.
    pub probe: Probe<u64>,
    tap: Arc<Tap>,
    buttons: Vec<Button>,
}

impl Tapped {
    /// False, and ended, once its reader is gone.
    pub fn is_wanted(&mut self) -> bool {
        let wanted = !self.tap.is_closed();
        if !wanted {
            self.buttons.iter_mut().for_each(ShutdownButton::press);
        }
        wanted
    }

    /// False, and ended, if it is a tap on this object.
    pub fn keep_without(&mut self, object: ObjectId) -> bool {
        let keep = self.object != object;
        if !keep {
            self.buttons.iter_mut().for_each(ShutdownButton::press);
        }
        keep
    }
}

/// Reads a view's changes after a time into a tap.
pub fn tap(timely: &mut Timely, object: ObjectId, export: &mut Export, tap: Arc<Tap>, worker: usize) -> Tapped {
    let mut buttons = Vec::new();
    let probe = Probe::new();
    let (reader, error_reader) = (export.reader.clone(), Reader::of_errors());
    let given = Arc::clone(&tap);
    timely.dataflow_named("tap", |scope: Scope<'_, u64>| {
        let since = Antichain::from_elem(tap.after);
        let (rows, button) = export.rows.import_frontier_core(scope, "tap", since.clone(), Antichain::new());
        buttons.push(button);
        let errors = export.errors.as_mut().expect("a view has errors to tap");
        let (errors, button) = errors.import_frontier_core(scope, "tap of errors", since, Antichain::new());
        buttons.push(button);
        let found: Rc<RefCell<(Vec<Edge>, Vec<Edge>)>> = Rc::default();
        let given = rows.stream.binary_frontier::<_, CapacityContainerBuilder<Vec<()>>, _, _, _, _>(
            errors.stream,
            Pipeline,
            Pipeline,
            "tap",
            move |_, _| {
                let after = given.after;
                move |(rows, row_frontier), (errors, error_frontier), _output| {
                    let mut found = found.borrow_mut();
                    rows.for_each(|_, spans| decode(spans, &reader, after, &mut found.0));
                    errors.for_each(|_, spans| decode(spans, &error_reader, after, &mut found.1));
                    let frontier = |frontier: Option<&u64>| frontier.copied().unwrap_or(u64::MAX);
                    let closed =
                        frontier(row_frontier.frontier().first()).min(frontier(error_frontier.frontier().first()));
                    given.give(worker, closed, std::mem::take(&mut found.0), std::mem::take(&mut found.1));
                }
            },
        );
        given.probe_with(&probe);
    });
    Tapped { object, probe, tap, buttons }
}

fn decode<B: Seen>(spans: &mut Vec<Span<u64, B>>, reader: &Reader, after: u64, found: &mut Vec<Edge>) {
    for span in spans.drain(..) {
        let Some(batch) = span.inner else { continue };
        let seen = |time| batch.time_seen(time).filter(|time| *time > after);
        reader.edges(batch.chunks(), seen, |edge| found.push(edge));
    }
}
