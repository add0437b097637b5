//! Functions of dates and times, on the wall clock of the view's time zone.

use super::types::{LONGTEXT, TypeError};
use super::{Fault, Function, Param, Types};
use crate::row::datum::Datum;
use crate::row::temporal::{Date, MICROS_A_DAY, MICROS_A_SECOND};
use crate::row::types::{BIGINT, SqlType};

pub const FUNCTIONS: &[Function] = &[
    Function::new("date", (1, 1), &[Param::Moment], |_| Ok(SqlType::Date), date),
    Function::new("year", (1, 1), &[Param::Moment], integer, |row, _| part(row, |d, _| d.year as i64)),
    Function::new("quarter", (1, 1), &[Param::Moment], integer, |row, _| part(row, |d, _| (d.month as i64 + 2) / 3)),
    Function::new("month", (1, 1), &[Param::Moment], integer, |row, _| part(row, |d, _| d.month as i64)),
    Function::new("day", (1, 1), &[Param::Moment], integer, |row, _| part(row, |d, _| d.day as i64)),
    Function::new("hour", (1, 1), &[Param::Moment], integer, |row, _| part(row, |_, clock| clock / 3_600)),
    Function::new("minute", (1, 1), &[Param::Moment], integer, |row, _| part(row, |_, clock| clock / 60 % 60)),
    Function::new("second", (1, 1), &[Param::Moment], integer, |row, _| part(row, |_, clock| clock % 60)),
    Function::new("dayofweek", (1, 1), &[Param::Moment], integer, |row, _| {
        day_number(row, |days| (days + 4).rem_euclid(7) + 1)
    }),
    Function::new("weekday", (1, 1), &[Param::Moment], integer, |row, _| {
        day_number(row, |days| (days + 3).rem_euclid(7))
    }),
    Function::new("dayofyear", (1, 1), &[Param::Moment], integer, |row, _| day_number(row, day_of_year)),
    Function::new("datediff", (2, 2), &[Param::Moment], integer, datediff),
    Function::new("date_format", (2, 2), &[Param::Moment, Param::Text], |_| Ok(LONGTEXT), date_format),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Sunday, as `%w` counts.
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn integer(_args: &[SqlType]) -> Result<SqlType, TypeError> {
    Ok(BIGINT)
}

/// Days since 1970-01-01 and the microseconds of the day; `None` for a TIME, which has no day.
fn split(datum: &Datum) -> (Option<i32>, i64) {
    match datum {
        Datum::Date(days) => (Some(*days), 0),
        Datum::Time(micros) => (None, micros.abs()),
        Datum::Datetime(micros) => (Some(micros.div_euclid(MICROS_A_DAY) as i32), micros.rem_euclid(MICROS_A_DAY)),
        other => panic!("{other:?} is no moment, though the parameter is"),
    }
}

fn date(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(split(&row[0]).0.map_or(Datum::Null, Datum::Date))
}

/// Of the calendar date and the second of the day; a TIME has the date 0000-00-00.
fn part(row: &[Datum], f: fn(Date, i64) -> i64) -> Result<Datum, Fault> {
    let (days, micros) = split(&row[0]);
    let date = days.map_or(Date { year: 0, month: 0, day: 0 }, Date::from_days);
    Ok(Datum::Int(f(date, micros / MICROS_A_SECOND)))
}

/// A date that no calendar has is on no weekday: NULL.
fn day_number(row: &[Datum], f: fn(i32) -> i32) -> Result<Datum, Fault> {
    Ok(match split(&row[0]).0 {
        Some(days) if !Date::is_odd(days) => Datum::Int(f(days) as i64),
        _ => Datum::Null,
    })
}

fn day_of_year(days: i32) -> i32 {
    let first = Date { year: Date::from_days(days).year, month: 1, day: 1 };
    days - first.to_days() + 1
}

fn datediff(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    Ok(match (split(&row[0]).0, split(&row[1]).0) {
        (Some(a), Some(b)) if !Date::is_odd(a) && !Date::is_odd(b) => Datum::Int((a - b) as i64),
        _ => Datum::Null,
    })
}

/// Specifiers that number weeks, which depend on a server setting in MySQL, and unknown ones print themselves.
fn date_format(row: &[Datum], _types: &Types<'_>) -> Result<Datum, Fault> {
    let (days, micros) = split(&row[0]);
    let Datum::Text(format) = &row[1] else { return Ok(Datum::Null) };
    let mut out = String::with_capacity(format.len() + 8);
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        let specifier = if c == '%' { characters.next() } else { None };
        match specifier.map(|s| specified(s, days, micros)) {
            None => out.push(c),
            Some(Some(text)) => out.push_str(&text),
            Some(None) => return Ok(Datum::Null),
        }
    }
    Ok(Datum::Text(out))
}

/// What a specifier prints; `None` where the value has no such part.
fn specified(specifier: char, days: Option<i32>, micros: i64) -> Option<String> {
    let clock = micros / MICROS_A_SECOND;
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let half = if hour % 24 < 12 { "AM" } else { "PM" };
    let date = Date::from_days(days?);
    let real = days.filter(|d| !Date::is_odd(*d));
    let weekday = real.map(|d| (d + 4).rem_euclid(7) as usize);
    let month = (date.month as usize).checked_sub(1).map(|m| MONTHS[m]);
    Some(match specifier {
        'Y' => format!("{:04}", date.year),
        'y' => format!("{:02}", date.year % 100),
        'm' => format!("{:02}", date.month),
        'c' => date.month.to_string(),
        'M' => month?.to_string(),
        'b' => month?[..3].to_string(),
        'd' => format!("{:02}", date.day),
        'e' => date.day.to_string(),
        'D' => format!("{}{}", date.day, ordinal_suffix(date.day)),
        'j' => format!("{:03}", day_of_year(real?)),
        'a' => DAYS[weekday?][..3].to_string(),
        'W' => DAYS[weekday?].to_string(),
        'w' => weekday?.to_string(),
        'H' => format!("{hour:02}"),
        'k' => hour.to_string(),
        'h' | 'I' => format!("{hour12:02}"),
        'l' => hour12.to_string(),
        'i' => format!("{minute:02}"),
        's' | 'S' => format!("{second:02}"),
        'f' => format!("{:06}", micros % MICROS_A_SECOND),
        'p' => half.to_string(),
        'T' => format!("{hour:02}:{minute:02}:{second:02}"),
        'r' => format!("{hour12:02}:{minute:02}:{second:02} {half}"),
        other => other.to_string(),
    })
}

fn ordinal_suffix(day: u8) -> &'static str {
    match day {
        11..=13 => "th",
        _ => match day % 10 {
            1 => "st",
            2 => "nd",
            3 => "rd",
            _ => "th",
        },
    }
}
