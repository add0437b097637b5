//! Dates moved by INTERVALs of every unit: MySQL's own answers.

use crate::mysql::{Kind, Server};
use tidemill::engine::{Engine, Options};

const DATES: [&str; 9] = [
    "CAST('2024-01-31' AS DATE)",
    "CAST('2023-12-31' AS DATE)",
    "CAST('2024-02-29' AS DATE)",
    "CAST('9999-12-31' AS DATE)",
    "CAST('0100-03-01' AS DATE)",
    "CAST('2024-02-29 23:59:59' AS DATETIME)",
    "CAST('2023-03-31 00:00:00.999' AS DATETIME(3))",
    "CAST('1970-01-01 12:30:00.000001' AS DATETIME(6))",
    "CAST(NULL AS DATETIME)",
];
const UNITS: [&str; 9] = ["MICROSECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"];
const NUMBERS: [&str; 7] = ["0", "1", "-1", "13", "'25'", "-1000", "NULL"];
const COLUMNS_AT_ONCE: usize = 63;

#[tokio::test(flavor = "multi_thread")]
async fn dates_are_moved_as_mysql_moves_them() {
    let Some(server) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let options = Options { data: None, workers: 1, limits: Default::default(), now: std::sync::Arc::new(crate::now) };
    let engine = Engine::open(options).await.unwrap();
    let mut session = engine.session();
    let mut expressions = Vec::new();
    for date in DATES {
        for unit in UNITS {
            for number in NUMBERS {
                expressions.push(match expressions.len() % 4 {
                    0 => format!("{date} - INTERVAL {number} {unit}"),
                    1 => format!("DATE_ADD({date}, INTERVAL {number} {unit})"),
                    2 => format!("DATE_SUB({date}, INTERVAL {number} {unit})"),
                    _ => format!("INTERVAL {number} {unit} + {date}"),
                });
            }
        }
    }
    for some in expressions.chunks(COLUMNS_AT_ONCE) {
        let columns: Vec<String> = some.iter().enumerate().map(|(i, x)| format!("{x} AS c{i}")).collect();
        let text: Vec<String> = some.iter().enumerate().map(|(i, x)| format!("CAST({x} AS CHAR) AS c{i}")).collect();
        let expected = server.rows(&format!("SELECT {}", text.join(", "))).await;
        let found = crate::try_run(&mut session, &format!("SELECT {}", columns.join(", "))).await.unwrap();
        for (i, expression) in some.iter().enumerate() {
            assert_eq!(found[0][i], expected[0][i], "{expression}");
        }
    }
    engine.shutdown().await;
}
