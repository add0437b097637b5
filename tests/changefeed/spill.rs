//! A watermark that lags: what waits for it goes through the store, and comes out as if it had not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill::row::datum::Datum;
use tidemill::row::{ObjectId, Ts};
use tidemill::sources::changefeed::{Changefeed, Consistency, Copies};
use tidemill::sources::collect::window::{Limits, WINDOW_BYTES_SOFT};
use tidemill::sources::formats::Settings;
use tidemill::sources::formats::canal::{Canal, Expects};
use tidemill::sources::log::Begin;
use tidemill::sources::log::files::FilesLog;
use tidemill::sources::log::files::disk::Disk;
use tidemill::sources::log::files::storage::Lines;
use tidemill::sources::{Command, Event, Link, Source, Start, Stop};
use tidemill::store::{Store, Tick};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Storage;
use crate::bank::{self, Bank, Of};
use crate::ticdc::Encoder;
use crate::tidemill_server::temporary;

const SOURCE: ObjectId = ObjectId(9);
const COMMITS: usize = 4_000;
const WAIT: Duration = Duration::from_secs(120);

/// Reads the files until `rows` transfers are in the store.
async fn read(root: &Path, store: &Arc<Store>, limits: Limits, rows: u64) -> Result<(), Stop> {
    let tables = [bank::table(Of::Accounts), bank::table(Of::Transfers)];
    for table in &tables {
        store.create_table(table.id, &table.schema).expect("the store takes it");
    }
    let feed = Changefeed {
        log: Box::new(FilesLog::new(Arc::new(Disk::new(root)), Lines::Changes)),
        decode: Box::new(Canal::new(Settings::default(), Expects::TiCdc)),
        registry: None,
        consistency: Consistency::Watermarks,
        begin: Begin::Earliest,
        limits,
        transactions: None,
        upstream: None,
        copies: Copies::No,
        quarantine: None,
        claims: None,
        stops_at_mismatch: false,
        allows_reordering: false,
    };
    let (commands, receiver) = mpsc::channel(1);
    let (sender, mut events) = mpsc::channel(4);
    commands.send(Command::Follow(tables.to_vec())).await.expect("there is room");
    let link = Link { store: store.clone(), events: sender, commands: receiver, id: SOURCE };
    let task = tokio::spawn(Box::new(feed).run(Start { position: None, tables: vec![] }, link));
    while store.snapshot().rows(tables[1].id) < rows {
        let (_, event) = timeout(WAIT, events.recv()).await.expect("it goes on").expect("it says why it ends");
        match event {
            Event::Transaction(transaction) => commit(store, transaction),
            Event::Stopped(stop) => return Err(stop),
            Event::Waiting { reason } => panic!("{reason}"),
            _ => {}
        }
    }
    drop(commands);
    drop(events);
    task.await.expect("it does not panic");
    Ok(())
}

fn commit(store: &Arc<Store>, transaction: tidemill::sources::Transaction) {
    let ts = Ts(store.last_tick().ts.0.max(Ts::LOADS_END.0) + 1);
    store.raise_ceiling(ts).expect("the store takes it");
    let positions = BTreeMap::from([(SOURCE, transaction.position)]);
    let mut tick = Tick { ts, positions, installs: transaction.installs, changes: vec![transaction.changes] };
    store.resolve(&mut tick).and_then(|()| store.commit(&tick)).expect("the store takes it");
}

/// All rows of a table, as text.
fn rows(store: &Store, of: Of) -> Vec<String> {
    let table = bank::table(of);
    let columns: Vec<usize> = (0..table.schema.columns.len()).collect();
    let mut rows = Vec::new();
    for delta in store.snapshot().scan(table.id, &columns, 1 << 20) {
        let delta = delta.expect("the store reads");
        for row in 0..delta.len() {
            let value = |c: &usize| Datum::of(delta.rows.column(*c), &table.schema.columns[*c].sql_type, row);
            rows.push(format!("{:?} {}", columns.iter().map(value).collect::<Vec<_>>(), delta.diffs[row]));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_that_lags_stops_nothing_and_changes_nothing() {
    let seed = bank::seed();
    let home = temporary("feed-spill");
    let root = home.join("cdc");
    let mut bank = Bank::new(seed);
    let mut storage =
        Storage { root: &root, encoder: Encoder::canal_json(), lines_a_file: 5_000, written: BTreeMap::new() };
    bank.open().iter().for_each(|event| storage.write(event));
    for _ in 0..COMMITS {
        bank.commit().iter().for_each(|event| storage.write(event));
    }
    storage.checkpoint(bank.now() + 1);
    let small = Limits { memory_bytes: 100_000, window_bytes: 500_000, ..Limits::default() };
    let no_room = Limits { soft_bytes: WINDOW_BYTES_SOFT, memory_bytes: 500, window_bytes: 500, ..small };
    let transfers = storage.lines("transfers");
    let plain = Arc::new(Store::in_memory());
    read(&root, &plain, Limits::default(), transfers).await.expect("it fits");
    let (accounts, expected) = (rows(&plain, Of::Accounts), rows(&plain, Of::Transfers));
    assert!(expected.len() as u64 == transfers && transfers > 3_000, "{transfers}, seed {seed}");
    let on_disk = home.join("data");
    for store in [Store::in_memory(), Store::open(&on_disk).expect("it is new")] {
        let store = Arc::new(store);
        read(&root, &store, small, transfers).await.expect("what waits for the watermark is put aside");
        assert_eq!(rows(&store, Of::Accounts), accounts, "seed {seed}");
        assert!(rows(&store, Of::Transfers) == expected, "seed {seed}");
    }
    // One commit must still fit.
    let stop = read(&root, &Arc::new(Store::in_memory()), no_room, transfers).await.expect_err("no room for a commit");
    assert!(stop.code == "WINDOW_TOO_LARGE" && stop.message.contains("alone"), "{stop:?}");
}
