//! Compares what a feed says of the rows before its changes with the store.

use std::time::Duration;

use super::run::{Broken, Runner, store_failed};
use super::upserts::{Upserts, key_text};
use crate::row::ObjectId;
use crate::sources::Stop;
use crate::store::{Disputed, Upsert, Write};

/// How often the store is asked whether it has what was sent.
const POLL: Duration = Duration::from_millis(2);

impl Runner {
    /// Stops at the first row that the store does not bear out. What was sent before is waited for: only then are the
    /// rows in the store those that the feed speaks of.
    pub(super) async fn compare(&mut self, said: &Upserts, upserts: &[(ObjectId, Upsert)]) -> Result<(), Broken> {
        while self.sent.is_some() && self.store().positions().get(&self.link.id) != self.sent.as_ref() {
            tokio::select! {
                command = self.next_command() => self.command(command)?,
                () = tokio::time::sleep(POLL) => {}
            }
        }
        match self.store().disputed(upserts).map_err(store_failed)? {
            None => Ok(()),
            Some(disputed) => Err(self.mismatch(said, disputed).into()),
        }
    }

    fn mismatch(&self, said: &Upserts, disputed: Disputed) -> Stop {
        let (table, (row, write), commit) = said.row(disputed).expect("a row of these upserts");
        let followed = &self.tables.get(table).followed;
        let (verb, found) = match write {
            Write::Insert => ("inserts", "another row with this key is there"),
            Write::Update => ("updates", "no row with this key is there"),
            Write::Delete => ("deletes", "no row with this key is there"),
            Write::Put => unreachable!("it says nothing of the row before"),
        };
        let key = key_text(row, followed);
        let at = commit.map_or(String::new(), |commit| format!("commit {commit} "));
        Stop {
            code: "ROW_MISMATCH",
            message: format!("{at}{verb} row ({key}) of {}.{}, and {found}", followed.database, followed.name),
            position: None,
            remedy: "the feed has lost changes, or was begun behind them: create the source anew with SNAPSHOT FROM \
                     CONNECTION, or with ON MISMATCH HEAL"
                .to_string(),
        }
    }
}
