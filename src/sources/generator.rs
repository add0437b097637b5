//! A generated shop: users, products, orders, items and payments that change for ever.
//!
//! Everything is a function of the seed and the number of transactions so far, so the shop needs no memory: its
//! position is that number, a snapshot at it can be written down at once, and after a restart it goes on as if nothing
//! happened. Transaction `n` places order `n`, settles order `n - 7` (pays or cancels it), ships order `n - 40`, and
//! now and then changes a product's price or a user's city.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::delta::Delta;
use crate::row::schema::{Column, Schema};
use crate::row::temporal::{Date, MICROS_A_SECOND, datetime_micros};
use crate::row::types::SqlType;
use crate::row::{ObjectId, Position};
use crate::sources::{
    Command, Event, FollowedTable, Link, PositionError, Positions, Source, Start, Transaction, UpstreamTable, Wanted,
};
use crate::store::{Changes, StoreError};

pub const DATABASE: &str = "shop";

const USERS: u64 = 2_000;
const PRODUCTS: u64 = 200;
const SETTLED_AFTER: u64 = 7;
const SHIPPED_AFTER: u64 = 40;
const PRICE_CHANGE_EVERY: u64 = 25;
const MOVE_EVERY: u64 = 10;
const ITEMS_MAX: u64 = 4;
/// One order a second of the shop's own calendar, which begins here.
const OPENED: Date = Date { year: 2026, month: 1, day: 1 };
const LOAD_BATCH_ROWS: u64 = 8_192;

const CITIES: [&str; 8] = ["bj", "sh", "gz", "sz", "hz", "cd", "wh", "xa"];
const STATUS: [&str; 4] = ["created", "paid", "cancelled", "shipped"];
const CATEGORIES: [&str; 6] = ["books", "garden", "kitchen", "music", "sports", "toys"];

/// The shop's settings, from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shop {
    pub seed: u64,
    /// Transactions that happened before anyone looked.
    pub history: u64,
    pub transactions_a_second: u64,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop { seed: 1, history: 20_000, transactions_a_second: 100 }
    }
}

/// The tables of the shop.
pub fn tables() -> Vec<UpstreamTable> {
    let names = ["users", "products", "orders", "order_items", "payments"];
    names.into_iter().map(|name| UpstreamTable::declared(DATABASE, name, schema(name))).collect()
}

fn schema(table: &str) -> Schema {
    let bigint = |name: &str| Column::new(name, SqlType::Int { bytes: 8, unsigned: true }, false);
    let money = |name: &str| Column::new(name, SqlType::Decimal { precision: 12, scale: 2 }, false);
    let text = |name: &str, length: u32| Column::new(name, SqlType::Varchar(length), false);
    let status = SqlType::Enum(STATUS.map(str::to_string).to_vec());
    let columns = match table {
        "users" => vec![bigint("id"), text("name", 40), text("city", 8)],
        "products" => vec![bigint("id"), text("title", 60), text("category", 20), money("price")],
        "orders" => vec![
            bigint("id"),
            bigint("user_id"),
            Column::new("status", status, false),
            Column::new("created_at", SqlType::Datetime(0), false),
        ],
        "order_items" => vec![
            bigint("id"),
            bigint("order_id"),
            bigint("product_id"),
            Column::new("quantity", SqlType::Int { bytes: 4, unsigned: false }, false),
            money("price"),
        ],
        "payments" => {
            vec![bigint("id"), bigint("order_id"), money("amount"), Column::new("paid_at", SqlType::Datetime(0), true)]
        }
        other => panic!("the shop has no table {other}"),
    };
    Schema { columns, key: Some(vec![0]) }
}

impl Shop {
    /// A number that depends on the seed, what it is for and which: splitmix64's finalizer.
    fn roll(&self, what: u64, which: u64) -> u64 {
        let mut x = self.seed.wrapping_add(what << 56).wrapping_add(which.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn user(&self, id: u64, moves: u64) -> Vec<Datum> {
        let city = CITIES[(self.roll(1, id).wrapping_add(moves) % CITIES.len() as u64) as usize];
        vec![Datum::UInt(id), Datum::Text(format!("user {id}")), Datum::Text(city.to_string())]
    }

    fn cents(&self, product: u64, changes: u64) -> i128 {
        (self.roll(2, product) % 9_000 + 500 + self.roll(3, product * 1_000 + changes) % 500) as i128
    }

    fn product(&self, id: u64, changes: u64) -> Vec<Datum> {
        let category = CATEGORIES[(self.roll(4, id) % CATEGORIES.len() as u64) as usize];
        let title = format!("{category} no. {id}");
        vec![Datum::UInt(id), Datum::Text(title), Datum::Text(category.to_string()), decimal(self.cents(id, changes))]
    }

    /// How often the `i`th of `count` things was changed when one is changed every `every` transactions, in turn.
    fn turns(&self, i: u64, count: u64, every: u64, n: u64) -> u64 {
        let changes = n / every;
        changes / count + (changes % count > i) as u64
    }

    fn cancelled(&self, order: u64) -> bool {
        self.roll(5, order).is_multiple_of(16)
    }

    fn order(&self, id: u64, n: u64) -> Vec<Datum> {
        let status = if n <= id + SETTLED_AFTER {
            STATUS[0]
        } else if self.cancelled(id) {
            STATUS[2]
        } else if n <= id + SHIPPED_AFTER {
            STATUS[1]
        } else {
            STATUS[3]
        };
        let user = self.roll(6, id) % USERS;
        vec![Datum::UInt(id), Datum::UInt(user), Datum::Text(status.to_string()), at(id)]
    }

    fn items(&self, order: u64) -> Vec<Vec<Datum>> {
        let count = self.roll(7, order) % ITEMS_MAX + 1;
        let item = |i: u64| {
            let id = order * ITEMS_MAX + i;
            let product = self.roll(8, id) % PRODUCTS;
            let price = self.cents(product, self.turns(product, PRODUCTS, PRICE_CHANGE_EVERY, order));
            let quantity = (self.roll(9, id) % 5 + 1) as i64;
            vec![Datum::UInt(id), Datum::UInt(order), Datum::UInt(product), Datum::Int(quantity), decimal(price)]
        };
        (0..count).map(item).collect()
    }

    fn payment(&self, order: u64) -> Vec<Datum> {
        let cents = |item: &Vec<Datum>| match (&item[3], &item[4]) {
            (Datum::Int(quantity), Datum::Decimal(price)) => {
                *quantity as i128 * price.to_i128().expect("a price is small")
            }
            other => panic!("an item is a quantity and a price: {other:?}"),
        };
        let amount = self.items(order).iter().map(cents).sum();
        vec![Datum::UInt(order), Datum::UInt(order), decimal(amount), at(order + SETTLED_AFTER)]
    }

    /// The rows of a table after `n` transactions, made by `make` in pieces.
    fn rows(&self, table: &str, n: u64, from: u64, to: u64) -> Vec<Vec<Datum>> {
        let settled = n.saturating_sub(SETTLED_AFTER);
        match table {
            "users" => (from..to.min(USERS)).map(|id| self.user(id, self.turns(id, USERS, MOVE_EVERY, n))).collect(),
            "products" => (from..to.min(PRODUCTS))
                .map(|id| self.product(id, self.turns(id, PRODUCTS, PRICE_CHANGE_EVERY, n)))
                .collect(),
            "orders" => (from..to.min(n)).map(|id| self.order(id, n)).collect(),
            "order_items" => (from..to.min(n)).flat_map(|order| self.items(order)).collect(),
            _ => (from..to.min(settled)).filter(|id| !self.cancelled(*id)).map(|id| self.payment(id)).collect(),
        }
    }

    /// How many ids `rows` walks over.
    fn span(&self, table: &str, n: u64) -> u64 {
        match table {
            "users" => USERS,
            "products" => PRODUCTS,
            _ => n,
        }
    }

    /// What transaction `n` does to a table: rows with their diffs, in order.
    fn changes(&self, table: &str, n: u64) -> Vec<(Vec<Datum>, i64)> {
        let mut changes = Vec::new();
        let mut replace = |old: Vec<Datum>, new: Vec<Datum>| {
            if old != new {
                changes.extend([(old, -1), (new, 1)]);
            }
        };
        match table {
            "users" if (n + 1).is_multiple_of(MOVE_EVERY) => {
                let id = (n / MOVE_EVERY) % USERS;
                let moves = |n| self.turns(id, USERS, MOVE_EVERY, n);
                replace(self.user(id, moves(n)), self.user(id, moves(n + 1)));
            }
            "products" if (n + 1).is_multiple_of(PRICE_CHANGE_EVERY) => {
                let id = (n / PRICE_CHANGE_EVERY) % PRODUCTS;
                let priced = |n| self.turns(id, PRODUCTS, PRICE_CHANGE_EVERY, n);
                replace(self.product(id, priced(n)), self.product(id, priced(n + 1)));
            }
            "orders" => {
                for id in [n.checked_sub(SETTLED_AFTER), n.checked_sub(SHIPPED_AFTER)].into_iter().flatten() {
                    replace(self.order(id, n), self.order(id, n + 1));
                }
                changes.push((self.order(n, n + 1), 1));
            }
            "order_items" => changes.extend(self.items(n).into_iter().map(|row| (row, 1))),
            "payments" => {
                let settled = n.checked_sub(SETTLED_AFTER).filter(|order| !self.cancelled(*order));
                changes.extend(settled.map(|order| (self.payment(order), 1)));
            }
            _ => {}
        }
        changes
    }
}

fn decimal(cents: i128) -> Datum {
    Datum::Decimal(arrow::datatypes::i256::from_i128(cents))
}

fn at(n: u64) -> Datum {
    Datum::Datetime(datetime_micros(OPENED, 0) + n as i64 * MICROS_A_SECOND)
}

/// Rows of full width as a delta over the columns that are followed.
fn delta(table: &FollowedTable, rows: &[(Vec<Datum>, i64)]) -> Delta {
    let all = schema(&table.name);
    let columns = table.schema.columns.iter().map(|column| {
        let position = all.position(&column.name).expect("a followed column is the shop's");
        let mut builder = ColumnBuilder::new(&column.sql_type, rows.len());
        for (row, _) in rows {
            builder.push(&row[position]).expect("the shop's values have their column's type");
        }
        builder.finish()
    });
    let batch = arrow::array::RecordBatch::try_new(table.schema.arrow(), columns.collect());
    Delta::new(batch.expect("columns of the schema"), rows.iter().map(|(_, diff)| *diff).collect())
}

/// The running shop.
pub struct Generator {
    pub shop: Shop,
}

#[async_trait]
impl Positions for Shop {
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError> {
        let wanted: u64 = text.trim().parse().map_err(|_| PositionError::Unreadable {
            message: format!("'{text}' is no number of a transaction of the generated shop"),
            remedy: "give a number, as SHOW SOURCES shows one".to_string(),
        })?;
        Ok(Wanted::new(wanted.to_string(), move |position| number(position) >= wanted))
    }

    fn text(&self, position: &Position) -> String {
        position.0.clone()
    }
}

fn number(position: &Position) -> u64 {
    position.0.parse().expect("the generator's position is its own number")
}

#[async_trait]
impl Source for Generator {
    fn positions(&self) -> Arc<dyn Positions> {
        Arc::new(self.shop)
    }

    async fn run(self: Box<Self>, start: Start, mut link: Link) {
        let mut n = match &start.position {
            Some(position) => number(position),
            None => self.shop.history,
        };
        let mut tables = start.tables;
        if link.events.send((link.id, Event::Running)).await.is_err() {
            return;
        }
        let period = Duration::from_micros(1_000_000 / self.shop.transactions_a_second.max(1));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                command = link.commands.recv() => match command {
                    Some(Command::Follow(wanted)) => match self.load(&link, &wanted, n) {
                        Ok(installs) => {
                            tables.extend(wanted);
                            Some(self.transaction(n, installs, Changes::none()))
                        }
                        Err(error) => {
                            tracing::error!(%error, "the generated shop cannot be loaded");
                            return;
                        }
                    },
                    Some(Command::Forget(ids)) => {
                        tables.retain(|table| !ids.contains(&table.id));
                        None
                    }
                    Some(Command::Refresh(_)) => None,
                    None => return,
                },
                _ = ticks.tick() => {
                    let changes = self.step(&tables, n);
                    n += 1;
                    Some(self.transaction(n, vec![], changes))
                }
            };
            if let Some(event) = event
                && link.events.send((link.id, event)).await.is_err()
            {
                return;
            }
        }
    }
}

impl Generator {
    fn transaction(&self, n: u64, installs: Vec<(ObjectId, u64)>, changes: Changes) -> Event {
        let position = Position(n.to_string());
        Event::Transaction(Transaction { position, committed_ms: None, installs, changes })
    }

    fn step(&self, tables: &[FollowedTable], n: u64) -> Changes {
        let mut deltas = Vec::new();
        for table in tables {
            let rows = self.shop.changes(&table.name, n);
            if !rows.is_empty() {
                deltas.push((table.id, delta(table, &rows)));
            }
        }
        Changes::in_memory(deltas)
    }

    fn load(&self, link: &Link, tables: &[FollowedTable], n: u64) -> Result<Vec<(ObjectId, u64)>, StoreError> {
        let mut installs = Vec::new();
        for table in tables {
            let mut load = link.store.load(table.id)?;
            let span = self.shop.span(&table.name, n);
            for from in (0..span).step_by(LOAD_BATCH_ROWS as usize) {
                let rows = self.shop.rows(&table.name, n, from, (from + LOAD_BATCH_ROWS).min(span));
                let rows: Vec<(Vec<Datum>, i64)> = rows.into_iter().map(|row| (row, 1)).collect();
                load.push(delta(table, &rows).rows)?;
            }
            installs.push((table.id, load.finish()?));
        }
        Ok(installs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A snapshot and the changes after it give the later snapshot: for every table, over every kind of change.
    #[test]
    fn snapshots_and_changes_agree() {
        let shop = Shop { seed: 7, history: 0, transactions_a_second: 1 };
        for table in tables() {
            let rows = |n| {
                let mut counts = BTreeMap::new();
                for row in shop.rows(&table.name, n, 0, shop.span(&table.name, n)) {
                    *counts.entry(format!("{row:?}")).or_insert(0) += 1;
                }
                counts
            };
            let (from, to) = (3, 6_000);
            let mut counts: BTreeMap<String, i64> = rows(from);
            for n in from..to {
                for (row, diff) in shop.changes(&table.name, n) {
                    *counts.entry(format!("{row:?}")).or_insert(0) += diff;
                }
            }
            counts.retain(|_, count| *count != 0);
            assert_eq!(counts, rows(to), "table {}", table.name);
        }
    }
}
