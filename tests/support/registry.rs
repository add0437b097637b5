//! A real schema registry for tests, Apicurio's with Confluent's API: on a free port, in memory.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::kafka_broker::not_run;
use super::runner::{Runner, directory};

const START_SECONDS_MAX: u64 = 120;

pub struct Registry {
    pub port: u16,
    pub runner: Runner,
}

impl Registry {
    async fn start() -> Result<Registry, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        drop(listener);
        let directory = directory("schema-registry");
        let runner = Runner::start("schema-registry", directory, vec![port.to_string()], "apicurio").await?;
        let registry = Registry { port, runner };
        registry.wait_until_up().await?;
        Ok(registry)
    }

    /// `None`, with a line on stderr that says why, where it cannot be had.
    pub async fn start_or_skip() -> Option<Registry> {
        match Registry::start().await {
            Ok(registry) => Some(registry),
            Err(reason) => {
                let why = format!("a test that needs a schema registry: {}", reason.lines().next().unwrap_or_default());
                eprintln!("SKIPPED: {why}\n{reason}");
                not_run(&why);
                None
            }
        }
    }

    /// On its port, after it was killed: it has no schemas then.
    pub async fn restart(&mut self) {
        self.runner.restart().await;
        self.wait_until_up().await.expect("it came up before");
    }

    async fn wait_until_up(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let answer = reqwest::Client::builder().no_proxy().build().expect("a client");
            match answer.get(format!("{}/subjects", self.url())).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                _ if begun.elapsed() > Duration::from_secs(START_SECONDS_MAX) => {
                    return Err(format!("it did not come up: {}", self.runner.output()));
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Of Confluent's API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    pub async fn has(&self, subject: &str) -> bool {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(format!("{}/subjects/{subject}/versions/latest", self.url())).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Registers the next version of a subject's schema; its number.
    pub async fn register(&self, subject: &str, schema: &str) -> u32 {
        self.register_with(subject, schema, "[]").await
    }

    /// `references` as the API has them.
    pub async fn register_with(&self, subject: &str, schema: &str, references: &str) -> u32 {
        let schema = serde_json::Value::String(schema.to_string());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client
            .post(format!("{}/subjects/{subject}/versions", self.url()))
            .header("Content-Type", "application/vnd.schemaregistry.v1+json")
            .body(format!(r#"{{"schema":{schema},"references":{references}}}"#))
            .send()
            .await
            .expect("the registry answers");
        let text = answer.text().await.expect("an answer");
        let json: serde_json::Value = serde_json::from_str(&text).expect("the answer is JSON");
        json["id"].as_u64().unwrap_or_else(|| panic!("it was not registered: {text}")) as u32
    }
}
