//! Random scalar expressions of a wanted kind over the columns in scope.

use crate::random::Random;
use crate::tables::{Column, Kind};

/// The columns that an expression may name, as it names them.
pub struct Scope<'a> {
    pub random: &'a mut Random,
    pub columns: Vec<Column>,
}

/// An expression's text and what it is.
pub type Typed = (String, Kind);

const NUMBERS: &[&str] = &["0", "1", "2", "3", "7", "-1", "10", "0.5", "1.25", "-2.750", "100", "1e2", "2.5e0"];
const TEXTS: &[&str] = &["'a'", "'A'", "'ab'", "''", "'12'", "'x'", "'b '", "' '", "'-3.5z'", "'%'", "'ä'"];
const PATTERNS: &[&str] = &["'a%'", "'%b'", "'_'", "'%'", "''", "'%1%'", "'x\\_y'", "'50\\%'", "'A_'", "'%ß%'"];
const COMPARISONS: &[&str] = &["=", "<>", "<", "<=", ">", ">=", "<=>"];
const DATES: &[&str] = &["'2024-02-29'", "'2000-01-01'", "'1970-01-01'", "'2023-12-31'"];
const MOMENTS: &[&str] = &["'2024-02-29 00:00:00'", "'2000-01-01 12:00:00'", "'2024-01-01 00:00:00.5'"];
const TIMES: &[&str] = &["'00:00:00'", "'12:00:00'", "'-01:00:00'", "'100:00:00.5'"];
const FORMATS: &[&str] = &[
    "'%Y-%m-%d'",
    "'%Y%m'",
    "'%H:%i:%s.%f'",
    "'%W %M %e %y'",
    "'%j %D %b %a'",
    "'%p %h %l %k %r %T %%'",
    "'%c/%d %w'",
];

impl Scope<'_> {
    fn column(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<Typed> {
        let columns: Vec<&Column> = self.columns.iter().filter(|c| wanted(c.kind)).collect();
        if columns.is_empty() {
            return None;
        }
        let column = columns[self.random.below(columns.len())];
        Some((column.name.clone(), column.kind))
    }

    fn pick(&mut self, of: &[&str]) -> String {
        self.random.one(of).to_string()
    }

    /// Any expression that both sides print alike.
    pub fn any(&mut self, depth: usize) -> Typed {
        match self.random.below(20) {
            0..7 => self.number(depth),
            7..11 => (self.text(depth), Kind::Text),
            11..14 => self.moment(depth),
            14..16 => (self.truth(depth), Kind::Int),
            _ => self.bare(),
        }
    }

    /// A column as it is, but those that MySQL prints in a way of its own.
    pub fn bare(&mut self) -> Typed {
        match self.column(|_| true).expect("there is an id") {
            (name, Kind::Bit) => (format!("{name} + 0"), Kind::Int),
            column => column,
        }
    }

    /// A column to group by or to join with.
    pub fn key(&mut self) -> Typed {
        let wanted = |k| !matches!(k, Kind::Bit | Kind::Json | Kind::Double | Kind::Quarters | Kind::Float);
        self.column(wanted).expect("there is an id")
    }

    /// A number whose sums are exact, whatever their order.
    pub fn summable(&mut self) -> Typed {
        let exact = |k| matches!(k, Kind::Int | Kind::Decimal | Kind::Quarters);
        match self.random.below(4) {
            0 => {
                let (x, y) = (self.column(exact).expect("there is an id").0, self.random.below(5));
                (format!("{x} * {y}"), Kind::Decimal)
            }
            1 => (format!("CASE WHEN {} THEN {} END", self.truth(1), self.random.below(9)), Kind::Int),
            _ => self.column(exact).expect("there is an id"),
        }
    }

    pub fn number(&mut self, depth: usize) -> Typed {
        let is_number =
            |k| matches!(k, Kind::Int | Kind::Decimal | Kind::Double | Kind::Quarters | Kind::Bit | Kind::Float);
        if depth == 0 || self.random.once_in(5) {
            return match self.column(is_number) {
                Some((name, Kind::Bit)) => (format!("({name} + 0)"), Kind::Int),
                Some((name, Kind::Float)) => (format!("({name} + 0)"), Kind::Double),
                Some(column) if !self.random.once_in(3) => column,
                _ => (self.pick(NUMBERS), Kind::Double),
            };
        }
        let depth = depth - 1;
        let text = match self.random.below(18) {
            0..5 => self.arithmetic(depth),
            5..8 => self.number_function(depth),
            8 if self.random.once_in(2) => self.integer_cast(depth),
            8 => {
                let target = self.random.one(&["DECIMAL(10,2)", "DECIMAL(65,30)", "DECIMAL(5,1)", "DECIMAL", "DOUBLE"]);
                let x = if self.random.once_in(3) { self.text(depth) } else { self.number(depth).0 };
                format!("CAST({x} AS {target})")
            }
            9 => {
                let function = self.random.one(&["LENGTH", "CHAR_LENGTH"]);
                format!("{function}({})", self.text(depth))
            }
            10 => {
                let x = self.text(depth);
                let needle = self.pick(TEXTS);
                match self.random.below(3) {
                    0 => format!("LOCATE({needle}, {x})"),
                    1 => format!("INSTR({x}, {needle})"),
                    _ => format!("({x} + 0)"),
                }
            }
            11 | 12 => self.number_of_moment(),
            _ => {
                let (a, b) = (self.number(depth).0, self.number(depth).0);
                self.branches(depth, a, b)
            }
        };
        (text, Kind::Double)
    }

    /// Of a column or a text: of a column, MySQL gives the nearest BIGINT where of a computed DOUBLE it fails.
    fn integer_cast(&mut self, depth: usize) -> String {
        let target = self.random.one(&["SIGNED", "UNSIGNED"]);
        let number = |k| matches!(k, Kind::Int | Kind::Decimal | Kind::Double | Kind::Quarters);
        let x = if self.random.once_in(3) { None } else { self.column(number).map(|c| c.0) };
        format!("CAST({} AS {target})", x.unwrap_or_else(|| self.text(depth)))
    }

    fn arithmetic(&mut self, depth: usize) -> String {
        let (a, mut b) = (self.number(depth).0, self.number(depth).0);
        // Mostly a small operand, for an error hides the rest of a view.
        if !self.random.once_in(4) {
            b = self.pick(NUMBERS);
        }
        let op = self.random.one(&["+", "-", "*", "/", "%", "DIV", "+", "*", "MOD"]);
        if op == "DIV" {
            // Of DOUBLEs MySQL makes DECIMALs first, which is another number from 2^53 on.
            let exact = self.column(|k| matches!(k, Kind::Int | Kind::Decimal)).map_or("100".to_string(), |c| c.0);
            return format!("({exact} DIV {})", self.random.one(&["0", "1", "3", "-7", "0.5", "1.25"]));
        }
        if self.random.once_in(12) { format!("-({a})") } else { format!("({a} {op} {b})") }
    }

    fn number_function(&mut self, depth: usize) -> String {
        let x = self.number(depth).0;
        match self.random.below(9) {
            0 => format!("ABS({x})"),
            1 => format!("SIGN({x})"),
            2 => format!("FLOOR({x})"),
            3 => format!("CEILING({x})"),
            4 => format!("ROUND({x})"),
            5 => format!("ROUND({x}, {})", self.random.one(&["0", "1", "2", "-1", "5"])),
            6 => format!("TRUNCATE({x}, {})", self.random.one(&["0", "1", "2", "-1", "5"])),
            7 => format!("SQRT({x})"),
            _ => format!("{}({x}, {})", self.random.one(&["GREATEST", "LEAST"]), self.number(depth).0),
        }
    }

    /// CASE, IF and their like over two values that go together.
    fn branches(&mut self, depth: usize, a: String, b: String) -> String {
        match self.random.below(7) {
            0 => format!("IF({}, {a}, {b})", self.truth(depth)),
            1 => format!("IFNULL({a}, {b})"),
            2 => format!("COALESCE({a}, {b})"),
            3 => format!("NULLIF({a}, {b})"),
            4 => format!("CASE WHEN {} THEN {a} WHEN {} THEN {b} END", self.truth(depth), self.truth(depth)),
            5 => format!("CASE {a} WHEN {b} THEN {a} ELSE {b} END"),
            _ => format!("CASE WHEN {} THEN {a} ELSE {b} END", self.truth(depth)),
        }
    }

    fn number_of_moment(&mut self) -> String {
        let dated = |k| matches!(k, Kind::Date | Kind::Datetime | Kind::Timestamp);
        let timed = |k| matches!(k, Kind::Time | Kind::Datetime | Kind::Timestamp);
        let of_date = ["YEAR", "QUARTER", "MONTH", "DAY", "DAYOFWEEK", "WEEKDAY", "DAYOFYEAR"];
        match self.random.below(3) {
            0 => {
                let function = self.random.one(&["HOUR", "MINUTE", "SECOND"]);
                let x = self.column(timed).map_or_else(|| "CAST('10:11:12' AS TIME)".to_string(), |c| c.0);
                format!("{function}({x})")
            }
            1 => {
                let x = self.column(dated).map_or_else(|| self.pick(DATES), |c| c.0);
                let y = if self.random.once_in(2) { Some(self.pick(DATES)) } else { self.column(dated).map(|c| c.0) };
                format!("DATEDIFF({x}, {})", y.unwrap_or_else(|| "'2024-03-01'".into()))
            }
            _ => {
                let function = self.random.one(&of_date);
                let x = self.column(dated).map_or_else(|| self.pick(DATES), |c| c.0);
                format!("{function}({x})")
            }
        }
    }

    /// DATE, TIME and DATETIME.
    pub fn moment(&mut self, depth: usize) -> Typed {
        let dated = |k| matches!(k, Kind::Date | Kind::Datetime | Kind::Timestamp);
        let kind = self.random.one(&[Kind::Date, Kind::Datetime, Kind::Time]);
        let of_kind = self.column(|k| k == kind).map(|c| c.0);
        let literal = match kind {
            Kind::Date => format!("CAST({} AS DATE)", self.pick(DATES)),
            Kind::Datetime => format!("CAST({} AS DATETIME(1))", self.pick(MOMENTS)),
            _ => format!("CAST({} AS TIME(1))", self.pick(TIMES)),
        };
        let leaf = of_kind.unwrap_or_else(|| literal.clone());
        if depth == 0 {
            return (leaf, kind);
        }
        let any_date = self.column(dated).map_or_else(|| literal.clone(), |c| c.0);
        let text = match (kind, self.random.below(5)) {
            (Kind::Date, 0) => format!("DATE({any_date})"),
            (Kind::Date, 1) => format!("CAST({any_date} AS DATE)"),
            (Kind::Datetime, 0 | 1) => format!("CAST({any_date} AS DATETIME({}))", self.random.one(&[0, 1, 3, 6])),
            (Kind::Time, 0 | 1) => {
                let x = self
                    .column(|k| matches!(k, Kind::Time | Kind::Datetime | Kind::Timestamp))
                    .map_or(literal, |c| c.0);
                format!("CAST({x} AS TIME({}))", self.random.one(&[0, 1, 3, 6]))
            }
            (_, 2) => {
                let other = self.column(|k| k == kind).map_or(literal, |c| c.0);
                self.branches(depth - 1, leaf, other)
            }
            (_, 3) => format!("{}({leaf}, {literal})", self.random.one(&["GREATEST", "LEAST"])),
            _ => leaf,
        };
        (text, kind)
    }

    pub fn text(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.once_in(5) {
            return match self.column(|k| matches!(k, Kind::Text | Kind::Label)) {
                Some((name, _)) if !self.random.once_in(4) => name,
                _ => self.pick(TEXTS),
            };
        }
        let depth = depth - 1;
        match self.random.below(16) {
            0 | 1 => format!("CONCAT({}, {})", self.text(depth), self.printable(depth)),
            2 => format!("CONCAT_WS('-', {}, {}, {})", self.text(depth), self.printable(depth), self.text(depth)),
            3 => format!("{}({})", self.random.one(&["LOWER", "UPPER", "REVERSE"]), self.text(depth)),
            4 => {
                let x = self.text(depth);
                let from = self.random.one(&["1", "2", "-1", "-2", "0", "9"]);
                let length = self.random.one(&["", ", 1", ", 2", ", 0", ", -1"]);
                format!("SUBSTRING({x}, {from}{length})")
            }
            5 => {
                let function = self.random.one(&["LEFT", "RIGHT"]);
                format!("{function}({}, {})", self.text(depth), self.random.one(&["0", "1", "2", "-1", "20"]))
            }
            6 => format!("{}({})", self.random.one(&["TRIM", "LTRIM", "RTRIM"]), self.text(depth)),
            7 => {
                let place = self.random.one(&["LEADING", "TRAILING", "BOTH"]);
                format!("TRIM({place} {} FROM {})", self.random.one(&["'a'", "'1'", "'b '"]), self.text(depth))
            }
            8 => format!("REPLACE({}, {}, {})", self.text(depth), self.pick(TEXTS), self.pick(TEXTS)),
            9 | 10 => {
                let target = self.random.one(&["CHAR", "CHAR(3)", "CHAR(10)"]);
                format!("CAST({} AS {target})", self.printable(depth))
            }
            11 | 12 => {
                let dated = |k| matches!(k, Kind::Date | Kind::Datetime | Kind::Timestamp);
                let x = self.column(dated).map_or_else(|| self.pick(MOMENTS), |c| c.0);
                format!("DATE_FORMAT({x}, {})", self.pick(FORMATS))
            }
            _ => {
                let (a, b) = (self.text(depth), self.printable(depth));
                self.branches(depth, a, b)
            }
        }
    }

    /// What is text as it is, or turned into text.
    fn printable(&mut self, depth: usize) -> String {
        match self.random.below(5) {
            // MySQL prints the value that IF or CASE chose with its own digits, not with those of its type.
            0 => format!("({} + 0)", self.number(depth).0),
            1 => self.moment(depth).0,
            2 => self.column(|k| k == Kind::Timestamp).map_or_else(|| self.text(0), |c| c.0),
            _ => self.text(depth),
        }
    }

    /// A condition.
    pub fn truth(&mut self, depth: usize) -> String {
        if depth > 0 {
            let below = depth - 1;
            match self.random.below(12) {
                0 => return format!("({} AND {})", self.truth(below), self.truth(below)),
                1 => return format!("({} OR {})", self.truth(below), self.truth(below)),
                2 => return format!("NOT ({})", self.truth(below)),
                3 => return format!("({} XOR {})", self.truth(below), self.truth(below)),
                4 => {
                    let test = self.random.one(&["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS UNKNOWN"]);
                    return format!("(({}) {test})", self.truth(below));
                }
                5 => return self.number(below).0,
                _ => {}
            }
        }
        let below = depth.saturating_sub(1);
        let op = self.random.one(COMPARISONS);
        match self.random.below(14) {
            0 => format!("({} IS {}NULL)", self.bare().0, self.random.one(&["", "NOT "])),
            1..4 => format!("({} {op} {})", self.number(below).0, self.number(below).0),
            4 => format!("({} BETWEEN {} AND {})", self.number(below).0, self.pick(NUMBERS), self.pick(NUMBERS)),
            5 => format!("({} IN ({}, {}))", self.number(below).0, self.pick(NUMBERS), self.pick(NUMBERS)),
            6..8 => format!("({} {op} {})", self.text(below), self.text(below)),
            8 => format!("({} IN ({}, {}, {}))", self.text(0), self.pick(TEXTS), self.pick(TEXTS), self.pick(TEXTS)),
            9 => format!("({} {}LIKE {})", self.text(below), self.random.one(&["", "NOT "]), self.pick(PATTERNS)),
            10 => format!("({} {op} {})", self.text(below), self.number(below).0),
            _ => self.compared_moment(op),
        }
    }

    /// Columns of time beside literals and each other.
    fn compared_moment(&mut self, op: &str) -> String {
        let kinds =
            |k| matches!(k, Kind::Date | Kind::Time | Kind::Datetime | Kind::Timestamp | Kind::Label | Kind::Bytes);
        let Some((x, kind)) = self.column(kinds) else { return format!("(2 {op} 3)") };
        let (literals, like): (&[&str], fn(Kind) -> bool) = match kind {
            Kind::Date => (DATES, |k| matches!(k, Kind::Date | Kind::Datetime)),
            Kind::Time => (TIMES, |k| k == Kind::Time),
            Kind::Datetime => (MOMENTS, |k| matches!(k, Kind::Date | Kind::Datetime)),
            Kind::Timestamp => (MOMENTS, |k| k == Kind::Timestamp),
            Kind::Label => (&["'a'", "'b'", "'x,Z'", "'C'"], |k| matches!(k, Kind::Label | Kind::Text)),
            _ => (&["'a'", "'abc'"], |k| k == Kind::Bytes),
        };
        let other = if self.random.once_in(2) { None } else { self.column(like).map(|c| c.0) };
        format!("({x} {op} {})", other.unwrap_or_else(|| self.pick(literals)))
    }
}
