//! now(): the timestamp a statement reads at, or the one a view's rows stand for.

use super::cast::Zone;
use crate::row::Ts;
use crate::row::datum::Datum;
use crate::row::types::SqlType;

/// A reading of the time: which wall clock, and how many digits of a second it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    /// UTC for UTC_TIMESTAMP.
    pub zone: Zone,
    pub utc: bool,
    /// 0 to 6; a timestamp has milliseconds, what is behind them is zero.
    pub digits: u8,
}

impl Clock {
    pub fn sql_type(self) -> SqlType {
        SqlType::Datetime(self.digits)
    }

    pub fn name(self) -> String {
        let name = if self.utc { "UTC_TIMESTAMP" } else { "NOW" };
        if self.digits == 0 { format!("{name}()") } else { format!("{name}({})", self.digits) }
    }

    /// A clock shows the unit that has begun: it cuts, it does not round.
    pub fn unit_micros(self) -> i64 {
        10i64.pow(6 - u32::from(self.digits.min(6)))
    }

    pub fn at(self, ts: Ts) -> Datum {
        let micros = i64::try_from(ts.0).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        let wall = micros.saturating_add(self.zone.offset_micros);
        Datum::Datetime(wall.div_euclid(self.unit_micros()) * self.unit_micros())
    }
}
