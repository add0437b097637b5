//! The tables of a changefeed as they are in a TiDB, copied before its messages are read.

use super::run::{Broken, Ended, Runner};
use crate::row::ObjectId;
use crate::sources::log::Fault;
use crate::sources::mysql::connect::{self, Options};
use crate::sources::mysql::snapshot::{Progress, Reading};
use crate::sources::{Event, FollowedTable};

const PROGRESS_REPORTS_MAX: usize = 16;

impl Runner {
    /// The generations of the new tables, and the timestamp up to which every commit is in them.
    pub(super) async fn copy(
        &mut self,
        options: &Options,
        tables: &[FollowedTable],
    ) -> Result<(Vec<(ObjectId, u64)>, u64), Broken> {
        let (reading, tso) = Reading::of_tidb(options, tables).await.map_err(fault)?;
        let (reports, mut progress) = tokio::sync::mpsc::channel(PROGRESS_REPORTS_MAX);
        let load = reading.load(self.store(), reports);
        tokio::pin!(load);
        loop {
            tokio::select! {
                loaded = &mut load => return Ok((loaded.map_err(fault)?, tso)),
                Some(Progress { table, rows, rows_expected }) = progress.recv() => {
                    self.send(Event::Loading { table, rows, rows_expected }).await.map_err(Broken::Ended)?;
                }
                command = self.next_command() => self.command(command)?,
            }
        }
    }
}

fn fault(fault: connect::Fault) -> Broken {
    match fault {
        connect::Fault::Stop(stop) => Broken::Ended(Ended::Stopped(stop)),
        other => Broken::Fault(Fault::Lost { action: "copy the tables", reason: other.to_string() }),
    }
}
