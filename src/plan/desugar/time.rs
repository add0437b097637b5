//! Readings of the time and INTERVALs as calls.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, Value, ValueWithSpan};
use sqlparser::tokenizer::Span;

use super::{Desugar, call, cast};
use crate::plan::PlanError;
use crate::plan::functions::interval::Unit;
use crate::plan::refuse::not_supported;
use crate::row::types::SqlType;

impl Desugar<'_> {
    /// A reading of the time always says how many digits it has; a date is cut from one.
    pub(super) fn clock(&self, name: &str, function: Function, position: Option<usize>) -> Result<Expr, PlanError> {
        let span = function.name.span();
        let digits = match arguments(function).pop() {
            None => "0".to_string(),
            Some(Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }))
                if digits.parse().is_ok_and(|n: u8| n <= 6) =>
            {
                digits
            }
            Some(other) => {
                let what = format!("{}({other})", name.to_uppercase());
                return Err(not_supported(&what, Some("it takes a number of digits from 0 to 6"), position));
            }
        };
        let digits = Expr::Value(Value::Number(digits, false).into());
        Ok(match name {
            "curdate" => cast(call("now", vec![digits], span), &SqlType::Date, span),
            "utc_date" => cast(call("utc_timestamp", vec![digits], span), &SqlType::Date, span),
            _ => call(name, vec![digits], span),
        })
    }

    pub(super) fn date_add(&self, subtracts: bool, function: Function, span: Span) -> Result<Expr, PlanError> {
        let name = function.name.to_string().to_ascii_uppercase();
        let mut args = arguments(function);
        match (args.pop(), args.pop()) {
            (Some(interval @ Expr::Interval(_)), Some(x)) => self.interval(x, interval, subtracts, span),
            _ => {
                let hint = Some("write x + INTERVAL n DAY");
                Err(not_supported(&format!("{name} without an INTERVAL"), hint, self.source.offset(span.start)))
            }
        }
    }

    /// `interval(x, n, '+DAY')`.
    pub(super) fn interval(&self, x: Expr, interval: Expr, subtracts: bool, span: Span) -> Result<Expr, PlanError> {
        let Expr::Interval(interval) = interval else { unreachable!("called with an INTERVAL") };
        let whole = interval.leading_precision.is_none() && interval.last_field.is_none();
        let field = interval.leading_field.as_ref().map(|field| field.to_string()).unwrap_or_default();
        let Some(unit) = Unit::parse(&field).filter(|_| whole) else {
            let hint = Some("MICROSECOND, SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR are units");
            return Err(not_supported(&format!("INTERVAL … {field}"), hint, self.source.offset(span.start)));
        };
        let unit = format!("{}{}", if subtracts { '-' } else { '+' }, unit.name());
        let unit = Expr::Value(Value::SingleQuotedString(unit).into());
        Ok(call("interval", vec![x, *interval.value, unit], span))
    }
}

fn arguments(function: Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = function.args else { return vec![] };
    let expr = |arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    };
    list.args.into_iter().filter_map(expr).collect()
}
