//! PostgreSQL's own client against the port; passed over, saying so, where it is not installed.

use std::process::Command;

use tidemill::server::limits::Limits;
use tidemill::server::pgwire::Authentication;

use crate::double::{Server, start};

async fn psql(server: &Server, password: &str, arguments: &[&str]) -> Option<(String, String, bool)> {
    let port = server.address.port().to_string();
    let mut command = Command::new("psql");
    command.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "tidemill", "-w"]).args(arguments);
    command.env("PGPASSWORD", password).env("PGDATABASE", "tidemill").env("LC_ALL", "C.UTF-8");
    match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("psql is not installed: nothing is tested");
            None
        }
        output => {
            let output = output.unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            Some((text(output.stdout), text(output.stderr), output.status.success()))
        }
    }
}

#[tokio::test]
async fn psql_logs_in_reads_and_shows_errors() {
    let server = start(Authentication::password("tidemill", "secret"), Limits::default()).await;
    let Some((out, err, ok)) = psql(&server, "secret", &["-c", "SELECT numbers 2"]).await else { return };
    assert!(ok, "{err}");
    assert_eq!(out, " n | filler \n---+--------\n 0 | \n 1 | \n(2 rows)\n\n");

    let (_, err, ok) = psql(&server, "wrong", &["-c", "SELECT numbers 2"]).await.unwrap();
    assert!(!ok && err.contains("password authentication failed for user \"tidemill\""), "{err}");

    let (_, err, _) = psql(&server, "secret", &["-c", "SELECT oops"]).await.unwrap();
    assert_eq!(err, "ERROR:  no column oops\nLINE 1: SELECT oops\n               ^\n");

    let (out, err, _) = psql(&server, "secret", &["-c", "SELECT notice", "-c", "SELECT version()"]).await.unwrap();
    assert_eq!(err, "NOTICE:  one\nnotice\n");
    assert!(out.starts_with("NOTED\n") && out.contains("PostgreSQL 15.0 (Tidemill"), "{out}");

    let (_, err, _) = psql(&server, "secret", &["-c", "\\d"]).await.unwrap();
    assert!(err.contains("PostgreSQL's catalog") && err.contains("HINT:  use SHOW TABLES"), "{err}");
}
