//! A Java program of `compose/` beside a test, waited for until it reads, stopped with the value.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const START_SECONDS_MAX: u64 = 120;

pub struct Runner {
    script: &'static str,
    arguments: Vec<String>,
    ready: &'static str,
    pub directory: PathBuf,
    process: Child,
}

/// A directory that is removed with the runner that it is given to.
pub fn directory(script: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tidemill-{script}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("the temporary directory can be written");
    path
}

impl Runner {
    /// Runs `compose/SCRIPT` and waits until its output has `ready`.
    pub async fn start(
        script: &'static str,
        directory: PathBuf,
        arguments: Vec<String>,
        ready: &'static str,
    ) -> Result<Runner, String> {
        let process = spawn(script, &directory, &arguments)?;
        let mut runner = Runner { script, arguments, ready, directory, process };
        runner.wait_until_ready().await?;
        Ok(runner)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is a child");
    }

    /// A clean stop.
    pub fn stop(&mut self) {
        Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().expect("kill runs");
        self.process.wait().expect("it is a child");
    }

    /// Starts it again with its arguments and its directory, after `kill` or `stop`.
    pub async fn restart(&mut self) {
        std::fs::remove_file(self.directory.join("output")).expect("it has run before");
        self.process = spawn(self.script, &self.directory, &self.arguments).expect("it started before");
        self.wait_until_ready().await.expect("it came up before");
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.directory.join("output")).unwrap_or_default()
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while !self.output().contains(self.ready) {
            let exited = self.process.try_wait().map_err(|e| e.to_string())?;
            if exited.is_some() || started.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err(format!("{} did not come up: {}", self.script, self.output()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Fails only where the test has stopped it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(script: &str, directory: &Path, arguments: &[String]) -> Result<Child, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose").join(script);
    let output = File::options().create(true).append(true).open(directory.join("output")).map_err(|e| e.to_string())?;
    Command::new(&path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", path.display()))
}
