//! Refuses views whose answer would depend on when old rows were dropped.
//!
//! A retained table has every row of the last so-and-so long, and some that are older. A view may read it where a
//! condition on now() lets none of those in: directly above the table, on the bare time of the log, with nothing
//! between that could fail for an older row.

use super::ir::{Op, Plan};
use super::parse::interval_text;
use super::temporal::Bound;
use super::{PlanError, PlanErrorKind};
use crate::row::ObjectId;
use crate::sources::formats::plain::place::TIMESTAMP;

/// What a table keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The column of the time, in the table.
    pub time: usize,
    pub seconds: u64,
}

/// NOW() shows whole seconds, so a row seems a second younger than it is: it is kept so much longer, and one more.
pub const SLACK_SECONDS: u64 = 2;

/// `retained`: of a stored object, if it keeps its rows for a time only.
pub fn check(plan: &Plan, retained: &dyn Fn(ObjectId) -> Option<Retained>) -> Result<(), PlanError> {
    match &plan.op {
        Op::Get { object, name, .. } => match retained(*object) {
            Some(kept) => Err(unbounded(name, kept)),
            None => Ok(()),
        },
        Op::Temporal { .. } | Op::Filter { .. } if is_bounded(plan, retained) => Ok(()),
        _ => plan.inputs().into_iter().try_for_each(|input| check(input, retained)),
    }
}

/// True if this is a retained table under a condition that lets no row in that may be dropped.
fn is_bounded(plan: &Plan, retained: &dyn Fn(ObjectId) -> Option<Retained>) -> bool {
    let (Some((object, columns)), mut below) = (get_below(plan), plan) else { return false };
    let Some(kept) = retained(object) else { return false };
    let lasts = i64::try_from(kept.seconds + SLACK_SECONDS / 2).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    // What stands above such a condition sees only what it lets in; what stands below must not fail for other rows.
    let (mut ends, mut fails) = (false, false);
    loop {
        match &below.op {
            Op::Filter { input, predicates } => {
                fails |= predicates.iter().any(|predicate| !predicate.infallible);
                below = input;
            }
            Op::Temporal { input, bounds } => {
                let is_end = |bound: &Bound| {
                    let time = bound.value.column().is_some_and(|column| columns[column] == kept.time);
                    time && bound.lasts_micros().is_some_and(|micros| micros <= lasts)
                };
                if bounds.iter().any(is_end) {
                    (ends, fails) = (true, false);
                }
                fails |= bounds.iter().any(|bound| !bound.value.infallible);
                below = input;
            }
            _ => return ends && !fails,
        }
    }
}

/// The table that a chain of conditions stands on.
fn get_below(plan: &Plan) -> Option<(ObjectId, &[usize])> {
    match &plan.op {
        Op::Get { object, columns, .. } => Some((*object, columns)),
        Op::Filter { input, .. } | Op::Temporal { input, .. } => get_below(input),
        _ => None,
    }
}

fn unbounded(name: &str, kept: Retained) -> PlanError {
    let age = interval_text(kept.seconds);
    let interval = age.trim_end_matches('s').to_uppercase();
    let table = name.rsplit('.').next().unwrap_or(name);
    PlanError {
        kind: PlanErrorKind::NotSupported,
        message: format!("a view over {name} without an end: its rows are dropped when they are {age} old"),
        hint: Some(format!("add to its WHERE: {table}.{TIMESTAMP} > NOW() - INTERVAL {interval}")),
        position: None,
    }
}
