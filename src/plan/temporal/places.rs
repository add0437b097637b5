//! Where now() may stand in a view's text: refused by the place, so that the error can point at it.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, GroupByExpr, JoinConstraint, JoinOperator, Query, Select, SelectItem, Spanned,
    Visit, Visitor, visit_expressions,
};
use sqlparser::tokenizer::Span;

use crate::plan::PlanError;
use crate::plan::functions;
use crate::plan::refuse::{Source, not_supported};

const HINT: &str =
    "in a view it stands in WHERE or HAVING, in a condition that must hold: created_at > NOW() - INTERVAL 1 DAY";

/// `Ok` if every now() of a view is in a part of WHERE or HAVING that must hold, and compares there.
pub fn check(query: &Query, source: Source<'_>) -> Result<(), PlanError> {
    match query.visit(&mut Places { source }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Where the first now() of a query stands.
pub fn first(query: &Query, source: Source<'_>) -> Option<usize> {
    clock_in(query).and_then(|(_, span)| source.offset(span.start))
}

/// The first reading of the time in a part of a query: its name and place.
fn clock_in(node: &impl Visit) -> Option<(String, Span)> {
    let found = visit_expressions(node, |expr| match expr {
        Expr::Function(Function { name, .. }) if functions::is_clock(&name.to_string().to_ascii_lowercase()) => {
            ControlFlow::Break((format!("{}()", name.to_string().to_ascii_uppercase()), name.span()))
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(found) => Some(found),
        ControlFlow::Continue(()) => None,
    }
}

struct Places<'a> {
    source: Source<'a>,
}

impl Places<'_> {
    fn refuse_in(&self, node: &impl Visit, place: &str, hint: &str) -> ControlFlow<PlanError> {
        match clock_in(node) {
            Some((name, span)) => {
                let position = self.source.offset(span.start);
                ControlFlow::Break(not_supported(&format!("{name} in {place}"), Some(hint), position))
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn condition(&self, condition: &Expr) -> ControlFlow<PlanError> {
        match condition {
            Expr::Nested(inner) => self.condition(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.condition(left)?;
                self.condition(right)
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => self.refuse_in(
                condition,
                "an OR of a view",
                "make a view of each side: a row may leave the one and not the other",
            ),
            Expr::BinaryOp { op, .. } if is_comparison(op) => ControlFlow::Continue(()),
            Expr::Between { negated: false, .. } => ControlFlow::Continue(()),
            other => self.refuse_in(other, "this condition of a view", HINT),
        }
    }
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(op, Op::Eq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq)
}

impl Visitor for Places<'_> {
    type Break = PlanError;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<PlanError> {
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let hint = "the view would change with every moment: select the column, and compute with NOW() \
                            where the view is read";
                self.refuse_in(expr, "the SELECT list of a view", hint)?;
            }
        }
        if let GroupByExpr::Expressions(groups, _) = &select.group_by {
            groups.iter().try_for_each(|group| self.refuse_in(group, "GROUP BY of a view", HINT))?;
        }
        for join in select.from.iter().flat_map(|table| &table.joins) {
            if let JoinOperator::Join(JoinConstraint::On(on))
            | JoinOperator::Inner(JoinConstraint::On(on))
            | JoinOperator::Left(JoinConstraint::On(on))
            | JoinOperator::LeftOuter(JoinConstraint::On(on))
            | JoinOperator::Right(JoinConstraint::On(on))
            | JoinOperator::RightOuter(JoinConstraint::On(on)) = &join.join_operator
            {
                let hint = "put it into WHERE, or into a derived table: JOIN (SELECT … WHERE created_at > NOW() - \
                        INTERVAL 1 DAY) AS recent";
                self.refuse_in(on, "a join's condition", hint)?;
            }
        }
        for condition in select.selection.iter().chain(&select.having) {
            self.condition(condition)?;
        }
        ControlFlow::Continue(())
    }
}
