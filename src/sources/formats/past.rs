//! Transactions whose changes are in the tables already: a copy was made behind them.

use super::{BadMessage, text};
use crate::sources::mysql::gtid::GtidSet;

/// What a copy has; nothing, where none was made.
#[derive(Debug, Default)]
pub struct Past {
    set: Option<GtidSet>,
}

impl Past {
    pub fn of(set: GtidSet) -> Past {
        Past { set: Some(set) }
    }

    /// A copy was made.
    pub fn is_known(&self) -> bool {
        self.set.is_some()
    }

    /// Whether what a message says is in the copy. `gtid`: of its transaction, or of all up to it in the binlog, as
    /// Canal writes it. Behind a copy a message must say it: a change from before it would undo what the copy has.
    pub fn has(&self, gtid: Option<&str>) -> Result<bool, BadMessage> {
        let Some(past) = &self.set else { return Ok(false) };
        let gtid = gtid.filter(|gtid| !gtid.is_empty()).ok_or_else(without_gtid)?;
        let set: GtidSet = gtid
            .parse()
            .map_err(|_| BadMessage::malformed(format!("the message's gtid {} is none", text::shown(gtid))))?;
        if set == GtidSet::default() { Err(without_gtid()) } else { Ok(set.is_subset(past)) }
    }
}

fn without_gtid() -> BadMessage {
    BadMessage {
        code: "MESSAGE_WITHOUT_GTID",
        reason: "a change does not say its GTID, so that it cannot be told whether the copy of the table has it".into(),
        remedy: "set gtid_mode = ON on the MySQL server and, of Canal, canal.instance.gtidon = true with a GTID to \
                 start at; or create the source without SNAPSHOT, with a feed that has everything"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_copy_has_is_told_by_gtid_and_a_message_without_one_is_an_error() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let past = Past::of(format!("{uuid}:1-20").parse().unwrap());
        let has = |gtid: &str| past.has(Some(gtid)).map_err(|bad| bad.code);
        assert_eq!(has(&format!("{uuid}:20")), Ok(true));
        assert_eq!(has(&format!("{uuid}:21")), Ok(false));
        assert_eq!(has(&format!("{uuid}:1-20")), Ok(true), "all up to it, as Canal says it");
        assert_eq!(has(&format!("{uuid}:1-21")), Ok(false));
        assert_eq!(has(""), Err("MESSAGE_WITHOUT_GTID"));
        assert_eq!(has(","), Err("MESSAGE_WITHOUT_GTID"));
        assert_eq!(has("x:1"), Err("BAD_MESSAGE"));
        assert_eq!(past.has(None).unwrap_err().code, "MESSAGE_WITHOUT_GTID");
        assert_eq!(Past::default().has(None), Ok(false));
    }
}
