//! Messages that cannot be read, amid good ones: the source stops there, or keeps them and goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bank::{self, Bank, TABLES, VIEWS, check_port};
use crate::kafka::{Feed, PARTITIONS};
use crate::kafka_broker::Broker;
use crate::ticdc::{Encoder, action};
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

/// Longer than what is kept whole.
const LONG_BYTES: usize = 300 << 10;

/// A message that cannot be read and its code; those of one kind differ by `n`.
fn poison(kind: usize, n: usize, commit: u64) -> (Vec<u8>, &'static str) {
    let row = |kind: &str, data: &str| {
        let head = format!(r#""id":{n},"database":"bank","table":"accounts","isDdl":false,"type":"{kind}""#);
        format!(r#"{{{head},"data":[{data}],"old":null,"_tidb":{{"commitTs":{commit}}}}}"#).into_bytes()
    };
    match kind {
        0 => (format!("{{ {n}").into_bytes(), "BAD_MESSAGE"),
        1 => ([b"\xff\xfe", n.to_string().as_bytes()].concat(), "BAD_MESSAGE"),
        2 => (row("UPSERT", "{}"), "BAD_MESSAGE"),
        3 => (row("UPDATE", r#"{"id":"99","city":"bj","balance":"1"}"#), "BAD_MESSAGE"),
        4 => (row("INSERT", r#"{"id":"99","city":"bj"}"#), "ROW_INCOMPLETE"),
        5 => (row("INSERT", r#"{"id":"99","city":"bj","balance":"much"}"#), "VALUE_UNREADABLE"),
        6 => (row("INSERT", r#"{"id":"99","city":null,"balance":"1"}"#), "VALUE_UNREADABLE"),
        7 => {
            (format!(r#"{{"id":{n},"isDdl":false,"type":"TIDB_WATERMARK","_tidb":{{}}}}"#).into_bytes(), "BAD_MESSAGE")
        }
        _ => (format!("{n}{}", "x".repeat(LONG_BYTES)).into_bytes(), "BAD_MESSAGE"),
    }
}
const KINDS: usize = 9;

/// A feed into a new topic, and a server without a source.
pub async fn begin(name: &str) -> Option<(Broker, Feed, Tidemill)> {
    let broker = Broker::start_or_skip().await?;
    broker.create_topic("flow", PARTITIONS as i32, &[]).await;
    let encoder = Encoder::canal_json();
    let feed = Feed::new(broker.producer(), "flow", encoder);
    let server = Tidemill::start(&temporary(name), &[], &[]).await;
    let kafka = broker.address();
    sql(&server.client().await, &format!("CREATE CONNECTION cdc TO KAFKA (BROKERS '{kafka}')")).await;
    Some((broker, feed, server))
}

/// A column of SHOW SOURCES.
const QUARANTINED: usize = 6;

/// What SHOW SOURCES has in a column of the one source.
pub async fn shown(server: &Tidemill, column: usize) -> String {
    let sources = try_sql(&server.client().await, "SHOW SOURCES").await.expect("the server answers");
    sources[0][column].clone().unwrap_or_default()
}

pub async fn eventually_shows(server: &Tidemill, column: usize, wanted: &str) {
    eventually(wanted, 60, async || {
        let found = shown(server, column).await;
        if found.contains(wanted) { Ok(()) } else { Err(format!("{found}\n{}", server.log())) }
    })
    .await;
}

pub async fn eventually_is(server: &Tidemill, query: &str, wanted: &[Row]) {
    let client = server.client().await;
    eventually(query, 60, async || {
        let found = try_sql(&client, query).await.map_err(|e| e.to_string())?;
        if found == wanted { Ok(()) } else { Err(format!("{found:?} is not {wanted:?}\n{}", server.log())) }
    })
    .await;
}

pub fn cells<const N: usize>(row: [&str; N]) -> Row {
    row.map(|cell| Some(cell.to_string())).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_are_kept_once_amid_replays_and_kills_and_all_others_are_read() {
    let seed = bank::seed();
    let Some((_broker, mut feed, mut server)) = begin("poison-kept").await else { return };
    sql(
        &server.client().await,
        &format!(
            "CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json' ON BAD MESSAGE QUARANTINE
               TABLES ({TABLES}); {VIEWS};
             CREATE MATERIALIZED VIEW bad WITH (wait) AS
               SELECT code, COUNT(*) AS n FROM bank.quarantine GROUP BY code"
        ),
    )
    .await;
    let (mut bank, mut random) = (Bank::new(seed), bank::Random(seed));
    let mut kept = Vec::new();
    bank.open().iter().for_each(|event| feed.event(event));
    for round in 0..40 {
        for _ in 0..6 {
            bank.commit().iter().for_each(|event| feed.event(event));
            kept.extend(send_poison(&feed, &mut random, kept.len(), bank.now()));
        }
        feed.some_watermarks(&mut random, bank.now() + 1);
        if random.below(3) == 0 {
            feed.replay(&mut random, 60);
        }
        if round % 12 == 8 {
            server.kill();
            server.restart().await;
        }
        check_port(&server.client().await).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    feed.watermarks(bank.now() + 1);
    eventually_is(&server, bank::ANSWER, &bank.answer()).await;
    kept.sort();
    assert_eq!(in_quarantine(&server).await, kept, "seed {seed}");
    assert_eq!(
        (shown(&server, 2).await, shown(&server, QUARANTINED).await),
        ("running".to_string(), kept.len().to_string())
    );
    let mut codes = BTreeMap::new();
    kept.iter().for_each(|row| *codes.entry(row[1].clone()).or_insert(0) += 1);
    let codes: Vec<_> = codes.into_iter().map(|(code, n)| vec![code, Some(n.to_string())]).collect();
    eventually_is(&server, "SELECT code, n FROM bad ORDER BY code", &codes).await;
    let cut = "SELECT COUNT(*) FROM bank.quarantine WHERE value_sha256 IS NOT NULL AND value_bytes > 262144";
    let is_long = |row: &&Row| row[2].as_ref().is_some_and(|bytes| bytes.len() == 6);
    eventually_is(&server, cut, &[cells([&kept.iter().filter(is_long).count().to_string()])]).await;

    deleted_ones_stay_away(&mut server, &mut feed, &mut bank, kept.len()).await;

    // A table that changed is no bad message.
    let drop = "ALTER TABLE bank.accounts DROP COLUMN city";
    let statement = feed.encoder.ddl("bank", "accounts", drop, action::ADD_COLUMN, bank.now() + 5);
    feed.produce(0, &statement);
    feed.watermarks(bank.now() + 10);
    eventually_shows(&server, 2, "stopped: SCHEMA_CHANGED").await;
}

pub type Row = Vec<Option<String>>;

/// Each kind once, then now and then one; the answer is what [`in_quarantine`] has of it.
fn send_poison(feed: &Feed, random: &mut bank::Random, n: usize, commit: u64) -> Option<Row> {
    let partition = random.below(PARTITIONS as u64) as usize;
    let kind = if n < KINDS { n } else { random.below(4 * KINDS as u64) as usize };
    (kind < KINDS).then(|| {
        let (value, code) = poison(kind, n, commit);
        let begins: String = value[..value.len().min(40)].iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = value.len().to_string();
        feed.produce(partition, &(Some(format!("key {n}").into_bytes()), value));
        cells([&partition.to_string(), code, &bytes, &begins])
    })
}

async fn in_quarantine(server: &Tidemill) -> Vec<Row> {
    let client = server.client().await;
    let mut found = sql(&client, "SELECT partition, code, value_bytes, value FROM bank.quarantine").await;
    for row in &mut found {
        let value = row[3].take().expect("all have one");
        row[3] = Some(value.trim_start_matches("\\x").chars().take(80).collect());
    }
    found.sort();
    found
}

/// What was looked at and deleted does not come again, though all that no watermark has passed is read anew.
async fn deleted_ones_stay_away(server: &mut Tidemill, feed: &mut Feed, bank: &mut Bank, kept: usize) {
    (0..20).for_each(|_| bank.commit().iter().for_each(|event| feed.event(event)));
    (0..PARTITIONS).for_each(|partition| feed.produce(partition, &(None, b"the last".to_vec())));
    feed.flush();
    eventually_shows(server, QUARANTINED, &(kept + PARTITIONS).to_string()).await;
    let delete =
        "DELETE FROM bank.quarantine WHERE value_bytes <> 8; DELETE FROM quarantine WHERE code = 'BAD_MESSAGE'";
    sql(&server.client().await, delete).await;
    server.kill();
    server.restart().await;
    feed.produce(0, &(None, b"another".to_vec()));
    feed.flush();
    eventually_is(server, "SELECT code, n FROM bad", &[cells(["BAD_MESSAGE", "1"])]).await;
    eventually_is(server, "SELECT CAST(value AS CHAR) FROM bank.quarantine", &[cells(["another"])]).await;
    feed.watermarks(bank.now() + 1);
    eventually_is(server, bank::ANSWER, &bank.answer()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_source_stops_at_a_bad_message_and_tells_its_place() {
    let seed = bank::seed();
    let Some((_broker, mut feed, mut server)) = begin("poison-stops").await else { return };
    let source = format!("CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json' TABLES ({TABLES})");
    sql(&server.client().await, &format!("{source}; {VIEWS}")).await;
    let mut bank = Bank::new(seed);
    bank.open().iter().chain(&bank.commit()).for_each(|event| feed.event(event));
    feed.watermarks(bank.now() + 1);
    let (answer, offset) = (bank.answer(), feed.sent[2].len());
    eventually_is(&server, bank::ANSWER, &answer).await;
    feed.produce(2, &(None, poison(5, 0, bank.now() + 2).0));
    bank.commit().iter().for_each(|event| feed.event(event));
    feed.watermarks(bank.now() + 1);
    let stopped = format!("stopped: VALUE_UNREADABLE: topic flow, partition 2, offset {offset}: 'much' is no value of");
    for _ in 0..2 {
        eventually_shows(&server, 2, &stopped).await;
        // What came behind it is not shown.
        eventually_is(&server, bank::ANSWER, &answer).await;
        assert_eq!(shown(&server, QUARANTINED).await, "", "nothing is kept");
        server.kill();
        server.restart().await;
    }
    let error = try_sql(&server.client().await, "SELECT * FROM bank.quarantine").await.unwrap_err();
    assert!(format!("{error:?}").contains("there is no table or view"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_nothing_but_bad_messages_stops_and_goes_on_once_they_are_deleted() {
    let home = temporary("poison-full");
    let lines: String = (0..10_050).map(|n| format!("bad {n}\n")).collect();
    let good = r#"{"op":"c","before":null,"after":{"id":7,"v":"x"},"source":{"db":"shop","table":"t","ts_ms":1}}"#;
    std::fs::create_dir_all(home.join("cdc")).unwrap();
    std::fs::write(home.join("cdc/CDC000001.json"), lines + good + "\n").unwrap();
    let mut server = Tidemill::start(&home.join("data"), &[], &[]).await;
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION cdc TO FILES (PATH '{}');
             CREATE SOURCE flow FROM CONNECTION cdc (PATH 'cdc') FORMAT 'debezium-json' ON BAD MESSAGE QUARANTINE
               TABLES (shop.t (id INT PRIMARY KEY, v VARCHAR(9)))",
            home.display()
        ),
    )
    .await;
    eventually_shows(&server, 2, "stopped: QUARANTINE_FULL").await;
    let count = "SELECT COUNT(*) FROM flow.quarantine";
    eventually_is(&server, count, &[cells(["10000"])]).await;
    let refused = try_sql(&server.client().await, "UPDATE flow.quarantine SET code = 'x'").await.unwrap_err();
    assert!(format!("{refused:?}").contains("cannot be written here"), "{refused:?}");
    sql(&server.client().await, "DELETE FROM flow.quarantine; ALTER SOURCE flow RESUME").await;
    eventually_is(&server, count, &[cells(["50"])]).await;
    server.kill();
    server.restart().await;
    eventually_is(&server, count, &[cells(["50"])]).await;
    eventually_is(&server, "SELECT id, v FROM shop.t", &[cells(["7", "x"])]).await;
    assert_eq!(shown(&server, 2).await, "running");
    // What SHOW CREATE prints makes such a source.
    let printed = sql(&server.client().await, "SHOW CREATE SOURCE flow").await[0][0].clone().unwrap();
    assert!(printed.contains("\n  ON BAD MESSAGE QUARANTINE\n"), "{printed}");
    sql(&server.client().await, &format!("DROP SOURCE flow; {printed}")).await;
    eventually_shows(&server, 2, "stopped: QUARANTINE_FULL").await;
    let both = "CREATE SOURCE both FROM CONNECTION cdc (PATH 'cdc', TRANSACTIONS TOPIC 't') FORMAT 'debezium-json'
                ON BAD MESSAGE QUARANTINE TABLES (shop.u (id INT PRIMARY KEY))";
    let refused = try_sql(&server.client().await, both).await.unwrap_err();
    assert!(format!("{refused:?}").contains("a transaction that lacks a message is not whole"), "{refused:?}");
}
