//! Rows that come and go by the time alone: views with conditions on now(), at every level.
//!
//! `oracle`: a plan's changes, added up, are at each timestamp what plain loops over the rows give. `engine`: views
//! while a clock is moved by hand, also across restarts, are what the same query gives ad hoc, which evaluates the
//! condition and knows no bounds. `port`: a server, killed, and its wide table.

#[path = "temporal/engine.rs"]
mod engine;
#[path = "temporal/oracle.rs"]
mod oracle;
#[path = "temporal/port.rs"]
mod port;
#[path = "support/splitmix.rs"]
mod splitmix;
#[path = "support/tidemill.rs"]
mod tidemill_server;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        splitmix::next(&mut self.0) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// `TIDEMILL_SEED` runs one seed.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}
