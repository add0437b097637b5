//! Orders that happen, and random ones.

use super::*;
use crate::row::datum::Datum;
use crate::sources::formats::Op;

const TABLES: [&str; 3] = ["shop.users", "shop.orders", "shop.items"];

fn names() -> impl Iterator<Item = String> {
    TABLES.into_iter().map(str::to_string)
}

fn row(table: usize, key: i64, value: i64, of: Option<(&str, u64)>) -> Said {
    let transaction = of.map(|(id, total_order)| InTransaction { id: id.into(), total_order });
    let op = match value {
        0 => Op::Delete(vec![Datum::Int(key), Datum::Null]),
        _ => Op::Put(vec![Datum::Int(key), Datum::Int(value)]),
    };
    Said::Row(RowChange { table, op, commit: None, transaction, committed_ms: None })
}

fn begin(id: &str) -> Said {
    Said::Mark(TransactionMark::Begin { id: id.into() })
}

fn end(id: &str, counts: &[(&str, u64)]) -> Said {
    let events = counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    Said::Mark(TransactionMark::End { id: id.into(), events, committed_ms: Some(9) })
}

/// The values of what comes next.
fn next(marked: &mut Marked) -> Option<Vec<i64>> {
    let Complete::Rows { rows, .. } = marked.next()? else { panic!("no statement was said") };
    let value = |change: &RowChange| match &change.op {
        Op::Put(row) => match row[1] {
            Datum::Int(value) => value,
            _ => panic!("values are integers"),
        },
        _ => 0,
    };
    Some(rows.iter().map(value).collect())
}

/// Two partitions of tables, then the transaction topic.
fn collector() -> Marked {
    Marked::new(vec![0, 0, 0], None, names())
}

#[test]
fn a_transaction_waits_for_every_event_that_its_end_counts() {
    let mut marked = collector();
    marked.take(1, 4, vec![row(1, 1, 12, Some(("a", 2)))]).unwrap();
    marked.take(2, 0, vec![begin("a")]).unwrap();
    let waits_for = |marked: &Marked| marked.waits_for(&|_| unreachable!("tables are named"));
    assert_eq!(waits_for(&marked).as_deref(), Some("transactions have not ended"));
    marked.take(2, 1, vec![end("a", &[("shop.users", 1), ("shop.orders", 1), ("shop.logs", 5)])]).unwrap();
    assert_eq!(waits_for(&marked).as_deref(), Some("transaction a has 0 of 1 events of shop.users"));
    assert_eq!((next(&mut marked), marked.resume()), (None, vec![0, 4, 0]));
    marked.take(0, 7, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    assert_eq!(next(&mut marked), Some(vec![11, 12]));
    assert_eq!((next(&mut marked), marked.resume(), marked.bytes()), (None, vec![8, 5, 0], 0));
}

#[test]
fn transactions_come_in_the_order_of_their_ends() {
    let mut marked = collector();
    marked.take(1, 0, vec![row(1, 1, 21, Some(("b", 1)))]).unwrap();
    for (offset, id) in [(0, "a"), (2, "b")] {
        let table = if id == "a" { "shop.users" } else { "shop.orders" };
        marked.take(2, offset, vec![begin(id)]).unwrap();
        marked.take(2, offset + 1, vec![end(id, &[(table, 1)])]).unwrap();
    }
    assert_eq!((next(&mut marked), marked.ahead()), (None, vec![1, 2]), "b is complete, a is not");
    marked.take(0, 0, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    assert_eq!((next(&mut marked), next(&mut marked)), (Some(vec![11]), Some(vec![21])));
}

#[test]
fn what_is_sent_again_is_not_given_again() {
    let mut marked = collector();
    let counts = [("shop.users", 2)];
    marked.take(2, 0, vec![begin("a")]).unwrap();
    marked.take(0, 0, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    // The connector falls over and begins the transaction anew.
    marked.take(2, 1, vec![begin("a")]).unwrap();
    marked.take(0, 1, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    marked.take(2, 2, vec![end("a", &counts)]).unwrap();
    assert_eq!(next(&mut marked), None, "two copies of one event are one");
    marked.take(0, 2, vec![row(0, 2, 12, Some(("a", 2)))]).unwrap();
    assert_eq!(next(&mut marked), Some(vec![11, 12]));
    // It falls over once more: all of it comes again, and a snapshot's row does not wait behind it.
    marked.take(0, 3, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    marked.take(0, 4, vec![row(0, 3, 33, None)]).unwrap();
    assert_eq!((next(&mut marked), marked.resume()), (Some(vec![33]), vec![5, 0, 1]));
    marked.take(2, 3, vec![begin("a")]).unwrap();
    marked.take(2, 4, vec![end("a", &counts)]).unwrap();
    assert_eq!((next(&mut marked), marked.state()), (None, Some(5)), "an END that is known is dealt with");
    // So it is after we were started anew, in the middle of it.
    for state in [3, 5] {
        let mut marked = Marked::new(vec![4, 0, 1], Some(state), names());
        marked.take(0, 4, vec![row(0, 2, 12, Some(("a", 2)))]).unwrap();
        for (offset, mark) in [(1, begin("a")), (2, end("a", &counts)), (3, begin("a")), (4, end("a", &counts))] {
            marked.take(2, offset, vec![mark]).unwrap();
        }
        assert_eq!((next(&mut marked), marked.resume(), marked.waiting()), (None, vec![5, 0, 1], None));
    }
}

#[test]
fn a_snapshots_row_keeps_its_place_in_its_partition() {
    let mut marked = collector();
    marked.take(0, 0, vec![row(0, 1, 5, None)]).unwrap();
    assert_eq!(next(&mut marked), Some(vec![5]));
    marked.take(0, 1, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    marked.take(0, 2, vec![row(0, 1, 11, None)]).unwrap();
    marked.take(0, 3, vec![row(0, 1, 21, Some(("b", 1)))]).unwrap();
    assert_eq!((next(&mut marked), marked.ahead()), (None, vec![0]));
    for (offset, id) in [(0, "a"), (2, "b")] {
        marked.take(2, offset, vec![begin(id)]).unwrap();
        marked.take(2, offset + 1, vec![end(id, &[("shop.users", 1)])]).unwrap();
    }
    let given = [next(&mut marked), next(&mut marked), next(&mut marked), next(&mut marked)];
    assert_eq!(given, [Some(vec![11]), Some(vec![11]), Some(vec![21]), None]);
}

#[test]
fn rows_of_transactions_whose_edge_is_lost_stand_alone() {
    // Begun in the middle of a transaction.
    let mut marked = collector();
    marked.take(0, 0, vec![row(0, 1, 12, Some(("a", 2)))]).unwrap();
    marked.take(2, 0, vec![end("a", &[("shop.users", 2)])]).unwrap();
    assert_eq!(next(&mut marked), Some(vec![12]));
    // Given up by the connector, which read a snapshot instead.
    marked.take(2, 1, vec![begin("b")]).unwrap();
    marked.take(0, 1, vec![row(0, 1, 21, Some(("b", 1)))]).unwrap();
    marked.take(0, 2, vec![row(0, 1, 22, None)]).unwrap();
    marked.take(2, 2, vec![begin("c")]).unwrap();
    assert_eq!((next(&mut marked), marked.resume()), (None, vec![1, 0, 0]));
    marked.take(2, 3, vec![end("c", &[])]).unwrap();
    assert_eq!((next(&mut marked), next(&mut marked)), (Some(vec![21, 22]), None));
    assert_eq!((marked.resume(), marked.bytes()), (vec![3, 0, 0], 0));
}

#[test]
fn a_lost_event_stops_once_every_partition_is_past_it() {
    let mut marked = collector();
    for (offset, id) in [(0, "a"), (2, "b")] {
        marked.take(2, offset, vec![begin(id)]).unwrap();
        marked.take(2, offset + 1, vec![end(id, &[("shop.users", 2)])]).unwrap();
    }
    marked.take(0, 0, vec![row(0, 1, 11, Some(("a", 1)))]).unwrap();
    marked.take(0, 1, vec![row(0, 1, 21, Some(("b", 1)))]).unwrap();
    let stop = marked.take(1, 0, vec![row(0, 2, 22, Some(("b", 2)))]).unwrap_err();
    assert_eq!(stop.code, "TRANSACTION_INCOMPLETE");
    assert_eq!(stop.message, "transaction a has 1 of 2 events of shop.users, and every partition is past it");
}

#[test]
fn two_partitions_of_marks_have_no_order() {
    let mut marked = collector();
    marked.take(2, 0, vec![begin("a")]).unwrap();
    assert_eq!(marked.take(1, 0, vec![begin("b")]).unwrap_err().code, "TRANSACTION_TOPIC_PARTITIONED");
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

type State = BTreeMap<(usize, i64), i64>;
/// Table, rows of (key, value; 0: deleted).
type Event = (usize, Vec<(i64, i64)>);

const KEYS: u64 = 6;
/// Two partitions a table, by key; then the transaction topic.
const PARTITIONS: usize = 7;
const MARKS: usize = 6;

/// What the upstream did, and what the connector wrote of it.
struct World {
    transactions: Vec<Vec<Event>>,
    log: Vec<Vec<Vec<Said>>>,
}

impl World {
    fn new(random: &mut Random, with_crashes: bool) -> World {
        let transactions: Vec<Vec<Event>> = (0..30).map(|t| World::transaction(random, t)).collect();
        let mut world = World { transactions, log: vec![Vec::new(); PARTITIONS] };
        // At the end every row is written once more, without a crash.
        let sweep = (0..3).flat_map(|table| (0..KEYS as i64).map(move |key| (table, vec![(key, 10_000 + key)])));
        let (mut at, mut state, mut reached) = (0, State::new(), 0);
        while at < world.transactions.len() {
            if with_crashes && random.one_in(6) {
                let events = random.below(4) as usize;
                world.send(at, Some(events));
                at -= random.below(4).min(at as u64) as usize;
                continue;
            }
            world.send(at, None);
            at += 1;
            if at > reached {
                reached = at;
                world.transactions[at - 1].iter().for_each(|event| apply(&mut state, event));
                for ((table, key), value) in state.iter().filter(|_| random.one_in(12)) {
                    world.log[partition(*table, *key)].push(vec![row(*table, *key, *value, None)]);
                }
            }
        }
        world.transactions.push(sweep.collect());
        world.send(at, None);
        world
    }

    fn transaction(random: &mut Random, t: i64) -> Vec<Event> {
        let event = |random: &mut Random, order: i64| {
            let (table, key) = (random.below(3) as usize, random.below(KEYS) as i64);
            let value = (t + 1) * 100 + order;
            match random.below(6) {
                0 => (table, vec![(key, 0)]),
                // Moved to another key, which lies in the same partition.
                1 => (table, vec![(key, 0), ((key + 2) % KEYS as i64, value)]),
                _ => (table, vec![(key, value)]),
            }
        };
        (0..random.below(5) as i64).map(|order| event(random, order)).collect()
    }

    /// Sends a transaction, or its first events only.
    fn send(&mut self, t: usize, events: Option<usize>) {
        let (id, transaction) = (t.to_string(), self.transactions[t].clone());
        self.log[MARKS].push(vec![begin(&id)]);
        for (order, (table, rows)) in transaction.iter().enumerate().take(events.unwrap_or(usize::MAX)) {
            let said = rows.iter().map(|(key, value)| row(*table, *key, *value, Some((&id, order as u64 + 1))));
            self.log[partition(*table, rows[0].0)].push(said.collect());
        }
        if events.is_none() {
            let of = |table: usize| transaction.iter().filter(|(t, _)| *t == table).count() as u64;
            let mut counts: Vec<(&str, u64)> = (0..3).map(|table| (TABLES[table], of(table))).collect();
            counts.retain(|(_, count)| *count > 0);
            counts.push(("shop.not_followed", 3));
            self.log[MARKS].push(vec![end(&id, &counts)]);
        }
    }

    fn final_state(&self) -> State {
        let mut state = State::new();
        self.transactions.iter().flatten().for_each(|event| apply(&mut state, event));
        state
    }

    fn rows_of(&self, t: usize) -> Vec<(usize, i64, i64)> {
        let rows = self.transactions[t].iter();
        rows.flat_map(|(table, rows)| rows.iter().map(|(key, value)| (*table, *key, *value))).collect()
    }
}

fn partition(table: usize, key: i64) -> usize {
    table * 2 + (key % 2) as usize
}

fn apply(state: &mut State, (table, rows): &Event) {
    for (key, value) in rows {
        match value {
            0 => state.remove(&(*table, *key)),
            _ => state.insert((*table, *key), *value),
        };
    }
}

fn values(change: &RowChange) -> (usize, i64, i64) {
    let int = |datum: &Datum| if let Datum::Int(v) = datum { *v } else { 0 };
    match &change.op {
        Op::Put(row) | Op::Insert(row) | Op::Update(row) => (change.table, int(&row[0]), int(&row[1])),
        Op::Delete(row) => (change.table, int(&row[0]), 0),
        Op::Truncate => panic!("nothing was truncated"),
    }
}

/// What is durable: offsets, rows, the next transaction.
#[derive(Clone)]
struct Durable {
    offsets: Vec<i64>,
    given: Option<u64>,
    state: State,
    next: usize,
}

impl Durable {
    /// Applies what was given: every transaction once, whole, in order.
    fn apply(&mut self, world: &World, complete: Complete) {
        let Complete::Rows { rows, .. } = complete else { panic!("no statement was said") };
        if let Some(InTransaction { id, .. }) = &rows[0].transaction {
            let t: usize = id.parse().unwrap();
            let skipped = (self.next..t).all(|t| world.transactions[t].is_empty());
            assert!(t >= self.next && skipped, "transaction {t} is given when {} is next", self.next);
            assert_eq!(rows.iter().map(values).collect::<Vec<_>>(), world.rows_of(t), "transaction {t} is whole");
            self.next = t + 1;
        }
        for change in &rows {
            let (table, key, value) = values(change);
            if change.transaction.is_none() {
                assert_eq!(self.state.get(&(table, key)), Some(&value), "a snapshot's row is what was there");
            }
            apply(&mut self.state, &(table, vec![(key, value)]));
        }
    }
}

/// Reads the world's log in a random order to its end.
fn run(seed: u64, with_crashes: bool, with_restarts: bool) {
    let random = &mut Random(seed);
    let world = World::new(random, with_crashes);
    let start = Durable { offsets: vec![0; PARTITIONS], given: None, state: State::new(), next: 0 };
    let (mut durable, mut now) = (start.clone(), start);
    let mut marked = Marked::new(now.offsets.clone(), now.given, names());
    let mut read = now.offsets.clone();
    while (0..PARTITIONS).any(|p| (read[p] as usize) < world.log[p].len()) {
        // One partition at a time is read far ahead of the others.
        let p = random.below(PARTITIONS as u64) as usize;
        for _ in 0..random.below(12) {
            let Some(said) = world.log[p].get(read[p] as usize) else { break };
            marked.take(p, read[p], said.clone()).unwrap();
            read[p] += 1;
        }
        for _ in 0..random.below(4) {
            let Some(complete) = marked.next() else { break };
            now.apply(&world, complete);
            (now.offsets, now.given) = (marked.resume(), marked.state());
        }
        if random.one_in(3) {
            durable = now.clone();
        }
        if with_restarts && random.one_in(25) {
            now = durable.clone();
            marked = Marked::new(now.offsets.clone(), now.given, names());
            read = now.offsets.clone();
        }
    }
    while let Some(complete) = marked.next() {
        now.apply(&world, complete);
    }
    assert_eq!(now.state, world.final_state());
    assert_eq!((marked.waiting(), marked.bytes()), (None, 0));
}

#[track_caller]
fn every_seed(with_crashes: bool, with_restarts: bool) {
    for seed in 0..120 {
        let result = std::panic::catch_unwind(|| run(seed, with_crashes, with_restarts));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn random_orders_give_whole_transactions_in_order() {
    every_seed(false, false);
}

#[test]
fn a_connector_that_repeats_itself_changes_nothing() {
    every_seed(true, false);
}

#[test]
fn restarts_change_nothing() {
    every_seed(false, true);
}

#[test]
fn restarts_amid_repetitions_change_nothing() {
    every_seed(true, true);
}
