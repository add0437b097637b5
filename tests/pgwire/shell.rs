//! `tidemill sql`, the program, against the port.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use tidemill::server::limits::Limits;
use tidemill::server::pgwire::Authentication;

use crate::double::{Server, start};

fn sql(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["sql", "--port", &server.address.port().to_string()]).args(arguments);
    command.env_remove("PGPASSWORD").env("TIDEMILL_PASSWORD", "secret");
    command
}

/// Standard output, standard error, and whether it succeeded.
async fn run(mut command: Command, input: &'static str) -> (String, String, bool) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.success())
}

#[tokio::test]
async fn statements_of_a_flag_and_of_a_pipe() {
    let server = start(Authentication::password("tidemill", "secret"), Limits::default()).await;
    let (out, err, ok) = run(sql(&server, &["-c", "SELECT numbers 2"]), "").await;
    assert_eq!((out.as_str(), err.as_str(), ok), (" n | filler\n---+--------\n 0 |\n 1 |\n(2 rows)\n", "", true));

    let (out, err, ok) = run(sql(&server, &[]), "SELECT notice;\nSELECT 'ï', oops;\nSELECT numbers 1;").await;
    assert_eq!(out, "OK\n");
    let expected = "NOTICE: one\nnotice\nERROR 42703: no column oops\nSELECT 'ï', oops;\n            ^\n";
    assert_eq!((err.as_str(), ok), (expected, false));

    let (_, err, ok) = run(sql(&server, &["--user", "root", "-c", "SELECT numbers 1"]), "").await;
    assert!(!ok && err.contains("28P01: password authentication failed for user \"root\""), "{err}");
}

#[tokio::test]
async fn subscribe_prints_as_it_comes_until_interrupted() {
    let server = start(Authentication::password("tidemill", "secret"), Limits::default()).await;
    let mut command = sql(&server, &["-c", "SUBSCRIBE TO ticks"]);
    let run = move || {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The header, a line, and more rows than are kept back.
        let seen: Vec<String> = lines.by_ref().take(20).map(Result::unwrap).collect();
        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        (seen, child.wait_with_output().unwrap())
    };
    let (seen, output) = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(seen[0].contains("filler") && seen[19].trim_start().starts_with("17"), "{seen:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, "ERROR 57014: canceling statement due to user request\n");
}
