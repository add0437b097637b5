//! MySQL's rules for the types of arithmetic, comparisons and branches.

use crate::row::types::{BIGINT, DECIMAL_PRECISION_MAX, DECIMAL_SCALE_MAX, SqlType};

/// How many digits `/` and AVG add to the scale (div_precision_increment).
pub const DIV_SCALE_INCREMENT: u8 = 4;
/// How many digits SUM adds to the precision.
pub const SUM_PRECISION_INCREMENT: u8 = 22;
/// VARCHAR up to this length, LONGTEXT above it.
pub const VARCHAR_LENGTH_MAX: u32 = 16_383;

pub const BIGINT_UNSIGNED: SqlType = SqlType::Int { bytes: 8, unsigned: true };
pub const LONGTEXT: SqlType = SqlType::Text(4);

/// A type as arithmetic sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Int { unsigned: bool },
    Decimal { precision: u8, scale: u8 },
    Double,
}

/// Why operands do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeError {
    pub message: String,
    pub hint: Option<&'static str>,
}

impl TypeError {
    pub fn new(message: impl Into<String>) -> TypeError {
        TypeError { message: message.into(), hint: None }
    }

    pub fn with_hint(message: impl Into<String>, hint: &'static str) -> TypeError {
        TypeError { message: message.into(), hint: Some(hint) }
    }
}

pub fn decimal(precision: u8, scale: u8) -> SqlType {
    SqlType::Decimal { precision: precision.clamp(1, DECIMAL_PRECISION_MAX), scale: scale.min(DECIMAL_SCALE_MAX) }
}

pub fn varchar(length: u32) -> SqlType {
    if length <= VARCHAR_LENGTH_MAX { SqlType::Varchar(length.max(1)) } else { LONGTEXT }
}

/// The number a value of this type is where a number is needed.
pub fn number(sql_type: &SqlType) -> Result<Number, TypeError> {
    Ok(match sql_type {
        SqlType::Null | SqlType::Bool => Number::Int { unsigned: false },
        SqlType::Int { unsigned, .. } => Number::Int { unsigned: *unsigned },
        SqlType::Year | SqlType::Bit(_) => Number::Int { unsigned: true },
        SqlType::Decimal { precision, scale } => Number::Decimal { precision: *precision, scale: *scale },
        SqlType::Float | SqlType::Double => Number::Double,
        SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_) => Number::Double,
        SqlType::Enum(_) | SqlType::Set(_) => {
            return Err(TypeError::with_hint(
                format!("{sql_type} is used as a number"),
                "its number depends on the order of its labels: compare with a label, or CAST(… AS CHAR)",
            ));
        }
        other => return Err(TypeError::new(format!("a value of type {other} is used as a number"))),
    })
}

/// Digits of an exact number; of an integer by its width, as MySQL counts them.
pub fn digits(sql_type: &SqlType) -> (u8, u8) {
    match sql_type {
        SqlType::Decimal { precision, scale } => (*precision, *scale),
        SqlType::Int { bytes: 1, .. } => (3, 0),
        SqlType::Int { bytes: 2, .. } => (5, 0),
        SqlType::Int { bytes: 3, unsigned: false } => (7, 0),
        SqlType::Int { bytes: 3, unsigned: true } => (8, 0),
        SqlType::Int { bytes: 4, .. } => (10, 0),
        SqlType::Int { unsigned: false, .. } => (19, 0),
        SqlType::Int { unsigned: true, .. } | SqlType::Bit(_) => (20, 0),
        SqlType::Year => (4, 0),
        _ => (1, 0),
    }
}

/// The type of `a op b` for `+ - * / % div`.
pub fn arithmetic(op: &str, a: &SqlType, b: &SqlType) -> Result<SqlType, TypeError> {
    let (left, right) = (number(a)?, number(b)?);
    if op == "div" {
        let unsigned = |n| matches!(n, Number::Int { unsigned: true });
        return Ok(SqlType::Int { bytes: 8, unsigned: unsigned(left) || unsigned(right) });
    }
    if left == Number::Double || right == Number::Double {
        return Ok(SqlType::Double);
    }
    if let (Number::Int { unsigned: l }, Number::Int { unsigned: r }) = (left, right)
        && op != "/"
    {
        // The sign of a remainder is its dividend's.
        let unsigned = if op == "%" { l } else { l || r };
        return Ok(SqlType::Int { bytes: 8, unsigned });
    }
    let ((p1, s1), (p2, s2)) = (digits(a), digits(b));
    let scale = s1.max(s2);
    Ok(match op {
        "*" => decimal(p1 + p2, s1 + s2),
        "/" => decimal(p1 + s2 + DIV_SCALE_INCREMENT, s1 + DIV_SCALE_INCREMENT),
        "%" => decimal((p1 - s1).max(p2 - s2) + scale, scale),
        _ => decimal((p1 - s1).max(p2 - s2) + 1 + scale, scale),
    })
}

/// How many digits after the point MySQL computes of a quotient before it rounds: it divides in groups of nine.
pub fn quotient_digits(s1: u8, s2: u8) -> u8 {
    let whole_groups = |digits: u8| digits.div_ceil(9) * 9;
    let given = (whole_groups(s1) - s1) + (whole_groups(s2) - s2);
    whole_groups(whole_groups(s1) + whole_groups(s2) + DIV_SCALE_INCREMENT.saturating_sub(given))
}

/// The type in which `a` and `b` are compared; text literals beside a date are read before this is asked.
pub fn comparison(a: &SqlType, b: &SqlType) -> Result<SqlType, TypeError> {
    use SqlType::*;
    let numeric = |t: &SqlType| number(t).is_ok() && !t.is_text();
    Ok(match (a, b) {
        (Null, Null) => Text(4),
        (Null, other) | (other, Null) => other.clone(),
        (Json, Json) => return Err(TypeError::new("JSON values are compared")),
        _ if a.is_text() && b.is_text() => LONGTEXT,
        _ if is_binary(a) && (is_binary(b) || b.is_text()) || a.is_text() && is_binary(b) => Blob(4),
        _ if numeric(a) && numeric(b) => match (number(a)?, number(b)?) {
            (Number::Int { unsigned: l }, Number::Int { unsigned: r }) if l == r => Int { bytes: 8, unsigned: l },
            (Number::Double, _) | (_, Number::Double) => Double,
            _ => exact(a, b),
        },
        _ if a.is_text() && numeric(b) || numeric(a) && b.is_text() => {
            number(a)?;
            number(b)?;
            Double
        }
        (Date, Date) => Date,
        (Date | Datetime(_), Date | Datetime(_)) => Datetime(6),
        (Timestamp(_), Timestamp(_)) => Timestamp(6),
        (Time(_), Time(_)) => Time(6),
        _ => {
            let message = format!("{a} is compared with {b}");
            return Err(TypeError::with_hint(message, "make the types equal with CAST(… AS …)"));
        }
    })
}

/// The one type of the branches of CASE, COALESCE, GREATEST, UNION.
pub fn common(a: &SqlType, b: &SqlType) -> Result<SqlType, TypeError> {
    use SqlType::*;
    let numeric = |t: &SqlType| number(t).is_ok() && !t.is_text();
    Ok(match (a, b) {
        _ if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        _ if numeric(a) && numeric(b) => match (number(a)?, number(b)?) {
            (Number::Double, _) | (_, Number::Double) => Double,
            (Number::Int { unsigned: l }, Number::Int { unsigned: r }) => common_int(a, l, b, r),
            _ => exact(a, b),
        },
        _ if is_binary(a) && (is_binary(b) || b.is_text()) || a.is_text() && is_binary(b) => Blob(4),
        (Datetime(x), Datetime(y)) => Datetime(*x.max(y)),
        (Date, Datetime(x)) | (Datetime(x), Date) => Datetime(*x),
        (Timestamp(x), Timestamp(y)) => Timestamp(*x.max(y)),
        (Time(x), Time(y)) => Time(*x.max(y)),
        (Timestamp(_), _) | (_, Timestamp(_)) => {
            return Err(TypeError::with_hint(
                format!("{a} and {b} are branches of one value"),
                "CAST both to one type",
            ));
        }
        (Time(_), Date | Datetime(_)) | (Date | Datetime(_), Time(_)) => {
            return Err(TypeError::with_hint(
                format!("{a} and {b} are branches of one value, which depends on today's date"),
                "CAST both to one type",
            ));
        }
        _ if is_binary(a) || is_binary(b) => {
            return Err(TypeError::new(format!("{a} and {b} are branches of one value")));
        }
        _ => match (text_length(a), text_length(b)) {
            (Some(x), Some(y)) => varchar(x.max(y)),
            _ => LONGTEXT,
        },
    })
}

pub fn is_binary(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_))
}

/// The most characters a value prints with; `None` for what has no small bound.
pub fn text_length(sql_type: &SqlType) -> Option<u32> {
    let fraction = |d: &u8| if *d == 0 { 0 } else { *d as u32 + 1 };
    let longest = |labels: &[String]| labels.iter().map(|l| l.chars().count() as u32).max().unwrap_or(0);
    Some(match sql_type {
        SqlType::Null | SqlType::Bool => 1,
        SqlType::Char(n) | SqlType::Varchar(n) => *n,
        SqlType::Enum(labels) => longest(labels),
        SqlType::Set(labels) => labels.iter().map(|l| l.chars().count() as u32 + 1).sum(),
        SqlType::Decimal { precision, .. } => *precision as u32 + 2,
        SqlType::Float | SqlType::Double => 32,
        SqlType::Date => 10,
        SqlType::Time(d) => 10 + fraction(d),
        SqlType::Datetime(d) | SqlType::Timestamp(d) => 19 + fraction(d),
        SqlType::Int { .. } | SqlType::Year | SqlType::Bit(_) => digits(sql_type).0 as u32 + 1,
        SqlType::Text(_) | SqlType::Json | SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => {
            return None;
        }
    })
}

/// SUM: exact for exact numbers.
pub fn sum(argument: &SqlType) -> Result<SqlType, TypeError> {
    let (precision, scale) = digits(argument);
    Ok(match number(argument)? {
        Number::Double => SqlType::Double,
        _ => decimal(precision.saturating_add(SUM_PRECISION_INCREMENT), scale),
    })
}

pub fn avg(argument: &SqlType) -> Result<SqlType, TypeError> {
    let (precision, scale) = digits(argument);
    Ok(match number(argument)? {
        Number::Double => SqlType::Double,
        _ => decimal(precision.saturating_add(DIV_SCALE_INCREMENT), scale + DIV_SCALE_INCREMENT),
    })
}

fn common_int(a: &SqlType, a_unsigned: bool, b: &SqlType, b_unsigned: bool) -> SqlType {
    let width = |t: &SqlType| match t {
        SqlType::Int { bytes, .. } => *bytes,
        SqlType::Bool => 1,
        SqlType::Year => 2,
        _ => 8,
    };
    let (x, y) = (width(a), width(b));
    if a_unsigned == b_unsigned {
        return SqlType::Int { bytes: x.max(y), unsigned: a_unsigned };
    }
    let (unsigned, signed) = if a_unsigned { (x, y) } else { (y, x) };
    match unsigned {
        8 => exact(&BIGINT_UNSIGNED, &BIGINT),
        n => SqlType::Int { bytes: signed.max(if n == 4 { 8 } else { n + 1 }), unsigned: false },
    }
}

/// A decimal that holds both exact numbers.
fn exact(a: &SqlType, b: &SqlType) -> SqlType {
    let ((p1, s1), (p2, s2)) = (digits(a), digits(b));
    let scale = s1.max(s2);
    decimal((p1 - s1).max(p2 - s2) + scale, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(bytes: u8) -> SqlType {
        SqlType::Int { bytes, unsigned: false }
    }

    #[test]
    fn arithmetic_has_mysqls_result_types() {
        let table = [
            ("+", int(4), int(8), "BIGINT"),
            ("-", int(4), SqlType::Int { bytes: 4, unsigned: true }, "BIGINT UNSIGNED"),
            ("+", decimal(10, 2), decimal(12, 4), "DECIMAL(13,4)"),
            ("*", decimal(10, 2), int(4), "DECIMAL(20,2)"),
            ("*", decimal(40, 20), decimal(40, 20), "DECIMAL(65,30)"),
            ("/", int(4), int(4), "DECIMAL(14,4)"),
            ("/", decimal(10, 2), decimal(5, 3), "DECIMAL(17,6)"),
            ("%", int(8), BIGINT_UNSIGNED, "BIGINT"),
            ("div", decimal(10, 2), int(4), "BIGINT"),
            ("+", SqlType::Float, int(4), "DOUBLE"),
            ("+", SqlType::Varchar(10), int(4), "DOUBLE"),
            ("+", SqlType::Bool, SqlType::Bool, "BIGINT"),
        ];
        for (op, a, b, expected) in table {
            assert_eq!(arithmetic(op, &a, &b).unwrap().to_string(), expected, "{a} {op} {b}");
        }
        assert!(arithmetic("+", &SqlType::Date, &int(4)).is_err());
        assert!(arithmetic("+", &SqlType::Enum(vec!["a".into()]), &int(4)).is_err());
    }

    #[test]
    fn aggregates_have_mysqls_result_types() {
        assert_eq!(sum(&int(4)).unwrap().to_string(), "DECIMAL(32,0)");
        assert_eq!(sum(&int(8)).unwrap().to_string(), "DECIMAL(41,0)");
        assert_eq!(sum(&decimal(10, 2)).unwrap().to_string(), "DECIMAL(32,2)");
        assert_eq!(sum(&decimal(60, 2)).unwrap().to_string(), "DECIMAL(65,2)");
        assert_eq!(avg(&int(4)).unwrap().to_string(), "DECIMAL(14,4)");
        assert_eq!(avg(&decimal(10, 2)).unwrap().to_string(), "DECIMAL(14,6)");
        assert_eq!(avg(&SqlType::Double).unwrap().to_string(), "DOUBLE");
    }

    #[test]
    fn branches_and_comparisons_find_a_type_that_holds_both() {
        let unsigned = |bytes| SqlType::Int { bytes, unsigned: true };
        for (a, b, expected) in [
            (int(1), unsigned(1), "SMALLINT"),
            (int(1), unsigned(4), "BIGINT"),
            (BIGINT, unsigned(8), "DECIMAL(20,0)"),
            (SqlType::Varchar(10), SqlType::Char(20), "VARCHAR(20)"),
            (SqlType::Varchar(3), int(4), "VARCHAR(11)"),
            (SqlType::Date, SqlType::Datetime(3), "DATETIME(3)"),
            (decimal(10, 2), int(8), "DECIMAL(21,2)"),
        ] {
            assert_eq!(common(&a, &b).unwrap().to_string(), expected, "{a}, {b}");
        }
        assert_eq!(comparison(&BIGINT, &unsigned(8)).unwrap(), decimal(20, 0));
        assert_eq!(comparison(&SqlType::Varchar(5), &BIGINT).unwrap(), SqlType::Double);
        assert!(comparison(&SqlType::Date, &BIGINT).is_err());
    }
}
