//! The types that a query names.

use sqlparser::ast::{DataType, ExactNumberInfo, TimezoneInfo};

use crate::plan::PlanError;
use crate::plan::refuse::not_supported;
use crate::row::types::{BIGINT, SqlType};

/// The types CAST and CONVERT take in MySQL.
pub fn cast_type(data_type: &DataType, position: Option<usize>) -> Result<SqlType, PlanError> {
    let digits = |d: &Option<u64>| d.unwrap_or(0).min(6) as u8;
    let small = |n: u64| u8::try_from(n).ok();
    Ok(match data_type {
        DataType::Signed | DataType::SignedInteger => BIGINT,
        DataType::Unsigned | DataType::UnsignedInteger => SqlType::Int { bytes: 8, unsigned: true },
        DataType::Decimal(info) | DataType::Dec(info) | DataType::Numeric(info) => {
            let (precision, scale) = match info {
                ExactNumberInfo::None => (Some(10), Some(0)),
                ExactNumberInfo::Precision(p) => (small(*p), Some(0)),
                ExactNumberInfo::PrecisionAndScale(p, s) => (small(*p), u8::try_from(*s).ok()),
            };
            match (precision, scale) {
                (Some(precision @ 1..=65), Some(scale @ 0..=30)) if scale <= precision => {
                    SqlType::Decimal { precision, scale }
                }
                _ => return Err(not_supported(&format!("the type {data_type}"), None, position)),
            }
        }
        DataType::Double(_) | DataType::DoublePrecision | DataType::Real => SqlType::Double,
        DataType::Float(_) => SqlType::Float,
        DataType::Char(length) | DataType::Character(length) | DataType::Varchar(length) => match length {
            Some(sqlparser::ast::CharacterLength::IntegerLength { length, .. }) => {
                SqlType::Varchar(u32::try_from(*length).unwrap_or(u32::MAX))
            }
            _ => SqlType::Text(4),
        },
        DataType::Date => SqlType::Date,
        DataType::Datetime(d) | DataType::Timestamp(d, TimezoneInfo::None) => SqlType::Datetime(digits(d)),
        DataType::Time(d, TimezoneInfo::None) => SqlType::Time(digits(d)),
        other => return Err(not_supported(&format!("a cast to {other}"), None, position)),
    })
}
