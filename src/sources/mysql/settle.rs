//! Waiting until the store has what was sent, where the next thing is made of its rows.

use std::time::Duration;

use crate::row::Position;
use crate::sources::Link;

const SECONDS_MAX: u64 = 60;
const POLL_MILLIS: u64 = 5;

/// False: the store is far behind.
pub async fn settled(link: &Link, sent: &Position) -> bool {
    let reached = async {
        while link.store.positions().get(&link.id) != Some(sent) {
            tokio::time::sleep(Duration::from_millis(POLL_MILLIS)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(SECONDS_MAX), reached).await.is_ok()
}
