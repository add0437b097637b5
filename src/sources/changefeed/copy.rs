//! The tables of a changefeed as they are upstream, copied before its messages are read.

use std::collections::BTreeMap;

use super::Copies;
use super::run::{Broken, Ended, Runner};
use crate::sources::log::Fault;
use crate::sources::mysql::connect::{self, Options};
use crate::sources::mysql::gtid::GtidSet;
use crate::sources::mysql::snapshot::{Progress, Reading, Snapshot};
use crate::sources::{Event, FollowedTable};

const PROGRESS_REPORTS_MAX: usize = 16;

impl Runner {
    /// Copies the new tables, and has passed over what the copy has: the commits up to its timestamp, or the
    /// transactions of its GTID set. All that was in the log before it is among that.
    pub(super) async fn copy(&mut self, options: &Options, tables: &[FollowedTable]) -> Result<(), Broken> {
        match self.feed.copies {
            Copies::No => {}
            Copies::ByTime => {
                let (reading, tso) = Reading::of_tidb(options, tables).await.map_err(fault)?;
                self.load(reading).await?;
                self.standing.state = Some(tso + 1);
            }
            Copies::ByGtid => {
                // Nothing was read yet: whatever the server has may be the point.
                let opened = Snapshot::open(options, tables, &GtidSet::default(), &BTreeMap::new()).await;
                let Snapshot { set, rows, .. } = opened.map_err(fault)?;
                self.load(rows).await?;
                self.standing.past = Some(set.to_string());
                self.feed.decode.pass_over(set);
            }
        }
        Ok(())
    }

    async fn load(&mut self, reading: Reading) -> Result<(), Broken> {
        let (reports, mut progress) = tokio::sync::mpsc::channel(PROGRESS_REPORTS_MAX);
        let load = reading.load(self.store(), reports);
        tokio::pin!(load);
        loop {
            tokio::select! {
                loaded = &mut load => {
                    self.copied = loaded.map_err(fault)?;
                    return Ok(());
                }
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
