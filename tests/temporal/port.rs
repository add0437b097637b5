//! A server process: rows expire by the real clock, in the view and in its wide table.

use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_table_loses_what_expires_while_nothing_else_happens() {
    let home = temporary("temporal-port");
    let file = home.join("wide.db");
    let mut server = Tidemill::start(&home.join("data"), &[], &[]).await;
    let client = server.client().await;
    sql(
        &client,
        &format!(
            "CREATE CONNECTION dw TO SQLITE (PATH '{}');
             CREATE TABLE t (id INT NOT NULL PRIMARY KEY, at TIMESTAMP(3));
             CREATE MATERIALIZED VIEW recent (PRIMARY KEY (id)) INTO dw.recent WITH (wait, time_zone = '+08:00') AS
               SELECT id, at FROM t WHERE at > NOW(3) - INTERVAL '2' SECOND",
            file.display()
        ),
    )
    .await;
    let wide = || -> i64 {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.query_row("SELECT COUNT(*) FROM recent", [], |row| row.get(0)).unwrap_or(-1)
    };
    let explained = sql(&client, "EXPLAIN MATERIALIZED VIEW recent").await.concat();
    let line = explained.iter().flatten().find(|line| line.contains("Temporal Filter")).expect("it has bounds");
    assert!(line.ends_with(": until at + 2 seconds"), "{line}");
    for round in 0..2 {
        let id = round * 10;
        sql(
            &client,
            &format!("INSERT INTO t VALUES ({id}, CURRENT_TIMESTAMP(3)), ({id} + 1, NOW(3) + INTERVAL 1 HOUR)"),
        )
        .await;
        let stays = round + 1;
        eventually("the new rows are there", 20, async || match wide() {
            n if n > stays => Ok(()),
            n => Err(n),
        })
        .await;
        if round == 1 {
            server.kill();
            server.restart().await;
        }
        eventually("what is two seconds old is gone", 20, async || match wide() {
            n if n == stays => Ok(()),
            n => Err(n),
        })
        .await;
    }
    let client = server.client().await;
    eventually("the port says the same", 20, async || {
        let rows = try_sql(&client, "SELECT id FROM recent ORDER BY id").await.map_err(|e| format!("{e:?}"))?;
        let ids: Vec<String> = rows.concat().into_iter().flatten().collect();
        if ids == ["1", "11"] { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
}
