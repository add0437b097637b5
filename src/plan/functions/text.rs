//! Functions of text; positions count characters from 1.

use super::types::{LONGTEXT, TypeError, text_length, varchar};
use super::{Fault, Function, Param, Types};
use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};

pub const FUNCTIONS: &[Function] = &[
    Function::new("concat", (1, 1_000), &[Param::Text], joined, concat),
    Function::new("concat_ws", (2, 1_000), &[Param::Text], separated, concat_ws).sees_nulls(),
    Function::new("lower", (1, 1), &[Param::Text], same, |row, _| map(row, |s| s.chars().map(lower).collect())),
    Function::new("upper", (1, 1), &[Param::Text], same, |row, _| map(row, |s| s.chars().map(upper).collect())),
    Function::new("length", (1, 1), &[Param::Text], |_| Ok(BIGINT), |row, _| count(row, str::len)),
    Function::new("char_length", (1, 1), &[Param::Text], |_| Ok(BIGINT), |row, _| count(row, |s| s.chars().count())),
    Function::new("substring", (2, 3), &[Param::Text, Param::Int], same, substring),
    Function::new("left", (2, 2), &[Param::Text, Param::Int], same, left),
    Function::new("right", (2, 2), &[Param::Text, Param::Int], same, right),
    Function::new("trim", (1, 2), &[Param::Text], same, |row, _| trim(row, true, true)),
    Function::new("ltrim", (1, 2), &[Param::Text], same, |row, _| trim(row, true, false)),
    Function::new("rtrim", (1, 2), &[Param::Text], same, |row, _| trim(row, false, true)),
    Function::new("replace", (3, 3), &[Param::Text], |_| Ok(LONGTEXT), replace),
    Function::new("reverse", (1, 1), &[Param::Text], same, |row, _| map(row, |s| s.chars().rev().collect())),
    Function::new("locate", (2, 2), &[Param::Text], |_| Ok(BIGINT), |row, _| Ok(locate(text(&row[0]), text(&row[1])))),
    Function::new("instr", (2, 2), &[Param::Text], |_| Ok(BIGINT), |row, _| Ok(locate(text(&row[1]), text(&row[0])))),
];

fn joined(args: &[SqlType]) -> Result<SqlType, TypeError> {
    let lengths: Option<u32> = args.iter().map(text_length).try_fold(0u32, |sum, n| sum.checked_add(n?));
    Ok(lengths.map_or(LONGTEXT, varchar))
}

fn separated(args: &[SqlType]) -> Result<SqlType, TypeError> {
    let separators = text_length(&args[0]).and_then(|n| n.checked_mul(args.len() as u32));
    match (separators, joined(args)?) {
        (Some(n), SqlType::Varchar(m)) => Ok(varchar(n.saturating_add(m))),
        _ => Ok(LONGTEXT),
    }
}

fn same(args: &[SqlType]) -> Result<SqlType, TypeError> {
    Ok(text_length(&args[0]).map_or(LONGTEXT, varchar))
}

fn text(datum: &Datum) -> &str {
    match datum {
        Datum::Text(text) => text,
        other => panic!("{other:?} is no text, though the parameter is"),
    }
}

fn int(datum: &Datum) -> i64 {
    match datum {
        Datum::Int(value) => *value,
        other => panic!("{other:?} is no integer, though the parameter is"),
    }
}

/// The character's own other case: one that would become several stays, as ß does.
fn single(mut cased: impl Iterator<Item = char>, c: char) -> char {
    match (cased.next(), cased.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn lower(c: char) -> char {
    single(c.to_lowercase(), c)
}

fn upper(c: char) -> char {
    single(c.to_uppercase(), c)
}

fn map(row: &[Datum], f: fn(&str) -> String) -> Result<Datum, Fault> {
    Ok(Datum::Text(f(text(&row[0]))))
}

fn count(row: &[Datum], f: fn(&str) -> usize) -> Result<Datum, Fault> {
    Ok(Datum::Int(f(text(&row[0])) as i64))
}

fn concat(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(Datum::Text(row.iter().map(text).collect()))
}

/// NULL only for a NULL separator; NULL values are left out.
fn concat_ws(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    let Datum::Text(separator) = &row[0] else { return Ok(Datum::Null) };
    let parts: Vec<&str> = row[1..].iter().filter(|d| **d != Datum::Null).map(text).collect();
    Ok(Datum::Text(parts.join(separator)))
}

/// From a position, negative counted from the end; position 0 is nowhere.
fn substring(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    let (text, from) = (text(&row[0]), int(&row[1]));
    let length = row.get(2).map_or(i64::MAX, int);
    let characters = text.chars().count() as i64;
    let start = match from {
        1.. => from - 1,
        0 => characters,
        _ => characters.saturating_add(from),
    };
    if start < 0 || length <= 0 {
        return Ok(Datum::Text(String::new()));
    }
    Ok(Datum::Text(text.chars().skip(start as usize).take(length as usize).collect()))
}

fn left(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(Datum::Text(text(&row[0]).chars().take(int(&row[1]).max(0) as usize).collect()))
}

fn right(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    let text = text(&row[0]);
    let skipped = text.chars().count().saturating_sub(int(&row[1]).max(0) as usize);
    Ok(Datum::Text(text.chars().skip(skipped).collect()))
}

/// Takes whole copies of the second argument, a space without one, off the ends.
fn trim(row: &[Datum], start: bool, end: bool) -> Result<Datum, Fault> {
    let mut rest = text(&row[0]);
    let what = row.get(1).map_or(" ", text);
    if !what.is_empty() {
        while let Some(shorter) = start.then(|| rest.strip_prefix(what)).flatten() {
            rest = shorter;
        }
        while let Some(shorter) = end.then(|| rest.strip_suffix(what)).flatten() {
            rest = shorter;
        }
    }
    Ok(Datum::Text(rest.to_string()))
}

fn replace(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    let (text, from, to) = (text(&row[0]), text(&row[1]), text(&row[2]));
    Ok(Datum::Text(if from.is_empty() { text.to_string() } else { text.replace(from, to) }))
}

fn locate(needle: &str, text: &str) -> Datum {
    Datum::Int(text.find(needle).map_or(0, |at| text[..at].chars().count() as i64 + 1))
}
