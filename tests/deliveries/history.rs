//! A clean history: what happened upstream, commit by commit, and the state after each.

use std::collections::BTreeSet;

use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::BIGINT;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::{Op, RowChange, SchemaChange, Tables};

pub const DATABASE: &str = "shop";
pub const TABLE_COUNT: usize = 3;
/// Few, so that commits touch the same rows again and again.
const KEY_COUNT: usize = 5;
const COMMITS_MAX: u64 = 20;
const FIRST_COMMIT: u64 = 1_700_000_000_000 << PHYSICAL_SHIFT;
/// A TSO's milliseconds stand above its logical part.
const PHYSICAL_SHIFT: u32 = 18;

/// splitmix64.
pub struct Random(pub u64);

/// The value of every key of every table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(Vec<Option<i64>>);

pub struct History {
    /// In order.
    pub commits: Vec<Commit>,
    /// In order: the state after the rows of a commit, and after its statements.
    pub boundaries: Vec<Boundary>,
}

pub struct Commit {
    pub at: u64,
    pub rows: Vec<RowChange>,
    pub statements: Vec<SchemaChange>,
}

pub struct Boundary {
    pub commit: u64,
    /// What leads to it from the one before; of the two one is empty.
    pub row_count: usize,
    pub statements: Vec<SchemaChange>,
    pub state: State,
}

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in n.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The tables t0, t1, … with a key and a value, as a decoder asks for them.
pub fn tables() -> Tables {
    let columns = vec![Column::new("id", BIGINT, false), Column::new("v", BIGINT, true)];
    let schema = Schema { columns, key: Some(vec![0]) };
    let table = |i: usize| FollowedTable::declared(ObjectId(i as u64), DATABASE, &format!("t{i}"), schema.clone());
    Tables::new((0..TABLE_COUNT).map(table))
}

impl State {
    pub fn empty() -> State {
        State(vec![None; TABLE_COUNT * KEY_COUNT])
    }

    pub fn apply(&mut self, change: &RowChange) {
        match &change.op {
            Op::Put(row) | Op::Insert(row) | Op::Update(row) => {
                let Datum::Int(value) = row[1] else { panic!("a value of {row:?}") };
                *self.at(change.table, key(row)) = Some(value);
            }
            Op::Delete(row) => *self.at(change.table, key(row)) = None,
            Op::Truncate => self.empty_table(change.table),
        }
    }

    pub fn apply_statement(&mut self, change: &SchemaChange) {
        if change.sql.starts_with("TRUNCATE") {
            self.empty_table(change.table[1..].parse().expect("tables have numbers"));
        }
    }

    fn at(&mut self, table: usize, key: usize) -> &mut Option<i64> {
        &mut self.0[table * KEY_COUNT + key]
    }

    fn empty_table(&mut self, table: usize) {
        self.0[table * KEY_COUNT..(table + 1) * KEY_COUNT].fill(None);
    }
}

/// The key of a row.
pub fn key(row: &[Datum]) -> usize {
    let Datum::Int(key) = row[0] else { panic!("a key of {row:?}") };
    key as usize
}

impl History {
    /// `truncates_are_rows`: as a decoder may tell them; else as statements.
    pub fn random(random: &mut Random, truncates_are_rows: bool) -> History {
        let mut history = History { commits: Vec::new(), boundaries: Vec::new() };
        let mut writer = Writer { random, at: FIRST_COMMIT, value: 0, state: State::empty() };
        for _ in 0..2 + writer.random.below(COMMITS_MAX as usize) {
            let commit = writer.commit(truncates_are_rows);
            history.add(commit);
        }
        history
    }

    pub fn last_commit(&self) -> u64 {
        self.commits.last().expect("a history has commits").at
    }

    fn add(&mut self, commit: Commit) {
        let mut state = self.boundaries.last().map_or_else(State::empty, |b| b.state.clone());
        if !commit.rows.is_empty() {
            let phase = |op: &Op| matches!(op, Op::Put(_)) as u8 + 2 * matches!(op, Op::Truncate) as u8;
            for wanted in 0..3 {
                commit.rows.iter().filter(|row| phase(&row.op) == wanted).for_each(|row| state.apply(row));
            }
            let row_count = commit.rows.len();
            let (statements, state) = (Vec::new(), state.clone());
            self.boundaries.push(Boundary { commit: commit.at, row_count, statements, state });
        }
        if !commit.statements.is_empty() {
            commit.statements.iter().for_each(|statement| state.apply_statement(statement));
            let statements = commit.statements.clone();
            self.boundaries.push(Boundary { commit: commit.at, row_count: 0, statements, state });
        }
        self.commits.push(commit);
    }
}

struct Writer<'a> {
    random: &'a mut Random,
    at: u64,
    value: i64,
    /// Before the commit.
    state: State,
}

impl Writer<'_> {
    fn commit(&mut self, truncates_are_rows: bool) -> Commit {
        self.at += if self.random.once_in(3) { 1 << PHYSICAL_SHIFT } else { 1 };
        let mut ops = Vec::new();
        let mut statements = Vec::new();
        let only_statement = self.random.once_in(20);
        if !only_statement {
            // One transaction, or several that share the timestamp: none touches a row of another.
            let mut touched = BTreeSet::new();
            for _ in 0..1 + self.random.below(5) {
                self.write(&mut touched, &mut ops);
            }
        }
        let truncated = if only_statement || self.random.once_in(12) { 1 + self.random.below(2) } else { 0 };
        let first = self.random.below(TABLE_COUNT);
        for i in 0..truncated {
            let table = (first + i) % TABLE_COUNT;
            match truncates_are_rows {
                true => ops.push((table, Op::Truncate)),
                false => statements.push(self.statement(table, "TRUNCATE TABLE")),
            }
        }
        if self.random.once_in(16) || ops.is_empty() && statements.is_empty() {
            statements.push(self.statement(TABLE_COUNT, "CREATE TABLE"));
        }
        let rows: Vec<RowChange> = ops.into_iter().map(|(table, op)| self.row(table, op)).collect();
        // Only what holds before the next commit matters to the writer, not the order within this one.
        let mut commit = Commit { at: self.at, rows, statements };
        let mut after = History { commits: Vec::new(), boundaries: Vec::new() };
        after.boundaries.push(Boundary { commit: 0, row_count: 0, statements: vec![], state: self.state.clone() });
        self.random.shuffle(&mut commit.rows);
        after.add(commit);
        self.state = after.boundaries.pop().expect("it has one").state;
        after.commits.pop().expect("it was added")
    }

    /// What one statement does to one row, or to two that move.
    fn write(&mut self, touched: &mut BTreeSet<(usize, usize)>, ops: &mut Vec<(usize, Op)>) {
        let table = self.random.below(TABLE_COUNT);
        let mut free: Vec<usize> = (0..KEY_COUNT).filter(|key| !touched.contains(&(table, *key))).collect();
        self.random.shuffle(&mut free);
        let Some(key) = free.pop() else { return };
        touched.insert((table, key));
        let Some(value) = *self.state.at(table, key) else {
            ops.push((table, self.put(key)));
            return;
        };
        match self.random.below(8) {
            0..3 => ops.push((table, self.put(key))),
            3 | 4 => ops.push((table, self.delete(key, value))),
            // An update that is split although the key stays.
            5 => ops.extend([(table, self.delete(key, value)), (table, self.put(key))]),
            // The key moves; where the other key has a row, too, the two exchange places.
            _ => {
                let Some(other) = free.pop() else { return };
                touched.insert((table, other));
                ops.extend([(table, self.delete(key, value)), (table, Op::Put(row(other, value)))]);
                if let Some(value) = *self.state.at(table, other) {
                    ops.extend([(table, self.delete(other, value)), (table, Op::Put(row(key, value)))]);
                }
            }
        }
    }

    /// Of a new value: no two states are alike by chance.
    fn put(&mut self, key: usize) -> Op {
        self.value += 1;
        Op::Put(row(key, self.value))
    }

    /// The whole row, or its key alone.
    fn delete(&mut self, key: usize, value: i64) -> Op {
        match self.random.once_in(2) {
            true => Op::Delete(row(key, value)),
            false => Op::Delete(vec![Datum::Int(key as i64), Datum::Null]),
        }
    }

    fn row(&self, table: usize, op: Op) -> RowChange {
        let committed_ms = Some(self.at >> PHYSICAL_SHIFT);
        RowChange { table, op, commit: Some(self.at), transaction: None, committed_ms }
    }

    fn statement(&self, table: usize, verb: &str) -> SchemaChange {
        let table = format!("t{table}");
        let sql = format!("{verb} `{DATABASE}`.`{table}`");
        SchemaChange { commit: Some(self.at), database: DATABASE.to_string(), table, sql }
    }
}

fn row(key: usize, value: i64) -> Vec<Datum> {
    vec![Datum::Int(key as i64), Datum::Int(value)]
}
