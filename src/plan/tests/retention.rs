//! Views over a table that drops old rows: which have an end that is soon enough.

use super::*;
use crate::plan::retention::{self, Retained};

/// `events` keeps ten seconds by its column `at`.
fn check(sql: &str) -> Result<(), PlanError> {
    let lowered = plan(sql, Use::View).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    retention::check(&lowered.plan, &|object| (object == ObjectId(5)).then_some(Retained { time: 0, seconds: 10 }))
}

#[test]
fn a_view_that_ends_within_the_retention_is_let_through() {
    for sql in [
        "SELECT id FROM users",
        "SELECT kind FROM events WHERE at > NOW() - INTERVAL 10 SECOND",
        "SELECT kind FROM events WHERE at >= NOW(3) - INTERVAL 10 SECOND AND kind = 'x'",
        "SELECT kind FROM events WHERE at BETWEEN NOW() - INTERVAL 5 SECOND AND NOW()",
        "SELECT kind, COUNT(*) AS n FROM events WHERE at > NOW() - INTERVAL 1 SECOND GROUP BY kind HAVING COUNT(*) > 1",
        "SELECT u.id FROM users u LEFT JOIN \
         (SELECT kind FROM events WHERE at > NOW() - INTERVAL 1 SECOND) AS e ON e.kind = u.name",
        "SELECT e.kind FROM events e JOIN users u ON u.name = e.kind WHERE e.at > NOW() - INTERVAL 9 SECOND",
        "SELECT kind FROM events WHERE at > NOW() - INTERVAL 1 SECOND AND CHAR_LENGTH(kind) * 9223372036854775807 > 0",
        "SELECT kind FROM events WHERE at > NOW() - INTERVAL 1 SECOND AND at < NOW() - INTERVAL 1 DAY",
    ] {
        assert_eq!(check(sql), Ok(()), "{sql}");
    }
}

#[test]
fn a_view_that_could_tell_when_rows_were_dropped_is_refused() {
    for sql in [
        "SELECT COUNT(*) AS n FROM events",
        "SELECT kind FROM events WHERE at > NOW() - INTERVAL 11 SECOND",
        "SELECT kind FROM events WHERE at > NOW(3) - INTERVAL 12 SECOND",
        "SELECT kind FROM events WHERE at < NOW()",
        "SELECT kind FROM events WHERE at > '2024-01-01'",
        "SELECT kind FROM events WHERE at - INTERVAL 1 HOUR > NOW()",
        "SELECT kind FROM events WHERE DATE(at) = CURDATE()",
        "SELECT kind FROM events WHERE CHAR_LENGTH(kind) * 9223372036854775807 > 0 AND at > NOW() - INTERVAL 1 SECOND",
        "SELECT u.id, e.kind FROM users u LEFT JOIN events e ON e.kind = u.name WHERE e.at > NOW() - INTERVAL 1 SECOND",
        "SELECT kind FROM events WHERE at > NOW() - INTERVAL 1 SECOND UNION ALL SELECT kind FROM events",
        "SELECT kind FROM events GROUP BY kind HAVING MAX(at) > NOW() - INTERVAL 1 SECOND",
    ] {
        let error = check(sql).expect_err(sql);
        assert_eq!(
            error.message,
            "a view over events without an end: its rows are dropped when they are 10 seconds old"
        );
        let hint = "add to its WHERE: events._timestamp > NOW() - INTERVAL 10 SECOND";
        assert_eq!(error.hint.as_deref(), Some(hint));
    }
}
