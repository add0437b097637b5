//! The wanted topics as the brokers have them now, and what a difference to before means.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::sources::Stop;
use crate::sources::log::{Added, Fault, PARTITIONS_ADDED};

use super::client::{Client, REQUEST_TIMEOUT, lost};
use super::describe::{Topic, describe};
use super::options::Topics;
use super::stop_of;

pub type Seen = BTreeMap<String, Topic>;

const ACTION: &str = "list the topics";
const UNKNOWN: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
/// Names that a message about a missing topic lists.
const ALIKE_MAX: usize = 3;
/// Edits that make two names alike.
const ALIKE_EDITS_MAX: usize = 3;

/// Those of the wanted topics that there are.
pub fn look(client: &Client, wanted: &Topics) -> Result<Seen, Fault> {
    let names = match wanted {
        Topics::Named(names) => names.clone(),
        Topics::Matching(_) => every_name(client)?.into_iter().filter(|name| wanted.take(name)).collect(),
    };
    if names.is_empty() {
        return Ok(Seen::new());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut seen = Seen::new();
    for described in describe(client, &names, REQUEST_TIMEOUT).map_err(|e| lost(client, ACTION, e))? {
        match described.topic {
            Ok(topic) => drop(seen.insert(described.name, topic)),
            Err(UNKNOWN) => {}
            Err(code) => {
                let code: RDKafkaErrorCode = code.into();
                return Err(lost(client, ACTION, format!("{}: {code}", described.name)));
            }
        }
    }
    Ok(seen)
}

fn every_name(client: &Client) -> Result<Vec<String>, Fault> {
    let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|e| lost(client, ACTION, e))?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_string()).collect())
}

/// What is missing of the wanted topics, said with names that are alike.
pub fn missing(client: &Client, wanted: &Topics, seen: &Seen) -> Option<String> {
    let absent = match wanted {
        Topics::Named(names) => names.iter().find(|name| !seen.contains_key(*name))?,
        Topics::Matching(pattern) => match seen.is_empty() {
            true => return Some(format!("the brokers have no topic that matches `{pattern}`")),
            false => return None,
        },
    };
    let mut said = format!("the brokers have no topic `{absent}`");
    let mut alike: Vec<(usize, String)> = every_name(client)
        .unwrap_or_default()
        .into_iter()
        .map(|name| (strsim::osa_distance(&name.to_lowercase(), &absent.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= ALIKE_EDITS_MAX || name.contains(absent.as_str()))
        .collect();
    alike.sort();
    if !alike.is_empty() {
        let names: Vec<&str> = alike.iter().take(ALIKE_MAX).map(|(_, name)| name.as_str()).collect();
        said += &format!("; alike: {}", names.join(", "));
    }
    Some(said)
}

/// How a topic differs from what was read before under its name; `None`: it is the same, with the same partitions or
/// with more where those are read.
pub fn difference(name: &str, identity: Option<&str>, known: usize, now: &Topic, added: Added) -> Option<Stop> {
    let count = now.partitions.len();
    match (identity, now.identity.as_deref()) {
        (Some(before), Some(now)) if before != now => {
            return Some(recreated(name, &format!("its id was {before} and is {now}")));
        }
        _ => {}
    }
    // Kafka never takes partitions away.
    if count < known {
        return Some(recreated(name, &format!("it had {known} partitions and has {count}")));
    }
    (count > known && added == Added::Stop).then(|| {
        stop_of(
            PARTITIONS_ADDED,
            format!(
                "topic {name} had {known} partitions and has {count}: the feed spreads rows anew, so changes of one \
                 row may now lie in two partitions without an order between them"
            ),
            "stop what writes the topic, then ALTER SOURCE … ADD PARTITIONS, and let it write again once the source \
             has read everything",
        )
    })
}

fn recreated(name: &str, how: &str) -> Stop {
    stop_of(
        "TOPIC_RECREATED",
        format!("topic {name} was deleted and made again: {how}; what was in it and had not been read is lost"),
        "drop the source and create it again, so that its tables are read anew before the topic's changes apply",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let topic = |id: Option<&str>, count| Topic {
            identity: id.map(str::to_string),
            partitions: (0..count).collect(),
            leaderless: 0,
        };
        let of = |identity, known, now, added| difference("t", identity, known, &now, added).map(|stop| stop.code);
        let code = |identity, known, now| of(identity, known, now, Added::Stop);
        assert_eq!(code(Some("a"), 2, topic(Some("a"), 2)), None);
        assert_eq!(code(None, 2, topic(Some("a"), 2)), None, "brokers that were upgraded have ids from then on");
        assert_eq!(code(Some("a"), 2, topic(Some("b"), 2)), Some("TOPIC_RECREATED"));
        assert_eq!(code(Some("a"), 2, topic(Some("b"), 3)), Some("TOPIC_RECREATED"));
        assert_eq!(code(None, 2, topic(None, 1)), Some("TOPIC_RECREATED"));
        assert_eq!(code(Some("a"), 2, topic(Some("a"), 3)), Some("PARTITIONS_ADDED"));
        assert_eq!(of(Some("a"), 2, topic(Some("a"), 3), Added::Read), None);
        assert_eq!(of(Some("a"), 2, topic(Some("a"), 1), Added::Read), Some("TOPIC_RECREATED"));
    }
}
