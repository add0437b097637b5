//! A table read anew, against a model: exactly what differs, wherever it lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::home::*;
use super::random::{Random, seed};
use crate::store::kv::Space;
use crate::store::{Changes, Stage, Store};

fn difference(store: &Arc<Store>, rows: &[Row], mut stage: Stage) -> Changes {
    let mut load = store.load(KEYED).unwrap();
    load.push(batch(rows)).unwrap();
    load.difference(&mut stage).unwrap();
    stage.finish().unwrap()
}

fn rows_of(model: &BTreeMap<i64, String>) -> Vec<Row> {
    model.iter().map(|(id, name)| row(*id, name)).collect()
}

#[test]
fn only_what_differs_changes() {
    let mut random = Random(seed());
    for home in Home::both() {
        let store = loaded(&home);
        let mut model = BTreeMap::new();
        for round in 1..60 {
            let before = model.clone();
            for _ in 0..random.below(20) {
                let id = random.below(40) as i64 - 20;
                match random.below(3) {
                    0 => drop(model.remove(&id)),
                    _ => drop(model.insert(id, format!("n{}", random.below(3)))),
                }
            }
            if random.below(10) == 0 {
                model.clear();
            }
            // As they come: in no order.
            let mut read = rows_of(&model);
            (0..read.len()).for_each(|i| read.swap(i, random.below(i as u64 + 1) as usize));
            let changes = difference(&store, &read, store.stage());
            let gone = before.iter().filter(|(id, name)| model.get(id) != Some(name)).count();
            let come = model.iter().filter(|(id, name)| before.get(id) != Some(name)).count();
            assert_eq!(changes.rows(), (gone + come) as u64, "round {round}");
            let mut changed = scan(&store.snapshot(), KEYED);
            changes.deltas(&store).for_each(|delta| add_delta(&mut changed, &delta.unwrap().1));
            store.commit(&tick(10 + round, vec![], vec![changes])).unwrap();
            let expected: Rows = rows_of(&model).into_iter().map(|row| (row, 1)).collect();
            assert_eq!(changed, expected, "round {round}: what readers are told");
            assert_eq!(scan(&store.snapshot(), KEYED), expected, "round {round}");
            assert_eq!(store.snapshot().rows(KEYED), model.len() as u64, "round {round}");
        }
    }
}

#[test]
fn a_large_difference_is_staged_and_nothing_of_the_load_stays() {
    for home in Home::both() {
        let store = loaded(&home);
        let large = |name: &str| -> Vec<Row> { (0..40).map(|id| row(id, &name.repeat(1 << 20))).collect() };
        for (ts, name) in [(20, "a"), (21, "b")] {
            let changes = difference(&store, &large(name), store.stage());
            store.commit(&tick(ts, vec![], vec![changes])).unwrap();
        }
        assert_eq!(scan(&store.snapshot(), KEYED), large("b").into_iter().map(|row| (row, 1)).collect());
        let changes = difference(&store, &large("b"), store.stage());
        assert_eq!(changes.rows(), 0);
        let generations = store.kv.spaces().into_iter().filter(|space| matches!(space, Space::Rows(KEYED, _)));
        assert_eq!(generations.count(), 1, "the table's own");
    }
}
