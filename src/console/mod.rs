//! What a person at a terminal sees: the SQL shell and the table of checks.
//!
//! `shell` reads and runs statements over the SQL port like any other client, `input` knows when a text is complete and
//! what may follow, `table` aligns rows, `report` words errors, `prompt` asks for passwords, `check` prints a source's
//! checks.

pub mod check;
pub mod demo;
mod input;
pub mod prompt;
mod report;
pub mod shell;
mod table;
