//! Scalar expressions: a resolved call becomes a typed, compiled expression over positions.
//!
//! This is the one place where operators get MySQL's meaning: which type a comparison takes place in, what guards what,
//! where a value is cast. Types are those of the input's columns; DataFusion's own coercions never run.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema as ArrowSchema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::{Expr as Logical, Operator};
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::functions::arithmetic::Op;
use super::functions::bound::{Bound, Kernel};
use super::functions::cast::{self, Mode, Zone};
use super::functions::types::{self, LONGTEXT, Number, TypeError};
use super::functions::{self, Function, Param, numbers};
use super::ir::Expr;
use super::refuse::{Source, not_supported};
use super::{PlanError, PlanErrorKind};
use crate::row::datum::{Datum, single};
use crate::row::schema::Schema;
use crate::row::types::{BIGINT, SqlType};

mod literal;
mod time;

use literal::literal_of;

/// A compiled expression with what is known of its values.
#[derive(Clone, Debug)]
pub struct Scalar {
    pub expr: Expr,
    pub sql_type: SqlType,
    pub nullable: bool,
    /// The value, if it is the same for every row.
    pub literal: Option<Datum>,
}

/// What names in an expression stand for.
pub struct Scope<'a> {
    /// Names, in the order of the columns of `schema`.
    pub names: &'a DFSchema,
    pub schema: &'a Schema,
    pub zone: Zone,
    pub source: Source<'a>,
}

/// Functions whose result can be NULL though no argument is.
const NULLABLE: &[&str] = &["sqrt", "date", "date_format", "datediff", "dayofweek", "weekday", "dayofyear"];
/// DATE_FORMAT's specifiers that number weeks by a server setting.
const WEEK_SPECIFIERS: [&str; 6] = ["%U", "%u", "%V", "%v", "%X", "%x"];

impl Scope<'_> {
    pub fn scalar(&self, expr: &Logical) -> Result<Scalar, PlanError> {
        match expr {
            Logical::Alias(alias) => self.scalar(&alias.expr),
            Logical::Column(column) => {
                let position = self.names.index_of_column(column).map_err(|e| internal(&e))?;
                Ok(self.column(position))
            }
            Logical::Literal(value, _) => literal_of(value),
            Logical::ScalarFunction(call) => {
                let args = call.args.iter().map(|a| self.scalar(a)).collect::<Result<Vec<_>, _>>()?;
                self.call(call.func.name(), args).map_err(|e| self.type_error(e, expr))
            }
            other => Err(not_supported(&format!("the expression {other}"), None, self.position(other))),
        }
    }

    pub fn column(&self, position: usize) -> Scalar {
        let column = &self.schema.columns[position];
        let text = self.column_name(position);
        Scalar {
            expr: Expr { physical: Arc::new(Column::new(&column.name, position)), text, infallible: true },
            sql_type: column.sql_type.clone(),
            nullable: column.nullable,
            literal: None,
        }
    }

    /// The column's name, with its table's where the name alone is not clear.
    fn column_name(&self, position: usize) -> String {
        let name = &self.schema.columns[position].name;
        let same = self.schema.columns.iter().filter(|c| c.name.eq_ignore_ascii_case(name)).count();
        match self.names.iter().nth(position) {
            Some((Some(table), _)) if same > 1 => format!("{}.{name}", table.table()),
            _ => name.clone(),
        }
    }

    /// `a = b`, as USING has it.
    pub fn equality(&self, a: Scalar, b: Scalar) -> Result<Scalar, TypeError> {
        self.compare(Operator::Eq, "=", a, b)
    }

    pub fn type_error(&self, error: TypeError, expr: &Logical) -> PlanError {
        PlanError {
            kind: PlanErrorKind::TypeMismatch,
            message: error.message,
            hint: error.hint.map(str::to_string),
            position: self.position(expr),
        }
    }

    /// Where the first column of an expression stands in the text.
    fn position(&self, expr: &Logical) -> Option<usize> {
        let mut todo = vec![expr];
        while let Some(expr) = todo.pop() {
            match expr {
                Logical::Column(column) => {
                    let start = column.spans.first()?.start;
                    return self.source.offset(sqlparser::tokenizer::Location::new(start.line, start.column));
                }
                Logical::ScalarFunction(call) => todo.extend(call.args.iter().rev()),
                Logical::Alias(alias) => todo.push(&alias.expr),
                _ => {}
            }
        }
        None
    }

    fn call(&self, name: &str, args: Vec<Scalar>) -> Result<Scalar, TypeError> {
        if let Some(op) = Op::parse(name) {
            return self.arithmetic(op, args);
        }
        if let Some(function) = functions::find(name) {
            return self.function(function, args);
        }
        let mut args = args;
        let mut next = || args.remove(0);
        match name {
            "and" => Ok(and(next(), next())),
            "or" => Ok(or(next(), next())),
            "xor" => Ok(binary(Operator::NotEq, "XOR", next(), next())),
            "not" => Ok(not(next())),
            "truth" => self.truth(next()),
            "is_true" => Ok(binary(Operator::IsNotDistinctFrom, "IS", next(), boolean(true))),
            "is_false" => Ok(binary(Operator::IsNotDistinctFrom, "IS", next(), boolean(false))),
            "is_null" => Ok(is_null(next())),
            "is_not_null" => Ok(is_not_null(next())),
            "in" => self.in_list(next(), args),
            "like" => self.like(next(), next()),
            "case" => self.case(args),
            "cast" => self.explicit_cast(next(), next()),
            "if" => self.case(args),
            "interval" => self.interval(next(), next(), &next()),
            "now" | "utc_timestamp" => Ok(self.clock(name, &next())),
            "ifnull" | "coalesce" => self.coalesce(args),
            "nullif" => {
                let (a, b) = (next(), next());
                let equal = self.compare(Operator::Eq, "=", a.clone(), b)?;
                let null = null(&a.sql_type);
                self.case(vec![equal, null, a])
            }
            _ => {
                let operator = comparison_operator(name).expect("a form that the function list names");
                self.compare(operator, name, next(), next())
            }
        }
    }

    /// `x` as a truth value: a number is true unless it is zero.
    fn truth(&self, x: Scalar) -> Result<Scalar, TypeError> {
        match (&x.sql_type, types::number(&x.sql_type)) {
            (SqlType::Bool, _) => Ok(x),
            (SqlType::Null, _) => Ok(null(&SqlType::Bool)),
            (_, Err(error)) => Err(error),
            _ => self.compare(Operator::NotEq, "<>", x, literal(Datum::Int(0), BIGINT)),
        }
    }

    fn compare(&self, operator: Operator, name: &str, a: Scalar, b: Scalar) -> Result<Scalar, TypeError> {
        let (a, b) = (self.beside(a, &b)?, b);
        let b = self.beside(b, &a)?;
        let sql_type = types::comparison(&a.sql_type, &b.sql_type)?;
        if a.sql_type.arrow() == b.sql_type.arrow() && !matches!(a.sql_type, SqlType::Null) {
            return Ok(binary(operator, name, a, b));
        }
        Ok(binary(operator, name, self.cast(a, &sql_type), self.cast(b, &sql_type)))
    }

    /// A text literal beside a date or an integer is read as one; an integer takes the other's width if it fits.
    fn beside(&self, x: Scalar, other: &Scalar) -> Result<Scalar, TypeError> {
        if let (Some(Datum::Int(v)), SqlType::Int { .. }) = (&x.literal, &other.sql_type) {
            let (least, most) = cast::int_range(&other.sql_type);
            let fits = (least..=most).contains(&i128::from(*v));
            return Ok(if fits { self.cast(x, &other.sql_type) } else { x });
        }
        if x.is_clock() && matches!(other.sql_type, SqlType::Timestamp(_)) {
            return Ok(self.cast(x, &SqlType::Timestamp(6)));
        }
        let Some(Datum::Text(text)) = &x.literal else { return Ok(x) };
        let read = match &other.sql_type {
            SqlType::Date if Datum::parse(text, &SqlType::Date).is_ok() => SqlType::Date,
            SqlType::Date | SqlType::Datetime(_) => SqlType::Datetime(6),
            SqlType::Timestamp(_) => SqlType::Timestamp(6),
            SqlType::Time(_) => SqlType::Time(6),
            SqlType::Int { .. } if text.parse::<i64>().is_ok() => BIGINT,
            _ => return Ok(x),
        };
        let datum = cast::value(&Datum::Text(text.clone()), &x.sql_type, &read, Mode::Assign, self.zone);
        match datum {
            Ok(datum) => Ok(literal(datum, read)),
            Err(_) => Err(TypeError::new(format!("'{text}' is not a value of type {}", other.sql_type))),
        }
    }

    fn in_list(&self, x: Scalar, list: Vec<Scalar>) -> Result<Scalar, TypeError> {
        let mut list = list.into_iter().map(|item| self.beside(item, &x)).collect::<Result<Vec<_>, _>>()?;
        let sql_types =
            list.iter().map(|i| types::comparison(&x.sql_type, &i.sql_type)).collect::<Result<Vec<_>, _>>()?;
        let one_type = sql_types.iter().all(|t| *t == sql_types[0]);
        if !one_type || list.iter().any(|i| i.literal.is_none()) {
            let first = self.compare(Operator::Eq, "=", x.clone(), list.remove(0))?;
            return list
                .into_iter()
                .try_fold(first, |found, item| Ok(or(found, self.compare(Operator::Eq, "=", x.clone(), item)?)));
        }
        let x = self.cast(x, &sql_types[0]);
        let list: Vec<Scalar> = list.into_iter().map(|i| self.cast(i, &sql_types[0])).collect();
        let texts: Vec<&str> = list.iter().map(|i| i.expr.text.as_str()).collect();
        let text = format!("{} IN ({})", x.expr.text, texts.join(", "));
        let nullable = x.nullable || list.iter().any(|i| i.nullable);
        let items = list.iter().map(|i| Arc::clone(&i.expr.physical)).collect();
        let field = Field::new("x", sql_types[0].arrow(), true);
        let schema =
            ArrowSchema::new(self.schema.arrow().fields().iter().cloned().chain([Arc::new(field)]).collect::<Vec<_>>());
        let physical = InListExpr::try_new(Arc::clone(&x.expr.physical), items, false, &schema)
            .expect("the items have the type of what they are compared with");
        let expr = Expr { physical: Arc::new(physical), text, infallible: x.expr.infallible };
        Ok(Scalar { expr, sql_type: SqlType::Bool, nullable, literal: None })
    }

    fn like(&self, x: Scalar, pattern: Scalar) -> Result<Scalar, TypeError> {
        let (x, pattern) = (self.to_text(x), self.to_text(pattern));
        let physical = LikeExpr::new(false, false, Arc::clone(&x.expr.physical), Arc::clone(&pattern.expr.physical));
        let text = format!("({} LIKE {})", x.expr.text, pattern.expr.text);
        let infallible = x.expr.infallible && pattern.expr.infallible;
        let nullable = x.nullable || pattern.nullable;
        let expr = Expr { physical: Arc::new(physical), text, infallible };
        Ok(Scalar { expr, sql_type: SqlType::Bool, nullable, literal: None })
    }

    /// Condition, value, …, and perhaps what else.
    fn case(&self, args: Vec<Scalar>) -> Result<Scalar, TypeError> {
        let values = args.iter().enumerate().filter(|(i, _)| i % 2 == 1 || *i == args.len() - 1).map(|(_, v)| v);
        let values: Vec<&Scalar> = values.collect();
        let first = values[0].sql_type.clone();
        let sql_type = values.iter().try_fold(first, |t, v| types::common(&t, &v.sql_type))?;
        let nullable = args.len().is_multiple_of(2) || values.iter().any(|v| v.nullable);
        let infallible = args.iter().all(|a| a.expr.infallible);
        let mut text = String::from("CASE");
        let mut branches = Vec::new();
        let mut args = args.into_iter();
        let mut other = None;
        while let Some(condition) = args.next() {
            let Some(value) = args.next() else {
                let value = self.cast(condition, &sql_type);
                text.push_str(&format!(" ELSE {}", value.expr.text));
                other = Some(value.expr.physical);
                break;
            };
            let value = self.cast(value, &sql_type);
            text.push_str(&format!(" WHEN {} THEN {}", condition.expr.text, value.expr.text));
            branches.push((condition.expr.physical, value.expr.physical));
        }
        text.push_str(" END");
        let physical = CaseExpr::try_new(None, branches, other).expect("a CASE has a branch");
        let expr = Expr { physical: Arc::new(physical), text, infallible };
        Ok(Scalar { expr, sql_type, nullable, literal: None })
    }

    /// The first value that is not NULL; what follows a value that never is cannot matter.
    fn coalesce(&self, args: Vec<Scalar>) -> Result<Scalar, TypeError> {
        let first = args[0].sql_type.clone();
        let sql_type = args.iter().try_fold(first, |t, v| types::common(&t, &v.sql_type))?;
        let end = args.iter().position(|a| !a.nullable).map_or(args.len(), |i| i + 1);
        let nullable = end == args.len() && args.iter().all(|a| a.nullable);
        let mut branches = Vec::new();
        for (i, arg) in args.into_iter().take(end).enumerate() {
            if i + 1 < end {
                branches.push(is_not_null(arg.clone()));
            }
            branches.push(arg);
        }
        let result = match branches.len() {
            1 => self.cast(branches.remove(0), &sql_type),
            _ => self.cast(self.case(branches)?, &sql_type),
        };
        Ok(Scalar { nullable, ..result })
    }

    fn explicit_cast(&self, x: Scalar, target: Scalar) -> Result<Scalar, TypeError> {
        let Some(Datum::Text(json)) = &target.literal else { panic!("the type of a cast is a literal") };
        let sql_type: SqlType = serde_json::from_str(json).expect("the type of a cast was printed as JSON");
        let moment =
            |t: &SqlType| matches!(t, SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_));
        let from = &x.sql_type;
        let number = types::number(&sql_type).is_ok() && !sql_type.is_text();
        let impossible = number && !matches!(from, SqlType::Null) && types::number(from).is_err()
            || moment(&sql_type)
                && matches!(from, SqlType::Decimal { .. } | SqlType::Double | SqlType::Float | SqlType::Bool);
        if impossible {
            return Err(TypeError::new(format!("there is no cast of {from} to {sql_type}")));
        }
        Ok(self.cast(x, &sql_type))
    }

    fn arithmetic(&self, op: Op, args: Vec<Scalar>) -> Result<Scalar, TypeError> {
        let sql_types: Vec<SqlType> = args.iter().map(|a| a.sql_type.clone()).collect();
        let returns = match op {
            Op::Negate => match types::number(&sql_types[0])? {
                Number::Int { .. } => BIGINT,
                Number::Double => SqlType::Double,
                Number::Decimal { .. } => sql_types[0].clone(),
            },
            _ => types::arithmetic(op.name(), &sql_types[0], &sql_types[1])?,
        };
        let by_zero = matches!(op, Op::Divide | Op::Remainder | Op::Quotient)
            && args[1]
                .literal
                .as_ref()
                .is_none_or(|l| cast::exact(l, &args[1].sql_type).is_none_or(|(v, _)| v == 0.into()));
        let nullable = by_zero || args.iter().any(|a| a.nullable);
        let may_fail = op.may_fail(&sql_types, &returns);
        Ok(self.bind(Kernel::Arithmetic(op), args, returns, nullable, !may_fail))
    }

    fn function(&self, function: &'static Function, args: Vec<Scalar>) -> Result<Scalar, TypeError> {
        let mut common = SqlType::Null;
        for (i, arg) in args.iter().enumerate() {
            if function.param(i) == Param::Common {
                common = types::common(&common, &arg.sql_type)?;
            }
        }
        let args = args
            .into_iter()
            .enumerate()
            .map(|(i, arg)| self.to_param(arg, function.param(i), &common))
            .collect::<Result<Vec<_>, _>>()?;
        let sql_types: Vec<SqlType> = args.iter().map(|a| a.sql_type.clone()).collect();
        let mut returns = (function.returns)(&sql_types)?;
        match (function.name, args.get(1).map(|a| &a.literal)) {
            ("round", None) => returns = numbers::at_scale(&returns, 0),
            ("round" | "truncate", Some(Some(Datum::Int(places)))) => returns = numbers::at_scale(&returns, *places),
            ("date_format", Some(Some(Datum::Text(format)))) => {
                if let Some(week) = WEEK_SPECIFIERS.iter().find(|w| format.contains(**w)) {
                    return Err(TypeError::new(format!("DATE_FORMAT's {week} is not supported")));
                }
            }
            ("date_format", _) => return Err(TypeError::new("DATE_FORMAT takes a literal format")),
            _ => {}
        }
        let nullable = NULLABLE.contains(&function.name) || args.iter().any(|a| a.nullable);
        Ok(self.bind(Kernel::Function(function), args, returns, nullable, !function.fallible))
    }

    fn to_param(&self, x: Scalar, param: Param, common: &SqlType) -> Result<Scalar, TypeError> {
        let sql_type = match param {
            Param::Text => return Ok(self.to_text(x)),
            Param::Common => common.clone(),
            Param::Int if types::number(&x.sql_type)? == (Number::Int { unsigned: true }) => {
                // By way of a DECIMAL, which is cut to the largest BIGINT: an integer would keep its bits.
                return Ok(self.cast(self.cast(x, &types::decimal(20, 0)), &BIGINT));
            }
            Param::Int => BIGINT,
            Param::Double => types::number(&x.sql_type).map(|_| SqlType::Double)?,
            Param::Number => match types::number(&x.sql_type)? {
                Number::Int { unsigned } => SqlType::Int { bytes: 8, unsigned },
                Number::Double => SqlType::Double,
                Number::Decimal { .. } => return Ok(x),
            },
            Param::Moment => match &x.sql_type {
                SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) => return Ok(x),
                SqlType::Timestamp(digits) => SqlType::Datetime(*digits),
                t if t.is_text() || *t == SqlType::Null => SqlType::Datetime(6),
                other => return Err(TypeError::new(format!("a value of type {other} is used as a date"))),
            },
        };
        Ok(self.cast(x, &sql_type))
    }

    fn to_text(&self, x: Scalar) -> Scalar {
        if x.sql_type.is_text() {
            return x;
        }
        let sql_type = types::text_length(&x.sql_type).map_or(LONGTEXT, types::varchar);
        self.cast(x, &sql_type)
    }

    /// The value as MySQL's queries convert it, never an error.
    pub fn cast(&self, x: Scalar, to: &SqlType) -> Scalar {
        self.cast_in(x, to, Mode::Query)
    }

    /// The value as it is stored in a column: an error if it does not fit.
    pub fn assign(&self, x: Scalar, to: &SqlType) -> Scalar {
        self.cast_in(x, to, Mode::Assign)
    }

    fn cast_in(&self, x: Scalar, to: &SqlType, mode: Mode) -> Scalar {
        if x.sql_type == *to {
            return x;
        }
        if x.literal == Some(Datum::Null) {
            return null(to);
        }
        let total = cast::is_total(&x.sql_type, to, mode);
        let moment = matches!(to, SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_));
        let reads = x.sql_type.is_text() || types::number(&x.sql_type).is_ok() || types::is_binary(&x.sql_type);
        let nullable = x.nullable
            || (mode == Mode::Query && (moment || to.is_text()) && reads && !x.sql_type.is_text())
            || (mode == Mode::Query && moment && reads);
        self.bind(Kernel::Cast(mode, self.zone), vec![x], to.clone(), nullable, total)
    }

    /// A call of a kernel; computed here and now if all arguments are literals and it succeeds.
    fn bind(&self, kernel: Kernel, args: Vec<Scalar>, returns: SqlType, nullable: bool, total: bool) -> Scalar {
        let bound = Bound::new(kernel, args.iter().map(|a| a.sql_type.clone()).collect(), returns.clone());
        if !matches!(kernel, Kernel::Now(_))
            && let Some(datum) = fold(&bound, &args, &returns)
        {
            return literal(datum, returns);
        }
        let infallible = total && args.iter().all(|a| a.expr.infallible);
        let text = bound.text(&args.iter().map(|a| a.expr.text.clone()).collect::<Vec<_>>());
        let field = Arc::new(Field::new(kernel.name(), returns.arrow(), nullable));
        let physical_args = args.into_iter().map(|a| a.expr.physical).collect();
        let config = Arc::new(ConfigOptions::default());
        let physical = ScalarFunctionExpr::new(kernel.name(), bound.into_udf(), physical_args, field, config);
        Scalar {
            expr: Expr { physical: Arc::new(physical), text, infallible },
            sql_type: returns,
            nullable,
            literal: None,
        }
    }
}

/// How EXPLAIN names a column: with its position where two have one name.
pub fn column_text(schema: &Schema, position: usize) -> String {
    let name = &schema.columns[position].name;
    let same = schema.columns.iter().filter(|c| c.name.eq_ignore_ascii_case(name)).count();
    if same > 1 { format!("{name}#{position}") } else { name.clone() }
}

pub fn literal(datum: Datum, sql_type: SqlType) -> Scalar {
    let array = single(&datum, &sql_type).expect("a literal has its type");
    let value = ScalarValue::try_from_array(&array, 0).expect("a column of one row");
    let text = match datum.text(&sql_type) {
        None => "NULL".to_string(),
        Some(text) if matches!(datum, Datum::Bool(_)) => if text == "1" { "TRUE" } else { "FALSE" }.to_string(),
        Some(text) if types::number(&sql_type).is_ok() && !sql_type.is_text() => text,
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    };
    let nullable = datum == Datum::Null;
    let expr = Expr { physical: Arc::new(Literal::new(value)), text, infallible: true };
    Scalar { expr, sql_type, nullable, literal: Some(datum) }
}

pub fn boolean(value: bool) -> Scalar {
    literal(Datum::Bool(value), SqlType::Bool)
}

fn null(sql_type: &SqlType) -> Scalar {
    literal(Datum::Null, sql_type.clone())
}

pub fn internal(error: &DataFusionError) -> PlanError {
    PlanError { kind: PlanErrorKind::Internal, message: error.strip_backtrace(), hint: None, position: None }
}

fn comparison_operator(name: &str) -> Option<Operator> {
    Some(match name {
        "=" => Operator::Eq,
        "<>" => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        "<=>" => Operator::IsNotDistinctFrom,
        _ => return None,
    })
}

fn binary(operator: Operator, name: &str, a: Scalar, b: Scalar) -> Scalar {
    let text = format!("({} {name} {})", a.expr.text, b.expr.text);
    let infallible = a.expr.infallible && b.expr.infallible;
    let nullable = operator != Operator::IsNotDistinctFrom && (a.nullable || b.nullable);
    let physical = Arc::new(BinaryExpr::new(a.expr.physical, operator, b.expr.physical));
    Scalar { expr: Expr { physical, text, infallible }, sql_type: SqlType::Bool, nullable, literal: None }
}

/// FALSE on the left decides; TRUE on either side says nothing.
pub fn and(a: Scalar, b: Scalar) -> Scalar {
    match (&a.literal, &b.literal) {
        (Some(Datum::Bool(false)), _) | (_, Some(Datum::Bool(true))) => a,
        (Some(Datum::Bool(true)), _) => b,
        _ => binary(Operator::And, "AND", a, b),
    }
}

fn or(a: Scalar, b: Scalar) -> Scalar {
    match (&a.literal, &b.literal) {
        (Some(Datum::Bool(true)), _) | (_, Some(Datum::Bool(false))) => a,
        (Some(Datum::Bool(false)), _) => b,
        _ => binary(Operator::Or, "OR", a, b),
    }
}

fn not(x: Scalar) -> Scalar {
    if let Some(Datum::Bool(v)) = x.literal {
        return boolean(!v);
    }
    let expr = Expr {
        text: format!("NOT {}", x.expr.text),
        physical: Arc::new(NotExpr::new(x.expr.physical)),
        infallible: x.expr.infallible,
    };
    Scalar { expr, sql_type: SqlType::Bool, nullable: x.nullable, literal: None }
}

fn is_null(x: Scalar) -> Scalar {
    let physical: Arc<dyn PhysicalExpr> = Arc::new(IsNullExpr::new(x.expr.physical));
    let expr = Expr { physical, text: format!("({} IS NULL)", x.expr.text), infallible: x.expr.infallible };
    Scalar { expr, sql_type: SqlType::Bool, nullable: false, literal: None }
}

fn is_not_null(x: Scalar) -> Scalar {
    let physical: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(x.expr.physical));
    let expr = Expr { physical, text: format!("({} IS NOT NULL)", x.expr.text), infallible: x.expr.infallible };
    Scalar { expr, sql_type: SqlType::Bool, nullable: false, literal: None }
}

fn fold(bound: &Bound, args: &[Scalar], returns: &SqlType) -> Option<Datum> {
    let columns: Vec<_> = args.iter().map(|a| single(a.literal.as_ref()?, &a.sql_type).ok()).collect::<Option<_>>()?;
    let column = bound.run(&columns, 1).ok()?;
    Some(Datum::of(&column, returns, 0))
}
