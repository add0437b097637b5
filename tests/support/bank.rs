//! A bank that moves money: commits over two tables, whose sum never changes.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

#[path = "splitmix.rs"]
mod splitmix;

use std::collections::BTreeMap;

use tidemill::row::ObjectId;
use tidemill::row::datum::Datum;
use tidemill::row::schema::{Column, Schema};
use tidemill::row::types::{BIGINT, SqlType};
use tidemill::sources::FollowedTable;
use tidemill::sources::formats::Row;

pub const TABLES: &str =
    "bank.accounts (id INT NOT NULL PRIMARY KEY, city VARCHAR(10) NOT NULL, balance BIGINT NOT NULL),
    bank.transfers (id BIGINT NOT NULL PRIMARY KEY, from_id INT NOT NULL, to_id INT NOT NULL, amount BIGINT NOT NULL)";

/// Made over the tables of connection `cdc`.
pub const VIEWS: &str = "
    CREATE MATERIALIZED VIEW total WITH (wait) AS SELECT SUM(balance) AS balance, COUNT(*) AS n FROM bank.accounts;
    CREATE MATERIALIZED VIEW credits WITH (wait) AS
      SELECT to_id AS account, COUNT(*) AS n, SUM(amount) AS total FROM bank.transfers GROUP BY to_id;
    CREATE MATERIALIZED VIEW wide WITH (wait) AS
      SELECT t.id, t.amount, f.city AS from_city, g.city AS to_city
      FROM bank.transfers t JOIN bank.accounts f ON f.id = t.from_id LEFT JOIN bank.accounts g ON g.id = t.to_id;
    CREATE MATERIALIZED VIEW accounts_seen WITH (wait) AS SELECT id, city, balance FROM bank.accounts";
pub const ANSWER: &str = "SELECT id, city, balance FROM accounts_seen ORDER BY id";

pub const ACCOUNTS: i64 = 6;
pub const BALANCE: i64 = 1_000;

/// `TIDEMILL_SEED`, or a fixed one; printed.
pub fn seed() -> u64 {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(42);
    println!("seed {seed}");
    seed
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        splitmix::next(&mut self.0) % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Accounts,
    Transfers,
}

pub fn table(of: Of) -> FollowedTable {
    let int = |name: &str| Column::new(name, SqlType::Int { bytes: 4, unsigned: false }, false);
    let big = |name: &str| Column::new(name, BIGINT, false);
    let (id, name, columns) = match of {
        Of::Accounts => {
            (1, "accounts", vec![int("id"), Column::new("city", SqlType::Varchar(10), false), big("balance")])
        }
        Of::Transfers => (2, "transfers", vec![big("id"), int("from_id"), int("to_id"), big("amount")]),
    };
    FollowedTable::declared(ObjectId(id), "bank", name, Schema { columns, key: Some(vec![0]) })
}

/// One row's change in a commit.
#[derive(Clone, Debug)]
pub struct Event {
    pub table: Of,
    pub commit: u64,
    pub before: Option<Row>,
    pub after: Option<Row>,
}

pub struct Bank {
    pub random: Random,
    accounts: BTreeMap<i64, (String, i64)>,
    transfers: i64,
    now: u64,
}

impl Bank {
    pub fn new(seed: u64) -> Bank {
        // A TSO of 2026.
        Bank { random: Random(seed), accounts: BTreeMap::new(), transfers: 0, now: 465_000_000_000_000_000 }
    }

    /// The commit timestamp of the last commit.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// All accounts, in one commit.
    pub fn open(&mut self) -> Vec<Event> {
        self.now += 1 << 18;
        for id in 0..ACCOUNTS {
            self.accounts.insert(id, (["bj", "sh", "gz"][id as usize % 3].to_string(), BALANCE));
        }
        let opened = self
            .accounts
            .iter()
            .map(|(id, (city, balance))| self.event(Of::Accounts, None, Some(account(*id, city, *balance))));
        opened.collect()
    }

    /// Money moves.
    pub fn commit(&mut self) -> Vec<Event> {
        // Sometimes two transactions share a timestamp.
        self.now += if self.random.below(4) == 0 { 1 } else { 3 << 18 };
        let ids: Vec<i64> = self.accounts.keys().copied().collect();
        let from = ids[self.random.below(ids.len() as u64) as usize];
        let to = ids[self.random.below(ids.len() as u64) as usize];
        let amount = self.random.below(50) as i64;
        let mut events = Vec::new();
        if from != to {
            for (id, change) in [(from, -amount), (to, amount)] {
                let (city, balance) = self.accounts[&id].clone();
                let after = account(id, &city, balance + change);
                events.push(self.event(Of::Accounts, Some(account(id, &city, balance)), Some(after)));
                self.accounts.get_mut(&id).unwrap().1 += change;
            }
        }
        self.transfers += 1;
        let transfer = vec![Datum::Int(self.transfers), Datum::Int(from), Datum::Int(to), Datum::Int(amount)];
        events.push(self.event(Of::Transfers, None, Some(transfer)));
        events
    }

    fn event(&self, table: Of, before: Option<Row>, after: Option<Row>) -> Event {
        Event { table, commit: self.now, before, after }
    }

    /// What [`ANSWER`] gives when everything has come.
    pub fn answer(&self) -> Vec<Vec<Option<String>>> {
        let row = |(id, (city, balance)): (&i64, &(String, i64))| {
            vec![Some(id.to_string()), Some(city.clone()), Some(balance.to_string())]
        };
        self.accounts.iter().map(row).collect()
    }
}

fn account(id: i64, city: &str, balance: i64) -> Row {
    vec![Datum::Int(id), Datum::Text(city.to_string()), Datum::Int(balance)]
}

/// At any moment: no money is made or lost, and views of one moment agree.
pub async fn check_port(client: &tokio_postgres::Client) {
    let rows = crate::tidemill_server::sql(
        client,
        "SELECT t.balance, t.n, c.n AS credits, w.n AS wide
         FROM total t, (SELECT SUM(n) AS n FROM credits) c, (SELECT COUNT(*) AS n FROM wide) w",
    )
    .await;
    let number = |i: usize| rows[0][i].as_deref().map_or(0, |text| text.parse::<i64>().unwrap());
    let (balance, accounts, credits, wide) = (number(0), number(1), number(2), number(3));
    assert!(accounts == 0 || accounts == ACCOUNTS, "{accounts} accounts at once");
    assert_eq!(balance, accounts * BALANCE, "the sum of balances");
    assert_eq!(credits, wide, "two views of one moment agree");
}
