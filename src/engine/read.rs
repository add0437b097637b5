//! Reads: one `Ts` for everything a statement or a transaction block sees.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::record_batch::RecordBatch;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::dataflow::{Cancel, ErrorRow, NoRows, evaluate};
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::foreign::Opened;
use crate::engine::progress::Hold;
use crate::engine::session::RowStream;
use crate::plan::foreign::Foreign;
use crate::plan::ir::{Op, Plan};
use crate::plan::lower::Lowered;
use crate::plan::temporal;
use crate::row::delta::Delta;
use crate::row::{ObjectId, Ts};
use crate::store::Snapshot;

/// Input bytes that an ad-hoc SELECT may gather; linear queries stream and have no such bound.
const SELECT_INPUT_BYTES_MAX: usize = 1 << 30;
const SCAN_BATCH_BYTES: usize = 1 << 20;
const SCAN_BATCH_ROWS: usize = 8_192;
/// Batches computed ahead of a client that reads slowly.
const BATCHES_AHEAD_MAX: usize = 4;

/// What a read sees: the tables and views at one `Ts`, held until it is dropped.
pub struct ReadPoint {
    pub hold: Hold,
    pub tables: Snapshot,
    /// Changes that an open transaction block made and has not committed.
    pub pending: Vec<(ObjectId, Delta)>,
}

impl ReadPoint {
    pub fn at(&self) -> Ts {
        self.hold.at()
    }
}

impl Core {
    /// The last tick: at or above every `Ts` answered or written so far. Waits until all views are complete there.
    pub async fn read_point(&self) -> Result<ReadPoint, EngineError> {
        let tables = self.store.snapshot();
        let at = tables.tick().ts.max(self.progress.completed());
        let hold = self.progress.hold(Some(at));
        let mut complete = self.progress.complete();
        let complete = complete.wait_for(|complete| *complete >= at).await;
        complete.map_err(|_| EngineError::new(ErrorKind::NotReady, "the server is stopping"))?;
        Ok(ReadPoint { hold, tables, pending: Vec::new() })
    }

    /// Runs a lowered query at a read point.
    pub async fn select(
        &self,
        mut lowered: Lowered,
        foreign: &[Foreign],
        point: &ReadPoint,
    ) -> Result<RowStream, EngineError> {
        lowered.plan = temporal::bind(lowered.plan, point.at());
        let Opened { rows: mut arriving, readers } = self.open_foreign(&mut lowered, foreign).await?;
        if let Some(object) = single_input(&lowered.plan)
            && lowered.order_by.is_empty()
            && point.pending.is_empty()
        {
            let rows = match arriving.remove(&object) {
                Some(rows) => rows,
                None => self.scan(object, point).await?,
            };
            return Ok(stream_linear(lowered, object, rows, readers));
        }
        let mut inputs = BTreeMap::new();
        let mut bytes = 0;
        // A client that cancels or leaves drops this future; the work on other threads hears of it by this.
        let wanted = Wanted::default();
        for object in lowered.plan.objects() {
            let rows = match arriving.remove(&object) {
                Some(rows) => rows,
                None => self.scan(object, point).await?,
            };
            let cancel = wanted.0.clone();
            let gathered = tokio::task::spawn_blocking(move || gather(rows, &mut bytes, &cancel)).await;
            inputs.insert(object, gathered.map_err(panicked)??);
        }
        let cancel = wanted.0.clone();
        let finish = move || {
            let rows = evaluate(&lowered.plan, inputs, &cancel).map_err(no_rows)?;
            finish(&lowered, rows)
        };
        let batches = tokio::task::spawn_blocking(finish).await.map_err(panicked)??;
        Ok(Box::pin(futures::stream::iter(batches.into_iter().map(Ok))))
    }

    /// All rows of a table or view at a read point.
    pub async fn scan(&self, object: ObjectId, point: &ReadPoint) -> Result<Rows, EngineError> {
        if self.is_table(object) {
            let pending: Vec<Delta> =
                point.pending.iter().filter(|(table, _)| *table == object).map(|(_, delta)| delta.clone()).collect();
            let columns: Vec<usize> = point.tables.columns(object);
            let stored =
                point.tables.scan(object, &columns, SCAN_BATCH_BYTES).map(|rows| rows.map_err(EngineError::from));
            return Ok(Box::new(stored.chain(pending.into_iter().map(Ok))));
        }
        let name = self.object_name(object);
        if !self.is_live(object) {
            let message = format!("materialized view {name} is still being computed");
            return Err(EngineError::new(ErrorKind::NotReady, message).hint("SHOW JOBS tells how far it is"));
        }
        if point.at() < self.lock_flows().readable_from(object) {
            let message =
                format!("materialized view {name} is newer than the time that the transaction block reads at");
            return Err(EngineError::new(ErrorKind::NotReady, message).hint("COMMIT, and read it in a new block"));
        }
        let snapshot = self.dataflow.snapshot(object, point.at()).await;
        let snapshot =
            snapshot.map_err(|_| EngineError::new(ErrorKind::NotReady, format!("view {name} was dropped")))?;
        let snapshot = snapshot.map_err(|error| data_error(&format!("view {name}"), &error))?;
        Ok(Box::new(snapshot.batches(SCAN_BATCH_ROWS).map(Ok)))
    }
}

/// Dropped, it cancels the work that is done for it.
#[derive(Default)]
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pub type Rows = Box<dyn Iterator<Item = Result<Delta, EngineError>> + Send>;

pub fn data_error(what: &str, error: &ErrorRow) -> EngineError {
    let message = format!("{what} has an error row: {error}");
    EngineError::new(ErrorKind::DataError, message).hint("correct or delete the source row; the view heals by itself")
}

fn no_rows(why: NoRows) -> EngineError {
    match why {
        NoRows::Error(error) => data_error("the query", &error),
        NoRows::Cancelled => EngineError::new(ErrorKind::Cancelled, "the query was cancelled"),
    }
}

fn panicked(error: tokio::task::JoinError) -> EngineError {
    EngineError::new(ErrorKind::Internal, format!("the query ended abnormally: {error}"))
}

/// The one object a plan without joins, aggregates and unions reads.
fn single_input(plan: &Plan) -> Option<ObjectId> {
    match &plan.op {
        Op::Get { object, .. } => Some(*object),
        Op::Filter { input, .. } | Op::Project { input, .. } => single_input(input),
        _ => None,
    }
}

fn gather(rows: Rows, bytes: &mut usize, cancel: &Cancel) -> Result<Vec<Delta>, EngineError> {
    let mut deltas = Vec::new();
    for delta in rows {
        if cancel.is_cancelled() {
            return Err(no_rows(NoRows::Cancelled));
        }
        let delta = delta?;
        *bytes += delta.bytes();
        if *bytes > SELECT_INPUT_BYTES_MAX {
            let message = format!("the query reads more than {SELECT_INPUT_BYTES_MAX} bytes");
            return Err(EngineError::new(ErrorKind::LimitExceeded, message)
                .hint("make it a materialized view, or filter a single table, which streams"));
        }
        deltas.push(delta);
    }
    Ok(deltas)
}

/// A query over one object, batch by batch, so that its size is not bounded by memory.
fn stream_linear(lowered: Lowered, object: ObjectId, rows: Rows, readers: JoinSet<()>) -> RowStream {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
    tokio::task::spawn_blocking(move || {
        let (mut skip, mut left) = (lowered.offset as usize, lowered.limit.map(|limit| limit as usize));
        // Pending changes may retract rows of the stored part: consolidate when there are any.
        for delta in rows {
            if left == Some(0) {
                return;
            }
            let batch = delta.and_then(|delta| {
                // One batch: who waits for it is asked before the next.
                let rows = evaluate(&lowered.plan, BTreeMap::from([(object, vec![delta])]), &Cancel::default());
                expand(rows.map_err(no_rows)?, &lowered.plan)
            });
            let batch = batch.map(|batch| {
                let from = skip.min(batch.num_rows());
                skip -= from;
                let count = left.unwrap_or(usize::MAX).min(batch.num_rows() - from);
                left = left.map(|left| left - count);
                visible(&lowered, batch.slice(from, count))
            });
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    Box::pin(futures::stream::unfold((receiver, readers), |(mut receiver, readers)| async move {
        receiver.recv().await.map(|batch| (batch, (receiver, readers)))
    }))
}

/// Each row as often as its multiplicity says.
fn expand(rows: Vec<Delta>, plan: &Plan) -> Result<RecordBatch, EngineError> {
    let mut batches = Vec::new();
    for delta in rows {
        if delta.diffs.iter().all(|diff| *diff == 1) {
            batches.push(delta.rows);
            continue;
        }
        let mut indices = Vec::with_capacity(delta.len());
        for (row, diff) in delta.diffs.iter().enumerate() {
            assert!(*diff >= 0, "an answer has no negative rows: {diff}");
            indices.extend(std::iter::repeat_n(row as u32, *diff as usize));
        }
        batches.push(take_record_batch(&delta.rows, &UInt32Array::from(indices)).map_err(internal)?);
    }
    concat_batches(&plan.schema.arrow(), batches.iter()).map_err(internal)
}

/// ORDER BY, OFFSET and LIMIT over the whole answer.
fn finish(lowered: &Lowered, rows: Vec<Delta>) -> Result<Vec<RecordBatch>, EngineError> {
    let mut batch = expand(rows, &lowered.plan)?;
    if !lowered.order_by.is_empty() {
        let columns: Vec<SortColumn> = lowered
            .order_by
            .iter()
            .map(|&(column, descending, nulls_first)| SortColumn {
                values: ArrayRef::clone(batch.column(column)),
                options: Some(SortOptions { descending, nulls_first }),
            })
            .collect();
        let order = lexsort_to_indices(&columns, None).map_err(internal)?;
        batch = take_record_batch(&batch, &order).map_err(internal)?;
    }
    let from = (lowered.offset as usize).min(batch.num_rows());
    let count = lowered.limit.map_or(usize::MAX, |limit| limit as usize).min(batch.num_rows() - from);
    Ok(vec![visible(lowered, batch.slice(from, count))])
}

/// Without the helper columns that ORDER BY needed.
fn visible(lowered: &Lowered, batch: RecordBatch) -> RecordBatch {
    let columns: Vec<usize> = (0..batch.num_columns() - lowered.hidden).collect();
    batch.project(&columns).expect("the columns are there")
}

fn internal(error: arrow::error::ArrowError) -> EngineError {
    EngineError::new(ErrorKind::Internal, error.to_string())
}
