//! Which transactions have been dealt with, as far back as a connector may send them again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Connect writes a connector's place down once a minute: what a crash repeats is a minute's transactions.
pub const REMEMBERED_MAX: usize = 1 << 16;

/// Transactions by id, the oldest forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    known: HashMap<Arc<str>, Fate>,
    /// With the offset from which their marks are read.
    order: VecDeque<(Arc<str>, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was given whole.
    Given,
    /// Its rows stand alone.
    Loose,
}

impl Memory {
    pub fn fate(&self, id: &str) -> Option<Fate> {
        self.known.get(id).copied()
    }

    pub fn remember(&mut self, id: Arc<str>, fate: Fate, begin: i64) {
        self.known.insert(id.clone(), fate);
        self.order.push_back((id, begin));
        while self.order.len() > REMEMBERED_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|(id, _)| self.known.remove(&id));
        }
    }

    /// Where the marks of the oldest lie.
    pub fn oldest(&self) -> Option<i64> {
        self.order.front().map(|(_, begin)| *begin)
    }
}
