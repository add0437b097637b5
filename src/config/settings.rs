//! The list of settings: name, type, default and meaning.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::Secret;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr;)+) => {
        /// The settings of a server, complete.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($name: $default,)+ }
            }
        }

        /// What one place (flags, environment, file) says; the rest is for the places below it.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default)]
        pub struct Layer {
            $($(#[doc = $doc])+ pub $name: Option<$kind>,)+
        }

        impl Layer {
            pub const NAMES: &[&str] = &[$(stringify!($name)),+];

            /// This layer over a lower one.
            pub fn over(self, lower: Layer) -> Layer {
                Layer { $($name: self.$name.or(lower.$name),)+ }
            }

            /// This layer over the defaults.
            pub fn complete(self) -> Config {
                let default = Config::default();
                Config { $($name: self.$name.unwrap_or(default.$name),)+ }
            }
        }
    };
}

settings! {
    /// Where the store keeps its files.
    data_dir: PathBuf = PathBuf::from("tidemill-data");
    /// The address of the SQL port; beyond loopback a password is needed.
    listen: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    /// The port for SQL clients; 0: chosen by the system.
    sql_port: u16 = 6875;
    /// Clients at the same time.
    connections_max: usize = 200;
    /// Threads that run dataflows; by default half the cores, as sources, sinks and clients want some too.
    workers: usize = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    /// The one SQL user, when a password is set.
    user: String = "tidemill".to_string();
    /// The SQL user's password; only from the environment.
    password: Option<Secret> = None;
    /// A file with the SQL user's password on its first line.
    password_file: Option<PathBuf> = None;
    /// Ticks between the clock and the dataflows at the same time.
    ticks_in_flight_max: usize = 4;
    /// Bytes of one tick's changes, from which on the next tick waits.
    tick_bytes_max: u64 = 8 << 20;
    /// A tick without changes, so that frontiers and now() move.
    heartbeat_millis: u64 = 1_000;
    /// Lines for a person, or JSON for a machine.
    log_format: LogFormat = LogFormat::Text;
    /// What is logged: a level, or `module=level` pairs with commas.
    log_filter: String = "info".to_string();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}
