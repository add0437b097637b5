//! Queries over a small shop: plans as goldens, refusals, values of expressions.
//!
//! `UPDATE_GOLDEN=1` writes the goldens anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use sqlparser::ast;
use sqlparser::parser::Parser;

use super::dialect::TidemillDialect;
use super::explain::{explain, plan_hash};
use super::functions::bound::fault_of;
use super::ir::{Op, Plan};
use super::lower::{Lowered, Settings, Table, lower};
use super::refuse::Use;
use super::{PlanError, PlanErrorKind, Relation, Relations};
use crate::row::ObjectId;
use crate::row::datum::{Datum, single};
use crate::row::schema::{Column, Schema};
use crate::row::types::{BIGINT, SqlType};

mod retention;
mod temporal;

struct Shop;

const INT: SqlType = SqlType::Int { bytes: 4, unsigned: false };

fn decimal(precision: u8, scale: u8) -> SqlType {
    SqlType::Decimal { precision, scale }
}

/// Object, columns (name, type, nullable) and key.
type TableParts = (u64, Vec<(&'static str, SqlType, bool)>, Option<Vec<usize>>);

fn table(name: &str) -> Option<TableParts> {
    let text = SqlType::Varchar(20);
    Some(match name {
        "users" => (1, vec![("id", BIGINT, false), ("name", text.clone(), false), ("city", text, true)], Some(vec![0])),
        "orders" => {
            let status = SqlType::Enum(vec!["new".into(), "paid".into()]);
            let columns = vec![
                ("id", BIGINT, false),
                ("userId", INT, false),
                ("status", status, false),
                ("createdAt", SqlType::Datetime(0), false),
                ("note", text, true),
            ];
            (2, columns, Some(vec![0]))
        }
        "items" => {
            let columns = vec![
                ("order_id", BIGINT, false),
                ("line", INT, false),
                ("product_id", BIGINT, true),
                ("quantity", INT, false),
                ("price", decimal(10, 2), false),
            ];
            (3, columns, Some(vec![0, 1]))
        }
        "products" => (4, vec![("id", BIGINT, false), ("title", text, false)], Some(vec![0])),
        "events" => (5, vec![("at", SqlType::Datetime(3), true), ("kind", text, true)], None),
        _ => return None,
    })
}

impl Relations for Shop {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        let name = parts.last().expect("a name has a part");
        if name == "paid" {
            let query_text = "SELECT id, userId AS user FROM orders WHERE status = 'paid'".to_string();
            return Ok(Relation::View { name: name.clone(), query_text });
        }
        let Some((id, columns, key)) = table(&name.to_ascii_lowercase()) else {
            return Err(PlanError {
                kind: PlanErrorKind::UnknownRelation,
                message: format!("table {} does not exist", parts.join(".")),
                hint: None,
                position: None,
            });
        };
        let columns = columns.into_iter().map(|(n, t, null)| Column::new(n, t, null)).collect();
        Ok(Relation::Stored { object: ObjectId(id), name: name.clone(), schema: Schema { columns, key } })
    }
}

fn settings() -> Settings {
    Settings { time_zone: "+08:00".to_string() }
}

fn plan(sql: &str, use_: Use) -> Result<Lowered, PlanError> {
    let query = Parser::new(&TidemillDialect).try_with_sql(sql).and_then(|mut p| p.parse_query());
    lower(&query.unwrap_or_else(|e| panic!("{sql}: {e}")), sql, use_, &Shop, &settings())
}

fn expression(sql: &str) -> ast::Expr {
    Parser::new(&TidemillDialect).try_with_sql(sql).and_then(|mut p| p.parse_expr()).unwrap()
}

/// The plan of each golden's query, which stands in the file above it.
#[test]
fn plans_are_as_the_goldens_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let golden = std::fs::read_to_string(&file).unwrap();
        let (sql, expected) = golden.split_once("\n----\n").unwrap_or((golden.trim_end(), ""));
        let of_view = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("temporal_"));
        let printed = match plan(sql, if of_view { Use::View } else { Use::Select }) {
            Ok(lowered) => print(&lowered),
            Err(error) => format!("error: {error:?}\n"),
        };
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, format!("{sql}\n----\n{printed}")).unwrap();
        } else {
            assert_eq!(printed, expected, "{}; UPDATE_GOLDEN=1 accepts the change", file.display());
        }
    }
}

fn print(lowered: &Lowered) -> String {
    let mut out = explain(&lowered.plan);
    if !lowered.order_by.is_empty() || lowered.limit.is_some() {
        out.push_str(&format!(
            "order by {:?}, limit {:?}, offset {}, hidden {}\n",
            lowered.order_by, lowered.limit, lowered.offset, lowered.hidden
        ));
    }
    out
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_place() {
    use PlanErrorKind::*;
    for (marked, kind, message) in [
        ("SELECT id FROM users ORDER BY @id", NotSupported, "ORDER BY in a view is not supported"),
        ("SELECT id FROM users LIMIT @1", NotSupported, "LIMIT in a view is not supported"),
        ("SELECT @rand() FROM users", NotSupported, "RAND() is not supported"),
        ("SELECT id, @now() FROM users", NotSupported, "NOW() in the SELECT list of a view is not supported"),
        ("SELECT id,\n  @concatt(name, 'é') FROM users", UnknownFunction, "function CONCATT does not exist"),
        (
            "SELECT 'é', @row_number() OVER () FROM users",
            NotSupported,
            "the window function ROW_NUMBER(…) OVER is not supported",
        ),
        ("SELECT @count(DISTINCT city) FROM users", NotSupported, "COUNT(DISTINCT …) is not supported"),
        ("SELECT @nmae FROM users", UnknownColumn, "column nmae does not exist"),
        ("SELECT u.id, @u.cty FROM users u", UnknownColumn, "column u.cty does not exist"),
        ("SELECT 1 FROM @usres", UnknownRelation, "table usres does not exist"),
        ("SELECT @id FROM users, orders", Ambiguous, "column id is in several tables"),
        ("SELECT 1 FROM users WHERE @name || city", NotSupported, "the operator || is not supported"),
        ("SELECT 1 FROM orders WHERE @createdAt = 5", TypeMismatch, "DATETIME is compared with BIGINT"),
        ("SELECT @status + 1 FROM orders", TypeMismatch, "ENUM('new','paid') is used as a number"),
        ("SELECT 1 FROM users WHERE id IN (@SELECT 1)", NotSupported, "IN (SELECT …) is not supported"),
        ("SELECT 1 FROM users WHERE id = @?", NotSupported, "a parameter in a view is not supported"),
    ] {
        let at = marked.find('@').expect("a marked place");
        let sql = marked.replacen('@', "", 1);
        let error = plan(&sql, Use::View).map(|l| explain(&l.plan)).expect_err(&sql);
        assert_eq!((error.kind, error.message.as_str()), (kind, message), "{sql}");
        // A query in parentheses is placed at its parenthesis or its first word.
        let near = error.position.is_some_and(|p| p <= at && at - p <= 8);
        assert!(near, "{sql}: {:?} instead of {at}", error.position);
    }
    let error = plan("SELECT nmae FROM users", Use::View).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean name?"));
    for sql in [
        "SELECT 1 FROM users FULL JOIN orders ON userId = users.id",
        "SELECT id FROM users EXCEPT SELECT id FROM orders",
        "SELECT city FROM users GROUP BY city WITH ROLLUP",
        "WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x",
        "SELECT (SELECT 1)",
        "SELECT * FROM users u LEFT JOIN orders o ON u.id < o.userId",
        "SELECT id FROM users RIGHT JOIN products USING (id)",
        "SELECT DATE_FORMAT(createdAt, '%U') FROM orders",
    ] {
        assert!(plan(sql, Use::View).is_err(), "{sql}");
    }
}

/// Evaluates an expression over no columns as a view would.
fn value(sql: &str) -> String {
    let lowered = plan(&format!("SELECT {sql}"), Use::Select).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let sql_type = lowered.plan.schema.columns[0].sql_type.clone();
    let Op::Project { exprs, .. } = &lowered.plan.op else { panic!("{sql}: {:?}", lowered.plan) };
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch =
        RecordBatch::try_new_with_options(Schema { columns: vec![], key: None }.arrow(), vec![], &options).unwrap();
    match exprs[0].physical.evaluate(&batch).and_then(|v| v.into_array(1)) {
        Ok(array) => Datum::of(&array, &sql_type, 0).text(&sql_type).unwrap_or_else(|| "NULL".to_string()),
        Err(error) => fault_of(&error).unwrap_or_else(|| panic!("{sql}: {error}")).to_string(),
    }
}

#[test]
fn expressions_have_mysqls_values() {
    for (sql, expected) in [
        ("1 + 2 * 3", "7"),
        ("7 DIV 2 + 1", "4"),
        ("7 / 2", "3.5000"),
        ("1 / 0", "NULL"),
        ("5 % 0", "NULL"),
        ("-7 % 3", "-1"),
        ("0.1 + 0.2", "0.3"),
        ("0.1 + 0.2 = 0.3", "1"),
        ("1e3 + 1", "1001"),
        ("'3' + 4", "7"),
        ("9223372036854775807 + 1", "BIGINT value is out of range"),
        ("1 = '1'", "1"),
        ("'a' = 'A'", "0"),
        ("NULL <=> NULL", "1"),
        ("NULL = 1", "NULL"),
        ("1 IN (2, NULL)", "NULL"),
        ("1 IN (2, 1, NULL)", "1"),
        ("NOT 5", "0"),
        ("2 AND 0", "0"),
        ("NULL OR 1", "1"),
        ("1 XOR 1", "0"),
        ("5 BETWEEN 1 AND 5", "1"),
        ("'abc' LIKE 'a%'", "1"),
        ("'abc' NOT LIKE '_b_'", "0"),
        ("CASE WHEN 1 > 2 THEN 'x' ELSE 'y' END", "y"),
        ("CASE 3 WHEN 1 THEN 'one' WHEN 3 THEN 'three' END", "three"),
        ("IF(0, 'a', 1)", "1"),
        ("IFNULL(NULL, 2.50)", "2.50"),
        ("NULLIF(1, 1)", "NULL"),
        ("COALESCE(NULL, NULL, 'z')", "z"),
        ("GREATEST(1, 2.5, 2)", "2.5"),
        ("LEAST('b', 'a')", "a"),
        ("CONCAT('a', 1, NULL)", "NULL"),
        ("CONCAT('a', 1, 2.50)", "a12.50"),
        ("CONCAT_WS('-', 'a', NULL, 'b')", "a-b"),
        ("LENGTH('é')", "2"),
        ("CHAR_LENGTH('é')", "1"),
        ("SUBSTRING('hello', 2, 3)", "ell"),
        ("SUBSTRING('hello', -3)", "llo"),
        ("SUBSTR('hello', 0)", ""),
        ("LEFT('hello', 2)", "he"),
        ("RIGHT('hello', 2)", "lo"),
        ("TRIM('  a ')", "a"),
        ("TRIM(LEADING 'x' FROM 'xxaxx')", "axx"),
        ("REPLACE('aXbX', 'X', '--')", "a--b--"),
        ("UPPER('aé')", "AÉ"),
        ("ABS(-5.5)", "5.5"),
        ("ROUND(2.5)", "3"),
        ("ROUND(-2.345, 2)", "-2.35"),
        ("ROUND(150, -2)", "200"),
        ("TRUNCATE(1.999, 1)", "1.9"),
        ("FLOOR(-1.5)", "-2"),
        ("CEIL(1.2)", "2"),
        ("MOD(10, 3)", "1"),
        ("CAST('12.7x' AS SIGNED)", "12"),
        ("CAST(12.7 AS SIGNED)", "13"),
        ("CAST('2024-13-01' AS DATE)", "NULL"),
        ("CAST('1.239' AS DECIMAL(5,2))", "1.24"),
        ("DATE('2024-02-29 12:30:00')", "2024-02-29"),
        ("DATE '2024-02-29' < '2024-03-01'", "1"),
        ("YEAR('2024-02-29')", "2024"),
        ("HOUR('2024-02-29 23:10:00')", "23"),
        ("EXTRACT(MONTH FROM '2024-02-29')", "2"),
        ("DAYOFWEEK('2024-02-29')", "5"),
        ("DATEDIFF('2024-03-01', '2024-02-01')", "29"),
        ("DATE_FORMAT('2024-02-09 13:05:07', '%Y/%c/%e %h:%i %p %W %%')", "2024/2/9 01:05 PM Friday %"),
    ] {
        assert_eq!(value(sql), expected, "{sql}");
    }
}

/// A quotient is computed in groups of nine digits, cut there, and rounded to four more than the dividend has.
#[test]
fn numbers_are_divided_cast_and_printed_as_in_mysql() {
    for (sql, expected) in [
        ("2.00000 / 3", "0.666666666"),
        ("2.000000 / 3", "0.6666666667"),
        ("1 / 3 * 3", "0.9999"),
        ("-(NULLIF(1.5, 1.5))", "NULL"),
        ("CAST(-1 AS UNSIGNED)", "18446744073709551615"),
        ("CAST(-0.5 AS UNSIGNED)", "18446744073709551615"),
        ("CAST(99999999999999999999.0 AS UNSIGNED)", "18446744073709551615"),
        ("CAST(-99999999999999999999.0 AS UNSIGNED)", "9223372036854775808"),
        ("CAST(99999999999999999999.0 AS SIGNED)", "9223372036854775807"),
        ("CAST(1e19 AS UNSIGNED)", "9223372036854775807"),
        ("CAST('-1' AS UNSIGNED)", "18446744073709551615"),
        ("CAST('9223372036854775808' AS SIGNED)", "-9223372036854775808"),
        ("CAST(18446744073709551615 AS SIGNED)", "-1"),
        ("CAST(2.5e0 AS SIGNED)", "2"),
        ("ROUND(2.5e0)", "2"),
        ("ROUND(1234.5e0, -1)", "1230"),
        ("CONCAT(1e15, ' ', 1e14, ' ', 1.5e-7)", "1e15 100000000000000 0.00000015"),
        ("UPPER('straße')", "STRAßE"),
        ("CAST('-00:00:00.5' AS TIME)", "-00:00:01"),
        ("CAST('838:59:58.9' AS TIME)", "838:59:59"),
    ] {
        assert_eq!(value(sql), expected, "{sql}");
    }
}

#[test]
fn result_types_are_mysqls() {
    for (sql, expected) in [
        ("quantity * price", "DECIMAL(20,2)"),
        ("price / quantity", "DECIMAL(14,6)"),
        ("quantity + 1", "BIGINT"),
        ("ROUND(price, 1)", "DECIMAL(10,1)"),
        ("CONCAT(line, '/', quantity)", "VARCHAR(23)"),
        ("IF(quantity > 1, price, 0)", "DECIMAL(21,2)"),
        ("quantity > 1", "TINYINT(1)"),
        ("price", "DECIMAL(10,2)"),
    ] {
        let lowered = plan(&format!("SELECT {sql} AS x FROM items"), Use::View).unwrap();
        assert_eq!(lowered.plan.schema.columns[0].sql_type.to_string(), expected, "{sql}");
    }
}

/// A guard written in SQL keeps the guarded expression from failing, in each single row.
#[test]
fn guards_guard() {
    let lowered =
        plan("SELECT CASE WHEN id < 10 THEN id * 4611686018427387904 ELSE 0 END AS x FROM users", Use::View).unwrap();
    let Op::Project { exprs, .. } = &lowered.plan.op else { panic!("{:?}", lowered.plan) };
    assert!(!exprs[0].infallible);
    let evaluate = |id: i64| {
        let column: ArrayRef = single(&Datum::Int(id), &BIGINT).unwrap();
        let schema = Schema { columns: vec![Column::new("id", BIGINT, false)], key: None };
        let batch = RecordBatch::try_new(schema.arrow(), vec![Arc::clone(&column)]).unwrap();
        exprs[0].physical.evaluate(&batch).and_then(|v| v.into_array(1)).is_ok()
    };
    assert!(evaluate(10) && evaluate(1));
    assert!(!evaluate(2));
}

#[test]
fn the_hash_follows_the_plan_and_its_types() {
    let hash = |sql: &str| plan_hash(&plan(sql, Use::View).unwrap().plan);
    assert_eq!(
        hash("SELECT id FROM users"),
        hash("select  ID from USERS".replace("ID", "id").replace("USERS", "users").as_str())
    );
    assert_ne!(hash("SELECT id FROM users"), hash("SELECT id FROM orders"));
    assert_ne!(hash("SELECT price + 1 AS x FROM items"), hash("SELECT price + 1.000 AS x FROM items"));
}

#[test]
fn changes_of_a_table_are_lowered_over_its_columns() {
    let (_, columns, key) = table("items").unwrap();
    let columns = columns.into_iter().map(|(n, t, null)| Column::new(n, t, null)).collect();
    let schema = Schema { columns, key };
    let settings = settings();
    let items = Table { name: "items", schema: &schema, text: "", settings: &settings };
    let predicate = items.predicate(&expression("items.Quantity > 1 AND line = 2")).unwrap();
    let texts: Vec<&str> = predicate.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(texts, ["(quantity > 1)", "(line = 2)"]);
    let assignment = items.assignment(4, &expression("price * 2")).unwrap();
    assert_eq!(assignment.physical.data_type(&schema.arrow()).unwrap(), decimal(10, 2).arrow());
    assert!(!assignment.infallible);
    let row = items.row(&[0, 4], &[expression("'7'"), expression("1.005")]).unwrap();
    assert_eq!(row.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(), ["7", "1.01"]);
    assert_eq!(items.row(&[0], &[expression("NULL")]).unwrap_err().message, "column order_id cannot be NULL");
    assert!(items.row(&[0, 1], &[expression("1")]).is_err());
}

/// Positions hold at every node: no expression reads past its input.
#[test]
fn every_position_is_in_range() {
    fn check(plan: &Plan) {
        let width = plan.inputs().first().map_or(0, |i| i.schema.columns.len());
        let exprs = match &plan.op {
            Op::Filter { predicates, .. } => predicates.clone(),
            Op::Project { exprs, .. } => exprs.clone(),
            _ => vec![],
        };
        assert!(exprs.iter().all(|e| super::build::columns_of(e).iter().all(|c| *c < width)), "{}", explain(plan));
        plan.inputs().into_iter().for_each(check);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans");
    for file in std::fs::read_dir(folder).unwrap() {
        let golden = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let sql = golden.split("\n----\n").next().expect("a split yields a part");
        check(&plan(sql, Use::Select).unwrap().plan);
    }
}
