//! Upserts against a model: repeats and deletes of nothing become exact differences.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::home::*;
use super::random::{Random, seed};
use crate::row::Ts;
use crate::store::{Changes, Healed, Upsert};

/// A row that is put, or the key of one that is deleted.
fn rows(said: &[(i64, Option<&str>)]) -> Upsert {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(said.iter().map(|(id, _)| *id)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(said.iter().map(|(_, name)| *name)));
    Upsert::Rows { columns: vec![ids, names], puts: said.iter().map(|(_, name)| name.is_some()).collect() }
}

#[test]
fn repeats_change_nothing_and_deletes_of_nothing_are_counted() {
    let store = loaded(&Home::both()[0]);
    let before = scan(&store.snapshot(), KEYED);
    let said =
        rows(&[(100, Some("a")), (100, Some("a")), (100, Some("b")), (7_000, None), (101, Some("c")), (101, None)]);
    let mut made = tick(20, vec![], vec![Changes::upserts(vec![(KEYED, said)])]);
    store.resolve(&mut made).unwrap();
    store.commit(&made).unwrap();
    let mut expected = before;
    add(&mut expected, row(100, "b"), 1);
    assert_eq!(scan(&store.snapshot(), KEYED), expected);
    assert_eq!(store.snapshot().rows(KEYED), expected.len() as u64);
    assert_eq!(store.healed(KEYED), Healed { deletes_of_nothing: 1, unchanged: 1 });
}

#[test]
fn a_generation_installed_by_the_same_tick_is_what_upserts_are_read_against() {
    let store = loaded(&Home::both()[0]);
    let generation = load(&store, KEYED, &[row(1, "new"), row(2, "new")]).unwrap();
    let said = rows(&[(1, Some("changed")), (2, Some("new")), (3, None)]);
    let mut made = tick(20, vec![(KEYED, generation)], vec![Changes::upserts(vec![(KEYED, said)])]);
    store.resolve(&mut made).unwrap();
    store.commit(&made).unwrap();
    assert_eq!(scan(&store.snapshot(), KEYED), Rows::from([(row(1, "changed"), 1), (row(2, "new"), 1)]));
}

#[test]
fn random_upserts_and_truncates_equal_a_map_and_their_log_is_exact() {
    let seed = seed();
    for home in Home::both() {
        let mut random = Random(seed);
        let store = loaded(&home);
        let mut model = scan(&store.snapshot(), KEYED);
        for n in 2..60u64 {
            let before = model.clone();
            let mut parts = Vec::new();
            for _ in 0..=random.below(3) {
                if random.below(12) == 0 {
                    parts.push((KEYED, Upsert::Truncate));
                    model.clear();
                    continue;
                }
                let names = ["a", "b", "c"];
                let said: Vec<(i64, Option<&str>)> = (0..=random.below(8))
                    .map(|_| (random.below(20) as i64, names.get(random.below(4) as usize).copied()))
                    .collect();
                for (id, name) in &said {
                    model.retain(|row, _| row.0 != *id);
                    name.iter().for_each(|name| add(&mut model, row(*id, name), 1));
                }
                parts.push((KEYED, rows(&said)));
            }
            let changes = parts.chunks(2).map(|part| Changes::upserts(part.to_vec())).collect();
            let mut made = tick(n * 10, vec![], changes);
            store.resolve(&mut made).unwrap();
            store.commit(&made).unwrap();
            assert_eq!(scan(&store.snapshot(), KEYED), model, "at tick {n}");
            let mut replayed = before;
            for (_, delta) in log(&store, KEYED, Ts((n - 1) * 10), Ts(n * 10)).unwrap() {
                add_delta(&mut replayed, &delta);
            }
            assert_eq!(replayed, model, "the log of tick {n}");
        }
    }
}
