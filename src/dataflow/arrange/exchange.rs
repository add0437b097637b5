//! Rows to the worker that owns their key.

use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

use crate::dataflow::arrange::lanes::Lanes;
use crate::dataflow::arrange::rows::Rows;
use crate::dataflow::arrange::sort::Raw;

/// Parts containers by the hash of the rows' keys.
#[derive(Debug)]
pub struct ByKey;

impl Distributor<Raw> for ByKey {
    fn partition<T: Clone, P: Push<Message<T, Raw>>>(&mut self, raw: &mut Raw, stamp: &Stamp<T>, to: &mut [P]) {
        let raw = std::mem::take(raw);
        let mut parts: Vec<Raw> = to.iter().map(|_| Raw::new(raw.lanes)).collect();
        for i in 0..raw.len() {
            let worker = hash(raw.rows.key(i).bytes()) % to.len() as u64;
            parts[worker as usize].extend(&raw, i, i + 1);
        }
        for (mut part, to) in parts.into_iter().zip(to) {
            if part.len() > 0 {
                Message::push_at(&mut part, stamp.clone(), to);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Raw>>>(&mut self, _stamp: &Stamp<T>, _to: &mut [P]) {}
}

/// The same on every worker, and spread over all bits.
fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = bytes.len() as u64;
    for word in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        let product = u128::from(hash ^ u64::from_le_bytes(padded)) * u128::from(MULTIPLIER);
        hash = (product as u64 ^ (product >> 64) as u64).wrapping_add(MULTIPLIER);
    }
    hash
}

/// Words of eight bytes, little end first: rows, lanes (three words), then per row its end, key length, time and diff,
/// then the rows' bytes, padded. All processes of a cluster run one build, so there is no version.
impl ContainerBytes for Raw {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Raw {
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let len = word(0) as usize;
        let lanes = Lanes::from_words([word(1), word(2), word(3)]);
        let at = |column: usize| HEADER_WORDS + column * len;
        let column = |c: usize, words: usize| (at(c)..at(c) + len * words).map(word);
        let ends: Vec<u32> = column(0, 1).map(|end| end as u32).collect();
        let key_lens: Vec<u32> = column(1, 1).map(|key_len| key_len as u32).collect();
        let times = column(2, 1).collect();
        let diffs = column(3, lanes.words()).map(|diff| diff as i64).collect();
        let start = at(3 + lanes.words()) * 8;
        let row_bytes = ends.last().map_or(0, |end| *end as usize);
        let rows = Rows::from_parts(bytes[start..start + row_bytes].to_vec(), ends, key_lens);
        Raw { rows, times, diffs, lanes }
    }

    fn length_in_bytes(&self) -> usize {
        let rows = self.rows.bytes_in(0, self.len());
        (HEADER_WORDS + self.len() * (3 + self.lanes.words()) + rows.div_ceil(8)) * 8
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).expect("the writer has `length_in_bytes` of room");
        let mut word = |word: u64| write(&word.to_le_bytes());
        word(self.len() as u64);
        self.lanes.to_words().into_iter().for_each(&mut word);
        (0..self.len()).for_each(|i| word(self.rows.bytes_in(0, i + 1) as u64));
        (0..self.len()).for_each(|i| word(self.rows.key_len(i) as u64));
        self.times.iter().for_each(|time| word(*time));
        self.diffs.iter().for_each(|diff| word(*diff as u64));
        (0..self.len()).for_each(|i| write(self.rows.row(i)));
        let rows = self.rows.bytes_in(0, self.len());
        write(&[0; 8][..rows.next_multiple_of(8) - rows]);
    }
}

const HEADER_WORDS: usize = 4;
