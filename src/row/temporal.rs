//! MySQL dates and times as numbers, odd values included.
//!
//! MySQL stores dates that no calendar has ('0000-00-00', '2020-00-10'). They are kept, not guessed: a date with a zero
//! part is encoded far below every real one, in an order of its own, and prints as it was written.

/// Calendar parts of a date; month and day may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: u16,
    pub month: u8,
    pub day: u8,
}

pub const MICROS_A_SECOND: i64 = 1_000_000;
pub const MICROS_A_DAY: i64 = 86_400 * MICROS_A_SECOND;
/// -838:59:59 and 838:59:59, MySQL's range of TIME, in microseconds.
pub const TIME_MICROS_MAX: i64 = (838 * 3600 + 59 * 60 + 59) * MICROS_A_SECOND;

const ODD_DATE_BASE: i32 = -20_000_000;
const ODD_DATE_END: i32 = ODD_DATE_BASE + 10_000 * 13 * 32;

impl Date {
    /// Days since 1970-01-01, or a number below every real date for one with a zero part.
    pub fn to_days(self) -> i32 {
        let (y, m, d) = (self.year as i32, self.month as i32, self.day as i32);
        if m == 0 || d == 0 || d > days_in_month(self.year, self.month) as i32 {
            return ODD_DATE_BASE + (y * 13 + m) * 32 + d;
        }
        // Days from civil: years begin in March, so that the leap day is the last.
        let y = if m <= 2 { y - 1 } else { y };
        let era = y.div_euclid(400);
        let year_of_era = y - era * 400;
        let day_of_year = (153 * (m + if m > 2 { -3 } else { 9 }) + 2) / 5 + d - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    pub fn from_days(days: i32) -> Date {
        if (ODD_DATE_BASE..ODD_DATE_END).contains(&days) {
            let rest = days - ODD_DATE_BASE;
            return Date { year: (rest / 32 / 13) as u16, month: (rest / 32 % 13) as u8, day: (rest % 32) as u8 };
        }
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z - era * 146_097;
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
        Date { year: (yoe + era * 400 + (month <= 2) as i32) as u16, month: month as u8, day: day as u8 }
    }

    /// True for a date that no calendar has.
    pub fn is_odd(days: i32) -> bool {
        days < ODD_DATE_END
    }
}

pub fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Microseconds since 1970-01-01 00:00:00 of a date and a time of day.
pub fn datetime_micros(date: Date, micros_of_day: i64) -> i64 {
    date.to_days() as i64 * MICROS_A_DAY + micros_of_day
}

pub fn format_date(days: i32) -> String {
    let Date { year, month, day } = Date::from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

pub fn format_datetime(micros: i64, digits: u8) -> String {
    let (days, rest) = (micros.div_euclid(MICROS_A_DAY), micros.rem_euclid(MICROS_A_DAY));
    format!("{} {}", format_date(days as i32), format_clock(rest, digits))
}

pub fn format_time(micros: i64, digits: u8) -> String {
    format!("{}{}", if micros < 0 { "-" } else { "" }, format_clock(micros.abs(), digits))
}

fn format_clock(micros: i64, digits: u8) -> String {
    let (seconds, fraction) = (micros / MICROS_A_SECOND, micros % MICROS_A_SECOND);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if digits == 0 {
        return clock;
    }
    let fraction = format!("{fraction:06}");
    format!("{clock}.{}", &fraction[..digits.min(6) as usize])
}

/// Parses `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.trim().splitn(3, '-');
    let year: u16 = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let day: u8 = parts.next()?.parse().ok()?;
    (year <= 9999 && month <= 12 && day <= 31).then(|| Date { year, month, day }.to_days())
}

/// Parses `YYYY-MM-DD[ T]HH:MM:SS[.ffffff]`, or a bare date.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, clock) = match text.find([' ', 'T']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let clock = clock.map_or(Some(0), parse_time)?;
    (0..MICROS_A_DAY).contains(&clock).then_some(())?;
    Some(parse_date(date)? as i64 * MICROS_A_DAY + clock)
}

/// Parses `[-]H+:MM[:SS[.ffffff]]` within MySQL's range of TIME.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut micros = 0;
    if !fraction.is_empty() {
        (fraction.len() <= 6 && fraction.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
        micros = format!("{fraction:0<6}").parse().ok()?;
    }
    let parts: Vec<i64> = clock.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match parts[..] {
        [h, m] => [h, m, 0],
        [h, m, s] => [h, m, s],
        _ => return None,
    };
    let valid = (0..=838).contains(&hours) && (0..60).contains(&minutes) && (0..60).contains(&seconds);
    valid.then_some(())?;
    let total = ((hours * 60 + minutes) * 60 + seconds) * MICROS_A_SECOND + micros;
    (total <= TIME_MICROS_MAX).then_some(sign * total)
}

/// To so many digits of a second.
pub fn round_micros(micros: i64, digits: u8) -> i64 {
    let unit = 10i64.pow(6 - digits.min(6) as u32);
    (micros + unit / 2).div_euclid(unit) * unit
}

/// Half away from zero: a TIME can be negative, and then stands for its distance.
pub fn round_time(micros: i64, digits: u8) -> i64 {
    (round_micros(micros.abs(), digits) * micros.signum()).clamp(-TIME_MICROS_MAX, TIME_MICROS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip_odd_ones_included() {
        for text in ["1970-01-01", "2000-02-29", "0001-01-01", "9999-12-31", "0000-00-00", "2020-00-10", "2021-02-30"] {
            assert_eq!(format_date(parse_date(text).unwrap()), text);
        }
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert!(parse_date("0000-00-00") < parse_date("0001-01-01"));
    }

    #[test]
    fn times_round_trip_to_the_end_of_the_range() {
        for text in ["-838:59:59.000000", "838:59:59.000000", "00:00:00.000001", "-00:00:00.500000"] {
            assert_eq!(format_time(parse_time(text).unwrap(), 6), text);
        }
        assert_eq!(parse_time("838:59:59.1"), None);
        assert_eq!(parse_time("999999999999999999:00:00"), None);
        assert_eq!(format_datetime(parse_datetime("0000-00-00 00:00:00").unwrap(), 0), "0000-00-00 00:00:00");
        assert_eq!(
            format_datetime(parse_datetime("1969-12-31 23:59:59.999999").unwrap(), 6),
            "1969-12-31 23:59:59.999999"
        );
    }
}
