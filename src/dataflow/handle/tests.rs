//! A load on running workers, and what becomes of a worker that panics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::Dataflow;
use crate::dataflow::describe::{Build, Description};
use crate::dataflow::expr::edge_schema;
use crate::plan::ir::{Aggregate, AggregateFunction, Op, Plan};
use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::row::{ObjectId, Ts};

const TABLE: ObjectId = ObjectId(1);
const VIEW: ObjectId = ObjectId(2);
const WAIT: Duration = Duration::from_secs(60);

fn column(name: &str) -> Column {
    Column {
        name: name.to_string(),
        sql_type: SqlType::Int { bytes: 8, unsigned: false },
        nullable: false,
        collation: None,
        comment: None,
    }
}

/// `SELECT k, COUNT(*) FROM t GROUP BY k`.
fn counts_by_key(as_of: Ts) -> Description {
    let table = Schema { columns: vec![column("k")], key: None };
    let get = Op::Get { object: TABLE, name: "t".to_string(), columns: vec![0] };
    let count = Aggregate { function: AggregateFunction::CountAll, input: None };
    let input = Box::new(Plan { op: get, schema: table });
    let op = Op::Reduce { input, keys: vec![0], aggregates: vec![count] };
    let plan = Plan { op, schema: Schema { columns: vec![column("k"), column("n")], key: Some(vec![0]) } };
    let build = Build::View { plan, declared_key: None, shared: vec![] };
    Description { id: VIEW, name: "counts".to_string(), as_of, build }
}

fn keys(keys: impl Iterator<Item = i64>) -> Delta {
    let table = Schema { columns: vec![column("k")], key: None };
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    Delta::inserts(RecordBatch::try_new(edge_schema(&table), vec![keys]).expect("one column"))
}

async fn until(dataflow: &Dataflow, frontier: Ts) {
    let mut frontiers = dataflow.frontiers();
    while dataflow.frontier(VIEW) < frontier {
        let moved = tokio::time::timeout(WAIT, frontiers.changed()).await;
        moved.expect("the workers go on").expect("the workers are there");
    }
}

async fn rows(dataflow: &Dataflow, at: Ts) -> BTreeMap<i64, i64> {
    let snapshot = dataflow.snapshot(VIEW, at).await.expect("the view is installed").expect("it has no error");
    let mut rows = BTreeMap::new();
    for delta in snapshot.batches(1_000) {
        let column = |i: usize| delta.rows.column(i).as_any().downcast_ref::<Int64Array>().expect("BIGINT").clone();
        for (i, diff) in delta.diffs.iter().enumerate() {
            assert_eq!(*diff, 1, "a group has one row");
            rows.insert(column(0).value(i), column(1).value(i));
        }
    }
    rows
}

#[tokio::test]
async fn a_load_does_not_keep_what_its_pieces_put_out_on_the_way() {
    const PIECES: u64 = 100;
    const KEYS: i64 = 500;
    let dataflow = Dataflow::start(2);
    let as_of = Ts(Ts::LOADS_END.0 + 10);
    dataflow.install(counts_by_key(as_of));
    for piece in 1..=PIECES {
        dataflow.feed(VIEW, TABLE, Ts(piece), keys(0..KEYS));
        dataflow.advance(VIEW, Ts(piece + 1));
        until(&dataflow, Ts(piece + 1)).await;
    }
    // A tick that comes during a load is seen after it.
    let during = as_of.next();
    dataflow.tick(during, Arc::new(vec![(TABLE, keys(0..1))]));
    dataflow.advance(VIEW, as_of.next());
    until(&dataflow, as_of.next()).await;
    let updates = dataflow.stats()[0].rows;
    // Each piece changes every group: 2 × KEYS updates a piece, all of them there if nothing is folded.
    assert!(updates < 10 * KEYS as u64, "{updates} updates are kept for {KEYS} rows");
    dataflow.go_live(VIEW);
    until(&dataflow, during.next()).await;
    let expected: BTreeMap<i64, i64> = (0..KEYS).map(|key| (key, PIECES as i64)).collect();
    assert_eq!(rows(&dataflow, as_of).await, expected);
    let mut after = expected.clone();
    after.insert(0, PIECES as i64 + 1);
    assert_eq!(rows(&dataflow, during).await, after);
    let mut tap = dataflow.tap(VIEW, as_of);
    let batch = tokio::time::timeout(WAIT, tap.recv()).await.expect("the tap speaks").expect("the tap is open");
    let changed: usize = batch.updates.iter().map(|(_, times, _)| times.len()).sum();
    assert_eq!(changed, 2, "the old row and the new one of one group, and nothing of the load");
    dataflow.shutdown();
}

#[tokio::test]
async fn a_worker_that_panics_is_told_and_asking_goes_on() {
    let dataflow = Dataflow::start(2);
    dataflow.install(counts_by_key(Ts(Ts::LOADS_END.0 + 10)));
    assert!(tokio::time::timeout(Duration::from_millis(50), dataflow.broken()).await.is_err(), "nothing is broken yet");
    dataflow.advance(VIEW, Ts(5));
    // At a closed time: a broken invariant.
    dataflow.feed(VIEW, TABLE, Ts(1), keys(0..10));
    tokio::time::timeout(WAIT, dataflow.broken()).await.expect("a panic is told");
    dataflow.compact(Ts(3));
}
