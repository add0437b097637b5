//! A real MySQL or MariaDB for tests: on a free port, with its own data, stopped with the value.
//!
//! `Server::start` runs `compose/mysql-server`, which fetches the server once into a cache. Where that cannot be done
//! (no Debian archive, no network), [`Server::start_or_skip`] prints why, and the test that called it passes unrun.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row};

const START_SECONDS_MAX: u64 = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MySql,
    MariaDb,
}

pub struct Server {
    kind: Kind,
    options: Vec<String>,
    directory: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a server with further options and waits until it answers.
    pub async fn start(kind: Kind, options: &[&str]) -> Result<Server, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tidemill-mysql-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        let port = free_port()?;
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        let process = spawn(kind, &directory, port, &options)?;
        let mut server = Server { kind, options, directory, port, process };
        server.wait_until_up().await?;
        Ok(server)
    }

    /// `None`, with a line on stderr that says why, where no server can be had.
    pub async fn start_or_skip(kind: Kind, options: &[&str]) -> Option<Server> {
        match Server::start(kind, options).await {
            Ok(server) => Some(server),
            Err(reason) => {
                let why = format!("a test that needs a {kind:?}: {}", reason.lines().next().unwrap_or_default());
                eprintln!("SKIPPED: {why}");
                not_run(&why);
                None
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn opts(&self) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("root"))
            .prefer_socket(false)
            .max_allowed_packet(Some(64 << 20))
            .into()
    }

    pub async fn connect(&self) -> Conn {
        Conn::new(self.opts()).await.expect("the server that was started answers")
    }

    /// Runs statements separated by semicolons, in one session.
    pub async fn run(&self, sql: &str) {
        self.connect().await.query_drop(sql).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
    }

    /// The rows of a query as the server prints them.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let rows: Vec<Row> = self.connect().await.query(sql).await.unwrap_or_else(|e| panic!("{e}\nin: {sql}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server is a child");
    }

    /// A clean stop.
    pub fn stop(&mut self) {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        self.process.wait().expect("the server is a child");
    }

    /// Starts the server again on its data and its port, after `kill` or `stop`.
    pub async fn restart(&mut self) {
        self.process = spawn(self.kind, &self.directory, self.port, &self.options).expect("it started before");
        self.wait_until_up().await.expect("it came up before");
    }

    async fn wait_until_up(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if Conn::new(self.opts()).await.is_ok() {
                return Ok(());
            }
            let exited = self.process.try_wait().map_err(|e| e.to_string())?;
            if exited.is_some() || started.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                let output = std::fs::read_to_string(self.directory.join("output")).unwrap_or_default();
                let log = std::fs::read_to_string(self.directory.join("tmp/error.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                return Err(format!("it did not come up: {output}{}", tail.join("\n")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only where the test has stopped it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// `make test` prints at its end what it could not run.
pub fn not_run(why: &str) {
    let Ok(path) = std::env::var("TIDEMILL_NOT_RUN") else { return };
    let file = File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // The line is also on stderr.
        let _ = std::io::Write::write_all(&mut file, format!("{why}\n").as_bytes());
    }
}

fn spawn(kind: Kind, directory: &Path, port: u16, options: &[String]) -> Result<Child, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/mysql-server");
    let output = File::options().create(true).append(true).open(directory.join("output")).map_err(|e| e.to_string())?;
    Command::new(&script)
        .arg(match kind {
            Kind::MySql => "mysql",
            Kind::MariaDb => "mariadb",
        })
        .arg(directory)
        .arg(port.to_string())
        .args(options)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", script.display()))
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}

pub fn text(value: mysql_async::Value) -> Option<String> {
    match value {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => format!("0x{}", e.as_bytes().iter().map(|b| format!("{b:02X}")).collect::<String>()),
        }),
        other => Some(other.as_sql(true)),
    }
}
