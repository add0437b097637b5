//! A plan run once over given inputs: inputs in, rows or diffs out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use timely::dataflow::Scope;
use timely::dataflow::operators::core::Input as _;
use timely::dataflow::operators::probe::{Handle as Probe, Probe as _};

use crate::dataflow::edge::Edge;
use crate::dataflow::error::{ErrorRow, error_rows};
use crate::dataflow::export::Reader;
use crate::dataflow::linear::map;
use crate::dataflow::render::{Sources, index};
use crate::plan::ir::Plan;
use crate::row::delta::Delta;
use crate::row::schema::Schema;
use crate::row::{ObjectId, Ts};

/// Tells a run that nobody wants its rows any more; from any thread, once and for all.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a run has no rows.
#[derive(Clone, Debug)]
pub enum NoRows {
    Error(ErrorRow),
    Cancelled,
}

/// The plan's rows over these inputs, consolidated; any error row is an error. A run that is cancelled ends at the
/// next slice of work, whatever the plan has yet to do.
pub fn evaluate(plan: &Plan, inputs: BTreeMap<ObjectId, Vec<Delta>>, cancel: &Cancel) -> Result<Vec<Delta>, NoRows> {
    let changes = inputs.into_iter().flat_map(|(object, deltas)| deltas.into_iter().map(move |d| (object, d)));
    // All at time 0, where the plan's constants are: so there is one step.
    let mut steps = evaluate_steps(plan, vec![(Ts(0), changes.collect())], cancel);
    if cancel.is_cancelled() {
        return Err(NoRows::Cancelled);
    }
    let Some(step) = steps.pop() else { return Ok(Vec::new()) };
    match step.errors.into_iter().find(|(_, diff)| *diff != 0) {
        Some((error, _)) => Err(NoRows::Error(error)),
        None => Ok(step.rows),
    }
}

/// Inputs with their times: objects with all their columns.
pub type Steps = Vec<(Ts, Vec<(ObjectId, Delta)>)>;

/// What a plan's output changed at one time.
pub struct Step {
    pub ts: Ts,
    /// Consolidated.
    pub rows: Vec<Delta>,
    pub errors: Vec<(ErrorRow, i64)>,
}

/// The plan's changes for each time at which there are some; the times of the inputs grow.
pub fn evaluate_steps(plan: &Plan, steps: Steps, cancel: &Cancel) -> Vec<Step> {
    let found: Arc<Mutex<Vec<(Edge, bool)>>> = Arc::default();
    let (gathered, plan) = (Arc::clone(&found), plan.clone());
    let last = steps.last().map_or(0, |(ts, _)| ts.0);
    run(plan, steps, last, gathered, cancel.clone());
    let found = std::mem::take(&mut *found.lock().expect("the run has ended"));
    group(found)
}

fn run(plan: Plan, steps: Steps, last: u64, gathered: Arc<Mutex<Vec<(Edge, bool)>>>, cancel: Cancel) {
    timely::execute_directly(move |worker| {
        let probe = Probe::new();
        let mut inputs = worker.dataflow::<u64, _, _>(|scope: Scope<'_, u64>| {
            let mut inputs = BTreeMap::new();
            let mut streams = BTreeMap::new();
            for object in plan.objects() {
                let (input, stream) = scope.new_input::<Edge>();
                inputs.insert(object, input);
                streams.insert(object, stream);
            }
            let rendered = Sources::alone(scope, streams).render(&plan);
            // Arranged by the whole row, what comes out is consolidated.
            let schema = Schema { key: None, ..plan.schema.clone() };
            let all: Vec<usize> = (0..schema.columns.len()).collect();
            let reader = Reader::new(&schema, &all);
            let (rows, errors) = index(scope, rendered, &schema, None, &reader);
            let error_reader = Reader::of_errors();
            let errors = error_reader.arrange(errors, "errors");
            for (stream, of_rows) in
                [(reader.flatten(&rows, "rows"), true), (error_reader.flatten(&errors, "errors"), false)]
            {
                let gathered = Arc::clone(&gathered);
                let kept = map(stream, "gather", move |edge| {
                    gathered.lock().expect("one thread").push((edge.clone(), of_rows));
                    edge
                });
                kept.probe_with(&probe);
            }
            inputs
        });
        for (ts, changes) in steps {
            for (object, delta) in changes {
                if let Some(input) = inputs.get_mut(&object)
                    && !delta.is_empty()
                {
                    input.advance_to(ts.0.max(*input.time()));
                    let times = vec![ts.0; delta.len()];
                    input.send_batch(&mut Edge { rows: delta.rows, times, diffs: delta.diffs });
                }
            }
            inputs.values_mut().for_each(|input| input.advance_to(ts.0 + 1));
            worker.step_while(|| probe.less_than(&(ts.0 + 1)) && !cancel.is_cancelled());
        }
        inputs.clear();
        worker.step_while(|| probe.less_than(&(last + 2)) && !cancel.is_cancelled());
        if cancel.is_cancelled() {
            // What is left to do goes with its operators; else the worker would finish it.
            worker.installed_dataflows().into_iter().for_each(|id| worker.drop_dataflow(id));
        }
    });
}

/// What was gathered, by time. Times below the first input's are the plan's constants.
fn group(found: Vec<(Edge, bool)>) -> Vec<Step> {
    let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
    for (edge, of_rows) in found {
        let errors = if of_rows { Vec::new() } else { error_rows(edge.rows.columns()) };
        for (row, time) in edge.times.iter().enumerate() {
            let step = steps.entry(*time).or_insert_with(|| Step { ts: Ts(*time), rows: vec![], errors: vec![] });
            if of_rows {
                step.rows.push(Delta::new(edge.rows.slice(row, 1), vec![edge.diffs[row]]));
            } else {
                step.errors.push((errors[row].clone(), edge.diffs[row]));
            }
        }
    }
    steps.into_values().map(together).collect()
}

fn together(step: Step) -> Step {
    let Some(first) = step.rows.first() else { return step };
    let schema = first.rows.schema();
    let parts: Vec<&RecordBatch> = step.rows.iter().map(|delta| &delta.rows).collect();
    let rows = concat_batches(&schema, parts).expect("rows of one plan");
    let diffs = step.rows.iter().flat_map(|delta| delta.diffs.iter().copied()).collect();
    Step { rows: vec![Delta::new(rows, diffs)], ..step }
}
