//! What one partition has said and what is not given yet, in its order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sources::formats::{RowChange, SchemaChange};

#[derive(Debug)]
pub struct Partition {
    /// The offset after the last message.
    pub next: i64,
    pub held: VecDeque<Held>,
}

#[derive(Debug)]
pub struct Held {
    pub offset: i64,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// An event of a transaction, by its total order.
    Event(Arc<str>, u64),
    /// Rows that stand alone.
    Loose(Vec<RowChange>),
    Schema(SchemaChange),
}

impl Partition {
    pub fn new(next: i64) -> Partition {
        Partition { next, held: VecDeque::new() }
    }

    pub fn push(&mut self, offset: i64, what: What) {
        self.held.push_back(Held { offset, what });
    }

    pub fn push_loose(&mut self, offset: i64, change: RowChange) {
        match self.held.back_mut() {
            Some(Held { offset: last, what: What::Loose(rows) }) if *last == offset => rows.push(change),
            _ => self.push(offset, What::Loose(vec![change])),
        }
    }

    /// True if the last is the event of this message.
    pub fn ends_with(&self, offset: i64) -> bool {
        self.held.back().is_some_and(|last| last.offset == offset && matches!(last.what, What::Event(..)))
    }

    /// The first message that is needed.
    pub fn resume(&self) -> i64 {
        self.held.front().map_or(self.next, |held| held.offset)
    }

    /// Cuts off in front what is given.
    pub fn trim(&mut self, is_given: impl Fn(&What) -> bool) {
        while self.held.pop_front_if(|held| is_given(&held.what)).is_some() {}
    }
}
