//! Files of rows without an envelope: JSON lines by key, CSV with a header appended to.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

fn append(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).unwrap();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn shows(client: &tokio_postgres::Client, query: &str, rows: &[&[&str]]) {
    let expected: Vec<Vec<Option<String>>> =
        rows.iter().map(|row| row.iter().map(|v| Some(v.to_string())).collect()).collect();
    eventually(query, 30, async || {
        let found = try_sql(client, query).await.map_err(|e| format!("{e:?}"))?;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_put_rows_by_key_and_csv_is_appended_once() {
    let home = temporary("feed-plain");
    let (users, reads) = (home.join("in/users"), home.join("in/reads"));
    append(&users.join("1.jsonl"), "{\"id\":1,\"name\":\"ann\"}\n{\"ID\":2,\"name\":\"bob\",\"more\":[1]}\n");
    append(&reads.join("1.csv"), "sensor;value\ns1;0.5\n");
    // TiCDC's, and no row.
    append(&reads.join("metadata"), "{\"checkpoint-ts\":7}");
    append(&users.join("metadata"), "{\"checkpoint-ts\":7}");
    let mut server = Tidemill::start(&home.join("data"), &[], &[]).await;
    let client = server.client().await;
    let path = home.join("in");
    let path = path.display();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION f TO FILES (PATH '{path}');
             CREATE SOURCE users FROM CONNECTION f (PATH 'users') FORMAT PLAIN ENCODE JSON
               TABLES (app.users (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL, age INT));
             CREATE SOURCE sensors FROM CONNECTION f (PATH 'reads') FORMAT 'csv' DELIMITER ';' HEADER
               TABLES (app.reads (sensor VARCHAR(10), value DECIMAL(8,2)));
             CREATE MATERIALIZED VIEW names WITH (wait) AS SELECT id, name, age FROM app.users;
             CREATE MATERIALIZED VIEW sums WITH (wait) AS
               SELECT sensor, COUNT(*) AS n, SUM(value) AS total FROM app.reads GROUP BY sensor"
        ),
    )
    .await;
    let names = "SELECT id, name FROM names ORDER BY id";
    shows(&client, names, &[&["1", "ann"], &["2", "bob"]]).await;
    let sums = "SELECT sensor, n, total FROM sums ORDER BY sensor";
    shows(&client, sums, &[&["s1", "1", "0.50"]]).await;
    append(&users.join("1.jsonl"), "{\"id\":1,\"name\":\"anna\",\"age\":3}\n");
    append(&reads.join("1.csv"), "s1;0.5\n\"s2\";\n");
    append(&reads.join("2.csv"), "Sensor;Value\r\ns1;1\r\n");
    shows(&client, names, &[&["1", "anna"], &["2", "bob"]]).await;
    let reads_of_s1 = "SELECT n, total FROM sums WHERE sensor = 's1'";
    shows(&client, reads_of_s1, &[&["3", "2.00"]]).await;
    server.kill();
    append(&reads.join("2.csv"), "s1;1\n");
    server.restart().await;
    let client = server.client().await;
    shows(&client, reads_of_s1, &[&["4", "3.00"]]).await;

    // What SHOW CREATE says makes the same source again.
    let shown = sql(&client, "SHOW CREATE SOURCE sensors").await.concat().into_iter().flatten().next_back().unwrap();
    assert!(shown.contains("DELIMITER ';'") && shown.contains("PRIMARY KEY (_topic, _partition, _offset)"), "{shown}");
    sql(&client, &format!("DROP SOURCE sensors CASCADE; {shown}")).await;
    let place = "SELECT COUNT(*), MAX(p) FROM (SELECT DISTINCT _offset, _partition AS p FROM app.reads) AS places";
    shows(&client, place, &[&["5", "0"]]).await;

    let error =
        try_sql(&client, "ALTER SOURCE users RESUME").await.expect_err("it runs").as_db_error().cloned().unwrap();
    assert!(error.message().contains("source users has not stopped: it is running"), "{error:?}");
    assert!(error.code().code() == "55000" && error.hint().is_some(), "{error:?}");

    // What cannot be read stops the source where it is.
    append(&users.join("1.jsonl"), "{\"id\":\"x\",\"name\":\"?\"}\n{\"id\":9,\"name\":\"late\"}\n");
    says_what_is_wrong(&client).await;
    assert_eq!(sql(&client, "SELECT COUNT(*) FROM names").await, [[Some("2".to_string())]]);
    // There it stops again, before or after the answer, until that is mended.
    let _ = try_sql(&client, "ALTER SOURCE users RESUME").await;
    says_what_is_wrong(&client).await;
    let text = fs::read_to_string(users.join("1.jsonl")).unwrap().replace("{\"id\":\"x\",", "{\"id\":7.0,");
    fs::write(users.join("1.jsonl"), text).unwrap();
    sql(&client, "ALTER SOURCE users RESUME").await;
    shows(&client, names, &[&["1", "anna"], &["2", "bob"], &["7", "?"], &["9", "late"]]).await;
}

async fn says_what_is_wrong(client: &tokio_postgres::Client) {
    eventually("the source says what is wrong", 30, async || {
        let sources = try_sql(client, "SHOW SOURCES").await.map_err(|e| format!("{e:?}"))?;
        let said = sources.concat().into_iter().flatten().any(|cell| cell.contains("'x' is no value of column `id`"));
        if said { Ok(()) } else { Err(format!("{sources:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_does_not_go_together_is_refused() {
    let home = temporary("feed-plain-refused");
    let server = Tidemill::start(&home.join("data"), &[], &[]).await;
    let client = server.client().await;
    sql(&client, &format!("CREATE CONNECTION f TO FILES (PATH '{}')", home.display())).await;
    for (clauses, said) in [
        ("FORMAT 'json' TABLES (a.t (_offset INT, v INT))", "holds the place of the message, which is no INT"),
        ("FORMAT UPSERT ENCODE CSV TABLES (a.t (v INT))", "no primary key to upsert by"),
        ("FORMAT 'json' TABLES (a.t (v INT)) RETAIN '7 days'", "lines of files have no time"),
        ("FORMAT 'canal-json' TABLES (a.t (v INT PRIMARY KEY)) RETAIN '7 days'", "as old as their last change"),
        ("FORMAT 'canal-json' TABLES (a.t (v INT))", "has no primary key"),
    ] {
        let text = format!("CREATE SOURCE s FROM CONNECTION f (PATH '.') {clauses}");
        let error = try_sql(&client, &text).await.expect_err(clauses);
        let error = error.as_db_error().expect("the server says it");
        assert!(error.message().contains(said), "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
    }
}
