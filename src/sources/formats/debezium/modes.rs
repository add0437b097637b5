//! What a person says of the connector's settings, since values without a schema do not tell them.

/// The connector's handling modes, under Debezium's own names and with its defaults. Where messages carry their schema
/// it decides, and only `binary` and `transactions` are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `decimal.handling.mode`
    pub decimal: Decimals,
    /// `bigint.unsigned.handling.mode`
    pub bigint_unsigned: Bigints,
    /// `binary.handling.mode`
    pub binary: Binaries,
    /// `time.precision.mode`
    pub time: Times,
    /// `provide.transaction.metadata`: a change without its transaction is refused, snapshot rows aside.
    pub transactions: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decimals {
    #[default]
    Precise,
    Double,
    String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bigints {
    /// Values from 2^63 on come as negative numbers.
    #[default]
    Long,
    Precise,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binaries {
    #[default]
    Bytes,
    Base64,
    Base64UrlSafe,
    Hex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    #[default]
    AdaptiveTimeMicroseconds,
    Adaptive,
    Connect,
    IsoString,
    Microseconds,
    Nanoseconds,
}

impl Modes {
    /// Takes a setting as the connector's properties write it; the error says what it may be.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "decimal.handling.mode" => self.decimal = one_of(name, value, DECIMALS)?,
            "bigint.unsigned.handling.mode" => self.bigint_unsigned = one_of(name, value, BIGINTS)?,
            "binary.handling.mode" => self.binary = one_of(name, value, BINARIES)?,
            "time.precision.mode" => self.time = one_of(name, value, TIMES)?,
            "provide.transaction.metadata" => self.transactions = one_of(name, value, SWITCH)?,
            _ => {
                return Err(format!(
                    "{name} is no setting of the connector that its messages need: {}",
                    NAMES.join(", ")
                ));
            }
        }
        Ok(())
    }
}

const NAMES: &[&str] = &[
    "decimal.handling.mode",
    "bigint.unsigned.handling.mode",
    "binary.handling.mode",
    "time.precision.mode",
    "provide.transaction.metadata",
];
const DECIMALS: &[(&str, Decimals)] =
    &[("precise", Decimals::Precise), ("double", Decimals::Double), ("string", Decimals::String)];
const BIGINTS: &[(&str, Bigints)] = &[("long", Bigints::Long), ("precise", Bigints::Precise)];
const BINARIES: &[(&str, Binaries)] = &[
    ("bytes", Binaries::Bytes),
    ("base64", Binaries::Base64),
    ("base64-url-safe", Binaries::Base64UrlSafe),
    ("hex", Binaries::Hex),
];
const TIMES: &[(&str, Times)] = &[
    ("adaptive_time_microseconds", Times::AdaptiveTimeMicroseconds),
    ("adaptive", Times::Adaptive),
    ("connect", Times::Connect),
    ("isostring", Times::IsoString),
    ("microseconds", Times::Microseconds),
    ("nanoseconds", Times::Nanoseconds),
];
const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];

fn one_of<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(text, _)| text.eq_ignore_ascii_case(value)).map(|(_, choice)| *choice).ok_or_else(|| {
        let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
        format!("{name} is `{value}`: it may be {}", texts.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_as_the_connector_writes_them() {
        let mut modes = Modes::default();
        for (name, value) in [
            ("decimal.handling.mode", "String"),
            ("binary.handling.mode", "base64-url-safe"),
            ("time.precision.mode", "isostring"),
            ("provide.transaction.metadata", "true"),
        ] {
            assert_eq!(modes.set(name, value), Ok(()));
        }
        assert_eq!((modes.decimal, modes.binary), (Decimals::String, Binaries::Base64UrlSafe));
        assert_eq!((modes.time, modes.transactions), (Times::IsoString, true));
        let error = modes.set("bigint.unsigned.handling.mode", "wide").unwrap_err();
        assert_eq!(error, "bigint.unsigned.handling.mode is `wide`: it may be long, precise");
        assert!(modes.set("snapshot.mode", "initial").is_err());
    }
}
