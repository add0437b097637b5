//! What a connection shows and gives without a changelog, against a real MySQL.

#[path = "support/mysql.rs"]
mod mysql_server;
#[path = "support/tidemill.rs"]
mod tidemill_server;

#[path = "upstream/adhoc.rs"]
mod adhoc;
#[path = "upstream/polled.rs"]
mod polled;

use mysql_async::prelude::Queryable;
use mysql_server::{Kind, Server};
use tidemill_server::{Tidemill, sql, temporary, try_sql};
use tokio_postgres::Client;

/// An account that may read and nothing else.
const READER: &str = "CREATE USER reader IDENTIFIED BY 'r'; GRANT SELECT ON *.* TO reader";

/// A connection named `c` to the server, as a TiDB or a MySQL would be named.
async fn connect(client: &Client, server: &Server, kind: &str) {
    sql(client, "CREATE SECRET r AS 'r'").await;
    let connection = format!(
        "CREATE CONNECTION c TO {kind} (HOST '127.0.0.1', PORT {}, USER 'reader', PASSWORD SECRET r)",
        server.port()
    );
    sql(client, &connection).await;
}

/// Rows with `-` for NULL and a space between cells.
async fn shown(client: &Client, text: &str) -> Vec<String> {
    let line = |row: Vec<Option<String>>| {
        row.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join(" ")
    };
    sql(client, text).await.into_iter().map(line).collect()
}

/// The message and the hint of a refusal.
async fn refusal(client: &Client, text: &str) -> (String, String) {
    let error = try_sql(client, text).await.expect_err(text);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?} in {text}"));
    (error.message().to_string(), error.hint().unwrap_or_default().to_string())
}

/// Moves between the rows of `ref.a` and `ref.b`, whose sum stays, until it is told to stop; gives how many it made.
fn transfers(mut conn: mysql_async::Conn) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<u64>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = tokio::spawn(async move {
        let mut n = 0u64;
        while stopped.try_recv().is_err() {
            n += 1;
            let (from, to) = (n * 7 % 500 + 1, n * 11 % 500 + 1);
            let transfer = format!(
                "BEGIN; UPDATE ref.a SET v = v - 1 WHERE id = {from}; \
                 UPDATE ref.b SET v = v + 1 WHERE id = {to}; COMMIT"
            );
            conn.query_drop(transfer).await.expect("it commits");
        }
        n
    });
    (stop, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_shows_databases_tables_and_columns() {
    let Some(server) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    server
        .run(&format!(
            "{READER}; CREATE DATABASE ref; CREATE DATABASE shop; CREATE DATABASE bare;
             CREATE TABLE ref.countries (code CHAR(2) PRIMARY KEY, name VARCHAR(40) NOT NULL COMMENT 'in English');
             CREATE TABLE ref.cities (id INT UNSIGNED, spot POINT, twice INT AS (id * 2) VIRTUAL);
             CREATE TABLE shop.orders (a INT, b INT, v DECIMAL(12,2), PRIMARY KEY (b, a));
             CREATE VIEW ref.v AS SELECT 1 AS x"
        ))
        .await;
    for kind in ["MYSQL", "TIDB"] {
        let directory = temporary(&format!("shown-{kind}"));
        let tidemill = Tidemill::start(&directory.join("data"), &[], &[]).await;
        let client = tidemill.client().await;
        connect(&client, &server, kind).await;
        assert_eq!(shown(&client, "SHOW DATABASES FROM CONNECTION c").await, ["bare 0", "ref 2", "shop 1"]);
        let point = "spot (type point is not supported)";
        let virt = "twice (a virtual generated column: its value is not stored)";
        let cities = format!("ref.cities 3 - {point}, {virt}");
        let all = [cities.as_str(), "ref.countries 2 code -", "shop.orders 3 b, a -"];
        assert_eq!(shown(&client, "SHOW TABLES FROM CONNECTION c").await, all);
        assert_eq!(shown(&client, "SHOW TABLES FROM CONNECTION c LIKE 'C%'").await, all[..2]);
        assert_eq!(shown(&client, "SHOW TABLES FROM CONNECTION c LIKE 'shop._rders'").await, all[2..]);
        assert_eq!(
            shown(&client, "SHOW COLUMNS FROM CONNECTION c TABLE ref.countries").await,
            ["code char(2) no key - -", "name varchar(40) no  in English -"]
        );
        assert_eq!(
            shown(&client, "SHOW COLUMNS FROM CONNECTION c TABLE REF.CITIES").await,
            [
                "id int unsigned yes  - -",
                "spot - - - - type point is not supported",
                "twice - - - - a virtual generated column: its value is not stored"
            ]
        );
        let (message, hint) = refusal(&client, "SHOW COLUMNS FROM CONNECTION c TABLE ref.v").await;
        assert_eq!(message, "connection c shows no table ref.v");
        assert_eq!(hint, "SHOW TABLES FROM CONNECTION c lists them");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_tables_says_so() {
    let directory = temporary("shown-none");
    let tidemill = Tidemill::start(&directory.join("data"), &[], &[]).await;
    let client = tidemill.client().await;
    sql(&client, "CREATE CONNECTION shop TO GENERATOR; CREATE CONNECTION k TO KAFKA (BROKERS 'localhost:1')").await;
    assert_eq!(shown(&client, "SHOW DATABASES FROM CONNECTION shop").await, ["shop 5"]);
    assert_eq!(
        shown(&client, "SHOW TABLES FROM CONNECTION shop LIKE '%er_'").await,
        ["shop.users 3 id -", "shop.orders 4 id -"]
    );
    let (message, hint) = refusal(&client, "SHOW TABLES FROM CONNECTION k").await;
    assert_eq!(message, "the tables of a KAFKA connection cannot be listed");
    assert_eq!(hint, "VALIDATE CONNECTION lists its topics");
}

/// A MariaDB that gives itself out for a TiDB, as far as it is asked: its name, and the timestamp of a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tidb_connection_is_validated_and_another_server_is_told() {
    let settings = ["--version=8.0.11-TiDB-v7.5.0", "--init-connect=USE standin"];
    let Some(standin) = Server::start_or_skip(Kind::MariaDb, &settings).await else { return };
    standin
        .run(&format!(
            "{READER}; GRANT EXECUTE ON *.* TO reader; CREATE DATABASE standin;
             CREATE FUNCTION standin.TIDB_CURRENT_TSO() RETURNS BIGINT UNSIGNED NO SQL RETURN 450000000000000000;
             SET GLOBAL max_statement_time = 0"
        ))
        .await;
    let tidemill = Tidemill::start(&temporary("validated").join("data"), &[], &[]).await;
    let client = tidemill.client().await;
    connect(&client, &standin, "TIDB").await;
    let checks = sql(&client, "VALIDATE CONNECTION c").await;
    let of = |setting: &str| {
        let line = checks.iter().find(|line| line[0].as_deref().is_some_and(|name| name.starts_with(setting)));
        line.unwrap_or_else(|| panic!("{setting}: {checks:?}")).clone()
    };
    assert_eq!(of("version")[3].as_deref(), Some("yes"), "{checks:?}");
    assert_eq!(of("TIDB_CURRENT_TSO()")[1].as_deref(), Some("450000000000000000"), "{checks:?}");
    assert_eq!(of("privileges to read")[3].as_deref(), Some("yes"), "{checks:?}");
    let write = of("privileges to write");
    assert_eq!(write[1].as_deref(), Some("missing: INSERT, UPDATE, DELETE, CREATE"), "{checks:?}");
    assert!(write[4].as_ref().is_some_and(|remedy| remedy.ends_with("TO 'reader'@'%';")), "{checks:?}");
    assert_eq!(of("tidb_gc_max_wait_time")[1].as_deref(), Some("(not known to this server)"), "{checks:?}");

    let Some(mysql) = Server::start_or_skip(Kind::MySql, &[]).await else { return };
    let other = format!("CREATE CONNECTION other TO TIDB (HOST '127.0.0.1', PORT {}, USER 'root')", mysql.port());
    sql(&client, &other).await;
    let checks = sql(&client, "VALIDATE CONNECTION other").await;
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_eq!(checks[0][3..], ["no", "make the connection of another server TO MYSQL"].map(|s| Some(s.to_string())));
}
