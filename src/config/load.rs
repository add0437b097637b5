//! Reads the settings of all places and puts them over each other.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{Config, Layer, Secret};

/// Before a setting's name in the environment.
pub const ENVIRONMENT_PREFIX: &str = "TIDEMILL_";
/// The variable that names the settings file.
const FILE_VARIABLE: &str = "TIDEMILL_CONFIG";
/// Only the environment may hold it.
const PASSWORD: &str = "password";
const WORKERS_MAX: usize = 256;
/// A name further away than this is no misspelling.
const NEAR_EDITS_MAX: usize = 3;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("cannot read {path}: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("{place}: unknown setting {name}{}", did_you_mean(near))]
    Unknown { place: String, name: String, near: Option<String> },
    #[error("{place}: the password belongs in TIDEMILL_PASSWORD or in a file named by password_file")]
    PasswordInFile { place: String },
    #[error("{place}: {name}: {reason}")]
    Value { place: String, name: String, reason: String },
}

/// The settings, and what was odd but no reason to stop.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
}

/// Flags over environment over file over defaults. `variables` is the process's environment.
pub fn load(
    flags: Layer,
    variables: impl Iterator<Item = (String, String)>,
    file: Option<&Path>,
) -> Result<Loaded, ConfigError> {
    let variables: Vec<(String, String)> = variables.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
    let (environment, warnings) = environment(&variables)?;
    let file = match file.map(Path::to_path_buf).or(named) {
        Some(path) => parse_file(&path, &read(&path)?)?,
        None => Layer::default(),
    };
    let mut config = flags.over(environment).over(file).complete();
    if let (None, Some(path)) = (&config.password, &config.password_file) {
        let text = read(path)?;
        config.password = Some(Secret::new(text.lines().next().unwrap_or_default()));
    }
    check(&config)?;
    Ok(Loaded { config, warnings })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |error: std::io::Error| ConfigError::Read { path: path.into(), reason: error.to_string() };
    std::fs::read_to_string(path).map_err(failed)
}

fn parse_file(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let malformed = |error: toml::de::Error| ConfigError::Malformed { path: path.into(), reason: error.to_string() };
    let table: toml::Table = text.parse().map_err(malformed)?;
    let place = || path.display().to_string();
    for name in table.keys() {
        if name == PASSWORD {
            return Err(ConfigError::PasswordInFile { place: place() });
        }
        if !Layer::NAMES.contains(&name.as_str()) {
            return Err(ConfigError::Unknown { place: place(), name: name.clone(), near: nearest(name) });
        }
    }
    // From the text, not from the table: the error shows the line.
    toml::from_str(text).map_err(malformed)
}

fn environment(variables: &[(String, String)]) -> Result<(Layer, Vec<String>), ConfigError> {
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    for (variable, text) in variables {
        let name = variable[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
        if variable == FILE_VARIABLE {
            continue;
        }
        if !Layer::NAMES.contains(&name.as_str()) {
            let near =
                nearest(&name).map(|near| format!(": did you mean {ENVIRONMENT_PREFIX}{}?", near.to_uppercase()));
            warnings.push(format!("{variable} is no setting{}", near.unwrap_or_default()));
            continue;
        }
        layer = one_variable(&name, text)
            .map_err(|reason| ConfigError::Value { place: "environment".into(), name: variable.clone(), reason })?
            .over(layer);
    }
    Ok((layer, warnings))
}

/// A variable is a number where that fits its setting, else a text.
fn one_variable(name: &str, text: &str) -> Result<Layer, String> {
    let layer = |value: toml::Value| Layer::deserialize(toml::Table::from_iter([(name.to_string(), value)]));
    let as_text = layer(toml::Value::String(text.to_string()));
    match (as_text, text.parse::<i64>()) {
        (Ok(layer), _) => Ok(layer),
        (Err(_), Ok(number)) => layer(toml::Value::Integer(number)).map_err(|error| error.message().to_string()),
        (Err(error), Err(_)) => Err(error.message().to_string()),
    }
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let at_least_one: &[(&str, u64)] = &[
        ("connections_max", config.connections_max as u64),
        ("ticks_in_flight_max", config.ticks_in_flight_max as u64),
        ("tick_bytes_max", config.tick_bytes_max),
        ("heartbeat_millis", config.heartbeat_millis),
    ];
    let wrong = |name: &str, reason: String| {
        Err(ConfigError::Value { place: "settings".into(), name: name.to_string(), reason })
    };
    for (name, value) in at_least_one {
        if *value == 0 {
            return wrong(name, "must be at least 1".into());
        }
    }
    if !(1..=WORKERS_MAX).contains(&config.workers) {
        return wrong("workers", format!("{} is not between 1 and {WORKERS_MAX}", config.workers));
    }
    if config.password.as_ref().is_some_and(|password| password.reveal().is_empty()) {
        return wrong("password", "is empty".into());
    }
    Ok(())
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

fn nearest(name: &str) -> Option<String> {
    let (edits, near) = Layer::NAMES
        .iter()
        .filter(|candidate| **candidate != PASSWORD)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .min()?;
    (edits <= NEAR_EDITS_MAX).then(|| near.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>().into_iter()
    }

    fn file(text: &str) -> Result<Layer, ConfigError> {
        parse_file(Path::new("tidemill.toml"), text)
    }

    #[test]
    fn a_flag_outranks_the_environment_and_that_the_file() {
        let flags = Layer { sql_port: Some(1), ..Layer::default() };
        let (environment, _) = environment(&[
            ("TIDEMILL_SQL_PORT".into(), "2".into()),
            ("TIDEMILL_WORKERS".into(), "2".into()),
            ("TIDEMILL_USER".into(), "007".into()),
        ])
        .unwrap();
        let file = file("sql_port = 3\nworkers = 3\nheartbeat_millis = 3\nlog_format = 'json'").unwrap();
        let config = flags.over(environment).over(file).complete();
        assert_eq!((config.sql_port, config.workers, config.heartbeat_millis), (1, 2, 3));
        assert_eq!((config.user.as_str(), config.log_format), ("007", LogFormat::Json));
        assert_eq!(config.listen.to_string(), "127.0.0.1");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let error = file("sql_prot = 1").unwrap_err();
        assert_eq!(error.to_string(), "tidemill.toml: unknown setting sql_prot; did you mean sql_port?");
        assert_eq!(file("colour = 1").unwrap_err().to_string(), "tidemill.toml: unknown setting colour");
        let error = file("sql_port = 99999").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("99999"), "{error}");
        let loaded = load(Layer::default(), env(&[("TIDEMILL_WORKER", "2"), ("PATH", "/")]), None).unwrap();
        assert_eq!(loaded.warnings, ["TIDEMILL_WORKER is no setting: did you mean TIDEMILL_WORKERS?"]);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let error = |pairs: &[(&str, &str)]| load(Layer::default(), env(pairs), None).unwrap_err().to_string();
        assert_eq!(error(&[("TIDEMILL_WORKERS", "0")]), "settings: workers: 0 is not between 1 and 256");
        assert!(error(&[("TIDEMILL_WORKERS", "many")]).starts_with("environment: TIDEMILL_WORKERS: invalid type"));
        assert!(error(&[("TIDEMILL_CONFIG", "/nowhere.toml")]).starts_with("cannot read /nowhere.toml: "));
        assert_eq!(error(&[("TIDEMILL_PASSWORD", "")]), "settings: password: is empty");
    }

    #[test]
    fn a_password_is_not_shown() {
        let loaded = load(Layer::default(), env(&[("TIDEMILL_PASSWORD", "sesame")]), None).unwrap();
        assert_eq!(loaded.config.password.as_ref().unwrap().reveal(), "sesame");
        assert!(!format!("{loaded:?}").contains("sesame"));
        assert!(matches!(file("password = 'x'"), Err(ConfigError::PasswordInFile { .. })));
    }
}
