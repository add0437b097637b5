//! MySQL column types and their one Arrow representation.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// A column's type as MySQL and TiDB know it, with what is needed to declare it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SqlType {
    /// The type of a bare NULL.
    Null,
    /// A truth value made by an expression; declared as TINYINT(1).
    Bool,
    /// TINYINT (1 byte), SMALLINT (2), MEDIUMINT (3), INT (4), BIGINT (8).
    Int {
        bytes: u8,
        unsigned: bool,
    },
    Year,
    /// BIT(n), 1 to 64 bits.
    Bit(u8),
    Float,
    Double,
    /// Up to (65,30).
    Decimal {
        precision: u8,
        scale: u8,
    },
    Char(u32),
    Varchar(u32),
    /// TINYTEXT, TEXT, MEDIUMTEXT, LONGTEXT by the bytes of the length prefix (1 to 4).
    Text(u8),
    Binary(u32),
    Varbinary(u32),
    /// TINYBLOB, BLOB, MEDIUMBLOB, LONGBLOB by the bytes of the length prefix (1 to 4).
    Blob(u8),
    Enum(Vec<String>),
    Set(Vec<String>),
    Json,
    Date,
    /// Fractional digits, 0 to 6; from -838:59:59 to 838:59:59.
    Time(u8),
    /// A wall-clock reading, never shifted.
    Datetime(u8),
    /// An instant, kept in UTC.
    Timestamp(u8),
}

pub const BIGINT: SqlType = SqlType::Int { bytes: 8, unsigned: false };

/// Decimals up to this precision are `Decimal128`, above it `Decimal256`.
pub const DECIMAL128_PRECISION_MAX: u8 = 38;
/// The largest DECIMAL that MySQL and TiDB declare.
pub const DECIMAL_PRECISION_MAX: u8 = 65;
pub const DECIMAL_SCALE_MAX: u8 = 30;

impl SqlType {
    /// The Arrow type that every floor uses for this type.
    pub fn arrow(&self) -> DataType {
        use SqlType::*;
        match self {
            Null => DataType::Null,
            Bool => DataType::Boolean,
            Int { bytes: 1, unsigned: false } => DataType::Int8,
            Int { bytes: 2, unsigned: false } => DataType::Int16,
            Int { bytes: 3 | 4, unsigned: false } => DataType::Int32,
            Int { unsigned: false, .. } => DataType::Int64,
            Int { bytes: 1, unsigned: true } => DataType::UInt8,
            Int { bytes: 2, unsigned: true } => DataType::UInt16,
            Int { bytes: 3 | 4, unsigned: true } => DataType::UInt32,
            Int { unsigned: true, .. } | Bit(_) => DataType::UInt64,
            Year => DataType::Int16,
            Float => DataType::Float32,
            Double => DataType::Float64,
            Decimal { precision, scale } if *precision <= DECIMAL128_PRECISION_MAX => {
                DataType::Decimal128(*precision, *scale as i8)
            }
            Decimal { precision, scale } => DataType::Decimal256(*precision, *scale as i8),
            Char(_) | Varchar(_) | Text(_) | Enum(_) | Set(_) | Json => DataType::Utf8,
            Binary(_) | Varbinary(_) | Blob(_) => DataType::Binary,
            Date => DataType::Date32,
            Time(_) => DataType::Duration(TimeUnit::Microsecond),
            Datetime(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        }
    }

    /// The type to declare for a computed value of this Arrow type; `None` if MySQL has no such type.
    pub fn of_arrow(data_type: &DataType) -> Option<SqlType> {
        let int = |bytes, unsigned| SqlType::Int { bytes, unsigned };
        Some(match data_type {
            DataType::Null => SqlType::Null,
            DataType::Boolean => SqlType::Bool,
            DataType::Int8 => int(1, false),
            DataType::Int16 => int(2, false),
            DataType::Int32 => int(4, false),
            DataType::Int64 => int(8, false),
            DataType::UInt8 => int(1, true),
            DataType::UInt16 => int(2, true),
            DataType::UInt32 => int(4, true),
            DataType::UInt64 => int(8, true),
            DataType::Float32 => SqlType::Float,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s)
                if *s >= 0 && *p <= DECIMAL_PRECISION_MAX =>
            {
                SqlType::Decimal { precision: *p, scale: *s as u8 }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text(4),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SqlType::Blob(4),
            DataType::Date32 => SqlType::Date,
            DataType::Duration(_) => SqlType::Time(6),
            DataType::Timestamp(_, None) => SqlType::Datetime(6),
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(6),
            _ => return None,
        })
    }

    pub fn is_text(&self) -> bool {
        self.arrow() == DataType::Utf8
    }
}

/// The type as MySQL DDL declares it.
impl std::fmt::Display for SqlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use SqlType::*;
        let quoted = |labels: &[String]| {
            labels
                .iter()
                .map(|l| format!("'{}'", l.replace('\\', r"\\").replace('\'', "''")))
                .collect::<Vec<_>>()
                .join(",")
        };
        let fraction =
            |name: &str, digits: u8| if digits == 0 { name.to_string() } else { format!("{name}({digits})") };
        let size = |name: &str, length_bytes: u8| match length_bytes {
            1 => format!("TINY{name}"),
            2 => name.to_string(),
            3 => format!("MEDIUM{name}"),
            _ => format!("LONG{name}"),
        };
        match self {
            Null => write!(f, "VARCHAR(1)"),
            Bool => write!(f, "TINYINT(1)"),
            Int { bytes, unsigned } => {
                let name = match bytes {
                    1 => "TINYINT",
                    2 => "SMALLINT",
                    3 => "MEDIUMINT",
                    4 => "INT",
                    _ => "BIGINT",
                };
                write!(f, "{name}{}", if *unsigned { " UNSIGNED" } else { "" })
            }
            Year => write!(f, "YEAR"),
            Bit(n) => write!(f, "BIT({n})"),
            Float => write!(f, "FLOAT"),
            Double => write!(f, "DOUBLE"),
            Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Char(n) => write!(f, "CHAR({n})"),
            Varchar(n) => write!(f, "VARCHAR({n})"),
            Text(bytes) => write!(f, "{}", size("TEXT", *bytes)),
            Binary(n) => write!(f, "BINARY({n})"),
            Varbinary(n) => write!(f, "VARBINARY({n})"),
            Blob(bytes) => write!(f, "{}", size("BLOB", *bytes)),
            Enum(labels) => write!(f, "ENUM({})", quoted(labels)),
            Set(labels) => write!(f, "SET({})", quoted(labels)),
            Json => write!(f, "JSON"),
            Date => write!(f, "DATE"),
            Time(digits) => write!(f, "{}", fraction("TIME", *digits)),
            Datetime(digits) => write!(f, "{}", fraction("DATETIME", *digits)),
            Timestamp(digits) => write!(f, "{}", fraction("TIMESTAMP", *digits)),
        }
    }
}
