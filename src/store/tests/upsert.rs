//! Upserts against a model: repeats and deletes of nothing become exact differences.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::home::*;
use super::random::{Random, seed};
use crate::row::ObjectId;
use crate::row::Ts;
use crate::store::{Changes, Disputed, Healed, Upsert, Write};

/// A row that is put, or the key of one that is deleted.
fn rows(said: &[(i64, Option<&str>)]) -> Upsert {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(said.iter().map(|(id, _)| *id)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(said.iter().map(|(_, name)| *name)));
    let write = |name: &Option<&str>| if name.is_some() { Write::Put } else { Write::Delete };
    Upsert::Rows { columns: vec![ids, names], writes: said.iter().map(|(_, name)| write(name)).collect() }
}

fn write(id: i64, name: Option<&str>, write: Write) -> (ObjectId, Upsert) {
    let Upsert::Rows { columns, .. } = rows(&[(id, name)]) else { unreachable!("rows are rows") };
    (KEYED, Upsert::Rows { columns, writes: vec![write] })
}

#[test]
fn what_a_feed_says_of_the_row_before_is_compared_with_what_is_there() {
    let store = loaded(&Home::both()[0]);
    let seed = vec![write(100, Some("a"), Write::Put)];
    let mut made = tick(20, vec![], vec![Changes::upserts(seed)]);
    store.resolve(&mut made).unwrap();
    store.commit(&made).unwrap();
    let agreed = vec![
        write(100, Some("a"), Write::Insert),
        write(100, Some("b"), Write::Update),
        write(100, None, Write::Delete),
        write(100, Some("c"), Write::Insert),
        write(7_000, Some("x"), Write::Put),
        (KEYED, Upsert::Truncate),
        write(7_000, Some("y"), Write::Insert),
    ];
    assert_eq!(store.disputed(&agreed).unwrap(), None);
    for wrong in
        [write(7_000, Some("z"), Write::Insert), write(100, Some("z"), Write::Update), write(100, None, Write::Delete)]
    {
        let all = [agreed.clone(), vec![wrong]].concat();
        assert_eq!(store.disputed(&all).unwrap(), Some(Disputed { upsert: agreed.len(), row: 0 }));
    }
    assert_eq!(store.healed(KEYED), Healed::default(), "asking counts nothing");

    let said = vec![
        write(100, Some("other"), Write::Insert),
        write(8_000, Some("x"), Write::Update),
        write(8_000, Some("x"), Write::Insert),
        write(9_000, None, Write::Delete),
    ];
    assert_eq!(store.disputed(&said).unwrap(), Some(Disputed { upsert: 0, row: 0 }));
    let mut made = tick(30, vec![], vec![Changes::upserts(said)]);
    store.resolve(&mut made).unwrap();
    store.commit(&made).unwrap();
    assert_eq!(store.healed(KEYED), Healed { deletes_of_nothing: 1, unchanged: 1, mismatched: 2 });
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
    assert_eq!(store.healed(KEYED), Healed { deletes_of_nothing: 1, unchanged: 1, mismatched: 0 });
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
