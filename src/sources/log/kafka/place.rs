//! Where each partition begins to be read, and the proof that nothing before that place is missing.

use rdkafka::Offset;

use crate::sources::Stop;
use crate::sources::log::{Begin, Fault, NamedPartition, Offsets, Others, Partition};

use super::client::{Client, offsets_at};
use super::options::{Options, Topics};
use super::stop_of;
use super::topics::{Seen, difference};

/// The partitions of all topics, topics by name and partitions by number.
pub fn place(
    client: &Client,
    options: &Options,
    seen: &Seen,
    offsets: &Offsets,
    begin: &Begin,
) -> Result<Vec<Partition>, Fault> {
    for (name, before) in &offsets.topics {
        let Some(now) = seen.get(name) else { continue };
        if let Some(stop) = difference(name, before.identity.as_deref(), before.next.len(), now, options.added) {
            return Err(Fault::Stop(Box::new(stop)));
        }
    }
    let all = names(seen);
    let firsts = offsets_at(client, &all, Offset::Beginning)?;
    let ends = offsets_at(client, &all, Offset::End)?;
    let since = match begin {
        Begin::Time(ms) => offsets_at(client, &all, Offset::Offset(*ms.max(&0)))?,
        Begin::Earliest | Begin::Latest | Begin::Offsets { .. } => vec![None; all.len()],
    };
    if let (Begin::Offsets { named, .. }, true) = (begin, offsets.topics.is_empty())
        && let Some(missing) = named.keys().find(|named| !all.iter().any(|place| is_named(named, place)))
    {
        return Err(Fault::Stop(Box::new(no_such_partition(missing))));
    }
    let mut partitions = Vec::with_capacity(all.len());
    for (i, (topic, number)) in all.into_iter().enumerate() {
        let (first, end) = (firsts[i].unwrap_or(0), ends[i].unwrap_or(0));
        let before = offsets.topics.get(topic);
        let known = before.and_then(|t| t.next.get(&number)).copied();
        // A topic that a pattern found later has only messages that were not there when the source began.
        let is_later = matches!(options.topics, Topics::Matching(_)) && !offsets.topics.is_empty();
        let next = match (known, begin) {
            (Some(next), _) => next,
            // Added since: all that was ever in it came after what was read.
            (None, _) if before.is_some() => 0,
            (None, Begin::Earliest) => first,
            (None, Begin::Latest | Begin::Offsets { .. }) if is_later => first,
            (None, Begin::Latest) => end,
            (None, Begin::Time(_)) => since[i].unwrap_or(end),
            (None, Begin::Offsets { named, others }) => {
                let said = named.iter().find(|(named, _)| is_named(named, &(topic, number)));
                let next = match (said, others) {
                    (Some((_, offset)), _) if (first..=end).contains(offset) => Ok(*offset),
                    (Some((_, offset)), _) => Err(out_of_range(topic, number, *offset, first, end)),
                    (None, Some(Others::Earliest)) => Ok(first),
                    (None, Some(Others::Latest)) => Ok(end),
                    (None, None) => Err(not_named(topic, number)),
                };
                next.map_err(|stop| Fault::Stop(Box::new(stop)))?
            }
        };
        if let Some(stop) = gone(topic, number, next, first, end) {
            return Err(Fault::Stop(Box::new(stop)));
        }
        partitions.push(Partition { topic: topic.to_string(), number, next, end });
    }
    Ok(partitions)
}

/// One past the last message of every partition.
pub fn ends(client: &Client, seen: &Seen) -> Result<Offsets, Fault> {
    let all = names(seen);
    let mut ends = Offsets::default();
    for ((topic, number), end) in all.iter().zip(offsets_at(client, &all, Offset::End)?) {
        ends.topics.entry(topic.to_string()).or_default().next.insert(*number, end.unwrap_or(0));
    }
    Ok(ends)
}

fn names(seen: &Seen) -> Vec<(&str, i32)> {
    let of_topic = seen.iter().flat_map(|(name, topic)| topic.partitions.iter().map(|&number| (name.as_str(), number)));
    of_topic.collect()
}

/// An offset without a topic is of the only one there is.
fn is_named((named, number): &NamedPartition, place: &(&str, i32)) -> bool {
    *number == place.1 && named.as_deref().is_none_or(|named| named == place.0)
}

fn no_such_partition((topic, number): &NamedPartition) -> Stop {
    let of = topic.as_ref().map_or_else(String::new, |topic| format!("topic {topic} has "));
    stop_of(
        "START_INVALID",
        format!("START AT OFFSETS names a partition that is not there: {of}no partition {number}"),
        "drop the source and create it with the partitions that its topics have",
    )
}

fn not_named(topic: &str, number: i32) -> Stop {
    stop_of(
        "START_INVALID",
        format!("START AT OFFSETS says no offset of topic {topic}, partition {number}"),
        "drop the source and create it with an offset for each partition, or with OTHERS EARLIEST or OTHERS LATEST",
    )
}

fn out_of_range(topic: &str, number: i32, offset: i64, first: i64, end: i64) -> Stop {
    stop_of(
        "START_INVALID",
        format!("topic {topic}, partition {number} has offsets from {first} to {end}, and is to begin at {offset}"),
        "drop the source and create it with an offset that is there",
    )
}

/// Why a partition cannot be read from an offset; `None`: it can.
pub fn gone(topic: &str, number: i32, next: i64, first: i64, end: i64) -> Option<Stop> {
    if next < first {
        return Some(stop_of(
            "SOURCE_GONE",
            format!(
                "topic {topic}, partition {number}: offset {next} is to be read next, but the first that the broker \
                 still has is {first}: {} offsets were removed (retention)",
                first - next
            ),
            "drop the source and create it again, so that its tables are read anew; before that, raise retention.ms \
             and retention.bytes of the topic above the longest time this server may be away",
        ));
    }
    (next > end).then(|| diverged(topic, number, next, &format!("the partition ends at {end}")))
}

/// The partition is not the one that was read.
pub fn diverged(topic: &str, number: i32, next: i64, how: &str) -> Stop {
    stop_of(
        "SOURCE_DIVERGED",
        format!(
            "topic {topic}, partition {number}: offset {next} is to be read next, but {how}: what was read is no \
             longer there (an unclean leader election, or the topic was made again)"
        ),
        "drop the source and create it again, so that its tables are read anew; set \
         unclean.leader.election.enable=false and, for the producer, acks=all",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_outside_of_the_partition_is_named() {
        let code = |next, first, end| gone("t", 0, next, first, end).map(|stop| stop.code);
        assert_eq!(code(5, 5, 5), None);
        assert_eq!(code(7, 5, 9), None);
        assert_eq!(code(4, 5, 9), Some("SOURCE_GONE"));
        assert_eq!(code(10, 5, 9), Some("SOURCE_DIVERGED"));
        let stop = gone("flow", 3, 4, 50, 90).expect("it is gone");
        assert!(stop.message.contains("flow, partition 3") && stop.message.contains("46 offsets"), "{}", stop.message);
    }
}
