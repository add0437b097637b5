//! `SELECT tidemill_wait('source', 'position' [, 'time limit'])`: a wait in the form of a query.
//!
//! It reads no rows, so it stands alone: in any other query the function is refused by name.

use std::time::Duration;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select, SelectItem, SetExpr, Value,
};

use super::statement::Name;
use super::{PlanError, PlanErrorKind};

/// The function, and the column of its answer.
pub const NAME: &str = "tidemill_wait";
/// Without a third argument.
pub const LIMIT_DEFAULT: Duration = Duration::from_secs(30);
pub const LIMIT_SECONDS_MAX: u64 = 3_600;
const USAGE: &str = "SELECT tidemill_wait('source', 'position' [, '10s'])";

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub source: Name,
    /// As the source's kind writes positions, or `now`.
    pub position: String,
    pub limit: Duration,
}

/// The arguments, if a query is nothing but this call.
pub fn arguments(query: &Query) -> Option<Vec<Expr>> {
    let plain = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none();
    let SetExpr::Select(select) = &*query.body else { return None };
    let Select { from, selection: None, distinct: None, having: None, projection, .. } = &**select else { return None };
    let [SelectItem::UnnamedExpr(Expr::Function(call))] = &projection[..] else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let named = call.name.to_string().eq_ignore_ascii_case(NAME);
    if !plain || !from.is_empty() || !named || call.over.is_some() || call.filter.is_some() {
        return None;
    }
    let expression = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(expression).collect()
}

/// What the arguments say, once parameters have their values.
pub fn read(arguments: &[Expr]) -> Result<Wait, PlanError> {
    let (source, position, limit) = match arguments {
        [source, position] => (text(source)?, text(position)?, LIMIT_DEFAULT),
        [source, position, limit] => (text(source)?, text(position)?, duration(text(limit)?)?),
        _ => return Err(error(format!("{NAME} takes two or three arguments, not {}", arguments.len()))),
    };
    Ok(Wait { source: Name { parts: vec![source.to_string()], at: 0 }, position: position.to_string(), limit })
}

/// A text, also one that a driver casts.
fn text(argument: &Expr) -> Result<&str, PlanError> {
    match argument {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(text),
            other => Err(error(format!("{NAME} takes texts, not {other}"))),
        },
        Expr::Cast { expr, .. } | Expr::Nested(expr) => text(expr),
        other => Err(error(format!("{NAME} takes texts, not {other}"))),
    }
}

/// `500ms`, `10s`, `5m`.
fn duration(text: &str) -> Result<Duration, PlanError> {
    let bad = || {
        let message = format!("'{text}' is no time limit of {NAME}");
        let hint = format!("write '500ms', '10s' or '5m', at most {LIMIT_SECONDS_MAX}s");
        PlanError { hint: Some(hint), ..error(message) }
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().map_err(|_| bad())?;
    let millis = match &text[digits.len()..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    millis.filter(|millis| *millis <= LIMIT_SECONDS_MAX * 1_000).map(Duration::from_millis).ok_or_else(bad)
}

fn error(message: String) -> PlanError {
    PlanError { kind: PlanErrorKind::InvalidValue, message, hint: Some(USAGE.to_string()), position: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse::parse_query;

    fn wait(text: &str) -> Option<Result<Wait, PlanError>> {
        arguments(&parse_query(text).unwrap()).map(|arguments| read(&arguments))
    }

    #[test]
    fn a_call_that_stands_alone_is_a_wait() {
        let found = wait("SELECT Tidemill_Wait('shop', 'now')").unwrap().unwrap();
        assert_eq!((found.source.parts[0].as_str(), found.position.as_str()), ("shop", "now"));
        assert_eq!(found.limit, LIMIT_DEFAULT);
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("0s", 0)] {
            let found = wait(&format!("SELECT tidemill_wait('a', CAST('b' AS CHAR), '{text}')")).unwrap().unwrap();
            assert_eq!(found.limit, Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_wait_stays_a_query_and_bad_arguments_are_named() {
        for text in [
            "SELECT tidemill_wait('a', 'b') FROM t",
            "SELECT tidemill_wait('a', 'b'), 1",
            "SELECT tidemill_wait('a', 'b') LIMIT 1",
            "SELECT wait('a', 'b')",
            "SELECT 1",
        ] {
            assert!(wait(text).is_none(), "{text}");
        }
        for text in ["'a'", "'a', NULL", "'a', 5", "a, 'b'", "'a', 'b', ''", "'a', 'b', '5'", "'a', 'b', '2h'"] {
            let error = wait(&format!("SELECT tidemill_wait({text})")).unwrap().unwrap_err();
            assert!(error.kind == PlanErrorKind::InvalidValue && error.hint.is_some(), "{text}: {error:?}");
        }
        assert!(wait("SELECT tidemill_wait('a', 'b', '9999999999999999m')").unwrap().is_err());
    }
}
