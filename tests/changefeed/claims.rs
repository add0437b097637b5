//! Messages that were too large for Kafka: claim checks, with files in an S3 server or in a folder.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::bank::{self, Bank, Event, TABLES, VIEWS, check_port};
use crate::kafka::Feed;
use crate::poison::{begin, eventually_is, eventually_shows};
use crate::s3_server::{KEY, Store};
use crate::ticdc::{Encoded, Encoder, Format, batch};
use crate::tidemill_server::{Tidemill, sql, temporary};

/// Where files lie that messages speak of.
enum Files {
    Store(Store),
    Folder(PathBuf),
}

impl Files {
    async fn put(&self, name: &str, body: &[u8]) {
        match self {
            Files::Store(store) => store.put(&format!("claims/{name}"), body.to_vec()).await,
            Files::Folder(folder) => std::fs::write(folder.join(name), body).unwrap(),
        }
    }

    fn connection(&self) -> String {
        match self {
            Files::Store(store) => format!(
                "CREATE SECRET k AS '{KEY}'; CREATE CONNECTION large TO FILES (PATH 's3://large/claims', ENDPOINT '{}',
                   ACCESS KEY SECRET k, SECRET KEY SECRET k)",
                store.endpoint()
            ),
            Files::Folder(folder) => format!("CREATE CONNECTION large TO FILES (PATH '{}')", folder.display()),
        }
    }
}

/// What TiCDC sends in place of a message, with the key of the row and the location of the file.
fn claim_check(format: Format, (key, value): &Encoded, location: &str) -> Encoded {
    let only_id = |row: &mut Value| row.as_object_mut().unwrap().retain(|column, _| column == "id");
    let event = |framed: &[u8]| serde_json::from_slice::<Value>(&framed[8..]).unwrap();
    match format {
        Format::OpenProtocol => {
            let (mut key, mut value) = (event(&key.as_ref().unwrap()[8..]), event(value));
            key["ccl"] = location.into();
            value.as_object_mut().unwrap().values_mut().for_each(only_id);
            batch(&[(key.to_string().into_bytes(), value.to_string().into_bytes())])
        }
        Format::CanalJson => {
            let mut message: Value = serde_json::from_slice(value).unwrap();
            message["_tidb"]["claimCheckLocation"] = location.into();
            for member in ["data", "old"] {
                message[member].as_array_mut().into_iter().flatten().for_each(only_id);
            }
            (None, message.to_string().into_bytes())
        }
        Format::Simple => {
            let mut message: Value = serde_json::from_slice(value).unwrap();
            message["claimCheckLocation"] = location.into();
            for member in ["data", "old"] {
                if let Some(row) = message.get_mut(member) {
                    only_id(row);
                }
            }
            (None, message.to_string().into_bytes())
        }
    }
}

/// What is in the file: the message's key and value, or the value alone.
fn body((key, value): &Encoded, raw: bool) -> Vec<u8> {
    if raw {
        return value.clone();
    }
    let key = key.as_ref().map(|key| STANDARD.encode(key));
    serde_json::json!({ "key": key, "value": STANDARD.encode(value) }).to_string().into_bytes()
}

struct Sender {
    feed: Feed,
    files: Files,
    format: Format,
    random: bank::Random,
    checks: usize,
}

impl Sender {
    /// Every few rows one is too large. Where its message says that the file is must not count.
    async fn events(&mut self, events: &[Event]) {
        for event in events {
            let too_large = event.after.is_some() && self.random.below(4) == 0;
            if !too_large {
                self.feed.event(event);
                continue;
            }
            self.checks += 1;
            let name = format!("{:08x}-{}.json", self.random.below(1 << 32), self.checks);
            let location = ["s3://another/prefix/", "file:///claims/../../", "s3:/large/claims/", ""]
                [self.random.below(4) as usize]
                .to_string()
                + &name;
            let (table, format) = (bank::table(event.table), self.format);
            let message = self.feed.encoder.row(&table, event.before.as_ref(), event.after.as_ref(), event.commit);
            let raw = format != Format::OpenProtocol && self.random.below(2) == 0;
            self.files.put(&name, &body(&message, raw)).await;
            let row = event.after.as_ref().expect("rows that are deleted are small");
            self.feed.instead(&table, row, event.commit, claim_check(format, &message, &location));
        }
    }
}

async fn claims(encoder: Encoder, format: Format, word: &str, in_store: bool) {
    let seed = bank::seed();
    let Some((_broker, mut feed, mut server)) = begin(&format!("claims-{word}")).await else { return };
    feed.encoder = encoder;
    let files = match in_store {
        true => match Store::start_or_skip("large").await {
            Some(store) => Files::Store(store),
            None => return,
        },
        false => Files::Folder(temporary(&format!("claims-{word}-files"))),
    };
    sql(
        &server.client().await,
        &format!(
            "{}; CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT '{word}'
               CLAIM CHECK FROM CONNECTION large TABLES ({TABLES}); {VIEWS}",
            files.connection()
        ),
    )
    .await;
    let mut bank = Bank::new(seed);
    let mut sender = Sender { feed, files, format, random: bank::Random(seed), checks: 0 };
    sender.events(&bank.open()).await;
    for round in 0..24 {
        for _ in 0..6 {
            sender.events(&bank.commit()).await;
        }
        sender.feed.some_watermarks(&mut sender.random, bank.now() + 1);
        if round % 8 == 5 {
            server.kill();
            server.restart().await;
        }
        if let (12, Files::Store(store)) = (round, &mut sender.files) {
            sender.feed.flush();
            away_and_back(&server, store, &mut sender.feed, &mut bank).await;
        }
        check_port(&server.client().await).await;
    }
    sender.feed.watermarks(bank.now() + 1);
    eventually_is(&server, bank::ANSWER, &bank.answer()).await;
    assert!(sender.checks > 50, "{} messages were too large", sender.checks);
    let created = sql(&server.client().await, "SHOW CREATE SOURCE bank").await;
    assert!(format!("{created:?}").contains("CLAIM CHECK FROM CONNECTION large"), "{created:?}");
    missing(&mut server, &mut sender, &mut bank).await;
}

/// A store that is down holds the source up, and nothing is passed over.
async fn away_and_back(server: &Tidemill, store: &mut Store, feed: &mut Feed, bank: &mut Bank) {
    feed.watermarks(bank.now() + 1);
    eventually_is(server, bank::ANSWER, &bank.answer()).await;
    let answer = bank.answer();
    let mut events = bank.commit();
    let event = events.pop().expect("a transfer");
    events.iter().for_each(|event| feed.event(event));
    let table = bank::table(event.table);
    let message = feed.encoder.row(&table, None, event.after.as_ref(), event.commit);
    store.put("claims/away.json", body(&message, false)).await;
    store.kill();
    let after = event.after.expect("it was made");
    feed.instead(&table, &after, event.commit, claim_check(Format::CanalJson, &message, "s3://large/claims/away.json"));
    feed.flush();
    eventually_shows(server, 2, "waiting: cannot read files: s3://large/claims/away.json").await;
    eventually_is(server, bank::ANSWER, &answer).await;
    store.restart().await;
    eventually_shows(server, 2, "running").await;
}

/// A file that is not there stops the source at its message, and there it goes on when the file is back.
async fn missing(server: &mut Tidemill, sender: &mut Sender, bank: &mut Bank) {
    let mut events = bank.commit();
    let event = events.pop().expect("a transfer");
    events.iter().for_each(|event| sender.feed.event(event));
    let table = bank::table(event.table);
    let message = sender.feed.encoder.row(&table, None, event.after.as_ref(), event.commit);
    let check = claim_check(sender.format, &message, "s3://large/claims/late.json");
    let after = event.after.as_ref().expect("it was made");
    sender.feed.instead(&table, after, event.commit, check);
    sender.feed.watermarks(bank.now() + 1);
    eventually_shows(server, 2, "stopped: CLAIM_CHECK: topic flow, partition").await;
    eventually_shows(server, 2, "late.json is not there").await;
    sender.files.put("late.json", &body(&message, false)).await;
    server.kill();
    server.restart().await;
    eventually_is(server, bank::ANSWER, &bank.answer()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canal_json_s_large_messages_come_from_a_store() {
    claims(Encoder::canal_json(), Format::CanalJson, "canal-json", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_protocols_large_messages_come_from_a_folder() {
    claims(Encoder::open_protocol(), Format::OpenProtocol, "open-protocol", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simple_protocols_large_messages_come_from_a_folder() {
    claims(Encoder::simple(), Format::Simple, "simple", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_files_the_source_stops_and_says_what_to_do() {
    let Some((_broker, mut feed, server)) = begin("claims-nowhere").await else { return };
    let source = format!("CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json' TABLES ({TABLES})");
    sql(&server.client().await, &source).await;
    let event = Bank::new(bank::seed()).open().remove(0);
    let table = bank::table(event.table);
    let message = feed.encoder.row(&table, None, event.after.as_ref(), event.commit);
    let after = event.after.expect("it was made");
    feed.instead(&table, &after, event.commit, claim_check(Format::CanalJson, &message, "s3://large/claims/a.json"));
    feed.flush();
    eventually_shows(&server, 2, "stopped: CLAIM_CHECK").await;
    eventually_shows(&server, 2, "create the source anew with CLAIM CHECK FROM CONNECTION").await;
}
