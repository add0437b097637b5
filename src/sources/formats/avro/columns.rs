//! The columns of a table whose rows a schema describes.
//!
//! A type is chosen that holds every value of the field: where there is none of MySQL's, or more than one might be
//! meant, the field is named with the reason, and the table's columns are to be declared.

use super::schema::{Field, Kind, Node, Schema};
use crate::row::schema::{Column, Schema as Columns};
use crate::row::types::{BIGINT, DECIMAL_PRECISION_MAX, DECIMAL_SCALE_MAX, SqlType};
use crate::sources::formats::debezium::semantic::{Semantic, Unit};

/// Texts of a key and symbols of an enum are no longer than what MySQL compares by an index of any kind.
const KEY_CHARS_MAX: u32 = 255;
const UUID_CHARS: u32 = 36;

/// A table's columns, and fields that no column can be made of, with the reason.
#[derive(Debug, Default)]
pub struct Described {
    pub schema: Columns,
    pub unsupported: Vec<(String, String)>,
}

/// What a message's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A row.
    Plain,
    /// Debezium's envelope, with the row in its `after`.
    Debezium,
}

/// Reads the columns from the schemas of values and of keys. The error says why a schema describes no rows.
pub fn describe(value: &Schema, key: Option<&Schema>, rows: Rows, excluded: &[String]) -> Result<Described, String> {
    let fields = value.fields().ok_or("its values are no records")?;
    let fields = match rows {
        Rows::Plain => fields,
        Rows::Debezium => {
            let after = fields.iter().find(|field| field.name == "after").and_then(|after| value.fields_of(after));
            after.ok_or("its values are no events of Debezium: there is no record `after`")?
        }
    };
    let key_fields = key.map(|key| key.fields().ok_or("its keys are no records")).transpose()?;
    let in_key = |name: &str| key_fields.is_some_and(|key| key.iter().any(|field| field.name == name));
    let mut described = Described::default();
    for field in fields.iter().filter(|field| !excluded.contains(&field.name)) {
        match column(value, field, in_key(&field.name), rows) {
            Ok(column) => described.schema.columns.push(column),
            Err(reason) => described.unsupported.push((field.name.clone(), reason)),
        }
    }
    for field in key_fields.into_iter().flatten() {
        let key = key.expect("it has fields");
        if described.schema.position(&field.name).is_none() {
            // The value may leave out what the key has.
            match column(key, field, true, rows) {
                Ok(column) => described.schema.columns.push(column),
                Err(reason) => described.unsupported.push((field.name.clone(), reason)),
            }
        }
        let at = described.schema.columns.iter().position(|column| column.name == field.name);
        if let Some(at) = at {
            described.schema.columns[at].nullable = false;
            described.schema.key.get_or_insert_default().push(at);
        }
    }
    Ok(described)
}

fn column(schema: &Schema, field: &Field, in_key: bool, rows: Rows) -> Result<Column, String> {
    let (node, nullable) = schema.node_of(field).ok_or("it may be of more than one type")?;
    let sql_type = sql_type(node, in_key, rows)?;
    let is_text = matches!(sql_type, SqlType::Varchar(_) | SqlType::Text(_) | SqlType::Char(_));
    let mut column = Column::new(&field.name, sql_type, nullable);
    column.collation = is_text.then(|| "utf8mb4_bin".to_string());
    Ok(column)
}

fn sql_type(node: &Node, in_key: bool, rows: Rows) -> Result<SqlType, String> {
    let text = if in_key { SqlType::Varchar(KEY_CHARS_MAX) } else { SqlType::Text(4) };
    let parameter = |name: &str| node.parameters.get(name);
    if let Some(found) = of_debezium(node, parameter) {
        return Ok(found);
    }
    let digits = |unit: &Unit| if *unit == Unit::Millis { 3 } else { 6 };
    Ok(match (&node.semantic, &node.kind) {
        (Semantic::Decimal { scale }, _) => {
            let precision = parameter("precision").or(parameter("connect.decimal.precision"));
            let precision = precision.and_then(|digits| digits.parse::<u8>().ok()).unwrap_or(DECIMAL_PRECISION_MAX);
            let scale = u8::try_from(scale.unwrap_or(0)).ok().filter(|scale| *scale <= DECIMAL_SCALE_MAX);
            match scale {
                Some(scale) if (scale.max(1)..=DECIMAL_PRECISION_MAX).contains(&precision) => {
                    SqlType::Decimal { precision, scale }
                }
                _ => return Err("it has more digits than DECIMAL(65,30)".to_string()),
            }
        }
        (Semantic::VariableDecimal, _) => return Err("each of its values has another scale".to_string()),
        (Semantic::Days, _) => SqlType::Date,
        (Semantic::Time(unit), _) => SqlType::Time(digits(unit)),
        // MySQL's times end at the microsecond; those of Debezium came from there.
        (Semantic::Instant(Unit::Nanos) | Semantic::Moment(Unit::Nanos), _) if rows == Rows::Plain => BIGINT,
        (Semantic::Instant(unit), _) => SqlType::Datetime(digits(unit)),
        (Semantic::Moment(unit), _) if rows == Rows::Debezium => SqlType::Datetime(digits(unit)),
        (Semantic::Moment(unit), _) => SqlType::Timestamp(digits(unit)),
        (Semantic::Zoned, _) => SqlType::Timestamp(6),
        (Semantic::Uuid, _) => SqlType::Char(UUID_CHARS),
        (Semantic::Other(name), _) => return Err(format!("no type of MySQL's is a {name}")),
        (_, Kind::Boolean) => SqlType::Int { bytes: 1, unsigned: false },
        (_, Kind::Int) => SqlType::Int { bytes: 4, unsigned: false },
        (_, Kind::Long) => BIGINT,
        (_, Kind::Float) => SqlType::Float,
        (_, Kind::Double) => SqlType::Double,
        (_, Kind::String) => text,
        // Symbols may be added: an ENUM would stop at them.
        (_, Kind::Enum(_)) => SqlType::Varchar(KEY_CHARS_MAX),
        (_, Kind::Bytes | Kind::Fixed(_)) if in_key => SqlType::Varbinary(KEY_CHARS_MAX),
        (_, Kind::Bytes | Kind::Fixed(_)) => SqlType::Blob(4),
        (_, Kind::Record(_) | Kind::Array(_) | Kind::Map(_)) if in_key => {
            return Err("a part of a key is a value of many parts".to_string());
        }
        (_, Kind::Record(_) | Kind::Array(_) | Kind::Map(_)) => SqlType::Json,
        (_, Kind::Null | Kind::Union(_)) => return Err("it is always null".to_string()),
    })
}

/// What Debezium says of MySQL's own types.
fn of_debezium<'a>(node: &Node, parameter: impl Fn(&str) -> Option<&'a String>) -> Option<SqlType> {
    let labels = || Some(parameter("allowed")?.split(',').map(str::to_string).collect::<Vec<_>>());
    Some(match node.connect.as_deref()?.strip_prefix("io.debezium.")? {
        "data.Json" => SqlType::Json,
        "data.Enum" => SqlType::Enum(labels()?),
        "data.EnumSet" => SqlType::Set(labels()?),
        "data.Bits" => SqlType::Bit(parameter("length")?.parse().ok().filter(|bits| (1..=64).contains(bits))?),
        "time.Year" => SqlType::Year,
        "time.IsoDate" => SqlType::Date,
        "time.IsoTime" => SqlType::Time(6),
        "time.IsoTimestamp" => SqlType::Datetime(6),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, json: &str) -> String {
        format!(r#"{{"name":"{name}","type":{json}}}"#)
    }

    #[test]
    fn every_type_has_the_column_that_holds_it() {
        let logical = |of: &str, word: &str| format!(r#"{{"type":"{of}","logicalType":"{word}"}}"#);
        let connect = |of: &str, name: &str, more: &str| format!(r#"{{"type":"{of}","connect.name":"{name}"{more}}}"#);
        let cases = [
            (r#"["null","string"]"#.to_string(), "LONGTEXT NULL"),
            ("\"boolean\"".to_string(), "TINYINT"),
            ("\"int\"".to_string(), "INT"),
            ("\"long\"".to_string(), "BIGINT"),
            ("\"float\"".to_string(), "FLOAT"),
            ("\"bytes\"".to_string(), "LONGBLOB"),
            (r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#.to_string(), "DECIMAL(12,2)"),
            (r#"{"type":"bytes","logicalType":"decimal","precision":80,"scale":2}"#.to_string(), "more digits than"),
            (logical("int", "date"), "DATE"),
            (logical("int", "time-millis"), "TIME(3)"),
            (logical("long", "timestamp-millis"), "TIMESTAMP(3)"),
            (logical("long", "local-timestamp-micros"), "DATETIME(6)"),
            (logical("long", "timestamp-nanos"), "BIGINT"),
            (logical("string", "uuid"), "LONGTEXT"),
            (logical("string", "date"), "LONGTEXT"),
            (r#"{"type":"array","items":"int"}"#.to_string(), "JSON"),
            (r#"["int","string"]"#.to_string(), "more than one type"),
            ("\"null\"".to_string(), "always null"),
            (connect("long", "io.debezium.time.MicroTimestamp", ""), "DATETIME(6)"),
            (connect("string", "io.debezium.time.ZonedTimestamp", ""), "TIMESTAMP(6)"),
            (connect("string", "io.debezium.data.Enum", r#","connect.parameters":{"allowed":"a,b"}"#), "ENUM('a','b')"),
            (connect("bytes", "io.debezium.data.Bits", r#","connect.parameters":{"length":"5"}"#), "BIT(5)"),
            (connect("string", "io.debezium.data.Uuid", ""), "no type of MySQL's is a io.debezium.data.Uuid"),
        ];
        let fields: Vec<String> =
            cases.iter().enumerate().map(|(i, (json, _))| field(&format!("f{i}"), json)).collect();
        let text = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","));
        let described = describe(&Schema::parse(&text, &[]).unwrap(), None, Rows::Plain, &[]).unwrap();
        for (i, (json, wanted)) in cases.iter().enumerate() {
            let name = format!("f{i}");
            let found = match described.schema.position(&name) {
                Some(at) => {
                    let column = &described.schema.columns[at];
                    format!("{}{}", column.sql_type, if column.nullable { " NULL" } else { "" })
                }
                None => described.unsupported.iter().find(|(field, _)| *field == name).unwrap().1.clone(),
            };
            assert!(found == *wanted || found.contains(wanted) && !wanted.contains('('), "{json}: {found}");
        }
    }

    #[test]
    fn the_key_is_that_of_the_keys_schema() {
        let record = |fields: &[String]| {
            let text = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","));
            Schema::parse(&text, &[]).unwrap()
        };
        let value = record(&[field("a", "\"int\""), field("b", r#"["null","string"]"#), field("c", "\"int\"")]);
        let key = record(&[field("b", "\"string\""), field("d", "\"long\"")]);
        let described = describe(&value, Some(&key), Rows::Plain, &["c".to_string()]).unwrap();
        let columns: Vec<String> =
            described.schema.columns.iter().map(|c| format!("{} {} {}", c.name, c.sql_type, c.nullable)).collect();
        assert_eq!(columns, ["a INT false", "b VARCHAR(255) false", "d BIGINT false"]);
        assert_eq!(described.schema.key, Some(vec![1, 2]));
        assert!(describe(&value, None, Rows::Debezium, &[]).unwrap_err().contains("no record `after`"));
    }
}
