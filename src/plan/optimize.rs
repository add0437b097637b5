//! What makes a plan cheap and changes no row.
//!
//! Only a predicate that cannot fail moves, so no error appears; it may spare a row an error, never cause one. A
//! predicate that can fail stays after those written before it, for they may guard it. The one exception is a join's
//! equality: its sides are computed for every row of their input.

use std::collections::BTreeSet;

use super::build;
use super::ir::{Expr, JoinKind, Op, Plan};
use crate::row::schema::Column;

const BOUNDS_LATER: &str = "conditions on now() are made bounds where they have come to rest";

pub fn optimize(plan: Plan) -> Plan {
    let all: Vec<usize> = (0..plan.schema.columns.len()).collect();
    let names: Vec<Column> = plan.schema.columns.clone();
    let mut plan = fuse(prune(push(plan, vec![]), &all));
    plan.schema.columns = names;
    plan
}

/// The plan with these predicates applied as far down as they may go.
fn push(plan: Plan, mut pending: Vec<Expr>) -> Plan {
    let columns = plan.schema.columns.clone();
    match plan.op {
        Op::Filter { input, predicates } => {
            pending.splice(0..0, predicates);
            push(*input, pending)
        }
        Op::Project { input, exprs } => {
            let moved = |p: &Expr| Some(build::substitute(p, &exprs)).filter(|p| p.infallible);
            let (below, above) = split(pending, moved);
            let input = Box::new(push(*input, below));
            build::filter(build::node(Op::Project { input, exprs }, columns), above)
        }
        Op::Join { left, right, kind: JoinKind::Inner, on } => push_inner(*left, *right, on, pending),
        Op::Join { left, right, kind: JoinKind::Left, on } => {
            let width = left.schema.columns.len();
            let of_left =
                |p: &Expr| (p.infallible && build::columns_of(p).iter().all(|c| *c < width)).then(|| p.clone());
            let (below, above) = split(pending, of_left);
            let joined = build::join(push(*left, below), push(*right, vec![]), JoinKind::Left, on);
            build::filter(joined, above)
        }
        Op::Reduce { input, keys, aggregates } => {
            let of_keys = |p: &Expr| {
                let moves = p.infallible && !keys.is_empty() && build::columns_of(p).iter().all(|c| *c < keys.len());
                moves.then(|| build::shift(p, |c| keys[c]))
            };
            let (below, above) = split(pending, of_keys);
            let input = Box::new(push(*input, below));
            build::filter(build::node(Op::Reduce { input, keys, aggregates }, columns), above)
        }
        Op::Union { inputs } => {
            let (below, above) = split(pending, |p| p.infallible.then(|| p.clone()));
            let inputs = inputs.into_iter().map(|input| push(input, below.clone())).collect();
            build::filter(build::node(Op::Union { inputs }, columns), above)
        }
        op @ (Op::Get { .. } | Op::Constant { .. }) => build::filter(Plan { op, schema: plan.schema }, pending),
        Op::Temporal { .. } => unreachable!("{BOUNDS_LATER}"),
    }
}

/// Predicates that move, as they read below, and those that stay.
fn split(predicates: Vec<Expr>, moved: impl Fn(&Expr) -> Option<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    let (mut below, mut above) = (Vec::new(), Vec::new());
    for predicate in predicates {
        match moved(&predicate) {
            Some(predicate) => below.push(predicate),
            None => above.push(predicate),
        }
    }
    (below, above)
}

fn push_inner(left: Plan, right: Plan, on: Vec<(usize, usize)>, pending: Vec<Expr>) -> Plan {
    let width = left.schema.columns.len();
    let (mut to_left, mut to_right, mut above) = (Vec::new(), Vec::new(), Vec::new());
    let mut pairs: Vec<(Expr, Expr)> = Vec::new();
    for (l, r) in on {
        pairs.push((build::column(&left.schema, l), build::column(&right.schema, r)));
    }
    for predicate in pending {
        let columns = build::columns_of(&predicate);
        if let Some(pair) = build::equality(&predicate, width) {
            pairs.push(pair);
        } else if predicate.infallible && columns.iter().all(|c| *c < width) {
            to_left.push(predicate);
        } else if predicate.infallible && columns.iter().all(|c| *c >= width) {
            to_right.push(build::shift(&predicate, |c| c - width));
        } else {
            above.push(predicate);
        }
    }
    let joined = build::join_on(push(left, to_left), push(right, to_right), JoinKind::Inner, pairs);
    build::filter(joined, above)
}

/// The plan with exactly these columns, in this order.
fn prune(plan: Plan, needed: &[usize]) -> Plan {
    let columns: Vec<Column> = needed.iter().map(|c| plan.schema.columns[*c].clone()).collect();
    let schema = plan.schema;
    match plan.op {
        Op::Get { object, name, columns: stored } => {
            let op = Op::Get { object, name, columns: needed.iter().map(|c| stored[*c]).collect() };
            Plan { op, schema: schema.project(needed) }
        }
        Op::Constant { rows } => select(Plan { op: Op::Constant { rows }, schema }, needed),
        Op::Temporal { .. } => unreachable!("{BOUNDS_LATER}"),
        Op::Project { input, exprs } => {
            let exprs: Vec<Expr> = needed.iter().map(|c| exprs[*c].clone()).collect();
            let (input, exprs) = prune_under(*input, exprs, &BTreeSet::new());
            build::node(Op::Project { input: Box::new(input), exprs }, columns)
        }
        Op::Filter { input, predicates } => {
            let kept: BTreeSet<usize> = needed.iter().copied().collect();
            let used = used_by(&predicates, &kept);
            let (input, predicates) = prune_under(*input, predicates, &kept);
            let filtered = build::filter(input, predicates);
            select(filtered, &positions(&used, needed))
        }
        Op::Join { left, right, kind, on } => {
            let width = left.schema.columns.len();
            let of_left = on.iter().map(|(l, _)| *l).chain(needed.iter().copied().filter(|c| *c < width));
            let of_left: BTreeSet<usize> = of_left.collect();
            let of_right = on.iter().map(|(_, r)| *r).chain(needed.iter().filter(|c| **c >= width).map(|c| c - width));
            let of_right: BTreeSet<usize> = of_right.collect();
            let (l, r) = (sorted(&of_left), sorted(&of_right));
            let on = on.iter().map(|(a, b)| (position(&l, *a), position(&r, *b))).collect();
            let joined = build::join(prune(*left, &l), prune(*right, &r), kind, on);
            let out =
                needed.iter().map(|c| if *c < width { position(&l, *c) } else { l.len() + position(&r, c - width) });
            select(joined, &out.collect::<Vec<_>>())
        }
        Op::Reduce { input, keys, aggregates } => {
            let width = keys.len();
            let kept: Vec<usize> = (0..aggregates.len()).filter(|i| needed.contains(&(width + i))).collect();
            let mut aggregates: Vec<_> = kept.iter().map(|i| aggregates[*i].clone()).collect();
            let used: BTreeSet<usize> = keys.iter().copied().chain(aggregates.iter().filter_map(|a| a.input)).collect();
            let used = sorted(&used);
            let keys: Vec<usize> = keys.iter().map(|k| position(&used, *k)).collect();
            aggregates.iter_mut().for_each(|a| a.input = a.input.map(|i| position(&used, i)));
            let outputs: Vec<usize> = (0..width).chain(kept.iter().map(|i| width + i)).collect();
            let columns = outputs.iter().map(|c| schema.columns[*c].clone()).collect();
            let input = Box::new(prune(*input, &used));
            let reduced = build::node(Op::Reduce { input, keys, aggregates }, columns);
            select(reduced, &needed.iter().map(|c| position(&outputs, *c)).collect::<Vec<_>>())
        }
        Op::Union { inputs } => {
            let inputs = inputs.into_iter().map(|input| prune(input, needed)).collect();
            build::node(Op::Union { inputs }, columns)
        }
    }
}

/// Prunes an input to what the expressions read and what is kept besides; the expressions follow their columns.
fn prune_under(input: Plan, exprs: Vec<Expr>, kept: &BTreeSet<usize>) -> (Plan, Vec<Expr>) {
    let used = used_by(&exprs, kept);
    let exprs = exprs.iter().map(|e| build::shift(e, |c| position(&used, c))).collect();
    (prune(input, &used), exprs)
}

fn used_by(exprs: &[Expr], kept: &BTreeSet<usize>) -> Vec<usize> {
    let mut used = kept.clone();
    exprs.iter().for_each(|e| used.extend(build::columns_of(e)));
    sorted(&used)
}

fn sorted(set: &BTreeSet<usize>) -> Vec<usize> {
    set.iter().copied().collect()
}

fn position(columns: &[usize], column: usize) -> usize {
    columns.iter().position(|c| *c == column).expect("a needed column was kept")
}

fn positions(columns: &[usize], wanted: &[usize]) -> Vec<usize> {
    wanted.iter().map(|c| position(columns, *c)).collect()
}

/// A selection of columns, unless it would be all of them in order.
fn select(plan: Plan, order: &[usize]) -> Plan {
    if order.iter().copied().eq(0..plan.schema.columns.len()) { plan } else { build::select(plan, order) }
}

/// Puts projections together where that computes nothing twice and guards nothing anew, and drops those that do
/// nothing.
fn fuse(plan: Plan) -> Plan {
    let columns = plan.schema.columns.clone();
    let op = match plan.op {
        op @ (Op::Get { .. } | Op::Constant { .. }) => return Plan { op, schema: plan.schema },
        Op::Temporal { .. } => unreachable!("{BOUNDS_LATER}"),
        Op::Project { input, exprs } => return fuse_project(fuse(*input), exprs, columns),
        Op::Filter { input, predicates } => match fuse(*input) {
            Plan { op: Op::Filter { input, predicates: mut first }, .. } => {
                first.extend(predicates);
                Op::Filter { input, predicates: first }
            }
            input => Op::Filter { input: Box::new(input), predicates },
        },
        Op::Join { left, right, kind, on } => {
            Op::Join { left: Box::new(fuse(*left)), right: Box::new(fuse(*right)), kind, on }
        }
        Op::Reduce { input, keys, aggregates } => Op::Reduce { input: Box::new(fuse(*input)), keys, aggregates },
        Op::Union { inputs } => Op::Union { inputs: inputs.into_iter().map(fuse).collect() },
    };
    build::node(op, columns)
}

fn fuse_project(input: Plan, exprs: Vec<Expr>, columns: Vec<Column>) -> Plan {
    let identity = exprs.iter().enumerate().all(|(i, e)| e.column() == Some(i));
    if identity && exprs.len() == input.schema.columns.len() {
        let mut input = input;
        input.schema.columns = columns;
        return input;
    }
    match input {
        Plan { op: Op::Project { input, exprs: inner }, .. } if may_fuse(&exprs, &inner) => {
            let exprs = exprs.iter().map(|e| build::substitute(e, &inner)).collect();
            fuse_project(*input, exprs, columns)
        }
        // Columns of a stored relation are picked where they are read.
        Plan { op: Op::Get { object, name, columns: stored }, schema } if distinct_columns(&exprs).is_some() => {
            let order = distinct_columns(&exprs).expect("just found");
            let op = Op::Get { object, name, columns: order.iter().map(|c| stored[*c]).collect() };
            let key = schema.project(&order).key;
            Plan { op, schema: crate::row::schema::Schema { columns, key } }
        }
        input => build::node(Op::Project { input: Box::new(input), exprs }, columns),
    }
}

/// The positions, if all expressions are different bare columns.
fn distinct_columns(exprs: &[Expr]) -> Option<Vec<usize>> {
    let order: Vec<usize> = exprs.iter().map(Expr::column).collect::<Option<_>>()?;
    let distinct: BTreeSet<usize> = order.iter().copied().collect();
    (distinct.len() == order.len()).then_some(order)
}

/// An inner computation is used once at most, and one that can fail stays unguarded.
fn may_fuse(outer: &[Expr], inner: &[Expr]) -> bool {
    inner.iter().enumerate().all(|(i, computed)| {
        if computed.column().is_some() {
            return true;
        }
        let users: Vec<&Expr> = outer.iter().filter(|e| build::columns_of(e).contains(&i)).collect();
        match users[..] {
            [] => true,
            [user] => user.column().is_some() || computed.infallible && is_simple(user),
            _ => false,
        }
    })
}

/// At most a column: anything more could read its input more than once.
fn is_simple(expr: &Expr) -> bool {
    expr.physical.children().iter().all(|c| c.children().is_empty()) && build::columns_of(expr).len() == 1
}
