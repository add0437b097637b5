//! A JSON text read member by member, its numbers kept as they are written.
//!
//! Numbers stay text because a value's type is only known from the table: a TSO does not fit a double, and the shortest
//! digits of a DOUBLE come back exactly only if nothing has rounded them on the way. Nothing is allocated but the texts
//! that hold escapes, and what is passed over is only walked.

use std::borrow::Cow;

use super::BadMessage;

/// Deeper than any message of ours: the format's own levels and a document of MySQL's greatest depth.
const DEPTH_MAX: usize = 128;

/// One value of a JSON text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// As it is written; it has the form of a JSON number.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An object or array, unread, whole.
    Nested(&'a str),
}

impl<'a> Value<'a> {
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn u64(&self) -> Option<u64> {
        match self {
            Value::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        *self == Value::Bool(true)
    }
}

pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Scanner<'a>, BadMessage> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| BadMessage::malformed(format!("no UTF-8 at byte {} of a JSON text", e.valid_up_to())))?;
        Ok(Scanner { text, at: 0 })
    }

    /// The text of a value that was passed over before.
    pub fn of(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// Reads an object: calls with each member's name; what is called reads or skips the value.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&str, &mut Scanner<'a>) -> Result<(), BadMessage>,
    ) -> Result<(), BadMessage> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.expect(b':')?;
            member(&name, self)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Reads an array likewise.
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Scanner<'a>) -> Result<(), BadMessage>,
    ) -> Result<(), BadMessage> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    pub fn value(&mut self) -> Result<Value<'a>, BadMessage> {
        self.space();
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'{' | b'[') => {
                let start = self.at;
                self.skip(0)?;
                Ok(Value::Nested(&self.text[start..self.at]))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Value::Number(self.number()?)),
            _ => self.word(),
        }
    }

    /// A member that must be a text.
    pub fn text_of(&mut self, member: &str) -> Result<Cow<'a, str>, BadMessage> {
        self.value()?.text().ok_or_else(|| BadMessage::malformed(format!("`{member}` is no text")))
    }

    /// A member that must be a whole number of 64 bits.
    pub fn u64_of(&mut self, member: &str) -> Result<u64, BadMessage> {
        self.value()?.u64().ok_or_else(|| BadMessage::malformed(format!("`{member}` is no unsigned number")))
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), BadMessage> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("the end")) }
    }

    fn skip(&mut self, depth: usize) -> Result<(), BadMessage> {
        if depth > DEPTH_MAX {
            return Err(BadMessage::malformed(format!("a JSON text nested deeper than {DEPTH_MAX}")));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(|_, inner| inner.skip(depth + 1)),
            Some(b'[') => self.array(|inner| inner.skip(depth + 1)),
            _ => self.value().map(|_| ()),
        }
    }

    fn word(&mut self) -> Result<Value<'a>, BadMessage> {
        let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        let rest = &self.text[self.at..];
        let found = words.into_iter().find(|(word, _)| rest.starts_with(word));
        let (word, value) = found.ok_or_else(|| self.fault("a value"))?;
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str, BadMessage> {
        let start = self.at;
        self.take_here(b'-');
        let whole = self.digits();
        let leading_zero = self.text.as_bytes()[self.at - whole..].first() == Some(&b'0') && whole > 1;
        let fraction = !self.take_here(b'.') || self.digits() > 0;
        let mut exponent = true;
        if self.take_here(b'e') || self.take_here(b'E') {
            let _ = self.take_here(b'+') || self.take_here(b'-');
            exponent = self.digits() > 0;
        }
        match whole > 0 && !leading_zero && fraction && exponent {
            true => Ok(&self.text[start..self.at]),
            false => Err(self.fault("a number")),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Result<Cow<'a, str>, BadMessage> {
        if !self.take_here(b'"') {
            return Err(self.fault("a text"));
        }
        let plain = self.run()?;
        if self.take_here(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_string();
        while !self.take_here(b'"') {
            self.at += 1;
            text.push(self.escape()?);
            text.push_str(self.run()?);
        }
        Ok(Cow::Owned(text))
    }

    /// Up to the next quote or backslash, which is there.
    fn run(&mut self) -> Result<&'a str, BadMessage> {
        let rest = &self.text[self.at..];
        let length = plain(rest.as_bytes());
        self.at += length;
        match self.peek() {
            Some(b'"' | b'\\') => Ok(&rest[..length]),
            _ => Err(self.fault("the end of a text")),
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, BadMessage> {
        let kind = self.peek().ok_or_else(|| self.fault("an escape"))?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => kind as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.fault("an escape")),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, BadMessage> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                let second = self.hex4()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                0x10000 + ((first - 0xd800) << 10) + low.ok_or_else(|| self.fault("the second half of a character"))?
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| self.fault("a character"))
    }

    fn hex4(&mut self) -> Result<u32, BadMessage> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.fault("four hexadecimal digits"))?;
        self.at += 4;
        Ok(digits.iter().fold(0, |code, d| code << 4 | (*d as char).to_digit(16).unwrap_or(0)))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take_here(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += there as usize;
        there
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        self.take_here(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadMessage> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(&format!("`{}`", byte as char))) }
    }

    fn fault(&self, wanted: &str) -> BadMessage {
        BadMessage::malformed(format!("{wanted} is missing at byte {} of a JSON text", self.at))
    }
}

/// How many bytes stand before the first quote, backslash or control character: most of a feed's bytes are in texts, so
/// eight are looked at together.
pub fn plain(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::MAX / 255;
    const HIGH: u64 = LOW << 7;
    // The lowest high bit that is set is at the first such byte: a borrow only goes up.
    let below = |word: u64, limit: u8| word.wrapping_sub(LOW * limit as u64) & !word;
    let equal = |word: u64, byte: u8| below(word ^ (LOW * byte as u64), 1);
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let stops = (equal(word, b'"') | equal(word, b'\\') | below(word, 0x20)) & HIGH;
        if stops != 0 {
            return i * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let stop = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
    bytes.len() - rest.len() + stop.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_at_the_first_byte_that_is_not_plain() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                for other in [b'a', 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']', b' '] {
                    let mut bytes = vec![other; 20];
                    bytes[at] = byte;
                    let expected = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(20);
                    assert_eq!(plain(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }

    fn value(text: &str) -> Result<Value<'_>, BadMessage> {
        let mut scanner = Scanner::of(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    #[test]
    fn values_are_told_apart_and_numbers_kept_as_written() {
        assert_eq!(value(" null "), Ok(Value::Null));
        assert_eq!(value("18446744073709551615").unwrap().u64(), Some(u64::MAX));
        assert_eq!(value("-0.1e+300"), Ok(Value::Number("-0.1e+300")));
        assert_eq!(value(r#""\u003c\ud83d\ude00\n\"""#), Ok(Value::Text("<😀\n\"".into())));
        assert_eq!(value(r#"{"a":[1,{}]}"#), Ok(Value::Nested(r#"{"a":[1,{}]}"#)));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in [
            "",
            "nul",
            "01",
            "1.",
            "-",
            "1e",
            "\"",
            "\"\\",
            "\"\\u12",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"a\nb\"",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1,]",
            "[1",
            "{]",
            "1 2",
            "\"\\x41\"",
            "\u{e9}",
        ] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(value(&"[".repeat(1 << 20)).is_err());
        assert!(value(&"{\"a\":".repeat(1 << 16)).is_err());
        let fine = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(value(&fine).is_ok());
    }
}
