//! A resolved query to operators: names become positions, calls become expressions.
//!
//! `refuse` walks the text's tree first, `resolve` finds what names mean, this file types and builds operator by
//! operator, and `optimize` moves and prunes. The conditions of an inner join are a Filter above a cross join here;
//! those of a LEFT JOIN are told apart here, for there each kind means something else.

use std::collections::BTreeMap;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::{DFSchema, JoinType};
use datafusion_expr::expr::{AggregateFunction as LogicalAggregate, Sort};
use datafusion_expr::{Distinct, Expr as Logical, Join, LogicalPlan, Projection, Union};
use sqlparser::ast;

use super::desugar::SAME_NAME_MARK;
use super::functions::cast::Zone;
use super::functions::types::{self, Number};
use super::ir::{Aggregate, AggregateFunction, Expr, JoinKind, Op, Plan};
use super::refuse::{self, Source, Use, not_supported};
use super::scalars::{self, Scalar, Scope, internal};
use super::{PlanError, PlanErrorKind, Relations, build, optimize, parameters, resolve, temporal};
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};

/// What is frozen when a view is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `UTC`, or an offset such as `+08:00`.
    pub time_zone: String,
}

/// A planned query.
#[derive(Clone, Debug)]
pub struct Lowered {
    pub plan: Plan,
    /// Column, descending, NULLs first.
    pub order_by: Vec<(usize, bool, bool)>,
    pub limit: Option<u64>,
    pub offset: u64,
    /// The last so many columns are there to order by, and are not part of the answer.
    pub hidden: usize,
    /// One a parameter; values come as text, through `parameters::bind`, before the query is lowered to run.
    pub parameters: Vec<SqlType>,
    pub notices: Vec<String>,
}

/// `text` is what the query was parsed from: errors point into it.
pub fn lower(
    query: &ast::Query,
    text: &str,
    use_: Use,
    relations: &dyn Relations,
    settings: &Settings,
) -> Result<Lowered, PlanError> {
    let source = Source(text);
    refuse::check(query, source, use_)?;
    let (limit, offset) = limits(query, source)?;
    let mut query = query.clone();
    query.limit_clause = None;
    // Planned without their values, parameters are NULL: of no type, and typed by what stands beside them.
    let parameters = vec![types::LONGTEXT; parameters::replace(&mut query, &[])];
    let resolved = resolve::query(&query, source, relations)?;
    let lowering = Lowering { source, zone: zone(settings)?, aliases: &resolved.aliases };
    let Ordered { plan, order_by, hidden } = lowering.ordered(&resolved.plan)?;
    let notices = notices(&plan);
    let plan = temporal::of_use(optimize::optimize(plan), use_, &query, source)?;
    Ok(Lowered { plan, order_by, limit, offset, hidden, parameters, notices })
}

pub fn zone(settings: &Settings) -> Result<Zone, PlanError> {
    Zone::parse(&settings.time_zone).ok_or_else(|| PlanError {
        kind: PlanErrorKind::InvalidValue,
        message: format!("time zone '{}' is not known", settings.time_zone),
        hint: Some("name an offset such as '+08:00', or 'UTC'".to_string()),
        position: None,
    })
}

/// The numbers after LIMIT and OFFSET.
fn limits(query: &ast::Query, source: Source<'_>) -> Result<(Option<u64>, u64), PlanError> {
    let number = |expr: &ast::Expr| match expr {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) => digits.parse::<u64>().ok(),
        _ => None,
    };
    let checked = |expr: &ast::Expr| {
        number(expr).ok_or_else(|| {
            let position = source.offset(ast::Spanned::span(expr).start);
            not_supported("a LIMIT or OFFSET that is no whole number", None, position)
        })
    };
    Ok(match &query.limit_clause {
        None => (None, 0),
        Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => (Some(checked(limit)?), checked(offset)?),
        Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) => {
            if let Some(by) = limit_by.first() {
                return Err(not_supported("LIMIT BY", None, source.offset(ast::Spanned::span(by).start)));
            }
            (limit.as_ref().map(checked).transpose()?, offset.as_ref().map_or(Ok(0), |o| checked(&o.value))?)
        }
    })
}

/// What the plan does otherwise than the user may think.
fn notices(plan: &Plan) -> Vec<String> {
    let mut names = Vec::new();
    let mut todo = vec![plan];
    while let Some(plan) = todo.pop() {
        if let Op::Get { name, .. } = &plan.op {
            let folds = |c: &&Column| c.collation.as_deref().is_some_and(|c| c.ends_with("_ci"));
            names.extend(plan.schema.columns.iter().filter(folds).map(|c| format!("{name}.{}", c.name)));
        }
        todo.extend(plan.inputs());
    }
    if names.is_empty() {
        return vec![];
    }
    vec![format!("text is compared byte by byte, also where its collation ignores case: {}", names.join(", "))]
}

struct Ordered {
    plan: Plan,
    order_by: Vec<(usize, bool, bool)>,
    hidden: usize,
}

struct Lowering<'a> {
    source: Source<'a>,
    zone: Zone,
    aliases: &'a BTreeMap<String, String>,
}

impl Lowering<'_> {
    fn scope<'b>(&'b self, names: &'b DFSchema, schema: &'b Schema) -> Scope<'b> {
        Scope { names, schema, zone: self.zone, source: self.source }
    }

    /// The query's rows, and after its columns those it is ordered by.
    fn ordered(&self, plan: &LogicalPlan) -> Result<Ordered, PlanError> {
        // Ordering by what is not selected: a projection above the sort takes the extra columns away.
        let (outputs, sort) = match plan {
            LogicalPlan::Projection(p) => match p.input.as_ref() {
                LogicalPlan::Sort(sort) => (Some(&p.expr), sort),
                _ => return Ok(Ordered { plan: self.plan(plan)?, order_by: vec![], hidden: 0 }),
            },
            LogicalPlan::Sort(sort) => (None, sort),
            _ => return Ok(Ordered { plan: self.plan(plan)?, order_by: vec![], hidden: 0 }),
        };
        let input = self.plan(&sort.input)?;
        let scope = self.scope(sort.input.schema(), &input.schema);
        let mut columns: Vec<(Scalar, String)> = match outputs {
            None => (0..input.schema.columns.len())
                .map(|i| (scope.column(i), input.schema.columns[i].name.clone()))
                .collect(),
            Some(exprs) => {
                exprs.iter().map(|e| Ok((scope.scalar(e)?, self.name(e, &scope)?))).collect::<Result<_, PlanError>>()?
            }
        };
        let visible = columns.len();
        let mut order_by = Vec::new();
        for Sort { expr, asc, nulls_first } in &sort.expr {
            let key = scope.scalar(expr)?;
            let same = |(c, _): &(Scalar, String)| key.expr.column().is_some() && c.expr.column() == key.expr.column();
            let at = columns.iter().position(same).unwrap_or(columns.len());
            if at == columns.len() {
                let name = key.expr.text.clone();
                columns.push((key, name));
            }
            order_by.push((at, !asc, *nulls_first));
        }
        let hidden = columns.len() - visible;
        Ok(Ordered { plan: build::project(input, columns), order_by, hidden })
    }

    fn plan(&self, plan: &LogicalPlan) -> Result<Plan, PlanError> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let stored = scan.source.downcast_ref::<resolve::Stored>().expect("views are planned in place");
                let columns = (0..stored.schema.columns.len()).collect();
                let op = Op::Get { object: stored.object, name: stored.name.clone(), columns };
                Ok(Plan { op, schema: stored.schema.clone() })
            }
            LogicalPlan::EmptyRelation(_) => Ok(one_row()),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                let scope = self.scope(filter.input.schema(), &input.schema);
                let predicates = self.conjuncts(&filter.predicate, &scope)?;
                let predicates = predicates.into_iter().map(|p| p.expr).collect();
                Ok(build::filter(input, predicates))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => {
                self.aggregate(&aggregate.input, &aggregate.group_expr, &aggregate.aggr_expr)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.plan(input)?;
                let keys = (0..input.schema.columns.len()).collect();
                let columns = input.schema.columns.clone();
                Ok(build::node(Op::Reduce { input: Box::new(input), keys, aggregates: vec![] }, columns))
            }
            LogicalPlan::Union(union) => self.union(union),
            other => Err(not_supported(&format!("the plan {}", other.display()), None, None)),
        }
    }

    fn projection(&self, projection: &Projection) -> Result<Plan, PlanError> {
        let input = self.plan(&projection.input)?;
        let scope = self.scope(projection.input.schema(), &input.schema);
        let outputs = projection.expr.iter().map(|e| Ok((scope.scalar(e)?, self.name(e, &scope)?)));
        let outputs = outputs.collect::<Result<Vec<_>, PlanError>>()?;
        Ok(build::project(input, outputs))
    }

    /// As typed where there is an alias, as the source spells it for a column.
    fn name(&self, expr: &Logical, scope: &Scope<'_>) -> Result<String, PlanError> {
        match expr {
            Logical::Alias(alias) => {
                let typed = self.aliases.get(&alias.name.to_ascii_lowercase());
                let plain = alias.name.split(SAME_NAME_MARK).next().unwrap_or_default();
                Ok(typed.map_or(plain, String::as_str).to_string())
            }
            Logical::Column(column) => {
                let at = scope.names.index_of_column(column).map_err(|e| internal(&e))?;
                Ok(scope.schema.columns[at].name.clone())
            }
            other => Ok(scope.scalar(other)?.expr.text),
        }
    }

    /// The parts of a condition that must all hold, in their order; what is always true is left out.
    fn conjuncts(&self, expr: &Logical, scope: &Scope<'_>) -> Result<Vec<Scalar>, PlanError> {
        let mut parts = Vec::new();
        let mut todo = vec![expr];
        while let Some(expr) = todo.pop() {
            match expr {
                Logical::ScalarFunction(call) if call.func.name() == "and" => todo.extend(call.args.iter().rev()),
                Logical::ScalarFunction(call) if call.func.name() == "truth" && is_and(&call.args[0]) => {
                    todo.push(&call.args[0]);
                }
                other => parts.push(scope.scalar(other)?),
            }
        }
        parts.retain(|p| p.literal != Some(crate::row::datum::Datum::Bool(true)));
        Ok(parts)
    }

    fn join(&self, join: &Join) -> Result<Plan, PlanError> {
        let (left, right) = (self.plan(&join.left)?, self.plan(&join.right)?);
        match join.join_type {
            JoinType::Inner => {
                let joined = build::join(left, right, JoinKind::Inner, vec![]);
                let conditions = self.join_conditions(join, &joined.schema, &join.schema)?;
                Ok(build::filter(joined, conditions.into_iter().map(|c| c.expr).collect()))
            }
            JoinType::Left => {
                let schema = build::joined_schema(&left, &right, JoinKind::Inner);
                let conditions = self.join_conditions(join, &schema, &join.schema)?;
                self.left_join(left, right, conditions)
            }
            JoinType::Right => {
                // The sides change places, and the columns go back to theirs.
                let (width, other) = (left.schema.columns.len(), right.schema.columns.len());
                let schema = build::joined_schema(&right, &left, JoinKind::Inner);
                let names = join.right.schema().join(join.left.schema()).map_err(|e| internal(&e))?;
                let conditions = self.join_conditions(join, &schema, &names)?;
                let joined = self.left_join(right, left, conditions)?;
                let order = (other..other + width).chain(0..other).collect::<Vec<_>>();
                Ok(build::select(joined, &order))
            }
            other => Err(not_supported(&format!("{other} JOIN"), None, None)),
        }
    }

    fn join_conditions(&self, join: &Join, schema: &Schema, names: &DFSchema) -> Result<Vec<Scalar>, PlanError> {
        let scope = self.scope(names, schema);
        let mut conditions = Vec::new();
        for (l, r) in &join.on {
            let (l_scalar, r_scalar) = (scope.scalar(l)?, scope.scalar(r)?);
            conditions.push(scope.equality(l_scalar, r_scalar).map_err(|e| scope.type_error(e, l))?);
        }
        if let Some(filter) = &join.filter {
            conditions.extend(self.conjuncts(filter, &scope)?);
        }
        Ok(conditions)
    }

    fn left_join(&self, left: Plan, right: Plan, conditions: Vec<Scalar>) -> Result<Plan, PlanError> {
        let width = left.schema.columns.len();
        let mut pairs = Vec::new();
        let mut on_right = Vec::new();
        let mut on_left: Vec<Scalar> = Vec::new();
        for condition in conditions {
            let columns = build::columns_of(&condition.expr);
            if let Some(pair) = build::equality(&condition.expr, width) {
                pairs.push(pair);
            } else if columns.iter().all(|c| *c < width) {
                on_left.push(condition);
            } else if columns.iter().all(|c| *c >= width) {
                on_right.push(build::shift(&condition.expr, |c| c - width));
            } else {
                let hint = Some("a LEFT JOIN's ON may compare with =, or look at one side");
                let what = format!("the condition {} over both sides of a LEFT JOIN", condition.expr.text);
                return Err(not_supported(&what, hint, None));
            }
        }
        // A left row for which its own condition does not hold meets nothing: its key differs from TRUE.
        let own = on_left.into_iter().reduce(scalars::and);
        pairs.extend(own.map(|own| (own.expr, scalars::boolean(true).expr)));
        let right = build::filter(right, on_right);
        Ok(build::join_on(left, right, JoinKind::Left, pairs))
    }

    fn aggregate(&self, input: &LogicalPlan, groups: &[Logical], calls: &[Logical]) -> Result<Plan, PlanError> {
        let plan = self.plan(input)?;
        let scope = self.scope(input.schema(), &plan.schema);
        let mut columns = Vec::new();
        // DataFusion has one column for an expression that is grouped by twice.
        let once = |i: &usize| !groups[..*i].contains(&groups[*i]);
        let groups: Vec<&Logical> = (0..groups.len()).filter(once).map(|i| &groups[i]).collect();
        for group in &groups {
            columns.push((scope.scalar(group)?, self.name(group, &scope)?));
        }
        let mut aggregates = Vec::new();
        let mut outputs = Vec::new();
        for call in calls {
            let (function, argument, output) = self.aggregate_call(call, &scope, !groups.is_empty())?;
            let at = argument.map(|argument| {
                let same =
                    |(c, _): &(Scalar, String)| c.expr.text == argument.expr.text && c.sql_type == argument.sql_type;
                columns.iter().position(same).unwrap_or_else(|| {
                    columns.push((argument.clone(), argument.expr.text.clone()));
                    columns.len() - 1
                })
            });
            aggregates.push(Aggregate { function, input: at });
            outputs.push(output);
        }
        let input = build::project(plan, columns);
        let keys: Vec<usize> = (0..groups.len()).collect();
        let mut columns: Vec<Column> = input.schema.columns[..groups.len()].to_vec();
        columns.extend(outputs);
        Ok(build::node(Op::Reduce { input: Box::new(input), keys, aggregates }, columns))
    }

    /// The function, its argument brought to the type it adds up, and the result's column.
    fn aggregate_call(
        &self,
        call: &Logical,
        scope: &Scope<'_>,
        grouped: bool,
    ) -> Result<(AggregateFunction, Option<Scalar>, Column), PlanError> {
        let Logical::AggregateFunction(LogicalAggregate { func, params }) = call.clone().unalias() else {
            return Err(not_supported(&format!("the aggregate {call}"), None, None));
        };
        let Some(argument) = params.args.first() else {
            return Ok((AggregateFunction::CountAll, None, Column::new("COUNT(*)", BIGINT, false)));
        };
        let x = scope.scalar(argument)?;
        let name = format!("{}({})", func.name().to_uppercase(), x.expr.text);
        let count = Column::new(&name, BIGINT, false);
        let type_error = |e| scope.type_error(e, argument);
        // A group has a row: without NULLs among its values it has a result.
        let nullable = x.nullable || !grouped;
        let sums = |x: Scalar| -> Result<Scalar, types::TypeError> {
            Ok(match types::number(&x.sql_type)? {
                Number::Int { unsigned } => scope.cast(x, &SqlType::Int { bytes: 8, unsigned }),
                Number::Double => scope.cast(x, &SqlType::Double),
                Number::Decimal { .. } => x,
            })
        };
        Ok(match func.name() {
            "count" if !x.nullable => (AggregateFunction::CountAll, None, count),
            "count" => (AggregateFunction::Count, Some(x), count),
            "sum" => {
                let column = Column::new(&name, types::sum(&x.sql_type).map_err(type_error)?, nullable);
                (AggregateFunction::Sum, Some(sums(x).map_err(type_error)?), column)
            }
            "avg" => {
                let column = Column::new(&name, types::avg(&x.sql_type).map_err(type_error)?, nullable);
                (AggregateFunction::Avg, Some(sums(x).map_err(type_error)?), column)
            }
            other => {
                let function = if other == "min" { AggregateFunction::Min } else { AggregateFunction::Max };
                let mut column = Column::new(&name, x.sql_type.clone(), nullable);
                column.collation = x.expr.column().and_then(|c| scope.schema.columns[c].collation.clone());
                (function, Some(x), column)
            }
        })
    }

    /// The branches' columns brought to one type each.
    fn union(&self, union: &Union) -> Result<Plan, PlanError> {
        let inputs = union.inputs.iter().map(|i| self.plan(i)).collect::<Result<Vec<_>, _>>()?;
        let mut columns = inputs[0].schema.columns.clone();
        for input in &inputs[1..] {
            for (column, other) in columns.iter_mut().zip(&input.schema.columns) {
                let sql_type = types::common(&column.sql_type, &other.sql_type).map_err(|e| PlanError {
                    kind: PlanErrorKind::TypeMismatch,
                    message: format!("column {} of a UNION: {}", column.name, e.message),
                    hint: e.hint.map(str::to_string),
                    position: None,
                })?;
                column.sql_type = sql_type;
                column.nullable |= other.nullable;
                if column.collation != other.collation {
                    column.collation = None;
                }
            }
        }
        let inputs = inputs.into_iter().map(|input| {
            let names = DFSchema::empty();
            let scope = self.scope(&names, &input.schema);
            let outputs =
                columns.iter().enumerate().map(|(i, c)| (scope.cast(scope.column(i), &c.sql_type), c.name.clone()));
            let outputs = outputs.collect();
            build::project(input, outputs)
        });
        let inputs: Vec<Plan> = inputs.collect();
        // A cast into the common type can make a value NULL.
        for (i, column) in columns.iter_mut().enumerate() {
            column.nullable = inputs.iter().any(|p| p.schema.columns[i].nullable);
        }
        Ok(build::node(Op::Union { inputs }, columns))
    }
}

fn is_and(expr: &Logical) -> bool {
    matches!(expr, Logical::ScalarFunction(call) if call.func.name() == "and")
}

/// `SELECT 1`: one row without columns.
fn one_row() -> Plan {
    let schema = Schema { columns: vec![], key: Some(vec![]) };
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let rows = RecordBatch::try_new_with_options(schema.arrow(), vec![], &options).expect("no columns, one row");
    Plan { op: Op::Constant { rows }, schema }
}

/// Expressions over the columns of one table, for the statements that change it.
pub struct Table<'a> {
    pub name: &'a str,
    pub schema: &'a Schema,
    pub text: &'a str,
    pub settings: &'a Settings,
}

impl Table<'_> {
    /// The condition of UPDATE and DELETE; several parts that must all hold, in order.
    pub fn predicate(&self, condition: &ast::Expr) -> Result<Vec<Expr>, PlanError> {
        let source = Source(self.text);
        refuse::check_expr(condition, source)?;
        let mut condition = condition.clone();
        super::desugar::condition(&mut condition, source)?;
        let names = resolve::column_names(self.name, self.schema);
        let logical = resolve::expr(condition, &names, source)?;
        let aliases = BTreeMap::new();
        let lowering = Lowering { source, zone: zone(self.settings)?, aliases: &aliases };
        let scope = lowering.scope(&names, self.schema);
        Ok(lowering.conjuncts(&logical, &scope)?.into_iter().map(|p| p.expr).collect())
    }

    /// What a column is set to: an error for a row whose value does not fit.
    pub fn assignment(&self, column: usize, value: &ast::Expr) -> Result<Expr, PlanError> {
        let names = resolve::column_names(self.name, self.schema);
        self.value(column, value, &names, self.schema)
    }

    /// One row of VALUES; the expressions read no column.
    pub fn row(&self, columns: &[usize], values: &[ast::Expr]) -> Result<Vec<Expr>, PlanError> {
        if columns.len() != values.len() {
            let message = format!("a row has {} values for {} columns", values.len(), columns.len());
            return Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint: None, position: None });
        }
        let empty = Schema { columns: vec![], key: None };
        let names = DFSchema::empty();
        columns.iter().zip(values).map(|(c, value)| self.value(*c, value, &names, &empty)).collect()
    }

    fn value(&self, column: usize, value: &ast::Expr, names: &DFSchema, schema: &Schema) -> Result<Expr, PlanError> {
        let source = Source(self.text);
        refuse::check_expr(value, source)?;
        let mut value = value.clone();
        super::desugar::expr(&mut value, source)?;
        let logical = resolve::expr(value, names, source)?;
        let scope = Scope { names, schema, zone: zone(self.settings)?, source };
        let target = &self.schema.columns[column];
        let scalar = scope.scalar(&logical)?;
        if scalar.literal == Some(crate::row::datum::Datum::Null) && !target.nullable {
            let message = format!("column {} cannot be NULL", target.name);
            return Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint: None, position: None });
        }
        Ok(scope.assign(scalar, &target.sql_type).expr)
    }
}
