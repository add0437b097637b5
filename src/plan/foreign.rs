//! Tables that no source follows: what one SELECT reads of them, said to their server.

use arrow::array::ArrayRef;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::plan::functions::bound::Bound;
use crate::plan::ir::{Op, Plan};
use crate::plan::lower::Lowered;
use crate::row::ObjectId;
use crate::row::datum::Datum;
use crate::row::schema::Schema;
use crate::row::types::SqlType;
use crate::sources::mysql::connect::{literal, quoted};

/// A table as its server shows it, under an id that lives as long as the statement.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub object: ObjectId,
    pub connection: ObjectId,
    /// Connection, database, table.
    pub name: [String; 3],
    pub schema: Schema,
}

/// What a server is asked of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Positions in the table's schema; what the plan reads, and never none.
    pub columns: Vec<usize>,
    /// ` WHERE … LIMIT …`: lets all rows through that the plan needs. The plan filters and counts again.
    pub clause: String,
}

/// Makes the plan read only some columns of the table, and says which and of what rows.
pub fn ask(lowered: &mut Lowered, table: &Foreign) -> Asked {
    let mut gets = Vec::new();
    find(&lowered.plan, table.object, None, &mut gets);
    let mut columns: Vec<usize> = gets.iter().flat_map(|get| get.columns.iter().copied()).collect();
    columns.sort_unstable();
    columns.dedup();
    if columns.is_empty() {
        columns.push(0);
    }
    // Where the table is read twice, each reading may need other rows.
    let conditions = match gets.as_slice() {
        [get] => get.conditions(table),
        _ => Vec::new(),
    };
    let mut clause = String::new();
    if !conditions.is_empty() {
        clause += &format!(" WHERE {}", conditions.join(" AND "));
    }
    if let (Some(limit), true, true) = (lowered.limit, lowered.order_by.is_empty(), is_bare(&lowered.plan)) {
        clause += &format!(" LIMIT {}", limit.saturating_add(lowered.offset));
    }
    renumber(&mut lowered.plan, table.object, &columns);
    Asked { columns, clause }
}

/// One reading of a table, with the filter right above it.
struct Get<'a> {
    columns: &'a [usize],
    filter: Option<&'a Plan>,
}

fn find<'a>(plan: &'a Plan, object: ObjectId, above: Option<&'a Plan>, gets: &mut Vec<Get<'a>>) {
    match &plan.op {
        Op::Get { object: found, columns, .. } if *found == object => gets.push(Get { columns, filter: above }),
        _ => plan.inputs().into_iter().for_each(|input| find(input, object, Some(plan), gets)),
    }
}

fn renumber(plan: &mut Plan, object: ObjectId, kept: &[usize]) {
    match &mut plan.op {
        Op::Get { object: found, columns, .. } if *found == object => {
            let place = |column: &usize| kept.binary_search(column).expect("every column that is read is kept");
            *columns = columns.iter().map(place).collect();
        }
        Op::Get { .. } | Op::Constant { .. } => {}
        Op::Filter { input, .. }
        | Op::Temporal { input, .. }
        | Op::Project { input, .. }
        | Op::Reduce { input, .. } => {
            renumber(input, object, kept);
        }
        Op::Join { left, right, .. } => [left, right].into_iter().for_each(|input| renumber(input, object, kept)),
        Op::Union { inputs } => inputs.iter_mut().for_each(|input| renumber(input, object, kept)),
    }
}

/// Each row of the table is a row of the answer.
fn is_bare(plan: &Plan) -> bool {
    match &plan.op {
        Op::Get { .. } => true,
        Op::Project { input, .. } => is_bare(input),
        _ => false,
    }
}

impl Get<'_> {
    /// Behind one that may fail nothing is asked of the server: a row it leaves out could not fail any more.
    fn conditions(&self, table: &Foreign) -> Vec<String> {
        let Some(Plan { op: Op::Filter { predicates, .. }, .. }) = self.filter else { return Vec::new() };
        let columns = Columns { table, read: self.columns };
        let safe = predicates.iter().take_while(|predicate| predicate.infallible);
        safe.filter_map(|predicate| columns.condition(&*predicate.physical)).collect()
    }
}

/// The columns that an expression's positions mean.
struct Columns<'a> {
    table: &'a Foreign,
    read: &'a [usize],
}

impl Columns<'_> {
    /// A condition in MySQL's words that is TRUE wherever the expression is; `None`: nothing can be said so.
    fn condition(&self, expr: &dyn PhysicalExpr) -> Option<String> {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, right) = (&**binary.left(), &**binary.right());
            return match binary.op() {
                Operator::And => match (self.condition(left), self.condition(right)) {
                    (Some(a), Some(b)) => Some(format!("({a} AND {b})")),
                    (a, b) => a.or(b),
                },
                Operator::Or => Some(format!("({} OR {})", self.condition(left)?, self.condition(right)?)),
                operator => self.comparison(*operator, left, right),
            };
        }
        if let Some(list) = expr.downcast_ref::<InListExpr>() {
            let (name, sql_type) = self.column(&**list.expr()).filter(|_| !list.negated())?;
            let values: Option<Vec<String>> = list.list().iter().map(|item| value(&**item, sql_type)).collect();
            return Some(format!("{name} IN ({})", values?.join(", ")));
        }
        if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            return Some(format!("{} IS NULL", self.column(&**is_null.arg())?.0));
        }
        let is_not_null = expr.downcast_ref::<IsNotNullExpr>()?;
        Some(format!("{} IS NOT NULL", self.column(&**is_not_null.arg())?.0))
    }

    fn comparison(&self, operator: Operator, left: &dyn PhysicalExpr, right: &dyn PhysicalExpr) -> Option<String> {
        let (operator, (name, sql_type), constant) = match self.column(left) {
            Some(column) => (operator, column, right),
            None => (operator.swap()?, self.column(right)?, left),
        };
        let word = match operator {
            Operator::Eq => "=",
            // A collation may find texts equal that are not, and orders them in its own way.
            _ if sql_type.is_text() => return None,
            Operator::NotEq => "<>",
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
            _ => return None,
        };
        Some(format!("{name} {word} {}", value(constant, sql_type)?))
    }

    /// A column and the type it is compared in.
    fn column<'b>(&'b self, expr: &'b dyn PhysicalExpr) -> Option<(String, &'b SqlType)> {
        if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            let wider = call.fun().inner().downcast_ref::<Bound>()?.widens()?;
            return Some((self.column(&**call.args().first()?)?.0, wider));
        }
        let position = self.read[expr.downcast_ref::<Column>()?.index()];
        let column = &self.table.schema.columns[position];
        Some((quoted(&column.name), &column.sql_type))
    }
}

/// A constant of a type that means the same in MySQL.
fn value(expr: &dyn PhysicalExpr, sql_type: &SqlType) -> Option<String> {
    let array: ArrayRef = expr.downcast_ref::<Literal>()?.value().to_array().ok()?;
    if array.data_type() != &sql_type.arrow() {
        return None;
    }
    let text = Datum::of(&array, sql_type, 0).text(sql_type)?;
    match sql_type {
        SqlType::Int { .. } | SqlType::Decimal { .. } => Some(text),
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) => Some(literal(&text)),
        _ => None,
    }
}
