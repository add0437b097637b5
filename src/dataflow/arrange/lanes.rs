//! Diffs as words: a row count, then the lanes of aggregates that add up, all added at once.

/// How the words of one update's diff are added.
///
/// Word 0 is the row count. A lane of more than one word, least word first, hands its carry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    words: u8,
    /// Bit `w`: word `w` takes the carry of word `w - 1`.
    carries: u128,
}

/// An arrangement's diff has at most this many words, the row count among them.
pub const DIFF_WORDS_MAX: usize = 128;

impl Lanes {
    /// Only the row count.
    pub const NONE: Lanes = Lanes { words: 1, carries: 0 };

    /// Appends a lane of `words` words and returns the place of its first; `None` if the diff would be too long.
    pub fn push(&mut self, words: usize) -> Option<usize> {
        let first = self.words as usize;
        if first + words > DIFF_WORDS_MAX {
            return None;
        }
        (first + 1..first + words).for_each(|w| self.carries |= 1 << w);
        self.words += words as u8;
        Some(first)
    }

    #[inline]
    pub fn words(&self) -> usize {
        self.words as usize
    }

    /// `into += from`. A lane is as wide as its sum can grow, so the last carry of a lane is only a sign.
    #[inline]
    pub fn add(&self, into: &mut [i64], from: &[i64]) {
        if self.words == 1 {
            into[0] = into[0].wrapping_add(from[0]);
            return;
        }
        let mut carry = false;
        for (w, (into, from)) in into.iter_mut().zip(from).enumerate() {
            let carried = carry && (self.carries >> w) & 1 == 1;
            let (sum, one) = (*into as u64).overflowing_add(*from as u64);
            let (sum, two) = sum.overflowing_add(u64::from(carried));
            *into = sum as i64;
            carry = one | two;
        }
    }

    pub fn to_words(self) -> [u64; 3] {
        [self.words as u64, self.carries as u64, (self.carries >> 64) as u64]
    }

    pub fn from_words([words, low, high]: [u64; 3]) -> Lanes {
        Lanes { words: words as u8, carries: u128::from(high) << 64 | u128::from(low) }
    }
}
