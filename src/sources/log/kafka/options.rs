//! What a person says of a Kafka connection, and the client's settings that follow from it.

use rdkafka::ClientConfig;

use crate::config::{Secret, SslMode, Tls};
use crate::sources::log::{Added, Fault};

use super::stop;

/// What is fetched ahead of the reader, all partitions together.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// In one answer of a broker; a single larger batch of messages still comes, alone.
const FETCH_BYTES_MAX: usize = 16 << 20;
const FETCH_PARTITION_BYTES_MAX: usize = 4 << 20;
/// An answer above this is a fault: it bounds what a broken length can make us allocate.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// How long the client waits before it fetches again when it is full. Its default, a second, empties the queue
/// meanwhile.
const FULL_WAIT_MS: usize = 10;
const SOCKET_TIMEOUT_MS: usize = 10_000;
const RECONNECT_MS_MAX: usize = 2_000;
/// The client cannot be had without a group. It never joins one: partitions are assigned, nothing is committed.
const GROUP: &str = "tidemill";

/// Where and how to connect, and what to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, separated by commas: any that answers tells the others.
    pub brokers: String,
    pub topics: Topics,
    pub added: Added,
    pub sasl: Option<Sasl>,
    pub tls: Tls,
    pub client_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    Named(Vec<String>),
    /// Every topic whose whole name matches, also those made later: `*` is any run of characters, all else is itself.
    /// Kafka's own topics (`__…`) never match.
    Matching(String),
}

#[derive(Clone, Debug)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Options {
    pub fn new(brokers: impl Into<String>, topics: Topics) -> Options {
        let (brokers, client_id) = (brokers.into(), "tidemill".to_string());
        let added = Added::default();
        Options { brokers, topics, added, sasl: None, tls: Tls::default(), client_id }
    }

    /// The client's settings; a Stop where this build lacks what they need.
    pub(super) fn config(&self) -> Result<ClientConfig, Fault> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("enable.metrics.push", "false")
            .set("queued.max.messages.kbytes", (AHEAD_BYTES_MAX / 1024).to_string())
            .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string())
            .set("fetch.message.max.bytes", FETCH_PARTITION_BYTES_MAX.to_string())
            .set("receive.message.max.bytes", ANSWER_BYTES_MAX.to_string())
            .set("fetch.queue.backoff.ms", FULL_WAIT_MS.to_string())
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX.to_string());
        self.secure(&mut config)?;
        Ok(config)
    }

    fn secure(&self, config: &mut ClientConfig) -> Result<(), Fault> {
        let encrypted = self.tls.mode != SslMode::Disabled;
        if encrypted {
            built_with("ssl", "TLS")?;
            let verify = if self.tls.mode == SslMode::Required { "false" } else { "true" };
            let identify = if self.tls.mode == SslMode::VerifyIdentity { "https" } else { "none" };
            config.set("enable.ssl.certificate.verification", verify);
            config.set("ssl.endpoint.identification.algorithm", identify);
            if let Some(path) = &self.tls.ca {
                config.set("ssl.ca.location", path.to_string_lossy());
            }
        }
        if let Some(sasl) = &self.sasl {
            let (mechanism, feature) = match sasl.mechanism {
                Mechanism::Plain => ("PLAIN", "sasl_plain"),
                Mechanism::ScramSha256 => ("SCRAM-SHA-256", "sasl_scram"),
                Mechanism::ScramSha512 => ("SCRAM-SHA-512", "sasl_scram"),
            };
            built_with(feature, mechanism)?;
            config.set("sasl.mechanism", mechanism);
            config.set("sasl.username", &sasl.user).set("sasl.password", sasl.password.reveal());
        }
        config.set(
            "security.protocol",
            match (encrypted, self.sasl.is_some()) {
                (false, false) => "plaintext",
                (false, true) => "sasl_plaintext",
                (true, false) => "ssl",
                (true, true) => "sasl_ssl",
            },
        );
        Ok(())
    }
}

/// Asks the client that is linked, not the feature that was meant to link it.
fn built_with(feature: &str, what: &str) -> Result<(), Fault> {
    let features = ClientConfig::new().create_native_config().and_then(|native| native.get("builtin.features"));
    let has = features.is_ok_and(|features| features.split(',').any(|f| f.trim() == feature));
    match has {
        true => Ok(()),
        false => Err(stop(
            "KAFKA_BUILD",
            format!("{what} is asked for, and this tidemill was built with a Kafka client that has no {what}"),
            "take a tidemill built with --features kafka-tls (its build needs OpenSSL's headers), or a listener of \
             the brokers that works without it",
        )),
    }
}

impl Topics {
    pub fn take(&self, topic: &str) -> bool {
        match self {
            Topics::Named(names) => names.iter().any(|name| name == topic),
            Topics::Matching(pattern) => !topic.starts_with("__") && matches(pattern.as_bytes(), topic.as_bytes()),
        }
    }
}

/// `*` takes as little as it can, and more where the rest does not match: no recursion, at most |pattern|·|text| steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            (p, t) = (star_p + 1, star_t + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_whole_names() {
        let take = |pattern: &str, topic: &str| Topics::Matching(pattern.to_string()).take(topic);
        assert!(take("flow.*", "flow.shop.orders") && take("*", "a") && take("a*b*c", "aXbbYc") && take("a", "a"));
        assert!(!take("flow.*", "flow") && !take("flow", "flows") && !take("a*b", "abc") && !take("*", "__offsets"));
        assert!(!take("flow.", "flowX"), "a dot is a dot");
    }

    #[test]
    fn no_debug_text_shows_the_password() {
        let mut options = Options::new("b:9092", Topics::Named(vec![]));
        let password = Secret::new("hunter2");
        options.sasl = Some(Sasl { mechanism: Mechanism::Plain, user: "u".to_string(), password });
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(options.config().is_ok(), "PLAIN needs no further library");
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_the_build_lacks_is_said() {
        let mut options = Options::new("b:9092", Topics::Named(vec![]));
        options.tls.mode = SslMode::VerifyIdentity;
        let Err(Fault::Stop(stop)) = options.config() else { panic!("TLS is not there") };
        assert_eq!(stop.code, "KAFKA_BUILD");
        assert!(stop.remedy.contains("kafka-tls"), "{}", stop.remedy);
    }
}
