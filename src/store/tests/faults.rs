//! Crashes at every operation, a second server, and a disk that forgets.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::home::*;
use super::random::{Random, seed};
use crate::row::Ts;
use crate::store::kv::{Batch, Durability, Kv, Space};
use crate::store::memory::MemoryKv;
use crate::store::{Changes, Store, StoreError};

/// Rows of both tables after each tick of the history.
fn models() -> Vec<[Rows; 2]> {
    let keyed = |rows: &[(i64, &str)]| rows.iter().map(|&(id, name)| (row(id, name), 1)).collect::<Rows>();
    let twins = |count| Rows::from([(row(7, "twin"), count)]);
    vec![
        [Rows::new(), Rows::new()],
        [keyed(&[(1, "one"), (2, "TWO")]), twins(3)],
        [keyed(&[(1, "uno"), (2, "TWO")]), twins(5)],
        [keyed(&[(1, "uno"), (4, "four")]), twins(4)],
        [keyed(&[(1, "eins"), (8, "eight"), (9, "nine")]), twins(6)],
    ]
}

const TICKS: u64 = 4;

/// Makes tick `number` of the history.
fn make(store: &Arc<Store>, number: u64) -> Result<(), StoreError> {
    let twins = |count: i64| (KEYLESS, delta(&vec![(row(7, "twin"), count.signum()); count.unsigned_abs() as usize]));
    let (installs, changes) = match number {
        1 => {
            let keyed = load(store, KEYED, &[row(1, "one"), row(2, "two")])?;
            let keyless = load(store, KEYLESS, &[row(7, "twin")])?;
            let update = delta(&[(row(2, "two"), -1), (row(2, "TWO"), 1)]);
            let changes = Changes::in_memory(vec![(KEYED, update), twins(2)]);
            (vec![(KEYED, keyed), (KEYLESS, keyless)], vec![changes])
        }
        2 => {
            let update = delta(&[(row(1, "one"), -1), (row(1, "uno"), 1)]);
            (vec![], vec![Changes::in_memory(vec![(KEYED, update), twins(2)])])
        }
        3 => {
            let parts = [(KEYED, delta(&[(row(2, "TWO"), -1)])), twins(-2), (KEYED, delta(&[(row(4, "four"), 1)]))];
            (vec![], vec![staged(store, &parts)?, Changes::in_memory(vec![twins(1)])])
        }
        _ => {
            let keyed = load(store, KEYED, &[row(1, "eins"), row(8, "acht")])?;
            let parts = [(KEYED, delta(&[(row(8, "acht"), -1), (row(8, "eight"), 1), (row(9, "nine"), 1)])), twins(2)];
            (vec![(KEYED, keyed)], vec![staged(store, &parts)?])
        }
    };
    store.commit(&tick(number * 10, installs, changes)).map(drop)
}

/// The history from where the store stands; `reached` counts the ticks that were acknowledged.
fn run(store: &Arc<Store>, reached: &mut u64) -> Result<(), StoreError> {
    store.raise_ceiling(Ts(1000))?;
    for table in [KEYED, KEYLESS] {
        store.create_table(table, &schema(table))?;
    }
    while *reached < TICKS {
        make(store, *reached + 1)?;
        *reached += 1;
        store.trim(Ts(10))?;
        store.write_catalog(vec![("reached".to_string(), Some(vec![*reached as u8]))])?;
    }
    store.write_catalog(vec![("reached".to_string(), None), ("done".to_string(), Some(vec![]))])
}

fn check(store: &Store, at: &str) {
    let number = store.last_tick().number;
    let [keyed, keyless] = &models()[number as usize];
    let snapshot = store.snapshot();
    assert_eq!(scan(&snapshot, KEYED), *keyed, "{at}, tick {number}");
    assert_eq!(scan(&snapshot, KEYLESS), *keyless, "{at}, tick {number}");
    assert_eq!(snapshot.rows(KEYED), keyed.len() as u64, "{at}, tick {number}");
    assert_eq!(snapshot.rows(KEYLESS), keyless.values().sum::<i64>() as u64, "{at}, tick {number}");
    if number > 0 {
        let position = format!("at {}", number * 10);
        assert_eq!(store.positions().values().map(|p| p.0.clone()).collect::<Vec<_>>(), [position], "{at}");
    }
    if number >= 2 {
        let mut rows = models()[1][1].clone();
        let changes = log(store, KEYLESS, Ts(10), Ts(1000)).unwrap();
        changes.iter().for_each(|(_, delta)| add_delta(&mut rows, delta));
        assert_eq!(rows, *keyless, "{at}: the log up to tick {number}");
    }
}

#[test]
fn a_crash_at_any_point_loses_nothing_that_was_acknowledged() {
    let steps = {
        let kv = MemoryKv::new();
        run(&Home::Memory(kv.clone()).open().unwrap(), &mut 0).unwrap();
        kv.steps()
    };
    assert!(steps > 40, "{steps}");
    for more in [0, 1, 1000] {
        for point in 1..=steps {
            let at = format!("crash at operation {point} keeping {more} more");
            let kv = MemoryKv::new();
            kv.fail_at(point);
            let mut reached = 0;
            if let Ok(store) = Home::Memory(kv.clone()).open() {
                run(&store, &mut reached).expect_err(&at);
            }
            // The crash may come again while the store opens.
            for again in 1..20 {
                let kv = kv.crash(more);
                kv.fail_at(again);
                let _ = Home::Memory(kv.clone()).open();
                let twice = Home::Memory(kv.crash(more)).open().unwrap_or_else(|e| panic!("{at}, then {again}: {e}"));
                check(&twice, &format!("{at}, then at {again}"));
            }
            let survivor = kv.crash(more);
            let store = Home::Memory(survivor.clone()).open().unwrap_or_else(|e| panic!("{at}: {e}"));
            let found = store.last_tick().number;
            assert!(found == reached || found == reached + 1, "{at}: {found} of {reached} ticks");
            check(&store, &at);
            reached = found;
            run(&store, &mut reached).unwrap_or_else(|e| panic!("after {at}: {e}"));
            check(&store, &format!("after {at}"));
            assert_eq!(store.catalog().unwrap(), [("done".to_string(), vec![])].into());
        }
    }
}

#[test]
fn after_a_failed_write_the_store_only_reads() {
    let kv = MemoryKv::new();
    let store = Home::Memory(kv.clone()).open().unwrap();
    run(&store, &mut 0).unwrap();
    kv.fail_at(kv.steps() + 1);
    assert!(matches!(store.raise_ceiling(Ts(2000)), Err(StoreError::Io { .. })));
    kv.fail_at(u64::MAX);
    let error = store.commit(&tick(50, vec![], vec![])).unwrap_err();
    assert!(error.to_string().contains("an earlier write failed"), "{error}");
    check(&store, "read only");
}

#[test]
fn a_directory_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Locked { .. })));
    drop(store);
    Store::open(directory.path()).unwrap();
}

/// Copies a closed store, but for its journals.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let source = entry.unwrap().path();
        let target = to.join(source.file_name().unwrap());
        if source.is_dir() {
            copy(&source, &target);
        } else if source.extension().is_none_or(|e| e != "jnl") {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

/// The one journal of a small store: its name, what was written, and its length; the rest is zeros.
fn journal(directory: &Path) -> (PathBuf, Vec<u8>, u64) {
    let files = std::fs::read_dir(directory.join("kv")).unwrap().map(|entry| entry.unwrap().path());
    let journals: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "jnl")).collect();
    let [path] = &journals[..] else { panic!("{journals:?}") };
    let mut bytes = std::fs::read(path).unwrap();
    let length = bytes.len() as u64;
    bytes.truncate(bytes.iter().rposition(|&b| b != 0).unwrap() + 1);
    (Path::new("kv").join(path.file_name().unwrap()), bytes, length)
}

#[test]
fn a_damaged_or_cut_journal_is_never_taken_for_history() {
    const TICKS: u64 = 30;
    let mut random = Random(seed());
    let origin = tempfile::tempdir().unwrap();
    let home = Home::Disk(origin);
    let store = loaded(&home);
    let Home::Disk(origin) = &home else { unreachable!("made so above") };
    for number in 2..=TICKS {
        let new = (row(number as i64 % 7, &format!("tick {number}")), 1);
        let changes = vec![(KEYED, delta(std::slice::from_ref(&new))), (KEYLESS, delta(&[(row(1, "twin"), 1)]))];
        store.commit(&tick(number * 10, vec![], vec![Changes::in_memory(changes)])).unwrap();
    }
    let want = (scan(&store.snapshot(), KEYED), scan(&store.snapshot(), KEYLESS));
    drop(store);
    let (name, written, length) = journal(origin.path());
    let mut refused = 0;
    for trial in 0..60 {
        let place = random.below(written.len() as u64) as usize;
        let copied = tempfile::tempdir().unwrap();
        copy(origin.path(), copied.path());
        let mut bytes = written.clone();
        let mut length = length;
        if trial % 3 == 0 {
            bytes.truncate(place);
            length = place as u64;
        } else {
            bytes[place] ^= 1 << random.below(8);
        }
        let mut file = File::create(copied.path().join(&name)).unwrap();
        file.write_all(&bytes).and_then(|()| file.set_len(length)).unwrap();
        drop(file);
        let what = format!("trial {trial}, byte {place} of {}", written.len());
        match Store::open(copied.path()) {
            Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => refused += 1,
            Err(other) => panic!("{what}: {other}"),
            Ok(store) => {
                assert_eq!(store.last_tick().number, TICKS, "{what}");
                let found = (scan(&store.snapshot(), KEYED), scan(&store.snapshot(), KEYLESS));
                assert_eq!(found, want, "{what}");
            }
        }
    }
    assert!(refused > 40, "only {refused} of 60 damages were noticed");
}

#[test]
fn a_chain_that_was_tampered_with_is_refused() {
    let kv = MemoryKv::new();
    run(&Home::Memory(kv.clone()).open().unwrap(), &mut 0).unwrap();
    let (key, value) = {
        let key = crate::store::keys::tick(3);
        let value = kv.get(Space::Main, &key).unwrap().unwrap();
        (key, String::from_utf8_lossy(&value[8..]).replace("at 30", "at 31"))
    };
    let checksum = kv.get(Space::Main, &key).unwrap().unwrap()[..8].to_vec();
    let mut batch = Batch::default();
    batch.put(Space::Main, key.clone(), [&checksum[..], value.as_bytes()].concat());
    kv.write(batch, Durability::Synced).unwrap();
    let error = Home::Memory(kv.clone()).open().err().expect("the chain is broken");
    assert!(matches!(error, StoreError::Damaged { tick: 3, .. }), "{error}");
    let mut batch = Batch::default();
    batch.delete(Space::Main, key);
    kv.write(batch, Durability::Synced).unwrap();
    let error = Home::Memory(kv).open().err().expect("the chain has a gap");
    assert!(matches!(error, StoreError::Damaged { tick: 3, .. }), "{error}");
}

#[test]
fn another_format_is_refused() {
    let kv = MemoryKv::new();
    drop(Home::Memory(kv.clone()).open().unwrap());
    let mut batch = Batch::default();
    batch.put(Space::Main, crate::store::keys::STORE, &br#"{"format": 99, "id": "7"}"#[..]);
    kv.write(batch, Durability::Synced).unwrap();
    assert!(matches!(Home::Memory(kv).open(), Err(StoreError::Format { found: 99, .. })));
}
