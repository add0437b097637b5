//! Where the window puts rows that are too many for memory.

use crate::sources::Stop;
use crate::sources::formats::RowChange;

/// Rows by commit, on a disk or in another place that is larger than memory.
///
/// What each side may rely on:
/// - rows of a commit come in any number of pieces and go all at once, in the order in which they came;
/// - commits come in any order, also ones below those that are there, and go lowest first;
/// - nothing outlives the process: after a restart the window begins with an empty one and the log is read again.
pub trait Spill: Send {
    fn append(&mut self, commit: u64, rows: Vec<RowChange>) -> Result<(), Stop>;

    /// The lowest commit that has rows here.
    fn first(&self) -> Option<u64>;

    /// Gives each row of the commit and forgets it; ends early with the error that `each` gives.
    fn drain(&mut self, commit: u64, each: &mut dyn FnMut(RowChange) -> Result<(), Stop>) -> Result<(), Stop>;
}
