//! The two ends of an XA transaction: its rows are held from the one to the other.

use mysql_common::binlog::events::Event;

use super::super::connect::Fault;
use super::super::gtid::Gtid;
use super::super::xa::Xid;
use super::{Assembler, Commit};
use crate::store::{Changes, Stage};

impl Assembler {
    /// An XA transaction's rows are all here, and are held until it ends; ONE PHASE ends it at once.
    pub fn xa_prepare(&mut self, event: &Event) -> Result<Option<Commit>, Fault> {
        let corrupt = self.corrupt("an XA PREPARE that cannot be read");
        let (is_one_phase, xid) = Xid::in_event(event.data()).ok_or(corrupt)?;
        let lost = |e| self.options.lost("stage a prepared transaction", e);
        if let (false, Some(open)) = (is_one_phase, &mut self.open) {
            // Many may wait for long: none of them in memory.
            open.flush(&self.store).map_err(lost)?;
            open.live.as_mut().map_or(Ok(()), Stage::spill).map_err(lost)?;
        }
        let mut commit = self.commit()?;
        let rows = std::mem::replace(&mut commit.changes, Changes::none());
        if is_one_phase {
            (commit.changes, commit.kept) = self.settle(rows, &commit.gtids[0])?;
        } else if rows.rows() > 0 {
            self.prepared.add(xid, commit.gtids.remove(0), Some(rows))?;
        } else {
            self.prepared.add(xid, commit.gtids[0].clone(), None)?;
        }
        Ok(Some(commit))
    }

    pub fn xa_end(&mut self, xid: Option<Xid>, is_commit: bool) -> Result<Commit, Fault> {
        let xid = xid.ok_or_else(|| self.corrupt("the end of an XA transaction without its name"))?;
        let mut commit = self.commit()?;
        // One that is not known changed no table that is followed: see `snapshot`.
        let Some((gtid, rows)) = self.prepared.remove(&xid) else { return Ok(commit) };
        if let Some(rows) = rows.filter(|_| is_commit) {
            (commit.changes, commit.kept) = self.settle(rows, &commit.gtids[0])?;
        }
        commit.gtids.push(gtid);
        Ok(commit)
    }

    /// Rows of an XA transaction that ends there, for live tables and for loading ones.
    fn settle(&self, rows: Changes, end: &Gtid) -> Result<(Changes, Changes), Fault> {
        let (mut live, mut kept) = (self.store.stage(), self.store.stage());
        let staged = rows.deltas(&self.store).try_for_each(|delta| {
            let (table, delta) = delta?;
            match self.followed(table) {
                Some(followed) if !followed.loading => live.push(table, delta),
                Some(_) if !self.loading_set.contains(end) => kept.push(table, delta),
                _ => Ok(()),
            }
        });
        let settled = staged.and_then(|()| Ok((live.finish()?, kept.finish()?)));
        settled.map_err(|e| self.options.lost("stage a transaction", e))
    }
}
