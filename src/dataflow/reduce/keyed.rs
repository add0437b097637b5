//! The operator under every reduction: which groups changed, and from what.

use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::order::TotalOrder;
use timely::progress::Antichain;

use crate::dataflow::arrange::batch::{Position, Updates};
use crate::dataflow::arrange::chunk::Chunk;
use crate::dataflow::arrange::rows::Key;
use crate::dataflow::reduce::output::Output;
use crate::dataflow::reduce::{Fault, Reduced};

/// Faults in one container.
const FAULTS_MAX: usize = 1024;

/// A changed group.
pub struct Group<'a> {
    pub key: Key<'a>,
    /// What it held, in no particular order.
    pub before: Vec<Update<'a>>,
    /// What came, by time.
    pub fresh: Vec<Update<'a>>,
}

#[derive(Clone, Copy)]
pub struct Update<'a> {
    pub chunk: &'a Chunk,
    pub row: usize,
    pub time: u64,
}

/// How a group becomes rows.
pub trait Logic: 'static {
    /// Puts the group's changes out, time by time.
    fn group(&mut self, group: &Group, output: &mut Output);

    /// Where they go.
    fn output(&self) -> Output;
}

/// Applies `logic` to the groups of an arrangement as they change.
pub fn by_key<'s, Tr>(arranged: Arranged<'s, Tr>, name: &str, mut logic: impl Logic) -> Reduced<'s>
where
    Tr: TraceReader<Time = u64, Batch: Updates> + 'static,
    u64: TotalOrder,
{
    let mut trace = arranged.trace;
    let mut builder = OperatorBuilder::new(format!("Reduce {name}"), arranged.stream.scope());
    let mut input = builder.new_input(arranged.stream, Pipeline);
    let (rows_output, rows) = builder.new_output();
    let (faults_output, faults) = builder.new_output();
    let mut rows_output = OutputBuilder::<_, CapacityContainerBuilder<_>>::from(rows_output);
    let mut faults_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Fault>>>::from(faults_output);
    let mut output = logic.output();
    builder.build(move |_| {
        // Up to here everything was taken from the input.
        let mut upper = Antichain::from_elem(0);
        move |_frontiers| {
            let (mut rows_session, mut faults_session) = (rows_output.activate(), faults_output.activate());
            let lower = upper.clone();
            let (mut row_caps, mut fault_caps) = (CapabilitySet::new(), CapabilitySet::new());
            let mut fresh = Vec::new();
            input.for_each(|capability, spans| {
                capability.retain_stamp(0).iter().for_each(|c| row_caps.insert(c.clone()));
                capability.retain_stamp(1).iter().for_each(|c| fault_caps.insert(c.clone()));
                for span in spans.drain(..) {
                    upper.clone_from(span.upper());
                    fresh.extend(span.inner);
                }
            });
            if !fresh.is_empty() {
                let before = trace.batches_through(lower.borrow()).expect("our own hold keeps the trace cut here");
                each_group(&before, &fresh, |group| {
                    logic.group(group, &mut output);
                    while let Some(mut edge) = output.take_if_full() {
                        rows_session.session(&row_caps).give_container(&mut edge);
                    }
                    if output.faults.len() >= FAULTS_MAX {
                        faults_session.session(&fault_caps).give_container(&mut output.faults);
                        output.faults.clear();
                    }
                });
                if let Some(mut edge) = output.take() {
                    rows_session.session(&row_caps).give_container(&mut edge);
                }
                if !output.faults.is_empty() {
                    faults_session.session(&fault_caps).give_container(&mut output.faults);
                    output.faults.clear();
                }
            }
            trace.advance_upper(&mut upper);
            trace.set_logical_compaction(upper.borrow());
            trace.set_physical_compaction(upper.borrow());
        }
    });
    Reduced { rows, faults }
}

/// Calls `each` for every key of the fresh batches, in key order.
fn each_group<B: Updates>(before: &[B], fresh: &[B], mut each: impl FnMut(&Group)) {
    let mut before: Vec<(&B, Position)> = before.iter().map(|b| (b, Position::default())).collect();
    let mut fresh: Vec<(&B, Position)> = fresh.iter().map(|b| (b, Position::default())).collect();
    let (mut held, mut came) = (Vec::new(), Vec::new());
    loop {
        let here = fresh.iter().filter_map(|(batch, at)| at.get(batch.chunks()));
        let least = here.reduce(|a, b| if b.0.rows().compare_key(b.1, &a.0.key(a.1)).is_lt() { b } else { a });
        let Some((chunk, row)) = least else { return };
        let key = chunk.key(row);
        let mut group = Group { key, before: std::mem::take(&mut held), fresh: std::mem::take(&mut came) };
        for (batch, at) in &mut fresh {
            at.drain_key(*batch, &key, |chunk, row, time| group.fresh.push(Update { chunk, row, time }));
        }
        for (batch, at) in &mut before {
            at.seek(batch.chunks(), &key);
            at.drain_key(*batch, &key, |chunk, row, time| group.before.push(Update { chunk, row, time }));
        }
        group.fresh.sort_by_key(|update| update.time);
        each(&group);
        (held, came) = (group.before, group.fresh);
        held.clear();
        came.clear();
    }
}
