//! The example warehouse: the views of `views/` over the generated shop, while it changes.
//!
//! In one transaction block each view equals its own query run ad hoc, and in the end the SQLite file holds the same
//! rows as the port. Both ways share the lowered plan, so this is no proof of the SQL (tests/oracle.rs is); it proves
//! that what is maintained, what is recomputed and what is flushed are one thing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tidemill::clock::Reading;
use tidemill::console::demo;
use tidemill::engine::session::{Outcome, Session};
use tidemill::engine::{Engine, Options};
use tidemill::plan::parse::parse;
use tidemill::plan::statement::Statement;
use tidemill::row::datum::Datum;
use tidemill::row::schema::Column;

type Rows = BTreeMap<Vec<Option<String>>, usize>;

fn options(data: Option<std::path::PathBuf>) -> Options {
    let started = Instant::now();
    let now = move || Reading {
        wall_ms: 1_800_000_000_000 + started.elapsed().as_millis() as u64,
        monotonic_ms: started.elapsed().as_millis() as u64,
    };
    Options { data, workers: 2, limits: Default::default(), now: Arc::new(now) }
}

async fn run(session: &mut Session, text: &str) -> Rows {
    let mut rows = Rows::new();
    for (statement, text) in session.parse(text).unwrap() {
        let prepared = session.describe(statement, text.clone()).await.unwrap_or_else(|e| panic!("{e:?} in {text}"));
        let outcome = session.execute(&prepared, &[]).await.unwrap_or_else(|e| panic!("{e:?} in {text}"));
        if let Outcome::Rows { columns, rows: mut stream } = outcome {
            while let Some(batch) = stream.next().await {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let cell = |(c, column): (usize, &Column)| {
                        Datum::of(batch.column(c), &column.sql_type, row).text(&column.sql_type)
                    };
                    *rows.entry(columns.iter().enumerate().map(cell).collect()).or_insert(0) += 1;
                }
            }
        }
    }
    rows
}

/// Name and query of each view of the warehouse, in order.
fn views() -> Vec<(String, String)> {
    let layers = ["dwd", "dws", "ads"];
    let text: String = layers
        .iter()
        .map(|layer| std::fs::read_to_string(format!("{}/views/{layer}.sql", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .collect();
    let views = parse(&text).unwrap().into_iter().map(|(statement, _)| match statement {
        Statement::CreateView(view) => (view.name.to_string(), view.query_text),
        other => panic!("views/ holds views only: {other:?}"),
    });
    views.collect()
}

fn sqlite(path: &std::path::Path, table: &str) -> Rows {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let names: Vec<String> = statement.column_names().iter().map(|name| name.to_string()).collect();
    let shown: Vec<usize> = (0..names.len()).filter(|c| !names[*c].starts_with("_tidemill")).collect();
    let mut rows = Rows::new();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let cell = |c: &usize| match row.get_ref(*c).unwrap() {
            rusqlite::types::ValueRef::Null => None,
            rusqlite::types::ValueRef::Integer(v) => Some(v.to_string()),
            rusqlite::types::ValueRef::Text(v) => Some(String::from_utf8(v.to_vec()).unwrap()),
            other => panic!("unexpected value {other:?} in {table}"),
        };
        *rows.entry(shown.iter().map(cell).collect()).or_insert(0) += 1;
    }
    rows
}

async fn wait_until_live(session: &mut Session, count: usize) {
    let started = Instant::now();
    loop {
        let shown = run(session, "SHOW MATERIALIZED VIEWS").await;
        let live = |row: &&Vec<Option<String>>| row[1].as_deref() == Some("live") && row[6].as_deref() == Some("live");
        if shown.keys().filter(live).count() == count {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the views are not live: {shown:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each transaction of the shop makes one order: once a position is reached, its orders are read.
async fn orders_are_waited_for(session: &mut Session) {
    let number = |rows: Rows, column: usize| -> u64 {
        let row = rows.into_keys().next().expect("a row");
        row[column].as_ref().expect("a number").parse().expect("a number")
    };
    let shown = number(run(session, "SHOW SOURCES").await, 3);
    for ahead in [0, 20, 50] {
        let wanted = shown + ahead;
        let reached = number(run(session, &format!("SELECT tidemill_wait('shop', '{wanted}')")).await, 0);
        let orders = number(run(session, "SELECT COUNT(*) FROM shop.orders").await, 0);
        assert!(wanted <= reached && reached <= orders, "{wanted} {reached} {orders}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warehouse_is_what_its_queries_say() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(options(Some(directory.path().join("data")))).await.unwrap();
    demo::set_up(&engine, directory.path()).await.unwrap();
    let views = views();
    let mut session = engine.session();
    wait_until_live(&mut session, views.len()).await;
    orders_are_waited_for(&mut session).await;
    for round in 0..3 {
        for (name, query) in &views {
            run(&mut session, "BEGIN").await;
            let maintained = run(&mut session, &format!("SELECT * FROM {name}")).await;
            let recomputed = run(&mut session, query).await;
            run(&mut session, "COMMIT").await;
            assert!(!maintained.is_empty(), "{name} has rows");
            assert_eq!(maintained, recomputed, "{name}, round {round}");
        }
    }
    drop(session);
    engine.shutdown().await;

    // After a restart and a clean stop the tables of the file show one timestamp.
    let engine = Engine::open(options(Some(directory.path().join("data")))).await.unwrap();
    let mut session = engine.session();
    wait_until_live(&mut session, views.len()).await;
    drop(session);
    engine.shutdown().await;
    let file = directory.path().join(demo::WAREHOUSE_FILE);
    let connection = rusqlite::Connection::open(&file).unwrap();
    let sum = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(
        sum("SELECT SUM(items) FROM dws_city_day"),
        sum("SELECT COUNT(*) FROM dwd_order_items WHERE status <> 'cancelled'"),
        "all tables of the file show one timestamp"
    );
    assert_eq!(sqlite(&file, "dws_city_payments").len(), 8, "a row a city");
}
