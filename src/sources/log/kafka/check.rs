//! What VALIDATE CONNECTION tells of brokers and topics.

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use tokio::runtime::Handle;

use crate::sources::Check;
use crate::sources::log::Fault;

use super::client::{Client, REQUEST_TIMEOUT, create, drain_errors, lost, offsets_at};
use super::options::Options;
use super::topics::{Seen, look, missing};

/// One line for the brokers, and for each topic its partitions and what removes messages from it.
pub async fn check(options: &Options) -> Vec<Check> {
    let mut checks = Vec::new();
    let (of, handle) = (options.clone(), Handle::current());
    let told = tokio::task::spawn_blocking(move || {
        let mut checks = Vec::new();
        match ask(&of, &handle, &mut checks) {
            Ok(()) => checks,
            Err(fault) => {
                let remedy = match &fault {
                    Fault::Stop(stop) => stop.remedy.clone(),
                    Fault::Lost { .. } => {
                        "see the reason; the server must reach every broker by its advertised name".to_string()
                    }
                };
                checks.push(line("brokers", fault.to_string(), "reachable, topics readable", Some(remedy)));
                checks
            }
        }
    });
    match told.await {
        Ok(told) => checks.extend(told),
        Err(e) => checks.push(line("brokers", e.to_string(), "reachable", Some("try again".to_string()))),
    }
    checks
}

fn line(setting: &str, have: String, need: &str, remedy: Option<String>) -> Check {
    Check { setting: setting.to_string(), have, need: need.to_string(), ok: remedy.is_none(), remedy }
}

fn ask(options: &Options, handle: &Handle, checks: &mut Vec<Check>) -> Result<(), Fault> {
    let client = create(options)?;
    let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT);
    let metadata = metadata.map_err(|e| {
        drain_errors(&client);
        lost(&client, "reach the brokers", e)
    })?;
    let brokers: Vec<String> = metadata.brokers().iter().map(|b| format!("{}:{}", b.host(), b.port())).collect();
    checks.push(line("brokers", brokers.join(", "), "reachable", None));
    let seen = look(&client, &options.topics)?;
    if let Some(missing) = missing(&client, &options.topics, &seen) {
        let remedy = "start the feed or create the topic, or name another";
        checks.push(line("topics", missing, "there", Some(remedy.to_string())));
    }
    for (name, topic) in &seen {
        let all: Vec<(&str, i32)> = topic.partitions.iter().map(|&number| (name.as_str(), number)).collect();
        let firsts = offsets_at(&client, &all, Offset::Beginning)?;
        let ends = offsets_at(&client, &all, Offset::End)?;
        let offsets: i64 = ends.iter().zip(&firsts).map(|(e, f)| e.unwrap_or(0) - f.unwrap_or(0)).sum();
        let have = format!("{} partitions, {offsets} offsets", all.len());
        checks.push(line(&format!("topic {name}"), have, "partitions with a leader", None));
    }
    policies(options, handle, &client, &seen, checks)
}

/// A changelog must keep every message until it was read: compaction removes all but the last of a key.
fn policies(
    options: &Options,
    handle: &Handle,
    client: &Client,
    seen: &Seen,
    checks: &mut Vec<Check>,
) -> Result<(), Fault> {
    const ACTION: &str = "read the topics' settings";
    let admin: AdminClient<DefaultClientContext> = options.config()?.create().map_err(|e| lost(client, ACTION, e))?;
    let topics: Vec<ResourceSpecifier<'_>> = seen.keys().map(|name| ResourceSpecifier::Topic(name)).collect();
    let ask = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let told = handle.block_on(admin.describe_configs(&topics, &ask)).map_err(|e| lost(client, ACTION, e))?;
    for (name, told) in seen.keys().zip(told) {
        // Without the right to see settings nothing is wrong: reading needs it not.
        let Ok(resource) = told else { continue };
        let setting = |key: &str| resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let policy = setting("cleanup.policy");
        let remedy = policy.contains("compact").then(|| {
            format!(
                "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} --add-config \
                 cleanup.policy=delete",
                options.brokers
            )
        });
        checks.push(line(&format!("cleanup.policy of {name}"), policy, "delete", remedy));
        let kept = match setting("retention.ms").parse::<i64>() {
            Ok(ms) if ms >= 0 => format!("{} h", ms / 3_600_000),
            _ => "for ever".to_string(),
        };
        checks.push(line(&format!("retention.ms of {name}"), kept, "longer than this server may be away", None));
    }
    Ok(())
}
