//! Random tables over MySQL's types, and writes to them.

use crate::random::Random;

/// What an expression may do with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers of every width and sign, YEAR.
    Int,
    Decimal,
    Double,
    /// FLOAT, and DOUBLE of quarters: any sum of them is exact.
    Quarters,
    /// MySQL prints a FLOAT with six digits.
    Float,
    Text,
    Bytes,
    Date,
    Time,
    Datetime,
    Timestamp,
    /// ENUM and SET.
    Label,
    /// MySQL prints a BIT as bytes.
    Bit,
    Json,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<Column>,
}

/// Name, type, what it is, and values that are interesting for it.
struct Pool(&'static str, &'static str, Kind, &'static [&'static str]);

const WORDS: &[&str] = &[
    "'a'",
    "'A'",
    "'ä'",
    "'b'",
    "'Ab'",
    "'a '",
    "''",
    "'12'",
    "'12abc'",
    "' 7'",
    "'-3.5'",
    "'1e2'",
    "'x_y'",
    "'50%'",
    "'straße'",
    "'😀'",
    "'0'",
    "'ab'",
    "'2024-02-29'",
];
const DATES: &[&str] = &[
    "'2024-02-29'",
    "'1970-01-01'",
    "'9999-12-31'",
    "'1000-01-01'",
    "'2023-12-31'",
    "'2024-01-01'",
    "'2000-10-05'",
    "'2024-02-29'",
];
const MOMENTS: &[&str] = &[
    "'2024-02-29 00:00:00'",
    "'1970-01-01 00:00:01'",
    "'2023-12-31 23:59:59'",
    "'2024-02-29 12:34:56.789012'",
    "'2037-01-19 03:14:07.5'",
    "'2000-10-05 06:07:08.000001'",
    "'2024-01-01 00:00:00'",
];
const TIMES: &[&str] = &[
    "'00:00:00'",
    "'-838:59:59'",
    "'838:59:59'",
    "'12:34:56.789012'",
    "'-00:00:00.5'",
    "'23:59:59.999999'",
    "'08:05:01'",
    "'100:00:00'",
];

const POOL: &[Pool] = &[
    Pool("i1", "TINYINT", Kind::Int, &["-128", "127", "0", "1", "2", "-1", "7"]),
    Pool("u1", "TINYINT UNSIGNED", Kind::Int, &["0", "255", "1", "2", "3"]),
    Pool("i2", "SMALLINT", Kind::Int, &["-32768", "32767", "0", "1", "2", "-3"]),
    Pool("u2", "SMALLINT UNSIGNED", Kind::Int, &["0", "65535", "1", "2"]),
    Pool("i3", "MEDIUMINT", Kind::Int, &["-8388608", "8388607", "0", "1", "2", "12"]),
    Pool("u3", "MEDIUMINT UNSIGNED", Kind::Int, &["0", "16777215", "1", "2"]),
    Pool("i4", "INT", Kind::Int, &["-2147483648", "2147483647", "0", "1", "2", "3", "-7", "100"]),
    Pool("u4", "INT UNSIGNED", Kind::Int, &["0", "4294967295", "1", "2", "3"]),
    Pool("i8", "BIGINT", Kind::Int, &["-9223372036854775808", "9223372036854775807", "0", "1", "2", "-5", "20240229"]),
    Pool("u8", "BIGINT UNSIGNED", Kind::Int, &["0", "18446744073709551615", "1", "2", "9223372036854775808"]),
    Pool("y", "YEAR", Kind::Int, &["1901", "2155", "0", "2024", "1970"]),
    Pool("n1", "DECIMAL(5,2)", Kind::Decimal, &["-999.99", "999.99", "0", "0.005", "1.5", "2", "-0.05", "12.345"]),
    Pool("n2", "DECIMAL(10,0)", Kind::Decimal, &["-9999999999", "9999999999", "0", "1", "2", "3"]),
    Pool("n3", "DECIMAL(20,10)", Kind::Decimal, &["1.0000000001", "-9999999999.9999999999", "0", "2.5", "3", "0.1"]),
    Pool("n4", "DECIMAL(38,10)", Kind::Decimal, &["9999999999999999999999999999.9999999999", "1.5", "-2.5", "0", "7"]),
    Pool(
        "n5",
        "DECIMAL(65,30)",
        Kind::Decimal,
        &[
            "999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "-1.5",
            "2",
        ],
    ),
    Pool("n6", "DECIMAL(31,30)", Kind::Decimal, &["0.000000000000000000000000000001", "-0.5", "0.25", "0"]),
    Pool("f", "FLOAT", Kind::Float, &["0.1", "-1.5", "16777216", "1e30", "3.25", "0", "1e-10"]),
    Pool("d", "DOUBLE", Kind::Double, &["0.1", "-1.5", "1e300", "1e-300", "123456.5", "1e15", "1e21", "0", "2.5"]),
    Pool("q", "DOUBLE", Kind::Quarters, &["0.25", "-1.5", "0.75", "2", "100", "0"]),
    Pool("c", "CHAR(10) COLLATE utf8mb4_0900_bin", Kind::Text, WORDS),
    Pool("v", "VARCHAR(12) COLLATE utf8mb4_0900_bin", Kind::Text, WORDS),
    Pool("s", "VARCHAR(12)", Kind::Text, WORDS),
    Pool("w", "VARCHAR(12) COLLATE utf8mb4_general_ci", Kind::Text, WORDS),
    Pool("x", "TEXT COLLATE utf8mb4_bin", Kind::Text, WORDS),
    Pool("b", "BINARY(3)", Kind::Bytes, &["'a'", "0x0001FF", "''", "'abc'"]),
    Pool("vb", "VARBINARY(5)", Kind::Bytes, &["'a'", "0x00FF", "''", "'abc'", "'a '"]),
    Pool("da", "DATE", Kind::Date, DATES),
    Pool("ti", "TIME", Kind::Time, TIMES),
    Pool("t3", "TIME(3)", Kind::Time, TIMES),
    Pool("t6", "TIME(6)", Kind::Time, TIMES),
    Pool("dt", "DATETIME", Kind::Datetime, MOMENTS),
    Pool("dt3", "DATETIME(3)", Kind::Datetime, MOMENTS),
    Pool("dt6", "DATETIME(6)", Kind::Datetime, MOMENTS),
    Pool("ts", "TIMESTAMP NULL", Kind::Timestamp, MOMENTS),
    Pool("ts3", "TIMESTAMP(3) NULL", Kind::Timestamp, MOMENTS),
    Pool("bt", "BIT(12)", Kind::Bit, &["0", "1", "4095", "2"]),
    Pool("e", "ENUM('b','a','C','it''s')", Kind::Label, &["'b'", "'a'", "'C'", "'it''s'"]),
    Pool("st", "SET('y','x','Z')", Kind::Label, &["'y'", "'x,Z'", "''", "'y,x,Z'"]),
    Pool("j", "JSON", Kind::Json, &["'{}'", "'[1, 2.5, \"a\"]'", "'null'", "'{\"b\": true, \"a\": 1e3}'"]),
];

/// Everyone has an `id`; `k` is there to be joined.
const KEY: Pool = Pool("k", "INT", Kind::Int, &["1", "2", "3", "4"]);
/// Kept where MySQL's mode allows it: seldom, for it makes most date functions NULL. Of the dates that no calendar has
/// it is the only one that both sides sort below all others.
const NO_DATE: &str = "'0000-00-00'";

pub struct Table {
    pub relation: Relation,
    pub ddl: String,
    /// The table as MySQL shows it under the collation of bytes.
    pub by_bytes: String,
    columns: Vec<&'static Pool>,
    odd_dates: bool,
}

impl Table {
    /// A table `name` of `database`, with `width` columns besides `id` and `k`.
    pub fn random(random: &mut Random, database: &str, name: &str, width: usize) -> Table {
        let mut columns = vec![&KEY];
        while columns.len() <= width {
            let column = &POOL[random.below(POOL.len())];
            if columns.iter().all(|c| c.0 != column.0) {
                columns.push(column);
            }
        }
        let key = if random.once_in(4) { "" } else { " PRIMARY KEY" };
        let declared: Vec<String> =
            columns.iter().map(|Pool(name, sql_type, ..)| format!("{name} {sql_type}")).collect();
        let shown = columns.iter().map(|Pool(name, _, kind, _)| match kind {
            Kind::Text | Kind::Label => format!("{name} COLLATE utf8mb4_0900_bin AS {name}"),
            _ => name.to_string(),
        });
        let shown: Vec<String> = shown.collect();
        let ddl = format!("CREATE TABLE {database}.{name} (id INT NOT NULL{key}, {})", declared.join(", "));
        let by_bytes = format!("CREATE VIEW {name} AS SELECT id, {} FROM {database}.{name}", shown.join(", "));
        let id = Column { name: "id".into(), kind: Kind::Int };
        let own = columns.iter().map(|Pool(name, _, kind, _)| Column { name: name.to_string(), kind: *kind });
        let relation = Relation { name: name.to_string(), columns: std::iter::once(id).chain(own).collect() };
        Table { relation, ddl, by_bytes, columns, odd_dates: random.once_in(8) }
    }

    fn value(&self, random: &mut Random, column: usize) -> String {
        let Pool(_, _, kind, values) = self.columns[column];
        if random.once_in(6) {
            return "NULL".to_string();
        }
        if self.odd_dates && matches!(kind, Kind::Date | Kind::Datetime) && random.once_in(4) {
            return NO_DATE.to_string();
        }
        random.one(values).to_string()
    }

    /// One or two statements; ids are chosen so that inserts do not clash.
    pub fn write(&self, random: &mut Random, database: &str, next_id: &mut usize) -> String {
        let table = format!("{database}.{}", self.relation.name);
        let column = random.below(self.columns.len());
        let name = self.columns[column].0;
        match random.below(6) {
            0..4 => {
                let rows = (0..=random.below(5)).map(|_| {
                    *next_id += 1;
                    let values: Vec<String> = (0..self.columns.len()).map(|c| self.value(random, c)).collect();
                    format!("({next_id}, {})", values.join(", "))
                });
                format!("INSERT INTO {table} VALUES {}", rows.collect::<Vec<_>>().join(", "))
            }
            4 => {
                let value = self.value(random, column);
                format!("UPDATE {table} SET {name} = {value} WHERE id % 3 = {}", random.below(3))
            }
            _ => format!("DELETE FROM {table} WHERE k = {} OR id < {}", 1 + random.below(4), *next_id / 4),
        }
    }
}
