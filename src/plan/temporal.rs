//! Conditions on now(): in a view bounds of each row, in a read the time it reads at.
//!
//! `x > now() - INTERVAL 1 DAY` holds for a row until its x is a day old. So a view needs no clock: a condition that
//! compares an expression with now(), moved by a constant, becomes the timestamps from and until which each row is in,
//! and the dataflow adds and removes it there (`dataflow::temporal`).

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use sqlparser::ast;

use super::functions::bound::{Bound as Call, Kernel};
use super::functions::cast::Zone;
use super::functions::interval::{Interval, Length};
use super::ir::{Expr, Op, Plan};
use super::refuse::{Source, Use, not_supported};
use super::{PlanError, build};
use crate::row::Ts;
use crate::row::datum::{Datum, single};
use crate::row::schema::Schema;
use crate::row::temporal::MICROS_A_DAY;
use crate::row::types::SqlType;

pub mod places;

/// now() is moved by this much at most: further, it would leave the years that a date can have.
const OFFSET_DAYS_MAX: i64 = 365_000;
/// What a condition on now() looks like.
const FORM: &str = "compare an expression of the row with NOW(), plus or minus a constant INTERVAL: \
                    created_at > NOW() - INTERVAL 1 DAY";

/// A condition `value <comparison> clock`.
#[derive(Clone, Debug)]
pub struct Bound {
    /// A DATE, DATETIME or TIMESTAMP of the row; NULL: the row is never in.
    pub value: Expr,
    comparison: Comparison,
    clock: Reading,
    /// As EXPLAIN prints it.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

/// A function of the time that never falls: from microseconds in UTC to those that the row is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reading {
    steps: Vec<Step>,
    /// What INTERVALs add up to in it.
    moved: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add(i64),
    /// Down to a multiple.
    Cut(i64),
}

impl Bound {
    /// The timestamps at which the condition holds for a value: microseconds, of a DATE at midnight. An end at the
    /// largest number: for ever.
    pub fn within(&self, value: i64) -> Range<u64> {
        let (reached, passed) = (self.clock.first_at(value.into()), self.clock.first_at(i128::from(value) + 1));
        match self.comparison {
            Comparison::Greater => 0..reached,
            Comparison::GreaterOrEqual => 0..passed,
            Comparison::Less => passed..u64::MAX,
            Comparison::LessOrEqual => reached..u64::MAX,
            Comparison::Equal => reached..passed,
        }
    }

    /// `from x + 1 day`, `until x + 1 day`.
    pub fn describe(&self) -> String {
        let at = match -self.clock.moved {
            0 => self.value.text.clone(),
            by if by < 0 => format!("{} - {}", self.value.text, span(-by)),
            by => format!("{} + {}", self.value.text, span(by)),
        };
        match self.comparison {
            Comparison::Greater | Comparison::GreaterOrEqual => format!("until {at}"),
            Comparison::Less | Comparison::LessOrEqual => format!("from {at}"),
            Comparison::Equal => format!("while {at}"),
        }
    }

    /// For how long after its value a row is in at most; `None`: for ever.
    pub fn lasts_micros(&self) -> Option<i64> {
        let cut: i64 = self.clock.steps.iter().map(|step| if let Step::Cut(unit) = step { *unit } else { 0 }).sum();
        match self.comparison {
            Comparison::Less | Comparison::LessOrEqual => None,
            _ => Some(cut - self.clock.moved),
        }
    }
}

impl Reading {
    /// The first timestamp at which it is at or above a value.
    fn first_at(&self, value: i128) -> u64 {
        let wanted = self.steps.iter().rev().fold(value, |value, step| match step {
            Step::Add(by) => value - i128::from(*by),
            Step::Cut(unit) => -(-value).div_euclid(i128::from(*unit)) * i128::from(*unit),
        });
        let millis = -(-wanted).div_euclid(1_000);
        millis.clamp(0, u64::MAX.into()) as u64
    }

    fn add(&mut self, by: i64) {
        if by != 0 {
            self.steps.push(Step::Add(by));
        }
    }
}

fn span(micros: i64) -> String {
    let units = [
        ("day", MICROS_A_DAY),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
    ];
    let unit = units.into_iter().find(|(_, unit)| micros % unit == 0).unwrap_or(("microsecond", 1));
    let n = micros / unit.1;
    format!("{n} {}{}", unit.0, if n == 1 { "" } else { "s" })
}

/// The input's columns, and behind them each bound's value.
pub fn with_values(input: &Schema, bounds: &[Bound]) -> Vec<Expr> {
    let columns = (0..input.columns.len()).map(|column| build::column(input, column));
    columns.chain(bounds.iter().map(|bound| bound.value.clone())).collect()
}

/// True if now() is anywhere in the expression.
pub fn reads_clock(expr: &Expr) -> bool {
    physical_reads_clock(&expr.physical)
}

fn physical_reads_clock(physical: &Arc<dyn PhysicalExpr>) -> bool {
    let clock = call(physical).is_some_and(|(call, _)| matches!(call.kernel(), Kernel::Now(_)));
    clock || physical.children().into_iter().any(physical_reads_clock)
}

fn call(physical: &Arc<dyn PhysicalExpr>) -> Option<(&Call, &[Arc<dyn PhysicalExpr>])> {
    let function = physical.downcast_ref::<ScalarFunctionExpr>()?;
    Some((function.fun().inner().downcast_ref::<Call>()?, function.args()))
}

/// The plan as it is at one time: now() is a literal.
pub fn bind(plan: Plan, now: Ts) -> Plan {
    let bound = |exprs: Vec<Expr>| exprs.iter().map(|expr| bind_expr(expr, now)).collect();
    let boxed = |input: Box<Plan>| Box::new(bind(*input, now));
    let op = match plan.op {
        op @ (Op::Get { .. } | Op::Constant { .. }) => op,
        Op::Filter { input, predicates } => Op::Filter { input: boxed(input), predicates: bound(predicates) },
        Op::Temporal { .. } => panic!("a plan with bounds is a view's: it is maintained, not read"),
        Op::Project { input, exprs } => Op::Project { input: boxed(input), exprs: bound(exprs) },
        Op::Join { left, right, kind, on } => Op::Join { left: boxed(left), right: boxed(right), kind, on },
        Op::Reduce { input, keys, aggregates } => Op::Reduce { input: boxed(input), keys, aggregates },
        Op::Union { inputs } => Op::Union { inputs: inputs.into_iter().map(|input| bind(input, now)).collect() },
    };
    Plan { op, schema: plan.schema }
}

pub fn bind_expr(expr: &Expr, now: Ts) -> Expr {
    if !reads_clock(expr) {
        return expr.clone();
    }
    let bound = Arc::clone(&expr.physical).transform_down(|node| {
        let Some(Kernel::Now(clock)) = call(&node).map(|(call, _)| call.kernel()) else {
            return Ok(Transformed::no(node));
        };
        let array = single(&clock.at(now), &clock.sql_type()).expect("a clock's reading has its type");
        let literal = Literal::new(ScalarValue::try_from_array(&array, 0)?);
        Ok(Transformed::new(Arc::new(literal), true, TreeNodeRecursion::Jump))
    });
    Expr { physical: bound.expect("a clock is replaced without a failure").data, ..expr.clone() }
}

/// An optimized plan with a view's conditions on now() as bounds; now() anywhere else is refused. A read keeps its
/// conditions until they are bound.
pub fn of_use(plan: Plan, use_: Use, query: &ast::Query, source: Source<'_>) -> Result<Plan, PlanError> {
    match use_ {
        Use::View => filters(plan).map_err(|error| PlanError { position: places::first(query, source), ..error }),
        Use::Select => Ok(plan),
    }
}

fn filters(plan: Plan) -> Result<Plan, PlanError> {
    let boxed = |input: Box<Plan>| filters(*input).map(Box::new);
    let schema = plan.schema;
    let op = match plan.op {
        op @ (Op::Get { .. } | Op::Constant { .. } | Op::Temporal { .. }) => op,
        Op::Filter { input, predicates } => {
            let mut plan = staged(filters(*input)?, predicates)?;
            // The columns of a view have its own names, also where a condition is on top.
            plan.schema.columns = schema.columns;
            return Ok(plan);
        }
        Op::Project { input, exprs } => {
            if let Some(expr) = exprs.iter().find(|expr| reads_clock(expr)) {
                return Err(refused(&expr.text, "this place of a view"));
            }
            Op::Project { input: boxed(input)?, exprs }
        }
        Op::Join { left, right, kind, on } => Op::Join { left: boxed(left)?, right: boxed(right)?, kind, on },
        Op::Reduce { input, keys, aggregates } => Op::Reduce { input: boxed(input)?, keys, aggregates },
        Op::Union { inputs } => Op::Union { inputs: inputs.into_iter().map(filters).collect::<Result<_, _>>()? },
    };
    Ok(Plan { op, schema })
}

enum Stage {
    Filter(Vec<Expr>),
    Temporal(Vec<Bound>),
}

/// Predicates in their order, but those that cannot fail come before the first bound: they spare it rows.
fn staged(input: Plan, predicates: Vec<Expr>) -> Result<Plan, PlanError> {
    if !predicates.iter().any(reads_clock) {
        return Ok(build::filter(input, predicates));
    }
    let mut stages = vec![Stage::Filter(vec![])];
    for predicate in predicates {
        let last = stages.len() - 1;
        match (reads_clock(&predicate), &mut stages[last]) {
            (true, Stage::Temporal(bounds)) => bounds.push(bound(predicate, &input)?),
            (true, Stage::Filter(_)) => stages.push(Stage::Temporal(vec![bound(predicate, &input)?])),
            (false, Stage::Filter(predicates)) if !predicate.infallible || last == 0 => predicates.push(predicate),
            (false, _) if predicate.infallible => {
                let Stage::Filter(first) = &mut stages[0] else { unreachable!("the first stage is a filter") };
                first.push(predicate);
            }
            (false, _) => stages.push(Stage::Filter(vec![predicate])),
        }
    }
    Ok(stages.into_iter().fold(input, |input, stage| match stage {
        Stage::Filter(predicates) => build::filter(input, predicates),
        Stage::Temporal(bounds) => {
            let columns = input.schema.columns.clone();
            build::node(Op::Temporal { input: Box::new(input), bounds }, columns)
        }
    }))
}

fn bound(predicate: Expr, input: &Plan) -> Result<Bound, PlanError> {
    let form = || refused(&predicate.text, "this form");
    let binary = predicate.physical.downcast_ref::<BinaryExpr>().ok_or_else(form)?;
    let comparison = match binary.op() {
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Eq => Comparison::Equal,
        Operator::GtEq => Comparison::GreaterOrEqual,
        Operator::Gt => Comparison::Greater,
        _ => return Err(form()),
    };
    let (value, clock, comparison) = match (physical_reads_clock(binary.left()), physical_reads_clock(binary.right())) {
        (false, true) => (binary.left(), binary.right(), comparison),
        (true, false) => (binary.right(), binary.left(), turned(comparison)),
        _ => return Err(refused(&predicate.text, "both sides of a comparison")),
    };
    let of = value.data_type(&input.schema.arrow()).map_err(|e| super::scalars::internal(&e))?;
    if !matches!(of, DataType::Date32 | DataType::Timestamp(..)) {
        return Err(form());
    }
    let mut reading = Reading::default();
    read(clock, &mut reading, &predicate.text)?;
    if reading.moved.abs() > OFFSET_DAYS_MAX * MICROS_A_DAY {
        let what = format!("NOW() moved by more than {OFFSET_DAYS_MAX} days");
        return Err(not_supported(&what, None, None));
    }
    let value = Expr { physical: Arc::clone(value), text: text(value), infallible: predicate.infallible };
    Ok(Bound { value, comparison, clock: reading, text: predicate.text })
}

fn text(value: &Arc<dyn PhysicalExpr>) -> String {
    let literal = value.downcast_ref::<Literal>().and_then(|literal| literal.value().to_array().ok());
    let literal = literal.and_then(|array| {
        let sql_type = SqlType::of_arrow(array.data_type())?;
        Datum::of(&array, &sql_type, 0).text(&sql_type)
    });
    literal.map_or_else(|| build::plain_text(value), |text| format!("'{text}'"))
}

fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Equal => Comparison::Equal,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Greater => Comparison::Less,
    }
}

/// What is computed from now() as steps that never fall.
fn read(physical: &Arc<dyn PhysicalExpr>, reading: &mut Reading, text: &str) -> Result<(), PlanError> {
    let form = || refused(text, "this form");
    let (call, args) = call(physical).ok_or_else(form)?;
    let (types, returns) = call.types();
    match call.kernel() {
        Kernel::Now(clock) => {
            reading.add(clock.zone.offset_micros);
            reading.steps.push(Step::Cut(clock.unit_micros()));
        }
        Kernel::Cast(_, zone) => {
            read(&args[0], reading, text)?;
            cast(&types[0], returns, zone, reading).ok_or_else(form)?;
        }
        Kernel::Function(function) if function.name == "date" => {
            read(&args[0], reading, text)?;
            reading.steps.push(Step::Cut(MICROS_A_DAY));
        }
        Kernel::Interval(Interval { unit, subtracts }) => {
            read(&args[0], reading, text)?;
            let n = match args[1].downcast_ref::<Literal>().map(Literal::value) {
                Some(ScalarValue::Int64(Some(n))) => *n,
                _ => return Err(refused(text, "an INTERVAL that is no constant")),
            };
            let Length::Micros(micros) = unit.length() else {
                let hint = format!(
                    "months have different lengths: add the {} to the row's side, created_at + INTERVAL 1 {} > NOW()",
                    unit.name(),
                    unit.name()
                );
                let what = format!("NOW() plus or minus an INTERVAL of {}S in a view's condition", unit.name());
                return Err(not_supported(&what, Some(&hint), None));
            };
            let by = micros.checked_mul(n).filter(|by| by.abs() <= OFFSET_DAYS_MAX * MICROS_A_DAY).ok_or_else(form)?;
            let by = if subtracts { -by } else { by };
            reading.add(by);
            reading.moved += by;
        }
        Kernel::Function(_) | Kernel::Arithmetic(_) => return Err(form()),
    }
    Ok(())
}

/// A cast between dates and moments; `None` for any other.
fn cast(from: &SqlType, to: &SqlType, zone: Zone, reading: &mut Reading) -> Option<()> {
    match from {
        SqlType::Date | SqlType::Datetime(_) => {}
        SqlType::Timestamp(_) => reading.add(zone.offset_micros),
        _ => return None,
    }
    match to {
        SqlType::Date => reading.steps.push(Step::Cut(MICROS_A_DAY)),
        SqlType::Datetime(digits) | SqlType::Timestamp(digits) => {
            if matches!(to, SqlType::Timestamp(_)) {
                reading.add(-zone.offset_micros);
            }
            // Half up, as `round_micros` does.
            let unit = 10i64.pow(6 - u32::from(*digits.min(&6)));
            if unit > 1 {
                reading.add(unit / 2);
                reading.steps.push(Step::Cut(unit));
            }
        }
        _ => return None,
    }
    Some(())
}

fn refused(text: &str, place: &str) -> PlanError {
    not_supported(&format!("NOW() in {place}, {text},"), Some(FORM), None)
}
