//! The ledger: tables of ours in the target that say what it holds, with the writer's fence.
//!
//! Any SQL client may read them. On MySQL's protocol `_tidemill.fence` and `_tidemill.views`, in SQLite
//! `_tidemill_fence` and `_tidemill_views`:
//!
//! ```text
//! fence   target      the connection's name in the server that writes
//!         epoch       grows by 1 each time a server takes the target
//!         owner       which server took it
//!         sequence    grows by 1 with each transaction of ours
//!         ts          milliseconds since 1970-01-01 UTC: the consistent point all live tables show
//!         store_id    the data directory behind it, hexadecimal
//!         tick        the number of the tick at ts in that data directory
//!         positions   JSON: source name to GTID set, offsets or TSO at ts
//! views   target, view_name
//!         table_name  JSON: [database, table]
//!         state       loading: being filled, not to be read · flipping: filled, about to get its name · live
//!         ts          the point that this table shows; a live table of a held view stays behind the fence's
//!         generation  grows by 1 with each load
//!         plan_hash   of the view's plan, hexadecimal
//!         semantics   version of how results are computed and encoded
//!         store_id, tick, rows_loaded
//! ```
//!
//! Each transaction of ours *writes* the fence row first, where its epoch is ours: a server that lost the target
//! changes no row there and stops, and one that is taking it waits for a commit still on its way.

use std::collections::BTreeMap;

use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};
use crate::row::{Position, Ts};
use crate::target::Target;
use crate::target::dialect::Dialect;
use crate::target::error::TargetError;

/// Changes with every encoding or result that differs from before: a table of another version is loaded by diff.
pub const SEMANTICS_VERSION: u32 = 1;

/// What the ledger says of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    pub view: String,
    pub table: Vec<String>,
    pub state: State,
    pub ts: Ts,
    pub generation: u64,
    pub plan_hash: u64,
    pub semantics: u32,
    pub store_id: u128,
    pub tick: u64,
    pub rows_loaded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Loading,
    Flipping,
    Live,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Loading => "loading",
            State::Flipping => "flipping",
            State::Live => "live",
        }
    }
}

impl LedgerRow {
    /// The table holds the view's rows at `ts`, under its own name or about to get it.
    pub fn is_live(&self) -> bool {
        self.state != State::Loading
    }
}

/// The consistent point that a transaction of ours moves the target to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub ts: Ts,
    pub store_id: u128,
    pub tick: u64,
    pub positions: Vec<(String, Position)>,
}

/// This server's hold on a target.
#[derive(Clone, Debug)]
pub struct Ledger {
    target: String,
    owner: String,
    epoch: Option<i64>,
    /// Transactions of ours that are known to be committed.
    sequence: i64,
}

impl Ledger {
    pub fn new(target: &str, owner: &str) -> Ledger {
        Ledger { target: target.to_string(), owner: owner.to_string(), epoch: None, sequence: 0 }
    }

    /// Takes the target when this server has not yet, else makes sure it still has it. True if a transaction whose
    /// COMMIT was not answered is committed after all; this waits until it is decided.
    pub async fn hold(&mut self, target: &mut dyn Target) -> Result<bool, TargetError> {
        if self.epoch.is_none() {
            create(target).await?;
        }
        target.begin().await?;
        let found = self.fence_row(target).await?;
        let Some(epoch) = self.epoch else {
            let (epoch, sequence) = found.map_or((1, 0), |(epoch, _, sequence)| (epoch + 1, sequence));
            self.take(target, epoch, sequence).await?;
            target.commit().await?;
            (self.epoch, self.sequence) = (Some(epoch), sequence);
            return Ok(false);
        };
        target.rollback().await?;
        match found {
            // At most one transaction is in doubt; anything else was written by hand or restored.
            Some((found, _, sequence)) if found == epoch && (0..=1).contains(&(sequence - self.sequence)) => {
                Ok(std::mem::replace(&mut self.sequence, sequence) < sequence)
            }
            Some((found, _, _)) if found == epoch => {
                Err(TargetError::Fenced("somebody who changed or restored the ledger: start this server again".into()))
            }
            found => Err(fenced(found)),
        }
    }

    /// The first statement of every transaction of ours.
    pub async fn fence(&self, target: &mut dyn Target, point: Option<&Point>) -> Result<(), TargetError> {
        let dialect = target.dialect();
        let epoch = self.epoch.expect("a target is written to only while it is held");
        let moves = point.map_or(String::new(), |point| {
            let positions: BTreeMap<&String, &String> = point.positions.iter().map(|(s, p)| (s, &p.0)).collect();
            let positions = serde_json::to_string(&positions).expect("texts are always JSON");
            let positions = dialect.quoted(&positions);
            format!(", ts={}, store_id='{:032x}', tick={}, positions={positions}", point.ts, point.store_id, point.tick)
        });
        let (fence, name) = (table(dialect, "fence"), dialect.quoted(&self.target));
        let sql = format!("UPDATE {fence} SET sequence=sequence+1{moves} WHERE target={name} AND epoch={epoch}");
        match target.execute(sql).await? {
            1 => Ok(()),
            _ => Err(fenced(self.fence_row(target).await?)),
        }
    }

    /// Commits a transaction that `fence` began.
    pub async fn commit(&mut self, target: &mut dyn Target) -> Result<(), TargetError> {
        target.commit().await?;
        self.sequence += 1;
        Ok(())
    }

    /// Writes what a view's table holds, in the transaction that changes the table.
    pub async fn write(&self, target: &mut dyn Target, rows: &[LedgerRow]) -> Result<(), TargetError> {
        if rows.is_empty() {
            return Ok(());
        }
        let dialect = target.dialect();
        let values: Vec<String> = rows
            .iter()
            .map(|row| {
                let path = serde_json::to_string(&row.table).expect("texts are always JSON");
                format!(
                    "({},{},{},'{}',{},{},'{:016x}',{},'{:032x}',{},{})",
                    dialect.quoted(&self.target),
                    dialect.quoted(&row.view),
                    dialect.quoted(&path),
                    row.state.word(),
                    row.ts,
                    row.generation,
                    row.plan_hash,
                    row.semantics,
                    row.store_id,
                    row.tick,
                    row.rows_loaded
                )
            })
            .collect();
        let all: Vec<String> = VIEW_COLUMNS.iter().map(|c| c.to_string()).collect();
        let (columns, views) = (VIEW_COLUMNS.join(","), table(dialect, "views"));
        let update = dialect.on_duplicate(&all[..2], &all[2..]);
        target.execute(format!("INSERT INTO {views} ({columns}) VALUES {}{update}", values.join(","))).await?;
        Ok(())
    }

    pub async fn forget(&self, target: &mut dyn Target, view: &str) -> Result<(), TargetError> {
        let dialect = target.dialect();
        let (views, name, view) = (table(dialect, "views"), dialect.quoted(&self.target), dialect.quoted(view));
        target.execute(format!("DELETE FROM {views} WHERE target={name} AND view_name={view}")).await.map(drop)
    }

    pub async fn rows(&self, target: &mut dyn Target) -> Result<Vec<LedgerRow>, TargetError> {
        read(target, &self.target).await
    }

    async fn take(&self, target: &mut dyn Target, epoch: i64, sequence: i64) -> Result<(), TargetError> {
        let dialect = target.dialect();
        let (fence, name, owner) = (table(dialect, "fence"), dialect.quoted(&self.target), dialect.quoted(&self.owner));
        let update = dialect.on_duplicate(&["target".into()], &["epoch".into(), "owner".into()]);
        let values = format!("{name},{epoch},{owner},{sequence},0,'',0,'{{}}'");
        let columns = "target,epoch,owner,sequence,ts,store_id,tick,positions";
        target.execute(format!("INSERT INTO {fence} ({columns}) VALUES ({values}){update}")).await.map(drop)
    }

    /// Epoch, owner and sequence; waits for a transaction that has written them.
    async fn fence_row(&self, target: &mut dyn Target) -> Result<Option<(i64, String, i64)>, TargetError> {
        let dialect = target.dialect();
        let (fence, name) = (table(dialect, "fence"), dialect.quoted(&self.target));
        let lock = dialect.for_update();
        let sql = format!("SELECT epoch,owner,sequence FROM {fence} WHERE target={name}{lock}");
        let rows = target.rows(sql, vec![BIGINT, SqlType::Varchar(255), BIGINT]).await?;
        rows.into_iter().next().map(|row| Ok((integer(&row[0])?, text(&row[1])?, integer(&row[2])?))).transpose()
    }
}

/// The ledger's rows of one target; none where no server has written yet.
pub async fn read(target: &mut dyn Target, name: &str) -> Result<Vec<LedgerRow>, TargetError> {
    create(target).await?;
    let dialect = target.dialect();
    let (columns, views, name) = (VIEW_COLUMNS.join(","), table(dialect, "views"), dialect.quoted(name));
    let texts = SqlType::Varchar(255);
    let types = vec![
        texts.clone(),
        texts.clone(),
        texts.clone(),
        texts.clone(),
        BIGINT,
        BIGINT,
        texts.clone(),
        BIGINT,
        texts,
        BIGINT,
        BIGINT,
    ];
    let sql = format!("SELECT {columns} FROM {views} WHERE target={name} ORDER BY view_name");
    target.rows(sql, types).await?.iter().map(|row| ledger_row(row)).collect()
}

const VIEW_COLUMNS: [&str; 11] = [
    "target",
    "view_name",
    "table_name",
    "state",
    "ts",
    "generation",
    "plan_hash",
    "semantics",
    "store_id",
    "tick",
    "rows_loaded",
];

fn table(dialect: Dialect, name: &str) -> String {
    if dialect.is_sqlite() { format!("_tidemill_{name}") } else { format!("_tidemill.{name}") }
}

async fn create(target: &mut dyn Target) -> Result<(), TargetError> {
    let dialect = target.dialect();
    let (end, key) = match dialect {
        Dialect::Sqlite => ("", ""),
        _ => (" DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", " COLLATE utf8mb4_bin"),
    };
    if !dialect.is_sqlite() {
        // Asked first: a user who may write there need not have the right to create databases.
        let sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='_tidemill' \
                   AND table_name IN ('fence','views')";
        let there = target.rows(sql.into(), vec![BIGINT]).await?;
        if there[0][0] == Datum::Int(2) {
            return Ok(());
        }
        target.execute("CREATE DATABASE IF NOT EXISTS _tidemill".into()).await?;
    }
    let fence = table(dialect, "fence");
    let columns = format!(
        "target VARCHAR(64){key} NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, owner VARCHAR(255) NOT NULL, \
         sequence BIGINT NOT NULL, ts BIGINT NOT NULL, store_id VARCHAR(32) NOT NULL, tick BIGINT NOT NULL, \
         positions TEXT NOT NULL"
    );
    target.execute(format!("CREATE TABLE IF NOT EXISTS {fence} ({columns}){end}")).await?;
    let views = table(dialect, "views");
    let columns = format!(
        "target VARCHAR(64){key} NOT NULL, view_name VARCHAR(255){key} NOT NULL, table_name TEXT NOT NULL, \
         state VARCHAR(16) NOT NULL, ts BIGINT NOT NULL, generation BIGINT NOT NULL, plan_hash VARCHAR(16) NOT NULL, \
         semantics BIGINT NOT NULL, store_id VARCHAR(32) NOT NULL, tick BIGINT NOT NULL, rows_loaded BIGINT NOT NULL, \
         PRIMARY KEY (target, view_name)"
    );
    target.execute(format!("CREATE TABLE IF NOT EXISTS {views} ({columns}){end}")).await.map(drop)
}

fn fenced(found: Option<(i64, String, i64)>) -> TargetError {
    TargetError::Fenced(found.map_or("nobody: the fence row is gone".into(), |(_, owner, _)| owner))
}

fn ledger_row(row: &[Datum]) -> Result<LedgerRow, TargetError> {
    let bad = |what: &str| TargetError::Refused(format!("the ledger has a bad {what}"));
    Ok(LedgerRow {
        view: text(&row[1])?,
        table: serde_json::from_str(&text(&row[2])?).map_err(|_| bad("table_name"))?,
        state: match text(&row[3])?.as_str() {
            "live" => State::Live,
            "flipping" => State::Flipping,
            _ => State::Loading,
        },
        ts: Ts(integer(&row[4])? as u64),
        generation: integer(&row[5])? as u64,
        plan_hash: u64::from_str_radix(&text(&row[6])?, 16).map_err(|_| bad("plan_hash"))?,
        semantics: integer(&row[7])? as u32,
        store_id: u128::from_str_radix(&text(&row[8])?, 16).map_err(|_| bad("store_id"))?,
        tick: integer(&row[9])? as u64,
        rows_loaded: integer(&row[10])? as u64,
    })
}

fn integer(datum: &Datum) -> Result<i64, TargetError> {
    match datum {
        Datum::Int(v) => Ok(*v),
        other => Err(TargetError::Refused(format!("the ledger has {other:?} where a number belongs"))),
    }
}

fn text(datum: &Datum) -> Result<String, TargetError> {
    match datum {
        Datum::Text(v) => Ok(v.clone()),
        other => Err(TargetError::Refused(format!("the ledger has {other:?} where a text belongs"))),
    }
}
