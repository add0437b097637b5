//! A SELECT of tables that no source follows: their rows streamed, one snapshot a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::read::Rows;
use crate::plan::foreign::{Asked, Foreign, ask};
use crate::plan::lower::Lowered;
use crate::row::ObjectId;
use crate::row::delta::Delta;
use crate::row::schema::Schema;
use crate::sources::FollowedTable;
use crate::sources::mysql::schema;
use crate::sources::mysql::snapshot::{Read, Reading};

/// Batches that were read and wait for the query.
const BATCHES_AHEAD_MAX: usize = 2;

/// Tables being read; dropping `readers` ends that.
#[derive(Default)]
pub struct Opened {
    pub rows: BTreeMap<ObjectId, Rows>,
    pub readers: JoinSet<()>,
}

impl Core {
    /// The table as its server shows it, and what of it cannot be read; `None`: there is none.
    pub async fn foreign(
        &self,
        connection: ObjectId,
        name: [String; 3],
        object: ObjectId,
    ) -> Result<Option<(Foreign, Vec<String>)>, EngineError> {
        let options = self.mysql_options(&self.connection(connection)?)?.for_snapshot();
        let [shown_under, database, table] = name;
        let found = schema::tables(&options, &[(database, table)], &[]).await?;
        let Some(found) = found.into_iter().next() else { return Ok(None) };
        let name = [shown_under, found.database, found.name];
        let left_out = found
            .unsupported
            .iter()
            .map(|(column, reason)| format!("{}.{column} cannot be read and is left out: {reason}", name.join(".")));
        let left_out = left_out.collect();
        Ok(Some((Foreign { object, connection, name, schema: found.schema }, left_out)))
    }

    /// Opens one snapshot for each connection. The plan reads only what it needs of the tables then.
    pub async fn open_foreign(&self, lowered: &mut Lowered, tables: &[Foreign]) -> Result<Opened, EngineError> {
        let mut by_connection: BTreeMap<ObjectId, Vec<(&Foreign, Asked)>> = BTreeMap::new();
        // In the order in which the query takes them: one connection gives one after the other.
        for object in lowered.plan.objects() {
            if let Some(table) = tables.iter().find(|table| table.object == object) {
                let asked = ask(lowered, table);
                by_connection.entry(table.connection).or_default().push((table, asked));
            }
        }
        let mut opened = Opened::default();
        for (connection, asked) in by_connection {
            let options = self.mysql_options(&self.connection(connection)?)?.for_snapshot();
            let followed: Vec<FollowedTable> = asked.iter().map(|(table, asked)| followed(table, asked)).collect();
            let reading = Reading::open(&options, &followed).await?;
            let fault = Arc::new(OnceLock::new());
            let mut outputs = Vec::new();
            for (table, asked) in asked {
                tracing::debug!(table = table.name.join("."), clause = asked.clause, "a table is read for a query");
                let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
                outputs.push((asked.clause, sender));
                let fault = Arc::clone(&fault);
                opened.rows.insert(table.object, Box::new(Arriving { receiver, fault, ended: false }));
            }
            opened.readers.spawn(async move {
                if let Err(error) = reading.stream(&outputs).await {
                    // Before the channels close: whoever finds them closed asks why.
                    let _first = fault.set(error.to_string());
                }
            });
        }
        Ok(opened)
    }
}

/// The columns that are asked for, as a table of their own.
fn followed(table: &Foreign, asked: &Asked) -> FollowedTable {
    let [_, database, name] = &table.name;
    let columns = asked.columns.iter().map(|&column| table.schema.columns[column].clone()).collect();
    FollowedTable::declared(table.object, database, name, Schema { columns, key: None })
}

/// A table's rows on their way.
struct Arriving {
    receiver: mpsc::Receiver<Read>,
    fault: Arc<OnceLock<String>>,
    ended: bool,
}

impl Iterator for Arriving {
    type Item = Result<Delta, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.receiver.blocking_recv() {
            Some(Read::Rows(rows)) => {
                let ones = vec![1; rows.num_rows()];
                Some(Ok(Delta::new(rows, ones)))
            }
            Some(Read::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                let reason = self.fault.get().map_or("the reading was ended", String::as_str);
                Some(Err(EngineError::new(ErrorKind::Connection, reason)))
            }
        }
    }
}
