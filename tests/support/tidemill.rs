//! A real server process for tests: on a free port, killed and started again on its data directory.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const UP_SECONDS_MAX: u64 = 60;

pub struct Tidemill {
    pub data: PathBuf,
    pub port: u16,
    process: Child,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A fresh directory under the system's temporary one.
pub fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tidemill-test-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the temporary directory can be written");
    path
}

impl Tidemill {
    pub async fn start(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Tidemill {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let process = spawn(data, port, &arguments, &environment);
        let mut server = Tidemill { data: data.to_path_buf(), port, process, arguments, environment };
        server.wait_until_up().await;
        server
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        self.process.wait().expect("the server is a child");
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        Command::new("kill").args([signal, &pid]).status().expect("kill runs");
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.process.wait().expect("the server is a child").code()
    }

    /// Starts it again on its data directory; returns the time until it answers.
    pub async fn restart(&mut self) -> Duration {
        let started = Instant::now();
        self.process = spawn(&self.data, self.port, &self.arguments, &self.environment);
        self.wait_until_up().await;
        started.elapsed()
    }

    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap_or_else(|e| panic!("no connection: {e}\n{}", self.log()))
    }

    async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} user=tidemill dbname=tidemill", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(async move {
            // Ends with the server, which some tests kill.
            let _ = connection.await;
        });
        Ok(client)
    }

    async fn wait_until_up(&mut self) {
        let started = Instant::now();
        while self.try_client().await.is_err() {
            if let Some(status) = self.process.try_wait().expect("the server is a child") {
                panic!("the server ended: {status}\n{}", self.log());
            }
            assert!(started.elapsed() < Duration::from_secs(UP_SECONDS_MAX), "not up: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The end of what the server logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(log_file(&self.data)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        pages * 4096
    }
}

impl Drop for Tidemill {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_file(data: &Path) -> PathBuf {
    data.with_extension("log")
}

fn spawn(data: &Path, port: u16, arguments: &[String], environment: &[(String, String)]) -> Child {
    let log = File::options().create(true).append(true).open(log_file(data)).expect("the log can be written");
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--sql-port", &port.to_string()])
        .args(arguments)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("the binary runs")
}

/// Runs a text of statements over the simple protocol; the rows of the last one, as text.
pub async fn sql(client: &Client, text: &str) -> Vec<Vec<Option<String>>> {
    try_sql(client, text).await.unwrap_or_else(|error| panic!("{error:?}\nin: {text}"))
}

pub async fn try_sql(client: &Client, text: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(text).await? {
        match message {
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|c| row.get(c).map(str::to_string)).collect());
            }
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            _ => {}
        }
    }
    Ok(rows)
}

/// Polls until the condition holds; panics with what it last was.
pub async fn eventually<T: std::fmt::Debug>(what: &str, seconds: u64, mut look: impl AsyncFnMut() -> Result<(), T>) {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(()) => return,
            Err(last) => assert!(started.elapsed() < Duration::from_secs(seconds), "{what}: {last:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
