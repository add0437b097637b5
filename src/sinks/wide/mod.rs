//! Wide tables: the sink of one target, from views to its tables.
//!
//! [`task`] runs it: it holds the target's fence, brings each view's table right ([`load`], or by replay where the
//! ledger allows it), then flushes all live views to one consistent point in one transaction ([`changes`] gives the
//! net effect, [`write`] the statements). [`layout`] is the table a view gets and what is asked of one that is there
//! ([`inspect`]).
//!
//! Invariants:
//! - nothing is written but in a transaction that wrote the fence row first; deletes go before upserts within a flush;
//! - a table that is being filled for the first time has another name (SQLite: is in no committed state at all);
//! - no flush runs between `flipping` and `live`; which of the two names exists decides where a flip stands;
//! - a view's changes are forgotten only after their COMMIT is known;
//! - a hidden key is 16 bytes of SHA-256 over the encoded key; for a view without a key 12 bytes over the row, then the
//!   copy's number from 0 in 4 bytes, so that the copies of a row are one range.

mod changes;
mod inspect;
mod layout;
mod load;
mod pending;
mod place;
mod task;
mod view;
mod write;

#[cfg(test)]
mod tests;

use tokio::sync::mpsc;

use crate::row::schema::Schema;
use crate::sinks::{Reader, SinkHandle};
use crate::target::dialect::Dialect;
use crate::target::error::TargetError;
use crate::target::ledger::{self, LedgerRow};
use crate::target::{TargetOptions, connect};

/// Commands that wait for the sink.
const COMMANDS_MAX: usize = 64;

/// Starts the sink of a target; it ends when its commands are closed or it is fenced.
pub fn start(options: TargetOptions, reader: Reader) -> SinkHandle {
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (told, events) = mpsc::unbounded_channel();
    tokio::spawn(task::Task::new(options, reader, told).run(commanded));
    SinkHandle { commands, events }
}

/// What a target's tables hold, without taking its fence.
pub async fn read_ledger(options: &TargetOptions) -> Result<Vec<LedgerRow>, TargetError> {
    let mut target = connect(options).await?;
    ledger::read(target.as_mut(), &options.name).await
}

/// The statement that creates a view's table: SHOW TARGET DDL.
pub fn ddl(dialect: Dialect, table: &[String], schema: &Schema, comment: Option<&str>) -> String {
    layout::Layout::of_new_table(dialect, schema).create_table(table, comment)
}
