//! Prints floating-point numbers as MySQL does.
//!
//! The shortest digits that read back as the number; with an exponent where the point would stand far from them. A
//! FLOAT has six digits at most, as MySQL shows it.

const FLOAT_DIGITS: usize = 6;
/// The point stands so far from the first digit at most: beyond, there is an exponent.
const POINT_MAX: i32 = 15;

pub fn format_double(value: f64) -> String {
    print(&format!("{value:e}"))
}

pub fn format_float(value: f32) -> String {
    let shortest = format!("{value:e}");
    let digits = shortest.split('e').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count();
    if digits <= FLOAT_DIGITS { print(&shortest) } else { print(&format!("{value:.0$e}", FLOAT_DIGITS - 1)) }
}

/// From `-1.25e-7`; what is no number (`inf`) stays as it is.
fn print(scientific: &str) -> String {
    let (sign, unsigned) = scientific.strip_prefix('-').map_or(("", scientific), |rest| ("-", rest));
    let Some((mantissa, exponent)) = unsigned.split_once('e') else { return scientific.to_string() };
    let exponent: i32 = exponent.parse().expect("Rust prints a whole exponent");
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    // The number is 0.DIGITS times ten to this power.
    let point = if digits == "0" { 1 } else { exponent + 1 };
    if !(1 - POINT_MAX..=POINT_MAX).contains(&point) {
        let (first, rest) = digits.split_at(1);
        let rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
        return format!("{sign}{first}{rest}e{exponent}");
    }
    let length = digits.len() as i32;
    match point {
        ..=0 => format!("{sign}0.{}{digits}", "0".repeat(-point as usize)),
        _ if point >= length => format!("{sign}{digits}{}", "0".repeat((point - length) as usize)),
        _ => format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_mysql() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (1e14, "100000000000000"),
            (1e15, "1e15"),
            (-1.25e300, "-1.25e300"),
            (123_456_789_012_345_680.0, "1.2345678901234568e17"),
            (0.30000000000000004, "0.30000000000000004"),
            (1.5e-7, "0.00000015"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
        ] {
            assert_eq!(format_double(value), expected);
        }
        for (value, expected) in [(0.1, "0.1"), (16_777_216.0, "16777200"), (1e30, "1e30"), (3.25, "3.25")] {
            assert_eq!(format_float(value), expected);
        }
    }
}
