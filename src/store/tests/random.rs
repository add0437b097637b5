//! Random histories against a model: rows, replay of the log, reopening.

use super::home::*;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};
use crate::store::Changes;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A seed to repeat a run with: `STORE_SEED=…`.
pub fn seed() -> u64 {
    let seed = match std::env::var("STORE_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::process::id() as u64,
    };
    println!("STORE_SEED={seed}");
    seed
}

/// Changes that the model allows, made in the model too.
fn change(random: &mut Random, table: ObjectId, model: &mut Rows) -> Delta {
    let mut changes = Vec::new();
    for _ in 0..=random.below(6) {
        let new = (random.below(30) as i64, (random.below(5) > 0).then(|| format!("n{}", random.below(4))));
        let clash = model.keys().find(|old| table == KEYED && old.0 == new.0).cloned();
        let some = model.keys().nth(random.below(model.len().max(1) as u64) as usize).cloned();
        let made = match (random.below(3), clash, some) {
            (0, _, Some(some)) => vec![(some, -1)],
            (1, None, Some(some)) => vec![(some, -1), (new, 1)],
            (_, Some(old), _) => vec![(old, -1), (new, 1)],
            (_, None, _) => vec![(new, 1)],
        };
        made.iter().for_each(|(row, diff)| add(model, row.clone(), *diff));
        changes.extend(made);
    }
    delta(&changes)
}

#[test]
fn replaying_the_log_is_the_difference_of_two_snapshots() {
    let seed = seed();
    for home in Home::both() {
        let mut random = Random(seed);
        let mut store = loaded(&home);
        let mut models = [Rows::new(), Rows::new()];
        let mut history = vec![(Ts(10), models.clone())];
        for n in 2..80u64 {
            let mut parts = Vec::new();
            for _ in 0..random.below(4) {
                let which = random.below(2) as usize;
                let table = [KEYED, KEYLESS][which];
                parts.push((table, change(&mut random, table, &mut models[which])));
            }
            let changes = match random.below(4) {
                0 => vec![staged(&store, &parts).unwrap()],
                1 => parts.chunks(1).map(|part| staged(&store, part).unwrap()).collect(),
                _ => parts.chunks(2).map(|part| Changes::in_memory(part.to_vec())).collect(),
            };
            store.commit(&tick(n * 10, vec![], changes)).unwrap();
            history.push((Ts(n * 10), models.clone()));
            if random.below(20) == 0 {
                drop(store);
                store = home.open().unwrap();
            }
            let now = store.snapshot();
            for (table, model) in [KEYED, KEYLESS].into_iter().zip(&models) {
                assert_eq!(scan(&now, table), *model, "at tick {n}");
                assert_eq!(now.rows(table), model.values().sum::<i64>() as u64, "at tick {n}");
            }
        }
        for _ in 0..50 {
            let a = random.below(history.len() as u64) as usize;
            let b = a + random.below((history.len() - a) as u64) as usize;
            let ((after, before_rows), (through, after_rows)) = (&history[a], &history[b]);
            for (which, table) in [KEYED, KEYLESS].into_iter().enumerate() {
                let mut rows = before_rows[which].clone();
                let mut last = *after;
                for (ts, delta) in log(&store, table, *after, *through).unwrap() {
                    assert!(ts > *after && ts >= last && ts <= *through, "{ts} is out of order");
                    last = ts;
                    add_delta(&mut rows, &delta);
                }
                assert_eq!(rows, after_rows[which], "from {after} to {through}");
            }
        }
    }
}
