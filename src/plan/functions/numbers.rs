//! Functions of numbers.

use arrow::datatypes::i256;

use super::cast::{exact, rescale};
use super::types::{Number, TypeError, common, decimal, digits, number};
use super::{Fault, Function, Param, Types};
use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};

pub const FUNCTIONS: &[Function] = &[
    Function::new("abs", (1, 1), &[Param::Number], same_number, abs).may_fail(),
    Function::new("sign", (1, 1), &[Param::Number], |_| Ok(BIGINT), sign),
    Function::new("floor", (1, 1), &[Param::Number], whole, floor),
    Function::new("ceiling", (1, 1), &[Param::Number], whole, ceiling),
    Function::new("round", (1, 2), &[Param::Number, Param::Int], same_number, round).may_fail(),
    Function::new("truncate", (2, 2), &[Param::Number, Param::Int], same_number, truncate),
    Function::new("sqrt", (1, 1), &[Param::Double], |_| Ok(SqlType::Double), sqrt),
    Function::new("power", (2, 2), &[Param::Double], |_| Ok(SqlType::Double), power).may_fail(),
    Function::new("greatest", (2, 1_000), &[Param::Common], first, greatest),
    Function::new("least", (2, 1_000), &[Param::Common], first, least),
];

fn same_number(args: &[SqlType]) -> Result<SqlType, TypeError> {
    Ok(match number(&args[0])? {
        Number::Int { unsigned } => SqlType::Int { bytes: 8, unsigned },
        Number::Double => SqlType::Double,
        Number::Decimal { precision, scale } => decimal(precision, scale),
    })
}

fn whole(args: &[SqlType]) -> Result<SqlType, TypeError> {
    Ok(match number(&args[0])? {
        Number::Decimal { precision, scale } if precision - scale < digits(&BIGINT).0 => BIGINT,
        Number::Decimal { precision, scale } => decimal(precision - scale + 1, 0),
        _ => same_number(args)?,
    })
}

fn first(args: &[SqlType]) -> Result<SqlType, TypeError> {
    args.iter().skip(1).try_fold(args[0].clone(), |a, b| common(&a, b))
}

/// `ROUND(x, d)` and `TRUNCATE(x, d)` with a literal `d` have its scale.
pub fn at_scale(argument: &SqlType, places: i64) -> SqlType {
    let SqlType::Decimal { precision, scale } = *argument else { return argument.clone() };
    let kept = places.clamp(0, scale as i64) as u8;
    decimal(precision - scale + kept + (kept < scale) as u8, kept)
}

fn out_of_range(types: &Types<'_>) -> Fault {
    Fault::OutOfRange(types.returns.clone())
}

fn abs(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(match &row[0] {
        Datum::Int(v) => Datum::Int(v.checked_abs().ok_or_else(|| out_of_range(types))?),
        Datum::Double(v) => Datum::Double(v.abs()),
        Datum::Decimal(v) => Datum::Decimal(v.wrapping_abs()),
        other => other.clone(),
    })
}

fn sign(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(Datum::Int(match &row[0] {
        Datum::Int(v) => v.signum(),
        Datum::UInt(v) => (*v > 0) as i64,
        Datum::Double(v) if *v == 0.0 => 0,
        Datum::Double(v) => v.signum() as i64,
        Datum::Decimal(v) => (*v > i256::ZERO) as i64 - (*v < i256::ZERO) as i64,
        _ => 0,
    }))
}

fn floor(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(to_whole(&row[0], types, f64::floor, -1))
}

fn ceiling(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(to_whole(&row[0], types, f64::ceil, 1))
}

/// `towards` is what a rest on that side of zero adds to the whole part.
fn to_whole(value: &Datum, types: &Types<'_>, double: fn(f64) -> f64, towards: i128) -> Datum {
    match value {
        Datum::Double(v) => Datum::Double(double(*v)),
        Datum::Decimal(v) => {
            let unit = i256::from_i128(10).checked_pow(digits(&types.args[0]).1 as u32).expect("a scale of at most 30");
            let rest = *v % unit;
            let same_side = (rest > i256::ZERO && towards > 0) || (rest < i256::ZERO && towards < 0);
            let whole = *v / unit + if same_side { i256::from_i128(towards) } else { i256::ZERO };
            match types.returns {
                SqlType::Decimal { .. } => Datum::Decimal(whole),
                _ => Datum::Int(whole.to_i128().expect("as many digits as a BIGINT") as i64),
            }
        }
        other => other.clone(),
    }
}

fn round(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    at_digits(row, types, rescale, f64::round_ties_even)
}

fn truncate(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    let cut = |value: i256, from: u8, to: u8| {
        let unit = i256::from_i128(10).checked_pow(from.saturating_sub(to) as u32)?;
        Some(value / unit)
    };
    at_digits(row, types, cut, f64::trunc)
}

/// Applies a rounding at the place that the second argument names; 0 without one, negative left of the point.
fn at_digits(
    row: &[Datum],
    types: &Types<'_>,
    to_scale: fn(i256, u8, u8) -> Option<i256>,
    double: fn(f64) -> f64,
) -> Result<Datum, Fault> {
    let places = match row.get(1) {
        Some(Datum::Int(d)) => (*d).clamp(-65, 65) as i32,
        _ => 0,
    };
    if let Datum::Double(v) = row[0] {
        let unit = 10f64.powi(places.abs());
        let rounded = if places < 0 { double(v / unit) * unit } else { double(v * unit) / unit };
        return Ok(Datum::Double(if rounded.is_finite() { rounded } else { v }));
    }
    let scale = digits(&types.args[0]).1 as i32;
    let (value, _) = exact(&row[0], &types.args[0]).expect("an exact number, for the argument is one");
    let dropped = (scale - places).max(0) as u8;
    let to = digits(types.returns).1;
    let rounded = to_scale(value, dropped, 0).and_then(|v| rescale(v, 0, dropped));
    let result = rounded.and_then(|v| rescale(v, scale as u8, to)).ok_or_else(|| out_of_range(types))?;
    let narrow = result.to_i128().ok_or_else(|| out_of_range(types));
    Ok(match types.returns {
        SqlType::Int { unsigned: true, .. } => Datum::UInt(u64::try_from(narrow?).map_err(|_| out_of_range(types))?),
        SqlType::Int { .. } => Datum::Int(i64::try_from(narrow?).map_err(|_| out_of_range(types))?),
        _ => Datum::Decimal(result),
    })
}

fn sqrt(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(match row[0] {
        Datum::Double(v) if v >= 0.0 => Datum::Double(v.sqrt()),
        _ => Datum::Null,
    })
}

fn power(row: &[Datum], types: &Types<'_>) -> Result<Datum, Fault> {
    let [Datum::Double(base), Datum::Double(exponent)] = row else { return Ok(Datum::Null) };
    let result = base.powf(*exponent);
    if result.is_finite() { Ok(Datum::Double(result)) } else { Err(out_of_range(types)) }
}

fn greatest(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(row.iter().skip(1).fold(&row[0], |best, v| if is_less(best, v) { v } else { best }).clone())
}

fn least(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(row.iter().skip(1).fold(&row[0], |best, v| if is_less(v, best) { v } else { best }).clone())
}

/// Two values of one type.
fn is_less(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Bool(a), Datum::Bool(b)) => a < b,
        (Datum::Int(a), Datum::Int(b)) => a < b,
        (Datum::UInt(a), Datum::UInt(b)) => a < b,
        (Datum::Float(a), Datum::Float(b)) => a < b,
        (Datum::Double(a), Datum::Double(b)) => a < b,
        (Datum::Decimal(a), Datum::Decimal(b)) => a < b,
        (Datum::Text(a), Datum::Text(b)) => a < b,
        (Datum::Bytes(a), Datum::Bytes(b)) => a < b,
        (Datum::Date(a), Datum::Date(b)) => a < b,
        (Datum::Time(a), Datum::Time(b))
        | (Datum::Datetime(a), Datum::Datetime(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b)) => a < b,
        _ => panic!("{a:?} and {b:?} are not of one type"),
    }
}
