//! Operators that keep no state: each output row comes from one input row, at its time.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::Concatenate;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::{Operator, empty, source};
use timely::dataflow::{Scope, Stream};

use crate::dataflow::edge::Edge;
use crate::dataflow::error::ErrorBuilder;

/// A stream of updates between operators.
pub type Updates<'s> = Stream<'s, u64, Edge>;

/// Applies a function that cannot fail to each edge.
pub fn map<'s>(input: Updates<'s>, name: &str, mut logic: impl FnMut(Edge) -> Edge + 'static) -> Updates<'s> {
    input.unary::<CapacityContainerBuilder<Edge>, _, _, _>(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each(|time, edge| {
                let mut edge = logic(std::mem::take(edge));
                if !edge.times.is_empty() {
                    output.session(&time).give_container(&mut edge);
                }
            });
        }
    })
}

/// Applies a function that may fail for single rows to each edge; gives its rows and its errors.
pub fn fallible<'s>(
    input: Updates<'s>,
    name: &str,
    mut logic: impl FnMut(Edge, &mut ErrorBuilder) -> Edge + 'static,
) -> (Updates<'s>, Updates<'s>) {
    let mut builder = OperatorBuilder::new(name.to_string(), input.scope());
    let mut input = builder.new_input(input, Pipeline);
    let (rows, rows_stream) = builder.new_output::<Edge>();
    let (errors, errors_stream) = builder.new_output::<Edge>();
    let mut rows = OutputBuilder::<_, CapacityContainerBuilder<Edge>>::from(rows);
    let mut errors = OutputBuilder::<_, CapacityContainerBuilder<Edge>>::from(errors);
    builder.build(move |_| {
        let mut failed = ErrorBuilder::default();
        move |_| {
            let (mut rows, mut errors) = (rows.activate(), errors.activate());
            input.for_each(|time, edge| {
                let mut edge = logic(std::mem::take(edge), &mut failed);
                if !edge.times.is_empty() {
                    rows.session(&time).give_container(&mut edge);
                }
                if !failed.is_empty() {
                    errors.session(&time).give_container(&mut failed.finish());
                }
            });
        }
    });
    (rows_stream, errors_stream)
}

/// The same rows with opposite diffs.
pub fn negate(input: Updates<'_>) -> Updates<'_> {
    map(input, "negate", |mut edge| {
        edge.diffs.iter_mut().for_each(|diff| *diff = -*diff);
        edge
    })
}

/// All updates of all streams.
pub fn union<'s>(scope: Scope<'s, u64>, mut streams: Vec<Updates<'s>>) -> Updates<'s> {
    match streams.len() {
        0 => empty(scope),
        1 => streams.remove(0),
        _ => scope.concatenate(streams),
    }
}

/// Updates that are there from the start.
pub fn constant<'s>(scope: Scope<'s, u64>, edge: Edge) -> Updates<'s> {
    source::<_, CapacityContainerBuilder<Edge>, _, _>(scope, "constant", move |capability, _| {
        let mut once = Some((capability, edge));
        move |output| {
            if let Some((capability, mut edge)) = once.take()
                && !edge.times.is_empty()
            {
                output.session(&capability).give_container(&mut edge);
            }
        }
    })
}
