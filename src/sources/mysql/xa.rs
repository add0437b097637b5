//! XA transactions between their PREPARE, where their rows are, and their end, perhaps much later.
//!
//! The server logs both ends as transactions with a GTID each. A prepared transaction with rows of followed tables is
//! not in the position until its end is seen, so that a restart is given it again: nothing of it need be durable here.
//! One without such rows is in the position; it is remembered only for tables that are followed later
//! (`snapshot` says how).

use std::collections::BTreeMap;
use std::fmt;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{Fault, Options, READ_SECONDS_MAX, within};
use super::gtid::{Gtid, GtidSet};
use crate::store::Changes;

/// Prepared transactions that are remembered, those with rows of followed tables and the others each.
const PREPARED_MAX: usize = 1024;

/// A prepared transaction's name, given by its client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xid {
    /// Its low bits: the event has no more.
    format: u32,
    global: Vec<u8>,
    branch: Vec<u8>,
}

/// What was prepared and has not ended.
#[derive(Default)]
pub struct Prepared {
    /// The GTID of the PREPARE and the rows of followed tables, if there are any.
    transactions: BTreeMap<Xid, (Gtid, Option<Changes>)>,
}

impl Xid {
    #[cfg(test)]
    pub fn new(format: u32, global: impl Into<Vec<u8>>, branch: impl Into<Vec<u8>>) -> Xid {
        Xid { format, global: global.into(), branch: branch.into() }
    }

    /// From `XA COMMIT X'61',X'',1`, as the server logs it.
    pub fn in_statement(sql: &str) -> Option<Xid> {
        let (at, _) = sql.match_indices(['X', 'x']).find(|(at, _)| sql[at + 1..].starts_with('\''))?;
        let mut parts = sql[at..].splitn(3, ',').map(str::trim);
        let mut part = || {
            let text = parts.next()?.strip_prefix(['X', 'x'])?;
            bytes(text.strip_prefix('\'')?.strip_suffix('\'')?)
        };
        let (global, branch) = (part()?, part()?);
        Some(Xid { format: parts.next()?.parse::<i64>().ok()? as u32, global, branch })
    }

    /// From an XA_PREPARE event; also whether it is the commit, too (ONE PHASE).
    pub fn in_event(data: &[u8]) -> Option<(bool, Xid)> {
        let number = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
        let (is_one_phase, format) = (*data.first()? != 0, number(1)?);
        let (global, branch) = (number(5)? as usize, number(9)? as usize);
        let names = data.get(13..13 + global.checked_add(branch)?)?;
        Some((is_one_phase, Xid { format, global: names[..global].to_vec(), branch: names[global..].to_vec() }))
    }

    /// From a line of XA RECOVER CONVERT XID: the lengths and the names in hexadecimal.
    fn in_list((format, global, branch, names): (i64, usize, usize, String)) -> Option<Xid> {
        let names = bytes(names.strip_prefix("0x").unwrap_or_default())?;
        let (global, branch) = names.split_at_checked(global).filter(|(_, rest)| rest.len() == branch)?;
        Some(Xid { format: format as u32, global: global.to_vec(), branch: branch.to_vec() })
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        write!(f, "X'{}',X'{}',{}", hex(&self.global), hex(&self.branch), self.format)
    }
}

impl Prepared {
    pub fn add(&mut self, xid: Xid, gtid: Gtid, rows: Option<Changes>) -> Result<(), Fault> {
        let has_rows = rows.is_some();
        let alike = self.transactions.values().filter(|(_, rows)| rows.is_some() == has_rows).count();
        if alike >= PREPARED_MAX && has_rows {
            let message = format!("{PREPARED_MAX} XA transactions on followed tables are prepared and not ended");
            let remedy = "XA RECOVER lists them: commit or roll them back, then drop and create the source";
            return Err(Fault::stop("XA_TOO_MANY", message, remedy));
        }
        // One that is forgotten is met with a lock where that matters.
        if alike < PREPARED_MAX {
            self.transactions.insert(xid, (gtid, rows));
        }
        Ok(())
    }

    pub fn remove(&mut self, xid: &Xid) -> Option<(Gtid, Option<Changes>)> {
        self.transactions.remove(xid)
    }

    /// Forgets those that the server gives again after the position.
    pub fn reset(&mut self) {
        self.transactions.retain(|_, (_, rows)| rows.is_none());
    }

    /// Where each was prepared.
    pub fn gtids(&self) -> BTreeMap<Xid, Gtid> {
        self.transactions.iter().map(|(xid, (gtid, _))| (xid.clone(), gtid.clone())).collect()
    }
}

/// What is prepared now; `None`: this account may not ask.
pub async fn listed(options: &Options, conn: &mut Conn) -> Result<Option<Vec<Xid>>, Fault> {
    let asked = async {
        match conn.query("XA RECOVER CONVERT XID").await {
            Err(mysql_async::Error::Server(_)) => Ok(None),
            listed => listed.map(Some),
        }
    };
    let lines = within(options, "list prepared transactions", READ_SECONDS_MAX, asked).await?;
    // A name that cannot be read is one that is not known.
    Ok(lines.and_then(|lines| lines.into_iter().map(Xid::in_list).collect()))
}

/// The transactions that hold the rows of what is listed, if all of them are known and still in the binlog.
pub fn located(listed: &[Xid], known: &BTreeMap<Xid, Gtid>, purged: &GtidSet) -> Option<GtidSet> {
    let mut set = GtidSet::default();
    for xid in listed {
        set.add(known.get(xid).filter(|gtid| !purged.contains(gtid))?);
    }
    Some(set)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    digits.filter(|d| d.len() % 2 == 0).map(|d| d.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xid_is_the_same_from_statement_event_and_list() {
        let xid = Xid::new(7, *b"ab", *b"c");
        assert_eq!(Xid::in_statement("XA COMMIT X'6162',X'63',7"), Some(xid.clone()));
        assert_eq!(Xid::in_statement(&format!("XA ROLLBACK {xid}")), Some(xid.clone()));
        let event = [&[0][..], &[7, 0, 0, 0], &[2, 0, 0, 0], &[1, 0, 0, 0], b"abc"].concat();
        assert_eq!(Xid::in_event(&event), Some((false, xid.clone())));
        assert_eq!(Xid::in_list((7, 2, 1, "0x616263".into())), Some(xid));
        assert_eq!(Xid::in_statement("XA COMMIT 'a'"), None);
        assert_eq!(Xid::in_event(&event[..15]), None);
        assert_eq!(Xid::in_list((7, 2, 2, "0x616263".into())), None);
    }

    #[test]
    fn prepared_transactions_are_bounded_and_those_with_rows_stop_the_source() {
        let gtid = |number| Gtid { origin: super::super::gtid::Origin { uuid: [1; 16], tag: String::new() }, number };
        let xid = |number: u64| Xid::new(1, number.to_be_bytes(), []);
        let mut prepared = Prepared::default();
        for number in 1..=PREPARED_MAX as u64 + 1 {
            assert!(prepared.add(xid(number), gtid(number), None).is_ok());
        }
        assert_eq!(prepared.gtids().len(), PREPARED_MAX);
        for number in 2001..=2000 + PREPARED_MAX as u64 {
            assert!(prepared.add(xid(number), gtid(number), Some(Changes::none())).is_ok());
        }
        let Err(Fault::Stop(stop)) = prepared.add(xid(9), gtid(9), Some(Changes::none())) else { panic!("no bound") };
        assert!(stop.code == "XA_TOO_MANY" && stop.remedy.contains("XA RECOVER"), "{stop:?}");
        prepared.reset();
        assert_eq!(prepared.gtids().len(), PREPARED_MAX);
    }
}
