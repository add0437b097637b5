//! Where everything lies in the key-value spaces: one letter, then numbers in big-endian.
//!
//! Main: `A` progress of the pending tick · `C` name → catalog value · `K` number → tick · `L` table, ts, piece →
//! changes · `M` the store itself · `N` the newest trimmed tick · `R` table → its counter · `T` table → its
//! definition · `U` the durable ceiling. Segments: segment, table
//! (in a scratch: number), piece. Rows: `0` the counter, `1` and key → row.

use crate::row::{ObjectId, Ts};

pub const PENDING: &[u8] = b"A";
pub const STORE: &[u8] = b"M";
pub const ANCHOR: &[u8] = b"N";
pub const CEILING: &[u8] = b"U";
/// In a space of rows: their count and the last tick that changed them.
pub const ROWS_COUNTER: &[u8] = b"0";
/// Starts the key of a row; the encoded key columns follow.
pub const ROW: u8 = b'1';

pub fn catalog(name: &str) -> Vec<u8> {
    [b"C", name.as_bytes()].concat()
}

pub fn table(table: ObjectId) -> Vec<u8> {
    numbered(b'T', &[table.0])
}

pub fn counter(table: ObjectId) -> Vec<u8> {
    numbered(b'R', &[table.0])
}

pub fn tick(number: u64) -> Vec<u8> {
    numbered(b'K', &[number])
}

pub fn log(table: ObjectId, ts: Ts, piece: u64) -> Vec<u8> {
    numbered(b'L', &[table.0, ts.0, piece])
}

/// The changes of a table with `after < ts <= through`.
pub fn log_range(table: ObjectId, after: Ts, through: Ts) -> (Vec<u8>, Vec<u8>) {
    let until = match through.0.checked_add(1) {
        Some(end) => numbered(b'L', &[table.0, end]),
        None => numbered(b'L', &[table.0 + 1]),
    };
    (numbered(b'L', &[table.0, after.0.saturating_add(1)]), until)
}

pub fn log_ts(key: &[u8]) -> Option<Ts> {
    Some(Ts(u64::from_be_bytes(key.get(9..17)?.try_into().ok()?)))
}

pub fn segment(segment: u64) -> Vec<u8> {
    segment.to_be_bytes().to_vec()
}

pub fn segment_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.first_chunk()?))
}

/// Of a segment that is a scratch: the number of a piece.
pub fn segment_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(8..16)?.try_into().ok()?))
}

pub fn segment_table(segment: u64, table: ObjectId) -> Vec<u8> {
    [segment.to_be_bytes(), table.0.to_be_bytes()].concat()
}

pub fn segment_piece(segment: u64, table: ObjectId, piece: u64) -> Vec<u8> {
    [segment.to_be_bytes(), table.0.to_be_bytes(), piece.to_be_bytes()].concat()
}

pub fn rows_range() -> ([u8; 1], [u8; 1]) {
    ([ROW], [ROW + 1])
}

/// All keys that begin with a letter.
pub fn letter_range(letter: u8) -> ([u8; 1], [u8; 1]) {
    ([letter], [letter + 1])
}

/// The numbers of a `T` or `K` key.
pub fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

fn numbered(letter: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + numbers.len() * 8);
    key.push(letter);
    numbers.iter().for_each(|n| key.extend(n.to_be_bytes()));
    key
}
