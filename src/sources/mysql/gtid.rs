//! GTID sets: which transactions of which servers have been seen, gaps included.
//!
//! A GTID is (server uuid, tag, number); numbers start at 1, the tag is empty before MySQL 8.3 and mostly after it. A
//! set keeps intervals exactly as they are: `1-7:9-10` never becomes `1-10`, since a replica may commit out of order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mysql_common::packets::{GnoInterval, Sid, Tag};

/// One transaction of one server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    pub origin: Origin,
    pub number: u64,
}

/// Whose numbers these are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub uuid: [u8; 16],
    pub tag: String,
}

/// Half-open intervals of numbers for each origin: sorted, disjoint, not adjacent, never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    intervals: BTreeMap<Origin, Vec<(u64, u64)>>,
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("'{text}' is no GTID set: {reason} at '{part}'")]
pub struct GtidError {
    text: String,
    part: String,
    reason: &'static str,
}

impl GtidSet {
    pub fn add(&mut self, gtid: &Gtid) {
        self.add_interval(&gtid.origin, gtid.number, gtid.number + 1);
    }

    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.intervals.get(&gtid.origin).is_some_and(|own| {
            let after = own.partition_point(|(start, _)| *start <= gtid.number);
            after > 0 && gtid.number < own[after - 1].1
        })
    }

    pub fn is_subset(&self, other: &GtidSet) -> bool {
        self.intervals.iter().all(|(origin, own)| {
            let Some(others) = other.intervals.get(origin) else { return false };
            own.iter().all(|(start, end)| {
                let after = others.partition_point(|(s, _)| s <= start);
                after > 0 && *end <= others[after - 1].1
            })
        })
    }

    /// What is in `self` and not in `other`, for messages.
    pub fn minus(&self, other: &GtidSet) -> GtidSet {
        let mut rest = GtidSet::default();
        for (origin, own) in &self.intervals {
            let others = other.intervals.get(origin).map_or(&[][..], Vec::as_slice);
            for &(start, end) in own {
                let mut from = start;
                for &(s, e) in others.iter().filter(|(s, e)| *s < end && *e > start) {
                    if from < s {
                        rest.add_interval(origin, from, s);
                    }
                    from = from.max(e);
                }
                if from < end {
                    rest.add_interval(origin, from, end);
                }
            }
        }
        rest
    }

    /// The set as the dump command carries it.
    pub fn sids(&self) -> Vec<Sid<'static>> {
        self.intervals
            .iter()
            .map(|(origin, own)| {
                let intervals = own.iter().map(|(start, end)| GnoInterval::new(*start, *end)).collect();
                let sid = Sid::new(origin.uuid).with_intervals(intervals);
                if origin.tag.is_empty() {
                    return sid;
                }
                sid.with_tag(Tag::new(origin.tag.clone()).expect("tags are checked when a set is parsed or added to"))
            })
            .collect()
    }

    fn add_interval(&mut self, origin: &Origin, start: u64, end: u64) {
        let own = match self.intervals.get_mut(origin) {
            Some(own) => own,
            None => self.intervals.entry(origin.clone()).or_default(),
        };
        // All intervals that touch the new one become one with it.
        let first = own.partition_point(|(_, e)| *e < start);
        let last = own.partition_point(|(s, _)| *s <= end);
        let merged = own[first..last].iter().fold((start, end), |(s, e), i| (s.min(i.0), e.max(i.1)));
        own.splice(first..last, [merged]);
    }
}

impl FromStr for GtidSet {
    type Err = GtidError;

    /// Reads what `@@gtid_executed` prints: `uuid:1-5:7:tag:1-3,uuid:…`, line breaks allowed; no text: the empty set.
    fn from_str(text: &str) -> Result<GtidSet, GtidError> {
        let bad = |part: &str, reason| GtidError { text: text.to_string(), part: part.to_string(), reason };
        let mut set = GtidSet::default();
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let mut parts = entry.split(':').map(str::trim);
            let first = parts.next().unwrap_or_default();
            let uuid = parse_uuid(first).ok_or_else(|| bad(first, "expected a server uuid"))?;
            let mut origin = Origin { uuid, tag: String::new() };
            for part in parts {
                if !part.starts_with(|c: char| c.is_ascii_digit()) {
                    origin.tag = part.to_ascii_lowercase();
                    Tag::new(origin.tag.as_str()).map_err(|_| bad(part, "expected a number or a tag"))?;
                    continue;
                }
                let (start, end) = part.split_once('-').unwrap_or((part, part));
                let number = |s: &str| s.trim().parse::<u64>().ok().filter(|n| *n > 0 && *n < u64::MAX);
                match (number(start), number(end)) {
                    (Some(start), Some(end)) if start <= end => set.add_interval(&origin, start, end + 1),
                    _ => return Err(bad(part, "expected an interval of numbers from 1")),
                }
            }
        }
        Ok(set)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last_uuid = None;
        for (origin, intervals) in &self.intervals {
            if last_uuid != Some(origin.uuid) {
                let comma = if last_uuid.is_some() { "," } else { "" };
                write!(f, "{comma}{}", format_uuid(&origin.uuid))?;
                last_uuid = Some(origin.uuid);
            }
            if !origin.tag.is_empty() {
                write!(f, ":{}", origin.tag)?;
            }
            for (start, end) in intervals {
                match end - start {
                    1 => write!(f, ":{start}")?,
                    _ => write!(f, ":{start}-{}", end - 1)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = if self.origin.tag.is_empty() { String::new() } else { format!("{}:", self.origin.tag) };
        write!(f, "{}:{tag}{}", format_uuid(&self.origin.uuid), self.number)
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok().map(u128::to_be_bytes)
}

fn format_uuid(uuid: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*uuid));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_set_prints_as_it_is_read_with_gaps_and_tags() {
        for text in ["", &format!("{A}:1-7:9-10"), &format!("{A}:5,{B}:1"), &format!("{A}:1-3:blue:2-5:7:red:1")] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set(&format!("{A}:1-3:4-5,\n{A}:7:6")).to_string(), format!("{A}:1-7"));
    }

    #[test]
    fn what_is_no_set_is_refused_by_name() {
        for text in ["x:1", &format!("{A}:0"), &format!("{A}:5-3"), &format!("{A}:1-"), &format!("{A}:Ünicode:1")] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
        let error = format!("{A}:5-3").parse::<GtidSet>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("'{A}:5-3' is no GTID set: expected an interval of numbers from 1 at '5-3'")
        );
    }

    #[test]
    fn random_sets_agree_with_sets_of_numbers() {
        let mut seed = 0x5eed_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..2_000 {
            let mut make = || {
                let numbers: BTreeSet<(bool, u64)> = (0..next(20)).map(|_| (next(2) == 0, 1 + next(25))).collect();
                let mut set = GtidSet::default();
                for &(first, number) in &numbers {
                    let uuid = parse_uuid(if first { A } else { B }).unwrap();
                    set.add(&Gtid { origin: Origin { uuid, tag: String::new() }, number });
                }
                (numbers, set)
            };
            let ((a, a_set), (b, b_set)) = (make(), make());
            let of = |number: &(bool, u64)| Gtid {
                origin: Origin { uuid: parse_uuid(if number.0 { A } else { B }).unwrap(), tag: String::new() },
                number: number.1,
            };
            assert!(a.iter().all(|n| a_set.contains(&of(n))), "round {round}");
            assert!(b.difference(&a).all(|n| !a_set.contains(&of(n))), "round {round}");
            assert_eq!(a_set.is_subset(&b_set), a.is_subset(&b), "round {round}: {a_set} in {b_set}");
            let mut rest = GtidSet::default();
            a.difference(&b).for_each(|n| rest.add(&of(n)));
            assert_eq!(a_set.minus(&b_set), rest, "round {round}");
            assert_eq!(set(&a_set.to_string()), a_set, "round {round}");
        }
    }
}
