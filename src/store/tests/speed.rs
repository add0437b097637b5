//! How fast the store is on disk; measured when asked for.
//!
//! `cargo test --release --lib store::tests::speed -- --ignored --nocapture`

use std::time::Instant;

use super::home::*;
use crate::row::Ts;
use crate::store::Changes;

/// Times a step, in wall-clock seconds.
fn timed<T>(what: &str, units: u64, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = step();
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} a second", units as f64 / seconds);
    result
}

#[test]
#[ignore = "measures, does not check"]
fn load_scan_tick_reopen() {
    const ROWS: i64 = 2_000_000;
    const TICKS: u64 = 1000;
    let home = Home::Disk(tempfile::tempdir().unwrap());
    let store = loaded(&home);
    let text = "a product's name, and some more words to make it a usual row of about 100 bytes";
    let generation = timed("load rows", ROWS as u64, || {
        let mut load = store.load(KEYED).unwrap();
        for part in 0..ROWS / 10_000 {
            let rows: Vec<Row> = (part * 10_000..(part + 1) * 10_000).map(|id| row(id, text)).collect();
            load.push(batch(&rows)).unwrap();
        }
        load.finish().unwrap()
    });
    timed("install", 1, || store.commit(&tick(20, vec![(KEYED, generation)], vec![])).unwrap());
    let scan = |what| {
        let rows = timed(what, ROWS as u64, || {
            store.snapshot().scan(KEYED, &[0, 1], 1 << 20).map(|d| d.unwrap().len()).sum::<usize>()
        });
        assert_eq!(rows, ROWS as usize);
    };
    scan("scan rows");
    let mut random = super::random::Random(1);
    timed("ticks of 100 updates", TICKS, || {
        for n in 0..TICKS {
            let changes: Vec<(Row, i64)> = (0..50)
                .map(|_| random.below(ROWS as u64) as i64)
                .flat_map(|id| [(row(id, text), -1), (row(id, text), 1)])
                .collect();
            let changes = vec![Changes::in_memory(vec![(KEYED, delta(&changes))])];
            store.commit(&tick(30 + n, vec![], changes)).unwrap();
        }
    });
    timed("replay ticks", TICKS, || log(&store, KEYED, Ts(20), Ts(u64::MAX)).unwrap());
    scan("scan rows again");
    drop(store);
    timed("reopen", 1, || home.open().unwrap());
}
