//! Tidemill keeps SQL views over changelogs up to date in wide tables, exactly once.
//!
//! ```text
//!      MySQL binlog · generated shop                         CREATE MATERIALIZED VIEW … (PostgreSQL's wire)
//!             |                                                   |
//!          sources   Transaction @ Position                   catalog → plan   Plan
//!             |                                                   |
//!           clock    Tick @ Ts, closed up to it                   |
//!             |                                                   |
//!           store    base tables at Ts, durable                   |
//!             \_________________ dataflow _______________________/    shared arrangements
//!                                   |   Batch = diffs of [lower, upper)
//!                                 sinks    one target transaction a flush, with its ledger row
//!                                   |   Committed(Ts)
//!                                 engine → trims the change log, lets the dataflow compact what nobody holds
//! ```
//!
//! # The life of a row
//!
//! 1. A transaction commits in MySQL. [`sources::mysql`] reads its events from the binlog and, at the commit event,
//!    sends it whole: a [`sources::Transaction`] after a [`row::Position`], its changes as [`row::delta::Delta`]s,
//!    staged in the store when they are many ([`store::Changes`]).
//! 2. [`clock::Clock`] takes the transactions that are waiting, mints a [`row::Ts`] above every earlier one and has the
//!    tick made durable with the sources' positions ([`store::Store::commit`]): from here on no source is asked again.
//! 3. The tick goes to every dataflow that reads the table ([`dataflow::Dataflow::tick`]). There a row is Arrow in a
//!    batch with times and diffs ([`dataflow::edge::Edge`]) and, where it is arranged, arrow-row bytes in sorted chunks
//!    ([`dataflow::arrange`]); joins and reduces go from chunks to batches. What cannot be computed becomes an error
//!    row with the same diff.
//! 4. When the dataflow's frontier passes the `Ts`, the diffs of the view are one [`dataflow::Batch`]. The sink of the
//!    target folds the batches of all its views up to one complete `Ts` and writes them with the ledger row in one
//!    transaction ([`sinks::wide`]): deletes, upserts, commit.
//! 5. The commit is told to the [`engine`], which trims the change log. Readers of the port see the row as soon as the
//!    frontier passed it: [`engine::session`] picks one `Ts` for all that a statement reads.
//!
//! # The life of a statement
//!
//! 1. Bytes become messages in [`server::pgwire`]; a [`server::Backend`] session parses the text
//!    ([`plan::parse::parse`]) into a [`plan::statement::Statement`].
//! 2. A query is lowered ([`plan::lower`]): names resolve through the catalog ([`plan::relations`]), DataFusion plans
//!    and types it under our fixed list of rules, and it becomes a [`plan::ir::Plan`] of positions. [`plan::explain`]
//!    prints it.
//! 3. SELECT runs the plan once over a read point ([`dataflow::evaluate`]). CREATE MATERIALIZED VIEW is written to the
//!    catalog and starts a job: the source tables are copied, the dataflow is installed between two ticks at an
//!    `as_of`, loaded in pieces and let live; then its wide table is brought right by comparing and writing what
//!    differs.
//! 4. A restart plans every view again from its text and goes the same way, from the `Ts` the ledger shows.
//!
//! # The floors
//!
//! `row, config < store, target < sources, catalog < clock, plan < dataflow < sinks < engine < server, console < main`.
//! A file imports only from lower floors or its own folder; `tests/tidy.rs` keeps it.

pub mod row;

pub mod config;

pub mod store;
pub mod target;

pub mod catalog;
pub mod sources;

pub mod clock;
pub mod plan;

pub mod dataflow;

pub mod sinks;

pub mod engine;

pub mod console;
pub mod server;
