//! How long a source waits before it tries its server or log again.

use std::time::Duration;

const MILLIS_MIN: u64 = 100;
const MILLIS_MAX: u64 = 10_000;

/// 100 ms, doubling up to 10 s until something succeeds.
#[derive(Debug, Default)]
pub struct BackOff {
    attempts: u32,
}

impl BackOff {
    /// The wait before the next attempt.
    pub fn next(&mut self) -> Duration {
        let millis = (MILLIS_MIN << self.attempts.min(16)).min(MILLIS_MAX);
        self.attempts += 1;
        Duration::from_millis(millis)
    }

    /// Something succeeded: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}
