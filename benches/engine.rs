//! The engine, from SQL, against a hand-written differential program: a join and a sum.
//!
//! Both sides run in turn in one process on one worker, and must agree on a checksum of every output change. Printed, a
//! line a side, are medians: rows per CPU-second at load, a 1-row and a 1000-row tick, live bytes a row after the load.
//! `cargo bench --bench engine -- [orders] [rounds]`.

#![allow(unsafe_code, reason = "a counting allocator")]

use std::alloc::{GlobalAlloc, Layout as Allocation};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Date32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Decimal256Type, Field, Int64Type, Schema, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::Probe;
use timely::worker::Worker;

use tidemill::dataflow::edge::Edge;
use tidemill::dataflow::render::Sources;
use tidemill::plan::ir::Plan;
use tidemill::plan::lower::{Settings, lower};
use tidemill::plan::parse::parse_query;
use tidemill::plan::refuse::Use;
use tidemill::plan::{PlanError, Relation, Relations};
use tidemill::row::ObjectId;
use tidemill::row::schema::Column;
use tidemill::row::types::{BIGINT, SqlType};

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// mimalloc, counting what is live.
struct Counting;

// SAFETY: every call goes to mimalloc as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Allocation) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Allocation) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Allocation, size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_add(size, Ordering::Relaxed);
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.realloc(at, layout, size) }
    }
}

const CUSTOMERS: u64 = 15_000;
const ITEMS_PER_ORDER: u64 = 4;
const ORDERS_PER_PIECE: u64 = 20_000;
const SMALL_TICKS: u64 = 300;
const LARGE_TICKS: u64 = 100;
const LARGE_TICK_ROWS: u64 = 1000;

type Row = (i64, i64, i64, i32, i64);

/// The same rows for both sides.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> i64 {
        (self.next() % limit) as i64
    }

    /// Order key, customer, price, date, status.
    fn order(&mut self, key: u64) -> Row {
        (key as i64, self.below(CUSTOMERS), self.below(1_000_000), self.below(2500) as i32, self.below(5))
    }

    /// Order key, price, discount, date, quantity.
    fn item(&mut self, key: u64) -> Row {
        (key as i64, self.below(100_000), self.below(10), self.below(2500) as i32, self.below(50))
    }
}

/// Sums over all output changes of diff, diff × count and diff × revenue.
type Check = Rc<RefCell<(i64, i64, i64)>>;

/// A side of the comparison: a dataflow that takes rows and times.
trait Side {
    const NAME: &'static str;
    fn build(worker: &mut Worker, check: Check) -> Self;
    fn send(&mut self, orders: &[Row], items: &[Row], time: u64);
    fn advance(&mut self, time: u64);
    fn probe(&self) -> &ProbeHandle<u64>;
}

#[derive(Clone, Debug, Default)]
struct Figures {
    rows_per_cpu_second: f64,
    small_tick: Duration,
    large_tick: Duration,
    bytes_per_row: f64,
    check: (i64, i64, i64),
}

fn run<S: Side>(orders: u64) -> Figures {
    let bytes_before = LIVE_BYTES.load(Ordering::Relaxed);
    timely::execute_directly(move |worker| {
        let check = Check::default();
        let mut side = S::build(worker, check.clone());
        let (mut random, mut time) = (Random(88172645463325252), 1);
        let finish = |worker: &mut Worker, side: &mut S, time: &mut u64| {
            *time += 1;
            side.advance(*time);
            while side.probe().less_than(time) {
                worker.step();
            }
        };
        let (mut order_rows, mut item_rows) = (Vec::new(), Vec::new());
        let mut cpu = Duration::ZERO;
        for piece in (0..orders).step_by(ORDERS_PER_PIECE as usize) {
            for key in piece..orders.min(piece + ORDERS_PER_PIECE) {
                order_rows.push(random.order(key));
                item_rows.extend((0..ITEMS_PER_ORDER).map(|_| random.item(key)));
            }
            let start = cpu_time();
            side.send(&order_rows, &item_rows, time);
            finish(worker, &mut side, &mut time);
            cpu += cpu_time() - start;
            order_rows.clear();
            item_rows.clear();
        }
        let rows = orders * (1 + ITEMS_PER_ORDER);
        for _ in 0..200 {
            worker.step();
        }
        let bytes = LIVE_BYTES.load(Ordering::Relaxed) - bytes_before;
        let mut tick = |count: u64, rows: u64| {
            let mut walls: Vec<Duration> = (0..count)
                .map(|_| {
                    let keys: Vec<u64> = (0..rows).map(|_| random.next() % orders).collect();
                    let items: Vec<Row> = keys.into_iter().map(|key| random.item(key)).collect();
                    let start = Instant::now();
                    side.send(&[], &items, time);
                    finish(worker, &mut side, &mut time);
                    start.elapsed()
                })
                .collect();
            walls.sort_unstable();
            walls[walls.len() / 2]
        };
        let (small_tick, large_tick) = (tick(SMALL_TICKS, 1), tick(LARGE_TICKS, LARGE_TICK_ROWS));
        Figures {
            rows_per_cpu_second: rows as f64 / cpu.as_secs_f64(),
            small_tick,
            large_tick,
            bytes_per_row: bytes as f64 / rows as f64,
            check: *check.borrow(),
        }
    })
}

/// CPU time of this thread, which is the worker's.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's CPU time");
    let nanoseconds = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is the CPU time"))
}

/// What SQL becomes: the query planned and rendered over two inputs.
struct Engine {
    orders: EdgeInput,
    items: EdgeInput,
    probe: ProbeHandle<u64>,
}

type EdgeInput = timely::dataflow::InputHandle<u64, CapacityContainerBuilder<Edge>>;

fn schema(types: &[DataType]) -> SchemaRef {
    let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn row_types() -> Vec<DataType> {
    vec![DataType::Int64, DataType::Int64, DataType::Int64, DataType::Date32, DataType::Int64]
}

/// The two tables, as a catalog would show them.
struct Tables;

impl Relations for Tables {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        let bigint = |name: &str| Column::new(name, BIGINT, false);
        let (object, names) = match parts[0].as_str() {
            "orders" => (ORDERS, ["order_key", "customer", "price", "day", "status"]),
            _ => (ITEMS, ["order_key", "price", "discount", "day", "quantity"]),
        };
        let mut columns: Vec<Column> = names.map(bigint).to_vec();
        columns[3].sql_type = SqlType::Date;
        let schema = tidemill::row::schema::Schema { columns, key: None };
        Ok(Relation::Stored { object, name: parts[0].clone(), schema })
    }
}

const ORDERS: ObjectId = ObjectId(1);
const ITEMS: ObjectId = ObjectId(2);
const QUERY: &str = "SELECT o.customer, COUNT(*) AS items, SUM(i.price * (100 - i.discount)) AS revenue
    FROM orders o JOIN items i ON i.order_key = o.order_key GROUP BY o.customer";

fn plan() -> Plan {
    let query = parse_query(QUERY).expect("a query");
    let settings = Settings { time_zone: "+00:00".to_string() };
    lower(&query, QUERY, Use::View, &Tables, &settings).expect("the subset").plan
}

fn engine_check(check: &Check, edge: &Edge) {
    let counts = edge.rows.column(1).as_primitive::<Int64Type>();
    let sums = edge.rows.column(2).as_primitive::<Decimal256Type>();
    let mut check = check.borrow_mut();
    for (i, diff) in edge.diffs.iter().enumerate() {
        check.0 += diff;
        check.1 += diff * counts.value(i);
        check.2 = check.2.wrapping_add(diff.wrapping_mul(sums.value(i).to_i128().expect("a small sum") as i64));
    }
}

fn send(input: &mut EdgeInput, rows: &[Row], time: u64) {
    for rows in rows.chunks(8192) {
        let int = |of: fn(&Row) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(of)));
        let date = Arc::new(Date32Array::from_iter_values(rows.iter().map(|r| r.3)));
        let columns: Vec<arrow::array::ArrayRef> = vec![int(|r| r.0), int(|r| r.1), int(|r| r.2), date, int(|r| r.4)];
        let batch = RecordBatch::try_new(schema(&row_types()), columns).expect("five columns");
        let (times, diffs) = (vec![time; rows.len()], vec![1; rows.len()]);
        input.send_batch(&mut Edge { rows: batch, times, diffs });
    }
}

impl Side for Engine {
    const NAME: &'static str = "engine";

    fn build(worker: &mut Worker, check: Check) -> Engine {
        let probe = ProbeHandle::new();
        let (orders, items) = worker.dataflow::<u64, _, _>(|scope| {
            let (orders_in, orders) = scope.new_input();
            let (items_in, items) = scope.new_input();
            let streams = BTreeMap::from([(ORDERS, orders), (ITEMS, items)]);
            let sources = Sources::alone(scope, streams);
            let rendered = sources.render(&plan());
            let checked =
                rendered.rows.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "check", |_, _| {
                    move |input, _output| input.for_each(|_, edge| engine_check(&check, edge))
                });
            checked.probe_with(&probe);
            (orders_in, items_in)
        });
        Engine { orders, items, probe }
    }

    fn send(&mut self, orders: &[Row], items: &[Row], time: u64) {
        send(&mut self.orders, orders, time);
        send(&mut self.items, items, time);
    }

    fn advance(&mut self, time: u64) {
        self.orders.advance_to(time);
        self.items.advance_to(time);
    }

    fn probe(&self) -> &ProbeHandle<u64> {
        &self.probe
    }
}

/// The same by hand, with tuples.
struct Native {
    orders: differential_dataflow::input::InputSession<u64, Row, i64>,
    items: differential_dataflow::input::InputSession<u64, Row, i64>,
    probe: ProbeHandle<u64>,
}

impl Side for Native {
    const NAME: &'static str = "native";

    fn build(worker: &mut Worker, check: Check) -> Native {
        use differential_dataflow::AsCollection;
        use differential_dataflow::consolidation::ConsolidatingContainerBuilder;
        use differential_dataflow::input::Input;
        use differential_dataflow::operators::join::join_traces;
        use differential_dataflow::trace::implementations::ord_neu::{
            OrdKeyBatcher, OrdKeySpine, OrdValBatcher, OrdValSpine, VecOrdValBuilder,
        };
        use timely::container::PushInto;
        type Sum = (i64, i64);
        type Sums = ConsolidatingContainerBuilder<Vec<((i64, ()), u64, Sum)>>;
        let probe = ProbeHandle::new();
        let (orders, items) = worker.dataflow::<u64, _, _>(|scope| {
            let (orders_in, orders) = scope.new_collection::<Row, i64>();
            let (items_in, items) = scope.new_collection::<Row, i64>();
            // Like the planner, it keeps only what the query needs.
            let orders = orders.map(|r| (r.0, r.1)).arrange::<_, OrdValSpine<i64, i64, u64, i64>>(OrdValBatcher::new);
            let items = items.map(|r| (r.0, (r.1, r.2)));
            let items = items.arrange::<_, OrdValSpine<i64, (i64, i64), u64, i64>>(OrdValBatcher::new);
            let joined =
                join_traces::<_, _, _, _, Sums>(orders, items, "join", |_key, order, item, time, d1, d2, out| {
                    let diff = d1 * d2;
                    out.push_into(((*order, ()), time, (diff, diff * item.0 * (100 - item.1))));
                });
            let sums = joined.as_collection().arrange::<_, OrdKeySpine<i64, u64, Sum>>(OrdKeyBatcher::new);
            let reduced = sums
                .reduce_abelian::<_, VecOrdValBuilder<i64, Sum, u64, i64>, OrdValSpine<i64, Sum, u64, i64>, _, _>(
                    "revenue",
                    |_key, input, output| output.push((input[0].1, 1)),
                    |out: &mut Vec<((i64, Sum), u64, i64)>, key, updates| {
                        out.clear();
                        out.extend(updates.drain(..).map(|(value, time, diff)| ((*key, value), time, diff)));
                    },
                );
            let reduced = reduced.as_collection(|_key, value| *value).inspect(move |(value, _time, diff)| {
                let mut check = check.borrow_mut();
                check.0 += diff;
                check.1 += diff * value.0;
                check.2 = check.2.wrapping_add(diff.wrapping_mul(value.1));
            });
            reduced.probe_with(&probe);
            (orders_in, items_in)
        });
        Native { orders, items, probe }
    }

    fn send(&mut self, orders: &[Row], items: &[Row], _time: u64) {
        orders.iter().for_each(|row| self.orders.update(*row, 1));
        items.iter().for_each(|row| self.items.update(*row, 1));
    }

    fn advance(&mut self, time: u64) {
        self.orders.advance_to(time);
        self.items.advance_to(time);
        self.orders.flush();
        self.items.flush();
    }

    fn probe(&self) -> &ProbeHandle<u64> {
        &self.probe
    }
}

fn report(name: &str, runs: &[Figures]) -> Figures {
    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
    let figures = Figures {
        rows_per_cpu_second: of(|f| f.rows_per_cpu_second),
        small_tick: Duration::from_secs_f64(of(|f| f.small_tick.as_secs_f64())),
        large_tick: Duration::from_secs_f64(of(|f| f.large_tick.as_secs_f64())),
        bytes_per_row: of(|f| f.bytes_per_row),
        check: runs[0].check,
    };
    println!(
        "{{\"side\":\"{name}\",\"rows_per_cpu_second\":{:.0},\
         \"tick_1_row_us\":{:.1},\"tick_1000_rows_us\":{:.1},\"bytes_per_row\":{:.1}}}",
        figures.rows_per_cpu_second,
        figures.small_tick.as_secs_f64() * 1e6,
        figures.large_tick.as_secs_f64() * 1e6,
        figures.bytes_per_row
    );
    figures
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let (orders, rounds) = (numbers.first().map_or(300_000, |n| *n), numbers.get(1).map_or(3, |n| *n));
    let (mut native, mut engine) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        native.push(run::<Native>(orders));
        engine.push(run::<Engine>(orders));
    }
    let (native, engine) = (report(Native::NAME, &native), report(Engine::NAME, &engine));
    assert_eq!(native.check, engine.check, "both sides put out the same changes");
    println!(
        "{{\"side\":\"engine / native\",\"load\":{:.2},\"tick_1_row\":{:.2},\
         \"tick_1000_rows\":{:.2},\"bytes_per_row\":{:.2}}}",
        engine.rows_per_cpu_second / native.rows_per_cpu_second,
        native.small_tick.as_secs_f64() / engine.small_tick.as_secs_f64(),
        native.large_tick.as_secs_f64() / engine.large_tick.as_secs_f64(),
        engine.bytes_per_row / native.bytes_per_row
    );
}
