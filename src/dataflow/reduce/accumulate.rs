//! COUNT, SUM and AVG of integers and decimals, carried as lanes of the diff.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type, i256,
};

use crate::dataflow::arrange::lanes::{DIFF_WORDS_MAX, Lanes};
use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::edge::Edge;
use crate::dataflow::reduce::keyed::{Group, Logic};
use crate::dataflow::reduce::output::{Output, State, Value};
use crate::dataflow::reduce::{FaultKind, Reduction};
use crate::plan::functions::types;
use crate::plan::ir::AggregateFunction;

/// Aggregates as lanes.
#[derive(Clone)]
pub struct Accumulation {
    layout: Layout,
    schema: SchemaRef,
    lanes: Lanes,
    parts: Vec<Part>,
    /// In the order of the output.
    aggregates: Vec<Accumulated>,
    seeded: bool,
}

/// A lane: of which column, at which word.
#[derive(Clone, Copy)]
enum Part {
    /// How many values are not NULL.
    Count { column: usize, word: usize },
    /// Their sum, in so many words.
    Sum { column: usize, word: usize, words: usize },
}

/// What an aggregate is of the lanes.
#[derive(Clone)]
enum Accumulated {
    CountAll,
    Count { word: usize },
    Sum { count: usize, word: usize, words: usize, finish: Finish },
}

/// How an exact sum becomes a value of the output's type.
#[derive(Clone, Debug)]
pub struct Finish {
    average: bool,
    /// Digits that the output has behind the point beyond the input's.
    more_scale: u32,
    /// Digits of an average that are computed beyond those that are kept.
    cut_digits: u32,
    precision: u8,
}

impl Accumulation {
    /// `None` if an aggregate does not add up, or if there are too many for one diff.
    pub fn new(reduction: &Reduction) -> Option<Accumulation> {
        let mut accumulation = Accumulation {
            layout: reduction.key_layout(),
            schema: reduction.schema.clone(),
            lanes: Lanes::NONE,
            parts: Vec::new(),
            aggregates: Vec::new(),
            seeded: reduction.seeded,
        };
        for (i, aggregate) in reduction.aggregates.iter().enumerate() {
            let accumulated = match (aggregate.function, aggregate.input) {
                (AggregateFunction::CountAll, _) => Accumulated::CountAll,
                (AggregateFunction::Count, Some(column)) => Accumulated::Count { word: accumulation.count(column)? },
                (AggregateFunction::Sum | AggregateFunction::Avg, Some(column)) => {
                    let input = &reduction.types[column];
                    let average = aggregate.function == AggregateFunction::Avg;
                    let finish = Finish::new(average, input, reduction.output_type(i))?;
                    let count = accumulation.count(column)?;
                    let (word, words) = accumulation.sum(column, sum_words(input)?)?;
                    Accumulated::Sum { count, word, words, finish }
                }
                _ => return None,
            };
            accumulation.aggregates.push(accumulated);
        }
        Some(accumulation)
    }

    pub fn lanes(&self) -> Lanes {
        self.lanes
    }

    /// The word of the lane that counts a column's values.
    fn count(&mut self, of: usize) -> Option<usize> {
        let known = self.parts.iter().find_map(|part| match part {
            Part::Count { column, word } if *column == of => Some(*word),
            _ => None,
        });
        if known.is_some() {
            return known;
        }
        let word = self.lanes.push(1)?;
        self.parts.push(Part::Count { column: of, word });
        Some(word)
    }

    /// The words of the lane that sums a column's values.
    fn sum(&mut self, of: usize, words: usize) -> Option<(usize, usize)> {
        let known = self.parts.iter().find_map(|part| match part {
            Part::Sum { column, word, words } if *column == of => Some((*word, *words)),
            _ => None,
        });
        if known.is_some() {
            return known;
        }
        let word = self.lanes.push(words)?;
        self.parts.push(Part::Sum { column: of, word, words });
        Some((word, words))
    }

    /// The diffs of an edge's rows, lane by lane.
    pub fn diffs(&self, edge: &mut Edge) -> Vec<i64> {
        let words = self.lanes.words();
        let mut all = vec![0; edge.diffs.len() * words];
        all.chunks_exact_mut(words).zip(&edge.diffs).for_each(|(diff, count)| diff[0] = *count);
        for part in &self.parts {
            match *part {
                Part::Count { column, word } => {
                    let nulls = edge.rows.column(column).logical_nulls();
                    for (i, diff) in all.chunks_exact_mut(words).enumerate() {
                        diff[word] = if nulls.as_ref().is_none_or(|n| n.is_valid(i)) { edge.diffs[i] } else { 0 };
                    }
                }
                Part::Sum { column, word, words: width } => {
                    let add = |i: usize, value: i256| {
                        // Two words hold the product of two single ones.
                        let product = match width {
                            ..=2 => i256::from_i128(value.as_i128().wrapping_mul(i128::from(edge.diffs[i]))),
                            _ => value.wrapping_mul(i256::from(edge.diffs[i])),
                        };
                        all[i * words + word..][..width].copy_from_slice(&to_words(product)[..width]);
                    };
                    each_number(edge.rows.column(column), add);
                }
            }
        }
        all
    }

    /// What a group with these words is.
    fn state(&self, diff: &[i64]) -> State {
        match diff[0] {
            0 => return State::Absent,
            1.. => {}
            _ => return State::Fault(FaultKind::NegativeCount),
        }
        let value = |(i, accumulated): (usize, &Accumulated)| match accumulated {
            Accumulated::CountAll => Ok(Value::Number(i256::from(diff[0] - i64::from(self.seeded)))),
            Accumulated::Count { word } => Ok(Value::Number(i256::from(diff[*word]))),
            Accumulated::Sum { count, word, words, finish } => {
                let finished = finish.apply(from_words(&diff[*word..*word + *words]), diff[*count]);
                finished.ok_or(FaultKind::Overflow { aggregate: i })
            }
        };
        match self.aggregates.iter().enumerate().map(value).collect() {
            Ok(values) => State::Row(values),
            Err(kind) => State::Fault(kind),
        }
    }
}

impl Logic for Accumulation {
    fn group(&mut self, group: &Group, output: &mut Output) {
        let mut sum = [0; DIFF_WORDS_MAX];
        let sum = &mut sum[..self.lanes.words()];
        group.before.iter().for_each(|update| self.lanes.add(sum, update.chunk.diff(update.row)));
        let mut old = self.state(sum);
        for same_time in group.fresh.chunk_by(|a, b| a.time == b.time) {
            same_time.iter().for_each(|update| self.lanes.add(sum, update.chunk.diff(update.row)));
            let new = self.state(sum);
            output.change(group.key.bytes(), same_time[0].time, &old, &new);
            old = new;
        }
    }

    fn output(&self) -> Output {
        Output::new(&self.layout, self.schema.clone())
    }
}

impl Finish {
    /// `None` if the types are not exact numbers.
    pub fn new(average: bool, input: &DataType, output: &DataType) -> Option<Finish> {
        sum_words(input)?;
        let scale = |data_type: &DataType| match data_type {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
            _ => 0,
        };
        let precision = match output {
            DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _) => *precision,
            _ => return None,
        };
        let more_scale = scale(output) - scale(input);
        let more_scale = u32::try_from(more_scale).expect("a sum has at least its input's digits behind the point");
        let computed = types::quotient_digits(scale(input).unsigned_abs(), 0);
        let cut_digits = u32::from(computed.saturating_sub(scale(output).unsigned_abs()));
        Some(Finish { average, more_scale, cut_digits, precision })
    }

    /// The value of a group whose `count` values add up to `sum`; `None` if it does not fit.
    pub fn apply(&self, sum: i256, count: i64) -> Option<Value> {
        if count == 0 {
            return Some(Value::Null);
        }
        let ten = i256::from(10);
        // More digits than the result has are computed first, and cut: as MySQL does it.
        let cut = sum.checked_mul(ten.checked_pow(self.more_scale + self.cut_digits)?).filter(|_| self.average);
        let number = match cut {
            Some(cut) => divide_half_away(cut / i256::from(count), ten.checked_pow(self.cut_digits)?),
            None => {
                let number = sum.checked_mul(ten.checked_pow(self.more_scale)?)?;
                if self.average { divide_half_away(number, i256::from(count)) } else { number }
            }
        };
        let limit = ten.checked_pow(u32::from(self.precision))?;
        (number < limit && number > limit.wrapping_neg()).then_some(Value::Number(number))
    }
}

/// A quotient rounded half away from zero; the divisor is above zero.
fn divide_half_away(number: i256, divisor: i256) -> i256 {
    let (quotient, rest) = (number / divisor, number % divisor);
    let doubled = if rest < i256::ZERO { rest.wrapping_neg() } else { rest };
    // A divisor is a 64-bit count or a power of ten far below 256 bits.
    if doubled.wrapping_add(doubled) < divisor {
        quotient
    } else if number < i256::ZERO {
        quotient - i256::ONE
    } else {
        quotient + i256::ONE
    }
}

/// Words that hold a sum of any number of values; `None` if they are not exact numbers.
fn sum_words(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => Some(1),
        DataType::Int32 | DataType::UInt32 | DataType::Int64 | DataType::UInt64 => Some(2),
        // 10^18 is below 2^60 and a multiplicity below 2^63.
        DataType::Decimal128(..=18, _) => Some(2),
        DataType::Decimal128(..) | DataType::Decimal256(..) => Some(4),
        _ => None,
    }
}

/// Calls `each` for the values that are not NULL; the column is of a type that [`sum_words`] knows.
pub fn each_number(column: &ArrayRef, mut each: impl FnMut(usize, i256)) {
    macro_rules! primitive {
        ($type:ty, $wide:expr) => {{
            let column = column.as_primitive::<$type>();
            for (i, value) in column.values().iter().enumerate() {
                if column.is_valid(i) {
                    each(i, $wide(*value));
                }
            }
        }};
    }
    match column.data_type() {
        DataType::Int8 => primitive!(Int8Type, |v| i256::from_i128(i128::from(v))),
        DataType::Int16 => primitive!(Int16Type, |v| i256::from_i128(i128::from(v))),
        DataType::Int32 => primitive!(Int32Type, |v| i256::from_i128(i128::from(v))),
        DataType::Int64 => primitive!(Int64Type, |v| i256::from_i128(i128::from(v))),
        DataType::UInt8 => primitive!(UInt8Type, |v| i256::from_i128(i128::from(v))),
        DataType::UInt16 => primitive!(UInt16Type, |v| i256::from_i128(i128::from(v))),
        DataType::UInt32 => primitive!(UInt32Type, |v| i256::from_i128(i128::from(v))),
        DataType::UInt64 => primitive!(UInt64Type, |v| i256::from_i128(i128::from(v))),
        DataType::Decimal128(..) => primitive!(Decimal128Type, i256::from_i128),
        DataType::Decimal256(..) => primitive!(Decimal256Type, |v| v),
        other => panic!("{other} has no exact sum"),
    }
}

fn to_words(number: i256) -> [i64; 4] {
    let (low, high) = number.to_parts();
    [low as i64, (low >> 64) as i64, high as i64, (high >> 64) as i64]
}

/// The number in one, two or four words, the sign in the last.
fn from_words(words: &[i64]) -> i256 {
    match words {
        [a] => i256::from(*a),
        [a, b] => i256::from_i128(i128::from(*b) << 64 | i128::from(*a as u64)),
        [a, b, c, d] => {
            let low = u128::from(*b as u64) << 64 | u128::from(*a as u64);
            i256::from_parts(low, i128::from(*d) << 64 | i128::from(*c as u64))
        }
        _ => unreachable!("a lane of {} words", words.len()),
    }
}
