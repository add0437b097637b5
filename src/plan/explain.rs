//! The one printer of plans: EXPLAIN, goldens and the plan hash.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::SEMANTICS_VERSION;
use super::ir::{Aggregate, AggregateFunction, JoinKind, Op, Plan};
use super::scalars::column_text;
use super::temporal::Bound;
use crate::row::schema::Schema;

/// One line an operator, inputs indented below it, the result's columns first.
pub fn explain(plan: &Plan) -> String {
    let mut out = String::new();
    for (i, column) in plan.schema.columns.iter().enumerate() {
        let null = if column.nullable { "" } else { " NOT NULL" };
        let separator = if i == 0 { "columns: " } else { ", " };
        write!(out, "{separator}{} {}{null}", column.name, column.sql_type).expect("a String takes all");
    }
    let key = match &plan.schema.key {
        None => "none: rows keep their multiplicity".to_string(),
        Some(key) if key.is_empty() => "(): at most one row".to_string(),
        Some(key) => columns(&plan.schema, key),
    };
    writeln!(out, "\nkey: {key}").expect("a String takes all");
    node(plan, 0, &mut out);
    out
}

/// Changes whenever the plan, its types or the meaning of plans change.
pub fn plan_hash(plan: &Plan) -> u64 {
    let mut digest = Sha256::new();
    digest.update(SEMANTICS_VERSION.to_le_bytes());
    digest.update(explain(plan));
    let mut todo = vec![plan];
    while let Some(plan) = todo.pop() {
        for column in &plan.schema.columns {
            digest.update(column.sql_type.to_string());
            digest.update([column.nullable as u8, b'\n']);
        }
        if let Op::Get { object, columns, .. } = &plan.op {
            digest.update(object.0.to_le_bytes());
            columns.iter().for_each(|c| digest.update((*c as u64).to_le_bytes()));
        }
        todo.extend(plan.inputs());
    }
    let bytes: [u8; 32] = digest.finalize().into();
    u64::from_le_bytes(bytes[..8].try_into().expect("eight of 32 bytes"))
}

fn node(plan: &Plan, depth: usize, out: &mut String) {
    let line = match &plan.op {
        Op::Get { name, .. } => {
            let all: Vec<usize> = (0..plan.schema.columns.len()).collect();
            format!("Get {name} {}", columns(&plan.schema, &all))
        }
        Op::Constant { rows } => format!("Constant, {} rows", rows.num_rows()),
        Op::Filter { predicates, .. } => {
            let texts: Vec<&str> = predicates.iter().map(|p| p.text.as_str()).collect();
            format!("Filter {}", texts.join(" AND "))
        }
        Op::Temporal { bounds, .. } => {
            let texts: Vec<&str> = bounds.iter().map(|bound| bound.text.as_str()).collect();
            let spans: Vec<String> = bounds.iter().map(Bound::describe).collect();
            format!("Temporal Filter {}: {}", texts.join(" AND "), spans.join(", "))
        }
        Op::Project { exprs, .. } => {
            let texts = exprs.iter().zip(&plan.schema.columns).map(|(e, c)| {
                let plain = e.text.split('#').next() == Some(c.name.as_str());
                if plain { e.text.clone() } else { format!("{} AS {}", e.text, c.name) }
            });
            format!("Project {}", texts.collect::<Vec<_>>().join(", "))
        }
        Op::Join { left, right, kind, on } => {
            let kind = match (kind, on.is_empty()) {
                (JoinKind::Inner, true) => "Cross Join",
                (JoinKind::Inner, false) => "Inner Join",
                (JoinKind::Left, _) => "Left Join",
            };
            let pair = |(l, r): &(usize, usize)| {
                format!("{} = {}", column_text(&left.schema, *l), column_text(&right.schema, *r))
            };
            let pairs: Vec<String> = on.iter().map(pair).collect();
            if pairs.is_empty() { kind.to_string() } else { format!("{kind} on {}", pairs.join(", ")) }
        }
        Op::Reduce { input, keys, aggregates } => {
            let keys =
                if keys.is_empty() { "all rows".to_string() } else { format!("by {}", columns(&input.schema, keys)) };
            let texts: Vec<String> = aggregates.iter().map(|a| aggregate_text(a, &input.schema)).collect();
            match texts.is_empty() {
                true => format!("Distinct {keys}"),
                false => format!("Reduce {keys}: {}", texts.join(", ")),
            }
        }
        Op::Union { .. } => "Union".to_string(),
    };
    writeln!(out, "{:indent$}{line}", "", indent = depth * 2).expect("a String takes all");
    for input in plan.inputs() {
        node(input, depth + 1, out);
    }
}

fn columns(schema: &Schema, positions: &[usize]) -> String {
    let names: Vec<String> = positions.iter().map(|p| column_text(schema, *p)).collect();
    format!("({})", names.join(", "))
}

/// An aggregate as EXPLAIN and error rows name it.
pub fn aggregate_text(aggregate: &Aggregate, input: &Schema) -> String {
    let argument = aggregate.input.map_or("*".to_string(), |i| column_text(input, i));
    let name = match aggregate.function {
        AggregateFunction::CountAll | AggregateFunction::Count => "COUNT",
        AggregateFunction::Sum => "SUM",
        AggregateFunction::Avg => "AVG",
        AggregateFunction::Min => "MIN",
        AggregateFunction::Max => "MAX",
    };
    format!("{name}({argument})")
}
