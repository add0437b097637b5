//! An engine of a few fixed statements, behind a real port: what the tests talk to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::{StreamExt, stream};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use tidemill::engine::error::{EngineError, ErrorKind};
use tidemill::engine::session::{Outcome, Prepared, RowStream};
use tidemill::plan::statement::{Name, Statement};
use tidemill::row::datum::{ColumnBuilder, Datum};
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::server::limits::Limits;
use tidemill::server::listener::Listener;
use tidemill::server::pgwire::Authentication;
use tidemill::server::{Backend, BackendSession};
use tokio::sync::watch;

/// A running port; dropping `stop` ends it.
pub struct Server {
    pub address: SocketAddr,
    pub stop: watch::Sender<bool>,
    pub task: tokio::task::JoinHandle<()>,
    pub engine: Arc<Double>,
}

/// Counts what the port must give back.
#[derive(Default)]
pub struct Double {
    pub sessions: AtomicUsize,
    pub streams: Arc<AtomicUsize>,
}

pub async fn start(authentication: Authentication, limits: Limits) -> Server {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(address, authentication, limits).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let address = listener.address();
    let engine = Arc::new(Double::default());
    let task = tokio::spawn(listener.serve(Arc::new(Handle(engine.clone())), stopped));
    Server { address, stop, task, engine }
}

struct Handle(Arc<Double>);

impl Backend for Handle {
    fn session(&self, _user: &str) -> Box<dyn BackendSession> {
        self.0.sessions.fetch_add(1, Ordering::SeqCst);
        Box::new(DoubleSession { engine: self.0.clone(), status: b'I', notices: vec![] })
    }
}

struct DoubleSession {
    engine: Arc<Double>,
    status: u8,
    notices: Vec<String>,
}

impl Drop for DoubleSession {
    fn drop(&mut self) {
        self.engine.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives its count back when the stream is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn error(kind: ErrorKind, message: &str) -> EngineError {
    EngineError::new(kind, message)
}

fn select() -> Statement {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql("SELECT 1").unwrap();
    Statement::Select(parser.parse_query().unwrap())
}

fn statement(text: &str) -> Result<Statement, EngineError> {
    match text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "SELECT" => Ok(select()),
        "SUBSCRIBE" => Ok(Statement::Subscribe { name: Name { parts: vec!["ticks".into()], at: 0 }, snapshot: false }),
        "BEGIN" | "START" => Ok(Statement::Begin),
        "COMMIT" => Ok(Statement::Commit),
        "ROLLBACK" => Ok(Statement::Rollback),
        word => Err(EngineError {
            position: Some(0),
            hint: Some("begin with SELECT".into()),
            detail: Some("the double knows few words".into()),
            ..error(ErrorKind::Syntax, &format!("unknown word {word}"))
        }),
    }
}

/// A column of each type, with its values from top to bottom.
pub fn matrix() -> Vec<(Column, Vec<Option<&'static str>>)> {
    let int = |bytes, unsigned| SqlType::Int { bytes, unsigned };
    let decimal = |precision, scale| SqlType::Decimal { precision, scale };
    let column = |name: &str, sql_type, values: [&'static str; 2]| {
        (Column::new(name, sql_type, true), vec![Some(values[0]), Some(values[1]), None])
    };
    vec![
        column("bool", SqlType::Bool, ["1", "0"]),
        column("tinyint", int(1, false), ["-128", "127"]),
        column("tinyint_unsigned", int(1, true), ["0", "255"]),
        column("smallint", int(2, false), ["-32768", "32767"]),
        column("smallint_unsigned", int(2, true), ["0", "65535"]),
        column("mediumint", int(3, false), ["-8388608", "8388607"]),
        column("int", int(4, false), ["-2147483648", "2147483647"]),
        column("int_unsigned", int(4, true), ["0", "4294967295"]),
        column("bigint", int(8, false), ["-9223372036854775808", "9223372036854775807"]),
        column("bigint_unsigned", int(8, true), ["0", "18446744073709551615"]),
        column("year", SqlType::Year, ["0", "2155"]),
        column("bit_8", SqlType::Bit(8), ["0", "255"]),
        column("bit_64", SqlType::Bit(64), ["10000", "18446744073709551615"]),
        column("float", SqlType::Float, ["-1.5", "1e20"]),
        column("double", SqlType::Double, ["0.1", "-1.7976931348623157e308"]),
        column("decimal", decimal(10, 2), ["-12345.60", "0.07"]),
        column(
            "decimal_wide",
            decimal(65, 30),
            ["-99999999999999999999999999999999999.999999999999999999999999999999", "0.000000000000000000000000000001"],
        ),
        column("decimal_whole", decimal(20, 0), ["10000", "0"]),
        column("varchar", SqlType::Varchar(20), ["", "naïve 麦"]),
        column("enum", SqlType::Enum(vec!["a".into(), "b".into()]), ["a", "b"]),
        column("json", SqlType::Json, ["{\"a\": [1, null]}", "null"]),
        column("blob", SqlType::Blob(2), ["", "bytes"]),
        column("date", SqlType::Date, ["1999-12-31", "9999-12-31"]),
        column("time", SqlType::Time(0), ["-838:59:59", "26:00:01"]),
        column("datetime", SqlType::Datetime(6), ["2000-01-01 00:00:00.000001", "1000-01-01 23:59:59.5"]),
        column("timestamp", SqlType::Timestamp(3), ["1970-01-01 00:00:01", "2038-01-19 03:14:07.125"]),
    ]
}

pub fn batch(columns: &[(Column, Vec<Option<&str>>)]) -> RecordBatch {
    let schema = Schema { columns: columns.iter().map(|(column, _)| column.clone()).collect(), key: None };
    let arrays = columns.iter().map(|(column, values)| {
        let mut builder = ColumnBuilder::new(&column.sql_type, values.len());
        for value in values {
            let datum = value.map_or(Datum::Null, |text| Datum::parse(text, &column.sql_type).unwrap());
            builder.push(&datum).unwrap();
        }
        builder.finish()
    });
    RecordBatch::try_new(schema.arrow(), arrays.collect()).unwrap()
}

fn numbers(from: usize, rows: usize, width: usize) -> RecordBatch {
    let names: Vec<String> = (from..from + rows).map(|n| n.to_string()).collect();
    let filler = "x".repeat(width);
    let values = names.iter().map(|n| Some(n.as_str())).collect();
    let fillers = names.iter().map(|_| Some(filler.as_str())).collect();
    batch(&[(Column::new("n", BIGINT, false), values), (Column::new("filler", SqlType::Text(4), true), fillers)])
}

fn number_columns() -> Vec<Column> {
    vec![Column::new("n", BIGINT, false), Column::new("filler", SqlType::Text(4), true)]
}

impl DoubleSession {
    fn rows(&self, text: &str) -> Result<RowStream, EngineError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = |i: usize| words[i].parse::<usize>().unwrap();
        self.engine.streams.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.engine.streams.clone());
        let kept = move |batch| {
            let _ = &running;
            batch
        };
        Ok(match words[1] {
            "types" => stream::iter([Ok(batch(&matrix()))]).map(kept).boxed(),
            "odd" => {
                let odd = batch(&[(Column::new("day", SqlType::Date, true), vec![Some("0000-00-00")])]);
                stream::iter([Ok(odd)]).map(kept).boxed()
            }
            "numbers" => stream::iter((0..count(2)).map(|n| Ok(numbers(n, 1, 0)))).map(kept).boxed(),
            "endless" => stream::iter((0..).map(|n| Ok(numbers(n * 100, 100, 1000)))).map(kept).boxed(),
            "late" => {
                let late = error(ErrorKind::DataError, "a row that cannot be computed");
                stream::iter([Ok(numbers(0, 1, 0)), Err(late)]).map(kept).boxed()
            }
            "forever" => stream::pending().map(kept).boxed(),
            "TO" => stream::unfold(0, |n| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(numbers(n, 1, 0)), n + 1))
            })
            .map(kept)
            .boxed(),
            other => return Err(error(ErrorKind::UnknownObject, &format!("no {other}"))),
        })
    }

    fn columns(text: &str) -> Vec<Column> {
        match text.split_whitespace().nth(1) {
            Some("types") => matrix().into_iter().map(|(column, _)| column).collect(),
            Some("odd") => vec![Column::new("day", SqlType::Date, true)],
            Some("echo") => vec![
                Column::new("a", BIGINT, true),
                Column::new("b", SqlType::Text(4), true),
                Column::new("c", SqlType::Decimal { precision: 20, scale: 3 }, true),
            ],
            _ => number_columns(),
        }
    }
}

#[async_trait]
impl BackendSession for DoubleSession {
    fn parse(&self, text: &str) -> Result<Vec<(Statement, String)>, EngineError> {
        let mut found = vec![];
        let mut at = 0;
        for part in text.split(';') {
            let trimmed = part.trim();
            let begin = at + (part.len() - part.trim_start().len());
            at += part.len() + 1;
            if !trimmed.is_empty() {
                let parsed = statement(trimmed).map_err(|e| EngineError { position: Some(begin), ..e })?;
                found.push((parsed, trimmed.to_string()));
            }
        }
        Ok(found)
    }

    async fn prepare(&mut self, text: &str) -> Result<Prepared, EngineError> {
        let statement = statement(text)?;
        if let Some(at) = text.find("oops") {
            return Err(EngineError { position: Some(at), ..error(ErrorKind::UnknownColumn, "no column oops") });
        }
        let parameters = match text.contains("echo") {
            true => vec![BIGINT, SqlType::Text(4), SqlType::Decimal { precision: 20, scale: 3 }],
            false => vec![],
        };
        let columns = match statement {
            Statement::Select(_) | Statement::Subscribe { .. } => Self::columns(text),
            _ => vec![],
        };
        Ok(Prepared { text: text.to_string(), statement, parameters, columns })
    }

    async fn execute(&mut self, prepared: &Prepared, parameters: &[Option<String>]) -> Result<Outcome, EngineError> {
        if self.status == b'E' && !matches!(prepared.statement, Statement::Rollback) {
            return Err(error(ErrorKind::InFailedTransaction, "the block has failed: ROLLBACK"));
        }
        let done = |tag: &str| Ok(Outcome::Done { tag: tag.to_string() });
        match &prepared.statement {
            Statement::Begin => {
                self.status = b'T';
                done("BEGIN")
            }
            Statement::Commit | Statement::Rollback => {
                self.status = b'I';
                done("COMMIT")
            }
            _ if prepared.text.contains("notice") => {
                self.notices.push("one\nnotice".into());
                done("NOTED")
            }
            _ if prepared.text.contains("echo") => {
                let columns = prepared.columns.clone();
                let values: Vec<_> =
                    columns.iter().cloned().zip(parameters.iter().map(|p| vec![p.as_deref()])).collect();
                Ok(Outcome::Rows { columns, rows: stream::iter([Ok(batch(&values))]).boxed() })
            }
            _ => Ok(Outcome::Rows { columns: prepared.columns.clone(), rows: self.rows(&prepared.text)? }),
        }
    }

    fn fail_transaction(&mut self) {
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn transaction_status(&self) -> u8 {
        self.status
    }

    fn names(&self) -> Vec<String> {
        vec!["ticks".into(), "wide_orders".into()]
    }
}
