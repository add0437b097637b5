//! `x + INTERVAL n UNIT`: a date moved along the calendar.

use arrow::array::ArrayRef;

use super::Fault;
use super::types::TypeError;
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::temporal::{Date, MICROS_A_DAY, MICROS_A_SECOND, days_in_month};
use crate::row::types::SqlType;

/// What one unit is, and which way it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    pub unit: Unit,
    pub subtracts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Microsecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

/// How far a unit reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Micros(i64),
    /// As long as the calendar says.
    Months(i64),
}

const UNITS: [(&str, Unit); 9] = [
    ("MICROSECOND", Unit::Microsecond),
    ("SECOND", Unit::Second),
    ("MINUTE", Unit::Minute),
    ("HOUR", Unit::Hour),
    ("DAY", Unit::Day),
    ("WEEK", Unit::Week),
    ("MONTH", Unit::Month),
    ("QUARTER", Unit::Quarter),
    ("YEAR", Unit::Year),
];

/// 0001-01-01 and the day after 9999-12-31.
const DAYS: std::ops::Range<i64> = -719_162..2_932_897;

impl Unit {
    /// As MySQL spells it, or in the plural.
    pub fn parse(name: &str) -> Option<Unit> {
        let name = name.to_ascii_uppercase();
        let one = name.strip_suffix('S').unwrap_or(&name);
        UNITS.iter().find(|(known, _)| *known == one).map(|(_, unit)| *unit)
    }

    pub fn name(self) -> &'static str {
        UNITS.iter().find(|(_, unit)| *unit == self).map(|(name, _)| *name).expect("every unit has a name")
    }

    pub fn length(self) -> Length {
        match self {
            Unit::Microsecond => Length::Micros(1),
            Unit::Second => Length::Micros(MICROS_A_SECOND),
            Unit::Minute => Length::Micros(60 * MICROS_A_SECOND),
            Unit::Hour => Length::Micros(3_600 * MICROS_A_SECOND),
            Unit::Day => Length::Micros(MICROS_A_DAY),
            Unit::Week => Length::Micros(7 * MICROS_A_DAY),
            Unit::Month => Length::Months(1),
            Unit::Quarter => Length::Months(3),
            Unit::Year => Length::Months(12),
        }
    }

    /// Days and longer leave a DATE a DATE.
    fn is_of_days(self) -> bool {
        !matches!(self, Unit::Microsecond | Unit::Second | Unit::Minute | Unit::Hour)
    }
}

impl Interval {
    /// Of a number that is of this type: seconds in a text have digits behind the point, in MySQL.
    pub fn returns(self, of: &SqlType, n: &SqlType) -> Result<SqlType, TypeError> {
        let fraction = self.unit == Unit::Microsecond || self.unit == Unit::Second && n.is_text();
        match (of, self.unit) {
            (SqlType::Date, unit) if unit.is_of_days() => Ok(SqlType::Date),
            (SqlType::Date | SqlType::Datetime(_), _) if fraction => Ok(SqlType::Datetime(6)),
            (SqlType::Date, _) => Ok(SqlType::Datetime(0)),
            (SqlType::Datetime(digits), _) => Ok(SqlType::Datetime(*digits)),
            (other, _) => {
                let message = format!("an INTERVAL is added to a value of type {other}");
                Err(TypeError::with_hint(message, "add it to a DATE, DATETIME or TIMESTAMP"))
            }
        }
    }

    pub fn run(self, columns: &[ArrayRef], args: &[SqlType], returns: &SqlType) -> Result<ArrayRef, Fault> {
        let rows = columns[0].len();
        let mut builder = ColumnBuilder::new(returns, rows);
        for row in 0..rows {
            let moved = match (Datum::of(&columns[0], &args[0], row), Datum::of(&columns[1], &args[1], row)) {
                (Datum::Date(days), Datum::Int(n)) => self.moved(i64::from(days) * MICROS_A_DAY, n),
                (Datum::Datetime(micros), Datum::Int(n)) => self.moved(micros, n),
                _ => None,
            };
            let datum = match (moved, returns) {
                (None, _) => Datum::Null,
                (Some(micros), SqlType::Date) => Datum::Date(micros.div_euclid(MICROS_A_DAY) as i32),
                (Some(micros), _) => Datum::Datetime(micros),
            };
            builder.push(&datum).map_err(|e| Fault::DoesNotFit { value: e.value, sql_type: e.sql_type })?;
        }
        Ok(builder.finish())
    }

    /// `None` for a date that no calendar has, and beyond the years 1 to 9999.
    fn moved(self, micros: i64, n: i64) -> Option<i64> {
        let (days, clock) = (micros.div_euclid(MICROS_A_DAY), micros.rem_euclid(MICROS_A_DAY));
        (!Date::is_odd(days as i32)).then_some(())?;
        let n = if self.subtracts { n.checked_neg()? } else { n };
        let moved = match self.unit.length() {
            Length::Micros(unit) => micros.checked_add(unit.checked_mul(n)?)?,
            Length::Months(unit) => {
                let date = Date::from_days(days as i32);
                let months =
                    (i64::from(date.year) * 12 + i64::from(date.month) - 1).checked_add(unit.checked_mul(n)?)?;
                (12..120_000).contains(&months).then_some(())?;
                let (year, month) = ((months / 12) as u16, (months % 12 + 1) as u8);
                // The 31st of a month that has none is its last day.
                let day = date.day.min(days_in_month(year, month));
                i64::from(Date { year, month, day }.to_days()) * MICROS_A_DAY + clock
            }
        };
        DAYS.contains(&moved.div_euclid(MICROS_A_DAY)).then_some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::temporal::{format_date, parse_date};

    #[test]
    fn the_calendar_ends_where_mysqls_does() {
        let moved = |date: &str, n: i64, unit: Unit| {
            let micros = i64::from(parse_date(date).unwrap()) * MICROS_A_DAY;
            let moved = Interval { unit, subtracts: false }.moved(micros, n);
            moved.map(|micros| format_date(micros.div_euclid(MICROS_A_DAY) as i32))
        };
        assert_eq!(moved("9999-12-31", 1, Unit::Day), None);
        assert_eq!(moved("9999-12-30", 1, Unit::Day).as_deref(), Some("9999-12-31"));
        assert_eq!(moved("0001-01-01", -1, Unit::Day), None);
        assert_eq!(moved("0001-01-31", 1, Unit::Month).as_deref(), Some("0001-02-28"));
        assert_eq!(moved("2024-02-29", 1, Unit::Year).as_deref(), Some("2025-02-28"));
        assert_eq!(moved("2024-00-10", 1, Unit::Day), None);
        assert_eq!(moved("2024-01-01", i64::MAX, Unit::Year), None);
    }

    #[test]
    fn units_are_known_by_name() {
        for (name, unit) in UNITS {
            assert_eq!((unit.name(), Unit::parse(&name.to_lowercase())), (name, Some(unit)));
        }
        assert_eq!(Unit::parse("days"), Some(Unit::Day));
        assert_eq!(Unit::parse("HOUR_MINUTE"), None);
    }
}
