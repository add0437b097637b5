//! Refuses by name, with its place in the text, what queries cannot do yet.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    JoinConstraint, JoinOperator, ObjectName, Query, Select, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor,
    Visit, Visitor,
};
use sqlparser::tokenizer::{Location, Span};

use super::{PlanError, PlanErrorKind, functions, temporal};

/// What a query is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The rows of a view: no order, no limit, no parameters.
    View,
    /// An ad-hoc read.
    Select,
}

/// The text that the parser's lines and columns speak of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a>(pub &'a str);

impl Source<'_> {
    /// The byte offset of a place; `None` where the parser kept none.
    pub fn offset(&self, at: Location) -> Option<usize> {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let start: usize = self.0.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.0.get(start..)?;
        Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(i, _)| i))
    }
}

pub fn not_supported(what: &str, hint: Option<&str>, position: Option<usize>) -> PlanError {
    PlanError {
        kind: PlanErrorKind::NotSupported,
        message: format!("{what} is not supported"),
        hint: hint.map(str::to_string),
        position,
    }
}

/// `Ok` if the walk finds nothing that lowering would not understand.
pub fn check(query: &Query, source: Source<'_>, use_: Use) -> Result<(), PlanError> {
    let mut check = Check { source, use_, depth: 0, intervals: vec![] };
    match query.visit(&mut check) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) if use_ == Use::View => temporal::places::check(query, source),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The same for an expression outside a query.
pub fn check_expr(expr: &Expr, source: Source<'_>) -> Result<(), PlanError> {
    match expr.visit(&mut Check { source, use_: Use::Select, depth: 0, intervals: vec![] }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Check<'a> {
    source: Source<'a>,
    use_: Use,
    /// How many queries stand around the place of the walk.
    depth: usize,
    /// Where the INTERVALs stand that something is added to.
    intervals: Vec<Span>,
}

type Found = ControlFlow<PlanError>;

impl Check<'_> {
    fn refuse(&self, what: &str, span: Span) -> Found {
        self.refuse_with(what, None, span)
    }

    fn refuse_with(&self, what: &str, hint: Option<&str>, span: Span) -> Found {
        ControlFlow::Break(not_supported(what, hint, self.source.offset(span.start)))
    }

    fn refuse_if(&self, found: bool, what: &str, span: Span) -> Found {
        if found { self.refuse(what, span) } else { ControlFlow::Continue(()) }
    }

    fn body(&self, body: &SetExpr) -> Found {
        let span = body.span();
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } => {
                let by_name =
                    !matches!(set_quantifier, SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None);
                self.refuse_if(by_name, "UNION BY NAME", span)?;
                self.body(left)?;
                self.body(right)
            }
            SetExpr::SetOperation { op, .. } => self.refuse(&op.to_string(), span),
            SetExpr::Values(_) => self.refuse("VALUES outside INSERT", span),
            _ => self.refuse("this statement inside a query", span),
        }
    }

    fn join(&self, operator: &JoinOperator) -> Found {
        let constraint = match operator {
            JoinOperator::Join(c)
            | JoinOperator::Inner(c)
            | JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::CrossJoin(c) => c,
            JoinOperator::FullOuter(c) => {
                let hint = "write a LEFT JOIN, and a UNION ALL of the right rows without a match";
                return self.refuse_with("FULL JOIN", Some(hint), constraint_span(c));
            }
            other => {
                let name = format!("{other:?}");
                let name = name.split(['(', ' ']).next().expect("a split yields a first part").to_string();
                return self.refuse(&format!("join kind {name}"), Span::empty());
            }
        };
        let right = matches!(operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_));
        match constraint {
            JoinConstraint::Using(columns) if right => {
                let span = columns.first().map_or(Span::empty(), |c| c.span());
                self.refuse_with("RIGHT JOIN … USING", Some("write it as a LEFT JOIN, or with ON"), span)
            }
            JoinConstraint::Natural => {
                self.refuse_with("NATURAL JOIN", Some("name the columns: USING (…)"), Span::empty())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn function(&self, function: &Function) -> Found {
        let span = function.name.span();
        let name = function.name.to_string().to_ascii_uppercase();
        self.refuse_if(function.over.is_some(), &format!("the window function {name}(…) OVER"), span)?;
        self.refuse_if(function.filter.is_some(), &format!("{name}(…) FILTER"), span)?;
        self.refuse_if(!function.within_group.is_empty(), &format!("{name}(…) WITHIN GROUP"), span)?;
        if let FunctionArguments::List(list) = &function.args {
            let distinct = list.duplicate_treatment == Some(sqlparser::ast::DuplicateTreatment::Distinct);
            let hint = "group a SELECT DISTINCT in a derived table";
            if distinct {
                return self.refuse_with(&format!("{name}(DISTINCT …)"), Some(hint), span);
            }
            self.refuse_if(!list.clauses.is_empty(), &format!("{name} with clauses among its arguments"), span)?;
        }
        ControlFlow::Continue(())
    }
}

/// The INTERVALs right of a plus or minus, left of a plus, or in a call of DATE_ADD or DATE_SUB.
fn added_intervals(expr: &Expr) -> Vec<Span> {
    let of = |expr: &Expr| if let Expr::Interval(_) = expr { Some(expr.span()) } else { None };
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::Plus, right } => {
            [of(left), of(right)].into_iter().flatten().collect()
        }
        Expr::BinaryOp { op: BinaryOperator::Minus, right, .. } => of(right).into_iter().collect(),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) => {
            let name = name.to_string().to_ascii_lowercase();
            let adds = matches!(functions::canonical_name(&name), Some("date_add" | "date_sub"));
            let arg = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if adds => of(expr),
                _ => None,
            };
            list.args.iter().filter_map(arg).collect()
        }
        _ => vec![],
    }
}

fn constraint_span(constraint: &JoinConstraint) -> Span {
    match constraint {
        JoinConstraint::On(expr) => expr.span(),
        _ => Span::empty(),
    }
}

impl Visitor for Check<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        self.depth += 1;
        let span = query.span();
        if let Some(with) = &query.with {
            self.refuse_if(with.recursive, "WITH RECURSIVE", with.with_token.0.span)?;
        }
        let place = match (self.use_, self.depth) {
            (Use::Select, 1) => None,
            (Use::View, 1) => Some("in a view"),
            _ => Some("in a subquery"),
        };
        if let Some(place) = place {
            let hint = Some("order and cut the rows in the SELECT that reads the view");
            if let Some(order) = &query.order_by {
                return self.refuse_with(&format!("ORDER BY {place}"), hint, order.span());
            }
            if let Some(limit) = &query.limit_clause {
                return self.refuse_with(&format!("LIMIT {place}"), hint, limit.span());
            }
        }
        self.refuse_if(query.fetch.is_some(), "FETCH", span)?;
        self.refuse_if(!query.locks.is_empty(), "FOR UPDATE / FOR SHARE", span)?;
        let extra = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        self.refuse_if(extra, "this clause after a query", span)?;
        self.body(&query.body)
    }

    fn post_visit_query(&mut self, _query: &Query) -> Found {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        let span = select.span();
        self.refuse_if(matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON", span)?;
        self.refuse_if(!select.named_window.is_empty(), "WINDOW", span)?;
        self.refuse_if(select.qualify.is_some(), "QUALIFY", span)?;
        self.refuse_if(select.into.is_some(), "SELECT INTO", span)?;
        let foreign = select.top.is_some()
            || select.exclude.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.value_table_mode.is_some();
        self.refuse_if(foreign, "this clause of SELECT", span)?;
        match &select.group_by {
            GroupByExpr::All(_) => self.refuse("GROUP BY ALL", select.group_by.span())?,
            GroupByExpr::Expressions(_, modifiers) => {
                self.refuse_if(!modifiers.is_empty(), "GROUP BY … WITH ROLLUP", select.group_by.span())?
            }
        }
        for table in &select.from {
            for join in &table.joins {
                self.join(&join.join_operator)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        let span = factor.span();
        match factor {
            TableFactor::Table { args, version, with_ordinality, partitions, sample, json_path, .. } => {
                self.refuse_if(args.is_some(), "a table function", span)?;
                self.refuse_if(version.is_some(), "a read of a table's past", span)?;
                self.refuse_if(!partitions.is_empty(), "PARTITION (…)", span)?;
                self.refuse_if(sample.is_some(), "TABLESAMPLE", span)?;
                self.refuse_if(*with_ordinality || json_path.is_some(), "this form of table", span)
            }
            TableFactor::Derived { lateral, .. } => self.refuse_if(*lateral, "LATERAL", span),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                table_with_joins.joins.iter().try_for_each(|join| self.join(&join.join_operator))
            }
            TableFactor::JsonTable { .. } => self.refuse("JSON_TABLE", span),
            _ => self.refuse("this form of table", span),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Found {
        self.refuse_if(relation.0.len() > 3, "a table name of more than three parts", relation.span())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        let span = expr.span();
        let join = Some("write it as a join");
        self.intervals.extend(added_intervals(expr));
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Subquery(_) => self.refuse_with("a subquery in an expression", join, span),
            Expr::InSubquery { .. } => self.refuse_with("IN (SELECT …)", join, span),
            Expr::Exists { .. } => self.refuse_with("EXISTS (SELECT …)", join, span),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => self.refuse_with("ANY / ALL", join, span),
            Expr::GroupingSets(_) => self.refuse("GROUPING SETS", span),
            Expr::Cube(_) => self.refuse("CUBE", span),
            Expr::Rollup(_) => self.refuse("ROLLUP", span),
            Expr::Collate { .. } => self.refuse("COLLATE", span),
            Expr::RLike { .. } => self.refuse("REGEXP", span),
            Expr::MatchAgainst { .. } => self.refuse("MATCH … AGAINST", span),
            Expr::Interval(_) if !self.intervals.contains(&span) => {
                self.refuse_with("an INTERVAL by itself", Some("add it to a date: x + INTERVAL 1 DAY"), span)
            }
            Expr::Tuple(_) => self.refuse_with("a row of values", Some("compare the columns one by one"), span),
            Expr::AtTimeZone { .. } => self.refuse("AT TIME ZONE", span),
            Expr::JsonAccess { .. } => self.refuse("access to a JSON member", span),
            Expr::Value(v) if self.use_ == Use::View && matches!(v.value, sqlparser::ast::Value::Placeholder(_)) => {
                self.refuse("a parameter in a view", span)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
