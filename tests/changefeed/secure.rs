//! Brokers that want to know who reads, and that are reached over TLS.

#[cfg(feature = "kafka-tls")]
use crate::certificates::Certificates;
#[cfg(not(feature = "kafka-tls"))]
use crate::kafka_broker::not_run;
use crate::kafka_broker::{Broker, Guarded};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary};

const PASSWORD: &str = "let-me-1n";

/// Follows a topic through the guarded listener, after a refusal of who has the wrong password.
async fn follows(name: &str, broker: &Broker, security: &str) {
    broker.create_topic("users", 1, &[]).await;
    broker.produce("users", 0, (0..10).map(|id| format!("{{\"id\":{id},\"city\":\"bj\"}}")));
    let secrets = [("READER_PASSWORD", PASSWORD), ("WRONG_PASSWORD", "let-me-0ut")];
    let server = Tidemill::start(&temporary(name), &[], &secrets).await;
    let client = server.client().await;
    let brokers = broker.guarded_address();
    let connection = |name: &str, secret: &str| {
        let who = format!("USER 'reader', PASSWORD SECRET {secret}");
        format!(
            "CREATE SECRET {secret} FROM ENV '{}_PASSWORD';
             CREATE CONNECTION {name} TO KAFKA (BROKERS '{brokers}', {security}, {who})",
            secret.to_uppercase()
        )
    };
    let source = |connection: &str| {
        format!(
            "CREATE SOURCE {connection} FROM CONNECTION {connection} (TOPIC 'users') FORMAT 'json'
               TABLES ({connection}.users (id INT PRIMARY KEY, city VARCHAR(10) NOT NULL))"
        )
    };
    sql(&client, &connection("closed", "wrong")).await;
    sql(&client, &source("closed")).await;
    eventually("the broker's refusal is told", 60, async || {
        let state = sql(&client, "SHOW SOURCES").await[0][2].clone().unwrap_or_default();
        if state.to_lowercase().contains("authentication") { Ok(()) } else { Err(state) }
    })
    .await;
    sql(&client, &connection("k", "reader")).await;
    let checks = sql(&client, "VALIDATE CONNECTION k").await;
    assert_eq!(checks[0][3].as_deref(), Some("yes"), "{checks:?}");
    sql(&client, &source("k")).await;
    eventually("the topic is read", 60, async || {
        let rows = sql(&client, "SELECT COUNT(*) FROM k.users").await;
        if rows[0][0].as_deref() == Some("10") { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    let log = server.log();
    assert!(!log.contains(PASSWORD) && !log.contains("let-me-0ut"), "a password is in the log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_proves_who_it_is() {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let settings = vec![
        "sasl.enabled.mechanisms=PLAIN".to_string(),
        format!("listener.name.guarded.plain.sasl.jaas.config={module} user_reader=\"{PASSWORD}\";"),
    ];
    let guarded = Guarded::new("SASL_PLAINTEXT", settings, "");
    let Some(broker) = Broker::start_guarded_or_skip(Some(guarded)).await else { return };
    follows("sasl-plain", &broker, "SASL MECHANISM 'PLAIN'").await;
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_proves_who_it_is_over_tls() {
    let directory = temporary("sasl-tls-certificates");
    let certificates = Certificates::make(&directory).expect("OpenSSL's headers are there, so is its command");
    let pem = |path| std::fs::read_to_string(path).expect("it was written").trim_end().replace('\n', " ");
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required";
    let settings = vec![
        "sasl.enabled.mechanisms=SCRAM-SHA-512".to_string(),
        format!("listener.name.guarded.scram-sha-512.sasl.jaas.config={module};"),
        "ssl.keystore.type=PEM".to_string(),
        format!("ssl.keystore.key={}", pem(&certificates.key)),
        format!("ssl.keystore.certificate.chain={}", pem(&certificates.certificate)),
    ];
    let user = format!("--add-scram SCRAM-SHA-512=[name=reader,password={PASSWORD}]");
    let guarded = Guarded::new("SASL_SSL", settings, user);
    let Some(broker) = Broker::start_guarded_or_skip(Some(guarded)).await else { return };
    let security = format!("SASL MECHANISM 'SCRAM-SHA-512', SSL CA '{}'", certificates.ca.display());
    follows("sasl-tls", &broker, &security).await;
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn a_reader_proves_who_it_is_over_tls() {
    not_run("SCRAM and TLS to Kafka: built without the feature kafka-tls, which needs OpenSSL's headers (libssl-dev)");
}
