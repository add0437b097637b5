//! Literals as the resolver leaves them.

use datafusion_common::ScalarValue;

use super::{Scalar, literal};
use crate::plan::PlanError;
use crate::plan::functions::types;
use crate::plan::refuse::not_supported;
use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};

pub fn literal_of(value: &ScalarValue) -> Result<Scalar, PlanError> {
    let (datum, sql_type) = match value {
        ScalarValue::Null => (Datum::Null, SqlType::Null),
        ScalarValue::Boolean(Some(v)) => (Datum::Bool(*v), SqlType::Bool),
        ScalarValue::Int64(Some(v)) => (Datum::Int(*v), BIGINT),
        ScalarValue::UInt64(Some(v)) => (Datum::UInt(*v), types::BIGINT_UNSIGNED),
        ScalarValue::Utf8(Some(v)) => (Datum::Text(v.clone()), types::varchar(v.chars().count() as u32)),
        ScalarValue::Decimal128(Some(v), p, s) if *s >= 0 => {
            (Datum::Decimal(arrow::datatypes::i256::from_i128(*v)), types::decimal((*p).max(*s as u8), *s as u8))
        }
        ScalarValue::Decimal256(Some(v), p, s) if (0..=30).contains(s) && *p <= 65 => {
            (Datum::Decimal(*v), types::decimal(*p, *s as u8))
        }
        other => return Err(not_supported(&format!("the literal {other}"), None, None)),
    };
    Ok(literal(datum, sql_type))
}
