//! The functions queries can call: names, types and evaluation, with MySQL's meaning.
//!
//! *Forms* (`and`, `case`, `=`, `cast`) are taken apart by `scalars`, for they guard or compare; *functions* have a
//! type rule and one row's evaluation, over arguments already brought to the types they ask for. A [`Bound`] call is
//! what runs: it knows its types and the time zone, and reads nothing else.
//!
//! Invariants:
//! - a result is a function of the arguments alone: no clock, no randomness, no session; now() is bound to a timestamp
//!   or turned into bounds (`plan::temporal`) before anything runs;
//! - a function that is not marked fallible returns for every row.

pub mod arithmetic;
pub mod bound;
pub mod cast;
pub mod clock;
pub mod interval;
pub mod numbers;
pub mod text;
pub mod time;
pub mod types;

use crate::row::datum::Datum;
use crate::row::types::SqlType;
use types::TypeError;

/// A row's value that the operation has no answer for: a definite error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0} value is out of range")]
    OutOfRange(SqlType),
    #[error("value {value} does not fit {sql_type}")]
    DoesNotFit { value: String, sql_type: SqlType },
}

/// What an argument is brought to before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    Text,
    /// BIGINT.
    Int,
    Double,
    /// An exact number or a DOUBLE; a text becomes a DOUBLE.
    Number,
    /// DATE, DATETIME or TIME as it is; a text is read as a DATETIME.
    Moment,
    /// All arguments of this kind get one common type.
    Common,
}

/// The types of one call: of its arguments, as they arrive, and of its result.
pub struct Types<'a> {
    pub args: &'a [SqlType],
    pub returns: &'a SqlType,
}

pub type Returns = fn(&[SqlType]) -> Result<SqlType, TypeError>;
pub type Eval = fn(&[Datum], &Types<'_>) -> Result<Datum, Fault>;

pub struct Function {
    pub name: &'static str,
    /// How many arguments, at least and at most.
    arity: (usize, usize),
    /// One an argument; the last one repeats.
    params: &'static [Param],
    pub returns: Returns,
    /// NULL if any argument is, without a call.
    pub strict: bool,
    pub fallible: bool,
    pub eval: Eval,
}

impl Function {
    pub const fn new(
        name: &'static str,
        arity: (usize, usize),
        params: &'static [Param],
        returns: Returns,
        eval: Eval,
    ) -> Function {
        Function { name, arity, params, returns, strict: true, fallible: false, eval }
    }

    pub const fn sees_nulls(self) -> Function {
        Function { strict: false, ..self }
    }

    pub const fn may_fail(self) -> Function {
        Function { fallible: true, ..self }
    }

    pub fn param(&self, i: usize) -> Param {
        self.params[i.min(self.params.len() - 1)]
    }
}

const MANY: usize = 1_000;

/// What `scalars` takes apart itself.
const FORMS: &[(&str, usize, usize)] = &[
    ("and", 2, 2),
    ("or", 2, 2),
    ("xor", 2, 2),
    ("not", 1, 1),
    ("truth", 1, 1),
    ("is_true", 1, 1),
    ("is_false", 1, 1),
    ("is_null", 1, 1),
    ("is_not_null", 1, 1),
    ("=", 2, 2),
    ("<>", 2, 2),
    ("<", 2, 2),
    ("<=", 2, 2),
    (">", 2, 2),
    (">=", 2, 2),
    ("<=>", 2, 2),
    ("in", 2, MANY),
    ("like", 2, 2),
    ("case", 2, MANY),
    ("cast", 2, 2),
    ("+", 2, 2),
    ("-", 2, 2),
    ("*", 2, 2),
    ("/", 2, 2),
    ("%", 2, 2),
    ("div", 2, 2),
    ("neg", 1, 1),
    ("if", 3, 3),
    ("ifnull", 2, 2),
    ("nullif", 2, 2),
    ("coalesce", 1, MANY),
    ("date_add", 2, 2),
    ("date_sub", 2, 2),
    ("interval", 3, 3),
    ("now", 0, 1),
    ("utc_timestamp", 0, 1),
    ("curdate", 0, 0),
    ("utc_date", 0, 0),
];

pub const AGGREGATES: &[(&str, usize, usize)] =
    &[("count", 0, 1), ("sum", 1, 1), ("avg", 1, 1), ("min", 1, 1), ("max", 1, 1)];

const ALIASES: &[(&str, &str)] = &[
    ("mod", "%"),
    ("ceil", "ceiling"),
    ("lcase", "lower"),
    ("ucase", "upper"),
    ("substr", "substring"),
    ("mid", "substring"),
    ("character_length", "char_length"),
    ("octet_length", "length"),
    ("pow", "power"),
    ("dayofmonth", "day"),
    ("isnull", "is_null"),
    ("adddate", "date_add"),
    ("subdate", "date_sub"),
    ("current_timestamp", "now"),
    ("localtime", "now"),
    ("localtimestamp", "now"),
    ("current_date", "curdate"),
];

/// Functions people will try, and what to say about them.
const REFUSED: &[(&str, &str)] = &[
    ("rand", "its value would change from one run to the next"),
    ("uuid", "its value would change from one run to the next"),
    ("uuid_short", "its value would change from one run to the next"),
    ("curtime", "a time of day comes round again: compare whole dates, with NOW() or CURDATE()"),
    ("current_time", "a time of day comes round again: compare whole dates, with NOW() or CURDATE()"),
    ("sysdate", "its value would change from one run to the next: write NOW()"),
    ("unix_timestamp", "compare a DATETIME or TIMESTAMP with NOW()"),
    ("sleep", "a view never waits"),
    ("tidemill_wait", "it stands alone: SELECT tidemill_wait('source', 'position')"),
    ("connection_id", "a view does not depend on a session"),
    ("user", "a view does not depend on a session"),
    ("last_insert_id", "a view does not depend on a session"),
    ("group_concat", "of the aggregates there are COUNT, SUM, AVG, MIN and MAX so far"),
];

/// The function of this name, if it is one that [`Bound`](bound::Bound) calls.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|f| f.name == name)
}

/// The name under which a call is planned; `None` if there is no such function.
pub fn canonical_name(name: &str) -> Option<&'static str> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical);
    names().map(|(known, ..)| known).find(|known| *known == name)
}

/// True for the names that read the time.
pub fn is_clock(name: &str) -> bool {
    matches!(canonical_name(name), Some("now" | "utc_timestamp" | "curdate" | "utc_date"))
}

pub fn takes(canonical: &str, arguments: usize) -> bool {
    names().any(|(known, least, most)| known == canonical && (least..=most).contains(&arguments))
}

pub fn why_refused(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
}

/// A known function at most two edits away.
pub fn near(name: &str) -> Option<&'static str> {
    let known = names().map(|(known, ..)| known).chain(ALIASES.iter().map(|(alias, _)| *alias));
    let callable = known.filter(|k| k.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_'));
    nearest(name, callable)
}

/// The candidate closest to a name, if it is at most two edits and less than half of the name away.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 2.min(name.chars().count() / 2);
    candidates.map(|c| (edits(name, c), c)).filter(|(d, _)| *d <= allowed).min().map(|(_, c)| c)
}

fn all() -> impl Iterator<Item = &'static Function> {
    text::FUNCTIONS.iter().chain(numbers::FUNCTIONS).chain(time::FUNCTIONS)
}

fn names() -> impl Iterator<Item = (&'static str, usize, usize)> {
    FORMS.iter().chain(AGGREGATES).copied().chain(all().map(|f| (f.name, f.arity.0, f.arity.1)))
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + (x != *y) as usize).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_once_and_near_misses_are_found() {
        let mut all: Vec<_> = names().map(|(name, ..)| name).chain(ALIASES.iter().map(|a| a.0)).collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(near("cocat"), Some("concat"));
        assert_eq!(near("substrng"), Some("substring"));
        assert_eq!(near("frobnicate"), None);
        assert_eq!(canonical_name("ceil"), Some("ceiling"));
        assert!(takes("count", 0) && !takes("sum", 0));
    }
}
