//! Rewrites a query so that every operator is a call and identifiers ignore case.
//!
//! `a + b` becomes `+(a, b)`, `CASE` becomes `case(…)`, `CAST(x AS t)` becomes `cast(x, 't')`: DataFusion's planner is
//! left with names and relations to resolve, and MySQL's meaning of each operator has one place, `scalars`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, Cte, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned, TableAlias, TableFactor, TableWithJoins,
    TrimWhereField, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use sqlparser::tokenizer::Span;

use super::functions;
use super::refuse::{Source, not_supported};
use super::{PlanError, PlanErrorKind};
use crate::row::types::SqlType;

mod time;
mod types;

use types::cast_type;

/// Follows the text of a column's name where two columns of a SELECT have the same text.
pub const SAME_NAME_MARK: char = '\u{1}';

/// What the rewriting took out of the text.
#[derive(Debug, Default)]
pub struct Spellings {
    /// Column aliases as typed, by their lower-case form; the first of several counts.
    pub aliases: BTreeMap<String, String>,
    /// Table names as typed and where, by their lower-case form.
    pub tables: BTreeMap<Vec<String>, (Vec<String>, Option<usize>)>,
}

pub fn query(query: &mut Query, source: Source<'_>, spellings: &mut Spellings) -> Result<(), PlanError> {
    finish(query.visit(&mut Desugar { source, spellings }))
}

pub fn expr(expr: &mut Expr, source: Source<'_>) -> Result<(), PlanError> {
    finish(expr.visit(&mut Desugar { source, spellings: &mut Spellings::default() }))
}

/// The condition of a WHERE: a truth value whatever the expression's type.
pub fn condition(condition: &mut Expr, source: Source<'_>) -> Result<(), PlanError> {
    expr(condition, source)?;
    truth(condition);
    Ok(())
}

fn finish(flow: ControlFlow<PlanError>) -> Result<(), PlanError> {
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Desugar<'a> {
    source: Source<'a>,
    spellings: &'a mut Spellings,
}

type Flow = ControlFlow<PlanError>;

impl VisitorMut for Desugar<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        for Cte { alias, .. } in query.with.iter_mut().flat_map(|w| &mut w.cte_tables) {
            unquote_alias(alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            {
                // The closing parenthesis of a call is not in the parser's span: the printed form is whole.
                let name = expr.to_string();
                let same = seen.entry(name.to_ascii_lowercase()).or_default();
                *same += 1;
                let mark = if *same == 1 { String::new() } else { format!("{SAME_NAME_MARK}{same}") };
                let alias = Ident::new(format!("{name}{mark}"));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    alias.quote_style = None;
                    let typed = alias.value.split(SAME_NAME_MARK).next().unwrap_or_default().to_string();
                    self.spellings.aliases.entry(alias.value.to_ascii_lowercase()).or_insert(typed);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    unquote_name(name);
                }
                _ => {}
            }
        }
        for constraint in select.from.iter_mut().flat_map(constraints) {
            if let JoinConstraint::Using(columns) = constraint {
                columns.iter_mut().for_each(unquote_name);
            }
        }
        ControlFlow::Continue(())
    }

    /// Conditions are wrapped after the expressions inside them are rewritten.
    fn post_visit_select(&mut self, select: &mut Select) -> Flow {
        for condition in [&mut select.selection, &mut select.having].into_iter().flatten() {
            truth(condition);
        }
        for constraint in select.from.iter_mut().flat_map(constraints) {
            if let JoinConstraint::On(condition) = constraint {
                truth(condition);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } = factor
        {
            unquote_alias(alias);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            for constraint in constraints(table_with_joins) {
                match constraint {
                    JoinConstraint::On(condition) => truth(condition),
                    JoinConstraint::Using(columns) => columns.iter_mut().for_each(unquote_name),
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> Flow {
        let typed: Vec<String> = relation.0.iter().filter_map(|p| p.as_ident()).map(|i| i.value.clone()).collect();
        let position = self.source.offset(relation.span().start);
        let lower = typed.iter().map(|p| p.to_ascii_lowercase()).collect();
        self.spellings.tables.entry(lower).or_insert((typed, position));
        unquote_name(relation);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        match self.rewrite(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Desugar<'_> {
    fn rewrite(&self, expr: &mut Expr) -> Result<(), PlanError> {
        let span = expr.span();
        let position = self.source.offset(span.start);
        let owned = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = match owned {
            Expr::Identifier(mut ident) => {
                ident.quote_style = None;
                Expr::Identifier(ident)
            }
            Expr::CompoundIdentifier(mut parts) => {
                parts.iter_mut().for_each(|p| p.quote_style = None);
                Expr::CompoundIdentifier(parts)
            }
            Expr::Nested(inner) => *inner,
            Expr::Value(value) => self.literal(value)?,
            Expr::BinaryOp { left, op, right } => self.binary(*left, &op, *right, span)?,
            // Taken apart where it is added.
            interval @ Expr::Interval(_) => interval,
            Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, expr } => {
                call("not", vec![truth_of(*expr)], span)
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match *expr {
                number @ Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => {
                    Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) }
                }
                other => call("neg", vec![other], span),
            },
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => *expr,
            Expr::UnaryOp { op, .. } => {
                return Err(not_supported(&format!("the operator {op}"), None, position));
            }
            Expr::IsNull(x) => call("is_null", vec![*x], span),
            Expr::IsNotNull(x) => call("is_not_null", vec![*x], span),
            Expr::IsTrue(x) => call("is_true", vec![truth_of(*x)], span),
            Expr::IsNotTrue(x) => call("not", vec![call("is_true", vec![truth_of(*x)], span)], span),
            Expr::IsFalse(x) => call("is_false", vec![truth_of(*x)], span),
            Expr::IsNotFalse(x) => call("not", vec![call("is_false", vec![truth_of(*x)], span)], span),
            Expr::IsUnknown(x) => call("is_null", vec![truth_of(*x)], span),
            Expr::IsNotUnknown(x) => call("is_not_null", vec![truth_of(*x)], span),
            Expr::Between { expr, negated, low, high } => {
                let low = call(">=", vec![(*expr).clone(), *low], span);
                let high = call("<=", vec![*expr, *high], span);
                negate(negated, call("and", vec![low, high], span))
            }
            Expr::InList { expr, list, negated } => {
                let mut args = vec![*expr];
                args.extend(list);
                negate(negated, call("in", args, span))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                negate(negated, call("like", vec![*expr, *pattern], span))
            }
            Expr::Case { operand, conditions, else_result, .. } => case(operand, conditions, else_result, span),
            Expr::Cast { expr, data_type, array: false, format: None, .. }
            | Expr::Convert { expr, data_type: Some(data_type), charset: None, .. } => {
                cast(*expr, &cast_type(&data_type, position)?, span)
            }
            Expr::TypedString(typed) => {
                let target = cast_type(&typed.data_type, position)?;
                cast(Expr::Value(typed.value), &target, span)
            }
            other => self.function(other, position)?,
        };
        Ok(())
    }

    /// Functions with a syntax of their own, and calls.
    fn function(&self, expr: Expr, position: Option<usize>) -> Result<Expr, PlanError> {
        let span = expr.span();
        Ok(match expr {
            Expr::Extract { field, expr, .. } => call(&field.to_string().to_ascii_lowercase(), vec![*expr], span),
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("ceiling", vec![*expr], span)
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("floor", vec![*expr], span)
            }
            Expr::Position { expr, r#in } => call("locate", vec![*expr, *r#in], span),
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut args = vec![*expr, *from];
                args.extend(substring_for.map(|n| *n));
                call("substring", args, span)
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "trim",
                };
                let mut args = vec![*expr];
                args.extend(trim_what.map(|t| *t));
                call(name, args, span)
            }
            Expr::Function(function) => self.call(function, position)?,
            other @ Expr::Wildcard(_) | other @ Expr::QualifiedWildcard(..) => other,
            other => return Err(not_supported(&format!("the expression {other}"), None, position)),
        })
    }

    fn call(&self, mut function: Function, position: Option<usize>) -> Result<Expr, PlanError> {
        let name = function.name.to_string().to_ascii_lowercase();
        let position = self.source.offset(function.name.span().start).or(position);
        let canonical = functions::canonical_name(&name).ok_or_else(|| unknown_function(&name, position))?;
        if let FunctionArguments::List(list) = &mut function.args {
            // COUNT(*) counts rows: a call without arguments.
            if canonical == "count" && matches!(list.args[..], [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) {
                list.args.clear();
            }
            for arg in &list.args {
                if !matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_))) {
                    return Err(not_supported(&format!("the argument {arg}"), None, position));
                }
            }
        }
        let given = match &mut function.args {
            FunctionArguments::List(list) => list.args.len(),
            _ => 0,
        };
        if !functions::takes(canonical, given) {
            return Err(PlanError {
                kind: PlanErrorKind::UnknownFunction,
                message: format!("function {name} does not take {given} arguments"),
                hint: None,
                position,
            });
        }
        let span = function.name.span();
        match canonical {
            "now" | "utc_timestamp" | "curdate" | "utc_date" => return self.clock(canonical, function, position),
            "date_add" | "date_sub" => return self.date_add(canonical == "date_sub", function, span),
            _ => {}
        }
        if canonical == "if"
            && let FunctionArguments::List(list) = &mut function.args
            && let FunctionArg::Unnamed(FunctionArgExpr::Expr(condition)) = &mut list.args[0]
        {
            truth(condition);
        }
        let ident = Ident { value: canonical.to_string(), quote_style: None, span: function.name.span() };
        function.name = ObjectName(vec![ObjectNamePart::Identifier(ident)]);
        Ok(Expr::Function(function))
    }

    fn literal(&self, value: ValueWithSpan) -> Result<Expr, PlanError> {
        let span = value.span;
        let position = self.source.offset(span.start);
        Ok(match &value.value {
            // 1e3 is a DOUBLE, 1.5 a DECIMAL.
            Value::Number(digits, _) if digits.contains(['e', 'E']) => {
                cast(Expr::Value(Value::SingleQuotedString(digits.clone()).into()), &SqlType::Double, span)
            }
            Value::Number(..) | Value::SingleQuotedString(_) | Value::Null | Value::Boolean(_) => Expr::Value(value),
            Value::Placeholder(_) => return Err(not_supported("a parameter", None, position)),
            other => return Err(not_supported(&format!("the literal {other}"), None, position)),
        })
    }

    fn binary(&self, left: Expr, op: &BinaryOperator, right: Expr, span: Span) -> Result<Expr, PlanError> {
        use BinaryOperator as Op;
        let name = match op {
            Op::Plus if matches!(left, Expr::Interval(_)) => return self.interval(right, left, false, span),
            Op::Plus if matches!(right, Expr::Interval(_)) => return self.interval(left, right, false, span),
            Op::Minus if matches!(right, Expr::Interval(_)) => return self.interval(left, right, true, span),
            Op::And => return Ok(call("and", vec![truth_of(left), truth_of(right)], span)),
            Op::Or => return Ok(call("or", vec![truth_of(left), truth_of(right)], span)),
            Op::Xor => return Ok(call("xor", vec![truth_of(left), truth_of(right)], span)),
            Op::Plus => "+",
            Op::Minus => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Modulo => "%",
            Op::MyIntegerDivide => "div",
            Op::Eq => "=",
            Op::NotEq => "<>",
            Op::Lt => "<",
            Op::LtEq => "<=",
            Op::Gt => ">",
            Op::GtEq => ">=",
            Op::Spaceship => "<=>",
            Op::StringConcat => {
                let hint = Some("in MySQL || means OR: write OR, or CONCAT(…) for text");
                return Err(not_supported("the operator ||", hint, self.source.offset(span.start)));
            }
            other => {
                let position = self.source.offset(span.start);
                return Err(not_supported(&format!("the operator {other}"), None, position));
            }
        };
        Ok(call(name, vec![left, right], span))
    }
}

fn unknown_function(name: &str, position: Option<usize>) -> PlanError {
    let upper = name.to_ascii_uppercase();
    if let Some(reason) = functions::why_refused(name) {
        return not_supported(&format!("{upper}()"), Some(reason), position);
    }
    PlanError {
        kind: PlanErrorKind::UnknownFunction,
        message: format!("function {upper} does not exist"),
        hint: functions::near(name).map(|near| format!("did you mean {}?", near.to_ascii_uppercase())),
        position,
    }
}

fn call(name: &str, args: Vec<Expr>, span: Span) -> Expr {
    let ident = Ident { value: name.to_string(), quote_style: None, span };
    let args = args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect();
    let list = FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] };
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(ident)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn cast(expr: Expr, target: &SqlType, span: Span) -> Expr {
    let target = serde_json::to_string(target).expect("a SqlType is always JSON");
    call("cast", vec![expr, Expr::Value(Value::SingleQuotedString(target).into())], span)
}

fn negate(negated: bool, expr: Expr) -> Expr {
    let span = expr.span();
    if negated { call("not", vec![expr], span) } else { expr }
}

fn truth_of(mut expr: Expr) -> Expr {
    truth(&mut expr);
    expr
}

fn truth(expr: &mut Expr) {
    let span = expr.span();
    let inner = std::mem::replace(expr, Expr::Value(Value::Null.into()));
    *expr = call("truth", vec![inner], span);
}

/// `case(condition, value, …, [else])`.
fn case(operand: Option<Box<Expr>>, conditions: Vec<CaseWhen>, other: Option<Box<Expr>>, span: Span) -> Expr {
    let mut args = Vec::new();
    for CaseWhen { condition, result } in conditions {
        args.push(match &operand {
            Some(operand) => call("=", vec![(**operand).clone(), condition], span),
            None => truth_of(condition),
        });
        args.push(result);
    }
    args.extend(other.map(|e| *e));
    call("case", args, span)
}

/// The conditions of the joins that `refuse` lets through.
fn constraints(table: &mut TableWithJoins) -> impl Iterator<Item = &mut JoinConstraint> {
    table.joins.iter_mut().filter_map(|join| match &mut join.join_operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::CrossJoin(c) => Some(c),
        _ => None,
    })
}

fn unquote_alias(alias: &mut TableAlias) {
    alias.name.quote_style = None;
    alias.columns.iter_mut().for_each(|c| c.name.quote_style = None);
}

fn unquote_name(name: &mut ObjectName) {
    for part in &mut name.0 {
        if let ObjectNamePart::Identifier(ident) = part {
            ident.quote_style = None;
        }
    }
}
