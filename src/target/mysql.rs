//! TiDB, MySQL or MariaDB as a target, over MySQL's protocol.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, SslOpts, Value};

use crate::config::{Secret, SslMode, Tls};
use crate::row::datum::Datum;
use crate::row::temporal::{self, Date, MICROS_A_SECOND};
use crate::row::types::SqlType;
use crate::target::Target;
use crate::target::dialect::Dialect;
use crate::target::error::TargetError;

/// The longest wait for one answer; a lock wait (50 s) fits in.
const ANSWER_SECONDS_MAX: u64 = 300;
const CONNECT_SECONDS_MAX: u64 = 20;
/// Strict, yet every date that a MySQL source can hold may be written.
const SQL_MODE: &str = "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION";

pub struct Mysql {
    connection: Conn,
    dialect: Dialect,
    packet_bytes_max: usize,
}

impl Mysql {
    pub async fn connect(
        host: &str,
        port: u16,
        user: &str,
        password: &Secret,
        tls: &Tls,
    ) -> Result<Mysql, TargetError> {
        let options = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password.reveal()))
            .prefer_socket(false)
            .stmt_cache_size(0)
            .tcp_nodelay(true)
            .ssl_opts(ssl_opts(tls));
        let connecting = tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS_MAX), Conn::new(options));
        let connected = connecting.await.map_err(|_| TargetError::Link(format!("{host}:{port} does not answer")))?;
        // Wrong rights or a wrong password are for somebody to mend there: the connection is tried again.
        let connection = connected.map_err(|e| TargetError::Link(format!("{host}:{port}: {e}")))?;
        let mut target = Mysql { connection, dialect: Dialect::MySql, packet_bytes_max: 0 };
        target.set_up().await?;
        Ok(target)
    }

    async fn set_up(&mut self) -> Result<(), TargetError> {
        let sql = format!(
            "SET NAMES utf8mb4, SESSION sql_mode='{SQL_MODE}', SESSION time_zone='+00:00', SESSION autocommit=1, \
             SESSION transaction_isolation='REPEATABLE-READ'"
        );
        // MariaDB before 11.1 knows the isolation level by its old name only.
        if bounded(self.connection.query_drop(&sql)).await.is_err() {
            bounded(self.connection.query_drop(sql.replace("transaction_isolation", "tx_isolation"))).await?;
        }
        let asked = "SELECT VERSION(), @@sql_mode, @@time_zone, @@character_set_client, @@max_allowed_packet";
        let found = bounded(self.connection.query_first::<(String, String, String, String, u64), _>(asked)).await?;
        let (version, mode, zone, charset, packet) =
            found.ok_or_else(|| TargetError::Link("the server does not tell its settings".into()))?;
        let mode_is_set = SQL_MODE.split(',').all(|m| mode.contains(m)) && !mode.contains("NO_BACKSLASH_ESCAPES");
        if !mode_is_set || zone != "+00:00" || charset != "utf8mb4" {
            let found = format!("sql_mode {mode}, time_zone {zone}, charset {charset}");
            return Err(TargetError::Link(format!("the session could not be set up: {found}")));
        }
        self.dialect = if version.contains("TiDB") {
            Dialect::TiDb
        } else if version.contains("MariaDB") {
            Dialect::MariaDb
        } else {
            Dialect::MySql
        };
        self.packet_bytes_max = packet as usize;
        Ok(())
    }
}

/// What the client is told of TLS; `None`: the link is not encrypted.
pub fn ssl_opts(tls: &Tls) -> Option<SslOpts> {
    let ssl = match tls.mode {
        SslMode::Disabled => return None,
        SslMode::Required => SslOpts::default().with_danger_accept_invalid_certs(true),
        SslMode::VerifyCa => SslOpts::default().with_danger_skip_domain_validation(true),
        SslMode::VerifyIdentity => SslOpts::default(),
    };
    Some(ssl.with_root_certs(tls.ca.iter().map(|path| path.clone().into()).collect()))
}

#[async_trait]
impl Target for Mysql {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn statement_bytes_max(&self) -> usize {
        self.packet_bytes_max
    }

    async fn execute(&mut self, sql: String) -> Result<u64, TargetError> {
        bounded(self.connection.query_drop(sql)).await?;
        Ok(self.connection.affected_rows())
    }

    async fn commit(&mut self) -> Result<(), TargetError> {
        bounded(self.connection.query_drop("COMMIT")).await.map_err(|e| TargetError::Unknown(e.to_string()))
    }

    async fn read(
        &mut self,
        sql: String,
        types: Vec<SqlType>,
        each: &mut (dyn FnMut(Vec<Datum>) + Send),
    ) -> Result<(), TargetError> {
        // Prepared: the binary protocol gives floats and times exactly, texts are rounded.
        let mut result = bounded(self.connection.exec_iter(sql, ())).await?;
        let mut unreadable = None;
        while let Some(row) = bounded(result.next()).await? {
            let values = mysql_async::Row::unwrap(row).into_iter().zip(&types).map(|(value, t)| datum(value, t));
            match values.collect::<Result<Vec<_>, _>>() {
                Ok(values) => each(values),
                // The answer is read to its end, or the connection could not be used again.
                Err(error) => unreadable = Some(error),
            }
        }
        drop(result);
        unreadable.map_or(Ok(()), Err)
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, TargetError> {
    match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer).await {
        Ok(result) => result.map_err(classify),
        Err(_) => Err(TargetError::Link(format!("no answer for {ANSWER_SECONDS_MAX} s"))),
    }
}

fn classify(error: Error) -> TargetError {
    match error {
        Error::Server(error) => TargetError::of_code(error.code, &error.message),
        Error::Driver(mysql_async::DriverError::PacketTooLarge) => {
            TargetError::Refused("a row is larger than the target's max_allowed_packet".into())
        }
        other => TargetError::Link(other.to_string()),
    }
}

fn datum(value: Value, sql_type: &SqlType) -> Result<Datum, TargetError> {
    let bad = |what: String| TargetError::Refused(format!("the table holds {what}, which is no {sql_type}"));
    let unsigned = matches!(sql_type, SqlType::Int { unsigned: true, .. } | SqlType::Bit(_));
    Ok(match value {
        Value::NULL => Datum::Null,
        Value::Int(v) if *sql_type == SqlType::Bool => Datum::Bool(v != 0),
        Value::UInt(v) if *sql_type == SqlType::Bool => Datum::Bool(v != 0),
        Value::Int(v) if unsigned => Datum::UInt(v.try_into().map_err(|_| bad(v.to_string()))?),
        Value::UInt(v) if unsigned => Datum::UInt(v),
        Value::Int(v) => integer(v as i128, sql_type).ok_or_else(|| bad(v.to_string()))?,
        Value::UInt(v) => integer(v as i128, sql_type).ok_or_else(|| bad(v.to_string()))?,
        Value::Float(v) if *sql_type == SqlType::Double => Datum::Double(v as f64),
        Value::Float(v) => Datum::Float(v),
        Value::Double(v) if *sql_type == SqlType::Float => Datum::Float(v as f32),
        Value::Double(v) => Datum::Double(v),
        Value::Bytes(v) => match sql_type {
            SqlType::Bit(_) if v.len() <= 8 => Datum::UInt(v.iter().fold(0, |sum, byte| sum << 8 | *byte as u64)),
            SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Blob(_) => Datum::Bytes(v),
            _ => {
                let text = String::from_utf8(v).map_err(|e| bad(e.to_string()))?;
                Datum::parse(&text, sql_type).map_err(|e| bad(e.value))?
            }
        },
        Value::Date(year, month, day, hours, minutes, seconds, micros) => {
            let date = Date { year, month, day };
            let clock = clock_micros(hours as u32, minutes, seconds, micros);
            match sql_type {
                SqlType::Date => Datum::Date(date.to_days()),
                SqlType::Timestamp(_) => Datum::Timestamp(temporal::datetime_micros(date, clock)),
                _ => Datum::Datetime(temporal::datetime_micros(date, clock)),
            }
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let clock = clock_micros(days * 24 + hours as u32, minutes, seconds, micros);
            Datum::Time(if negative { -clock } else { clock })
        }
    })
}

/// An integer where the view has a number of another kind: the user's column is wider.
fn integer(v: i128, sql_type: &SqlType) -> Option<Datum> {
    match sql_type {
        SqlType::Int { .. } | SqlType::Year => v.try_into().ok().map(Datum::Int),
        _ => Datum::parse(&v.to_string(), sql_type).ok(),
    }
}

fn clock_micros(hours: u32, minutes: u8, seconds: u8, micros: u32) -> i64 {
    (hours as i64 * 3600 + minutes as i64 * 60 + seconds as i64) * MICROS_A_SECOND + micros as i64
}
