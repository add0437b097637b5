//! `+ - * / % DIV` and negation: exact, out of range instead of wrapped, NULL by zero.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, UInt64Type, i256};

use super::Fault;
use super::cast::{self, Mode, Zone, drop_digits, rescale};
use super::types::{self, BIGINT_UNSIGNED, Number};
use crate::row::types::{BIGINT, DECIMAL_PRECISION_MAX, DECIMAL128_PRECISION_MAX, SqlType};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// `DIV`.
    Quotient,
    Negate,
}

impl Op {
    pub fn parse(name: &str) -> Option<Op> {
        Some(match name {
            "+" => Op::Add,
            "-" => Op::Subtract,
            "*" => Op::Multiply,
            "/" => Op::Divide,
            "%" => Op::Remainder,
            "div" => Op::Quotient,
            "neg" => Op::Negate,
            _ => return None,
        })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Remainder => "%",
            Op::Quotient => "div",
            Op::Negate => "neg",
        }
    }

    /// False if every result of this type is in its range: for exact operands that the type was made to hold.
    pub fn may_fail(&self, args: &[SqlType], returns: &SqlType) -> bool {
        match (self, returns) {
            (Op::Remainder, SqlType::Double | SqlType::Decimal { .. } | SqlType::Int { .. }) => false,
            (Op::Add | Op::Subtract | Op::Multiply | Op::Divide, SqlType::Decimal { precision, .. }) => {
                *precision >= DECIMAL_PRECISION_MAX
                    || args.iter().any(|t| types::digits(t).0 > DECIMAL128_PRECISION_MAX)
            }
            (Op::Negate, SqlType::Decimal { .. } | SqlType::Double) => false,
            (Op::Negate, SqlType::Int { .. }) => !args.iter().all(|t| types::digits(t).0 < types::digits(&BIGINT).0),
            (Op::Add | Op::Subtract | Op::Multiply, SqlType::Int { unsigned: false, .. }) => {
                // Digits of the exact result: one more for a carry, the sum for a product; 18 always fit.
                let digits: Vec<u8> = args.iter().map(|t| types::digits(t).0).collect();
                let needed =
                    if *self == Op::Multiply { digits.iter().sum() } else { digits.iter().max().map_or(0, |d| d + 1) };
                needed > 18
            }
            _ => true,
        }
    }
}

/// The columns combined row by row; the result has the type that `types::arithmetic` gave.
pub fn run(op: Op, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Result<ArrayRef, Fault> {
    if op == Op::Negate {
        let zero = cast::column(&columns[0], &args[0], returns, Mode::Query, Zone::UTC)?;
        return negate(&zero, returns);
    }
    let numbers = [0, 1].map(|i| types::number(&args[i]).expect("typed as numbers"));
    if numbers.contains(&Number::Double) {
        return doubles(op, columns, args, returns);
    }
    let all_int = numbers.iter().all(|n| matches!(n, Number::Int { .. }));
    if all_int && matches!(returns, SqlType::Int { .. }) {
        return integers(op, columns, args, returns);
    }
    decimals(op, columns, args, returns)
}

fn negate(column: &ArrayRef, returns: &SqlType) -> Result<ArrayRef, Fault> {
    let out_of_range = || Fault::OutOfRange(returns.clone());
    // `unary` also meets what lies under a NULL, which may be any bits: nothing here may overflow.
    Ok(match column.data_type() {
        DataType::Int64 => {
            let negated = column.as_primitive::<Int64Type>().iter();
            let negated = negated.map(|v| v.map(|v| v.checked_neg().ok_or_else(out_of_range)).transpose());
            Arc::new(negated.collect::<Result<Int64Array, Fault>>()?)
        }
        DataType::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| 0.0 - v)),
        DataType::Decimal128(p, s) => {
            let negated: Decimal128Array = column.as_primitive::<Decimal128Type>().unary(i128::wrapping_neg);
            Arc::new(negated.with_precision_and_scale(*p, *s).expect("the argument's own precision"))
        }
        DataType::Decimal256(p, s) => {
            let negated: Decimal256Array = column.as_primitive::<Decimal256Type>().unary(i256::wrapping_neg);
            Arc::new(negated.with_precision_and_scale(*p, *s).expect("the argument's own precision"))
        }
        other => panic!("negation of {other}"),
    })
}

/// Values of an integer column, whatever its width.
fn integer_values(column: &ArrayRef, from: &SqlType) -> Result<Vec<Option<i128>>, Fault> {
    let unsigned = types::number(from) == Ok(Number::Int { unsigned: true });
    let wide = if unsigned { &BIGINT_UNSIGNED } else { &BIGINT };
    let column = cast::column(column, from, wide, Mode::Query, Zone::UTC)?;
    Ok(match unsigned {
        true => column.as_primitive::<UInt64Type>().iter().map(|v| v.map(i128::from)).collect(),
        false => column.as_primitive::<Int64Type>().iter().map(|v| v.map(i128::from)).collect(),
    })
}

/// The ordinary case at the speed of Arrow's kernels, which check for overflow; `None` where MySQL's rules differ.
fn bigints(op: Op, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Option<Result<ArrayRef, Fault>> {
    let kernel = match op {
        Op::Add => numeric::add,
        Op::Subtract => numeric::sub,
        Op::Multiply => numeric::mul,
        _ => return None,
    };
    let signed = |sql_type: &SqlType| types::number(sql_type) == Ok(Number::Int { unsigned: false });
    if *returns != BIGINT || !args.iter().all(signed) {
        return None;
    }
    let wide = |i: usize| cast::column(&columns[i], &args[i], &BIGINT, Mode::Query, Zone::UTC);
    Some(wide(0).and_then(|left| {
        let right = wide(1)?;
        kernel(&left, &right).map_err(|_| Fault::OutOfRange(returns.clone()))
    }))
}

fn integers(op: Op, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Result<ArrayRef, Fault> {
    if let Some(result) = bigints(op, columns, args, returns) {
        return result;
    }
    let left = integer_values(&columns[0], &args[0])?;
    let right = integer_values(&columns[1], &args[1])?;
    let (least, most) = cast::int_range(returns);
    let result = |a: i128, b: i128| match op {
        Op::Add => Some(a + b),
        Op::Subtract => Some(a - b),
        Op::Multiply => Some(a * b),
        Op::Remainder => a.checked_rem(b),
        _ => a.checked_div(b),
    };
    let results = pairwise(left.into_iter().zip(right), result, |v| (least..=most).contains(v), returns)?;
    Ok(integer_column(results, returns))
}

/// The results of an operator, row by row: NULL where a side is, or where it has no result.
fn pairwise<T>(
    pairs: impl Iterator<Item = (Option<T>, Option<T>)>,
    result: impl Fn(T, T) -> Option<T>,
    in_range: impl Fn(&T) -> bool,
    returns: &SqlType,
) -> Result<Vec<Option<T>>, Fault> {
    let one = |pair| {
        let (Some(a), Some(b)) = pair else { return Ok(None) };
        match result(a, b) {
            Some(value) if !in_range(&value) => Err(Fault::OutOfRange(returns.clone())),
            value => Ok(value),
        }
    };
    pairs.map(one).collect()
}

fn integer_column(values: Vec<Option<i128>>, returns: &SqlType) -> ArrayRef {
    match returns {
        SqlType::Int { unsigned: true, .. } => {
            Arc::new(values.into_iter().map(|v| v.map(|v| v as u64)).collect::<UInt64Array>())
        }
        _ => Arc::new(values.into_iter().map(|v| v.map(|v| v as i64)).collect::<Int64Array>()),
    }
}

fn doubles(op: Op, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Result<ArrayRef, Fault> {
    let side = |i: usize| cast::column(&columns[i], &args[i], &SqlType::Double, Mode::Query, Zone::UTC);
    let (left, right) = (side(0)?, side(1)?);
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let result = |a: f64, b: f64| match op {
        Op::Add => Some(a + b),
        Op::Subtract => Some(a - b),
        Op::Multiply => Some(a * b),
        Op::Remainder => (b != 0.0).then(|| a % b),
        _ => (b != 0.0).then(|| a / b),
    };
    let results = pairwise(left.iter().zip(right), result, |v| v.is_finite(), returns)?;
    if *returns == SqlType::Double {
        return Ok(Arc::new(Float64Array::from(results)));
    }
    let (least, most) = cast::int_range(returns);
    let whole = |v: f64| (least..=most).contains(&(v.trunc() as i128)).then_some(v.trunc() as i128);
    let whole = results.into_iter().map(|v| v.map(|v| whole(v).ok_or(Fault::OutOfRange(returns.clone()))).transpose());
    Ok(integer_column(whole.collect::<Result<_, _>>()?, returns))
}

/// The unscaled values of an exact number's column, and their scale.
fn unscaled(column: &ArrayRef, from: &SqlType) -> Result<(Vec<Option<i256>>, u8), Fault> {
    Ok(match column.data_type() {
        DataType::Decimal128(_, scale) => {
            let values = column.as_primitive::<Decimal128Type>().iter().map(|v| v.map(i256::from_i128));
            (values.collect(), *scale as u8)
        }
        DataType::Decimal256(_, scale) => (column.as_primitive::<Decimal256Type>().iter().collect(), *scale as u8),
        _ => (integer_values(column, from)?.into_iter().map(|v| v.map(i256::from_i128)).collect(), 0),
    })
}

fn decimals(op: Op, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Result<ArrayRef, Fault> {
    let (left, s1) = unscaled(&columns[0], &args[0])?;
    let (right, s2) = unscaled(&columns[1], &args[1])?;
    let scale = types::digits(returns).1;
    let out_of_range = || Fault::OutOfRange(returns.clone());
    let mut results = Vec::with_capacity(left.len());
    for pair in left.into_iter().zip(right) {
        let (Some(a), Some(b)) = pair else {
            results.push(None);
            continue;
        };
        if b == i256::ZERO && matches!(op, Op::Divide | Op::Remainder | Op::Quotient) {
            results.push(None);
            continue;
        }
        let result = decimal(op, (a, s1), (b, s2), scale).ok_or_else(out_of_range)?;
        results.push(Some(result));
    }
    decimal_column(results, returns)
}

/// One pair; `None` if it needs more than 256 bits.
fn decimal(op: Op, (a, s1): (i256, u8), (b, s2): (i256, u8), scale: u8) -> Option<i256> {
    let wide = s1.max(s2);
    Some(match op {
        Op::Multiply => rescale(a.checked_mul(b)?, s1 + s2, scale)?,
        Op::Divide => {
            // As MySQL does it: so many digits are computed, the rest is cut, and those are rounded.
            let quotient = |kept: u8| {
                let quotient = long_division(a, b, (kept + s2) as i32 - s1 as i32)?;
                Some(drop_digits(quotient, kept - scale))
            };
            quotient(types::quotient_digits(s1, s2).max(scale)).or_else(|| quotient(scale + 1))?
        }
        _ => {
            let (a, b) = (rescale(a, s1, wide)?, rescale(b, s2, wide)?);
            match op {
                Op::Add => a.checked_add(b)?,
                Op::Subtract => a.checked_sub(b)?,
                Op::Remainder => a.checked_rem(b)?,
                _ => a.checked_div(b)?,
            }
        }
    })
}

/// `a * 10^shift / b`, cut; `None` if it needs more than 256 bits.
fn long_division(a: i256, b: i256, shift: i32) -> Option<i256> {
    if shift < 0 {
        return a.checked_div(b)?.checked_div(rescale(i256::ONE, 0, -shift as u8)?);
    }
    if shift <= DECIMAL_PRECISION_MAX as i32
        && let Some(dividend) = rescale(a, 0, shift as u8)
    {
        return dividend.checked_div(b);
    }
    let ten = i256::from_i128(10);
    let (mut quotient, mut rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    for _ in 0..shift {
        rest = rest.checked_mul(ten)?;
        quotient = quotient.checked_mul(ten)?.checked_add(rest.checked_div(b)?)?;
        rest = rest.checked_rem(b)?;
    }
    Some(quotient)
}

fn decimal_column(values: Vec<Option<i256>>, returns: &SqlType) -> Result<ArrayRef, Fault> {
    let out_of_range = || Fault::OutOfRange(returns.clone());
    let SqlType::Decimal { precision, scale } = *returns else {
        let (least, most) = cast::int_range(returns);
        let fits = |v: i256| v.to_i128().filter(|v| (least..=most).contains(v)).ok_or_else(out_of_range);
        let values = values.into_iter().map(|v| v.map(fits).transpose()).collect::<Result<_, _>>()?;
        return Ok(integer_column(values, returns));
    };
    let most = i256::from_i128(10).checked_pow(precision as u32).expect("10^65 fits in 256 bits") - i256::ONE;
    if values.iter().flatten().any(|v| *v > most || *v < -most) {
        return Err(out_of_range());
    }
    let scale = scale as i8;
    let typed = "values checked against the precision";
    Ok(if precision <= DECIMAL128_PRECISION_MAX {
        let narrow = values.into_iter().map(|v| v.map(|v| v.to_i128().expect(typed)));
        Arc::new(narrow.collect::<Decimal128Array>().with_precision_and_scale(precision, scale).expect(typed))
    } else {
        Arc::new(
            values.into_iter().collect::<Decimal256Array>().with_precision_and_scale(precision, scale).expect(typed),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::functions::types::decimal as dec;
    use crate::row::datum::{Datum, single};

    #[track_caller]
    fn compute(op: Op, a: (&str, SqlType), b: (&str, SqlType)) -> Result<Option<String>, Fault> {
        let column = |(text, t): &(&str, SqlType)| single(&Datum::parse(text, t).unwrap(), t).unwrap();
        let returns = types::arithmetic(op.name(), &a.1, &b.1).unwrap();
        let result = run(op, &[column(&a), column(&b)], &[a.1, b.1], &returns)?;
        assert_eq!(result.data_type(), &returns.arrow());
        Ok(Datum::of(&result, &returns, 0).text(&returns))
    }

    #[test]
    fn results_are_those_of_mysqls_manual() {
        let int = |s: &'static str| (s, BIGINT);
        for (op, a, b, expected) in [
            (Op::Divide, int("2"), int("3"), "0.6667"),
            (Op::Divide, int("-2"), int("3"), "-0.6667"),
            (Op::Divide, int("5"), int("2"), "2.5000"),
            (Op::Divide, ("1.00", dec(5, 2)), ("3.000", dec(6, 3)), "0.333333"),
            (Op::Divide, ("0.00001", dec(6, 5)), int("2"), "0.000005000"),
            (Op::Quotient, int("-7"), int("2"), "-3"),
            (Op::Quotient, ("7.5", dec(3, 1)), int("2"), "3"),
            (Op::Remainder, int("-7"), int("2"), "-1"),
            (Op::Remainder, ("7.5", dec(3, 1)), ("2.25", dec(5, 2)), "0.75"),
            (Op::Multiply, ("1.10", dec(5, 2)), ("2.5", dec(3, 1)), "2.750"),
            (Op::Add, ("0.1", dec(2, 1)), ("0.22", dec(3, 2)), "0.32"),
            (Op::Add, ("12abc", SqlType::Varchar(9)), int("1"), "13"),
            (Op::Subtract, int("1"), ("0.001", dec(4, 3)), "0.999"),
        ] {
            assert_eq!(compute(op, a.clone(), b.clone()), Ok(Some(expected.to_string())), "{op:?} {a:?} {b:?}");
        }
    }

    #[test]
    fn zero_divisors_give_null_and_overflow_an_error() {
        let zero = ("0", BIGINT);
        for op in [Op::Divide, Op::Remainder, Op::Quotient] {
            assert_eq!(compute(op, ("1", BIGINT), zero.clone()), Ok(None));
            assert_eq!(compute(op, ("1.5", dec(2, 1)), zero.clone()), Ok(None));
            assert_eq!(compute(op, ("1.5", SqlType::Double), zero.clone()), Ok(None));
        }
        let most = ("9223372036854775807", BIGINT);
        assert_eq!(compute(Op::Add, most.clone(), ("1", BIGINT)), Err(Fault::OutOfRange(BIGINT)));
        let unsigned = compute(Op::Subtract, ("1", BIGINT_UNSIGNED), ("2", BIGINT));
        assert_eq!(unsigned, Err(Fault::OutOfRange(BIGINT_UNSIGNED)));
        assert_eq!(compute(Op::Add, most, ("1", BIGINT_UNSIGNED)), Ok(Some("9223372036854775808".into())));
        let huge = ("1e308", SqlType::Double);
        assert_eq!(compute(Op::Multiply, huge.clone(), huge), Err(Fault::OutOfRange(SqlType::Double)));
    }
}
