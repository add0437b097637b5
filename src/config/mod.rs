//! Everything a person can set: a flag outranks the environment, that the file, that the default.
//!
//! Invariants:
//! - `settings` is the one list of names, units included: the flag `--sql-port`, the variable `TIDEMILL_SQL_PORT` and
//!   the key `sql_port` are one setting;
//! - an unknown key of the file is refused with the nearest name; an unknown `TIDEMILL_…` variable is only reported,
//!   because platforms inject such names for a service called tidemill;
//! - a password comes from `TIDEMILL_PASSWORD` or a file of its own, never from a flag or the settings file, and no
//!   Debug shows it.

mod load;
mod secret;
mod settings;
mod tls;

pub use load::{ConfigError, ENVIRONMENT_PREFIX, Loaded, load};
pub use secret::Secret;
pub use settings::{Config, Layer, LogFormat};
pub use tls::{SslMode, Tls};
