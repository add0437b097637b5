//! Which columns are unique together in an operator's output.

use std::collections::BTreeSet;

use super::ir::{Expr, JoinKind, Op, Plan};

/// A key of the operator's output, from those of its inputs; the shortest that can be shown.
pub fn infer(op: &Op) -> Option<Vec<usize>> {
    match op {
        Op::Get { .. } => panic!("the key of a stored relation is its schema's"),
        Op::Constant { rows } => (rows.num_rows() <= 1).then(Vec::new),
        Op::Filter { input, .. } | Op::Temporal { input, .. } => input.schema.key.clone(),
        Op::Project { input, exprs } => through(input, exprs),
        Op::Reduce { input, keys, .. } => {
            // An input key among the grouping columns already tells the groups apart.
            let inner = input.schema.key.as_ref();
            let kept = inner.and_then(|k| k.iter().map(|c| keys.iter().position(|g| g == c)).collect());
            Some(kept.unwrap_or_else(|| (0..keys.len()).collect()))
        }
        Op::Join { left, right, kind, on } => join(left, right, *kind, on),
        Op::Union { inputs } if inputs.len() == 1 => inputs[0].schema.key.clone(),
        Op::Union { .. } => None,
    }
}

fn through(input: &Plan, exprs: &[Expr]) -> Option<Vec<usize>> {
    let key = input.schema.key.as_ref()?;
    let equal = equal_columns(input);
    let stands_for =
        |column: usize, k: usize| column == k || equal.iter().any(|c| c.contains(&column) && c.contains(&k));
    let key: Option<BTreeSet<usize>> =
        key.iter().map(|k| exprs.iter().position(|e| e.column().is_some_and(|c| stands_for(c, *k)))).collect();
    key.map(|key| key.into_iter().collect())
}

/// Columns that have one value in every row, because an inner join matched them.
fn equal_columns(plan: &Plan) -> Vec<BTreeSet<usize>> {
    let mut classes: Vec<BTreeSet<usize>> = Vec::new();
    match &plan.op {
        Op::Filter { input, .. } | Op::Temporal { input, .. } => return equal_columns(input),
        Op::Project { input, exprs } => {
            for class in equal_columns(input) {
                let kept = exprs.iter().enumerate().filter(|(_, e)| e.column().is_some_and(|c| class.contains(&c)));
                classes.push(kept.map(|(i, _)| i).collect());
            }
        }
        Op::Join { left, right, kind, on } => {
            let width = left.schema.columns.len();
            classes.extend(equal_columns(left));
            classes.extend(equal_columns(right).iter().map(|class| class.iter().map(|c| c + width).collect()));
            if *kind == JoinKind::Inner {
                for (l, r) in on {
                    merge(&mut classes, *l, r + width);
                }
            }
        }
        _ => {}
    }
    classes
}

fn merge(classes: &mut Vec<BTreeSet<usize>>, a: usize, b: usize) {
    let (mut one, rest): (Vec<_>, Vec<_>) = classes.drain(..).partition(|c| c.contains(&a) || c.contains(&b));
    one.push(BTreeSet::from([a, b]));
    *classes = rest;
    classes.push(one.into_iter().flatten().collect());
}

/// Each left row meets at most one right row if the join covers the right key, and the other way round.
fn join(left: &Plan, right: &Plan, kind: JoinKind, on: &[(usize, usize)]) -> Option<Vec<usize>> {
    let (left_key, right_key) = (left.schema.key.as_ref(), right.schema.key.as_ref());
    let left_on: BTreeSet<usize> = on.iter().map(|(l, _)| *l).collect();
    let right_on: BTreeSet<usize> = on.iter().map(|(_, r)| *r).collect();
    let width = left.schema.columns.len();
    let shifted = |key: &[usize]| key.iter().map(|k| k + width).collect::<Vec<_>>();
    let one_right = right_key.is_some_and(|k| k.iter().all(|c| right_on.contains(c)));
    if one_right && left_key.is_some() {
        return left_key.cloned();
    }
    let one_left = left_key.is_some_and(|k| k.iter().all(|c| left_on.contains(c)));
    if one_left && kind == JoinKind::Inner && right_key.is_some() {
        return right_key.map(|k| shifted(k));
    }
    // Both keys; what the join makes equal need not be named twice.
    let equal: BTreeSet<usize> =
        on.iter().filter(|(l, _)| left_key.is_some_and(|k| k.contains(l))).map(|(_, r)| *r).collect();
    let rest: Vec<usize> =
        right_key?.iter().copied().filter(|c| !(kind == JoinKind::Inner && equal.contains(c))).collect();
    Some([left_key?.clone(), shifted(&rest)].concat())
}
