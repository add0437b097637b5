//! MySQL as a source: snapshots at a GTID set, row events of the binlog after it.
//!
//! ```text
//! check, schema ── at CREATE SOURCE ──────────────────────────────────┐
//! binlog (checked events) → assemble (transactions; decode: rows) → run ── Event ──> clock
//!                                    snapshot (generations) ────────┘
//! ```
//!
//! The position is the set of GTIDs whose transactions were sent. Invariants:
//! - a GTID enters the set at its commit, never before; a link that breaks restarts from the set exactly as it is;
//! - a table's snapshot point is fixed between two transactions of the stream and has all that the stream gave before;
//!   from there on each change of the table is either in the snapshot or kept, never both, never neither;
//! - a prepared XA transaction with rows of followed tables enters the set with its end: a restart sees it again;
//! - columns are told by their position in the layout that holds at the event's place: an ALTER of what is not followed
//!   makes the next layout, which is durable before the position has the ALTER;
//! - no event is passed over unless it is known to say nothing of a followed table;
//! - nothing is written to the server: sessions set their own variables and take short read locks.
//!
//! [`Polled`] reads whole tables of a MySQL or TiDB again and again, with the SELECT privilege only: a round is one
//! transaction of the server (`snapshot`), its difference from the store one of ours, its position the round's number
//! and time. A round that fails moves nothing; the next one begins when the store has the last one.
//!
//! MariaDB is refused by name: its GTIDs and events differ.

mod alter;
mod assemble;
mod binlog;
pub mod check;
pub mod connect;
pub mod ddl;
mod decode;
pub mod gtid;
pub(in crate::sources) mod json;
mod poll;
mod positions;
mod run;
pub mod schema;
mod settle;
pub mod snapshot;
mod text;
mod value;
mod xa;

pub use poll::Polled;
pub use run::MySql;
