//! Statements in the binlog: a transaction's edges, and what changes a table other than by rows.

use mysql_common::binlog::events::{Event, QueryEvent};

use super::super::connect::Fault;
use super::super::ddl::{self, Query, What};
use super::{Assembler, Commit};

impl Assembler {
    pub fn query(&mut self, event: &Event) -> Result<Option<Commit>, Fault> {
        let query: QueryEvent<'_> = self.parsed(event)?;
        let query = ddl::read(&query.query(), &query.schema());
        self.statement(&query)?;
        let corrupt = self.corrupt("a statement outside of a transaction");
        let open = self.open.as_mut().ok_or(corrupt)?;
        match query {
            Query::Begin | Query::XaBegin => {
                open.begun = true;
                open.is_xa = query == Query::XaBegin;
                Ok(None)
            }
            Query::Mark => Ok(None),
            Query::Changes(_) if open.begun => Ok(None),
            Query::Rollback if open.has_rows() => Err(Fault::stop(
                "ROLLBACK_LOGGED",
                "rows of a followed table are in a transaction that ends with ROLLBACK",
                "use a transactional engine (InnoDB) for followed tables, then drop and create the source",
            )),
            Query::Commit | Query::Rollback | Query::Changes(_) => self.commit().map(Some),
            Query::XaCommit(xid) => self.xa_end(xid, true).map(Some),
            Query::XaRollback(xid) => self.xa_end(xid, false).map(Some),
        }
    }

    /// Stops where a statement changes a followed table other than by rows.
    pub fn statement(&mut self, query: &Query) -> Result<(), Fault> {
        let Query::Changes(changes) = query else { return Ok(()) };
        for change in changes {
            for ((database, name), followed) in &self.tables {
                let is_meant = *database == change.database && change.table.as_ref().is_none_or(|t| t == name);
                let is_in_snapshot =
                    followed.loading && self.open.as_ref().is_some_and(|open| self.loading_set.contains(&open.gtid));
                if !is_meant || is_in_snapshot {
                    continue;
                }
                let anew = "drop and create the source, so that its tables are read anew";
                let changed = |reason: String| {
                    let message = format!("table {database}.{name}: {reason}");
                    let remedy =
                        format!("{anew}; tools that swap tables (gh-ost, pt-online-schema-change) always need it");
                    Fault::stop("SCHEMA_CHANGED", message, remedy)
                };
                match &change.what {
                    What::Alter(alter) => {
                        let table = &followed.decoder.table;
                        let layout = alter.apply(table.layout(), &table.schema, self.tells_collations);
                        let layout = layout.map_err(changed)?;
                        if layout != table.layout() {
                            self.open.iter_mut().for_each(|open| open.layouts.push((table.id, layout.clone())));
                        }
                    }
                    What::Gone => return Err(changed("it was renamed, replaced or dropped".into())),
                    What::Truncate => {
                        self.open.iter_mut().for_each(|open| open.truncated.push(followed.decoder.table.id));
                    }
                    What::Rows => {
                        let message = format!("table {database}.{name} was changed by a statement, not by row events");
                        let remedy = format!("set binlog_format = ROW in every session, then {anew}");
                        return Err(Fault::stop("STATEMENT_FORMAT", message, remedy));
                    }
                }
            }
        }
        Ok(())
    }
}
