//! The demo: a generated shop, the views of `views/`, a SQLite file as target, and a status line.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use crate::engine::error::EngineError;
use crate::engine::session::Session;
use crate::engine::{Engine, Status};

/// The example warehouse, layer by layer: the same files that tests read.
const VIEWS: [&str; 3] =
    [include_str!("../../views/dwd.sql"), include_str!("../../views/dws.sql"), include_str!("../../views/ads.sql")];

pub const WAREHOUSE_FILE: &str = "warehouse.db";
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Without a terminal the status line is printed this much more seldom, as lines.
const STATUS_LINES_EVERY: u32 = 10;

/// Makes the shop, the warehouse and the views, all of them only once for a directory.
pub async fn set_up(engine: &Engine, directory: &Path) -> Result<(), EngineError> {
    let warehouse = directory.join(WAREHOUSE_FILE).display().to_string().replace('\'', "''");
    let connections = format!(
        "CREATE CONNECTION IF NOT EXISTS shop TO GENERATOR (RATE 200);
         CREATE SOURCE IF NOT EXISTS shop FROM CONNECTION shop;
         CREATE CONNECTION IF NOT EXISTS warehouse TO SQLITE (PATH '{warehouse}');"
    );
    let mut session = engine.session();
    run(&mut session, &connections).await?;
    for layer in VIEWS {
        run(&mut session, layer).await?;
    }
    Ok(())
}

async fn run(session: &mut Session, text: &str) -> Result<(), EngineError> {
    for (statement, text) in session.parse(text)? {
        let prepared = session.describe(statement, text).await?;
        session.execute(&prepared, &[]).await?;
        session.take_notices();
    }
    Ok(())
}

/// What to paste, for a person who has just started the demo.
pub fn commands(directory: &Path, port: u16) -> String {
    let file = directory.join(WAREHOUSE_FILE);
    format!(
        "A shop is running: 200 transactions a second over users, products, orders, items and payments.\n\
         Seven views in three layers follow it (views/*.sql); each is also a table in {file}.\n\n\
         Paste into another terminal:\n\
         \n    tidemill sql --port {port} -c \"SELECT * FROM ads_city ORDER BY revenue DESC\"\
         \n    tidemill sql --port {port} -c \"SUBSCRIBE TO ads_category\"\
         \n    tidemill sql --port {port} -c \"EXPLAIN MATERIALIZED VIEW dwd_order_items\"\n\n\
         psql -h 127.0.0.1 -p {port} -U tidemill does as well; sqlite3 {file} reads the tables. Ctrl-C ends it.\n",
        file = file.display()
    )
}

/// Prints a line of status a second, for ever.
pub async fn status(engine: &Engine) {
    let terminal = std::io::stdout().is_terminal();
    let mut seconds = 0u32;
    let mut before = engine.status();
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = engine.status();
        let text = line(&now, &before);
        before = now;
        seconds += 1;
        if terminal {
            print!("\r\x1b[2K{text}");
        } else if seconds.is_multiple_of(STATUS_LINES_EVERY) || seconds == 1 {
            println!("{text}");
        }
        // A closed terminal ends the status, not the server.
        if std::io::stdout().flush().is_err() {
            return;
        }
    }
}

fn line(status: &Status, before: &Status) -> String {
    if let Some(reason) = &status.stopped {
        return format!("stopped: {reason}");
    }
    let views: Vec<String> = status.views.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
    let jobs = match status.jobs_running {
        0 => String::new(),
        n => format!(" | {n} views are being built"),
    };
    format!(
        "{} rows/s in {} ticks, lag {} ms | updates kept: {}{jobs}",
        status.rows_in - before.rows_in,
        status.ticks - before.ticks,
        status.lag_ms,
        views.join(", ")
    )
}
