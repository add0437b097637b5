//! A changefeed of the catalog: what is read, in which format, from where on.

use serde::{Deserialize, Serialize};

use crate::row::ObjectId;

/// A changefeed: what is read and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    pub topics: Topics,
    /// Debezium's topic of transactions.
    pub transactions: Option<String>,
    pub start: StartAt,
    pub format: FeedFormat,
    /// Transactions may be seen in part.
    pub by_row: bool,
    /// Of TIMESTAMPs in messages, as typed.
    pub time_zone: Option<String>,
    #[serde(default)]
    pub compression: FeedCompression,
    /// Of CSV.
    #[serde(default)]
    pub csv: Csv,
    /// The connection that the tables' columns were taken from; `None`: they were declared.
    pub schemas: Option<ObjectId>,
    /// The tables are copied from that connection before the first message is read.
    #[serde(default)]
    pub snapshot: bool,
    #[serde(default)]
    pub on_bad_message: OnBadMessage,
    #[serde(default)]
    pub on_mismatch: OnMismatch,
    /// Rows are dropped when the log has had them for so long.
    #[serde(default)]
    pub retain_seconds: Option<u64>,
    /// The FILES connection that has messages which were too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_check: Option<ObjectId>,
    /// Of Avro; `None`: the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
}

/// A schema registry, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The secret that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<ObjectId>,
}

/// The table of a source's messages that could not be read: `connection.source.quarantine`.
pub const QUARANTINE: &str = "quarantine";

/// What becomes of a message that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBadMessage {
    /// The source stops before it.
    #[default]
    Stop,
    /// It is kept in [`QUARANTINE`], and the source goes on behind it.
    Quarantine,
}

/// What becomes of a change of a row that is not as the feed says that it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnMismatch {
    /// The row is what the feed says that it is now; it is counted.
    #[default]
    Heal,
    /// The source stops before it.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topics {
    Names(Vec<String>),
    Pattern(String),
    /// A folder under the connection's.
    Path(String),
}

impl Default for Topics {
    fn default() -> Topics {
        Topics::Names(Vec::new())
    }
}

/// Where a changefeed that was never read begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAt {
    #[default]
    Earliest,
    Latest,
    /// Milliseconds since the epoch.
    Time(i64),
    Offsets {
        named: Vec<StartOffset>,
        others: Option<OtherPartitions>,
    },
}

/// The first message of a partition that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOffset {
    /// `None`: of the one topic that the source reads.
    pub topic: Option<String>,
    pub partition: i32,
    pub offset: i64,
}

/// Where partitions begin that no offset was said for; there must be none where this is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherPartitions {
    Earliest,
    Latest,
}

/// How records of CSV are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csv {
    /// Between fields; `None`: a comma.
    pub delimiter: Option<char>,
    /// Each file begins with the names of its columns.
    pub header: bool,
}

/// Of values inside messages, on top of the topic's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedCompression {
    #[default]
    None,
    Snappy,
    Lz4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedFormat {
    /// TiCDC's and Alibaba Canal's.
    CanalJson,
    /// TiCDC's.
    OpenProtocol,
    /// TiCDC's.
    Simple,
    DebeziumJson,
    /// Rows without an envelope.
    Json,
    /// Likewise.
    Csv,
    /// Likewise, by schemas of a registry.
    Avro,
    /// Debezium's, by schemas of a registry.
    DebeziumAvro,
}

impl FeedCompression {
    pub const ALL: [FeedCompression; 3] = [FeedCompression::None, FeedCompression::Snappy, FeedCompression::Lz4];

    /// As TiCDC names it.
    pub fn word(self) -> &'static str {
        match self {
            FeedCompression::None => "none",
            FeedCompression::Snappy => "snappy",
            FeedCompression::Lz4 => "lz4",
        }
    }
}

impl FeedFormat {
    pub const ALL: [FeedFormat; 8] = [
        FeedFormat::CanalJson,
        FeedFormat::OpenProtocol,
        FeedFormat::Simple,
        FeedFormat::DebeziumJson,
        FeedFormat::DebeziumAvro,
        FeedFormat::Json,
        FeedFormat::Csv,
        FeedFormat::Avro,
    ];

    /// Its messages are rows, and say nothing else.
    pub fn is_plain(self) -> bool {
        matches!(self, FeedFormat::Json | FeedFormat::Csv | FeedFormat::Avro)
    }

    pub fn is_debezium(self) -> bool {
        matches!(self, FeedFormat::DebeziumJson | FeedFormat::DebeziumAvro)
    }

    /// Its messages are written by schemas of a registry.
    pub fn is_avro(self) -> bool {
        matches!(self, FeedFormat::Avro | FeedFormat::DebeziumAvro)
    }

    /// As the changefeeds name it.
    pub fn word(self) -> &'static str {
        match self {
            FeedFormat::CanalJson => "canal-json",
            FeedFormat::OpenProtocol => "open-protocol",
            FeedFormat::Simple => "simple",
            FeedFormat::DebeziumJson => "debezium-json",
            FeedFormat::Json => "json",
            FeedFormat::Csv => "csv",
            FeedFormat::Avro => "avro",
            FeedFormat::DebeziumAvro => "debezium-avro",
        }
    }
}
