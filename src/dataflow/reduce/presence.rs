//! Reductions that only count a group's rows: DISTINCT, and the check of declared keys.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::dataflow::arrange::layout::Layout;
use crate::dataflow::reduce::FaultKind;
use crate::dataflow::reduce::keyed::{Group, Logic};
use crate::dataflow::reduce::output::{Output, State};

pub struct Presence {
    layout: Layout,
    schema: SchemaRef,
    /// The state of a group with so many rows.
    state: fn(i64) -> State,
}

impl Presence {
    /// Each key that is there, once.
    pub fn distinct(layout: &Layout, schema: SchemaRef) -> Presence {
        let state = |count: i64| match count {
            0 => State::Absent,
            1.. => State::Row(vec![]),
            _ => State::Fault(FaultKind::NegativeCount),
        };
        Presence { layout: layout.clone(), schema, state }
    }

    /// A fault for each key with more than one row.
    pub fn unique(layout: &Layout) -> Presence {
        let fields = layout.key().types().iter().map(|t| Field::new("key", t.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let state = |count: i64| match count {
            0 | 1 => State::Absent,
            2.. => State::Fault(FaultKind::DoubledKey),
            _ => State::Fault(FaultKind::NegativeCount),
        };
        Presence { layout: layout.clone(), schema, state }
    }
}

impl Logic for Presence {
    fn group(&mut self, group: &Group, output: &mut Output) {
        let mut count: i64 = group.before.iter().map(|update| update.chunk.count(update.row)).sum();
        for same_time in group.fresh.chunk_by(|a, b| a.time == b.time) {
            let old = (self.state)(count);
            count += same_time.iter().map(|update| update.chunk.count(update.row)).sum::<i64>();
            output.change(group.key.bytes(), same_time[0].time, &old, &(self.state)(count));
        }
    }

    fn output(&self) -> Output {
        Output::new(&self.layout, self.schema.clone())
    }
}
