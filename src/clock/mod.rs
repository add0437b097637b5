//! Many positions, one time: whole transactions of every source become ticks.
//!
//! A tick takes the transactions that are waiting, whole, mints a [`Ts`] for them, makes both durable with the position
//! of each source (the *binding*), and hands them on. It is *through* when the store has it and the dataflow's frontier
//! passed it; few are in flight, and only their number and bytes hold the clock back, so that an idle system has
//! millisecond latency and a loaded one throughput.
//!
//! Invariants:
//! - `Ts` is minted only here, strictly growing, and never above the durable ceiling: a restart begins above the
//!   ceiling;
//! - a tick's record is durable before any row of it leaves;
//! - a source transaction is in one tick, never split;
//! - the clock never waits for a target.

mod mint;
mod run;

pub use mint::{Mint, Reading};
pub use run::{Clock, ClockError, Control, Downstream, Limits};
