//! Changefeeds end to end: messages in, views and wide tables out, at every state observed.
//!
//! TiCDC's messages come from our own encoder, written from the protocol's documents (tests/support/ticdc.rs): TiCDC
//! itself does not run here. Debezium and Canal are the real ones, reading a real MySQL.

#[path = "support/bank.rs"]
mod bank;
#[path = "changefeed/plain.rs"]
mod plain;
#[path = "changefeed/replay.rs"]
mod replay;
#[path = "changefeed/spill.rs"]
mod spill;
#[path = "support/ticdc.rs"]
mod ticdc;
#[path = "support/tidemill.rs"]
mod tidemill_server;

#[cfg(all(feature = "avro", feature = "kafka"))]
#[path = "changefeed/avro.rs"]
mod avro;
#[cfg(feature = "kafka")]
#[path = "support/canal.rs"]
mod canal;
#[cfg(feature = "kafka-tls")]
#[path = "support/certificates.rs"]
mod certificates;
#[cfg(all(feature = "kafka", feature = "objects"))]
#[path = "changefeed/claims.rs"]
mod claims;
#[cfg(feature = "kafka")]
#[path = "changefeed/consistency.rs"]
mod consistency;
#[cfg(feature = "kafka")]
#[path = "support/debezium.rs"]
mod debezium;
#[cfg(feature = "kafka")]
#[path = "changefeed/kafka.rs"]
mod kafka;
#[cfg(feature = "kafka")]
#[path = "support/kafka.rs"]
mod kafka_broker;
#[cfg(feature = "kafka")]
#[path = "changefeed/mismatch.rs"]
mod mismatch;
#[cfg(feature = "kafka")]
#[path = "support/mysql.rs"]
mod mysql_server;
#[cfg(all(feature = "kafka", feature = "objects"))]
#[path = "changefeed/objects.rs"]
mod objects;
#[cfg(feature = "kafka")]
#[path = "changefeed/partitions.rs"]
mod partitions;
#[cfg(feature = "kafka")]
#[path = "changefeed/plain_kafka.rs"]
mod plain_kafka;
#[cfg(feature = "kafka")]
#[path = "changefeed/poison.rs"]
mod poison;
#[cfg(feature = "kafka")]
#[path = "changefeed/retain.rs"]
mod retain;
#[cfg(feature = "kafka")]
#[path = "support/runner.rs"]
mod runner;
#[cfg(all(feature = "kafka", feature = "objects"))]
#[path = "support/s3.rs"]
mod s3_server;
#[cfg(all(feature = "avro", feature = "kafka"))]
#[path = "support/registry.rs"]
mod schema_registry;
#[cfg(feature = "kafka")]
#[path = "changefeed/secure.rs"]
mod secure;
#[cfg(feature = "kafka")]
#[path = "changefeed/snapshot.rs"]
mod snapshot;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bank::{Bank, Event, TABLES, VIEWS, check_port};
use ticdc::Encoder;
use tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

/// As TiCDC's storage sink lays it out: a folder a table and version, files with running numbers, the checkpoint last.
struct Storage<'a> {
    root: &'a Path,
    encoder: Encoder,
    lines_a_file: usize,
    written: std::collections::BTreeMap<String, usize>,
}

impl Storage<'_> {
    fn write(&mut self, event: &Event) {
        let table = bank::table(event.table);
        let (_, value) = self.encoder.row(&table, event.before.as_ref(), event.after.as_ref(), event.commit);
        let folder = format!("bank/{}/439972354120482843", table.name);
        fs::create_dir_all(self.root.join(&folder)).unwrap();
        let lines = self.written.entry(folder.clone()).or_default();
        let number = *lines / self.lines_a_file + 1;
        *lines += 1;
        let path = self.root.join(folder).join(format!("CDC{number:020}.json"));
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(&[&value[..], b"\r\n"].concat()).unwrap();
    }

    fn lines(&self, table: &str) -> u64 {
        let of_table = self.written.iter().filter(|(folder, _)| folder.starts_with(&format!("bank/{table}/")));
        of_table.map(|(_, lines)| *lines as u64).sum()
    }

    fn checkpoint(&self, ts: u64) {
        let new = self.root.join("metadata.new");
        fs::write(&new, format!(r#"{{"checkpoint-ts":{ts}}}"#)).unwrap();
        fs::rename(new, self.root.join("metadata")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ticdc_files_show_whole_commits_only_and_survive_kills() {
    let seed = bank::seed();
    let home = temporary("feed-files");
    let root = home.join("cdc");
    fs::create_dir_all(&root).unwrap();
    let mut bank = Bank::new(seed);
    let mut storage =
        Storage { root: &root, encoder: Encoder::canal_json(), lines_a_file: 50, written: Default::default() };
    bank.open().iter().for_each(|event| storage.write(event));
    let mut server = Tidemill::start(&home.join("data"), &[], &[]).await;
    let client = server.client().await;
    let path = root.display();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION cdc TO FILES (PATH '{path}');
             CREATE SOURCE bank FROM CONNECTION cdc (PATH '.') FORMAT 'canal-json' TABLES ({TABLES}); {VIEWS}"
        ),
    )
    .await;
    // Nothing is whole before the first checkpoint.
    assert_eq!(sql(&client, "SELECT COUNT(*) FROM accounts_seen").await, [[Some("0".to_string())]]);
    eventually("SHOW SOURCES says what is waited for", 10, async || {
        let waits_for = sql(&client, "SHOW SOURCES").await[0][5].clone().unwrap_or_default();
        if waits_for.starts_with("the first watermark of topic bank/") { Ok(()) } else { Err(waits_for) }
    })
    .await;
    for round in 0..40 {
        for _ in 0..20 {
            bank.commit().iter().for_each(|event| storage.write(event));
        }
        storage.checkpoint(bank.now() + 1);
        if round % 8 == 5 {
            server.kill();
            server.restart().await;
        }
        let client = server.client().await;
        for _ in 0..3 {
            check_port(&client).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let client = server.client().await;
    sql(&client, &format!("SELECT tidemill_wait('bank', '{}')", bank.now())).await;
    assert_eq!(sql(&client, bank::ANSWER).await, bank.answer(), "seed {seed}");
    let error = try_sql(&client, "SELECT tidemill_wait('bank', 'now')").await.expect_err("there is no TiDB to ask");
    assert!(error.as_db_error().unwrap().hint().unwrap().contains("SCHEMAS FROM"), "{error:?}");
}
