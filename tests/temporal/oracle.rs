//! Random rows and times: a plan's changes are those of plain loops over the rows.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use sqlparser::parser::Parser;
use tidemill::dataflow::{Cancel, evaluate_steps};
use tidemill::plan::dialect::TidemillDialect;
use tidemill::plan::ir::Plan;
use tidemill::plan::lower::{Settings, lower};
use tidemill::plan::refuse::Use;
use tidemill::plan::{PlanError, Relation, Relations};
use tidemill::row::datum::{ColumnBuilder, Datum};
use tidemill::row::delta::Delta;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::row::{ObjectId, Ts};

use crate::{Random, seeds};

const NOON: i64 = 1_800_000_000_000;
const STEPS: usize = 40;
/// +01:00, the view's.
const ZONE_MS: i64 = 3_600_000;

/// `t(id, k, a, b)`: a and b are DATETIME(3), as milliseconds of the epoch on the view's clock.
type Row = (i64, i64, Option<i64>, Option<i64>);
/// A timestamp, the changes then, and the rows after them.
type Step = (u64, Vec<(Row, i64)>, Vec<Row>);
/// A view's rows, as text, with their count.
type Rows = BTreeMap<Vec<String>, i64>;

struct One;

impl Relations for One {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        let name = parts.last().expect("a name has a part").clone();
        Ok(Relation::Stored { object: ObjectId(1), name, schema: schema() })
    }
}

fn schema() -> Schema {
    let columns = vec![
        Column::new("id", BIGINT, false),
        Column::new("k", BIGINT, false),
        Column::new("a", SqlType::Datetime(3), true),
        Column::new("b", SqlType::Datetime(3), true),
    ];
    Schema { columns, key: None }
}

fn plan(sql: &str) -> Plan {
    let query = Parser::new(&TidemillDialect).try_with_sql(sql).and_then(|mut p| p.parse_query()).unwrap();
    let settings = Settings { time_zone: "+01:00".to_string() };
    lower(&query, sql, Use::View, &One, &settings).unwrap_or_else(|e| panic!("{sql}: {e:?}")).plan
}

/// A query, and the same in other words: rows that are there, and a time in milliseconds of the view's clock.
struct Case {
    sql: &'static str,
    rows: fn(&[Row], i64) -> Vec<Vec<String>>,
}

fn texts(values: &[&dyn std::fmt::Display]) -> Vec<String> {
    values.iter().map(|value| value.to_string()).collect()
}

fn ids(rows: &[Row], keep: impl Fn(&Row) -> Option<bool>) -> Vec<Vec<String>> {
    rows.iter().filter(|row| keep(row) == Some(true)).map(|row| texts(&[&row.0])).collect()
}

fn grouped(rows: &[Row], keep: impl Fn(&Row) -> Option<bool>) -> Vec<Vec<String>> {
    let mut groups = BTreeMap::<i64, i64>::new();
    rows.iter().filter(|row| keep(row) == Some(true)).for_each(|row| *groups.entry(row.1).or_default() += 1);
    groups.into_iter().map(|(k, n)| texts(&[&k, &n])).collect()
}

const CASES: [Case; 9] = [
    Case {
        sql: "SELECT id FROM t WHERE a > NOW(3) - INTERVAL 2 SECOND",
        rows: |rows, now| ids(rows, |row| Some(row.2? > now - 2_000)),
    },
    Case {
        sql: "SELECT id FROM t WHERE a >= NOW() - INTERVAL '2' SECOND AND a <= NOW(3) AND k < 3",
        rows: |rows, now| {
            let second = now.div_euclid(1_000) * 1_000;
            ids(rows, |row| Some(row.2? >= second - 2_000 && row.2? <= now && row.1 < 3))
        },
    },
    Case {
        sql: "SELECT id FROM t WHERE NOW(3) BETWEEN a AND b",
        rows: |rows, now| ids(rows, |row| Some(row.2? <= now && now <= row.3?)),
    },
    Case { sql: "SELECT id FROM t WHERE NOW(3) < b", rows: |rows, now| ids(rows, |row| Some(now < row.3?)) },
    Case {
        sql: "SELECT id FROM t WHERE a + INTERVAL k SECOND > NOW(1) AND b < NOW(6)",
        rows: |rows, now| {
            let tenth = now.div_euclid(100) * 100;
            ids(rows, |row| Some(row.2? + row.1 * 1_000 > tenth && row.3? < now))
        },
    },
    Case {
        sql: "SELECT k, COUNT(*) AS n FROM t WHERE a > NOW(3) - INTERVAL 1500000 MICROSECOND GROUP BY k",
        rows: |rows, now| grouped(rows, |row| Some(row.2? > now - 1_500)),
    },
    Case {
        sql: "SELECT id FROM t WHERE a > NOW(3) UNION ALL SELECT id FROM t WHERE b <= NOW(3)",
        rows: |rows, now| {
            let mut all = ids(rows, |row| Some(row.2? > now));
            all.extend(ids(rows, |row| Some(row.3? <= now)));
            all
        },
    },
    Case {
        sql: "SELECT l.id, r.id AS other FROM t l LEFT JOIN \
              (SELECT id, k FROM t WHERE NOW(3) >= a AND b > NOW(3)) AS r ON r.k = l.k \
              WHERE l.a > NOW(3) - INTERVAL 3 SECOND",
        rows: |rows, now| {
            let mut pairs = Vec::new();
            for left in rows.iter().filter(|row| row.2.is_some_and(|a| a > now - 3_000)) {
                let is_in = |row: &Row| row.2.is_some_and(|a| now >= a) && row.3.is_some_and(|b| b > now);
                let matches: Vec<&Row> = rows.iter().filter(|row| row.1 == left.1 && is_in(row)).collect();
                pairs.extend(matches.iter().map(|row| texts(&[&left.0, &row.0])));
                if matches.is_empty() {
                    pairs.push(texts(&[&left.0, &"NULL"]));
                }
            }
            pairs
        },
    },
    Case {
        sql: "SELECT k, MAX(a) + INTERVAL 1 SECOND > b AS x, COUNT(*) AS n FROM t GROUP BY k, b \
              HAVING MAX(a) > NOW(3) - INTERVAL 1 SECOND",
        rows: |rows, now| {
            let mut groups = BTreeMap::<(i64, Option<i64>), (Option<i64>, i64)>::new();
            for row in rows {
                let group = groups.entry((row.1, row.3)).or_default();
                *group = (group.0.max(row.2), group.1 + 1);
            }
            let shown = groups.into_iter().filter(|(_, (a, _))| a.is_some_and(|a| a > now - 1_000));
            let shown = shown.map(|((k, b), (a, n))| {
                let later = b.map_or("NULL".to_string(), |b| i64::from(a.unwrap_or_default() + 1_000 > b).to_string());
                texts(&[&k, &later, &n])
            });
            shown.collect()
        },
    },
];

fn moment(random: &mut Random, now: i64) -> Option<i64> {
    match random.below(8) {
        0 => None,
        // Far away, and exactly now.
        1 => Some(random.one(&[NOON - 86_400_000, NOON + 86_400_000, now])),
        2 => Some(now.div_euclid(1_000) * 1_000),
        _ => Some(now - 4_000 + random.below(8_000) as i64),
    }
}

fn delta(changes: &[(Row, i64)]) -> Delta {
    let schema = schema();
    let mut builders: Vec<ColumnBuilder> =
        schema.columns.iter().map(|column| ColumnBuilder::new(&column.sql_type, changes.len())).collect();
    let datetime = |ms: Option<i64>| ms.map_or(Datum::Null, |ms| Datum::Datetime(ms * 1_000));
    for ((id, k, a, b), _) in changes {
        for (builder, datum) in builders.iter_mut().zip([Datum::Int(*id), Datum::Int(*k), datetime(*a), datetime(*b)]) {
            builder.push(&datum).unwrap();
        }
    }
    let columns = builders.iter_mut().map(ColumnBuilder::finish).collect();
    let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    Delta::new(rows, changes.iter().map(|(_, diff)| *diff).collect())
}

/// Steps of changes, and the rows after each.
fn history(random: &mut Random) -> Vec<Step> {
    let (mut ts, mut rows, mut steps) = (NOON, Vec::<Row>::new(), Vec::new());
    for step in 0..STEPS {
        ts += random.one(&[1, 7, 99, 400, 1_000, 2_500]);
        let wall = ts + ZONE_MS;
        let mut changes = Vec::new();
        for _ in 0..random.below(4) {
            let row = (
                step as i64 * 10 + random.below(3) as i64,
                random.below(4) as i64,
                moment(random, wall),
                moment(random, wall),
            );
            match random.below(3) {
                0 if !rows.is_empty() => {
                    let gone = rows.swap_remove(random.below(rows.len() as u64) as usize);
                    changes.push((gone, -1));
                    // An update.
                    if random.below(2) == 0 {
                        let changed = (gone.0, gone.1, moment(random, wall), gone.3);
                        rows.push(changed);
                        changes.push((changed, 1));
                    }
                }
                _ => {
                    rows.push(row);
                    changes.push((row, 1));
                }
            }
        }
        steps.push((ts as u64, changes, rows.clone()));
    }
    steps
}

fn added(found: &mut Rows, plan: &Plan, delta: &Delta) {
    for (i, diff) in delta.diffs.iter().enumerate() {
        let cell = |(c, column): (usize, &Column)| {
            Datum::of(delta.rows.column(c), &column.sql_type, i).text(&column.sql_type).unwrap_or("NULL".to_string())
        };
        let row = plan.schema.columns.iter().enumerate().map(cell).collect();
        *found.entry(row).or_default() += diff;
    }
    found.retain(|_, count| *count != 0);
}

fn check(seed: u64, case: &Case) {
    let mut random = Random(seed);
    let steps = history(&mut random);
    let plan = plan(case.sql);
    let inputs = steps.iter().map(|(ts, changes, _)| (Ts(*ts), vec![(ObjectId(1), delta(changes))])).collect();
    let changed = evaluate_steps(&plan, inputs, &Cancel::default());
    assert!(changed.iter().all(|step| step.errors.is_empty()), "seed {seed}: {}", case.sql);
    let mut times: Vec<u64> = changed.iter().flat_map(|step| [step.ts.0 - 1, step.ts.0]).collect();
    times.extend(steps.iter().map(|(ts, ..)| *ts));
    times.extend((0..50).map(|_| NOON as u64 + random.below(30_000)));
    let last = steps.last().expect("there are steps").0;
    times.retain(|time| *time <= last);
    times.sort();
    let (mut found, mut next) = (Rows::new(), 0);
    for time in times {
        while let Some(step) = changed.get(next).filter(|step| step.ts.0 <= time) {
            step.rows.iter().for_each(|delta| added(&mut found, &plan, delta));
            next += 1;
        }
        let there = steps.iter().take_while(|(ts, ..)| *ts <= time).last().map_or(&[][..], |(_, _, rows)| rows);
        let mut expected = Rows::new();
        for row in (case.rows)(there, time as i64 + ZONE_MS) {
            *expected.entry(row).or_default() += 1;
        }
        assert_eq!(found, expected, "seed {seed}, at {time}: {}", case.sql);
    }
    // What is still to come when the inputs end never comes.
    assert!(changed.iter().all(|step| step.ts.0 <= last), "seed {seed}: {}", case.sql);
}

#[test]
fn changes_add_up_to_what_holds_at_each_time() {
    for seed in seeds(60) {
        println!("seed {seed}");
        CASES.iter().for_each(|case| check(seed, case));
    }
}

/// More than the operator gives in one go.
#[test]
fn very_many_rows_leave_at_once() {
    const ROWS: i64 = 150_000;
    let plan = plan(CASES[0].sql);
    let rows: Vec<(Row, i64)> = (0..ROWS).map(|id| ((id, 0, Some(NOON + ZONE_MS), None), 1)).collect();
    let steps = [(NOON, rows), (NOON + 1_999, vec![]), (NOON + 2_000, vec![])];
    let steps = steps.into_iter().map(|(ts, rows)| (Ts(ts as u64), vec![(ObjectId(1), delta(&rows))])).collect();
    let sums: Vec<(u64, i64)> = evaluate_steps(&plan, steps, &Cancel::default())
        .into_iter()
        .map(|step| (step.ts.0 - NOON as u64, step.rows.iter().flat_map(|delta| &delta.diffs).sum()))
        .collect();
    assert_eq!(sums, [(0, ROWS), (2_000, -ROWS)]);
}
