//! Whatever a TiCDC changefeed may do to a history, the window gives the history's states.
//!
//! A seed makes a history (rows that move, exchange keys, go and come again; transactions that share a timestamp;
//! statements, several at one commit), a delivery of it over partitions (each row at least once below the watermark
//! that closes it; duplicates, replays, B A B, watermarks that fall back, copies of statements) and a reader
//! (partitions in any order, one of them silent for long; restarts from what is durable, with and without losing what
//! came after). Whatever the window gives must lead to the state at a boundary of the history, a later one each time,
//! with as many rows as the history has: nothing twice, nothing left out; and it must come as soon as all watermarks
//! are past it.
//!
//! A failure prints its seed: `TIDEMILL_DELIVERIES_SEED=n` runs it alone; seeds that ever failed are kept in
//! `KEPT_SEEDS`. `TIDEMILL_DELIVERIES=n` runs more.

#[path = "deliveries/delivery.rs"]
mod delivery;
#[path = "deliveries/history.rs"]
mod history;
#[path = "deliveries/reader.rs"]
mod reader;

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill::sources::formats::{Said, Tables};

use crate::delivery::Delivery;
use crate::history::{History, Random, tables};
use crate::reader::{Reader, Seen};

const KEPT_SEEDS: &[u64] = &[];
const STREAMS_DEFAULT: u64 = 20_000;
/// Far from the kept ones.
const FIRST_SEED: u64 = 1_000_000;

/// What lies between the feed and the window: nothing, or a format's encoder and its decoder.
pub trait Wire: Sync {
    /// What a message still says after it has been bytes.
    fn pass(&self, said: Vec<Said>, _tables: &Tables) -> Vec<Said> {
        said
    }

    /// Rows that share a message.
    fn rows_per_message(&self) -> usize {
        4
    }

    /// Whether the decoder tells a TRUNCATE as a row; `None`: both must do.
    fn truncates_are_rows(&self) -> Option<bool> {
        None
    }
}

struct Plain;

impl Wire for Plain {}

/// Names the stream that failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0}: TIDEMILL_DELIVERIES_SEED={0} runs it alone", self.0);
        }
    }
}

fn check_stream(seed: u64, wire: &dyn Wire) -> Seen {
    let _named = Named(seed);
    let mut random = Random(seed);
    let truncates_are_rows = wire.truncates_are_rows().unwrap_or(random.once_in(2));
    let history = History::random(&mut random, truncates_are_rows);
    let mut delivery = Delivery::random(&mut random, &history, wire.rows_per_message());
    let tables = tables();
    for message in delivery.partitions.iter_mut().flatten() {
        *message = wire.pass(std::mem::take(message), &tables);
    }
    Reader::new(&mut random, &history, &delivery).run()
}

fn check_streams(count: u64, wire: &dyn Wire) -> Seen {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || {
        let mut seen = Seen::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return seen;
            }
            seen.add(&check_stream(FIRST_SEED + number, wire));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut seen = Seen::default();
        threads.into_iter().for_each(|thread| seen.add(&thread.join().expect("a stream failed: its seed is above")));
        seen
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number of streams or a seed"))
}

#[test]
fn every_state_of_every_delivery_is_one_of_the_history() {
    if let Some(seed) = number("TIDEMILL_DELIVERIES_SEED") {
        println!("{:?}", check_stream(seed, &Plain));
        return;
    }
    KEPT_SEEDS.iter().for_each(|seed| {
        check_stream(*seed, &Plain);
    });
    let count = number("TIDEMILL_DELIVERIES").unwrap_or(STREAMS_DEFAULT);
    let seen = check_streams(count, &Plain);
    println!("{count} streams: {seen:?}");
    // The generator has not lost its teeth.
    if count >= STREAMS_DEFAULT {
        assert!(seen.each().iter().all(|(_, number)| *number >= count / 20), "{seen:?}");
    }
}
