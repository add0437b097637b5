//! What a dataflow is to build, and what of it can be shared.

use crate::plan::ir::{JoinKind, Op, Plan};
use crate::row::schema::Schema;
use crate::row::{ObjectId, Ts};

/// A dataflow to install.
#[derive(Clone, Debug)]
pub struct Description {
    pub id: ObjectId,
    pub name: String,
    /// What it reads is complete through here when it goes live; nothing below is seen outside.
    pub as_of: Ts,
    pub build: Build,
}

#[derive(Clone, Debug)]
pub enum Build {
    /// A shared arrangement of columns of a table, which is fed, or of a view, which is imported.
    Arrangement {
        of: ObjectId,
        of_view: bool,
        /// Of `of`.
        schema: Schema,
        columns: Vec<usize>,
        /// Positions in `columns`.
        key: Vec<usize>,
        drop_null_keys: bool,
    },
    /// A view: exports its rows, keyed by the plan's key (else by the whole row), and its errors.
    View {
        plan: Plan,
        /// A key that the user declared: a doubled one is an error.
        declared_key: Option<Vec<usize>>,
        shared: Vec<(ArrangementKey, ObjectId)>,
    },
}

/// Two joins that need the same columns of one object by the same key share an arrangement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArrangementKey {
    pub of: ObjectId,
    pub columns: Vec<usize>,
    /// Positions in `columns`.
    pub key: Vec<usize>,
    pub drop_null_keys: bool,
}

/// The arrangements that a plan's joins can share: those of sides that are a bare table or view.
pub fn arrangements(plan: &Plan) -> Vec<ArrangementKey> {
    let mut found = Vec::new();
    each(plan, &mut |plan| {
        if let Op::Join { left, right, kind, on } = &plan.op {
            let sides = [(left, JoinSide::Left, left_keys(on)), (right, JoinSide::Right, right_keys(on))];
            for (side, which, key) in sides {
                found.extend(shareable(side, key, which, *kind).filter(|new| !found.contains(new)));
            }
        }
    });
    found
}

/// The tables a plan reads as a stream, not only through shared arrangements.
pub fn fed_tables(plan: &Plan, is_view: &dyn Fn(ObjectId) -> bool) -> Vec<ObjectId> {
    let mut found = Vec::new();
    streams(plan, &mut |object| {
        if !is_view(object) && !found.contains(&object) {
            found.push(object);
        }
    });
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinSide {
    Left,
    Right,
}

/// The shared arrangement of one side of a join, if it is a bare table or view.
pub(super) fn shareable(side: &Plan, key: Vec<usize>, which: JoinSide, kind: JoinKind) -> Option<ArrangementKey> {
    let Op::Get { object, columns, .. } = &side.op else { return None };
    let drop_null_keys = drops_null_keys(side, &key, which, kind);
    Some(ArrangementKey { of: *object, columns: columns.clone(), key, drop_null_keys })
}

/// NULL matches nothing; only the left side of a left join keeps its rows all the same.
pub(super) fn drops_null_keys(side: &Plan, key: &[usize], which: JoinSide, kind: JoinKind) -> bool {
    let nullable = key.iter().any(|k| side.schema.columns[*k].nullable);
    nullable && (kind == JoinKind::Inner || which == JoinSide::Right)
}

pub(super) fn left_keys(on: &[(usize, usize)]) -> Vec<usize> {
    on.iter().map(|(left, _)| *left).collect()
}

pub(super) fn right_keys(on: &[(usize, usize)]) -> Vec<usize> {
    on.iter().map(|(_, right)| *right).collect()
}

fn each(plan: &Plan, visit: &mut impl FnMut(&Plan)) {
    visit(plan);
    plan.inputs().into_iter().for_each(|input| each(input, visit));
}

/// Visits the objects that are read as streams: every Get but those right below a join.
fn streams(plan: &Plan, visit: &mut impl FnMut(ObjectId)) {
    match &plan.op {
        Op::Get { object, .. } => visit(*object),
        Op::Join { left, right, .. } => {
            for side in [left, right] {
                if !matches!(side.op, Op::Get { .. }) {
                    streams(side, visit);
                }
            }
        }
        _ => plan.inputs().into_iter().for_each(|input| streams(input, visit)),
    }
}
