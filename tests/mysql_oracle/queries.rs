//! Random queries over relations: what a view may be.

use crate::expressions::{Scope, Typed};
use crate::random::Random;
use crate::tables::{Column, Kind, Relation};

/// A query's text and the columns it gives.
pub struct Query {
    pub text: String,
    pub columns: Vec<Column>,
    /// What it reads.
    pub reads: Vec<String>,
}

fn scope<'a>(random: &'a mut Random, relations: &[(&str, &Relation)]) -> Scope<'a> {
    let columns = relations.iter().flat_map(|(alias, relation)| {
        relation.columns.iter().map(move |c| Column { name: format!("{alias}.{}", c.name), kind: c.kind })
    });
    Scope { random, columns: columns.collect() }
}

/// `a AS c0, b AS c1, …` and the columns that makes.
fn outputs(items: Vec<Typed>) -> (String, Vec<Column>) {
    let named = items.iter().enumerate().map(|(i, (text, _))| format!("{text} AS c{i}"));
    let text = named.collect::<Vec<_>>().join(", ");
    let column = |(i, (_, kind)): (usize, Typed)| Column { name: format!("c{i}"), kind };
    (text, items.into_iter().enumerate().map(column).collect())
}

pub fn query(random: &mut Random, relations: &[Relation]) -> Query {
    let (x, y, z) = (random.below(relations.len()), random.below(relations.len()), random.below(relations.len()));
    let (x, y, z) = (&relations[x], &relations[y], &relations[z]);
    let reads = |of: &[&Relation]| of.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
    let (read, (text, columns)) = match random.below(13) {
        0..4 => (reads(&[x]), projection(random, x)),
        4 | 5 => (reads(&[x, y]), join(random, &[x, y])),
        6 => (reads(&[x, y, z]), join(random, &[x, y, z])),
        7..9 => (reads(&[x]), grouped(random, x)),
        9 => (reads(&[x]), total(random, x)),
        10 => (reads(&[x, y]), union(random, x, y)),
        11 => (reads(&[x]), distinct(random, x)),
        _ => (reads(&[x, y]), with_groups(random, x, y)),
    };
    Query { text, columns, reads: read }
}

fn where_(scope: &mut Scope<'_>) -> String {
    if scope.random.once_in(3) { String::new() } else { format!(" WHERE {}", scope.truth(2)) }
}

fn projection(random: &mut Random, x: &Relation) -> (String, Vec<Column>) {
    let mut scope = scope(random, &[("t", x)]);
    let items = (0..1 + scope.random.below(5)).map(|_| scope.any(3)).collect();
    let condition = where_(&mut scope);
    let (list, columns) = outputs(items);
    (format!("SELECT {list} FROM {} AS t{condition}", x.name), columns)
}

/// Columns of both sides that can be equal; else their first ones, which are integers or made so.
fn on(random: &mut Random, left: (&str, &Relation), right: (&str, &Relation)) -> String {
    let name = |(alias, _): (&str, &Relation), c: &Column| format!("{alias}.{}", c.name);
    let number = |k: Kind| matches!(k, Kind::Int | Kind::Decimal | Kind::Quarters | Kind::Double);
    let text = |k: Kind| matches!(k, Kind::Text | Kind::Label);
    let joins = |a: Kind, b: Kind| {
        (a == b && !matches!(a, Kind::Json | Kind::Bit | Kind::Float))
            || number(a) && number(b)
            || text(a) && text(b)
            || text(a) && number(b)
    };
    let mut pairs = Vec::new();
    for a in &left.1.columns {
        pairs.extend(right.1.columns.iter().filter(|b| joins(a.kind, b.kind)).map(|b| (name(left, a), name(right, b))));
    }
    if pairs.is_empty() {
        return format!("LENGTH({}) = 1", name(right, &right.1.columns[0]));
    }
    // `k` and `id` are made to meet.
    let keys: Vec<_> = pairs.iter().filter(|(a, b)| a.ends_with(".k") && b.ends_with(".k")).cloned().collect();
    let (a, b) = match keys.first() {
        Some(pair) if random.once_in(2) => pair.clone(),
        _ => pairs[random.below(pairs.len())].clone(),
    };
    let more = match random.below(4) {
        0 => format!(" AND {}", scope(random, &[right]).truth(1)),
        1 => format!(" AND {}", scope(random, &[left]).truth(1)),
        _ => String::new(),
    };
    format!("{a} = {b}{more}")
}

fn join(random: &mut Random, relations: &[&Relation]) -> (String, Vec<Column>) {
    let aliases = ["l", "m", "r"];
    let sides: Vec<(&str, &Relation)> = aliases.iter().copied().zip(relations.iter().copied()).collect();
    let mut from = format!("{} AS l", relations[0].name);
    for i in 1..sides.len() {
        let against = random.below(i);
        let condition = on(random, sides[against], sides[i]);
        let kind = random.one(&["JOIN", "LEFT JOIN"]);
        from += &format!(" {kind} {} AS {} ON {condition}", relations[i].name, aliases[i]);
    }
    let mut scope = scope(random, &sides);
    let items =
        (0..2 + scope.random.below(3)).map(|_| if scope.random.once_in(2) { scope.bare() } else { scope.any(2) });
    let items = items.collect();
    let condition = if scope.random.once_in(2) { where_(&mut scope) } else { String::new() };
    let (list, columns) = outputs(items);
    (format!("SELECT {list} FROM {from}{condition}"), columns)
}

fn aggregates(scope: &mut Scope<'_>) -> Vec<Typed> {
    let count = 1 + scope.random.below(3);
    let aggregate = |scope: &mut Scope<'_>| match scope.random.below(8) {
        0 => ("COUNT(*)".to_string(), Kind::Int),
        1 => (format!("COUNT({})", scope.any(1).0), Kind::Int),
        2 | 3 => {
            let (x, kind) = scope.summable();
            (format!("SUM({x})"), if kind == Kind::Quarters { kind } else { Kind::Decimal })
        }
        4 => {
            let (x, kind) = scope.summable();
            (format!("AVG({x})"), if kind == Kind::Quarters { Kind::Double } else { Kind::Decimal })
        }
        _ => {
            let (x, kind) = if scope.random.once_in(2) { scope.key() } else { scope.any(1) };
            let kind = if kind == Kind::Label { Kind::Text } else { kind };
            match kind {
                Kind::Json | Kind::Bit => ("COUNT(*)".to_string(), Kind::Int),
                _ => (format!("{}({x})", scope.random.one(&["MIN", "MAX"])), kind),
            }
        }
    };
    (0..count).map(|_| aggregate(scope)).collect()
}

fn grouped(random: &mut Random, x: &Relation) -> (String, Vec<Column>) {
    let mut scope = scope(random, &[("t", x)]);
    let keys: Vec<Typed> = (0..1 + scope.random.below(2)).map(|_| scope.key()).collect();
    let mut items = keys.clone();
    items.extend(aggregates(&mut scope));
    let condition = where_(&mut scope);
    let by = keys.iter().map(|k| k.0.clone()).collect::<Vec<_>>().join(", ");
    let having = match scope.random.below(5) {
        0 => " HAVING COUNT(*) > 1".to_string(),
        1 => format!(" HAVING SUM({}) > 2", scope.summable().0),
        2 => format!(" HAVING MIN({}) IS NOT NULL", scope.key().0),
        _ => String::new(),
    };
    let (list, columns) = outputs(items);
    (format!("SELECT {list} FROM {} AS t{condition} GROUP BY {by}{having}", x.name), columns)
}

fn total(random: &mut Random, x: &Relation) -> (String, Vec<Column>) {
    let mut scope = scope(random, &[("t", x)]);
    let (list, columns) = outputs(aggregates(&mut scope));
    let condition = where_(&mut scope);
    (format!("SELECT {list} FROM {} AS t{condition}", x.name), columns)
}

fn distinct(random: &mut Random, x: &Relation) -> (String, Vec<Column>) {
    let mut scope = scope(random, &[("t", x)]);
    let items: Vec<Typed> = (0..1 + scope.random.below(3)).map(|_| scope.key()).collect();
    let condition = where_(&mut scope);
    let (list, columns) = outputs(items);
    (format!("SELECT DISTINCT {list} FROM {} AS t{condition}", x.name), columns)
}

/// Branches of kinds that go together, each column brought to one type.
fn union(random: &mut Random, x: &Relation, y: &Relation) -> (String, Vec<Column>) {
    let width = 1 + random.below(3);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _ in 0..width {
        let number = random.once_in(2);
        for (items, relation) in [(&mut left, x), (&mut right, y)] {
            let mut scope = scope(random, &[("t", relation)]);
            items.push(match number {
                true => scope.number(1),
                false if scope.random.once_in(3) => scope.key(),
                false => (scope.text(1), Kind::Text),
            });
        }
    }
    let kinds: Vec<Kind> = left.iter().zip(&right).map(|(a, b)| if a.1 == b.1 { a.1 } else { Kind::Text }).collect();
    let ((left, _), (right, _)) = (outputs(left), outputs(right));
    let conditions = [where_(&mut scope(random, &[("t", x)])), where_(&mut scope(random, &[("t", y)]))];
    let columns = kinds.iter().enumerate().map(|(i, kind)| Column { name: format!("c{i}"), kind: *kind }).collect();
    let all = random.one(&["UNION ALL", "UNION ALL", "UNION"]);
    let text = format!(
        "SELECT {left} FROM {} AS t{} {all} SELECT {right} FROM {} AS t{}",
        x.name, conditions[0], y.name, conditions[1]
    );
    (text, columns)
}

fn with_groups(random: &mut Random, x: &Relation, y: &Relation) -> (String, Vec<Column>) {
    let (inner, columns) = grouped(random, x);
    let groups = Relation { name: "g".into(), columns };
    let condition = on(random, ("g", &groups), ("r", y));
    let kind = random.one(&["JOIN", "LEFT JOIN"]);
    let mut scope = scope(random, &[("g", &groups), ("r", y)]);
    let items = (0..2 + scope.random.below(2)).map(|_| scope.bare()).collect();
    let (list, columns) = outputs(items);
    (format!("WITH g AS ({inner}) SELECT {list} FROM g {kind} {} AS r ON {condition}", y.name), columns)
}
