//! Bytes that a feed compressed inside its values, on top of what the transport compresses.
//!
//! TiCDC writes snappy as a bare block and LZ4 as a frame. What a message claims its size to be is not believed.

use std::borrow::Cow;
use std::io::Read;

use super::{BadMessage, Compression};

/// TiDB's largest row is 120 MiB (`txn-entry-size-limit`).
pub const INFLATED_BYTES_MAX: usize = 160 << 20;
/// Snappy's copies make at most 64 bytes of 3; a larger claim is a lie.
const SNAPPY_RATIO_MAX: usize = 32;

/// The bytes as they were before they were compressed.
pub fn inflate(compression: Compression, bytes: &[u8]) -> Result<Cow<'_, [u8]>, BadMessage> {
    inflate_to(INFLATED_BYTES_MAX, compression, bytes)
}

fn inflate_to(bytes_max: usize, compression: Compression, bytes: &[u8]) -> Result<Cow<'_, [u8]>, BadMessage> {
    match compression {
        Compression::None => Ok(Cow::Borrowed(bytes)),
        Compression::Snappy => {
            let claimed = snap::raw::decompress_len(bytes).map_err(|e| bad("snappy", &e))?;
            if claimed > bytes_max || claimed / SNAPPY_RATIO_MAX > bytes.len() {
                return Err(bad("snappy", &format!("it claims {claimed} bytes")));
            }
            let inflated = snap::raw::Decoder::new().decompress_vec(bytes);
            Ok(Cow::Owned(inflated.map_err(|e| bad("snappy", &e))?))
        }
        Compression::Lz4 => {
            let mut inflated = Vec::with_capacity(4 * bytes.len());
            let mut reader = lz4_flex::frame::FrameDecoder::new(bytes).take(bytes_max as u64 + 1);
            reader.read_to_end(&mut inflated).map_err(|e| bad("lz4", &e))?;
            match inflated.len() > bytes_max {
                true => Err(bad("lz4", &format!("it is larger than {bytes_max} bytes"))),
                false => Ok(Cow::Owned(inflated)),
            }
        }
    }
}

fn bad(name: &str, why: &dyn std::fmt::Display) -> BadMessage {
    BadMessage {
        remedy: "give the source the changefeed's large-message-handle-compression".into(),
        ..BadMessage::malformed(format!("a value is not compressed with {name}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_compressions_come_back() {
        let text = "a row of a table, ".repeat(1000);
        let snappy = snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap();
        assert_eq!(inflate(Compression::Snappy, &snappy).as_deref(), Ok(text.as_bytes()));
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(text.as_bytes()).unwrap();
        assert_eq!(inflate(Compression::Lz4, &lz4.finish().unwrap()).as_deref(), Ok(text.as_bytes()));
    }

    #[test]
    fn a_claimed_size_is_not_believed() {
        // A header alone, which says 4 GiB - 1 or 1 MiB.
        assert!(inflate(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).is_err());
        assert!(inflate(Compression::Snappy, &[0x80, 0x80, 0x40, 0]).is_err());
        assert!(inflate(Compression::Lz4, b"{}").is_err());
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = lz4.finish().unwrap();
        assert!(bomb.len() < 1 << 14);
        assert_eq!(inflate_to(1 << 19, Compression::Lz4, &bomb).map_err(|e| e.code), Err("BAD_MESSAGE"));
        assert!(inflate_to(1 << 20, Compression::Lz4, &bomb).is_ok());
        let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; 1 << 20]).unwrap();
        assert!(inflate_to(1 << 19, Compression::Snappy, &bomb).is_err());
    }
}
