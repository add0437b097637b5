//! An encoder of TiCDC's messages: our own, written from the protocols' documents, not TiCDC's.
//!
//! It writes what TiCDC is documented to write, so that a test can make a whole feed from rows. What it cannot show is
//! that TiCDC does so; the golden files under tests/golden/feeds hold messages from its documents.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

#[path = "ticdc_values.rs"]
mod values;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemill::row::datum::Datum;
use tidemill::row::schema::Column;
use tidemill::row::temporal::{Date, MICROS_A_SECOND, datetime_micros};
use tidemill::row::types::SqlType;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::{Compression, Row};

use values::{canal_type, enum_number, go_float, java_type, open_type, set_number};
pub use values::{go_quote, json};

/// A message's key and value.
pub type Encoded = (Option<Vec<u8>>, Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    CanalJson,
    OpenProtocol,
    Simple,
}

/// TiDB's action codes, as many as tests need.
pub mod action {
    pub const CREATE_TABLE: u64 = 3;
    pub const DROP_TABLE: u64 = 4;
    pub const ADD_COLUMN: u64 = 5;
    pub const ADD_INDEX: u64 = 7;
    pub const TRUNCATE_TABLE: u64 = 11;
    pub const RENAME_TABLE: u64 = 14;
}

#[derive(Clone, Debug)]
pub struct Encoder {
    pub format: Format,
    /// TiCDC's `--tz`, in seconds east of UTC.
    pub time_zone_seconds: i32,
    pub compression: Compression,
    /// `only-output-updated-columns`
    pub only_updated_columns: bool,
    /// `delete-only-output-handle-key-columns`
    pub delete_only_key: bool,
    /// `open.output-old-value`
    pub old_values: bool,
    /// Of the simple protocol: the version that rows are written under.
    pub schema_version: u64,
}

impl Encoder {
    /// canal-json with `enable-tidb-extension`.
    pub fn canal_json() -> Encoder {
        Encoder::new(Format::CanalJson)
    }

    pub fn open_protocol() -> Encoder {
        Encoder::new(Format::OpenProtocol)
    }

    /// The simple protocol in JSON.
    pub fn simple() -> Encoder {
        Encoder::new(Format::Simple)
    }

    fn new(format: Format) -> Encoder {
        Encoder {
            format,
            time_zone_seconds: 0,
            compression: Compression::None,
            only_updated_columns: false,
            delete_only_key: false,
            old_values: true,
            schema_version: 1,
        }
    }

    /// One row: inserted (`after` alone), updated (both) or deleted (`before` alone).
    pub fn row(&self, table: &FollowedTable, before: Option<&Row>, after: Option<&Row>, commit: u64) -> Encoded {
        let old = |row: &Row| self.object(table, row, after.filter(|_| self.only_updated_columns), false);
        let deleted = |row: &Row| self.object(table, row, None, self.delete_only_key);
        let new = |row: &Row| self.object(table, row, None, false);
        match self.format {
            Format::OpenProtocol => {
                let value = match (before, after) {
                    (None, Some(after)) => format!(r#"{{"u":{}}}"#, new(after)),
                    (Some(before), Some(after)) if self.old_values => {
                        format!(r#"{{"u":{},"p":{}}}"#, new(after), old(before))
                    }
                    (Some(_), Some(after)) => format!(r#"{{"u":{}}}"#, new(after)),
                    (Some(before), None) => format!(r#"{{"d":{}}}"#, deleted(before)),
                    (None, None) => panic!("a change of no row"),
                };
                let (database, name) = (json(&table.database), json(&table.name));
                let key = format!(r#"{{"ts":{commit},"scm":{database},"tbl":{name},"t":1}}"#);
                batch(&[(key.into_bytes(), self.compressed(value))])
            }
            Format::CanalJson => {
                let (kind, data, old) = match (before, after) {
                    (None, Some(after)) => ("INSERT", new(after), "null".to_string()),
                    (Some(before), Some(after)) => ("UPDATE", new(after), format!("[{}]", old(before))),
                    (Some(before), None) => ("DELETE", deleted(before), "null".to_string()),
                    (None, None) => panic!("a change of no row"),
                };
                let row = after.or(before).expect("one of both");
                let (sql_types, mysql_types) = canal_types(table, row);
                let of_row = [
                    ("pkNames", key_names(table)),
                    ("sqlType", sql_types),
                    ("mysqlType", mysql_types),
                    ("old", old),
                    ("data", format!("[{data}]")),
                ];
                let names = (&*table.database, &*table.name);
                (None, self.compressed(canal(names, kind, false, "", commit, &of_row, "commitTs")))
            }
            Format::Simple => {
                let (kind, images) = match (before, after) {
                    (None, Some(after)) => ("INSERT", format!(r#""data":{}"#, new(after))),
                    (Some(before), Some(after)) => {
                        ("UPDATE", format!(r#""data":{},"old":{}"#, new(after), old(before)))
                    }
                    (Some(before), None) => ("DELETE", format!(r#""old":{}"#, deleted(before))),
                    (None, None) => panic!("a change of no row"),
                };
                let (database, name, version) = (json(&table.database), json(&table.name), self.schema_version);
                let head = format!(r#""version":1,"database":{database},"table":{name},"tableID":148,"type":"{kind}""#);
                let times = format!(r#""commitTs":{commit},"buildTs":{},"schemaVersion":{version}"#, commit >> 18);
                let value = format!("{{{head},{times},{images}}}");
                (None, self.compressed(value))
            }
        }
    }

    /// Every change with a commitTs below it has been sent.
    pub fn watermark(&self, ts: u64) -> Encoded {
        match self.format {
            Format::OpenProtocol => batch(&[(format!(r#"{{"ts":{ts},"t":3}}"#).into_bytes(), Vec::new())]),
            Format::CanalJson => {
                let value = canal(("", ""), "TIDB_WATERMARK", false, "", ts, &NO_ROW, "watermarkTs");
                (None, self.compressed(value))
            }
            Format::Simple => {
                let value = format!(r#"{{"version":1,"type":"WATERMARK","commitTs":{ts},"buildTs":{}}}"#, ts >> 18);
                (None, self.compressed(value))
            }
        }
    }

    /// A statement; `code` is one of [`action`].
    pub fn ddl(&self, database: &str, table: &str, sql: &str, code: u64, commit: u64) -> Encoded {
        let names = (database, table);
        let (database, table, quoted) = (json(database), json(table), json(sql));
        let kind = match code {
            action::CREATE_TABLE => "CREATE",
            action::DROP_TABLE => "ERASE",
            action::ADD_COLUMN => "ALTER",
            action::ADD_INDEX => "CINDEX",
            action::TRUNCATE_TABLE => "TRUNCATE",
            action::RENAME_TABLE => "RENAME",
            _ => "QUERY",
        };
        match self.format {
            Format::OpenProtocol => {
                let key = format!(r#"{{"ts":{commit},"scm":{database},"tbl":{table},"t":2}}"#);
                let value = format!(r#"{{"q":{quoted},"t":{code}}}"#);
                batch(&[(key.into_bytes(), self.compressed(value))])
            }
            Format::CanalJson => (None, self.compressed(canal(names, kind, true, sql, commit, &NO_ROW, "commitTs"))),
            Format::Simple => {
                let named = format!(r#""schema":{database},"table":{table},"tableID":148"#);
                let schema = format!(r#"{{{named},"version":{commit},"columns":[],"indexes":[]}}"#);
                let head = format!(r#""version":1,"type":"{kind}","sql":{quoted},"commitTs":{commit}"#);
                let value = format!(r#"{{{head},"buildTs":{},"tableSchema":{schema}}}"#, commit >> 18);
                (None, self.compressed(value))
            }
        }
    }

    fn compressed(&self, value: String) -> Vec<u8> {
        let bytes = value.into_bytes();
        match self.compression {
            Compression::None => bytes,
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(&bytes).expect("small enough"),
            Compression::Lz4 => {
                let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
                std::io::Write::write_all(&mut frame, &bytes).expect("memory takes it");
                frame.finish().expect("memory takes it")
            }
        }
    }

    /// A row's columns; those equal to `unless`'s are left out, and those outside the key if `only_key`.
    fn object(&self, table: &FollowedTable, row: &Row, unless: Option<&Row>, only_key: bool) -> String {
        let mut members = Vec::new();
        for (i, (column, value)) in table.schema.columns.iter().zip(row).enumerate() {
            if only_key && !is_key(table, i) || unless.is_some_and(|other| other[i] == *value) {
                continue;
            }
            let value = match self.format {
                Format::OpenProtocol => self.open_column(table, i, value),
                _ => self.text(column, value).map_or("null".into(), |text| match (self.format, &column.sql_type) {
                    (Format::Simple, SqlType::Timestamp(_)) => {
                        format!(r#"{{"location":"{}","value":{}}}"#, self.location(), json(&text))
                    }
                    _ => json(&text),
                }),
            };
            members.push(format!("{}:{value}", json(&column.name)));
        }
        format!("{{{}}}", members.join(","))
    }

    fn location(&self) -> String {
        let minutes = self.time_zone_seconds / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    }

    /// The text of a value in canal-json and in the simple protocol.
    fn text(&self, column: &Column, value: &Datum) -> Option<String> {
        Some(match (value, &column.sql_type) {
            (Datum::Null, _) => return None,
            (Datum::Bytes(bytes), _) if self.format == Format::Simple => STANDARD.encode(bytes),
            (Datum::Bytes(bytes), _) => bytes.iter().map(|b| *b as char).collect(),
            (Datum::Text(label), SqlType::Enum(labels)) => enum_number(label, labels).to_string(),
            (Datum::Text(label), SqlType::Set(labels)) => set_number(label, labels).to_string(),
            (Datum::Int(year), SqlType::Year) => year.to_string(),
            // The shortest digits that are this number, without an exponent.
            (Datum::Float(v), _) => v.to_string(),
            (Datum::Double(v), _) => v.to_string(),
            (Datum::Timestamp(micros), _) => self.wall(*micros).text(&column.sql_type)?,
            _ => value.text(&column.sql_type)?,
        })
    }

    fn wall(&self, utc: i64) -> Datum {
        let zero = datetime_micros(Date { year: 0, month: 0, day: 0 }, 0);
        Datum::Timestamp(if utc == zero { utc } else { utc + self.time_zone_seconds as i64 * MICROS_A_SECOND })
    }

    fn open_column(&self, table: &FollowedTable, i: usize, value: &Datum) -> String {
        let column = &table.schema.columns[i];
        let (code, binary) = open_type(&column.sql_type);
        let mut flags = if binary { 0x01 } else { 0 };
        flags |= if is_key(table, i) { 0x02 | 0x08 } else { 0 };
        flags |= if column.nullable { 0x40 } else { 0 };
        flags |= if matches!(column.sql_type, SqlType::Int { unsigned: true, .. }) { 0x80 } else { 0 };
        let value = match (value, &column.sql_type) {
            (Datum::Null, _) => "null".to_string(),
            (Datum::Int(v), _) => v.to_string(),
            (Datum::UInt(v), _) => v.to_string(),
            (Datum::Float(v), _) => go_float(v.to_string(), format!("{v:e}"), v.abs() as f64),
            (Datum::Double(v), _) => go_float(v.to_string(), format!("{v:e}"), v.abs()),
            (Datum::Text(label), SqlType::Enum(labels)) => enum_number(label, labels).to_string(),
            (Datum::Text(label), SqlType::Set(labels)) => set_number(label, labels).to_string(),
            (Datum::Text(text), SqlType::Text(_)) => json(&STANDARD.encode(text)),
            (Datum::Bytes(bytes), SqlType::Blob(_)) => json(&STANDARD.encode(bytes)),
            (Datum::Bytes(bytes), _) => json(&go_quote(bytes)),
            _ => json(&self.text(column, value).expect("not NULL")),
        };
        let handle = if is_key(table, i) { r#""h":true,"# } else { "" };
        format!(r#"{{"t":{code},{handle}"f":{flags},"v":{value}}}"#)
    }
}

/// What a canal-json message has of a row, where it has none.
const NO_ROW: [(&str, &str); 5] =
    [("pkNames", "null"), ("sqlType", "null"), ("mysqlType", "null"), ("data", "null"), ("old", "null")];

/// A message of canal-json; `time` is the extension's member that has the TSO.
fn canal(
    (database, table): (&str, &str),
    kind: &str,
    is_ddl: bool,
    sql: &str,
    ts: u64,
    of_row: &[(&str, impl std::fmt::Display)],
    time: &str,
) -> String {
    let (database, table, sql, ms) = (json(database), json(table), json(sql), ts >> 18);
    let of_row: String = of_row.iter().map(|(name, value)| format!(r#""{name}":{value},"#)).collect();
    let head = format!(r#""id":0,"database":{database},"table":{table},"isDdl":{is_ddl},"type":"{kind}""#);
    let tail = format!(r#""es":{ms},"ts":{},"sql":{sql},{of_row}"_tidb":{{"{time}":{ts}}}"#, ms + 500);
    format!("{{{head},{tail}}}")
}

/// How TiCDC chooses a row's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    Table,
    /// By the key's values.
    IndexValue,
    Ts,
}

/// The partition of a row's event.
pub fn dispatch(by: Dispatch, table: &FollowedTable, row: &Row, commit: u64, partitions: usize) -> usize {
    let hashed = match by {
        Dispatch::Table => fnv(format!("{}.{}", table.database, table.name).as_bytes()),
        Dispatch::IndexValue => {
            let key = table.schema.key.iter().flatten().map(|i| format!("{:?};", row[*i])).collect::<String>();
            fnv(key.as_bytes())
        }
        Dispatch::Ts => commit,
    };
    (hashed % partitions as u64) as usize
}

/// A change as the events TiCDC makes of it: an UPDATE of the key is a DELETE and an INSERT.
pub fn split<'a>(
    table: &FollowedTable,
    before: Option<&'a Row>,
    after: Option<&'a Row>,
) -> Vec<(Option<&'a Row>, Option<&'a Row>)> {
    match (before, after) {
        (Some(b), Some(a)) if table.schema.key.iter().flatten().any(|i| b[*i] != a[*i]) => {
            vec![(before, None), (None, after)]
        }
        _ => vec![(before, after)],
    }
}

/// One open-protocol message of several events.
pub fn batch(events: &[(Vec<u8>, Vec<u8>)]) -> Encoded {
    let (mut keys, mut values) = (1u64.to_be_bytes().to_vec(), Vec::new());
    for (key, value) in events {
        keys.extend((key.len() as u64).to_be_bytes());
        keys.extend(key);
        values.extend((value.len() as u64).to_be_bytes());
        values.extend(value);
    }
    (Some(keys), values)
}

/// Several open-protocol messages as one.
pub fn join(messages: &[Encoded]) -> Encoded {
    let (mut keys, mut values) = (1u64.to_be_bytes().to_vec(), Vec::new());
    for (key, value) in messages {
        keys.extend(&key.as_ref().expect("an open-protocol message")[8..]);
        values.extend(value);
    }
    (Some(keys), values)
}

fn is_key(table: &FollowedTable, column: usize) -> bool {
    table.schema.key.iter().flatten().any(|i| *i == column)
}

fn key_names(table: &FollowedTable) -> String {
    let names = table.schema.key.iter().flatten().map(|i| json(&table.schema.columns[*i].name)).collect::<Vec<_>>();
    if names.is_empty() { "null".into() } else { format!("[{}]", names.join(",")) }
}

/// canal-json's `sqlType` and `mysqlType`.
fn canal_types(table: &FollowedTable, row: &Row) -> (String, String) {
    let columns = || table.schema.columns.iter().zip(row);
    let sql: Vec<String> =
        columns().map(|(c, value)| format!("{}:{}", json(&c.name), java_type(&c.sql_type, value))).collect();
    let mysql: Vec<String> =
        columns().map(|(c, _)| format!("{}:{}", json(&c.name), json(&canal_type(&c.sql_type)))).collect();
    (format!("{{{}}}", sql.join(",")), format!("{{{}}}", mysql.join(",")))
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ *b as u64).wrapping_mul(0x100_0000_01b3))
}
