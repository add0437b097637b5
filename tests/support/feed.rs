//! A source under test with a store behind it: every transaction becomes a tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill::row::datum::Datum;
use tidemill::row::schema::Layout;
use tidemill::row::{ObjectId, Position, Ts};
use tidemill::sources::mysql::MySql;
use tidemill::sources::mysql::connect::Options;
use tidemill::sources::mysql::schema;
use tidemill::sources::{Command, Event, FollowedTable, Link, Source, Start, Stop};
use tidemill::store::{Store, Tick};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

const SOURCE: ObjectId = ObjectId(1);
const WAIT_SECONDS_MAX: u64 = 60;

pub struct Feed {
    pub store: Arc<Store>,
    pub tables: Vec<FollowedTable>,
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<(ObjectId, Event)>,
    /// Columns that are not followed: database, table, column.
    pub excluded: Vec<(String, String, String)>,
    pub waiting: Vec<String>,
    /// False: transactions are lost, as by a crash before their tick.
    pub keeps_transactions: bool,
    /// Reports of tables being read.
    pub reports: usize,
    /// Every transaction that changed rows or installed tables.
    pub transactions: usize,
}

impl Feed {
    /// A source that was never read, following nothing.
    pub fn start(options: &Options) -> Feed {
        Feed::resume(options, Arc::new(Store::in_memory()), Vec::new())
    }

    /// A source whose store has ticks already.
    pub fn resume(options: &Options, store: Arc<Store>, tables: Vec<FollowedTable>) -> Feed {
        let (commands, command_receiver) = mpsc::channel(8);
        let (event_sender, events) = mpsc::channel(8);
        let start = Start { position: store.positions().get(&SOURCE).cloned(), tables: tables.clone() };
        let link = Link { store: store.clone(), events: event_sender, commands: command_receiver, id: SOURCE };
        tokio::spawn(Box::new(MySql::new(options.clone())).run(start, link));
        let (excluded, waiting) = (Vec::new(), Vec::new());
        Feed {
            store,
            tables,
            commands,
            events,
            excluded,
            waiting,
            keeps_transactions: true,
            reports: 0,
            transactions: 0,
        }
    }

    /// The process ends and comes again, with what is durable.
    pub fn restart(self, options: &Options) -> Feed {
        let (store, tables) = (self.store.clone(), self.tables.clone());
        drop(self);
        Feed::resume(options, store, tables)
    }

    /// Follows `database.table`s, as their schemas are now, and waits until they are installed.
    pub async fn follow(&mut self, options: &Options, names: &[(&str, &str)]) {
        self.ask_to_follow(options, names).await;
        let wanted: Vec<ObjectId> = self.tables.iter().map(|t| t.id).collect();
        self.until(|feed| wanted.iter().all(|id| feed.store.is_loaded(*id))).await.expect("no stop");
    }

    pub async fn ask_to_follow(&mut self, options: &Options, names: &[(&str, &str)]) {
        let tables = self.declare(options, names).await;
        self.ask(tables).await;
    }

    /// Tables as they are now, of which the source is not told yet.
    pub async fn declare(&mut self, options: &Options, names: &[(&str, &str)]) -> Vec<FollowedTable> {
        let patterns: Vec<_> = names.iter().map(|(d, t)| (d.to_string(), t.to_string())).collect();
        let upstream = schema::tables(options, &patterns, &self.excluded).await.expect("the server answers");
        let known = self.tables.len() as u64;
        let tables: Vec<FollowedTable> = upstream
            .into_iter()
            .zip(known..)
            .map(|(u, i)| FollowedTable {
                id: ObjectId(100 + i),
                database: u.database,
                name: u.name,
                schema: u.schema,
                layouts: vec![Layout { since: None, columns: u.layout }],
            })
            .collect();
        assert_eq!(tables.len(), names.len(), "every table is there");
        for table in &tables {
            self.store.create_table(table.id, &table.schema).expect("the store takes it");
        }
        self.tables.extend(tables.clone());
        tables
    }

    pub async fn ask(&mut self, tables: Vec<FollowedTable>) {
        self.commands.send(Command::Follow(tables)).await.expect("the source runs");
    }

    /// Takes events, committing each transaction, until that holds; `Err`: the source stopped.
    pub async fn until(&mut self, holds: impl Fn(&Feed) -> bool) -> Result<(), Stop> {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS_MAX);
        while !holds(self) {
            let event = timeout_at(deadline, self.events.recv()).await;
            let event =
                event.unwrap_or_else(|_| panic!("nothing for {WAIT_SECONDS_MAX} s; waiting: {:?}", self.waiting));
            let (_, event) = event.expect("the source says Stopped before it ends");
            match event {
                Event::Transaction(_) if !self.keeps_transactions => {}
                Event::Transaction(transaction) => {
                    if !transaction.installs.is_empty() || transaction.changes.rows() > 0 {
                        self.transactions += 1;
                    }
                    let ts = Ts(self.store.last_tick().ts.0.max(Ts::LOADS_END.0) + 1);
                    self.store.raise_ceiling(ts).expect("the store takes it");
                    let positions = BTreeMap::from([(SOURCE, transaction.position)]);
                    let tick =
                        Tick { ts, positions, installs: transaction.installs, changes: vec![transaction.changes] };
                    self.store.commit(&tick).expect("the store takes it");
                }
                Event::Waiting { reason } => self.waiting.push(reason),
                Event::Layouts { table, layouts } => {
                    let table = self.tables.iter_mut().find(|t| t.id == table).expect("a table that is followed");
                    table.layouts = layouts;
                }
                Event::Loading { .. } => self.reports += 1,
                Event::Running | Event::WaitsFor(_) | Event::Resting { .. } => {}
                Event::Stopped(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Until the store's position is that GTID set.
    pub async fn reach(&mut self, gtid_set: &str) {
        let wanted = Position(gtid_set.replace('\n', ""));
        self.until(|feed| feed.position().as_ref() == Some(&wanted)).await.expect("no stop");
    }

    /// Until the source stops by itself.
    pub async fn stopped(&mut self) -> Stop {
        self.until(|_| false).await.expect_err("until never holds")
    }

    pub fn position(&self) -> Option<Position> {
        self.store.positions().get(&SOURCE).cloned()
    }

    /// The rows of the i-th followed table as MySQL prints them, in the text's order.
    pub fn rows(&self, i: usize) -> Vec<Vec<Option<String>>> {
        let table = &self.tables[i];
        let columns: Vec<usize> = (0..table.schema.columns.len()).collect();
        let mut rows = Vec::new();
        for delta in self.store.snapshot().scan(table.id, &columns, 1 << 20) {
            let delta = delta.expect("the store reads");
            for (row, diff) in delta.diffs.iter().enumerate() {
                let values =
                    table.schema.columns.iter().enumerate().map(|(c, column)| {
                        Datum::of(delta.rows.column(c), &column.sql_type, row).text(&column.sql_type)
                    });
                let values: Vec<_> = values.collect();
                rows.extend(std::iter::repeat_n(values, *diff as usize));
            }
        }
        rows.sort();
        rows
    }
}
