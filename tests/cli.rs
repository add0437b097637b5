//! The program's flags and settings, up to where a server would start.

use std::process::{Command, Output};

fn tidemill(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEMILL_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], message: &str) {
    let output = tidemill(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.trim_end()), (Some(1), message));
}

#[test]
fn a_misspelt_setting_is_refused_with_the_nearest_name() {
    let file = std::env::temp_dir().join(format!("tidemill-cli-{}.toml", std::process::id()));
    std::fs::write(&file, "sql_prot = 6875\n").unwrap();
    let path = file.display().to_string();
    let message = format!("tidemill: {path}: unknown setting sql_prot; did you mean sql_port?");
    refused(&["serve", "--config", &path], &message);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_port_for_everyone_needs_a_password() {
    refused(
        &["serve", "--listen", "0.0.0.0", "--sql-port", "0"],
        "tidemill: 0.0.0.0:0 is no loopback address and no password is set: \
         set one (password_file, TIDEMILL_PASSWORD)",
    );
}

#[test]
fn a_password_in_a_url_is_refused() {
    refused(
        &["check", "mysql://root:sesame@127.0.0.1:1/"],
        "tidemill: a password in a URL is seen by others: put it into MYSQL_PWD",
    );
}

#[test]
fn a_wrong_flag_is_no_runtime_error() {
    assert_eq!(tidemill(&["serve", "--worker", "2"]).status.code(), Some(2));
    assert!(tidemill(&["--version"]).status.success());
}
