//! Values as rows, and the plain words every floor shares.
//!
//! A value has a MySQL type ([`types::SqlType`]), one Arrow representation ([`types::SqlType::arrow`]) and, where it is
//! arranged or stored, one byte encoding ([`codec::RowCodec`], arrow-row, compared with memcmp). A single value outside
//! a batch is a [`datum::Datum`].
//!
//! Invariants:
//! - a column's Arrow type is `SqlType::arrow` of its type, everywhere: no floor keeps a second mapping;
//! - nothing here reads a clock, a socket or a file;
//! - `Ts` is minted only in `clock`; a `Position` is read only by the source that made it.

pub mod codec;
pub mod datum;
pub mod delta;
pub mod float;
pub mod schema;
pub mod temporal;
pub mod types;

use serde::{Deserialize, Serialize};

/// A consistent point of all sources: milliseconds since the Unix epoch, strictly growing, minted by `clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ts(pub u64);

impl Ts {
    /// Below every minted `Ts`: loads are fed in pieces at times in `1..LOADS_END`.
    pub const LOADS_END: Ts = Ts(1 << 32);

    pub fn next(self) -> Ts {
        Ts(self.0 + 1)
    }
}

impl std::fmt::Display for Ts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a source stands, in the source's own words (a GTID set, offsets): opaque to all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub String);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a catalog object (connection, source, table, view): never used twice in one data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub u64);

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}
