//! A real Canal for tests: it reads a MySQL and produces flat JSON to a broker's topic.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use super::kafka_broker::{Broker, not_run};
use super::mysql_server::Server;
use super::runner::{Runner, directory};

/// Starts it at the end of the server's binlog, for which it makes the user `canal`: every later change comes.
/// `settings` are those of `compose/java/CanalRunner.java` (`filter`, `partitions`, `hash`); the topic must be there
/// with as many partitions. A table's columns are read when its first change comes: let it catch up before an ALTER.
pub async fn start(mysql: &Server, broker: &Broker, topic: &str, settings: &[&str]) -> Result<Runner, String> {
    mysql
        .run(
            "CREATE USER IF NOT EXISTS canal@'%' IDENTIFIED BY 'canal';
             GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO canal@'%'",
        )
        .await;
    let at = mysql.rows("SHOW BINARY LOG STATUS").await.remove(0);
    let text = |i: usize| at[i].clone().expect("a server with a binlog says where it is");
    let mut arguments = vec![mysql.port().to_string(), broker.address(), topic.to_string(), text(0), text(1)];
    arguments.extend(settings.iter().map(|s| s.to_string()));
    Runner::start("canal", directory("canal"), arguments, "find start position successfully").await
}

/// `None`, with a line on stderr that says why, where it cannot be had.
pub async fn start_or_skip(mysql: &Server, broker: &Broker, topic: &str, settings: &[&str]) -> Option<Runner> {
    match start(mysql, broker, topic, settings).await {
        Ok(runner) => Some(runner),
        Err(reason) => {
            let why = format!("a test that needs Canal: {}", reason.lines().next().unwrap_or_default());
            eprintln!("SKIPPED: {why}\n{reason}");
            not_run(&why);
            None
        }
    }
}
