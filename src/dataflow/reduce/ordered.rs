//! Aggregates that need the group's values: MIN, MAX, floats, and any mix of these with the others.
//!
//! A changed group is read whole, in the order of its values' bytes, so that a float sum does not depend on arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, i256};

use crate::dataflow::arrange::layout::{Columns, Layout};
use crate::dataflow::reduce::accumulate::{Finish, each_number};
use crate::dataflow::reduce::keyed::{Group, Logic};
use crate::dataflow::reduce::output::{Output, State, Value};
use crate::dataflow::reduce::{FaultKind, Reduction};
use crate::plan::ir::AggregateFunction;
use crate::row::codec::RowCodec;

/// Aggregates over the values of a group.
pub struct Ordered {
    layout: Arc<Layout>,
    output: Reduction,
    arguments: Columns,
    aggregates: Vec<Wanted>,
}

/// An aggregate and the place of its argument in the value; of none for COUNT(*).
struct Wanted {
    function: AggregateFunction,
    argument: Option<usize>,
    /// For exact sums and averages.
    finish: Option<Finish>,
}

/// The values of a group in order, decoded as far as the aggregates need it.
struct Values {
    /// Of each value: how often it is there.
    counts: Vec<i64>,
    /// Of each aggregate: its argument for each value.
    arguments: Vec<Argument>,
}

enum Argument {
    Rows,
    Present(Vec<bool>),
    Numbers(Vec<Option<i256>>),
    Floats(Vec<Option<f64>>),
    Encoded(Vec<Option<Vec<u8>>>),
}

impl Ordered {
    pub fn new(reduction: &Reduction) -> Ordered {
        let mut columns: Vec<usize> = reduction.aggregates.iter().filter_map(|a| a.input).collect();
        columns.sort_unstable();
        columns.dedup();
        let aggregates = reduction.aggregates.iter().enumerate().map(|(i, aggregate)| {
            let average = aggregate.function == AggregateFunction::Avg;
            let sums = average || aggregate.function == AggregateFunction::Sum;
            let input = aggregate.input.filter(|_| sums).map(|c| &reduction.types[c]);
            Wanted {
                function: aggregate.function,
                argument: aggregate.input.and_then(|c| columns.binary_search(&c).ok()),
                finish: input.and_then(|input| Finish::new(average, input, reduction.output_type(i))),
            }
        });
        let aggregates = aggregates.collect();
        let layout = Arc::new(Layout::new(&reduction.types, reduction.keys.clone(), columns.clone()));
        let arguments = Columns::new(layout.value(), (0..columns.len()).collect());
        Ordered { layout, output: reduction.clone(), arguments, aggregates }
    }

    pub fn layout(&self) -> Arc<Layout> {
        self.layout.clone()
    }

    fn state(&self, values: &Values) -> State {
        let rows: i64 = values.counts.iter().sum();
        if values.counts.iter().any(|count| *count < 0) {
            return State::Fault(FaultKind::NegativeCount);
        }
        if rows == 0 {
            return State::Absent;
        }
        let each = self.aggregates.iter().zip(&values.arguments).enumerate();
        let value = |(i, (wanted, argument)): (usize, (&Wanted, &Argument))| {
            let value = wanted.value(argument, &values.counts, rows - i64::from(self.output.seeded));
            value.ok_or(FaultKind::Overflow { aggregate: i })
        };
        match each.map(value).collect() {
            Ok(values) => State::Row(values),
            Err(kind) => State::Fault(kind),
        }
    }
}

impl Logic for Ordered {
    fn group(&mut self, group: &Group, output: &mut Output) {
        // Of each value: its count before, and its changes in the order of time.
        let mut by_value: BTreeMap<&[u8], usize> = BTreeMap::new();
        for update in group.before.iter().chain(&group.fresh) {
            by_value.insert(update.chunk.rows().value(update.row), 0);
        }
        by_value.values_mut().enumerate().for_each(|(i, place)| *place = i);
        let columns = self.arguments.decode(by_value.keys().copied());
        let arguments = self.aggregates.iter().map(|wanted| wanted.argument(&columns)).collect();
        let mut values = Values { counts: vec![0; by_value.len()], arguments };
        for update in &group.before {
            values.counts[by_value[update.chunk.rows().value(update.row)]] += update.chunk.count(update.row);
        }
        let mut old = self.state(&values);
        for same_time in group.fresh.chunk_by(|a, b| a.time == b.time) {
            for update in same_time {
                values.counts[by_value[update.chunk.rows().value(update.row)]] += update.chunk.count(update.row);
            }
            let new = self.state(&values);
            output.change(group.key.bytes(), same_time[0].time, &old, &new);
            old = new;
        }
    }

    fn output(&self) -> Output {
        Output::new(&self.layout, self.output.schema.clone())
    }
}

impl Wanted {
    fn argument(&self, columns: &[ArrayRef]) -> Argument {
        let Some(column) = self.argument.map(|i| &columns[i]) else { return Argument::Rows };
        match self.function {
            AggregateFunction::CountAll => Argument::Rows,
            AggregateFunction::Count => {
                let nulls = column.logical_nulls();
                Argument::Present((0..column.len()).map(|i| nulls.as_ref().is_none_or(|n| n.is_valid(i))).collect())
            }
            AggregateFunction::Min | AggregateFunction::Max => {
                let encoded = RowCodec::new([column.data_type().clone()]).encode(std::slice::from_ref(column));
                let encoded = encoded.expect("a decoded column has its codec's type");
                let nulls = column.logical_nulls();
                let valid = |i: &usize| nulls.as_ref().is_none_or(|n| n.is_valid(*i));
                let bytes = |i: usize| Some(i).filter(valid).map(|i| encoded.row(i).data().to_vec());
                Argument::Encoded((0..column.len()).map(bytes).collect())
            }
            AggregateFunction::Sum | AggregateFunction::Avg if self.finish.is_some() => {
                let mut numbers = vec![None; column.len()];
                each_number(column, |i, number| numbers[i] = Some(number));
                Argument::Numbers(numbers)
            }
            AggregateFunction::Sum | AggregateFunction::Avg => {
                let floats = cast(column, &DataType::Float64).expect("a SUM that is not exact is of floats");
                Argument::Floats(floats.as_primitive::<Float64Type>().iter().collect())
            }
        }
    }

    /// The aggregate over values that are there `counts` times; `None` if it does not fit its type.
    fn value(&self, argument: &Argument, counts: &[i64], rows: i64) -> Option<Value> {
        match argument {
            Argument::Rows => Some(Value::Number(i256::from(rows))),
            Argument::Present(present) => {
                let counted: i64 = present.iter().zip(counts).filter(|(p, _)| **p).map(|(_, count)| count).sum();
                Some(Value::Number(i256::from(counted)))
            }
            Argument::Encoded(values) => {
                let there = values.iter().zip(counts).filter(|(_, count)| **count > 0).filter_map(|(v, _)| v.as_ref());
                let value = if self.function == AggregateFunction::Min { there.min() } else { there.max() };
                Some(value.map_or(Value::Null, |bytes| Value::Encoded(bytes.clone())))
            }
            Argument::Numbers(numbers) => {
                let (mut sum, mut counted) = (i256::ZERO, 0);
                for (number, count) in numbers.iter().zip(counts) {
                    if let Some(number) = number {
                        sum = sum.checked_add(number.checked_mul(i256::from(*count))?)?;
                        counted += count;
                    }
                }
                self.finish.as_ref()?.apply(sum, counted)
            }
            Argument::Floats(floats) => {
                let there = floats.iter().zip(counts).filter(|(_, count)| **count > 0);
                let there = there.filter_map(|(float, count)| float.map(|float| (float, *count)));
                let (sum, counted) =
                    there.fold((0.0, 0), |(sum, n), (float, count)| (sum + float * count as f64, n + count));
                let value = if self.function == AggregateFunction::Avg { sum / counted as f64 } else { sum };
                Some(if counted == 0 { Value::Null } else { Value::Float(value) })
            }
        }
    }
}
