//! An answer on its way to the client: rows as they come, as many as asked for.

use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use futures::{FutureExt, StreamExt};
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::data::DataRow;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::session::RowStream;
use crate::row::datum::Datum;
use crate::row::schema::Column;
use crate::server::limits::ROW_BYTES_MAX;
use crate::server::pgwire::connection::{Fault, Interrupt};
use crate::server::pgwire::reply::Failure;
use crate::server::pgwire::types::{self, Format};
use crate::server::pgwire::wire::Wire;
use crate::server::sqlstate;

/// Rows of a running statement, from the next one on.
pub struct Cursor {
    columns: Vec<Column>,
    stream: RowStream,
    batch: Option<RecordBatch>,
    next_row: usize,
    row: BytesMut,
}

impl Cursor {
    pub fn new(columns: Vec<Column>, stream: RowStream) -> Cursor {
        Cursor { columns, stream, batch: None, next_row: 0, row: BytesMut::new() }
    }

    /// Sends at most `max` rows (0: all); says how many, and whether it stopped at `max`.
    pub async fn send<S: AsyncRead + AsyncWrite + Send>(
        &mut self,
        wire: &mut Wire<S>,
        interrupt: &mut Interrupt,
        format: impl Fn(usize) -> Format,
        max: usize,
    ) -> Result<(usize, bool), Fault> {
        let mut sent = 0;
        while self.fetch(wire, interrupt).await? {
            let batch = self.batch.as_ref().expect("a fetched row is in a batch");
            while self.next_row < batch.num_rows() {
                if max > 0 && sent == max {
                    return Ok((sent, true));
                }
                encode(&self.columns, batch, self.next_row, &format, &mut self.row)?;
                wire.push(Message::DataRow(DataRow::new(self.row.split(), self.columns.len() as i16)));
                self.next_row += 1;
                sent += 1;
                if wire.is_full() {
                    wire.flush().await?;
                }
            }
        }
        Ok((sent, false))
    }

    /// True when there is a next row; what is written goes out before the first wait.
    async fn fetch<S: AsyncRead + AsyncWrite + Send>(
        &mut self,
        wire: &mut Wire<S>,
        interrupt: &mut Interrupt,
    ) -> Result<bool, Fault> {
        while self.batch.as_ref().is_none_or(|batch| self.next_row >= batch.num_rows()) {
            interrupt.check()?;
            let next = match self.stream.next().now_or_never() {
                Some(next) => next,
                None => {
                    wire.flush().await?;
                    interrupt.run(wire, self.stream.next()).await?
                }
            };
            self.batch = next.transpose().map_err(|error| Fault::Statement(Failure::of_engine(error, "", 0)))?;
            self.next_row = 0;
            if self.batch.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn encode(
    columns: &[Column],
    batch: &RecordBatch,
    row: usize,
    format: &impl Fn(usize) -> Format,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    for (i, column) in columns.iter().enumerate() {
        let datum = Datum::of(batch.column(i).as_ref(), &column.sql_type, row);
        types::put(&datum, &column.sql_type, format(i), out).map_err(|odd| {
            let message = format!("column {}: {odd}", column.name);
            let hint = "read it as text, or as CAST(… AS CHAR)";
            Fault::Statement(Failure::error(sqlstate::DATETIME_OVERFLOW, message).hint(hint))
        })?;
    }
    if out.len() > ROW_BYTES_MAX {
        let message = format!("a row of {} bytes, at most {ROW_BYTES_MAX} are sent", out.len());
        return Err(Fault::Statement(Failure::error(sqlstate::LIMIT_EXCEEDED, message)));
    }
    Ok(())
}
