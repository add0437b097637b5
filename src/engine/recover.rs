//! A start: the store is opened and every view is installed again, the way a new one is.
//!
//! Where a ledger can be read, the views begin at the lowest `Ts` their wide tables have (`B`): the base tables as of
//! the last tick less the retained changes after `B`, then those changes at their own times, so that a wide table gets
//! just what it misses. Where it cannot, or the change log was cut, they begin at the last tick and the sink loads by
//! diff.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::catalog::Catalog;
use crate::catalog::object::Object;
use crate::clock::Clock;
use crate::dataflow::Dataflow;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::feeds::Feeds;
use crate::engine::flows::ViewFlow;
use crate::engine::jobs::{Job, Jobs, Phase};
use crate::engine::load::LoadGroup;
use crate::engine::progress::{Binding, Progress};
use crate::engine::targets::Targets;
use crate::engine::{CONTROLS_MAX, Core, EVENTS_MAX, Engine, Options};
use crate::row::{ObjectId, Ts};
use crate::store::{Log, Store};

/// A target that does not answer within this time does not hold up the start: its tables are loaded by diff later.
const LEDGER_WAIT: Duration = Duration::from_secs(3);

pub async fn open(options: Options) -> Result<Engine, EngineError> {
    let store = match &options.data {
        Some(directory) => {
            let directory = directory.clone();
            let opened = tokio::task::spawn_blocking(move || Store::open(&directory)).await;
            Arc::new(opened.expect("opening a store does not panic")?)
        }
        None => Arc::new(Store::in_memory()),
    };
    let catalog = Catalog::load(&store.catalog()?)?;
    let header = store.last_tick();
    let binding = Binding { header, positions: store.positions() };
    let (events, sources) = mpsc::channel(EVENTS_MAX);
    let (control, controls) = mpsc::channel(CONTROLS_MAX);
    let core = Arc::new(Core {
        now: Arc::clone(&options.now),
        started_ms: (options.now)().wall_ms,
        dataflow: Dataflow::start(options.workers),
        progress: Progress::new(header.ts.max(Ts::LOADS_END), binding),
        catalog: Mutex::new(catalog),
        flows: Mutex::default(),
        feeds: Feeds::new(Arc::clone(&store), events),
        targets: Targets::default(),
        jobs: Jobs::default(),
        rows_in: AtomicU64::new(0),
        trimmed: AtomicU64::new(0),
        control,
        changed: watch::Sender::new(0),
        stopped: watch::Sender::new(None),
        stopping: watch::Sender::new(false),
        tasks: Mutex::default(),
        ddl: tokio::sync::Mutex::new(()),
        writer: Arc::default(),
        store,
    });
    core.spawn(follow_frontiers(Arc::clone(&core)));
    let floor = bring_back(&core).await?;
    let now = Arc::clone(&options.now);
    let clock = Clock {
        store: Arc::clone(&core.store),
        downstream: Arc::clone(&core) as _,
        sources,
        control: controls,
        now: Box::new(move || now()),
        floor,
        limits: options.limits,
    };
    core.spawn(async move {
        // Why it failed was told to `Downstream::stopped`.
        let _ = clock.run().await;
    });
    core.spawn(Arc::clone(&core).retain());
    start_sources(&core)?;
    start_jobs(&core).await;
    Ok(Engine { core })
}

/// Moves what is complete whenever a frontier moved.
async fn follow_frontiers(core: Arc<Core>) {
    let mut frontiers = core.dataflow.frontiers();
    let mut stopping = core.stopping.subscribe();
    loop {
        tokio::select! {
            moved = frontiers.changed() => if moved.is_err() { return },
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        core.progress.advance(&core.dataflow);
    }
}

/// Installs every view whose tables are in the store; returns the `Ts` at which everything is complete.
async fn bring_back(core: &Arc<Core>) -> Result<Ts, EngineError> {
    let views = ready_views(core)?;
    let through = core.progress.last();
    let (ledgers, shown) = ledgers(core, &views).await;
    // At or above every time that was ever answered: what a read saw go by the time alone does not come back.
    let resumed = through.max(core.store.ceiling()).max(shown);
    if views.is_empty() {
        resume(core, resumed);
        return Ok(resumed);
    }
    let as_of = replay_start(core, &views, &ledgers, through);
    let hold = core.progress.hold(Some(as_of));
    let relation = |id| core.relation(id);
    let ids: Vec<ObjectId> = views.iter().map(|view| view.id).collect();
    let mut dataflows = Vec::new();
    for view in views {
        let installed = core.lock_flows().install(&core.dataflow, view, as_of, &relation);
        dataflows.extend(installed);
    }
    let all: Vec<ObjectId> = dataflows.iter().map(|(id, _)| *id).collect();
    let snapshot = core.store.snapshot();
    let replay_through = (as_of < through).then_some(through);
    let group = LoadGroup { as_of, dataflows, snapshot, replay_through };
    let job = core.jobs.start(ids[0], format!("{} views after a start", ids.len()), (core.now)().wall_ms);
    job.phase(Phase::Computing);
    let (loader, loading): (Arc<Core>, Arc<Job>) = (Arc::clone(core), Arc::clone(&job));
    let loaded = tokio::task::spawn_blocking(move || {
        group.run(&loader.dataflow, &loader.store, &loading)?;
        group.replay(&loader.dataflow, &loader.store)
    });
    loaded.await.map_err(|error| EngineError::new(ErrorKind::Internal, format!("the start failed: {error}")))??;
    resume(core, resumed);
    core.join(&all, as_of).await?;
    job.phase(Phase::Done);
    for id in ids {
        core.add_to_target(id, Some(core.progress.hold(Some(as_of)))).await?;
    }
    drop(hold);
    Ok(resumed)
}

/// A heartbeat before the clock runs: nothing changed since the last tick but the time.
fn resume(core: &Core, at: Ts) {
    if at > core.progress.last() {
        core.progress.ticked(at, core.store.last_tick(), &BTreeMap::new());
    }
    core.dataflow.tick(at, Arc::default());
    core.progress.advance(&core.dataflow);
}

/// Materialized views in order of dependency whose tables and views are all there.
fn ready_views(core: &Core) -> Result<Vec<ViewFlow>, EngineError> {
    let ids: Vec<ObjectId> = core.materialized_views();
    let mut ready: Vec<ViewFlow> = Vec::new();
    let mut there = BTreeSet::new();
    for id in ids {
        let planned = core.plan_view(id)?;
        let complete = planned
            .plan
            .objects()
            .into_iter()
            .all(|input| if core.is_table(input) { core.store.is_loaded(input) } else { there.contains(&input) });
        if complete {
            there.insert(id);
            ready.push(planned);
        }
    }
    Ok(ready)
}

/// For each view with a live wide table the `Ts` it has, and the highest `Ts` in any ledger.
async fn ledgers(core: &Arc<Core>, views: &[ViewFlow]) -> (Vec<(ObjectId, Ts)>, Ts) {
    let mut by_connection = BTreeMap::<ObjectId, Vec<ObjectId>>::new();
    for view in views {
        if let Ok(Some((connection, _))) = core.sink_view(view.id, Ts(0)) {
            by_connection.entry(connection).or_default().push(view.id);
        }
    }
    let (mut found, mut floor) = (Vec::new(), Ts(0));
    for (connection, ids) in by_connection {
        let Ok(options) = core.target_options(connection) else { continue };
        let read = tokio::time::timeout(LEDGER_WAIT, crate::sinks::wide::read_ledger(&options)).await;
        let rows = match read {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::warn!(connection = core.object_name(connection), %error, "the ledger cannot be read now");
                continue;
            }
            Err(_) => {
                tracing::warn!(connection = core.object_name(connection), "the target does not answer");
                continue;
            }
        };
        for row in &rows {
            floor = floor.max(row.ts);
            let view = ids.iter().find(|id| core.object_name(**id) == row.view);
            if let Some(view) = view
                && row.is_live()
                && row.store_id == core.store.id()
            {
                found.push((*view, row.ts));
            }
        }
    }
    (found, floor)
}

/// The lowest `Ts` from which every table's changes are retained and every resumable wide table can go on.
fn replay_start(core: &Core, views: &[ViewFlow], ledgers: &[(ObjectId, Ts)], through: Ts) -> Ts {
    let Some(lowest) = ledgers.iter().map(|(_, ts)| *ts).min() else { return through };
    if lowest >= through {
        return through;
    }
    let tables: BTreeSet<ObjectId> =
        views.iter().flat_map(|view| view.plan.objects()).filter(|id| core.is_table(*id)).collect();
    let whole = tables.iter().all(|table| matches!(core.store.log(*table, lowest, through), Log::Whole(_)));
    if whole { lowest } else { through }
}

fn start_sources(core: &Arc<Core>) -> Result<(), EngineError> {
    let sources: Vec<ObjectId> = core
        .lock_catalog()
        .objects()
        .filter_map(|object| match &**object {
            Object::Source(source) => Some(source.id),
            _ => None,
        })
        .collect();
    for source in sources {
        core.start_source(source)?;
    }
    Ok(())
}

/// Starts the jobs of views that are in the catalog and could not be brought back at once.
async fn start_jobs(core: &Arc<Core>) {
    let views: Vec<ObjectId> = core.materialized_views();
    for view in views {
        if !core.lock_flows().is_installed(view) {
            core.start_build(view);
        }
    }
}
