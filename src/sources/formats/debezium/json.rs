//! JSON read level by level: what nobody asks for is stepped over, and numbers stay text.
//!
//! Most of a message with a schema is the schema, and most of an event is of columns or tables that are not followed;
//! and a DECIMAL must not pass through a double. So a value is the [`Raw`] span of its text until it is asked for.

use std::borrow::Cow;
use std::fmt;

use super::modes::Binaries;
use super::part::{self, Part};
use super::semantic::Semantic;
use super::value;
use crate::sources::formats::{BadMessage, scan};

/// The text of one value, without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// Where the text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is not JSON in the form of Debezium's events")
    }
}

pub fn not_json(error: NotJson) -> BadMessage {
    BadMessage::malformed(error.to_string())
}

pub type Members<'a> = part::Members<'a, Raw<'a>>;

/// Deeper text is refused; nothing that is read is deeper than a JSON column, which MySQL cuts at 100.
const DEPTH_MAX: usize = 250;

impl<'a> Raw<'a> {
    /// The one value that the text is; what is inside it is checked when it is read.
    pub fn new(text: &'a str) -> Result<Raw<'a>, NotJson> {
        let mut rest = Rest { text, at: 0 };
        let value = rest.value()?;
        rest.end()?;
        Ok(value)
    }

    pub fn text(self) -> &'a str {
        self.0
    }

    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    pub fn is_string(self) -> bool {
        self.0.starts_with('"')
    }

    pub fn boolean(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The digits of a number as they are written.
    pub fn number(self) -> Option<&'a str> {
        let (whole, rest) = digits(self.0.strip_prefix('-').unwrap_or(self.0));
        let rest = match rest.strip_prefix('.') {
            Some(rest) => Some(digits(rest)).filter(|(fraction, _)| !fraction.is_empty())?.1,
            None => rest,
        };
        let rest = match rest.strip_prefix(['e', 'E']) {
            Some(rest) => {
                let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
                Some(digits(rest)).filter(|(exponent, _)| !exponent.is_empty())?.1
            }
            None => rest,
        };
        (!whole.is_empty() && rest.is_empty()).then_some(self.0)
    }

    pub fn string(self) -> Option<Cow<'a, str>> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        match inside.contains('\\') {
            true => unescape(inside).map(Cow::Owned),
            false => Some(Cow::Borrowed(inside)),
        }
    }

    /// The members of an object, in the order in which they are written.
    pub fn members(self) -> Result<Members<'a>, NotJson> {
        let mut rest = Rest { text: self.0, at: 0 };
        let mut members = Vec::new();
        rest.take(b'{')?;
        if rest.skip(b'}') {
            return rest.end().map(|()| members);
        }
        loop {
            let name = rest.value()?.string().ok_or(NotJson)?;
            rest.take(b':')?;
            members.push((name, rest.value()?));
            if !rest.skip(b',') {
                break;
            }
        }
        rest.take(b'}')?;
        rest.end().map(|()| members)
    }

    pub fn elements(self) -> Result<Vec<Raw<'a>>, NotJson> {
        let mut rest = Rest { text: self.0, at: 0 };
        let mut elements = Vec::new();
        rest.take(b'[')?;
        if rest.skip(b']') {
            return rest.end().map(|()| elements);
        }
        loop {
            elements.push(rest.value()?);
            if !rest.skip(b',') {
                break;
            }
        }
        rest.take(b']')?;
        rest.end().map(|()| elements)
    }
}

/// For messages about a value: its text, cut off when long.
impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 60;
        match self.0.char_indices().nth(SHOWN_MAX) {
            Some((cut, _)) => write!(f, "{}…", &self.0[..cut]),
            None => f.write_str(self.0),
        }
    }
}

/// The members of a message that is one object; `None`: it is null.
pub fn object(text: &str) -> Result<Option<Members<'_>>, NotJson> {
    // Stepping over the whole value first would only be a walk more over each message.
    let value = Raw(text.trim_matches([' ', '\t', '\n', '\r']));
    if value.is_null() { Ok(None) } else { value.members().map(Some) }
}

impl<'a> Part<'a> for Raw<'a> {
    fn is_null(self) -> bool {
        Raw::is_null(self)
    }

    fn boolean(self) -> Option<bool> {
        Raw::boolean(self)
    }

    fn integer(self) -> Option<i128> {
        match Raw::number(self) {
            Some(number) => number.parse().ok(),
            // TiCDC writes a BIGINT UNSIGNED as text where it is told to.
            None => Raw::string(self)?.parse().ok(),
        }
    }

    fn long(self) -> Option<i64> {
        Raw::number(self)?.parse().ok()
    }

    fn number(self) -> Option<Cow<'a, str>> {
        Raw::number(self).map(Cow::Borrowed)
    }

    fn string(self) -> Option<Cow<'a, str>> {
        Raw::string(self)
    }

    fn bytes(self, binaries: Binaries) -> Option<Cow<'a, [u8]>> {
        value::decode(&Raw::string(self)?, binaries).map(Cow::Owned)
    }

    fn members(self) -> Result<Members<'a>, BadMessage> {
        Raw::members(self).map_err(not_json)
    }

    fn elements(self) -> Result<Vec<Raw<'a>>, BadMessage> {
        Raw::elements(self).map_err(not_json)
    }

    /// A schema stands beside the payload, or nowhere.
    fn semantic(self) -> Option<&'a Semantic> {
        None
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = take_unit(&mut rest)?;
                // Beyond U+FFFF a character is two escapes.
                let low = match unit {
                    0xd800..=0xdbff => {
                        rest = rest.strip_prefix("\\u")?;
                        Some(take_unit(&mut rest)?)
                    }
                    _ => None,
                };
                char::decode_utf16([unit].into_iter().chain(low)).next()?.ok()?
            }
            _ => return None,
        });
    }
    out.push_str(rest);
    Some(out)
}

fn take_unit(rest: &mut &str) -> Option<u16> {
    let (unit, after) = rest.split_at_checked(4)?;
    *rest = after;
    unit.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(unit, 16).ok())?
}

struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len());
    }

    fn skip(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += found as usize;
        found
    }

    fn take(&mut self, byte: u8) -> Result<(), NotJson> {
        self.skip(byte).then_some(()).ok_or(NotJson)
    }

    fn end(&mut self) -> Result<(), NotJson> {
        self.space();
        (self.at == self.text.len()).then_some(()).ok_or(NotJson)
    }

    /// Steps over the next value: brackets match and strings end; it does not recurse.
    fn value(&mut self) -> Result<Raw<'a>, NotJson> {
        self.space();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut open = Vec::new();
        loop {
            match *bytes.get(self.at).ok_or(NotJson)? {
                b'"' => self.string()?,
                b'{' if open.len() < DEPTH_MAX => {
                    open.push(b'}');
                    self.at += 1;
                }
                b'[' if open.len() < DEPTH_MAX => {
                    open.push(b']');
                    self.at += 1;
                }
                close @ (b'}' | b']') => {
                    (open.pop() == Some(close)).then_some(()).ok_or(NotJson)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if !open.is_empty() => self.at += 1,
                b'0'..=b'9' | b'-' | b'a'..=b'z' => self.scalar(),
                _ => return Err(NotJson),
            }
            if open.is_empty() {
                return Ok(Raw(&self.text[start..self.at]));
            }
        }
    }

    fn scalar(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        self.at += rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
    }

    /// Over a string; `at` is its first quote.
    fn string(&mut self) -> Result<(), NotJson> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            at += scan::plain(bytes.get(at..).ok_or(NotJson)?);
            match bytes.get(at).ok_or(NotJson)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => return Err(NotJson),
            }
        }
        self.at = at + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::part::member;
    use super::*;

    #[test]
    fn values_are_spans_until_they_are_read() {
        let raw = Raw::new(" {\"a\" : [1, {\"b\":\"}]\\\"\"}] , \"c\":-0.50e+3,\"d\":null} ").unwrap();
        let members = raw.members().unwrap();
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!(members[0].1.elements().unwrap().len(), 2);
        assert_eq!(member(&members, "c").and_then(Raw::number), Some("-0.50e+3"));
        assert_eq!(member(&members, "d"), None);
    }

    #[test]
    fn strings_are_unescaped() {
        let string = |text: &str| Raw::new(text).ok().and_then(|raw| raw.string().map(Cow::into_owned));
        assert_eq!(string(r#""a\"\\\/\n\u00e9\ud83d\ude00é""#).as_deref(), Some("a\"\\/\né😀é"));
        for bad in [r#""\ud83d""#, r#""\ud83dx""#, r#""\u00g0""#, r#""\x""#, r#""\u+123""#] {
            assert_eq!(string(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in ["", "{", "[1", "\"a", "{]", "1 2", "\"a\\\"", "nope!", "}", ","] {
            assert!(Raw::new(bad).is_err(), "{bad}");
        }
        for bad in ["{1:2}", "{\"a\" 1}", "{\"a\":1,}", "{,}", "[]"] {
            assert!(Raw::new(bad).and_then(Raw::members).is_err(), "{bad}");
        }
        for bad in ["-", "1.", ".5", "1e", "+1", "01x", "tru"] {
            assert_eq!(Raw::new(bad).ok().and_then(Raw::number), None, "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(Raw::new(&deep).is_err());
    }
}
