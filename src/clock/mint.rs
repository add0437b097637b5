//! Mints timestamps that strictly grow and follow the wall clock when it can be believed.

use crate::row::Ts;

/// The wall clock and a clock that never jumps, read together; both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub wall_ms: u64,
    pub monotonic_ms: u64,
}

/// How far the wall clock may run ahead of the monotonic one before it is no longer followed.
pub const JUMP_MS_MAX: u64 = 60_000;
/// The durable ceiling is kept this far ahead, so that it is written every few seconds and not with every tick.
pub const CEILING_AHEAD_MS: u64 = 3_000;

/// The state of minting.
///
/// While the wall clock is behind (set back, or behind the ceiling of the last run), time grows by 1. A jump forward of
/// more than [`JUMP_MS_MAX`] is not followed either, because a wrong date would pin time there for ever: from then on
/// time grows with the monotonic clock, until a restart confirms the new wall clock.
#[derive(Debug)]
pub struct Mint {
    last: Ts,
    start: Reading,
    /// Set when a jump was seen; said once.
    pub jumped: bool,
}

impl Mint {
    /// `floor`: the largest of the last tick, the ceiling and what any ledger shows.
    pub fn new(floor: Ts, now: Reading) -> Mint {
        Mint { last: floor.max(Ts::LOADS_END), start: now, jumped: false }
    }

    /// The last timestamp that was minted, or the floor.
    pub fn last(&self) -> Ts {
        self.last
    }

    pub fn mint(&mut self, now: Reading) -> Ts {
        let expected = self.start.wall_ms + now.monotonic_ms.saturating_sub(self.start.monotonic_ms);
        self.jumped = now.wall_ms > expected + JUMP_MS_MAX;
        let wall = if self.jumped { expected } else { now.wall_ms };
        self.last = Ts(wall.max(self.last.0 + 1));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: u64, monotonic_ms: u64) -> Reading {
        Reading { wall_ms, monotonic_ms }
    }

    const NOON: u64 = 1_800_000_000_000;

    #[test]
    fn follows_the_wall_clock_and_never_falls() {
        let mut mint = Mint::new(Ts(0), at(NOON, 0));
        assert_eq!(mint.mint(at(NOON + 5, 5)), Ts(NOON + 5));
        assert_eq!(mint.mint(at(NOON + 5, 5)), Ts(NOON + 6));
        assert_eq!(mint.mint(at(NOON - 3_600_000, 10)), Ts(NOON + 7));
    }

    #[test]
    fn a_jump_forward_is_not_followed() {
        let mut mint = Mint::new(Ts(0), at(NOON, 0));
        assert_eq!(mint.mint(at(NOON + 86_400_000, 10)), Ts(NOON + 10));
        assert!(mint.jumped);
        assert_eq!(mint.mint(at(NOON + 20, 20)), Ts(NOON + 20));
        assert!(!mint.jumped);
    }

    #[test]
    fn begins_above_the_floor() {
        let mut mint = Mint::new(Ts(NOON + 3_000), at(NOON, 0));
        assert_eq!(mint.mint(at(NOON, 0)), Ts(NOON + 3_001));
    }
}
