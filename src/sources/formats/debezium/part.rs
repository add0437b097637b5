//! A value of an event as its encoding has it: unread until it is asked for.

use std::borrow::Cow;
use std::fmt;

use super::modes::Binaries;
use super::semantic::Semantic;
use crate::sources::formats::BadMessage;

/// What JSON and Avro have in common. It is shown in messages about the value, cut off when long.
pub trait Part<'a>: Copy + fmt::Display {
    fn is_null(self) -> bool;

    fn boolean(self) -> Option<bool>;

    /// A whole number, also where it is written as a text.
    fn integer(self) -> Option<i128>;

    /// A whole number that is written as a number.
    fn long(self) -> Option<i64>;

    /// The digits of a number.
    fn number(self) -> Option<Cow<'a, str>>;

    fn string(self) -> Option<Cow<'a, str>>;

    /// Bytes, where they are texts as that mode writes them.
    fn bytes(self, binaries: Binaries) -> Option<Cow<'a, [u8]>>;

    /// The members of a record, in the order in which they are written.
    fn members(self) -> Result<Members<'a, Self>, BadMessage>;

    fn elements(self) -> Result<Vec<Self>, BadMessage>;

    /// What it means, where it says so itself.
    fn semantic(self) -> Option<&'a Semantic>;

    fn unsigned(self) -> Option<u64> {
        self.integer()?.try_into().ok()
    }
}

pub type Members<'a, P> = Vec<(Cow<'a, str>, P)>;

/// The last member of that name, if it is not null.
pub fn member<'a, P: Part<'a>>(members: &Members<'a, P>, name: &str) -> Option<P> {
    members.iter().rev().find(|(n, _)| n == name).map(|(_, value)| *value).filter(|value| !value.is_null())
}
