//! What is put aside comes back in its order, against a model, and does not outlive the process.

use std::collections::BTreeMap;

use super::home::*;
use super::random::{Random, seed};
use crate::store::kv::{Kv, Space};
use crate::store::memory::MemoryKv;
use crate::store::{Store, StoreError};

fn pieces(store: &Store) -> usize {
    store.kv.snapshot().scan(Space::Segments, &[0], &[255; 9]).count()
}

#[test]
fn random_pieces_come_back_by_number_as_they_came() {
    let seed = seed();
    for home in Home::both() {
        let mut random = Random(seed);
        let store = loaded(&home);
        let (mut scratch, mut other) = (store.scratch(), store.scratch());
        other.push(0, vec![7]).unwrap();
        let mut model: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for round in 0..2_000 {
            if random.below(3) > 0 {
                let number = [random.below(8), random.below(50), u64::MAX][random.below(3) as usize];
                // Now and then enough for a batch, so that some is written and some is not.
                let bytes = if random.below(100) == 0 { 400_000 } else { random.below(20) };
                let piece = vec![round as u8; bytes as usize];
                scratch.push(number, piece.clone()).unwrap();
                model.entry(number).or_default().push(piece);
            } else {
                let first = model.first_key_value().map(|(number, _)| *number);
                assert_eq!(scratch.first(), first, "seed {seed}, round {round}");
                let number = first.filter(|_| random.below(4) > 0).unwrap_or(random.below(50));
                let mut taken = Vec::new();
                let each = |piece: &[u8]| {
                    taken.push(piece.to_vec());
                    Ok::<_, StoreError>(())
                };
                scratch.take(number, each).unwrap();
                assert_eq!(taken, model.remove(&number).unwrap_or_default(), "seed {seed}, round {round}");
            }
        }
        drop(scratch);
        drop(other);
        assert_eq!(pieces(&store), 0, "what was dropped is deleted");
    }
}

#[test]
fn what_a_crash_leaves_is_deleted_when_the_store_opens() {
    let kv = MemoryKv::new();
    let store = loaded(&Home::Memory(kv.clone()));
    let mut scratch = store.scratch();
    for number in 0..5 {
        scratch.push(number, vec![1; 1 << 20]).unwrap();
    }
    // A tick makes durable what was written before it.
    store.commit(&tick(20, vec![], vec![])).unwrap();
    let survivor = kv.crash(0);
    assert_eq!(survivor.snapshot().scan(Space::Segments, &[0], &[255; 9]).count(), 5, "the crash left it");
    let reopened = Home::Memory(survivor).open().unwrap();
    assert_eq!(pieces(&reopened), 0);
    assert_eq!(reopened.last_tick(), store.last_tick());
}
