//! The window's spill in the store: rows as bytes, by commit.

use std::sync::Arc;

use arrow::datatypes::i256;

use crate::row::datum::Datum;
use crate::sources::Stop;
use crate::sources::collect::window::spill::Spill;
use crate::sources::formats::{InTransaction, Op, Row, RowChange};
use crate::sources::log::Fault;
use crate::store::{Scratch, Store, StoreError};

/// Rows of one piece, about.
const PIECE_BYTES: usize = 256 << 10;
/// The store did not take rows or give them back: it may later.
const SPILL_FAILED: &str = "SPILL_FAILED";

/// Rows put aside in a store.
pub struct StoreSpill {
    scratch: Scratch,
}

impl StoreSpill {
    pub fn new(store: &Arc<Store>) -> StoreSpill {
        StoreSpill { scratch: store.scratch() }
    }
}

impl Spill for StoreSpill {
    fn append(&mut self, commit: u64, rows: Vec<RowChange>) -> Result<(), Stop> {
        let mut piece = Vec::new();
        for row in &rows {
            write(row, &mut piece);
            if piece.len() >= PIECE_BYTES {
                self.scratch.push(commit, std::mem::take(&mut piece)).map_err(failed)?;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.scratch.push(commit, piece).map_err(failed) }
    }

    fn first(&self) -> Option<u64> {
        self.scratch.first()
    }

    fn drain(&mut self, commit: u64, each: &mut dyn FnMut(RowChange) -> Result<(), Stop>) -> Result<(), Stop> {
        let taken = self.scratch.take(commit, |mut piece| {
            while !piece.is_empty() {
                let row = read(&mut piece).ok_or_else(|| stop("a row that was put aside is cut short".to_string()))?;
                each(row).map_err(Ended)?;
            }
            Ok::<_, Ended>(())
        });
        taken.map_err(|Ended(stop)| stop)
    }
}

/// What ends a drain.
struct Ended(Stop);

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Ended {
        Ended(failed(error))
    }
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        Ended(stop)
    }
}

/// A spill that failed is tried again with what the log gives anew; anything else is the end.
pub fn fault(stop: Stop) -> Fault {
    match stop.code {
        SPILL_FAILED => Fault::Lost { action: "put rows aside that wait for a watermark", reason: stop.message },
        _ => Fault::Stop(Box::new(stop)),
    }
}

fn failed(error: StoreError) -> Stop {
    stop(error.to_string())
}

fn stop(message: String) -> Stop {
    let remedy = "make room on the disk of the data directory".to_string();
    Stop { code: SPILL_FAILED, message, position: None, remedy }
}

fn write(row: &RowChange, to: &mut Vec<u8>) {
    to.extend((row.table as u64).to_le_bytes());
    let (op, values): (u8, &[Datum]) = match &row.op {
        Op::Put(values) => (0, values),
        Op::Delete(values) => (1, values),
        Op::Truncate => (2, &[]),
        Op::Insert(values) => (3, values),
        Op::Update(values) => (4, values),
    };
    to.push(op);
    number(row.commit, to);
    number(row.committed_ms, to);
    number(row.transaction.as_ref().map(|transaction| transaction.total_order), to);
    if let Some(transaction) = &row.transaction {
        bytes(transaction.id.as_bytes(), to);
    }
    to.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| datum(value, to));
}

fn number(value: Option<u64>, to: &mut Vec<u8>) {
    to.push(value.is_some() as u8);
    to.extend(value.into_iter().flat_map(u64::to_le_bytes));
}

fn bytes(value: &[u8], to: &mut Vec<u8>) {
    to.extend((value.len() as u64).to_le_bytes());
    to.extend(value);
}

fn datum(value: &Datum, to: &mut Vec<u8>) {
    let mut fixed = |tag: u8, value: &[u8]| {
        to.push(tag);
        to.extend(value);
    };
    match value {
        Datum::Null => fixed(0, &[]),
        Datum::Bool(v) => fixed(1, &[*v as u8]),
        Datum::Int(v) => fixed(2, &v.to_le_bytes()),
        Datum::UInt(v) => fixed(3, &v.to_le_bytes()),
        Datum::Float(v) => fixed(4, &v.to_le_bytes()),
        Datum::Double(v) => fixed(5, &v.to_le_bytes()),
        Datum::Decimal(v) => fixed(6, &v.to_le_bytes()),
        Datum::Date(v) => fixed(7, &v.to_le_bytes()),
        Datum::Time(v) => fixed(8, &v.to_le_bytes()),
        Datum::Datetime(v) => fixed(9, &v.to_le_bytes()),
        Datum::Timestamp(v) => fixed(10, &v.to_le_bytes()),
        Datum::Text(v) => {
            to.push(11);
            bytes(v.as_bytes(), to);
        }
        Datum::Bytes(v) => {
            to.push(12);
            bytes(v, to);
        }
    }
}

/// The next row of a piece; `None` where it is not one.
fn read(from: &mut &[u8]) -> Option<RowChange> {
    let table = u64::from_le_bytes(fixed(from)?) as usize;
    let [op] = fixed(from)?;
    let (commit, committed_ms, total_order) = (read_number(from)?, read_number(from)?, read_number(from)?);
    let transaction = match total_order {
        Some(total_order) => Some(InTransaction { id: String::from_utf8(read_bytes(from)?).ok()?, total_order }),
        None => None,
    };
    let count = u64::from_le_bytes(fixed(from)?);
    let values: Row = (0..count).map(|_| read_datum(from)).collect::<Option<_>>()?;
    let op = match op {
        0 => Op::Put(values),
        1 => Op::Delete(values),
        2 => Op::Truncate,
        3 => Op::Insert(values),
        4 => Op::Update(values),
        _ => return None,
    };
    Some(RowChange { table, op, commit, transaction, committed_ms })
}

fn fixed<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (value, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*value)
}

fn read_number(from: &mut &[u8]) -> Option<Option<u64>> {
    let [is_some] = fixed(from)?;
    Some(if is_some == 0 { None } else { Some(u64::from_le_bytes(fixed(from)?)) })
}

fn read_bytes(from: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(fixed(from)?);
    let (value, rest) = from.split_at_checked(length.try_into().ok()?)?;
    *from = rest;
    Some(value.to_vec())
}

fn read_datum(from: &mut &[u8]) -> Option<Datum> {
    let [tag] = fixed(from)?;
    Some(match tag {
        0 => Datum::Null,
        1 => Datum::Bool(fixed(from)? == [1]),
        2 => Datum::Int(i64::from_le_bytes(fixed(from)?)),
        3 => Datum::UInt(u64::from_le_bytes(fixed(from)?)),
        4 => Datum::Float(f32::from_le_bytes(fixed(from)?)),
        5 => Datum::Double(f64::from_le_bytes(fixed(from)?)),
        6 => Datum::Decimal(i256::from_le_bytes(fixed(from)?)),
        7 => Datum::Date(i32::from_le_bytes(fixed(from)?)),
        8 => Datum::Time(i64::from_le_bytes(fixed(from)?)),
        9 => Datum::Datetime(i64::from_le_bytes(fixed(from)?)),
        10 => Datum::Timestamp(i64::from_le_bytes(fixed(from)?)),
        11 => Datum::Text(String::from_utf8(read_bytes(from)?).ok()?),
        12 => Datum::Bytes(read_bytes(from)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(op: Op) -> RowChange {
        let transaction = Some(InTransaction { id: "a:1".to_string(), total_order: 3 });
        RowChange { table: 4, op, commit: Some(u64::MAX), transaction, committed_ms: None }
    }

    #[test]
    fn every_value_comes_back_as_it_went_and_a_cut_piece_is_no_row() {
        let values = vec![
            Datum::Null,
            Datum::Bool(true),
            Datum::Int(i64::MIN),
            Datum::UInt(u64::MAX),
            Datum::Float(-0.5),
            Datum::Double(f64::MAX),
            Datum::Decimal(i256::MIN),
            Datum::Text("é\0".to_string()),
            Datum::Text(String::new()),
            Datum::Bytes(vec![0, 255]),
            Datum::Date(-1),
            Datum::Time(-2),
            Datum::Datetime(3),
            Datum::Timestamp(-4),
        ];
        let plain = RowChange { transaction: None, commit: None, committed_ms: Some(7), ..change(Op::Truncate) };
        let [insert, update] = [Op::Insert(values.clone()), Op::Update(values.clone())].map(change);
        let (put, delete) = (change(Op::Put(values.clone())), change(Op::Delete(values)));
        let rows = [put, insert, update, delete, change(Op::Truncate), plain];
        let mut piece = Vec::new();
        rows.iter().for_each(|row| write(row, &mut piece));
        let mut from = &piece[..];
        let found: Vec<RowChange> = std::iter::from_fn(|| read(&mut from)).collect();
        assert!(found == rows && from.is_empty(), "{found:?}");
        let mut one = Vec::new();
        write(&rows[0], &mut one);
        assert!((0..one.len()).all(|length| read(&mut &one[..length]).is_none()));
    }
}
