//! A value as the bytes that it takes, unread until it is asked for.
//!
//! What nobody asks for is stepped over. Bytes are walked once before any of them are read, within a number of steps
//! that follows from their length: no length, count or nesting that they claim costs more.

use super::parse::WEIGHT_MAX;
use super::schema::{Field, Kind, Node, Schema};
use crate::sources::formats::BadMessage;

/// Deeper values are refused: nothing that is read is deeper than a JSON column, which MySQL cuts at 100.
const DEPTH_MAX: usize = 100;
/// A value takes a byte or more, beside those that take none, of which [`WEIGHT_MAX`] may follow each other.
const STEPS_A_BYTE: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    schema: &'a Schema,
    node: &'a Node,
    bytes: &'a [u8],
}

impl<'a> Span<'a> {
    /// The one value that the bytes are.
    pub fn new(schema: &'a Schema, bytes: &'a [u8]) -> Result<Span<'a>, BadMessage> {
        let mut rest = Rest::of(schema, bytes);
        let span = rest.span(schema.root, 0)?;
        match rest.bytes.len() {
            0 => Ok(span),
            more => Err(malformed(&format!("{more} bytes are left behind the value"))),
        }
    }

    pub fn node(self) -> &'a Node {
        self.node
    }

    pub fn is_null(self) -> bool {
        matches!(self.node.kind, Kind::Null)
    }

    pub fn boolean(self) -> Option<bool> {
        matches!(self.node.kind, Kind::Boolean).then(|| self.bytes != [0])
    }

    /// Of an `int` or a `long`.
    pub fn long(self) -> Option<i64> {
        match self.node.kind {
            Kind::Int | Kind::Long => self.rest().long().ok(),
            _ => None,
        }
    }

    pub fn float(self) -> Option<f32> {
        let bytes = self.bytes.try_into().ok().filter(|_| matches!(self.node.kind, Kind::Float));
        bytes.map(f32::from_le_bytes)
    }

    pub fn double(self) -> Option<f64> {
        let bytes = self.bytes.try_into().ok().filter(|_| matches!(self.node.kind, Kind::Double));
        bytes.map(f64::from_le_bytes)
    }

    /// Of `bytes` or `fixed`.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self.node.kind {
            Kind::Bytes => self.rest().prefixed().ok(),
            Kind::Fixed(_) => Some(self.bytes),
            _ => None,
        }
    }

    /// Of a `string` or an `enum`; `None` also where it is no UTF-8.
    pub fn text(self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::String => std::str::from_utf8(self.rest().prefixed().ok()?).ok(),
            Kind::Enum(symbols) => symbols.get(usize::try_from(self.rest().long().ok()?).ok()?).map(String::as_str),
            _ => None,
        }
    }

    /// Those of a record in the order in which they are written; `None`: it is no record.
    pub fn fields(self) -> Option<impl Iterator<Item = Result<(&'a Field, Span<'a>), BadMessage>>> {
        let Kind::Record(fields) = &self.node.kind else { return None };
        let mut rest = self.rest();
        Some(fields.iter().map(move |field| Ok((field, rest.span(field.node, 0)?))))
    }

    /// Those of a map; `None`: it is none.
    pub fn entries(self) -> Option<Result<Vec<(&'a str, Span<'a>)>, BadMessage>> {
        let Kind::Map(values) = self.node.kind else { return None };
        let mut entries = Vec::new();
        let walked = self.rest().blocks(|rest| {
            let key = rest.prefixed()?;
            let key = std::str::from_utf8(key).map_err(|_| malformed("a map's key is no UTF-8"))?;
            entries.push((key, rest.span(values, 0)?));
            Ok(())
        });
        Some(walked.map(|()| entries))
    }

    /// Those of an array; `None`: it is none.
    pub fn items(self) -> Option<Result<Vec<Span<'a>>, BadMessage>> {
        let Kind::Array(items) = self.node.kind else { return None };
        let mut found = Vec::new();
        let walked = self.rest().blocks(|rest| {
            found.push(rest.span(items, 0)?);
            Ok(())
        });
        Some(walked.map(|()| found))
    }

    fn rest(self) -> Rest<'a> {
        Rest::of(self.schema, self.bytes)
    }
}

/// Bytes that are still to be read.
struct Rest<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    /// Values that may still be stepped over.
    steps: usize,
}

impl<'a> Rest<'a> {
    fn of(schema: &'a Schema, bytes: &'a [u8]) -> Rest<'a> {
        let steps = bytes.len().saturating_mul(STEPS_A_BYTE).saturating_add(WEIGHT_MAX);
        Rest { schema, bytes, steps }
    }

    fn span(&mut self, at: usize, depth: usize) -> Result<Span<'a>, BadMessage> {
        let node = self.branch(at)?;
        let before = self.bytes;
        self.skip(node, depth)?;
        Ok(Span { schema: self.schema, node, bytes: &before[..before.len() - self.bytes.len()] })
    }

    /// The type of the next value: of a union the branch that it says.
    fn branch(&mut self, at: usize) -> Result<&'a Node, BadMessage> {
        let node = &self.schema.nodes[at];
        let Kind::Union(branches) = &node.kind else { return Ok(node) };
        let branch = usize::try_from(self.long()?).ok().and_then(|branch| branches.get(branch));
        branch.map(|at| &self.schema.nodes[*at]).ok_or_else(|| malformed("a union has no such branch"))
    }

    fn skip(&mut self, node: &'a Node, depth: usize) -> Result<(), BadMessage> {
        self.steps = self.steps.checked_sub(1).ok_or_else(|| malformed("it claims more values than it has bytes"))?;
        if depth > DEPTH_MAX {
            return Err(malformed(&format!("it is deeper than {DEPTH_MAX} levels")));
        }
        match &node.kind {
            Kind::Null => Ok(()),
            Kind::Boolean => match self.take(1)? {
                [0 | 1] => Ok(()),
                _ => Err(malformed("a truth value is neither 0 nor 1")),
            },
            Kind::Int => match i32::try_from(self.long()?) {
                Ok(_) => Ok(()),
                Err(_) => Err(malformed("an int has more than 32 bits")),
            },
            Kind::Long => self.long().map(drop),
            Kind::Float => self.take(4).map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Bytes | Kind::String => self.prefixed().map(drop),
            Kind::Fixed(length) => self.take(*length).map(drop),
            Kind::Enum(symbols) => match usize::try_from(self.long()?) {
                Ok(at) if at < symbols.len() => Ok(()),
                _ => Err(malformed("an enum has no such symbol")),
            },
            Kind::Record(fields) => fields.iter().try_for_each(|field| {
                let node = self.branch(field.node)?;
                self.skip(node, depth + 1)
            }),
            Kind::Array(items) => self.blocks(|rest| {
                let node = rest.branch(*items)?;
                rest.skip(node, depth + 1)
            }),
            Kind::Map(values) => self.blocks(|rest| {
                rest.prefixed()?;
                let node = rest.branch(*values)?;
                rest.skip(node, depth + 1)
            }),
            Kind::Union(_) => unreachable!("a union's branch is no union"),
        }
    }

    /// The items of an array or a map: blocks after their count, a negative one with its length; the last is empty.
    fn blocks(&mut self, mut item: impl FnMut(&mut Rest<'a>) -> Result<(), BadMessage>) -> Result<(), BadMessage> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The length serves who steps over the block; its items tell it, too.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BadMessage> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(malformed("it ends before its end"));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn prefixed(&mut self) -> Result<&'a [u8], BadMessage> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(malformed("a length is negative")),
        }
    }

    /// Seven bits a byte, the lowest first, with the sign in the lowest bit.
    fn long(&mut self) -> Result<i64, BadMessage> {
        let mut value = 0u64;
        for (i, byte) in self.bytes.iter().enumerate().take(10) {
            let bits = (byte & 0x7f) as u64;
            if i == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[i + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        let ended = self.bytes.len() < 10;
        Err(malformed(if ended { "it ends before its end" } else { "a number has more than 64 bits" }))
    }
}

fn malformed(what: &str) -> BadMessage {
    BadMessage::malformed(format!("the message is not what its schema says: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(schema: &str, bytes: &[u8]) -> Result<String, String> {
        let schema = Schema::parse(schema, &[]).expect("it is a schema");
        let span = Span::new(&schema, bytes).map_err(|bad| bad.reason)?;
        let mut out = String::new();
        super::super::document::print(&mut out, span).map(|()| out).ok_or_else(|| "it cannot be printed".to_string())
    }

    #[test]
    fn values_are_read_as_the_specification_writes_them() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("\"long\"", &[0x7f], "-64"),
            ("\"long\"", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "-9223372036854775808"),
            ("\"string\"", b"\x06foo", "\"foo\""),
            (r#"["null","string"]"#, b"\x02\x02a", "\"a\""),
            (r#"["null","string"]"#, b"\0", "null"),
            (r#"{"type":"array","items":"long"}"#, &[4, 6, 54, 0], "[3, 27]"),
            (r#"{"type":"array","items":"long"}"#, &[3, 4, 6, 54, 2, 2, 0], "[3, 27, 1]"),
            (r#"{"type":"map","values":"boolean"}"#, b"\x02\x02a\x01\0", r#"{"a": true}"#),
            (r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, &[2], "\"B\""),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"float"}]}"#,
                &[0, 0, 0xc0, 0x3f],
                r#"{"a": 1.5}"#,
            ),
        ];
        for (schema, bytes, printed) in cases {
            assert_eq!(said(schema, bytes).as_deref(), Ok(*printed), "{schema}");
        }
    }

    #[test]
    fn bytes_cost_no_more_than_they_are() {
        let nulls = r#"{"type":"array","items":"null"}"#;
        let giant = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        let cases: &[(&str, &[u8], &str)] = &[
            (nulls, &giant, "more values than it has bytes"),
            ("\"string\"", &giant, "ends before its end"),
            ("\"bytes\"", &[1], "a length is negative"),
            ("\"long\"", &[0xff; 11], "more than 64 bits"),
            ("\"long\"", &[0xff; 3], "ends before its end"),
            ("\"int\"", &[0xff, 0xff, 0xff, 0xff, 0x7f], "more than 32 bits"),
            ("\"int\"", &[2, 2], "1 bytes are left"),
            ("\"boolean\"", &[2], "neither 0 nor 1"),
            (r#"["null"]"#, &[2], "no such branch"),
            (r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[1], "no such symbol"),
            (list, &[2; 200], "deeper than 100"),
        ];
        for (schema, bytes, reason) in cases {
            let error = said(schema, bytes).unwrap_err();
            assert!(error.contains(reason), "{schema}: {error}");
        }
    }
}
