//! `tidemill sql`: statements from a terminal, a pipe or a flag, over the SQL port.

use std::io::{self, IsTerminal, Read, stdout};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::config::Secret;
use crate::console::input::Sql;
use crate::console::table::Table;
use crate::console::{prompt, report};

/// Rows that come within it settle the widths of a table's columns.
const SETTLE_MILLIS: u64 = 200;
const CONNECT_SECONDS_MAX: u64 = 10;
const HISTORY_LINES_MAX: usize = 10_000;
const HELP: &str = "\
statements end with a semicolon and may go over several lines
\\d         the tables and views
\\d NAME    the columns of NAME
\\?         this help
\\q         leave (Ctrl-D)
Ctrl-C     stops the running statement, SUBSCRIBE too; Tab completes names and keywords";

/// Where to connect, and what to run.
pub struct Options {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    /// Run it and leave; else read statements from standard input.
    pub command: Option<String>,
    /// Where lines are remembered; `None`: nowhere.
    pub history: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("cannot connect to {address}: {reason}{remedy}")]
    Connect { address: String, reason: String, remedy: &'static str },
    #[error("the terminal cannot be read: {0}")]
    Terminal(#[from] ReadlineError),
    #[error("output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs until the input ends; false if a statement of a script or flag failed.
pub async fn run(mut options: Options) -> Result<bool, ShellError> {
    let client = connect(&mut options).await?;
    if let Some(command) = options.command.take() {
        return execute(&client, &command).await;
    }
    if !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return execute(&client, &text).await;
    }
    interact(client, options).await
}

async fn connect(options: &mut Options) -> Result<Client, ShellError> {
    let mut config = tokio_postgres::Config::new();
    config.host(&options.host).port(options.port).user(&options.user).dbname("tidemill");
    config.application_name("tidemill sql").connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX));
    if let Some(password) = &options.password {
        config.password(password.reveal());
    }
    let mut connected = config.connect(NoTls).await;
    let wants_password = |error: &tokio_postgres::Error| {
        std::error::Error::source(error).is_some_and(|cause| cause.to_string().contains("password missing"))
    };
    if options.password.is_none()
        && connected.as_ref().err().is_some_and(wants_password)
        && let Some(password) = prompt::password(&format!("Password of {}: ", options.user))
    {
        config.password(password.reveal());
        options.password = Some(password);
        connected = config.connect(NoTls).await;
    }
    let (client, mut connection) = connected.map_err(|error| ShellError::Connect {
        address: format!("{}:{}", options.host, options.port),
        remedy: if error.as_db_error().is_none() { "; is the server running (tidemill serve)?" } else { "" },
        reason: report::reason(&error),
    })?;
    tokio::spawn(async move {
        let mut messages = pin!(futures::stream::poll_fn(move |context| connection.poll_message(context)));
        // It ends with an error when the server goes; the statement that meets it says so.
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                eprintln!("{}", report::notice(&notice));
            }
        }
    });
    Ok(client)
}

async fn interact(mut client: Client, mut options: Options) -> Result<bool, ShellError> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES_MAX)?
        .auto_add_history(true)
        .build();
    let mut editor = Editor::<Sql, FileHistory>::with_config(config)?;
    if let Some(history) = &options.history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    let names = names(&client).await;
    editor.set_helper(Some(Sql { names }));
    println!("tidemill {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"));
    loop {
        let read = tokio::task::spawn_blocking(move || (editor.readline("tidemill> "), editor)).await;
        let line;
        (line, editor) = read.expect("the line editor does not panic");
        let text = match line {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let text = match command(&text) {
            Command::Run(text) => text,
            Command::Say(text) => {
                println!("{text}");
                continue;
            }
            Command::Leave => break,
            Command::Nothing => continue,
        };
        if client.is_closed() {
            match connect(&mut options).await {
                Ok(new) => client = new,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            }
        }
        execute(&client, &text).await?;
        if let Some(sql) = editor.helper_mut() {
            sql.names = names_after(&client, &text, std::mem::take(&mut sql.names)).await;
        }
    }
    if let Some(history) = &options.history
        && let Err(error) = editor.save_history(history)
    {
        eprintln!("history is not kept: {error}");
    }
    Ok(true)
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(String),
    Say(String),
    Leave,
    Nothing,
}

fn command(text: &str) -> Command {
    let text = text.trim();
    let Some(command) = text.strip_prefix('\\') else {
        return if text.is_empty() { Command::Nothing } else { Command::Run(text.to_string()) };
    };
    let words: Vec<&str> = command.trim_end_matches(';').split_whitespace().collect();
    match words[..] {
        ["q"] => Command::Leave,
        ["?"] => Command::Say(HELP.to_string()),
        ["d"] => Command::Run("SHOW TABLES; SHOW MATERIALIZED VIEWS;".to_string()),
        ["d", name] => Command::Run(format!("DESCRIBE {name};")),
        _ => Command::Say(format!("unknown command {text}: \\? lists them")),
    }
}

/// Names to complete; a server that does not tell them is no reason to complain.
async fn names(client: &Client) -> Vec<String> {
    let Ok(messages) = client.simple_query("SHOW COMPLETIONS").await else { return vec![] };
    let name = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    };
    messages.iter().filter_map(name).collect()
}

/// Asks again after a statement that may have changed them.
async fn names_after(client: &Client, text: &str, known: Vec<String>) -> Vec<String> {
    let word = text.split_whitespace().next().unwrap_or_default();
    match ["CREATE", "DROP", "ALTER"].iter().any(|change| change.eq_ignore_ascii_case(word)) {
        true => names(client).await,
        false => known,
    }
}

/// Runs a text and prints its answers; false if it failed.
async fn execute(client: &Client, text: &str) -> Result<bool, ShellError> {
    // One listener for the whole statement: a new one each turn would miss what comes between two.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut stream = match client.simple_query_raw(text).await {
        Ok(stream) => pin!(stream),
        Err(error) => {
            eprintln!("{}", report::error(&error, text));
            return Ok(false);
        }
    };
    let mut table: Option<Table<io::Stdout>> = None;
    let mut settle_at = Instant::now();
    loop {
        let settle = table.as_ref().is_some_and(Table::awaits_rows);
        let message = tokio::select! {
            message = stream.next() => message,
            () = tokio::time::sleep_until(settle_at), if settle => {
                table.as_mut().expect("a table to settle").settle()?;
                continue;
            }
            _ = interrupts.recv() => {
                if let Err(error) = client.cancel_token().cancel_query(NoTls).await {
                    eprintln!("cannot cancel: {error}");
                }
                continue;
            }
        };
        match message {
            None => return Ok(true),
            Some(Ok(SimpleQueryMessage::RowDescription(columns))) => {
                table = Some(Table::new(stdout(), columns.iter().map(|column| column.name().to_string()).collect()));
            }
            Some(Ok(SimpleQueryMessage::Row(row))) => {
                let table = table.as_mut().expect("rows come after their description");
                if table.is_empty() {
                    settle_at = Instant::now() + Duration::from_millis(SETTLE_MILLIS);
                }
                table.push((0..row.len()).map(|i| row.get(i)))?;
            }
            Some(Ok(SimpleQueryMessage::CommandComplete(rows))) => match table.take() {
                Some(table) => table.finish()?,
                None if rows > 0 => println!("OK, {rows} {}", if rows == 1 { "row" } else { "rows" }),
                None => println!("OK"),
            },
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if let Some(mut table) = table.take() {
                    table.settle()?;
                }
                eprintln!("{}", report::error(&error, text));
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslash_commands_are_the_shells_own() {
        assert_eq!(command(" \\q "), Command::Leave);
        assert_eq!(command("\\d shop.orders;"), Command::Run("DESCRIBE shop.orders;".into()));
        assert_eq!(command("SELECT 1;\n"), Command::Run("SELECT 1;".into()));
        assert_eq!(command("  "), Command::Nothing);
        assert_eq!(command("\\x"), Command::Say("unknown command \\x: \\? lists them".into()));
    }
}
