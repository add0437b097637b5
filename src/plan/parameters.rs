//! Puts the values of `?` and `$1`, `$2`, … into a statement.

use std::ops::ControlFlow;

use sqlparser::ast::{Value, ValueWithSpan, VisitMut, VisitorMut};

use super::statement::Statement;
use super::{PlanError, PlanErrorKind};
use crate::row::datum::Datum;
use crate::row::types::SqlType;

/// A query or expressions with their parameters replaced; values in text form, `None` for NULL.
pub fn bind<T: VisitMut + Clone>(of: &T, types: &[SqlType], values: &[Option<String>]) -> Result<T, PlanError> {
    let mut bound = of.clone();
    fill(&mut bound, types, values)?;
    Ok(bound)
}

/// The same for INSERT, UPDATE and DELETE.
pub fn bind_write(statement: &Statement, types: &[SqlType], values: &[Option<String>]) -> Result<Statement, PlanError> {
    let mut statement = statement.clone();
    match &mut statement {
        Statement::Insert(insert) => fill(&mut insert.query, types, values)?,
        Statement::Update(update) => {
            for (_, value) in &mut update.assignments {
                fill(value, types, values)?;
            }
            if let Some(predicate) = &mut update.predicate {
                fill(predicate, types, values)?;
            }
        }
        Statement::Delete { predicate: Some(predicate), .. } => fill(predicate, types, values)?,
        _ => {}
    }
    Ok(statement)
}

/// The highest number of a parameter.
pub fn count(of: &(impl VisitMut + Clone)) -> usize {
    replace(&mut of.clone(), &[])
}

/// A parameter without a value becomes NULL.
pub(super) fn replace(into: &mut impl VisitMut, values: &[Option<String>]) -> usize {
    let mut walk = Fill { types: &[], values, in_order: 0, highest: 0 };
    // Text is a literal of every type here, so nothing is refused.
    let _ = into.visit(&mut walk);
    walk.highest
}

fn fill(into: &mut impl VisitMut, types: &[SqlType], values: &[Option<String>]) -> Result<(), PlanError> {
    let mut walk = Fill { types, values, in_order: 0, highest: 0 };
    if let ControlFlow::Break(error) = into.visit(&mut walk) {
        return Err(error);
    }
    if walk.highest > values.len() {
        let message = format!("the statement has {} parameters, and {} values came", walk.highest, values.len());
        return Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint: None, position: None });
    }
    Ok(())
}

struct Fill<'a> {
    types: &'a [SqlType],
    values: &'a [Option<String>],
    /// How many `?` came before.
    in_order: usize,
    highest: usize,
}

impl VisitorMut for Fill<'_> {
    type Break = PlanError;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<PlanError> {
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let number = match name[1..].parse::<usize>() {
            Ok(number) => number,
            Err(_) => {
                self.in_order += 1;
                self.in_order
            }
        };
        self.highest = self.highest.max(number);
        let given = number.checked_sub(1).and_then(|i| self.values.get(i)).cloned().flatten();
        let sql_type = number.checked_sub(1).and_then(|i| self.types.get(i));
        match literal(sql_type, given.as_deref()) {
            Some(literal) => value.value = literal,
            None => return ControlFlow::Break(bad_value(number, given.as_deref(), sql_type)),
        }
        ControlFlow::Continue(())
    }
}

/// A literal of the parameter's type; `None` if the text is no value of it.
fn literal(sql_type: Option<&SqlType>, text: Option<&str>) -> Option<Value> {
    let Some(text) = text else { return Some(Value::Null) };
    match sql_type {
        Some(SqlType::Bool) => {
            let truth = Datum::parse(text, &SqlType::Bool).ok()?;
            Some(Value::Boolean(truth == Datum::Bool(true)))
        }
        Some(
            SqlType::Int { .. }
            | SqlType::Year
            | SqlType::Bit(_)
            | SqlType::Decimal { .. }
            | SqlType::Float
            | SqlType::Double,
        ) => {
            let number = text.trim();
            let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
            let valid = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && number.parse::<f64>().is_ok();
            valid.then(|| Value::Number(number.to_string(), false))
        }
        _ => Some(Value::SingleQuotedString(text.to_string())),
    }
}

fn bad_value(number: usize, text: Option<&str>, sql_type: Option<&SqlType>) -> PlanError {
    let sql_type = sql_type.map_or("its type".to_string(), |sql_type| sql_type.to_string());
    PlanError {
        kind: PlanErrorKind::InvalidValue,
        message: format!("parameter {number} is '{}', which is no {sql_type}", text.unwrap_or("NULL")),
        hint: None,
        position: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse::parse_query;

    #[test]
    fn values_take_the_places_of_parameters() {
        let query = parse_query("SELECT ?, $3, ?").unwrap();
        assert_eq!(count(&query), 3);
        assert!(bind(&query, &[], &[None]).is_err());
        let int = SqlType::Int { bytes: 4, unsigned: false };
        let types = [SqlType::Text(4), int.clone(), int];
        let bound = bind(&query, &types, &[Some("a'".into()), None, Some("3".into())]).unwrap();
        assert_eq!(bound.to_string(), "SELECT 'a''', 3, NULL");
        assert!(bind(&query, &types, &[None, Some("x".into()), None]).is_err());
    }
}
