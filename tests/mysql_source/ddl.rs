//! ALTERs that leave the followed columns alone: each row is read by the layout of its place.

use super::feed::Feed;
use super::{assert_catches_up, gtid_executed, options, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_table_that_leave_its_columns_are_followed() {
    let Some(server) = server(&[]).await else { return };
    server
        .run("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT); INSERT INTO d.t VALUES (1, 1), (2, 2)")
        .await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "t")]).await;
    server.run("ALTER TABLE d.t ADD COLUMN n INT DEFAULT 7, ADD INDEX (v); INSERT INTO d.t VALUES (3, 3, 3)").await;
    server
        .run("CREATE TABLE d.other (id INT PRIMARY KEY); ALTER TABLE d.other ADD x INT FIRST; DROP TABLE d.other")
        .await;
    assert_catches_up(&server, &mut feed).await;
    server.run("TRUNCATE TABLE d.t").await;
    feed.reach(&gtid_executed(&server).await).await;
    assert_eq!(feed.rows(0), Vec::<Vec<Option<String>>>::new());
    server.run("INSERT INTO d.t VALUES (1, 9, 9)").await;
    assert_catches_up(&server, &mut feed).await;
}

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, x INT, a VARCHAR(10), y INT, b INT); \
                     INSERT INTO d.t VALUES (0, 1, 'a', 2, 3)";

/// Each moves columns of one type past each other, or seems to.
const ALTERS: [&str; 14] = [
    "ADD COLUMN n INT NOT NULL DEFAULT 7 FIRST",
    "ADD COLUMN (m INT, o INT), COMMENT 'more'",
    "DROP COLUMN x, ADD COLUMN x INT AFTER id",
    "ADD COLUMN k INT AFTER a, ALGORITHM=INSTANT",
    "DROP COLUMN n, ALGORITHM=INSTANT",
    "RENAME COLUMN y TO z",
    "MODIFY b INT NULL COMMENT 'c' FIRST",
    "CHANGE z y BIGINT FIRST, ADD l INT AFTER y, LOCK=SHARED",
    "MODIFY a VARCHAR(20) AFTER y",
    "ADD INDEX i (b), ALTER COLUMN b SET DEFAULT 5",
    "PARTITION BY HASH (id) PARTITIONS 3",
    "REBUILD PARTITION p0, p1",
    "REMOVE PARTITIONING",
    "ENGINE=InnoDB, AUTO_INCREMENT=50",
];

async fn followed(metadata: &str) -> Option<(super::Server, super::Options, Feed)> {
    let server = server(&[&format!("--binlog-row-metadata={metadata}")]).await?;
    server.run(TABLE).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.excluded = ["x", "y"].map(|column| ("d".into(), "t".into(), column.into())).into();
    feed.follow(&options, &[("d", "t")]).await;
    Some((server, options, feed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_not_followed_come_go_and_move() {
    for metadata in ["MINIMAL", "FULL"] {
        let Some((server, options, mut feed)) = followed(metadata).await else { return };
        for (i, alter) in ALTERS.iter().enumerate() {
            let id = 10 * (i + 1);
            server.run(&format!("ALTER TABLE d.t {alter}; INSERT INTO d.t (id, a, b) VALUES ({id}, 'r', {id})")).await;
            if i % 3 == 1 {
                feed = feed.restart(&options);
            }
            if i % 2 == 1 {
                assert_catches_up(&server, &mut feed).await;
            }
        }
        server
            .run("UPDATE d.t SET b = b + 1; DELETE FROM d.t WHERE id = 20; OPTIMIZE TABLE d.t; ANALYZE TABLE d.t")
            .await;
        assert_catches_up(&server, &mut feed).await;
        assert!(feed.tables[0].layouts.len() < 6, "old layouts are dropped: {:?}", feed.tables[0].layouts);
    }
}

/// The layout is durable before the position: a restart between the two replays rows of the layout before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_an_alter_and_its_position_reads_old_rows_by_the_old_layout() {
    let Some((server, options, mut feed)) = followed("MINIMAL").await else { return };
    for column in ["n", "m", "o"] {
        server.run("INSERT INTO d.t (id, a, b) SELECT MAX(id) + 1, 'old', MAX(id) + 1 FROM d.t").await;
        server.run(&format!("ALTER TABLE d.t ADD COLUMN {column} INT DEFAULT 9 AFTER id")).await;
        server.run("INSERT INTO d.t (id, a, b) SELECT MAX(id) + 1, 'new', MAX(id) + 1 FROM d.t").await;
        let known = feed.tables[0].layout().len();
        let before = feed.store.positions();
        // Takes the layout, and of the transactions only those before it, or none.
        feed.keeps_transactions = column != "m";
        feed.until(|feed| feed.tables[0].layout().len() > known).await.expect("no stop");
        assert!(column != "m" || feed.store.positions() == before);
        feed = feed.restart(&options);
    }
    assert_catches_up(&server, &mut feed).await;
}

/// A table that is followed late has the columns that it has then, not those when the source was created.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_altered_before_it_is_read_is_followed_as_it_is_then() {
    let Some(server) = server(&[]).await else { return };
    server.run(&format!("{TABLE}; CREATE TABLE d.u (id INT PRIMARY KEY)")).await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.excluded = ["x", "y"].map(|column| ("d".into(), "t".into(), column.into())).into();
    feed.follow(&options, &[("d", "u")]).await;
    let tables = feed.declare(&options, &[("d", "t")]).await;
    server
        .run("ALTER TABLE d.t ADD COLUMN n INT FIRST, DROP COLUMN y; INSERT INTO d.t (id, a, b) VALUES (5, 'x', 7)")
        .await;
    feed.ask(tables).await;
    let id = feed.tables[1].id;
    feed.until(|feed| feed.store.is_loaded(id)).await.expect("no stop");
    server.run("ALTER TABLE d.t ADD COLUMN m INT FIRST; INSERT INTO d.t (id, a, b) VALUES (6, 'y', 8)").await;
    assert_catches_up(&server, &mut feed).await;
    feed = feed.restart(&options);
    server.run("INSERT INTO d.t (id, a, b) VALUES (7, 'z', 9)").await;
    assert_catches_up(&server, &mut feed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_beside_a_generated_key_stops_since_its_place_is_not_told() {
    let Some(server) = server(&[]).await else { return };
    server.run("CREATE DATABASE d; SET sql_generate_invisible_primary_key = ON; CREATE TABLE d.t (a INT)").await;
    let options = options(&server);
    let mut feed = Feed::start(&options);
    feed.follow(&options, &[("d", "t")]).await;
    server.run("ALTER TABLE d.t ADD COLUMN n INT FIRST").await;
    let stop = feed.stopped().await;
    assert!(stop.code == "SCHEMA_CHANGED" && stop.position.is_some() && !stop.remedy.is_empty(), "{stop:?}");
}
