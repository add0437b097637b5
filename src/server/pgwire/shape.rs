//! Whether a message's bytes are what its type says: the decoder trusts counts, and mends texts.

use crate::server::pgwire::wire::HEADER_BYTES;

/// A message with its type byte and length, checked before it is decoded.
pub fn check(packet: &[u8]) -> Result<(), &'static str> {
    let mut rest = Rest(&packet[HEADER_BYTES..]);
    let whole = match packet[0] {
        b'Q' => rest.text(),
        b'P' => rest.text().and_then(|()| rest.text()).and_then(|()| rest.many(4)),
        b'B' => rest.text().and_then(|()| rest.text()).and_then(|()| rest.bound()),
        b'D' | b'C' => rest.skip(1).and_then(|()| rest.text()),
        b'E' => rest.text().and_then(|()| rest.skip(4)),
        b'f' => rest.text(),
        b'S' | b'H' | b'X' | b'c' => Some(()),
        b'd' | b'p' => return Ok(()),
        _ => return Err("a message of an unknown type"),
    };
    match whole {
        Some(()) if rest.0.is_empty() => Ok(()),
        _ if std::str::from_utf8(packet).is_err() && matches!(packet[0], b'Q' | b'P') => {
            Err("a text that is not UTF-8")
        }
        _ => Err("a message whose counts do not fit its length"),
    }
}

/// The body of a SASLInitialResponse: a method, a length and as many bytes.
pub fn is_sasl_initial(body: &[u8]) -> bool {
    let mut rest = Rest(body);
    rest.text().and_then(|()| rest.value()).is_some() && rest.0.is_empty()
}

/// What is left to read; `None` from any of its methods: there was less.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    /// UTF-8 up to a zero byte.
    fn text(&mut self) -> Option<()> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&self.0[..end]).ok()?;
        self.skip(end + 1)
    }

    fn count(&mut self) -> Option<usize> {
        let field = self.0.first_chunk::<2>()?;
        let count = u16::from_be_bytes(*field);
        self.skip(2)?;
        Some(count as usize)
    }

    /// A count, and so many values of a fixed width.
    fn many(&mut self, bytes: usize) -> Option<()> {
        let count = self.count()?;
        self.skip(count * bytes)
    }

    /// A length (-1: NULL), and so many bytes.
    fn value(&mut self) -> Option<()> {
        let field = self.0.first_chunk::<4>()?;
        let length = i32::from_be_bytes(*field);
        self.skip(4)?;
        match length {
            -1 => Some(()),
            _ => self.skip(usize::try_from(length).ok()?),
        }
    }

    /// The parameters' formats, the parameters, the results' formats.
    fn bound(&mut self) -> Option<()> {
        self.many(2)?;
        for _ in 0..self.count()? {
            self.value()?;
        }
        self.many(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn whole_messages_pass_and_short_ones_do_not() {
        let whole: &[(u8, &[u8])] = &[
            (b'Q', b"SELECT 1\0"),
            (b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x14"),
            (b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0"),
            (b'D', b"Ss\0"),
            (b'E', b"\0\0\0\0\0"),
        ];
        for (kind, body) in whole {
            assert_eq!(check(&packet(*kind, body)), Ok(()));
            for end in 0..body.len() {
                assert!(check(&packet(*kind, &body[..end])).is_err(), "{} cut at {end}", *kind as char);
            }
        }
        assert_eq!(check(&packet(b'Q', b"\xe4\0")), Err("a text that is not UTF-8"));
        assert!(check(&packet(b'?', b"")).is_err());
        assert!(is_sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x01n"));
        assert!(!is_sasl_initial(b"SCRAM-SHA-256\0\0\0\0\x02n"));
        assert!(!is_sasl_initial(b"SCRAM-SHA-256\0\xff\xff\xff\xfe"));
    }
}
