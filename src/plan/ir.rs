//! The plan of a view: a small tree of relational operators over positions, not names.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion_physical_expr::PhysicalExpr;

use super::temporal::Bound;
use crate::row::ObjectId;
use crate::row::schema::Schema;

/// An operator with the schema of its output: column types, names and, where it can be shown, a unique key.
#[derive(Clone, Debug)]
pub struct Plan {
    pub op: Op,
    pub schema: Schema,
}

/// Every input column is addressed by its position in the input's schema.
#[derive(Clone, Debug)]
pub enum Op {
    /// These columns of a base table, local table or materialized view.
    Get {
        object: ObjectId,
        name: String,
        columns: Vec<usize>,
    },
    /// Rows that never change; each once.
    Constant {
        rows: RecordBatch,
    },
    /// Rows for which every predicate is TRUE; they are tried in order, so a guard comes before what it guards.
    Filter {
        input: Box<Plan>,
        predicates: Vec<Expr>,
    },
    /// Rows at the times that all bounds allow; only in plans of views, in place of conditions on now().
    Temporal {
        input: Box<Plan>,
        bounds: Vec<Bound>,
    },
    Project {
        input: Box<Plan>,
        exprs: Vec<Expr>,
    },
    /// Output: the left columns, then the right ones. Keys of a pair have one Arrow type; a NULL key matches nothing.
    /// No pair: a cross join.
    Join {
        left: Box<Plan>,
        right: Box<Plan>,
        kind: JoinKind,
        on: Vec<(usize, usize)>,
    },
    /// Output: the key columns, then one column an aggregate. NULL keys group together. Without aggregates: DISTINCT.
    /// Without keys: exactly one row, also over no input.
    Reduce {
        input: Box<Plan>,
        keys: Vec<usize>,
        aggregates: Vec<Aggregate>,
    },
    /// UNION ALL: the inputs have one list of Arrow types.
    Union {
        inputs: Vec<Plan>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    /// Left rows without a match appear once, the right columns NULL.
    Left,
}

/// A scalar expression over one row, compiled; `text` is how EXPLAIN and an error row name it.
#[derive(Clone, Debug)]
pub struct Expr {
    pub physical: Arc<dyn PhysicalExpr>,
    pub text: String,
    /// True if no row can make it fail: only then may it be moved below a join.
    pub infallible: bool,
}

impl Expr {
    /// The position, if the expression is a bare column.
    pub fn column(&self) -> Option<usize> {
        let column = self.physical.downcast_ref::<datafusion_physical_expr::expressions::Column>();
        column.map(|c| c.index())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    pub function: AggregateFunction,
    /// The argument's position in the input; `None` only for `CountAll`.
    pub input: Option<usize>,
}

/// The output's type is the node's schema's: SUM and AVG of integers and decimals are exact decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    CountAll,
    Count,
    Sum,
    /// Rounded half away from zero at the output's scale.
    Avg,
    Min,
    Max,
}

impl Plan {
    pub fn inputs(&self) -> Vec<&Plan> {
        match &self.op {
            Op::Get { .. } | Op::Constant { .. } => vec![],
            Op::Filter { input, .. }
            | Op::Temporal { input, .. }
            | Op::Project { input, .. }
            | Op::Reduce { input, .. } => vec![input],
            Op::Join { left, right, .. } => vec![left, right],
            Op::Union { inputs } => inputs.iter().collect(),
        }
    }

    /// The objects the plan reads, each once, in order of first use.
    pub fn objects(&self) -> Vec<ObjectId> {
        let mut found = Vec::new();
        let mut todo = vec![self];
        while let Some(plan) = todo.pop() {
            if let Op::Get { object, .. } = &plan.op
                && !found.contains(object)
            {
                found.push(*object);
            }
            todo.extend(plan.inputs().into_iter().rev());
        }
        found
    }
}
