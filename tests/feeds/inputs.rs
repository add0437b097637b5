//! Inputs of the fuzz targets: bytes that are messages for one decoder, in order.
//!
//! The first byte chooses among the golden files of the format: their decoder's variant, settings and tables. Then come
//! messages: two lengths of two bytes, little-endian, for key and value (0: there is none; else one more than the
//! length), and the bytes. A length beyond the end means all that is left.

use tidemill::sources::formats::Message;

use crate::golden::{Feed, Line, Parts};

/// Decodes the messages; what a decoder may not do panics.
pub fn decode(feeds: &[Feed], format: &str, data: &[u8]) {
    let Some((chosen, messages)) = data.split_first() else { return };
    let of_format: Vec<&Feed> = feeds.iter().filter(|feed| feed.format == format).collect();
    let feed = of_format[*chosen as usize % of_format.len()];
    // Decoders keep what they learnt of tables: each input begins anew.
    let mut decoder = feed.decoder();
    for (key, value) in split(messages) {
        let mut said = Vec::new();
        let message = Message { key, value, topic: "topic", ..Message::default() };
        if decoder.decode(message, &feed.tables, &mut said).is_err() {
            assert!(said.is_empty(), "a message that cannot be read says nothing");
        }
    }
}

type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn split(mut rest: &[u8]) -> Vec<Pair<'_>> {
    let mut messages = Vec::new();
    while let Some((lengths, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        let mut take = |low: u8, high: u8| {
            let length = u16::from_le_bytes([low, high]).checked_sub(1)?;
            let (taken, after) = rest.split_at(rest.len().min(length as usize));
            rest = after;
            Some(taken)
        };
        messages.push((take(lengths[0], lengths[1]), take(lengths[2], lengths[3])));
    }
    messages
}

/// The golden messages of a format as inputs: each file's in order, a few in each.
pub fn seeds(feeds: &[Feed], format: &str) -> Vec<Vec<u8>> {
    const MESSAGES: usize = 4;
    let of_format = feeds.iter().filter(|feed| feed.format == format).enumerate();
    of_format
        .flat_map(|(place, feed)| {
            let messages: Vec<&Parts> = feed.lines.iter().filter_map(message).collect();
            messages.chunks(MESSAGES).map(|chunk| input(place as u8, chunk)).collect::<Vec<_>>()
        })
        .collect()
}

fn message(line: &Line) -> Option<&Parts> {
    match line {
        Line::End(_, parts) => Some(parts),
        _ => None,
    }
}

fn input(chosen: u8, messages: &[&Parts]) -> Vec<u8> {
    let mut data = vec![chosen];
    for parts in messages {
        let both = [parts.key.as_deref(), parts.value.as_deref()];
        for bytes in both {
            let length = bytes.map_or(0, |bytes| bytes.len().min(u16::MAX as usize - 1) as u16 + 1);
            data.extend(length.to_le_bytes());
        }
        both.into_iter().flatten().for_each(|bytes| data.extend(&bytes[..bytes.len().min(u16::MAX as usize - 1)]));
    }
    data
}

/// The inputs in a file of kept ones.
pub fn kept(mut file: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, after) = file.split_first_chunk::<4>()?;
        let (input, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        file = after;
        Some(input)
    })
}
