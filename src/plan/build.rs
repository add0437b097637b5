//! Operators with their schemas: the only place where a plan node is put together.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column as PhysicalColumn};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::functions::bound::Bound;
use super::ir::{Expr, JoinKind, Op, Plan};
use super::keys;
use super::scalars::{Scalar, column_text};
use crate::row::schema::{Column, Schema};

/// Any operator but `Get`, with its columns; its key is inferred.
pub fn node(op: Op, columns: Vec<Column>) -> Plan {
    let key = keys::infer(&op);
    Plan { op, schema: Schema { columns, key } }
}

/// No predicates: the input itself.
pub fn filter(input: Plan, predicates: Vec<Expr>) -> Plan {
    if predicates.is_empty() {
        return input;
    }
    let columns = input.schema.columns.clone();
    node(Op::Filter { input: Box::new(input), predicates }, columns)
}

/// A bare column keeps its type, comment and collation under the new name.
pub fn project(input: Plan, outputs: Vec<(Scalar, String)>) -> Plan {
    let mut exprs = Vec::with_capacity(outputs.len());
    let mut columns = Vec::with_capacity(outputs.len());
    for (scalar, name) in outputs {
        columns.push(match scalar.expr.column() {
            Some(c) => Column { name, ..input.schema.columns[c].clone() },
            None => Column::new(name, scalar.sql_type, scalar.nullable),
        });
        exprs.push(scalar.expr);
    }
    node(Op::Project { input: Box::new(input), exprs }, columns)
}

/// These columns of the input, in this order.
pub fn select(input: Plan, order: &[usize]) -> Plan {
    let exprs = order.iter().map(|c| column(&input.schema, *c)).collect();
    let columns = order.iter().map(|c| input.schema.columns[*c].clone()).collect();
    node(Op::Project { input: Box::new(input), exprs }, columns)
}

pub fn join(left: Plan, right: Plan, kind: JoinKind, on: Vec<(usize, usize)>) -> Plan {
    let columns = joined_schema(&left, &right, kind).columns;
    node(Op::Join { left: Box::new(left), right: Box::new(right), kind, on }, columns)
}

/// A join on pairs of expressions, each over its own side; what is no bare column is computed below the join.
pub fn join_on(left: Plan, right: Plan, kind: JoinKind, pairs: Vec<(Expr, Expr)>) -> Plan {
    let (width, other) = (left.schema.columns.len(), right.schema.columns.len());
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = pairs.into_iter().unzip();
    let (left, left_keys) = with_keys(left, left_keys);
    let (right, right_keys) = with_keys(right, right_keys);
    let wide = left.schema.columns.len();
    let joined = join(left, right, kind, left_keys.into_iter().zip(right_keys).collect());
    if joined.schema.columns.len() == width + other {
        return joined;
    }
    select(joined, &(0..width).chain(wide..wide + other).collect::<Vec<_>>())
}

fn with_keys(input: Plan, keys: Vec<Expr>) -> (Plan, Vec<usize>) {
    let mut exprs: Vec<Expr> = (0..input.schema.columns.len()).map(|c| column(&input.schema, c)).collect();
    let mut columns = input.schema.columns.clone();
    let mut positions = Vec::new();
    let arrow = input.schema.arrow();
    for key in keys {
        positions.push(key.column().unwrap_or_else(|| {
            let data_type = key.physical.data_type(&arrow).expect("a typed expression over these columns");
            let sql_type = crate::row::types::SqlType::of_arrow(&data_type).expect("expressions have MySQL types");
            columns.push(Column::new(key.text.clone(), sql_type, true));
            exprs.push(key);
            columns.len() - 1
        }));
    }
    if exprs.len() == input.schema.columns.len() {
        return (input, positions);
    }
    (node(Op::Project { input: Box::new(input), exprs }, columns), positions)
}

pub fn joined_schema(left: &Plan, right: &Plan, kind: JoinKind) -> Schema {
    let right = right.schema.columns.iter().cloned();
    let right = right.map(|c| Column { nullable: c.nullable || kind == JoinKind::Left, ..c });
    Schema { columns: left.schema.columns.iter().cloned().chain(right).collect(), key: None }
}

pub fn column(schema: &Schema, position: usize) -> Expr {
    let physical = Arc::new(PhysicalColumn::new(&schema.columns[position].name, position));
    Expr { physical, text: column_text(schema, position), infallible: true }
}

/// The positions an expression reads.
pub fn columns_of(expr: &Expr) -> BTreeSet<usize> {
    physical_columns(&expr.physical)
}

fn physical_columns(physical: &Arc<dyn PhysicalExpr>) -> BTreeSet<usize> {
    let found = datafusion_physical_expr::utils::collect_columns(physical);
    found.into_iter().map(|c| c.index()).collect()
}

/// The expression over columns that moved.
pub fn shift(expr: &Expr, to: impl Fn(usize) -> usize) -> Expr {
    Expr { physical: shift_physical(&expr.physical, &to), ..expr.clone() }
}

fn shift_physical(physical: &Arc<dyn PhysicalExpr>, to: &impl Fn(usize) -> usize) -> Arc<dyn PhysicalExpr> {
    replace(physical, &|column| Arc::new(PhysicalColumn::new(column.name(), to(column.index()))))
}

/// The expression over what the columns were computed from; `infallible` only if those are too.
pub fn substitute(expr: &Expr, by: &[Expr]) -> Expr {
    let infallible = expr.infallible && columns_of(expr).iter().all(|c| by[*c].infallible);
    let physical = replace(&expr.physical, &|column| Arc::clone(&by[column.index()].physical));
    let text = expr.column().map_or(&expr.text, |c| &by[c].text).clone();
    Expr { physical, text, infallible }
}

fn replace(
    physical: &Arc<dyn PhysicalExpr>,
    by: &dyn Fn(&PhysicalColumn) -> Arc<dyn PhysicalExpr>,
) -> Arc<dyn PhysicalExpr> {
    let replaced = Arc::clone(physical).transform_down(|node| {
        Ok(match node.downcast_ref::<PhysicalColumn>() {
            // What comes in for a column is not looked into again.
            Some(column) => Transformed::new(by(column), true, datafusion_common::tree_node::TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    replaced.expect("columns are replaced without a failure").data
}

/// `l = r` with each side over its own input of a join, the right one shifted to that input's positions.
pub fn equality(expr: &Expr, width: usize) -> Option<(Expr, Expr)> {
    let binary = expr.physical.downcast_ref::<BinaryExpr>()?;
    if *binary.op() != Operator::Eq {
        return None;
    }
    let side = |physical: &Arc<dyn PhysicalExpr>| {
        let columns = physical_columns(physical);
        let left = columns.iter().all(|c| *c < width);
        (!columns.is_empty() && (left || columns.iter().all(|c| *c >= width))).then_some(left)
    };
    let (l, r) = match (side(binary.left())?, side(binary.right())?) {
        (true, false) => (binary.left(), binary.right()),
        (false, true) => (binary.right(), binary.left()),
        _ => return None,
    };
    let part = |physical: Arc<dyn PhysicalExpr>| {
        let text = plain_text(&physical);
        Expr { physical, text, infallible: expr.infallible }
    };
    Some((part(Arc::clone(l)), part(shift_physical(r, &|c| c - width))))
}

/// How EXPLAIN prints an expression that was taken out of a larger one.
pub fn plain_text(physical: &Arc<dyn PhysicalExpr>) -> String {
    if let Some(column) = physical.downcast_ref::<PhysicalColumn>() {
        return column.name().to_string();
    }
    let Some(call) = physical.downcast_ref::<ScalarFunctionExpr>() else { return physical.to_string() };
    let args: Vec<String> = call.args().iter().map(plain_text).collect();
    let bound = call.fun().inner().downcast_ref::<Bound>().expect("every call was bound by `scalars`");
    bound.text(&args)
}
