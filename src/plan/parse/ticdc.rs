//! A changefeed's sink URI as TiCDC takes it: what is read, and over which connection.
//!
//! `kafka://host:port[,host:port]/topic?protocol=…`, `file:///folder?protocol=…` and `s3://bucket/prefix?protocol=…`,
//! with the parameters of TiCDC's documents (Sync Data to Kafka, Sync Data to Storage Services, URI Formats of External
//! Storage Services). Those that only say how TiCDC writes are passed over by name; one that is not known is an error,
//! since it may change what the messages say.

use form_urlencoded::parse;

use crate::catalog::names::nearest;
use crate::config::SslMode;
use crate::plan::parse::cursor::error;
use crate::plan::statement::{
    ConnectionKind, ConnectionOption, FeedClauses, FeedFormat, Name, OptionValue, OwnConnection, Topics,
};
use crate::plan::{PlanError, PlanErrorKind};

/// How TiCDC writes, which no reader has to know.
const PASSED_OVER: &[&str] = &[
    "auto-create-topic",
    "compression",
    "date-separator",
    "dial-timeout",
    "enable-partition-separator",
    "file-index-width",
    "file-size",
    "flush-concurrency",
    "flush-interval",
    "kafka-client-id",
    "kafka-version",
    "max-batch-size",
    "max-message-bytes",
    "partition-num",
    "read-timeout",
    "replication-factor",
    "required-acks",
    "worker-count",
    "worker-num",
    "write-timeout",
];
const READ: &[&str] = &["protocol", "enable-tidb-extension", "enable-tls"];
/// How TiCDC writes into an object store, and what of it a reader has to know.
const PASSED_OVER_OF_STORES: &[&str] = &["acl", "sse", "sse-kms-key-id", "storage-class"];
const READ_OF_STORES: &[&str] = &["endpoint", "force-path-style", "provider", "region"];
/// Stores that BR and TiCDC ask by the bucket's own host, if nothing else is said.
const PROVIDERS_BY_HOST: &[&str] = &["alibaba", "netease"];
/// What goes with a secret, or is a file on TiCDC's machine.
const OF_CONNECTIONS: &[&str] =
    &["sasl-user", "sasl-password", "sasl-mechanism", "ca", "cert", "key", "insecure-skip-verify"];
const KEYS_OF_STORES: &[&str] =
    &["access-key", "secret-access-key", "session-token", "role-arn", "external-id", "profile"];

const HINT_OF_KAFKA: &str = "CREATE SECRET and CREATE CONNECTION … TO KAFKA (… PASSWORD SECRET …), then CREATE \
    SOURCE … FROM CONNECTION … (TOPIC …)";
const HINT_OF_STORES: &str = "CREATE SECRET and CREATE CONNECTION … TO FILES (PATH 's3://…', ACCESS KEY SECRET …, \
    SECRET KEY SECRET …), then CREATE SOURCE … FROM CONNECTION … (PATH '.'); or leave it out, and start the server \
    with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// What a sink URI says.
pub struct Sink {
    pub feed: FeedClauses,
    pub over: OwnConnection,
}

/// Reads the URI of the source `name`, whose text begins at `at`.
pub fn sink(uri: &str, name: &Name, at: usize) -> Result<Sink, PlanError> {
    let invalid = |message: String| error(PlanErrorKind::InvalidValue, message, at);
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| invalid("expected a sink URI as kafka://host:port/topic?protocol=canal-json&…".to_string()))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = Parameters::read(query, scheme, at)?;
    let mut feed = FeedClauses { format: Some(parameters.format(uri, scheme, at)?), ..FeedClauses::default() };
    let (kind, options) = match scheme {
        "kafka" | "kafka+ssl" => {
            let (brokers, topic) = place.split_once('/').unwrap_or((place, ""));
            if brokers.is_empty() || topic.is_empty() {
                return Err(invalid(
                    "the sink URI names no brokers or no topic: kafka://host:port/topic?…".to_string(),
                ));
            }
            feed.topics = Topics::Names(vec![topic.to_string()]);
            let mut options = vec![("BROKERS", brokers.to_string())];
            let tls = scheme == "kafka+ssl" || parameters.is("enable-tls", "true");
            options.extend(tls.then(|| ("SSL MODE", SslMode::VerifyIdentity.word().to_string())));
            (ConnectionKind::Kafka, options)
        }
        "file" => {
            feed.topics = Topics::Path(".".to_string());
            (ConnectionKind::Files, vec![("PATH", place.to_string())])
        }
        "s3" => {
            feed.topics = Topics::Path(".".to_string());
            let mut options = vec![("PATH", format!("s3://{place}"))];
            options.extend(parameters.endpoint(place).map(|endpoint| ("ENDPOINT", endpoint)));
            options.extend(parameters.get("region").map(|region| ("REGION", region.to_string())));
            (ConnectionKind::Files, options)
        }
        other => {
            let message = format!("changefeeds into `{other}` cannot be read; kafka://, file:// and s3:// can");
            return Err(error(PlanErrorKind::NotSupported, message, at));
        }
    };
    let option =
        |(name, text): (&str, String)| ConnectionOption { name: name.to_string(), value: OptionValue::Text(text), at };
    let own = Name { parts: vec![format!("{name}_ticdc")], at: name.at };
    Ok(Sink { feed, over: OwnConnection { name: own, kind, options: options.into_iter().map(option).collect() } })
}

struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(query: &str, scheme: &str, at: usize) -> Result<Parameters, PlanError> {
        let of_store = scheme == "s3";
        let (read, passed_over) =
            if of_store { (READ_OF_STORES, PASSED_OVER_OF_STORES) } else { (&[] as &[_], &[] as &[_]) };
        let mut found = Vec::new();
        for (name, value) in parse(query.as_bytes()) {
            // As TiCDC reads those of stores.
            let name = if of_store { name.to_lowercase().replace('_', "-") } else { name.into_owned() };
            if OF_CONNECTIONS.contains(&&*name) || KEYS_OF_STORES.contains(&&*name) {
                let message = format!("`{name}` of a sink URI is said in a connection");
                let hint = if of_store { HINT_OF_STORES } else { HINT_OF_KAFKA };
                return Err(PlanError {
                    hint: Some(hint.to_string()),
                    ..error(PlanErrorKind::NotSupported, message, at)
                });
            }
            if READ.contains(&&*name) || read.contains(&&*name) {
                found.push((name, value.into_owned()));
            } else if !PASSED_OVER.contains(&&*name) && !passed_over.contains(&&*name) {
                let known = READ.iter().chain(PASSED_OVER).chain(read).chain(passed_over).copied();
                let hint = nearest(&name, known).map(|word| format!("did you mean {word}?"));
                let message = format!("the sink URI has a parameter that is not known: {name}");
                return Err(PlanError { hint, ..error(PlanErrorKind::NotSupported, message, at) });
            }
        }
        Ok(Parameters(found))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    /// Of an object store, with the bucket in front of its host where TiCDC asks there.
    fn endpoint(&self, place: &str) -> Option<String> {
        let endpoint = self.get("endpoint")?;
        let by_host = self.get("provider").is_some_and(|provider| PROVIDERS_BY_HOST.contains(&provider));
        let by_path = self.get("force-path-style").map_or(!by_host, |said| said.eq_ignore_ascii_case("true"));
        let bucket = place.split('/').next().unwrap_or_default();
        match endpoint.split_once("://") {
            Some((scheme, host)) if !by_path => Some(format!("{scheme}://{bucket}.{host}")),
            _ => Some(endpoint.to_string()),
        }
    }

    /// Of Kafka open-protocol if it says none, as TiCDC does.
    fn format(&self, uri: &str, scheme: &str, at: usize) -> Result<FeedFormat, PlanError> {
        let protocol =
            self.get("protocol").unwrap_or(if matches!(scheme, "file" | "s3") { "csv" } else { "open-protocol" });
        match protocol {
            "open-protocol" | "default" => Ok(FeedFormat::OpenProtocol),
            "simple" => Ok(FeedFormat::Simple),
            "canal-json" if self.is("enable-tidb-extension", "true") => Ok(FeedFormat::CanalJson),
            "canal-json" => {
                let joint = if uri.contains('?') { "&" } else { "?" };
                let message = "without enable-tidb-extension=true the messages have no commit timestamps: no \
                               transaction can be put together";
                let hint = format!(
                    "pause the changefeed, then: cdc cli changefeed update --changefeed-id=… \
                     --sink-uri=\"{uri}{joint}enable-tidb-extension=true\""
                );
                Err(PlanError { hint: Some(hint), ..error(PlanErrorKind::NotSupported, message, at) })
            }
            other => {
                let message = format!("protocol {other} has no watermarks that are read here");
                let hint = "the protocols are canal-json (with enable-tidb-extension=true), open-protocol and simple";
                Err(PlanError { hint: Some(hint.to_string()), ..error(PlanErrorKind::NotSupported, message, at) })
            }
        }
    }
}
