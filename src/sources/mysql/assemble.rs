//! Events into transactions: rows of followed tables are collected from a GTID event to its commit.
//!
//! A table is *live* (its changes go with their transaction) or *loading* (changes that its snapshot does not have are
//! kept). Whatever could make a followed table's rows differ from the server's and is no row event stops the source.
//! Rows of an XA transaction wait for its end; which tables take them is decided then.

mod query;
mod xa;

use std::collections::BTreeMap;
use std::sync::Arc;

use mysql_common::binlog::consts::{EventFlags, EventType};
use mysql_common::binlog::events::{
    Event, ExecuteLoadQueryEvent, FormatDescriptionEvent, GtidEvent, IncidentEvent, RowsEventData, TableMapEvent,
};

use super::connect::{Fault, Options};
use super::ddl;
use super::decode::{Batch, Decoder, RowMap, Undecodable};
use super::gtid::{Gtid, GtidSet, Origin};
use super::xa::{Prepared, Xid};
use crate::row::ObjectId;
use crate::row::delta::Delta;
use crate::row::schema::Layout;
use crate::sources::FollowedTable;
use crate::store::{Changes, Stage, Store, StoreError};

/// The library does not know this one: a heartbeat with a 64-bit position.
const HEARTBEAT_V2: u8 = 0x29;

pub struct Assembler {
    options: Options,
    store: Arc<Store>,
    /// By database and name.
    tables: BTreeMap<(String, String), Followed>,
    /// What the snapshot being loaded has.
    loading_set: GtidSet,
    /// The last table map of each table: servers send one with every statement, mostly the same.
    maps: BTreeMap<ObjectId, (Vec<u8>, Arc<RowMap>)>,
    open: Option<Open>,
    prepared: Prepared,
    /// Since MySQL 8.0 table maps tell the collations of text columns.
    tells_collations: bool,
}

/// One transaction that committed upstream.
pub struct Commit {
    /// What the position has from here on: two where an XA transaction ends, none where one waits for its end.
    pub gtids: Vec<Gtid>,
    pub committed_ms: Option<u64>,
    /// Of live tables.
    pub changes: Changes,
    /// Of loading tables.
    pub kept: Changes,
    /// Tables whose rows are all gone; then there are no other changes.
    pub truncated: Vec<ObjectId>,
    /// The columns of altered tables from here on.
    pub layouts: Vec<(ObjectId, Vec<String>)>,
}

struct Followed {
    decoder: Arc<Decoder>,
    loading: bool,
}

/// A transaction between its GTID and its commit.
struct Open {
    gtid: Gtid,
    committed_ms: Option<u64>,
    /// In BEGIN … COMMIT: otherwise a statement is a transaction by itself.
    begun: bool,
    /// In XA START … PREPARE: all rows are in `live` until it is known where they go.
    is_xa: bool,
    maps: BTreeMap<u64, Option<(Arc<RowMap>, bool)>>,
    /// Rows not yet staged, of one table.
    batch: Option<(ObjectId, bool, Batch)>,
    live: Option<Stage>,
    kept: Option<Stage>,
    truncated: Vec<ObjectId>,
    layouts: Vec<(ObjectId, Vec<String>)>,
}

impl Assembler {
    pub fn new(options: Options, store: Arc<Store>, live: Vec<FollowedTable>) -> Assembler {
        let live = live
            .into_iter()
            .map(|table| (key(&table), Followed { decoder: Arc::new(Decoder::new(table)), loading: false }));
        let tables = live.collect();
        Assembler {
            options,
            store,
            tables,
            loading_set: GtidSet::default(),
            maps: BTreeMap::new(),
            open: None,
            prepared: Prepared::default(),
            tells_collations: false,
        }
    }

    pub fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    pub fn table(&self, table: ObjectId) -> Option<&FollowedTable> {
        self.followed(table).map(|t| &t.decoder.table)
    }

    fn followed(&self, table: ObjectId) -> Option<&Followed> {
        self.tables.values().find(|t| t.decoder.table.id == table)
    }

    /// Where each transaction was prepared that waits for its end.
    pub fn prepared(&self) -> BTreeMap<Xid, Gtid> {
        self.prepared.gtids()
    }

    /// From the next transaction on, the table's columns are the last of its layouts.
    pub fn set_layouts(&mut self, table: ObjectId, layouts: Vec<Layout>) {
        let followed = self.tables.values_mut().find(|t| t.decoder.table.id == table);
        let followed = followed.expect("only followed tables are altered");
        let table = FollowedTable { layouts, ..followed.decoder.table.clone() };
        self.maps.remove(&table.id);
        followed.decoder = Arc::new(Decoder::new(table));
    }

    /// From the next transaction on, changes of these tables that are not in the set are kept.
    pub fn start_loading(&mut self, tables: &[Arc<Decoder>], set: GtidSet) {
        assert!(self.open.is_none(), "loading starts between transactions");
        self.loading_set = set;
        for decoder in tables {
            self.tables.insert(key(&decoder.table), Followed { decoder: decoder.clone(), loading: true });
        }
    }

    /// The loading tables are live from now on.
    pub fn finish_loading(&mut self) {
        self.tables.values_mut().for_each(|t| t.loading = false);
    }

    pub fn forget(&mut self, forgotten: &[ObjectId]) {
        self.tables.retain(|_, t| !forgotten.contains(&t.decoder.table.id));
        self.maps.retain(|id, _| !forgotten.contains(id));
    }

    /// The link broke: a transaction without its commit never was, and what is not in the position comes again.
    pub fn reset(&mut self) {
        self.open = None;
        self.prepared.reset();
    }

    /// Takes the next event; a transaction when the event commits it.
    pub fn event(&mut self, event: &Event) -> Result<Option<Commit>, Fault> {
        let Ok(event_type) = event.header().event_type() else {
            return self.unknown_event(event);
        };
        use EventType::*;
        match event_type {
            GTID_EVENT | GTID_TAGGED_LOG_EVENT => self.begin(event)?,
            ANONYMOUS_GTID_EVENT => {
                let remedy = "set gtid_mode = ON on the server; VALIDATE CONNECTION lists the statements";
                return Err(Fault::stop("GTID_OFF", "a transaction without a GTID is in the binlog", remedy));
            }
            QUERY_EVENT => return self.query(event),
            XID_EVENT => return self.commit().map(Some),
            XA_PREPARE_LOG_EVENT => return self.xa_prepare(event),
            TABLE_MAP_EVENT => self.table_map(event)?,
            WRITE_ROWS_EVENT
            | UPDATE_ROWS_EVENT
            | DELETE_ROWS_EVENT
            | WRITE_ROWS_EVENT_V1
            | UPDATE_ROWS_EVENT_V1
            | DELETE_ROWS_EVENT_V1
            | PARTIAL_UPDATE_ROWS_EVENT => self.rows(event)?,
            EXECUTE_LOAD_QUERY_EVENT => {
                let load: ExecuteLoadQueryEvent<'_> = self.parsed(event)?;
                self.statement(&ddl::read(&load.query(), &load.schema()))?;
            }
            INCIDENT_EVENT => {
                let incident: IncidentEvent<'_> = self.parsed(event)?;
                let message = format!("the server lost events of its binlog: {}", incident.message());
                return Err(Fault::stop(
                    "SOURCE_INCIDENT",
                    message,
                    "drop and create the source, so that its tables are copied anew",
                ));
            }
            FORMAT_DESCRIPTION_EVENT => {
                let format: FormatDescriptionEvent<'_> = self.parsed(event)?;
                let major = format.server_version().split('.').next().and_then(|major| major.parse().ok());
                self.tells_collations = major.is_some_and(|major: u32| major >= 8);
            }
            // Files' edges, heartbeats, comments, the context of statements, the shell of a compressed transaction.
            ROTATE_EVENT
            | STOP_EVENT
            | PREVIOUS_GTIDS_EVENT
            | HEARTBEAT_EVENT
            | IGNORABLE_EVENT
            | ROWS_QUERY_EVENT
            | INTVAR_EVENT
            | RAND_EVENT
            | USER_VAR_EVENT
            | BEGIN_LOAD_QUERY_EVENT
            | APPEND_BLOCK_EVENT
            | DELETE_FILE_EVENT
            | TRANSACTION_CONTEXT_EVENT
            | VIEW_CHANGE_EVENT
            | TRANSACTION_PAYLOAD_EVENT => {}
            _ => return self.unknown_event(event),
        }
        Ok(None)
    }

    fn begin(&mut self, event: &Event) -> Result<(), Fault> {
        let gtid: GtidEvent = self.parsed(event)?;
        let tag = gtid.tag().map(|t| t.as_str().to_string()).unwrap_or_default();
        let micros = match gtid.immediate_commit_timestamp() {
            0 => event.header().timestamp() as u64 * 1_000_000,
            micros => micros,
        };
        if let Some(open) = &self.open {
            tracing::warn!(gtid = %open.gtid, "the binlog has the transaction without its commit: it is dropped");
        }
        self.open = Some(Open {
            gtid: Gtid { origin: Origin { uuid: gtid.sid(), tag }, number: gtid.gno() },
            committed_ms: (micros > 0).then_some(micros / 1000),
            begun: false,
            is_xa: false,
            maps: BTreeMap::new(),
            batch: None,
            live: None,
            kept: None,
            truncated: Vec::new(),
            layouts: Vec::new(),
        });
        Ok(())
    }

    fn table_map(&mut self, event: &Event) -> Result<(), Fault> {
        let map: TableMapEvent<'_> = self.parsed(event)?;
        let corrupt = self.corrupt("a table map outside of a transaction");
        let Some(open) = &mut self.open else { return Err(corrupt) };
        let name = (map.database_name().into_owned(), map.table_name().into_owned());
        let wanted = self.tables.get(&name).filter(|t| !(t.loading && self.loading_set.contains(&open.gtid)));
        let Some(followed) = wanted else {
            open.maps.insert(map.table_id(), None);
            return Ok(());
        };
        // Behind the table's number, which changes, lies what matters.
        let content = event.data().get(6..).unwrap_or_default();
        let id = followed.decoder.table.id;
        let row_map = match self.maps.get(&id) {
            Some((known, row_map)) if known == content => row_map.clone(),
            _ => {
                let row_map = followed.decoder.map(&map).map_err(|e| undecodable(&followed.decoder, e))?;
                let row_map = Arc::new(row_map);
                self.maps.insert(id, (content.to_vec(), row_map.clone()));
                row_map
            }
        };
        open.maps.insert(map.table_id(), Some((row_map, followed.loading && !open.is_xa)));
        Ok(())
    }

    fn rows(&mut self, event: &Event) -> Result<(), Fault> {
        use EventType::*;
        let rows = match event.header().event_type() {
            Ok(WRITE_ROWS_EVENT) => RowsEventData::WriteRowsEvent(self.parsed(event)?),
            Ok(UPDATE_ROWS_EVENT) => RowsEventData::UpdateRowsEvent(self.parsed(event)?),
            Ok(DELETE_ROWS_EVENT) => RowsEventData::DeleteRowsEvent(self.parsed(event)?),
            Ok(WRITE_ROWS_EVENT_V1) => RowsEventData::WriteRowsEventV1(self.parsed(event)?),
            Ok(UPDATE_ROWS_EVENT_V1) => RowsEventData::UpdateRowsEventV1(self.parsed(event)?),
            Ok(DELETE_ROWS_EVENT_V1) => RowsEventData::DeleteRowsEventV1(self.parsed(event)?),
            _ => RowsEventData::PartialUpdateRowsEvent(self.parsed(event)?),
        };
        let corrupt = self.corrupt("rows without a table map");
        let Some(open) = &mut self.open else { return Err(corrupt) };
        let (row_map, loading) = match open.maps.get(&rows.table_id()) {
            Some(Some((row_map, loading))) => (row_map.clone(), *loading),
            Some(None) => return Ok(()),
            None => return Err(corrupt),
        };
        let decoder = row_map.decoder();
        let id = decoder.table.id;
        if open.batch.as_ref().is_some_and(|(table, _, _)| *table != id) {
            open.flush(&self.store).map_err(|e| self.options.lost("stage a transaction", e))?;
        }
        let (_, _, batch) = open.batch.get_or_insert_with(|| (id, loading, decoder.batch()));
        row_map.decode(&rows, batch).map_err(|e| undecodable(decoder, e))?;
        if batch.is_full() {
            open.flush(&self.store).map_err(|e| self.options.lost("stage a transaction", e))?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Commit, Fault> {
        let corrupt = self.corrupt("a commit outside of a transaction");
        let mut open = self.open.take().ok_or(corrupt)?;
        let staged = open.flush(&self.store).and_then(|()| {
            let finish = |stage: Option<Stage>| stage.map_or(Ok(Changes::none()), Stage::finish);
            Ok((finish(open.live)?, finish(open.kept)?))
        });
        let (changes, kept) = staged.map_err(|e| self.options.lost("stage a transaction", e))?;
        let Open { gtid, committed_ms, truncated, layouts, .. } = open;
        Ok(Commit { gtids: vec![gtid], committed_ms, changes, kept, truncated, layouts })
    }

    fn unknown_event(&self, event: &Event) -> Result<Option<Commit>, Fault> {
        let number = event.header().event_type_raw();
        if number == HEARTBEAT_V2 || event.header().flags().contains(EventFlags::LOG_EVENT_IGNORABLE_F) {
            return Ok(None);
        }
        let message = format!("the binlog has an event of type {number}, which this version does not know");
        Err(Fault::stop(
            "EVENT_UNKNOWN",
            message,
            "use a version of the server that this version reads, or a later tidemill",
        ))
    }

    fn parsed<'a, T: mysql_common::binlog::BinlogEvent<'a>>(&self, event: &'a Event) -> Result<T, Fault> {
        event.read_event().map_err(|e| self.corrupt(&format!("an event of type {:?}: {e}", T::EVENT_TYPE)))
    }

    fn corrupt(&self, reason: &str) -> Fault {
        Fault::Corrupt { server: self.options.server(), reason: format!("the binlog has {reason}") }
    }
}

impl Open {
    fn has_rows(&self) -> bool {
        self.batch.is_some() || self.live.is_some() || self.kept.is_some()
    }

    fn flush(&mut self, store: &Arc<Store>) -> Result<(), StoreError> {
        let Some((table, loading, mut batch)) = self.batch.take() else { return Ok(()) };
        let Some(delta) = batch.take() else { return Ok(()) };
        self.stage(store, loading, table, delta)
    }

    fn stage(&mut self, store: &Arc<Store>, loading: bool, table: ObjectId, delta: Delta) -> Result<(), StoreError> {
        let stage = if loading { &mut self.kept } else { &mut self.live };
        stage.get_or_insert_with(|| store.stage()).push(table, delta)
    }
}

fn key(table: &FollowedTable) -> (String, String) {
    (table.database.clone(), table.name.clone())
}

fn undecodable(decoder: &Decoder, error: Undecodable) -> Fault {
    let message = format!("table {}.{}: {error}", decoder.table.database, decoder.table.name);
    let anew = "drop and create the source, so that its tables are read anew";
    match error {
        Undecodable::Schema { .. } => Fault::stop("SCHEMA_CHANGED", message, anew),
        Undecodable::PartialImage { .. } => {
            let remedy = format!("set binlog_row_image = FULL in every session, then {anew}");
            Fault::stop("ROW_IMAGE_PARTIAL", message, remedy)
        }
        Undecodable::PartialJson => {
            let remedy = format!("set binlog_row_value_options = '' in every session, then {anew}");
            Fault::stop("ROW_IMAGE_PARTIAL", message, remedy)
        }
        Undecodable::Value { .. } | Undecodable::Cut { .. } => {
            Fault::stop("VALUE_UNREADABLE", message, format!("EXCLUDE the column: {anew}"))
        }
    }
}
