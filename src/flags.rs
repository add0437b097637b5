//! The flags of each command.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidemill::config::{Layer, LogFormat};

/// Keeps SQL views over MySQL and TiDB up to date in wide tables.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeFlags),
    /// Run a server with a generated shop and example views; nothing else needs to be installed.
    Demo(DemoFlags),
    /// Talk SQL to a server.
    Sql(SqlFlags),
    /// Tell what a MySQL server lacks to be a source; its password is read from MYSQL_PWD or asked for.
    Check {
        /// mysql://user@host:port/
        url: String,
    },
}

#[derive(Args)]
#[command(after_help = "Flags are also keys of the settings file and variables: \
                        --sql-port is sql_port and TIDEMILL_SQL_PORT, --data is data_dir.")]
pub struct ServeFlags {
    /// Where the store keeps its files [default: tidemill-data]
    #[arg(long = "data", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address of the SQL port; beyond loopback a password is needed [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    #[command(flatten)]
    common: CommonFlags,
    /// The one SQL user, when a password is set [default: tidemill]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the SQL user's password; or set TIDEMILL_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A TOML file with settings; or set TIDEMILL_CONFIG
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct DemoFlags {
    /// Where the store and the SQLite target keep their files [default: tidemill-data]
    #[arg(long = "dir", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    common: CommonFlags,
    /// Stop by itself after 90s, 5m or 1h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
}

#[derive(Args)]
struct CommonFlags {
    /// The port for SQL clients; 0: chosen by the system [default: 6875]
    #[arg(long, value_name = "PORT")]
    sql_port: Option<u16>,
    /// Threads that run dataflows [default: half the cores]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Lines for a person, or JSON for a machine [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or module=level pairs with commas [default: info]
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

#[derive(Args)]
pub struct SqlFlags {
    /// Run these statements and leave
    #[arg(short, long, value_name = "SQL")]
    pub command: Option<String>,
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    #[arg(long, default_value_t = 6875)]
    pub port: u16,
    /// Its password is read from TIDEMILL_PASSWORD or PGPASSWORD, or asked for
    #[arg(long, default_value = "tidemill")]
    pub user: String,
}

impl ServeFlags {
    pub fn layer(&self) -> Layer {
        Layer {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            user: self.user.clone(),
            password_file: self.password_file.clone().map(Some),
            ..self.common.layer()
        }
    }
}

impl DemoFlags {
    pub fn layer(&self) -> Layer {
        Layer { data_dir: self.data_dir.clone(), ..self.common.layer() }
    }
}

impl CommonFlags {
    fn layer(&self) -> Layer {
        Layer {
            sql_port: self.sql_port,
            workers: self.workers,
            log_format: self.log_format,
            log_filter: self.log_filter.clone(),
            ..Layer::default()
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time: write 90s, 5m or 1h");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let count: u64 = number.parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_well_formed_and_become_settings() {
        let flags = Flags::parse_from(["tidemill", "serve", "--data", "d", "--listen", "::1", "--workers", "3"]);
        let Command::Serve(serve) = flags.command else { panic!("another command") };
        let layer = serve.layer();
        assert_eq!((layer.workers, layer.sql_port), (Some(3), None));
        assert_eq!(layer.listen, Some("::1".parse().unwrap()));
        <Flags as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("90").is_err() && duration("s").is_err() && duration("1d").is_err());
    }
}
