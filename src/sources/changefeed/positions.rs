//! The position of a changefeed, and as people write it: a TSO, or offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::quarantine::Kept;
use super::{Changefeed, Consistency};
use crate::row::Position;
use crate::sources::log::{Ends, Offsets};
use crate::sources::mysql::connect::{Options, connect, execute};
use crate::sources::mysql::snapshot::tso;
use crate::sources::{PositionError, Positions, Wanted, is_now};

/// The source's position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub offsets: Offsets,
    /// The collector's. Of watermarks: every commit below it was sent. Of transactions: every one that ended before
    /// this offset of their topic was, and the topic's own offset is one further back, from which it is read again.
    pub state: Option<u64>,
    /// Of messages that could not be read.
    #[serde(default, skip_serializing_if = "Kept::is_empty")]
    pub kept: Kept,
    /// The GTID set that the tables were copied at: its transactions are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<String>,
    /// Of watermarks: for each topic and partition that was added, the state then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<String, BTreeMap<i32, u64>>,
}

impl Standing {
    pub fn of(position: &Position) -> Standing {
        serde_json::from_str(&position.0)
            .unwrap_or_else(|e| panic!("a position that this source did not make: {e}: {position}"))
    }

    pub fn position(&self) -> Position {
        Position(serde_json::to_string(self).expect("a position is always JSON"))
    }

    /// The offsets behind what was sent.
    fn sent(mut self, transactions: Option<&String>) -> Offsets {
        let topic = transactions.and_then(|topic| self.offsets.topics.get_mut(topic));
        for next in topic.into_iter().flat_map(|topic| topic.next.values_mut()) {
            *next = self.state.and_then(|state| state.try_into().ok()).unwrap_or(0);
        }
        self.offsets
    }
}

/// What a feed without watermarks is asked for.
pub struct OffsetPositions {
    pub ends: Ends,
    /// Debezium's topic of transactions.
    pub transactions: Option<String>,
}

/// What a feed with watermarks is asked for.
pub struct TsoPositions {
    /// The TiDB that makes the changes, where it is known.
    pub upstream: Option<Options>,
}

pub fn positions(feed: &Changefeed) -> Arc<dyn Positions> {
    match feed.consistency {
        Consistency::Watermarks => Arc::new(TsoPositions { upstream: feed.upstream.clone() }),
        Consistency::Transactions | Consistency::Rows => {
            Arc::new(OffsetPositions { ends: feed.log.ends(), transactions: feed.transactions.clone() })
        }
    }
}

#[async_trait]
impl Positions for TsoPositions {
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError> {
        let wanted = match text.trim().parse::<u64>() {
            Ok(tso) => tso,
            Err(_) if is_now(text) => self.now().await?,
            Err(_) => {
                let message = format!("'{text}' is no timestamp of TiDB");
                return Err(unreadable(
                    message,
                    "give the number that SELECT TIDB_CURRENT_TSO() gives in a transaction",
                ));
            }
        };
        let is_in = move |position: &Position| Standing::of(position).state.is_some_and(|given| given > wanted);
        Ok(Wanted::new(wanted.to_string(), is_in))
    }

    fn text(&self, position: &Position) -> String {
        Standing::of(position).state.unwrap_or(0).saturating_sub(1).to_string()
    }
}

impl TsoPositions {
    async fn now(&self) -> Result<u64, PositionError> {
        let Some(options) = &self.upstream else {
            let message = "no TiDB is known that could be asked for its time".to_string();
            let remedy = "give a timestamp, or create the source with SCHEMAS FROM CONNECTION";
            return Err(unreadable(message, remedy));
        };
        let began = async {
            let mut conn = connect(options).await?;
            execute(options, &mut conn, "START TRANSACTION").await?;
            tso(options, &mut conn, "take a timestamp").await
        };
        began.await.map_err(|fault| PositionError::Upstream { reason: fault.to_string() })
    }
}

#[async_trait]
impl Positions for OffsetPositions {
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError> {
        let wanted = if is_now(text) { self.now().await? } else { read(text)? };
        let text = write(&wanted);
        let transactions = self.transactions.clone();
        let is_in = move |position: &Position| has(&Standing::of(position).sent(transactions.as_ref()), &wanted);
        Ok(Wanted::new(text, is_in))
    }

    fn text(&self, position: &Position) -> String {
        write(&Standing::of(position).sent(self.transactions.as_ref()))
    }
}

impl OffsetPositions {
    async fn now(&self) -> Result<Offsets, PositionError> {
        let ends = self.ends.clone();
        let asked = tokio::task::spawn_blocking(move || ends()).await.expect("asking for ends does not panic");
        asked.map_err(|fault| PositionError::Upstream { reason: fault.to_string() })
    }
}

/// True where every wanted offset is reached.
fn has(sent: &Offsets, wanted: &Offsets) -> bool {
    wanted.topics.iter().all(|(topic, wanted)| {
        let sent = sent.topics.get(topic);
        wanted.next.iter().all(|(number, wanted)| sent.and_then(|sent| sent.next.get(number)) >= Some(wanted))
    })
}

/// `topic:partition:offset`, separated by commas: the last message of each, so that what a producer was told can be
/// given.
fn read(text: &str) -> Result<Offsets, PositionError> {
    let mut offsets = Offsets::default();
    for part in text.split(',').map(str::trim) {
        let place = part.rsplit_once(':').and_then(|(place, offset)| {
            let (topic, number) = place.rsplit_once(':')?;
            let (number, offset) = (number.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
            (number >= 0 && (0..i64::MAX).contains(&offset)).then_some((topic, number, offset))
        });
        let Some((topic, number, offset)) = place else {
            let message = format!("'{part}' is no place in a log");
            return Err(unreadable(message, "give 'topic:partition:offset' of the last message, or 'now'"));
        };
        let next = offsets.topics.entry(topic.to_string()).or_default().next.entry(number).or_default();
        *next = (*next).max(offset + 1);
    }
    Ok(offsets)
}

/// Without partitions of which nothing was read.
fn write(offsets: &Offsets) -> String {
    let of_topic = |(topic, read): (&String, &crate::sources::log::TopicOffsets)| {
        let read = read.next.iter().filter(|(_, next)| **next > 0);
        read.map(|(number, next)| format!("{topic}:{number}:{}", next - 1)).collect::<Vec<_>>()
    };
    offsets.topics.iter().flat_map(of_topic).collect::<Vec<_>>().join(",")
}

fn unreadable(message: String, remedy: &str) -> PositionError {
    PositionError::Unreadable { message, remedy: remedy.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::log::Fault;

    fn standing(text: &str, state: Option<u64>) -> Position {
        Standing { offsets: read(text).unwrap(), state, ..Standing::default() }.position()
    }

    #[tokio::test]
    async fn offsets_are_of_the_last_message_and_print_as_they_are_read() {
        let lost = || Fault::Lost { action: "ask", reason: "away".to_string() };
        let positions = OffsetPositions { ends: Arc::new(move || Err(lost())), transactions: Some("x".to_string()) };
        let text = "a.b:0:41,a.b:1:7,c:0:0";
        let wanted = positions.wanted(" c:0:0, a.b:1:7,a.b:0:41,a.b:0:5").await.unwrap();
        assert_eq!(wanted.text, text);
        assert_eq!(positions.text(&standing(text, None)), text);
        assert!(wanted.is_in(&standing(text, None)) && wanted.is_in(&standing("a.b:0:42,a.b:1:9,c:0:3", None)));
        for less in ["a.b:0:40,a.b:1:7,c:0:0", "a.b:0:41,a.b:1:7", "a.b:0:41,c:0:0"] {
            assert!(!wanted.is_in(&standing(less, None)), "{less}");
        }
        for bad in ["", "a", "a:0", "a:0:-1", "a:-1:0", "a:0:x", "a:0:1,", "a:0:9223372036854775807"] {
            assert!(matches!(positions.wanted(bad).await, Err(PositionError::Unreadable { .. })), "{bad}");
        }
        // Of the topic of transactions the state says how far they were sent.
        let wanted = positions.wanted("x:0:9").await.unwrap();
        assert!(!wanted.is_in(&standing("x:0:20", Some(9))) && wanted.is_in(&standing("x:0:2", Some(10))));
        assert_eq!(positions.text(&standing("x:0:2", Some(10))), "x:0:9");
        let Err(error) = positions.wanted("NOW").await else { panic!("nobody answers") };
        assert!(error.to_string().contains("away"), "{error}");
    }

    #[tokio::test]
    async fn a_tso_is_in_once_a_later_watermark_has_closed_it() {
        let positions = TsoPositions { upstream: None };
        let wanted = positions.wanted("439972354120482843").await.unwrap();
        for (state, is_in) in
            [(None, false), (Some(439972354120482843), false), (Some(439972354120482844), true), (Some(u64::MAX), true)]
        {
            assert_eq!(wanted.is_in(&standing("t:0:1", state)), is_in, "{state:?}");
        }
        assert_eq!(positions.text(&standing("t:0:1", Some(439972354120482844))), wanted.text);
        for bad in ["now", "x", "-1", "t:0:1"] {
            assert!(matches!(positions.wanted(bad).await, Err(PositionError::Unreadable { .. })), "{bad}");
        }
    }
}
