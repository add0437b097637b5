//! Many encoded rows in one allocation: key bytes, then value bytes, one row after the other.
//!
//! Rows of one arrangement are encoded by one list of types, so no row is a proper prefix of another, and likewise
//! their keys: comparing the first 16 bytes, padded with zeros, and then the rest compares rows. Those 16 bytes are
//! read from the row itself: a copy beside it would save one cache line a probe and cost as many bytes as a short row.
//! Where all lengths are equal, as with fixed-width columns, the offsets are one number.

use std::cmp::Ordering;

/// How many bytes are compared at once.
const PREFIX_BYTES: usize = 16;

/// The bytes of rows, in the order they were pushed.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The rows; once sealed, `PREFIX_BYTES` zeros follow them, so that no load leaves the buffer.
    bytes: Vec<u8>,
    len: usize,
    /// End of each row in `bytes`.
    ends: Numbers,
    /// Length of each row's key.
    key_lens: Numbers,
}

/// A key to look for.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    prefix: u128,
    bytes: &'a [u8],
}

/// One number for each row: row ends as `(i + 1) * step`, key lengths as `step`, while they can be told so.
#[derive(Clone, Debug)]
enum Numbers {
    Step(u32),
    Each(Vec<u32>),
}

impl Rows {
    pub fn with_capacity(bytes: usize) -> Rows {
        Rows { bytes: Vec::with_capacity(bytes + PREFIX_BYTES), ..Rows::default() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the rows `lo..hi`.
    pub fn bytes_in(&self, lo: usize, hi: usize) -> usize {
        self.start(hi) - self.start(lo)
    }

    /// Bytes in memory.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.heap_bytes() + self.key_lens.heap_bytes()
    }

    #[inline]
    fn start(&self, i: usize) -> usize {
        match &self.ends {
            Numbers::Step(step) => i * *step as usize,
            Numbers::Each(ends) => i.checked_sub(1).map_or(0, |i| ends[i] as usize),
        }
    }

    #[inline]
    pub fn row(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.start(i + 1)]
    }

    #[inline]
    pub fn key_len(&self, i: usize) -> usize {
        match &self.key_lens {
            Numbers::Step(len) => *len as usize,
            Numbers::Each(lens) => lens[i] as usize,
        }
    }

    #[inline]
    pub fn key(&self, i: usize) -> Key<'_> {
        let (start, len) = (self.start(i), self.key_len(i));
        Key { prefix: self.prefix(start, len), bytes: &self.bytes[start..start + len] }
    }

    #[inline]
    pub fn value(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i) + self.key_len(i)..self.start(i + 1)]
    }

    /// The first 16 of `len` bytes at `start` as a number, zeros after a shorter row.
    #[inline]
    fn prefix(&self, start: usize, len: usize) -> u128 {
        let loaded = match self.bytes[start..].first_chunk() {
            Some(bytes) => u128::from_be_bytes(*bytes),
            None => short_prefix(&self.bytes[start..]),
        };
        match len {
            0 => 0,
            PREFIX_BYTES.. => loaded,
            _ => loaded & (u128::MAX << ((PREFIX_BYTES - len) * 8)),
        }
    }

    /// The first bytes of the row as a number: orders rows that it tells apart.
    #[inline]
    pub fn row_prefix(&self, i: usize) -> u128 {
        let start = self.start(i);
        self.prefix(start, self.start(i + 1) - start)
    }

    #[inline]
    pub fn compare(&self, i: usize, other: &Rows, j: usize) -> Ordering {
        self.row_prefix(i).cmp(&other.row_prefix(j)).then_with(|| compare_rests(self.row(i), other.row(j)))
    }

    #[inline]
    pub fn compare_key(&self, i: usize, key: &Key) -> Ordering {
        let (start, len) = (self.start(i), self.key_len(i));
        let rests = || compare_rests(&self.bytes[start..start + len], key.bytes);
        self.prefix(start, len).cmp(&key.prefix).then_with(rests)
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.ends.extend_ends(self.len, [offset(self.bytes.len())]);
        self.key_lens.extend_lens(self.len, [offset(key.len())]);
        self.len += 1;
    }

    pub fn extend(&mut self, other: &Rows, lo: usize, hi: usize) {
        if lo == hi {
            return;
        }
        let (base, start, len) = (self.bytes.len(), other.start(lo), self.len);
        self.bytes.extend_from_slice(&other.bytes[start..other.start(hi)]);
        self.ends.extend_ends(len, (lo..hi).map(|i| offset(base + other.start(i + 1) - start)));
        match (&mut self.key_lens, &other.key_lens) {
            (Numbers::Step(mine), Numbers::Step(theirs)) if len == 0 || mine == theirs => *mine = *theirs,
            (mine, _) => mine.extend_lens(len, (lo..hi).map(|i| offset(other.key_len(i)))),
        }
        self.len += hi - lo;
    }

    /// Rows as arrow-row wrote them: `bytes` is the rows, `ends` their ends.
    pub fn from_parts(bytes: Vec<u8>, ends: Vec<u32>, key_lens: impl IntoIterator<Item = u32>) -> Rows {
        let mut rows = Rows { bytes, len: ends.len(), ..Rows::default() };
        rows.ends.extend_ends(0, ends);
        rows.key_lens.extend_lens(0, key_lens);
        rows
    }

    /// No row follows.
    pub fn seal(&mut self) {
        self.bytes.extend_from_slice(&[0; PREFIX_BYTES]);
        self.bytes.shrink_to_fit();
        self.ends.shrink();
        self.key_lens.shrink();
    }
}

impl<'a> Key<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The first position in `lo..hi` from which on `below` is false, found by doubling steps.
#[inline]
pub fn gallop(lo: usize, hi: usize, below: impl Fn(usize) -> bool) -> usize {
    if lo >= hi || !below(lo) {
        return lo;
    }
    let (mut at, mut step) = (lo, 1);
    while at + step < hi && below(at + step) {
        at += step;
        step <<= 1;
    }
    while step > 1 {
        step >>= 1;
        if at + step < hi && below(at + step) {
            at += step;
        }
    }
    at + 1
}

/// The prefix at the end of rows that are not sealed.
#[cold]
fn short_prefix(bytes: &[u8]) -> u128 {
    let mut padded = [0; PREFIX_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    u128::from_be_bytes(padded)
}

/// Equal first bytes: what the rest says.
#[inline]
fn compare_rests(a: &[u8], b: &[u8]) -> Ordering {
    match (a.get(PREFIX_BYTES..), b.get(PREFIX_BYTES..)) {
        (Some(a), Some(b)) => a.cmp(b),
        _ => a.len().cmp(&b.len()),
    }
}

/// Containers are cut by bytes long before; one row of 4 GiB is beyond what any source can send.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("rows of one container are below 4 GiB")
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers::Step(0)
    }
}

impl Numbers {
    fn extend_ends(&mut self, len: usize, more: impl IntoIterator<Item = u32>) {
        let mut more = more.into_iter();
        if let Numbers::Step(step) = self {
            let mut at = len as u64;
            loop {
                let Some(end) = more.next() else { return };
                if at == 0 {
                    *step = end;
                }
                at += 1;
                if u64::from(end) != at * u64::from(*step) {
                    let mut ends: Vec<u32> = (1..at as u32).map(|i| i * *step).collect();
                    ends.push(end);
                    *self = Numbers::Each(ends);
                    break;
                }
            }
        }
        if let Numbers::Each(ends) = self {
            ends.extend(more);
        }
    }

    fn extend_lens(&mut self, len: usize, more: impl IntoIterator<Item = u32>) {
        let mut more = more.into_iter();
        if let Numbers::Step(step) = self {
            let mut at = len;
            loop {
                let Some(number) = more.next() else { return };
                if at == 0 {
                    *step = number;
                }
                if number != *step {
                    let mut lens = vec![*step; at];
                    lens.push(number);
                    *self = Numbers::Each(lens);
                    break;
                }
                at += 1;
            }
        }
        if let Numbers::Each(lens) = self {
            lens.extend(more);
        }
    }

    fn shrink(&mut self) {
        if let Numbers::Each(numbers) = self {
            numbers.shrink_to_fit();
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Numbers::Step(_) => 0,
            Numbers::Each(numbers) => numbers.capacity() * size_of::<u32>(),
        }
    }
}
