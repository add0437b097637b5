//! A real S3 server for tests: S3Proxy over a folder, on a free port, stopped with the value.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::kafka_broker::not_run;
use super::runner::{Runner, directory};

/// Both keys of the server that `Store::start` runs.
pub const KEY: &str = "tidemill-s3-key";
const START_SECONDS_MAX: u64 = 120;

pub struct Store {
    runner: Runner,
    port: u16,
    client: AmazonS3,
}

impl Store {
    /// With a bucket that is empty.
    pub async fn start(bucket: &str) -> Result<Store, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        drop(listener);
        let home = directory("s3-server");
        let data = home.join("data");
        std::fs::create_dir_all(data.join(bucket)).map_err(|e| e.to_string())?;
        let arguments = vec![data.display().to_string(), port.to_string(), KEY.to_string(), KEY.to_string()];
        let runner = Runner::start("s3-server", home, arguments, "").await?;
        let client = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_allow_http(true)
            .with_access_key_id(KEY)
            .with_secret_access_key(KEY)
            .build();
        let store = Store { runner, port, client: client.map_err(|e| e.to_string())? };
        store.wait_until_up().await?;
        Ok(store)
    }

    /// `None`, with a line on stderr that says why, where it cannot be had.
    pub async fn start_or_skip(bucket: &str) -> Option<Store> {
        match Store::start(bucket).await {
            Ok(store) => Some(store),
            Err(reason) => {
                let why = format!("a test that needs an S3 server: {}", reason.lines().next().unwrap_or_default());
                eprintln!("SKIPPED: {why}\n{reason}");
                not_run(&why);
                None
            }
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub async fn put(&self, path: &str, bytes: impl Into<PutPayload>) {
        self.client.put(&Path::from(path), bytes.into()).await.expect("the server takes it");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.runner.kill();
    }

    /// Starts it again on its data and its port, after `kill`.
    pub async fn restart(&mut self) {
        self.runner.restart().await;
        self.wait_until_up().await.expect("it came up before");
    }

    async fn wait_until_up(&self) -> Result<(), String> {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let output = self.runner.output();
            if output.contains("java-root:") || started.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err(format!("it did not come up: {output}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
