//! Conditions on now(): what is refused where, and that bounds say what the condition says.

use arrow::array::{Array, BooleanArray};
use arrow::record_batch::RecordBatch;

use super::*;
use crate::plan::ir::Expr;
use crate::plan::temporal::{self, Bound};
use crate::row::Ts;

#[test]
fn now_is_refused_by_its_place_in_a_view() {
    for (marked, message) in [
        ("SELECT id FROM orders WHERE id = 1 OR createdAt > @NOW()", "NOW() in an OR of a view"),
        ("SELECT id FROM orders WHERE NOT (createdAt > @NOW())", "NOW() in this condition of a view"),
        ("SELECT id FROM orders WHERE createdAt <=> @NOW()", "NOW() in this condition of a view"),
        (
            "SELECT id FROM orders WHERE createdAt NOT BETWEEN @NOW() AND '2024-01-01'",
            "NOW() in this condition of a view",
        ),
        ("SELECT id FROM orders GROUP BY id, @CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP() in GROUP BY of a view"),
        (
            "SELECT o.id FROM orders o JOIN users u ON u.id = o.userId AND o.createdAt > @CURDATE()",
            "CURDATE() in a join's condition",
        ),
        ("SELECT 1 FROM orders WHERE @NOW() > NOW() - INTERVAL 1 DAY", "NOW() in both sides of a comparison, "),
        (
            "SELECT 1 FROM orders WHERE createdAt > @NOW() - INTERVAL 1 MONTH",
            "NOW() plus or minus an INTERVAL of MONTHS",
        ),
        (
            "SELECT 1 FROM orders WHERE createdAt > @NOW() - INTERVAL id DAY",
            "NOW() in an INTERVAL that is no constant, ",
        ),
        ("SELECT 1 FROM orders WHERE YEAR(createdAt) = YEAR(@NOW())", "NOW() in this form, "),
        ("SELECT 1 FROM orders WHERE createdAt > @NOW() - INTERVAL 400000 DAY", "NOW() in this form, "),
        ("SELECT MAX(CASE WHEN createdAt > @NOW() THEN 1 END) AS m FROM orders", "NOW() in the SELECT list of a view"),
        (
            "SELECT MAX(createdAt) AS m FROM orders HAVING MAX(@NOW()) > MIN(createdAt)",
            "NOW() in this place of a view, ",
        ),
        ("SELECT createdAt + @INTERVAL '1:30' HOUR_MINUTE FROM orders", "INTERVAL … HOUR_MINUTE"),
        ("SELECT @NOW(7) FROM orders", "NOW() in the SELECT list of a view"),
    ] {
        let at = marked.find('@').expect("a marked place");
        let sql = marked.replacen('@', "", 1);
        let parsed = Parser::new(&TidemillDialect).try_with_sql(&sql).and_then(|mut p| p.parse_query());
        let Ok(query) = parsed else { continue };
        let error = lower(&query, &sql, Use::View, &Shop, &settings()).map(|l| explain(&l.plan)).expect_err(&sql);
        assert!(error.message.starts_with(message), "{sql}: {}", error.message);
        assert!(error.hint.is_some(), "{sql}");
        let near = error.position.is_some_and(|p| p <= at && at - p <= 12);
        assert!(near, "{sql}: {:?} instead of {at}", error.position);
    }
    assert!(plan("SELECT INTERVAL 1 DAY FROM orders", Use::Select).is_err());
    assert!(plan("SELECT DATE_ADD(createdAt, 1) FROM orders", Use::Select).is_err());
    assert!(plan("SELECT NOW(7)", Use::Select).is_err());
}

/// The one bound of a view over `events`, and its condition as a read has it.
fn bound_and_condition(condition: &str) -> (Bound, Expr) {
    let sql = format!("SELECT kind FROM events WHERE {condition}");
    fn find<'p, T>(plan: &'p Plan, of: &dyn Fn(&'p Plan) -> Option<T>) -> T {
        of(plan).unwrap_or_else(|| find(plan.inputs()[0], of))
    }
    let bound = find(&plan(&sql, Use::View).unwrap_or_else(|e| panic!("{sql}: {e:?}")).plan, &|plan| match &plan.op {
        Op::Temporal { bounds, .. } => Some(bounds[0].clone()),
        _ => None,
    });
    let condition = find(&plan(&sql, Use::Select).unwrap().plan, &|plan| match &plan.op {
        Op::Filter { predicates, .. } => Some(predicates[0].clone()),
        _ => None,
    });
    (bound, condition)
}

/// A row is within its bounds exactly while the condition, computed as a read computes it, is true for it.
#[test]
fn bounds_are_where_the_condition_turns() {
    const NOON: i64 = 1_800_000_000_000;
    let conditions = [
        "at > NOW() - INTERVAL 2 SECOND",
        "at >= NOW(3) - INTERVAL 1500 MICROSECOND",
        "at < NOW(6) + INTERVAL 1 HOUR",
        "at <= NOW(2)",
        "NOW(1) < at",
        "DATE(at) = CURDATE()",
        "at > CURDATE()",
        "at >= CURRENT_DATE - INTERVAL 1 WEEK",
        "CURDATE() >= at",
        "at > UTC_TIMESTAMP(3)",
        "UTC_DATE() + INTERVAL 1 DAY > at",
        "at + INTERVAL 1 MONTH > NOW()",
        "at - INTERVAL 1 DAY <= CAST(NOW(3) AS DATETIME)",
        "DATE(at) >= DATE(NOW() - INTERVAL 90 MINUTE)",
        "at > DATE_SUB(LOCALTIMESTAMP, INTERVAL 1 DAY)",
        "at = NOW()",
        "CAST(at AS DATE) < CAST(NOW(6) + INTERVAL 1 MICROSECOND AS DATE)",
    ];
    let micros = SqlType::Datetime(3);
    let schema = Schema { columns: vec![Column::new("at", micros.clone(), true)], key: None };
    let mut turns = 0;
    for condition in conditions {
        let (bound, read) = bound_and_condition(condition);
        for wall in [0, 1, 499, 500, 999, 1_000, 12_345, 43_199_999, 43_200_000, 86_399_999, 86_400_000 - 28_800_000] {
            let value = single(&Datum::Datetime((NOON + wall) * 1_000), &micros).unwrap();
            let row = RecordBatch::try_new(schema.arrow(), vec![value]).unwrap();
            let x = bound.value.physical.evaluate(&row).unwrap().into_array(1).unwrap();
            let x = match Datum::of(&x, &SqlType::of_arrow(x.data_type()).unwrap(), 0) {
                Datum::Date(days) => i64::from(days) * crate::row::temporal::MICROS_A_DAY,
                Datum::Datetime(micros) => micros,
                other => panic!("{condition}: {other:?}"),
            };
            let within = bound.within(x);
            let mut times = vec![0, 1, NOON as u64, NOON as u64 + 40 * 86_400_000];
            for end in [within.start, within.end] {
                times.extend((0..3).map(|step| (end.min(NOON as u64 * 2) + 1).saturating_sub(step)));
            }
            for time in times {
                let truth =
                    temporal::bind_expr(&read, Ts(time)).physical.evaluate(&row).unwrap().into_array(1).unwrap();
                let truth = truth.as_any().downcast_ref::<BooleanArray>().unwrap();
                let truth = truth.is_valid(0) && truth.value(0);
                assert_eq!(within.contains(&time), truth, "{condition}, at {wall} past noon, {time}: {within:?}");
                turns += usize::from(truth);
            }
        }
    }
    assert!(turns > 100, "conditions are seen true {turns} times");
}

#[test]
fn what_is_not_known_to_be_a_constant_is_no_reading_of_the_time() {
    let lowered = plan("SELECT id FROM orders WHERE createdAt > NOW() AND id > 5 AND 1 / id > 0", Use::View).unwrap();
    let printed = explain(&lowered.plan);
    let order =
        ["Temporal Filter", "Filter (id > 5)"].map(|line| printed.find(line).unwrap_or_else(|| panic!("{printed}")));
    assert!(order[0] < order[1], "rows are sorted out before they wait: {printed}");
}

#[test]
fn intervals_move_dates_as_in_mysql() {
    for (sql, expected) in [
        ("'2024-01-31' + INTERVAL 1 MONTH", "2024-02-29"),
        ("INTERVAL '2' DAY + '2024-02-28'", "2024-03-01"),
        ("DATE '2024-02-29' - INTERVAL 1 YEAR", "2023-02-28"),
        ("DATE '2024-02-29' + INTERVAL 90 MINUTE", "2024-02-29 01:30:00"),
        ("DATE_SUB('2024-03-01 00:00:00', INTERVAL 1 MICROSECOND)", "2024-02-29 23:59:59.999999"),
        ("DATE_ADD(DATE '2024-01-01', INTERVAL 2 QUARTER)", "2024-07-01"),
        ("DATE '9999-12-31' + INTERVAL 1 DAY", "NULL"),
        ("DATE '2024-01-01' + INTERVAL NULL DAY", "NULL"),
    ] {
        assert_eq!(value(sql), expected, "{sql}");
    }
}

#[test]
fn a_view_keeps_its_names_under_a_condition() {
    for sql in [
        "SELECT o.userId AS who, COUNT(*) AS n FROM orders o GROUP BY o.userId HAVING COUNT(*) > 2",
        "SELECT o.userId AS who, MAX(o.createdAt) AS n FROM orders o GROUP BY o.userId \
         HAVING MAX(o.createdAt) > NOW() - INTERVAL 1 DAY",
        "SELECT who, n FROM (SELECT o.userId AS who, o.createdAt AS n FROM orders o) AS t WHERE n > NOW()",
    ] {
        let plan = plan(sql, Use::View).unwrap_or_else(|e| panic!("{sql}: {e:?}")).plan;
        let names: Vec<&str> = plan.schema.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["who", "n"], "{sql}");
    }
}
