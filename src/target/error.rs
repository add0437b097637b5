//! What went wrong at a target, sorted by what may be done about it.

/// A target's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The transaction is rolled back and run again on the same connection.
    #[error("the target asks to retry: {0}")]
    Retry(String),
    /// The link is gone and the transaction with it: connect again. COMMIT was not sent.
    #[error("the target cannot be reached: {0}")]
    Link(String),
    /// COMMIT was sent and its answer did not come: only the ledger knows.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
    /// About one table or one value: retrying changes nothing until somebody mends it.
    #[error("{0}")]
    Refused(String),
    /// Another server took the target.
    #[error("the target is taken by {0}")]
    Fenced(String),
}

impl TargetError {
    /// Sorts a server's error; see TiDB's and MySQL's lists of error codes.
    pub fn of_code(code: u16, message: &str) -> TargetError {
        let text = format!("error {code}: {message}");
        match code {
            // Lock wait, deadlock, write conflicts, schema changed, region unavailable for a moment.
            1205 | 1213 | 8002 | 8005 | 8022 | 8027 | 8028 | 9004 | 9007 => TargetError::Retry(text),
            // Too many connections, shutdown, gone away, killed, read-only while failing over, PD and TiKV timeouts.
            1040 | 1053 | 1158..=1161 | 1203 | 1290 | 1317 | 1836 | 1927 | 2002 | 2003 | 2006 | 2013 | 4031 => {
                TargetError::Link(text)
            }
            9001..=9003 | 9005 | 9008 | 9010 => TargetError::Link(text),
            1105 if ["region", "timeout", "Region", "Timeout"].iter().any(|w| message.contains(w)) => {
                TargetError::Link(text)
            }
            _ => TargetError::Refused(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fall_into_the_class_that_says_what_to_do() {
        assert!(matches!(TargetError::of_code(9007, "Write conflict"), TargetError::Retry(_)));
        assert!(matches!(TargetError::of_code(1105, "region unavailable"), TargetError::Link(_)));
        assert!(matches!(TargetError::of_code(1105, "unknown"), TargetError::Refused(_)));
        assert!(matches!(TargetError::of_code(1062, "Duplicate entry"), TargetError::Refused(_)));
        assert!(matches!(TargetError::of_code(1053, "Server shutdown"), TargetError::Link(_)));
    }
}
