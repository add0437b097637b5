//! A real Debezium for tests: it reads a MySQL and produces to a broker.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use super::kafka_broker::{Broker, not_run};
use super::mysql_server::Server;
use super::runner::{Runner, directory};

/// Starts it and waits until it streams; its first snapshot is taken by then. `settings` are Debezium's properties
/// (`topic.prefix`, `database.include.list`, `decimal.handling.mode`, `value.converter.schemas.enable`,
/// `snapshot.mode`, …) and `runner.partitions`. The server must have a database in `database.include.list`.
pub async fn start(mysql: &Server, broker: &Broker, settings: &[&str]) -> Result<Runner, String> {
    let directory = directory("debezium");
    let state = directory.join("state").to_string_lossy().into_owned();
    let mut arguments = vec![mysql.port().to_string(), broker.address(), state];
    arguments.extend(settings.iter().map(|s| s.to_string()));
    Runner::start("debezium", directory, arguments, "Connected to binlog").await
}

/// `None`, with a line on stderr that says why, where it cannot be had.
pub async fn start_or_skip(mysql: &Server, broker: &Broker, settings: &[&str]) -> Option<Runner> {
    match start(mysql, broker, settings).await {
        Ok(runner) => Some(runner),
        Err(reason) => {
            let why = format!("a test that needs Debezium: {}", reason.lines().next().unwrap_or_default());
            eprintln!("SKIPPED: {why}\n{reason}");
            not_run(&why);
            None
        }
    }
}
