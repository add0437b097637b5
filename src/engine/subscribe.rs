//! SUBSCRIBE: a view's rows, then its changes as they become complete.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;
use tokio::sync::mpsc;

use crate::dataflow::Batch;
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::read::data_error;
use crate::engine::session::RowStream;
use crate::row::codec::RowCodec;
use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::types::SqlType;
use crate::row::{ObjectId, Ts};

/// Batches computed ahead of a client that reads slowly; the tap behind it is accounted for by the dataflow.
const BATCHES_AHEAD_MAX: usize = 16;
const SNAPSHOT_BATCH_ROWS: usize = 4_096;

/// `ts` and `op`, then the view's columns.
pub fn columns(view: &Schema) -> Vec<Column> {
    let ts = SqlType::Int { bytes: 8, unsigned: true };
    let mut columns = vec![Column::new("ts", ts, false), Column::new("op", SqlType::Varchar(2), false)];
    columns.extend(view.columns.iter().cloned());
    columns
}

impl Core {
    /// The rows of a view at a complete `Ts` as `+I` (if asked for), then each change: `+I` a new key, `-D` a key that
    /// is gone, `-U` and `+U` the row before and after. Views without a key know `+I` and `-D` only.
    pub async fn subscribe(&self, view: ObjectId, schema: Schema, snapshot: bool) -> Result<RowStream, EngineError> {
        let point = self.read_point().await?;
        let name = self.object_name(view);
        if !self.is_live(view) {
            return Err(EngineError::new(
                ErrorKind::NotReady,
                format!("materialized view {name} is still being computed"),
            ));
        }
        let rows = self.dataflow.snapshot(view, point.at()).await;
        let rows = rows.map_err(|_| EngineError::new(ErrorKind::NotReady, format!("view {name} was dropped")))?;
        let rows = rows.map_err(|error| data_error(&format!("view {name}"), &error))?;
        let mut changes = self.dataflow.tap(view, point.at());
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
        tokio::spawn(async move {
            // The hold ends when the tap is installed, which the first batch shows.
            let at = point.at();
            let mut hold = Some(point);
            let story = Story::new(schema);
            if snapshot {
                for delta in rows.batches(SNAPSHOT_BATCH_ROWS) {
                    if sender.send(Ok(story.inserts(at, &delta))).await.is_err() {
                        return;
                    }
                }
            }
            while let Some(batch) = changes.recv().await {
                hold = None;
                if let Some((error, ..)) = batch.errors.iter().find(|(.., diff)| *diff > 0) {
                    let _ = sender.send(Err(data_error(&format!("view {name}"), error))).await;
                    return;
                }
                if let Some(rows) = story.tell(&batch)
                    && sender.send(Ok(rows)).await.is_err()
                {
                    return;
                }
                if sender.is_closed() {
                    return;
                }
            }
            drop(hold);
        });
        Ok(Box::pin(futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|rows| (rows, receiver))
        })))
    }
}

/// Tells a view's diffs as inserts, updates and deletes.
struct Story {
    schema: Schema,
    key: Option<(Vec<usize>, RowCodec)>,
}

impl Story {
    fn new(schema: Schema) -> Story {
        let key = schema.key.clone().map(|key| {
            let codec = RowCodec::new(key.iter().map(|&c| schema.columns[c].sql_type.arrow()));
            (key, codec)
        });
        Story { schema, key }
    }

    fn inserts(&self, at: Ts, delta: &Delta) -> RecordBatch {
        let order: Vec<(u32, &str)> = (0..delta.len())
            .flat_map(|row| std::iter::repeat_n((row as u32, "+I"), delta.diffs[row].max(0) as usize))
            .collect();
        self.rows(&delta.rows, &vec![at; delta.len()], &order)
    }

    fn tell(&self, batch: &Batch) -> Option<RecordBatch> {
        let parts: Vec<&RecordBatch> = batch.updates.iter().map(|(rows, _, _)| rows).collect();
        let rows = concat_batches(&parts.first()?.schema(), parts).expect("a view's batches have its columns");
        let times: Vec<Ts> = batch.updates.iter().flat_map(|(_, times, _)| times.iter().copied()).collect();
        let diffs: Vec<i64> = batch.updates.iter().flat_map(|(_, _, diffs)| diffs.iter().copied()).collect();
        let keys = self.key.as_ref().map(|(key, codec)| {
            let columns: Vec<ArrayRef> = key.iter().map(|&c| ArrayRef::clone(rows.column(c))).collect();
            (!key.is_empty()).then(|| codec.encode(&columns).expect("a key column has its type"))
        });
        let key_of = |row: usize| match &keys {
            Some(Some(keys)) => keys.row(row).data(),
            _ => &[][..],
        };
        let mut order: Vec<usize> = (0..rows.num_rows()).collect();
        order.sort_by(|&a, &b| (times[a], key_of(a), diffs[a]).cmp(&(times[b], key_of(b), diffs[b])));
        let mut told: Vec<(u32, &str)> = Vec::new();
        let mut at = 0;
        while at < order.len() {
            let first = order[at];
            let pair = order.get(at + 1).copied().filter(|&next| {
                keys.is_some()
                    && times[next] == times[first]
                    && key_of(next) == key_of(first)
                    && (diffs[first], diffs[next]) == (-1, 1)
            });
            if let Some(next) = pair {
                told.extend([(first as u32, "-U"), (next as u32, "+U")]);
                at += 2;
                continue;
            }
            let op = if diffs[first] > 0 { "+I" } else { "-D" };
            told.extend(std::iter::repeat_n((first as u32, op), diffs[first].unsigned_abs() as usize));
            at += 1;
        }
        (!told.is_empty()).then(|| self.rows(&rows, &times, &told))
    }

    fn rows(&self, rows: &RecordBatch, times: &[Ts], order: &[(u32, &str)]) -> RecordBatch {
        let indices = UInt32Array::from_iter_values(order.iter().map(|(row, _)| *row));
        let taken = take_record_batch(rows, &indices).expect("the indices are of these rows");
        let ts = UInt64Array::from_iter_values(order.iter().map(|(row, _)| times[*row as usize].0));
        let op = StringArray::from_iter_values(order.iter().map(|(_, op)| *op));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ts), Arc::new(op)];
        columns.extend(taken.columns().iter().cloned());
        let schema = Schema { columns: self::columns(&self.schema), key: None };
        RecordBatch::try_new(schema.arrow(), columns).expect("the columns are the schema's")
    }
}
