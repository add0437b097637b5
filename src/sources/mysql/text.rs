//! Text as bytes in a column's character set, turned into UTF-8.

/// A character set whose bytes we can turn into UTF-8 without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// utf8mb4, utf8mb3 (utf8) and ascii: the bytes are UTF-8.
    Utf8,
    /// MySQL's latin1: Windows-1252, its five holes filled with control characters.
    Latin1,
}

impl Charset {
    /// The character set of a collation by its name (`utf8mb4_0900_ai_ci`); a column without one is UTF-8.
    pub fn of_collation(collation: Option<&str>) -> Option<Charset> {
        match collation.unwrap_or("utf8mb4").split('_').next() {
            Some("utf8mb4" | "utf8mb3" | "utf8" | "ascii") => Some(Charset::Utf8),
            Some("latin1") => Some(Charset::Latin1),
            _ => None,
        }
    }

    /// `None`: the bytes are no text in this character set.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Charset::Utf8 => std::str::from_utf8(bytes).ok().map(String::from),
            Charset::Latin1 => Some(bytes.iter().map(|b| latin1(*b)).collect()),
        }
    }
}

fn latin1(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[byte as usize - 0x80],
        _ => byte as char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_is_windows_1252() {
        assert_eq!(Charset::Latin1.decode(b"caf\xe9 \x80\x81").as_deref(), Some("café €\u{81}"));
        assert_eq!(Charset::Utf8.decode(b"\xff"), None);
        assert_eq!(Charset::of_collation(Some("gbk_chinese_ci")), None);
        assert_eq!(Charset::of_collation(Some("latin1_swedish_ci")), Some(Charset::Latin1));
    }
}
