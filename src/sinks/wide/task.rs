//! The task of one target: hold the fence, bring tables right, flush all of them together.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::dataflow::Snapshot;
use crate::row::{ObjectId, Ts};
use crate::sinks::wide::inspect;
use crate::sinks::wide::load::Load;
use crate::sinks::wide::place::{Table, place, shadow};
use crate::sinks::wide::view::{HEARTBEAT_FLUSH_MS, Loading, Phase, View, bytes, write_changes};
use crate::sinks::{Reader, SinkCommand, SinkEvent, SinkView};
use crate::target::error::TargetError;
use crate::target::ledger::{Ledger, LedgerRow, Point, SEMANTICS_VERSION, State};
use crate::target::{Target, TargetOptions, connect, dialect};

/// Changes of one view that wait for the target; beyond, they are dropped and the view is loaded by diff.
const PENDING_BYTES_MAX: usize = 256 << 20;
const BACK_OFF_MS_MIN: u64 = 100;
const BACK_OFF_MS_MAX: u64 = 5_000;
/// A held view is tried again after this long.
const HELD_RETRY: Duration = Duration::from_secs(5);

pub struct Task {
    options: TargetOptions,
    reader: Reader,
    events: mpsc::UnboundedSender<(ObjectId, SinkEvent)>,
    complete: watch::Receiver<Ts>,
    ledger: Ledger,
    views: BTreeMap<ObjectId, View>,
    removals: Vec<Removal>,
    /// A flush whose COMMIT may or may not have happened.
    in_doubt: Option<Flush>,
    flushed_at: Option<Instant>,
    failures: u32,
}

struct Removal {
    view: SinkView,
    drop_table: bool,
    done: oneshot::Sender<Result<(), String>>,
}

#[derive(Clone)]
struct Flush {
    ts: Ts,
    views: Vec<ObjectId>,
}

impl Task {
    pub fn new(options: TargetOptions, reader: Reader, events: mpsc::UnboundedSender<(ObjectId, SinkEvent)>) -> Task {
        let (complete, ledger) = (reader.complete(), Ledger::new(&options.name, &options.owner));
        Task {
            options,
            reader,
            events,
            complete,
            ledger,
            views: BTreeMap::new(),
            removals: Vec::new(),
            in_doubt: None,
            flushed_at: None,
            failures: 0,
        }
    }

    pub async fn run(mut self, mut commands: mpsc::Receiver<SinkCommand>) {
        let mut target = None;
        loop {
            let wait = match self.step(&mut target).await {
                Ok(()) => {
                    self.failures = 0;
                    let next = self.views.values().map(|view| view.looks_again_ms()).min();
                    Duration::from_millis(next.unwrap_or(HEARTBEAT_FLUSH_MS / 5))
                }
                Err(TargetError::Fenced(by)) => {
                    self.tell(ObjectId(0), SinkEvent::Fenced { by });
                    return;
                }
                Err(error) => {
                    let stays = matches!(error, TargetError::Retry(_) | TargetError::Refused(_));
                    let rolled_back = match &mut target {
                        Some(link) if stays => link.rollback().await.is_ok(),
                        _ => false,
                    };
                    if !rolled_back {
                        target = None;
                    }
                    self.tell(ObjectId(0), SinkEvent::Waiting { reason: error.to_string() });
                    for removal in self.removals.drain(..) {
                        // Fails only when nobody waits for the answer any more.
                        let _ = removal.done.send(Err(error.to_string()));
                    }
                    self.back_off()
                }
            };
            let failed = self.failures > 0;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                moved = self.complete.changed(), if !failed => if moved.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One round: everything that can be done now.
    async fn step(&mut self, link: &mut Option<Box<dyn Target>>) -> Result<(), TargetError> {
        if link.is_none() {
            if self.views.is_empty() && self.removals.is_empty() {
                return Ok(());
            }
            let mut target = connect(&self.options).await?;
            let committed = self.ledger.hold(target.as_mut()).await?;
            if let Some(flush) = self.in_doubt.take()
                && committed
            {
                self.committed(&flush);
            }
            *link = Some(target);
        }
        let target = link.as_mut().expect("it was just made").as_mut();
        while let Some(removal) = self.removals.pop() {
            let removed = self.remove(target, &removal).await;
            // Fails only when nobody waits for the answer any more.
            let _ = removal.done.send(removed.as_ref().map_err(|e| e.to_string()).copied());
            removed?;
        }
        self.collect();
        let now = Instant::now();
        let due: Vec<ObjectId> = self.views.iter().filter(|(_, v)| v.is_due(now)).map(|(id, _)| *id).collect();
        for id in due {
            match self.bring_right(target, id).await {
                Err(TargetError::Refused(reason)) => {
                    target.rollback().await.ok();
                    self.hold(id, reason, HELD_RETRY);
                }
                other => other?,
            }
        }
        while let Some((id, reason)) = self.flush(target).await? {
            target.rollback().await?;
            self.hold(id, reason, HELD_RETRY);
        }
        Ok(())
    }

    fn take(&mut self, command: SinkCommand) {
        match command {
            SinkCommand::Add(spec) => {
                self.views.insert(spec.view, View::new(spec));
            }
            SinkCommand::Remove { view, drop_table, done } => match self.views.remove(&view) {
                Some(view) => {
                    if let Phase::Taking(taking) = view.phase {
                        taking.abort();
                    }
                    self.removals.push(Removal { view: view.spec, drop_table, done });
                }
                // Fails only when nobody waits for the answer any more.
                None => drop(done.send(Ok(()))),
            },
        }
    }

    /// Takes what the views produced; a view with too much waiting is loaded again instead.
    fn collect(&mut self) {
        for view in self.views.values_mut() {
            let Some(changes) = &mut view.changes else { continue };
            while let Ok(batch) = changes.try_recv() {
                view.through = Ts(batch.upper.0 - 1);
                view.pending_bytes += bytes(&batch);
                if !batch.is_empty() {
                    view.pending.push_back(batch);
                }
            }
        }
        let through = self.through(*self.complete.borrow());
        for (id, view) in &mut self.views {
            view.fold(through);
            if view.pending_bytes > PENDING_BYTES_MAX {
                tracing::warn!(
                    view = view.spec.name,
                    bytes = view.pending_bytes,
                    "too many changes wait: loading anew"
                );
                view.forget();
                // Fails only when nobody listens any more.
                let _ = self.events.send((*id, SinkEvent::Loading { view: *id, rows: 0 }));
            }
        }
    }

    /// All changes of all tables that are written have come through this point. A view that has just been tapped may be
    /// behind what is complete: nothing of it may be passed over.
    fn through(&self, complete: Ts) -> Ts {
        let writing = self.views.values().filter(|view| matches!(view.phase, Phase::Live(_) | Phase::Filled(_)));
        writing.map(|view| view.through).min().map_or(complete, |through| through.min(complete))
    }

    async fn remove(&mut self, target: &mut dyn Target, removal: &Removal) -> Result<(), TargetError> {
        let rows = self.ledger.rows(target).await?;
        let generation = rows.iter().find(|row| row.view == removal.view.name).map(|row| row.generation);
        target.begin().await?;
        self.ledger.fence(target, None).await?;
        self.ledger.forget(target, &removal.view.name).await?;
        self.ledger.commit(target).await?;
        let shadow = generation.map(|generation| shadow(&removal.view.table, generation));
        let named = removal.drop_table.then(|| removal.view.table.clone());
        for table in shadow.into_iter().chain(named) {
            target.execute(format!("DROP TABLE IF EXISTS {}", dialect::path(&table))).await?;
        }
        Ok(())
    }

    /// A step towards live: resume, load or flip.
    async fn bring_right(&mut self, target: &mut dyn Target, id: ObjectId) -> Result<(), TargetError> {
        let view = &self.views[&id];
        if let Phase::Flipping(_) = view.phase {
            return self.flip(target, id).await;
        }
        if let Phase::Loading(_) = view.phase {
            target.begin().await?;
            self.ledger.fence(target, None).await?;
            return self.load_on(target, id).await;
        }
        if let Phase::Taking(taking) = &mut self.views.get_mut(&id).expect("only commands remove views").phase {
            let taken = taking.await.expect("taking rows does not panic").map_err(TargetError::Refused);
            self.views.get_mut(&id).expect("only commands remove views").phase = Phase::New;
            return self.load(target, id, taken?).await;
        }
        let spec = self.views[&id].spec.clone();
        let mut row = self.ledger.rows(target).await?.into_iter().find(|row| row.view == spec.name);
        if let Some(found) = &mut row
            && found.state == State::Flipping
        {
            self.finish_flip(target, found).await?;
        }
        // Not within the call: whoever moves what is complete waits for a borrow, and the call may wait for them.
        let complete = *self.complete.borrow();
        let (store_id, tick) = self.reader.store_tick(complete);
        if let Some(row) = &row
            && self.views[&id].resumes
            && row.state == State::Live
            && (row.plan_hash, row.semantics, row.store_id) == (spec.plan_hash, SEMANTICS_VERSION, store_id)
            && (row.ts >= spec.replay_from && row.tick <= tick && row.table == spec.table)
            && inspect::exists(target, &spec.table).await?
        {
            let layout = inspect::layout(target, &spec.table, &spec.schema).await?;
            let changes = self.reader.changes(id, row.ts);
            let view = self.views.get_mut(&id).expect("only commands remove views");
            (view.at, view.through) = (row.ts, row.ts);
            (view.generation, view.changes) = (row.generation, Some(changes));
            view.phase = Phase::Live(Table { name: spec.table, layout });
            self.tell(id, SinkEvent::Committed { view: id, ts: row.ts });
            self.tell(id, SinkEvent::Live { view: id });
            return Ok(());
        }
        // The other views move on meanwhile.
        let reader = self.reader.clone();
        let taking = tokio::spawn(async move { reader.snapshot(id).await });
        self.views.get_mut(&id).expect("only commands remove views").phase = Phase::Taking(taking);
        Ok(())
    }

    async fn load(
        &mut self,
        target: &mut dyn Target,
        id: ObjectId,
        (at, snapshot): (Ts, Snapshot),
    ) -> Result<(), TargetError> {
        let spec = self.views[&id].spec.clone();
        let row = self.ledger.rows(target).await?.into_iter().find(|row| row.view == spec.name);
        let of_same = row.as_ref().filter(|row| row.table == spec.table);
        let (table, create) = place(target, &spec, of_same).await?;
        let in_chunks = table.name != spec.table;
        let generation = match of_same {
            Some(row) if in_chunks && create.is_none() => row.generation,
            _ => row.as_ref().map_or(1, |row| row.generation + 1),
        };
        let table = Table { name: if in_chunks { shadow(&spec.table, generation) } else { table.name }, ..table };
        let changes = self.reader.changes(id, at);
        let (store_id, tick) = self.reader.store_tick(at);
        let row = LedgerRow {
            view: spec.name.clone(),
            table: spec.table.clone(),
            state: State::Loading,
            ts: at,
            generation,
            plan_hash: spec.plan_hash,
            semantics: SEMANTICS_VERSION,
            store_id,
            tick,
            rows_loaded: 0,
        };
        if let Some(comment) = create.filter(|_| !target.dialect().is_sqlite()) {
            // Named in the ledger before it exists, so that a crash leaves nothing that nobody drops.
            target.begin().await?;
            self.ledger.fence(target, None).await?;
            self.ledger.write(target, std::slice::from_ref(&row)).await?;
            self.ledger.commit(target).await?;
            target.execute(format!("DROP TABLE IF EXISTS {}", dialect::path(&table.name))).await?;
            target.execute(table.layout.create_table(&table.name, comment.as_deref())).await?;
            target.begin().await?;
        } else {
            target.begin().await?;
        }
        self.ledger.fence(target, None).await?;
        if target.dialect().is_sqlite() && !inspect::exists(target, &table.name).await? {
            target.execute(table.layout.create_table(&table.name, None)).await?;
        }
        let load = Load::begin(target, table.layout, table.name, in_chunks, row, snapshot).await?;
        let view = self.views.get_mut(&id).expect("only commands remove views");
        view.forget();
        view.phase = Phase::Loading(Mutex::new(Box::new(Loading { load, at, changes })));
        match in_chunks {
            true => self.ledger.commit(target).await,
            // What was read of the table and what is written to it are one transaction.
            false => self.load_on(target, id).await,
        }
    }

    /// The next chunk of a load, in a transaction that is open; the last one makes the table a filled one.
    async fn load_on(&mut self, target: &mut dyn Target, id: ObjectId) -> Result<(), TargetError> {
        let view = self.views.get_mut(&id).expect("only commands remove views");
        // A load that fails begins anew.
        let Phase::Loading(loading) = std::mem::replace(&mut view.phase, Phase::New) else {
            unreachable!("called for a view that is being filled")
        };
        let mut loading = loading.into_inner().expect("a load does not panic");
        let done = loading.load.step(target, &self.ledger).await?;
        self.ledger.commit(target).await?;
        self.tell(id, SinkEvent::Loading { view: id, rows: loading.load.row.rows_loaded });
        let view = self.views.get_mut(&id).expect("only commands remove views");
        if !done {
            view.phase = Phase::Loading(Mutex::new(loading));
            return Ok(());
        }
        let Loading { load, at, changes } = *loading;
        (view.at, view.through) = (at, at);
        (view.generation, view.changes) = (load.row.generation, Some(changes));
        view.phase = Phase::Filled(Table { name: load.table, layout: load.layout });
        Ok(())
    }

    /// Gives a filled and flushed table its name.
    async fn flip(&mut self, target: &mut dyn Target, id: ObjectId) -> Result<(), TargetError> {
        let mut row = self.ledger_row(id, State::Flipping, self.views[&id].at);
        self.finish_flip(target, &mut row).await?;
        let view = self.views.get_mut(&id).expect("only commands remove views");
        if let Phase::Flipping(table) = std::mem::replace(&mut view.phase, Phase::New) {
            view.phase = Phase::Live(Table { name: view.spec.table.clone(), ..table });
        }
        view.held = None;
        self.tell(id, SinkEvent::Live { view: id });
        Ok(())
    }

    /// The steps of a flip that are not done yet; which name exists tells.
    async fn finish_flip(&mut self, target: &mut dyn Target, row: &mut LedgerRow) -> Result<(), TargetError> {
        let shadow = shadow(&row.table, row.generation);
        let (filled, named) = (inspect::exists(target, &shadow).await?, inspect::exists(target, &row.table).await?);
        let (from, to) = (dialect::path(&shadow), dialect::path(&row.table));
        match (filled, named) {
            (true, false) => drop(target.execute(format!("RENAME TABLE {from} TO {to}")).await?),
            (true, true) => {
                let message = format!("{to} was created by somebody while {from} was filled: drop one of them");
                return Err(TargetError::Refused(message));
            }
            (false, _) => {}
        }
        row.state = if filled || named { State::Live } else { State::Loading };
        target.begin().await?;
        self.ledger.fence(target, None).await?;
        self.ledger.write(target, std::slice::from_ref(row)).await?;
        self.ledger.commit(target).await
    }

    /// Moves all tables that can move to the last complete point. A view that the target refuses is returned.
    async fn flush(&mut self, target: &mut dyn Target) -> Result<Option<(ObjectId, String)>, TargetError> {
        let complete = *self.complete.borrow_and_update();
        self.collect();
        let to = self.through(complete);
        let now = Instant::now();
        let mut moving = Vec::new();
        let mut failing = Vec::new();
        for (id, view) in &self.views {
            let writes = matches!(view.phase, Phase::Live(_) | Phase::Filled(_));
            let waits = view.held.as_ref().is_some_and(|(_, until)| *until > now);
            match view.error_at(to) {
                Some(error) if writes => failing.push((*id, format!("the view has an error row: {error}"))),
                _ if writes && !waits && view.at <= to => moving.push(*id),
                _ => {}
            }
        }
        // It heals with the first point that has no error: there is nothing to wait for.
        failing.into_iter().for_each(|(id, reason)| self.hold(id, reason, Duration::ZERO));
        let heartbeat = Duration::from_millis(HEARTBEAT_FLUSH_MS);
        let heartbeat = self.flushed_at.is_none_or(|at| now.duration_since(at) >= heartbeat);
        let news = moving.iter().any(|id| self.views[id].has_news(to));
        let moves = moving.iter().any(|id| self.views[id].at < to);
        if moving.is_empty() || !(news || (heartbeat && moves)) {
            return Ok(None);
        }
        let (store_id, tick) = self.reader.store_tick(to);
        let point = Point { ts: to, store_id, tick, positions: self.reader.positions(to) };
        target.begin().await?;
        self.ledger.fence(target, Some(&point)).await?;
        let mut rows = Vec::new();
        for id in &moving {
            let view = &self.views[id];
            match write_changes(target, view, to).await {
                Ok(()) => {}
                Err(TargetError::Refused(reason)) => return Ok(Some((*id, reason))),
                Err(error) => return Err(error),
            }
            let renamed = matches!(&view.phase, Phase::Filled(table) if table.name != view.spec.table);
            rows.push(self.ledger_row(*id, if renamed { State::Flipping } else { State::Live }, to));
        }
        self.ledger.write(target, &rows).await?;
        let flush = Flush { ts: to, views: moving };
        self.in_doubt = Some(flush.clone());
        self.ledger.commit(target).await?;
        self.in_doubt = None;
        self.committed(&flush);
        let flipping: Vec<ObjectId> =
            self.views.iter().filter(|(_, v)| matches!(v.phase, Phase::Flipping(_))).map(|(id, _)| *id).collect();
        for id in flipping {
            if let Err(error) = self.flip(target, id).await {
                let TargetError::Refused(reason) = error else { return Err(error) };
                return Ok(Some((id, reason)));
            }
        }
        Ok(None)
    }

    fn committed(&mut self, flush: &Flush) {
        self.flushed_at = Some(Instant::now());
        for id in &flush.views {
            let Some(view) = self.views.get_mut(id) else { continue };
            view.forget_through(flush.ts);
            view.at = flush.ts;
            let mut live = view.held.take().is_some();
            view.phase = match std::mem::replace(&mut view.phase, Phase::New) {
                Phase::Filled(table) if table.name != view.spec.table => Phase::Flipping(table),
                Phase::Filled(table) => {
                    live = true;
                    Phase::Live(table)
                }
                other => other,
            };
            self.tell(*id, SinkEvent::Committed { view: *id, ts: flush.ts });
            if live {
                self.tell(*id, SinkEvent::Live { view: *id });
            }
        }
    }

    fn ledger_row(&self, id: ObjectId, state: State, ts: Ts) -> LedgerRow {
        let view = &self.views[&id];
        let (store_id, tick) = self.reader.store_tick(ts);
        LedgerRow {
            view: view.spec.name.clone(),
            table: view.spec.table.clone(),
            state,
            ts,
            generation: view.generation,
            plan_hash: view.spec.plan_hash,
            semantics: SEMANTICS_VERSION,
            store_id,
            tick,
            rows_loaded: 0,
        }
    }

    fn hold(&mut self, id: ObjectId, reason: String, retry: Duration) {
        let Some(view) = self.views.get_mut(&id) else { return };
        view.resumes &= !matches!(view.phase, Phase::New);
        let until = Instant::now() + retry;
        let before = view.held.replace((reason.clone(), until));
        if before.is_none_or(|(before, _)| before != reason) {
            self.tell(id, SinkEvent::Held { view: id, reason });
        }
    }

    fn tell(&self, id: ObjectId, event: SinkEvent) {
        // Fails only when nobody listens any more.
        let _ = self.events.send((id, event));
    }

    /// 100 ms doubling up to 5 s, a quarter of it spread by the seed.
    fn back_off(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let full = (BACK_OFF_MS_MIN << (self.failures - 1).min(10)).min(BACK_OFF_MS_MAX);
        let mixed = (self.options.jitter_seed ^ self.failures as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        Duration::from_millis(full - mixed % (full / 4))
    }
}
