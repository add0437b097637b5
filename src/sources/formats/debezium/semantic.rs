//! What a value means: by the message's schema or, without one, by column type and settings.
//!
//! Connect's names of types say it in the schemas of JSON and in those of Avro, which has names of its own, too.

use std::collections::HashMap;

use super::json::{Members, NotJson, Raw};
use super::modes::{Bigints, Binaries, Decimals, Modes, Times};
use super::part::member;
use crate::row::types::SqlType;

/// How a value is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Semantic {
    /// As it stands: a number, a truth value, a text.
    Plain,
    /// Big-endian two's complement of the unscaled value; the scale is the column's where it is not said.
    Decimal {
        scale: Option<i64>,
    },
    /// A struct of scale and unscaled value.
    VariableDecimal,
    Bytes(Binaries),
    /// Little-endian.
    Bits,
    /// Days since the epoch.
    Days,
    /// Since midnight.
    Time(Unit),
    /// Since the epoch, on the wall clock.
    Instant(Unit),
    /// Since the epoch, in UTC: Avro's. Debezium means by it what it means by [`Semantic::Instant`].
    Moment(Unit),
    /// ISO 8601 with an offset.
    Zoned,
    Iso,
    /// Avro's, as 16 bytes.
    Uuid,
    /// A type of the connector's that no MySQL column of ours has.
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// The semantics of a table's columns by name.
pub type Fields = HashMap<String, Semantic>;

impl Semantic {
    /// Of a column in a message without a schema.
    pub fn of(sql_type: &SqlType, modes: &Modes) -> Semantic {
        let by_digits = |digits: u8| if digits <= 3 { Unit::Millis } else { Unit::Micros };
        match sql_type {
            SqlType::Decimal { .. } if modes.decimal == Decimals::Precise => Semantic::Decimal { scale: None },
            SqlType::Int { bytes: 8, unsigned: true } if modes.bigint_unsigned == Bigints::Precise => {
                Semantic::Decimal { scale: None }
            }
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => Semantic::Bytes(modes.binary),
            SqlType::Bit(_) => Semantic::Bits,
            SqlType::Timestamp(_) => Semantic::Zoned,
            SqlType::Date if modes.time == Times::IsoString => Semantic::Iso,
            SqlType::Date => Semantic::Days,
            SqlType::Time(digits) => match modes.time {
                Times::AdaptiveTimeMicroseconds | Times::Microseconds => Semantic::Time(Unit::Micros),
                Times::Adaptive => Semantic::Time(by_digits(*digits)),
                Times::Connect => Semantic::Time(Unit::Millis),
                Times::IsoString => Semantic::Iso,
                Times::Nanoseconds => Semantic::Time(Unit::Nanos),
            },
            SqlType::Datetime(digits) => match modes.time {
                Times::AdaptiveTimeMicroseconds | Times::Adaptive => Semantic::Instant(by_digits(*digits)),
                Times::Connect => Semantic::Instant(Unit::Millis),
                Times::Microseconds => Semantic::Instant(Unit::Micros),
                Times::IsoString => Semantic::Iso,
                Times::Nanoseconds => Semantic::Instant(Unit::Nanos),
            },
            _ => Semantic::Plain,
        }
    }

    /// Of a field of a schema: its `name` where it has one, else its `type`.
    fn of_field(field: &Members<'_>) -> Semantic {
        let text = |name: &str| member(field, name).and_then(Raw::string);
        let parameter = |name: &str| {
            let parameters = member(field, "parameters")?.members().ok()?;
            member(&parameters, name)?.string()?.parse().ok()
        };
        match text("name") {
            Some(name) => Semantic::named(&name, parameter("scale")),
            None if text("type").as_deref() == Some("bytes") => Semantic::Bytes(Binaries::Bytes),
            None => Semantic::Plain,
        }
    }

    /// Of the name that a connector or Connect gives a type; a decimal's scale stands beside it.
    pub fn named(name: &str, scale: Option<i64>) -> Semantic {
        match name {
            "org.apache.kafka.connect.data.Decimal" => Semantic::Decimal { scale },
            "io.debezium.data.VariableScaleDecimal" => Semantic::VariableDecimal,
            "io.debezium.data.Bits" => Semantic::Bits,
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Semantic::Days,
            "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => Semantic::Time(Unit::Millis),
            "io.debezium.time.MicroTime" => Semantic::Time(Unit::Micros),
            "io.debezium.time.NanoTime" => Semantic::Time(Unit::Nanos),
            "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => Semantic::Instant(Unit::Millis),
            "io.debezium.time.MicroTimestamp" => Semantic::Instant(Unit::Micros),
            "io.debezium.time.NanoTimestamp" => Semantic::Instant(Unit::Nanos),
            "io.debezium.time.ZonedTimestamp" => Semantic::Zoned,
            "io.debezium.time.IsoDate" | "io.debezium.time.IsoTime" | "io.debezium.time.IsoTimestamp" => Semantic::Iso,
            "io.debezium.time.Year"
            | "io.debezium.data.Enum"
            | "io.debezium.data.EnumSet"
            | "io.debezium.data.Json" => Semantic::Plain,
            other => Semantic::Other(other.to_string()),
        }
    }

    /// True if values of that type can come in this form.
    pub fn carries(&self, sql_type: &SqlType) -> bool {
        match self {
            Semantic::Plain => !matches!(sql_type, SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_)),
            Semantic::Decimal { .. } | Semantic::VariableDecimal => {
                matches!(sql_type, SqlType::Decimal { .. } | SqlType::Int { .. })
            }
            Semantic::Bytes(_) => matches!(sql_type, SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_)),
            Semantic::Bits => matches!(sql_type, SqlType::Bit(_)),
            Semantic::Days => matches!(sql_type, SqlType::Date),
            Semantic::Time(_) => matches!(sql_type, SqlType::Time(_)),
            Semantic::Instant(_) | Semantic::Moment(_) => {
                matches!(sql_type, SqlType::Datetime(_) | SqlType::Timestamp(_))
            }
            Semantic::Zoned => matches!(sql_type, SqlType::Timestamp(_)),
            Semantic::Iso => matches!(sql_type, SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_)),
            Semantic::Uuid | Semantic::Other(_) => false,
        }
    }
}

/// The columns of an envelope's schema: the fields of its `after`, else of its `before`.
pub fn fields(schema: Raw<'_>) -> Result<Fields, NotJson> {
    let envelope = member(&schema.members()?, "fields").ok_or(NotJson)?.elements()?;
    let mut fields = Fields::new();
    for part in envelope {
        let side = member(&part.members()?, "field").and_then(Raw::string);
        if matches!(side.as_deref(), Some("before" | "after")) {
            fields.extend(columns(part)?);
        }
    }
    Ok(fields)
}

/// The columns of a struct's schema: a row's or a key's.
pub fn columns(schema: Raw<'_>) -> Result<Fields, NotJson> {
    let mut columns = Fields::new();
    for field in member(&schema.members()?, "fields").ok_or(NotJson)?.elements()? {
        let field = field.members()?;
        let name = member(&field, "field").and_then(Raw::string).ok_or(NotJson)?;
        columns.insert(name.into_owned(), Semantic::of_field(&field));
    }
    Ok(columns)
}
