//! Positions as people write them: sets of GTIDs.

use async_trait::async_trait;

use super::binlog::gtid_executed;
use super::connect::{Options, connect};
use super::gtid::GtidSet;
use super::run::set;
use crate::row::Position;
use crate::sources::{PositionError, Positions, Wanted, is_now};

pub struct GtidPositions {
    pub options: Options,
}

#[async_trait]
impl Positions for GtidPositions {
    async fn wanted(&self, text: &str) -> Result<Wanted, PositionError> {
        let wanted = if is_now(text) { self.now().await? } else { read(text)? };
        Ok(Wanted::new(wanted.to_string(), move |position| wanted.is_subset(&set(position))))
    }

    fn text(&self, position: &Position) -> String {
        position.0.clone()
    }
}

impl GtidPositions {
    async fn now(&self) -> Result<GtidSet, PositionError> {
        let executed = async { gtid_executed(&self.options, &mut connect(&self.options).await?).await };
        executed.await.map_err(|fault| PositionError::Upstream { reason: fault.to_string() })
    }
}

/// A set of something: who waits for nothing has lost a GTID on the way.
fn read(text: &str) -> Result<GtidSet, PositionError> {
    let unreadable = |message: String| PositionError::Unreadable {
        message,
        remedy: "give what SELECT @@GLOBAL.gtid_executed prints, or 'now'".to_string(),
    };
    match text.parse::<GtidSet>() {
        Ok(set) if set == GtidSet::default() => Err(unreadable("the GTID set is empty".to_string())),
        Ok(set) => Ok(set),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
