//! Rows that are not as the feed says that they were: healed and counted, or the source stops.

use std::time::Duration;

use tidemill::row::datum::Datum;

use crate::bank::{self, Bank, Event, Of, TABLES, VIEWS, check_port};
use crate::poison::{begin, cells, eventually_is, eventually_shows, shown};
use crate::tidemill_server::{Tidemill, sql, try_sql};

const SOURCE: &str = "CREATE SOURCE bank FROM CONNECTION cdc (TOPIC 'flow') FORMAT 'canal-json'";

/// An account that the bank has not.
fn account(balance: i64) -> Vec<Datum> {
    vec![Datum::Int(50), Datum::Text("bj".to_string()), Datum::Int(balance)]
}

/// What SHOW TABLES has in its last two columns of the accounts.
async fn healed(server: &Tidemill) -> Vec<Option<String>> {
    let tables = sql(&server.client().await, "SHOW TABLES").await;
    let accounts = tables.iter().find(|row| row[0].as_deref() == Some("cdc.bank.accounts"));
    accounts.expect("they are followed")[5..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mismatch_stop_stops_at_a_lost_row_and_never_at_a_replay() {
    let seed = bank::seed();
    let Some((_broker, mut feed, mut server)) = begin("mismatch").await else { return };
    let by_row = format!("{SOURCE} CONSISTENCY 'row' ON MISMATCH STOP TABLES ({TABLES})");
    let refused = try_sql(&server.client().await, &by_row).await.unwrap_err();
    assert!(format!("{refused:?}").contains("ON MISMATCH STOP would stop at what is no fault"), "{refused:?}");
    sql(&server.client().await, &format!("{SOURCE} ON MISMATCH STOP TABLES ({TABLES}); {VIEWS}")).await;
    let (mut bank, mut random) = (Bank::new(seed), bank::Random(seed));
    bank.open().iter().for_each(|event| feed.event(event));
    for round in 0..30 {
        for _ in 0..6 {
            bank.commit().iter().for_each(|event| feed.event(event));
        }
        feed.some_watermarks(&mut random, bank.now() + 1);
        feed.replay(&mut random, 60);
        if round % 10 == 6 {
            server.kill();
            server.restart().await;
        }
        check_port(&server.client().await).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    feed.watermarks(bank.now() + 1);
    eventually_is(&server, bank::ANSWER, &bank.answer()).await;
    assert_eq!(shown(&server, 2).await, "running", "seed {seed}");
    assert_eq!(healed(&server).await[1], None);

    // The message of this account's INSERT was lost.
    let commit = bank.now() + 10;
    feed.event(&Event { table: Of::Accounts, commit, before: Some(account(1)), after: Some(account(2)) });
    feed.watermarks(commit + 1);
    let stopped = format!("stopped: ROW_MISMATCH: commit {commit} updates row (id = '50') of bank.accounts");
    for _ in 0..2 {
        eventually_shows(&server, 2, &stopped).await;
        eventually_is(&server, bank::ANSWER, &bank.answer()).await;
        server.kill();
        server.restart().await;
    }

    // By default the row is taken as it is now, and counted.
    let create = format!("DROP SOURCE bank CASCADE; {SOURCE} TABLES ({TABLES}); {VIEWS}");
    sql(&server.client().await, &create).await;
    eventually_is(&server, "SELECT balance FROM accounts_seen WHERE id = 50", &[cells(["2"])]).await;
    assert_eq!(healed(&server).await[1], Some("1".to_string()));
}
