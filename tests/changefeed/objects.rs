//! Files in an object store: TiCDC's layout in a real S3 server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidemill::config::Secret;
use tidemill::sources::log::files::FilesLog;
use tidemill::sources::log::files::objects::{Keys, Objects, Options};
use tidemill::sources::log::files::storage::{Lines, Storage, Whole};
use tidemill::sources::log::{Begin, Log, Offsets};

use crate::bank::{self, Bank, Event, TABLES, VIEWS, check_port};
use crate::s3_server::{KEY, Store};
use crate::ticdc::Encoder;
use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

/// As TiCDC's storage sink lays it out by days: what a flush has of a table is an object, the checkpoint comes last.
struct Sink {
    prefix: &'static str,
    day: u64,
    encoder: Encoder,
    /// Objects of a folder.
    written: BTreeMap<String, u64>,
}

impl Sink {
    fn new(prefix: &'static str) -> Sink {
        Sink { prefix, day: 1, encoder: Encoder::canal_json(), written: BTreeMap::new() }
    }

    async fn flush(&mut self, store: &Store, events: &[Event], checkpoint: u64) {
        let mut of_tables = BTreeMap::<String, Vec<u8>>::new();
        for event in events {
            let table = bank::table(event.table);
            let (_, value) = self.encoder.row(&table, event.before.as_ref(), event.after.as_ref(), event.commit);
            let folder = format!("{}/bank/{}/439972354120482843/2026-01-{:02}", self.prefix, table.name, self.day);
            of_tables.entry(folder).or_default().extend([&value[..], b"\r\n"].concat());
        }
        for (folder, lines) in of_tables {
            let number = self.written.entry(folder.clone()).or_default();
            *number += 1;
            store.put(&format!("{folder}/CDC{number:06}.json"), lines).await;
            store.put(&format!("{folder}/meta/CDC.index"), format!("CDC{number:06}.json\n")).await;
        }
        store.put(&format!("{}/metadata", self.prefix), format!(r#"{{"checkpoint-ts":{checkpoint}}}"#)).await;
    }
}

async fn state(server: &Tidemill) -> String {
    let sources = try_sql(&server.client().await, "SHOW SOURCES").await.expect("the server answers");
    sources[0][2].clone().unwrap_or_default()
}

async fn eventually_is(server: &Tidemill, wanted: &str) {
    eventually(wanted, 60, async || {
        let found = state(server).await;
        if found.contains(wanted) { Ok(()) } else { Err(format!("{found}\n{}", server.log())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticdc_objects_show_whole_commits_only_and_survive_kills_of_both_sides() {
    let seed = bank::seed();
    let Some(mut store) = Store::start_or_skip("cdc").await else { return };
    let (mut bank, mut sink) = (Bank::new(seed), Sink::new("feeds/one"));
    let (opened, opened_at) = (bank.open(), bank.now());
    sink.flush(&store, &opened, opened_at).await;
    let mut server = Tidemill::start(&temporary("feed-objects"), &[], &[]).await;
    let client = server.client().await;
    let connection = format!("ENDPOINT '{}', REGION 'us-east-1'", store.endpoint());
    sql(
        &client,
        &format!(
            "CREATE SECRET k AS '{KEY}';
             CREATE CONNECTION cdc TO FILES
               (PATH 's3://cdc/feeds', {connection}, ACCESS KEY SECRET k, SECRET KEY SECRET k);
             CREATE SOURCE bank FROM CONNECTION cdc (PATH 'one') FORMAT 'canal-json' TABLES ({TABLES}); {VIEWS}"
        ),
    )
    .await;
    for round in 0..16 {
        let mut events = Vec::new();
        (0..20).for_each(|_| events.extend(bank.commit()));
        // Midnight: the next rows are in folders that nobody has seen.
        sink.day = 1 + round / 4;
        sink.flush(&store, &events, bank.now() + 1).await;
        match round {
            3 | 9 => {
                server.kill();
                server.restart().await;
            }
            6 => {
                store.kill();
                eventually_is(&server, "waiting: cannot read files: s3://cdc/feeds/one").await;
                check_port(&server.client().await).await;
                store.restart().await;
            }
            _ => {}
        }
        let client = server.client().await;
        for _ in 0..4 {
            check_port(&client).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
    let client = server.client().await;
    sql(&client, &format!("SELECT tidemill_wait('bank', '{}', '60s')", bank.now())).await;
    assert_eq!(sql(&client, bank::ANSWER).await, bank.answer(), "seed {seed}");
    check_port(&client).await;
    let shown = sql(&client, "SHOW CREATE CONNECTION cdc").await;
    assert!(format!("{shown:?}").contains("ACCESS KEY SECRET k, SECRET KEY SECRET k"), "{shown:?}");
    assert!(!format!("{shown:?}{}", server.log()).contains(KEY), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_uri_is_read_with_the_environments_keys_and_refusals_are_told() {
    let seed = bank::seed();
    let Some(store) = Store::start_or_skip("cdc").await else { return };
    let (mut bank, mut sink) = (Bank::new(seed), Sink::new("feed"));
    let (opened, opened_at) = (bank.open(), bank.now());
    sink.flush(&store, &opened, opened_at + 1).await;
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", KEY), ("WRONG", "wrong-key")];
    let server = Tidemill::start(&temporary("feed-sink-uri"), &[], &keys).await;
    let (client, endpoint) = (server.client().await, store.endpoint());
    let uri = format!("s3://cdc/feed?protocol=canal-json&enable-tidb-extension=true&endpoint={endpoint}");
    sql(&client, &format!("CREATE SOURCE bank FROM TICDC '{uri}' TABLES ({TABLES}); {VIEWS}")).await;
    sql(&client, &format!("SELECT tidemill_wait('bank', '{}', '60s')", bank.now())).await;
    assert_eq!(sql(&client, bank::ANSWER).await, bank.answer(), "seed {seed}");

    sql(
        &client,
        &format!(
            "CREATE SECRET right AS '{KEY}'; CREATE SECRET wrong FROM ENV 'WRONG';
             CREATE CONNECTION denied TO FILES
               (PATH 's3://cdc', ENDPOINT '{endpoint}', ACCESS KEY SECRET right, SECRET KEY SECRET wrong);
             CREATE CONNECTION nowhere TO FILES (PATH 's3://another', ENDPOINT '{endpoint}')"
        ),
    )
    .await;
    for (connection, ok, told) in [
        ("bank_ticdc", "yes", "it can"),
        ("denied", "no", "the store refuses it (SignatureDoesNotMatch: Forbidden)"),
        ("nowhere", "no", "NoSuchBucket"),
    ] {
        let checks = sql(&client, &format!("VALIDATE CONNECTION {connection}")).await;
        let text = |i: usize| checks[0][i].clone().unwrap_or_default();
        assert!(text(3) == ok && text(1).contains(told), "{checks:?}");
    }
    sql(&client, "DROP SOURCE bank CASCADE").await;
    let source = format!("CREATE SOURCE bank FROM CONNECTION denied (PATH '.') FORMAT 'canal-json' TABLES ({TABLES})");
    sql(&client, &source).await;
    eventually_is(&server, "waiting: cannot read files: s3://cdc: the store refuses it").await;
    assert!(!server.log().contains("wrong-key") && !server.log().contains(KEY), "{}", server.log());
}

/// Also where several objects are asked for at once.
async fn lines_come_in_order(objects: &Arc<dyn Storage>, wanted: u64) {
    let mut log = FilesLog::new(Arc::clone(objects), Lines::Changes);
    let partitions = log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    let (of_t, began) = (partitions.iter().position(|partition| partition.topic == "t").unwrap(), Instant::now());
    let (mut found, mut of_others) = (Vec::new(), 0);
    while (found.len() as u64) < wanted || of_others < 600_001 {
        for entry in log.next().await.unwrap() {
            if entry.partition == of_t {
                found.push(String::from_utf8(entry.value.unwrap()).unwrap());
            } else {
                of_others += 1;
            }
        }
    }
    println!("{wanted} small objects and a large one in {:?}", began.elapsed());
    assert_eq!(found, (1..=wanted).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_has_what_was_not_read_and_large_objects_come_in_pieces() {
    const OBJECTS: u64 = 2_100;
    let Some(store) = Store::start_or_skip("pages").await else { return };
    for number in 1..=OBJECTS {
        store.put(&format!("p/t/CDC{number:06}.json"), format!("{number}\n")).await;
    }
    store.put("p/t-2/CDC000007.json", "other\n").await;
    store.put("p/t/meta/CDC000001.json", "no log\n").await;
    store.put("p2/CDC000001.json", "of another prefix\n").await;
    let large = (0..600_000).map(|i| format!("line {i}\n")).collect::<String>();
    store.put("p/large-1.json", large.clone()).await;
    let keys = Some(Keys { access: Secret::new(KEY), secret: Secret::new(KEY) });
    let (bucket, prefix) = ("pages".to_string(), "p".to_string());
    let endpoint = Some(store.endpoint());
    let objects: Arc<dyn Storage> =
        Arc::new(Objects::new(&Options { bucket, prefix, endpoint, region: None, keys }).unwrap());
    lines_come_in_order(&objects, OBJECTS).await;
    tokio::task::spawn_blocking(move || {
        for from in [0, 1, 2, 990, 1_000, 1_001, 2_050, OBJECTS] {
            let known = BTreeMap::from([("t".to_string(), from)]);
            let listing = objects.list(Lines::Changes, &known).unwrap();
            assert_eq!(listing.keys().collect::<Vec<_>>(), ["", "t", "t-2"]);
            let files = &listing["t"];
            let mut numbers = Vec::from_iter(files.first());
            while let Some(next) = files.behind(*numbers.last().unwrap()) {
                numbers.push(next);
            }
            assert_eq!(numbers, (from.max(1)..=OBJECTS).collect::<Vec<_>>(), "from {from}");
            assert!(files.are_all());
        }
        let listing = objects.list(Lines::Changes, &BTreeMap::new()).unwrap();
        let mut read = String::new();
        let place = large.len() as u64 / 2;
        objects.open("", listing[""].get(1).unwrap(), place).unwrap().read_to_string(&mut read).unwrap();
        assert!(read == large[place as usize..], "{} bytes", read.len());
        assert!(objects.whole("large-1.json", 1 << 30).unwrap() == Whole::Bytes(large.into_bytes()));
        assert_eq!(objects.whole("t/CDC000003.json", 2).unwrap(), Whole::Bytes(b"3\n".to_vec()));
        assert_eq!(objects.whole("t/CDC000003.json", 1).unwrap(), Whole::TooLarge);
        assert_eq!(objects.whole("t/CDC9.json", 1).unwrap(), Whole::Missing);
    })
    .await
    .unwrap();
}
