//! Messages of a quarantine read again: appended rows come from it, each once, all others stay.

use std::fs;
use std::path::Path;

use tidemill::catalog::Catalog;
use tidemill::catalog::object::{Object, Source};
use tidemill::store::Store;

use crate::tidemill_server::{Tidemill, eventually, sql, temporary, try_sql};

type Row = Vec<Option<String>>;

fn cells<const N: usize>(row: [&str; N]) -> Row {
    row.map(|cell| (cell != "-").then(|| cell.to_string())).to_vec()
}

/// What a newer decoder would do: reads the sources' messages otherwise from the next start on.
fn read_with_semicolons(data: &Path) {
    let store = Store::open(data).expect("nobody else has it open");
    let mut catalog = Catalog::load(&store.catalog().unwrap()).unwrap();
    let sources: Vec<Source> = catalog
        .objects()
        .filter_map(|object| match &**object {
            Object::Source(source) => Some(source.clone()),
            _ => None,
        })
        .collect();
    for mut source in sources {
        source.feed.as_mut().expect("a changefeed").csv.delimiter = Some(';');
        store.write_catalog(catalog.update(Object::Source(source))).unwrap();
    }
}

async fn eventually_is(server: &Tidemill, query: &str, wanted: &[Row]) {
    let client = server.client().await;
    eventually(query, 60, async || {
        let found = try_sql(&client, query).await.map_err(|e| e.to_string())?;
        if found == wanted { Ok(()) } else { Err(format!("{found:?} is not {wanted:?}\n{}", server.log())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_leave_the_quarantine_once_they_can_be_read() {
    const BAD: usize = 3_000;
    let home = temporary("replay");
    let lines: String = (0..BAD).map(|n| format!("s{};{n}\n", n % 7)).collect();
    fs::create_dir_all(home.join("in/reads")).unwrap();
    fs::create_dir_all(home.join("in/users")).unwrap();
    fs::write(home.join("in/reads/1.csv"), format!("s0,1\n{lines}s0;much\n")).unwrap();
    fs::write(home.join("in/users/1.csv"), "1,ann\n1;anna\n").unwrap();
    let mut server = Tidemill::start(&home.join("data"), &[], &[]).await;
    sql(
        &server.client().await,
        &format!(
            "CREATE CONNECTION f TO FILES (PATH '{}');
             CREATE SOURCE reads FROM CONNECTION f (PATH 'reads') FORMAT 'csv' ON BAD MESSAGE QUARANTINE
               TABLES (app.reads (sensor VARCHAR(10), value BIGINT));
             CREATE SOURCE users FROM CONNECTION f (PATH 'users') FORMAT 'csv' ON BAD MESSAGE QUARANTINE
               TABLES (app.users (id INT PRIMARY KEY, name VARCHAR(10)));
             CREATE MATERIALIZED VIEW sums WITH (wait) AS SELECT COUNT(*) AS n, SUM(value) AS total FROM app.reads;
             CREATE MATERIALIZED VIEW kept WITH (wait) AS SELECT COUNT(*) AS n FROM reads.quarantine",
            home.join("in").display()
        ),
    )
    .await;
    let all = (BAD + 1).to_string();
    eventually_is(&server, "SELECT n FROM kept", &[cells([&all])]).await;
    // As they are read today, none of them is a row.
    let said = sql(&server.client().await, "REPLAY QUARANTINE OF reads").await;
    assert_eq!(said.len(), BAD + 1);
    assert!(said.iter().all(|line| line[3].as_deref() == Some("unreadable")), "{:?}", said[0]);
    assert!(said[0][4].as_ref().unwrap().starts_with("BAD_MESSAGE: "), "{:?}", said[0]);
    eventually_is(&server, "SELECT n, total FROM sums", &[cells(["1", "1"])]).await;

    server.terminate();
    read_with_semicolons(&home.join("data"));
    server.restart().await;
    let first = sql(&server.client().await, "SELECT MIN(`offset`) FROM reads.quarantine").await[0][0].clone().unwrap();
    let one = format!("REPLAY QUARANTINE OF reads WHERE `offset` = {first} AND code = 'BAD_MESSAGE'");
    let replayed = cells(["", "0", &first, "replayed", "-"]);
    assert_eq!(sql(&server.client().await, &one).await, [replayed]);
    assert_eq!(sql(&server.client().await, &one).await, [] as [Row; 0]);
    kills_while_it_goes_on(&mut server, BAD).await;

    let said = sql(&server.client().await, "REPLAY QUARANTINE OF reads").await;
    let last = said.last().expect("one cannot be read");
    assert!(last[3].as_deref() == Some("unreadable") && last[4].as_ref().unwrap().contains("'much'"), "{last:?}");
    let total = (1 + (0..BAD).sum::<usize>()).to_string();
    eventually_is(&server, "SELECT n, total FROM sums", &[cells([&all, &total])]).await;
    eventually_is(&server, "SELECT n FROM kept", &[cells(["1"])]).await;
    server.kill();
    server.restart().await;
    eventually_is(&server, "SELECT n, total FROM sums", &[cells([&all, &total])]).await;
    eventually_is(&server, "SELECT COUNT(*) FROM reads.quarantine", &[cells(["1"])]).await;

    // What is said by key may be older than what is shown.
    let said = sql(&server.client().await, "REPLAY QUARANTINE OF users").await;
    let reason = said[0][4].as_ref().unwrap();
    assert!(said[0][3].as_deref() == Some("refused") && reason.contains("row (id = '1') of app.users"), "{said:?}");
    eventually_is(&server, "SELECT id, name FROM app.users", &[cells(["1", "ann"])]).await;
    eventually_is(&server, "SELECT COUNT(*) FROM users.quarantine", &[cells(["1"])]).await;
}

/// kill -9 amid the statement: each message is in the quarantine, or its row is in the table.
async fn kills_while_it_goes_on(server: &mut Tidemill, bad: usize) {
    let both = "SELECT r.n + q.n FROM (SELECT COUNT(*) AS n FROM app.reads) r
                CROSS JOIN (SELECT COUNT(*) AS n FROM reads.quarantine) q";
    for wait_ms in [15, 40, 80] {
        let client = server.client().await;
        let replay = tokio::spawn(async move { try_sql(&client, "REPLAY QUARANTINE OF reads").await.map(drop) });
        tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await;
        server.kill();
        let _ = replay.await;
        server.restart().await;
        assert_eq!(sql(&server.client().await, both).await, [cells([&(bad + 2).to_string()])]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_a_quarantine_has_nothing_to_replay() {
    let home = temporary("replay-none");
    let server = Tidemill::start(&home.join("data"), &[], &[]).await;
    let client = server.client().await;
    fs::create_dir_all(home.join("in")).unwrap();
    sql(
        &client,
        &format!(
            "CREATE CONNECTION f TO FILES (PATH '{}');
             CREATE SOURCE s FROM CONNECTION f (PATH 'in') FORMAT 'json' TABLES (app.t (v INT))",
            home.display()
        ),
    )
    .await;
    for (text, said) in [
        ("REPLAY QUARANTINE OF s", "source s keeps no messages"),
        ("REPLAY QUARANTINE OF nothing", "nothing"),
        ("BEGIN; REPLAY QUARANTINE OF s", "cannot run in a transaction block"),
    ] {
        let error = try_sql(&server.client().await, text).await.expect_err(text);
        assert!(error.as_db_error().expect("the server says it").message().contains(said), "{error:?}");
    }
}
