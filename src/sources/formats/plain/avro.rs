//! Rows and keys as records of Avro, a field a column.

use super::{Fields, bare_key, no_value, value};
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::row::temporal::{MICROS_A_DAY, MICROS_A_SECOND, TIME_MICROS_MAX};
use crate::row::types::SqlType;
use crate::sources::formats::avro::schema::{Field, Kind};
use crate::sources::formats::avro::span::Span;
use crate::sources::formats::avro::{Schemas, document};
use crate::sources::formats::debezium::document as mysql_document;
use crate::sources::formats::debezium::modes::Modes;
use crate::sources::formats::debezium::semantic::{Semantic, Unit};
use crate::sources::formats::debezium::value as debezium;
use crate::sources::formats::{BadMessage, TableOf, text};
use crate::sources::mysql::json::quote;

/// The values of a record's fields; `None`: the value is null.
pub fn record(
    bytes: &[u8],
    schemas: &Schemas,
    columns: &[usize],
    table: &TableOf,
    zone: i32,
) -> Result<Option<Fields>, BadMessage> {
    let (schema, bytes) = schemas.of(bytes, "value")?;
    let span = Span::new(&schema, bytes)?;
    if span.is_null() {
        return Ok(None);
    }
    let values = fields(span, columns, table, zone)?;
    values.map(Some).ok_or_else(|| BadMessage::malformed("the message's value is no record"))
}

/// The values of a message's key: those of a record by name, or the one value of a key of one column.
pub fn key(
    bytes: &[u8],
    schemas: &Schemas,
    columns: &[usize],
    table: &TableOf,
    zone: i32,
) -> Result<Fields, BadMessage> {
    let (schema, bytes) = schemas.of(bytes, "key")?;
    let span = Span::new(&schema, bytes)?;
    if let Some(values) = fields(span, columns, table, zone)? {
        return Ok(values);
    }
    let at = bare_key(columns, table)?;
    let mut values: Fields = vec![None; table.followed.schema.columns.len()];
    values[at] = Some(datum(span, &table.followed.schema.columns[at], zone)?);
    Ok(values)
}

/// A field is the column of its name, else the one whose name differs in case only, else that of an alias: an older
/// name. `None`: it is no record.
fn fields(span: Span<'_>, columns: &[usize], table: &TableOf, zone: i32) -> Result<Option<Fields>, BadMessage> {
    let Some(fields) = span.fields() else { return Ok(None) };
    let schema = &table.followed.schema;
    // The better name wins: 0 the column's own, 1 in another case, 2 an alias.
    let mut found: Vec<Option<(u8, Span<'_>)>> = vec![None; schema.columns.len()];
    let mut others = Vec::new();
    for field in fields {
        let (field, value) = field?;
        let column = column_of(field, table).filter(|(_, at)| columns.contains(at));
        let Some((rank, at)) = column else {
            others.push(field.name.as_str());
            continue;
        };
        match &found[at] {
            Some((before, _)) if *before == rank => {
                let reason = format!("column `{}` stands twice in a row", schema.columns[at].name);
                return Err(BadMessage::malformed(reason));
            }
            Some((before, _)) if *before < rank => {}
            _ => found[at] = Some((rank, value)),
        }
    }
    if found.iter().all(Option::is_none) && ["op", "source", "after"].iter().all(|name| others.contains(name)) {
        return Err(BadMessage {
            code: "FEED_MISTAKEN",
            reason: "the message is one of Debezium's".into(),
            remedy: "create the source with FORMAT 'debezium-avro'".into(),
        });
    }
    let read = |(at, found): (usize, Option<(u8, Span<'_>)>)| {
        found.map(|(_, value)| datum(value, &schema.columns[at], zone)).transpose()
    };
    found.into_iter().enumerate().map(read).collect::<Result<Fields, BadMessage>>().map(Some)
}

fn column_of(field: &Field, table: &TableOf) -> Option<(u8, usize)> {
    let schema = &table.followed.schema;
    let exact = table.column(&field.name).map(|at| (0, at));
    let folded = || schema.position(&field.name).map(|at| (1, at));
    let alias = || field.aliases.iter().find_map(|alias| schema.position(alias)).map(|at| (2, at));
    exact.or_else(folded).or_else(alias)
}

fn datum(span: Span<'_>, column: &Column, zone: i32) -> Result<Datum, BadMessage> {
    if span.is_null() && column.nullable {
        return Ok(Datum::Null);
    }
    let read = read(span, &column.sql_type, zone).filter(|datum| value::holds(&column.sql_type, datum));
    read.ok_or_else(|| no_value(&document::shown(span), column))
}

fn read(span: Span<'_>, sql_type: &SqlType, zone: i32) -> Option<Datum> {
    let by_text = |text: &str| value::datum(text, sql_type, zone);
    let is_json = *sql_type == SqlType::Json;
    let is_text = matches!(sql_type, SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_));
    match (&span.node().semantic, &span.node().kind) {
        (Semantic::Other(_), _) | (_, Kind::Null) => None,
        (Semantic::Decimal { scale }, Kind::Bytes | Kind::Fixed(_)) => match sql_type {
            SqlType::Decimal { .. } => {
                debezium::of_unscaled(debezium::two_complement(span.bytes()?)?, *scale, sql_type)
            }
            _ => by_text(&document::digits(span.bytes()?, scale.unwrap_or(0))?),
        },
        (semantic @ (Semantic::VariableDecimal | Semantic::Bits), _) => {
            let carries = semantic.carries(sql_type);
            carries.then(|| debezium::datum(span, sql_type, semantic, &Modes::default())).flatten()
        }
        (Semantic::Uuid, _) if is_text => by_text(&uuid(span.bytes()?)?),
        (semantic, Kind::Int | Kind::Long) => match time(semantic, span.long()?, sql_type, zone) {
            Some(time) => time,
            None => number(span.long()?, sql_type, zone),
        },
        (_, Kind::Boolean) => {
            let may_be = is_text || is_json || matches!(sql_type, SqlType::Int { .. } | SqlType::Bit(_));
            let words = if is_text || is_json { ["false", "true"] } else { ["0", "1"] };
            may_be.then(|| by_text(words[span.boolean()? as usize])).flatten()
        }
        (_, Kind::Float) => match sql_type {
            SqlType::Float => Some(Datum::Float(span.float().filter(|value| value.is_finite())?)),
            SqlType::Double => Some(Datum::Double(span.float().filter(|value| value.is_finite())?.into())),
            _ => fraction(&span.float().filter(|value| value.is_finite())?.to_string(), sql_type, zone),
        },
        (_, Kind::Double) => match sql_type {
            SqlType::Double => Some(Datum::Double(span.double().filter(|value| value.is_finite())?)),
            _ => fraction(&span.double().filter(|value| value.is_finite())?.to_string(), sql_type, zone),
        },
        // What a connector read from a JSON column is a document; any other text is a JSON text.
        (_, Kind::String) if is_json && span.node().connect.as_deref() == Some("io.debezium.data.Json") => {
            mysql_document::text(span.text()?).map(Datum::Text)
        }
        (_, Kind::String | Kind::Enum(_)) if is_json => {
            let mut quoted = String::new();
            quote(&mut quoted, span.text()?);
            Some(Datum::Text(quoted))
        }
        (_, Kind::String | Kind::Enum(_)) => by_text(span.text()?),
        (_, Kind::Bytes | Kind::Fixed(_)) => bytes(span.bytes()?, sql_type),
        (_, Kind::Record(_) | Kind::Array(_) | Kind::Map(_)) if is_json || is_text => {
            let mut printed = String::new();
            document::print(&mut printed, span)?;
            if is_json { mysql_document::text(&printed).map(Datum::Text) } else { by_text(&printed) }
        }
        (_, Kind::Record(_) | Kind::Array(_) | Kind::Map(_) | Kind::Union(_)) => None,
    }
}

/// A whole number that says no time: none for a column of dates or times, since its unit is not known.
fn number(number: i64, sql_type: &SqlType, zone: i32) -> Option<Datum> {
    match sql_type {
        SqlType::Int { bytes: 8, unsigned: false } => Some(Datum::Int(number)),
        SqlType::Int { bytes, unsigned: false } => {
            let bits = 8 * *bytes as u32 - 1;
            (-(1i64 << bits)..1i64 << bits).contains(&number).then_some(Datum::Int(number))
        }
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => None,
        _ => fraction(&number.to_string(), sql_type, zone),
    }
}

fn fraction(number: &str, sql_type: &SqlType, zone: i32) -> Option<Datum> {
    let is_time = matches!(sql_type, SqlType::Date | SqlType::Time(_) | SqlType::Datetime(_) | SqlType::Timestamp(_));
    let is_bytes = matches!(sql_type, SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_));
    (!is_time && !is_bytes).then(|| value::datum(number, sql_type, zone)).flatten()
}

/// A time of a column of times: never cut. `None`: it is neither, and the number stands for itself.
fn time(semantic: &Semantic, number: i64, sql_type: &SqlType, zone: i32) -> Option<Option<Datum>> {
    let micros = |unit: &Unit| match unit {
        Unit::Nanos if number % 1000 != 0 => None,
        unit => unit.micros(number),
    };
    Some(match (semantic, sql_type) {
        (Semantic::Days, SqlType::Date) => {
            let first_of_day = number.checked_mul(MICROS_A_DAY);
            let known = first_of_day.is_some_and(|micros| debezium::datetime(micros).is_some());
            known.then(|| i32::try_from(number).ok().map(Datum::Date)).flatten()
        }
        (Semantic::Time(unit), SqlType::Time(_)) => {
            micros(unit).filter(|micros| (-TIME_MICROS_MAX..=TIME_MICROS_MAX).contains(micros)).map(Datum::Time)
        }
        (Semantic::Instant(unit), SqlType::Datetime(_)) => {
            micros(unit).and_then(debezium::datetime).map(Datum::Datetime)
        }
        (Semantic::Moment(unit), SqlType::Timestamp(_)) => {
            micros(unit).and_then(debezium::datetime).map(Datum::Timestamp)
        }
        // What the clock of TIME ZONE shows at an instant, and the instant at which it shows that.
        (Semantic::Moment(unit), SqlType::Datetime(_)) => {
            let wall = micros(unit).and_then(|micros| micros.checked_add(zone as i64 * MICROS_A_SECOND));
            wall.and_then(debezium::datetime).map(Datum::Datetime)
        }
        (Semantic::Instant(unit), SqlType::Timestamp(_)) => {
            let wall = micros(unit).and_then(debezium::datetime);
            wall.and_then(|wall| text::to_utc(wall, zone)).map(Datum::Timestamp)
        }
        (
            Semantic::Days | Semantic::Time(_) | Semantic::Instant(_) | Semantic::Moment(_),
            SqlType::Int { .. } | SqlType::Decimal { .. },
        ) => return None,
        (Semantic::Days | Semantic::Time(_) | Semantic::Instant(_) | Semantic::Moment(_), _) => None,
        _ => return None,
    })
}

fn bytes(bytes: &[u8], sql_type: &SqlType) -> Option<Datum> {
    let mut bytes = bytes.to_vec();
    match sql_type {
        SqlType::Binary(length) => {
            bytes.resize(bytes.len().max(*length as usize), 0);
            Some(Datum::Bytes(bytes))
        }
        SqlType::Varbinary(_) | SqlType::Blob(_) => Some(Datum::Bytes(bytes)),
        SqlType::Varchar(_) | SqlType::Text(_) => String::from_utf8(bytes).ok().map(Datum::Text),
        _ => None,
    }
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (hex.len() == 32).then(|| [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
