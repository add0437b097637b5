//! Random tables and rows from a seed: every type, its edge values more often than others.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

#[path = "splitmix.rs"]
mod splitmix;

use arrow::datatypes::i256;
use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::temporal::{Date, MICROS_A_DAY, MICROS_A_SECOND, TIME_MICROS_MAX, datetime_micros};
use tidemill::row::types::SqlType;
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::Row;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

/// A table with a key of one or two columns and up to twelve others.
pub fn table(random: &mut Random) -> FollowedTable {
    let keys = 1 + random.below(2) as usize;
    let mut columns = vec![Column::new("id", SqlType::Int { bytes: 8, unsigned: false }, false)];
    for i in 1..keys + 1 + random.below(12) as usize {
        let name = format!("{}{i}", random.of(&["c", "Größe ", "<x>&", "a\"b", "日本"]));
        let sql_type = sql_type(random);
        columns.push(Column::new(name, sql_type, i >= keys && random.below(4) > 0));
    }
    let schema = Schema { columns, key: Some((0..keys).collect()) };
    FollowedTable::declared(ObjectId(7), "Shop <1>", "order \"items\"", schema)
}

pub fn sql_type(random: &mut Random) -> SqlType {
    let labels = |n: u64| (0..n).map(|i| if i == 0 { "é <&>".into() } else { format!("l{i}") }).collect();
    let digits = random.below(7) as u8;
    match random.below(18) {
        0..=2 => SqlType::Int { bytes: random.of(&[1, 2, 3, 4, 8]), unsigned: random.below(2) == 0 },
        3 => SqlType::Year,
        4 => SqlType::Bit(1 + random.below(64) as u8),
        5 => SqlType::Float,
        6 => SqlType::Double,
        7 => {
            let precision = 1 + random.below(65) as u8;
            SqlType::Decimal { precision, scale: random.below(precision.min(30) as u64 + 1) as u8 }
        }
        8 => random.of(&[SqlType::Char(20), SqlType::Varchar(300), SqlType::Varchar(5)]),
        9 => SqlType::Text(1 + random.below(4) as u8),
        10 => random.of(&[SqlType::Binary(8), SqlType::Varbinary(50)]),
        11 => SqlType::Blob(1 + random.below(4) as u8),
        12 => SqlType::Enum(labels(1 + random.below(300))),
        13 => SqlType::Set(labels(1 + random.below(64))),
        14 => SqlType::Json,
        15 => random.of(&[SqlType::Date, SqlType::Time(digits)]),
        16 => SqlType::Datetime(digits),
        _ => SqlType::Timestamp(digits),
    }
}

pub fn row(random: &mut Random, table: &FollowedTable) -> Row {
    table
        .schema
        .columns
        .iter()
        .map(|c| if c.nullable && random.below(5) == 0 { Datum::Null } else { datum(random, &c.sql_type) })
        .collect()
}

/// A value of that type, as MySQL could hold it.
pub fn datum(random: &mut Random, sql_type: &SqlType) -> Datum {
    let unit = |digits: u8| 10i64.pow(6 - digits as u32);
    match sql_type {
        SqlType::Int { bytes, unsigned: false } => {
            let bits = 8 * *bytes as u32;
            Datum::Int((integer(random) as i64) << (64 - bits) >> (64 - bits))
        }
        SqlType::Int { bytes, .. } => Datum::UInt(integer(random) >> (64 - 8 * *bytes as u32)),
        SqlType::Bit(bits) => Datum::UInt(integer(random) >> (64 - *bits as u32)),
        SqlType::Year => Datum::Int(random.of(&[0, 1901, 1970, 2155])),
        SqlType::Float => {
            let odd = f32::from_bits(random.next() as u32);
            let odd = if odd.is_finite() { odd } else { 0.1 };
            Datum::Float(random.of(&[0.0, -1.5, f32::MAX, f32::MIN_POSITIVE, 1e-7, 1e21, 16_777_216.0, odd, odd, odd]))
        }
        SqlType::Double => {
            let odd = f64::from_bits(random.next());
            let odd = if odd.is_finite() { odd } else { 0.1 };
            let edges = [0.0, -0.1, f64::MAX, f64::MIN_POSITIVE, 1e-7, 1e21, 9007199254740993.0];
            Datum::Double(if random.below(2) == 0 { odd } else { random.of(&edges) })
        }
        SqlType::Decimal { precision, .. } => {
            let digits = random.below(*precision as u64 + 1) as usize;
            let digit = random.of(&["9", "1", "0"]);
            let value = i256::from_string(&format!("0{}", digit.repeat(digits))).expect("digits");
            Datum::Decimal(if random.below(2) == 0 { value } else { -value })
        }
        SqlType::Enum(labels) if random.below(10) > 0 => Datum::Text(random.of(labels)),
        SqlType::Enum(_) => Datum::Text(String::new()),
        SqlType::Set(labels) => {
            let bits = random.of(&[0, u64::MAX, 1, 1 << 63, 0x5555_5555_5555_5555]) & random.next();
            let chosen = labels.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            Datum::Text(chosen.map(|(_, l)| l.as_str()).collect::<Vec<_>>().join(","))
        }
        SqlType::Json => {
            Datum::Text(random.of(&["null", "{\"a\": [1, \"<&>\\n\"]}", "\"\u{2028}\"", "1e300", "[]"]).into())
        }
        SqlType::Binary(n) => Datum::Bytes((0..*n).map(|_| byte(random)).collect()),
        SqlType::Varbinary(_) | SqlType::Blob(_) => {
            let length = random.of(&[0, 1, 7, 40]);
            Datum::Bytes((0..length).map(|_| byte(random)).collect())
        }
        SqlType::Date => Datum::Date(date(random).to_days()),
        SqlType::Time(digits) => {
            let micros = random.of(&[0, TIME_MICROS_MAX, 1, 999_999, 3_600_000_000, random.0 as i64 & 0xff_ffff_ffff]);
            let micros = micros / unit(*digits) * unit(*digits);
            Datum::Time(if random.below(2) == 0 { micros } else { -micros })
        }
        SqlType::Datetime(digits) => {
            let clock = random.next() as i64 & i64::MAX;
            Datum::Datetime(datetime_micros(date(random), clock % MICROS_A_DAY / unit(*digits) * unit(*digits)))
        }
        SqlType::Timestamp(digits) => {
            let zero = datetime_micros(Date { year: 0, month: 0, day: 0 }, 0);
            let seconds = random.of(&[1, 86_399, 1_700_000_000, i32::MAX as i64 - 50_000]) * MICROS_A_SECOND;
            let fraction = random.below(1_000_000) as i64 / unit(*digits) * unit(*digits);
            Datum::Timestamp(if random.below(8) == 0 { zero } else { seconds + fraction })
        }
        _ => Datum::Text(text(random)),
    }
}

fn integer(random: &mut Random) -> u64 {
    let any = random.next();
    random.of(&[0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, any, any, any])
}

fn byte(random: &mut Random) -> u8 {
    let any = random.next() as u8;
    random.of(&[0, 0xff, b'\\', b'"', b'\n', 0x7f, 0xc3, 0xa9, b'x', any, any, any])
}

fn text(random: &mut Random) -> String {
    let pieces = [
        "a",
        "",
        "\"",
        "\\",
        "\\x41",
        "<b>&",
        "é",
        "😀",
        "\n\t\r\u{8}\u{c}",
        "\u{0}",
        "\u{2029}",
        "日",
        " ",
        "'",
        "\u{fffd}",
    ];
    (0..random.below(6)).map(|_| random.of(&pieces)).collect()
}

fn date(random: &mut Random) -> Date {
    let any =
        Date { year: random.below(10_000) as u16, month: 1 + random.below(12) as u8, day: 1 + random.below(28) as u8 };
    let odd = |year, month, day| Date { year, month, day };
    random.of(&[any, any, any, odd(0, 0, 0), odd(2020, 0, 10), odd(2021, 2, 30), odd(9999, 12, 31), odd(1, 1, 1)])
}
