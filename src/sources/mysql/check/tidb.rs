//! What a TiDB must be to be read from and written to: one line a setting.
//!
//! Facts are of TiDB's documents.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::granted;
use crate::sources::Check;
use crate::sources::mysql::connect::{Fault, Options, connect, one, query};

/// From here on a running transaction holds back the garbage collection, so that a long read keeps its snapshot.
/// Source: "Garbage collection configuration", changes in 6.1.0.
const VERSION_MIN: (u32, u32) = (6, 1);
/// How long a read of large tables may take. Source: "System variables", tidb_gc_max_wait_time (default 86400, at
/// least 600).
const READ_SECONDS_WANTED: u64 = 3_600;

/// Looks at the server; changes nothing.
pub async fn tidb_checks(options: &Options) -> Result<Vec<Check>, Fault> {
    let mut conn = connect(options).await?;
    let version: String = one(options, &mut conn, "SELECT VERSION()").await?;
    let mut checks = vec![version_check(&version)];
    // Of another server nothing else would tell anything.
    if tidb_version(&version).is_some() {
        let variables: Vec<(String, String)> = query(
            options,
            &mut conn,
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('tidb_gc_max_wait_time','tidb_gc_life_time','max_execution_time')",
        )
        .await?;
        checks.extend(variable_checks(&variables));
        checks.push(tso_check(&mut conn).await);
        let user: String = one(options, &mut conn, "SELECT CURRENT_USER()").await?;
        let grants: Vec<String> = query(options, &mut conn, "SHOW GRANTS").await?;
        checks.extend(privilege_checks(&user, &grants));
    }
    Ok(checks)
}

/// `8.0.11-TiDB-v7.5.0`: the numbers behind TiDB's name.
fn tidb_version(version: &str) -> Option<(u32, u32)> {
    let (_, own) = version.split_once("-TiDB-v")?;
    let mut numbers = own.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next()?))
}

fn version_check(version: &str) -> Check {
    let (major, minor) = VERSION_MIN;
    let found = tidb_version(version);
    Check {
        setting: "version".into(),
        have: version.into(),
        need: format!("TiDB {major}.{minor} or later"),
        ok: found.is_some_and(|found| found >= VERSION_MIN),
        remedy: found.is_none().then(|| "make the connection of another server TO MYSQL".into()),
    }
}

fn variable_checks(variables: &[(String, String)]) -> Vec<Check> {
    let check = |name: &str, need: String, is_fine: &dyn Fn(&str) -> bool, remedy: Option<String>| {
        let have = variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let ok = have.is_none_or(is_fine);
        let have = have.unwrap_or("(not known to this server)").to_string();
        Check { setting: name.into(), have, need, ok, remedy: remedy.filter(|_| !ok) }
    };
    let at_least = |value: &str| value.parse::<u64>().is_ok_and(|seconds| seconds >= READ_SECONDS_WANTED);
    vec![
        check(
            "tidb_gc_max_wait_time",
            format!("at least {READ_SECONDS_WANTED}: as long, a read keeps its snapshot"),
            &at_least,
            Some("SET GLOBAL tidb_gc_max_wait_time = 86400;".into()),
        ),
        check("tidb_gc_life_time", "any: a read holds the garbage collection back".into(), &|_| true, None),
        check(
            "max_execution_time",
            "0: tables are read by one SELECT each".into(),
            &|value| value == "0",
            Some("SET GLOBAL max_execution_time = 0;".into()),
        ),
    ]
}

/// SNAPSHOT FROM CONNECTION and `tidemill_wait(…, 'now')` need it. Source: "TiDB specific functions".
async fn tso_check(conn: &mut Conn) -> Check {
    let asked = async {
        conn.query_drop("START TRANSACTION").await?;
        let tso: Option<u64> = conn.query_first("SELECT TIDB_CURRENT_TSO()").await?;
        conn.query_drop("ROLLBACK").await?;
        Ok::<_, mysql_async::Error>(tso.filter(|tso| *tso > 0))
    };
    let asked = asked.await;
    let ok = matches!(asked, Ok(Some(_)));
    let have = match asked {
        Ok(Some(tso)) => tso.to_string(),
        Ok(None) => "none in a transaction".to_string(),
        Err(error) => error.to_string(),
    };
    let need = "a timestamp: copies for TiCDC's changefeeds begin at it";
    Check { setting: "TIDB_CURRENT_TSO()".into(), have, need: need.into(), ok, remedy: None }
}

fn privilege_checks(user: &str, grants: &[String]) -> Vec<Check> {
    let account = match user.split_once('@') {
        Some((name, host)) => format!("'{name}'@'{host}'"),
        None => format!("'{user}'"),
    };
    let check = |names: &[&str], of: &str| {
        let missing: Vec<&str> = names.iter().copied().filter(|name| !granted(grants, name, false)).collect();
        let ok = missing.is_empty();
        Check {
            setting: format!("privileges to {of}"),
            have: if ok { "granted".into() } else { format!("missing: {}", missing.join(", ")) },
            need: names.join(", "),
            ok,
            remedy: (!ok).then(|| format!("GRANT {} ON <database>.* TO {account};", missing.join(", "))),
        }
    };
    vec![
        check(&["SELECT"], "read tables"),
        check(&["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE"], "write wide tables and the ledger (_tidemill)"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tidb_is_told_by_its_name_and_number() {
        assert!(version_check("8.0.11-TiDB-v7.5.0").ok && version_check("5.7.25-TiDB-v6.1.0-alpha").ok);
        let old = version_check("5.7.25-TiDB-v5.4.3");
        assert!(!old.ok && old.remedy.is_none(), "{old:?}");
        let other = version_check("8.0.36-28.1");
        assert!(!other.ok && other.remedy.as_ref().is_some_and(|remedy| remedy.contains("TO MYSQL")), "{other:?}");
    }

    #[test]
    fn settings_that_would_end_a_long_read_are_named() {
        let variables = |wait: &str, limit: &str| {
            let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
            variable_checks(&[
                pair("tidb_gc_max_wait_time", wait),
                pair("tidb_gc_life_time", "10m0s"),
                pair("max_execution_time", limit),
            ])
        };
        assert!(variables("86400", "0").iter().all(|check| check.ok && check.remedy.is_none()));
        let bad = variables("600", "30000");
        let bad: Vec<&str> = bad.iter().filter(|check| !check.ok).filter_map(|check| check.remedy.as_deref()).collect();
        assert_eq!(bad, ["SET GLOBAL tidb_gc_max_wait_time = 86400;", "SET GLOBAL max_execution_time = 0;"]);
    }

    #[test]
    fn grants_are_read_as_tidb_writes_them() {
        let grants = ["GRANT USAGE ON *.* TO 'r'@'%'", "GRANT SELECT,INSERT,UPDATE ON mart.* TO 'r'@'%'"];
        let [read, write] = &privilege_checks("r@%", &grants.map(str::to_string))[..] else { panic!("two lines") };
        assert!(read.ok, "{read:?}");
        assert_eq!(write.have, "missing: DELETE, CREATE");
        assert_eq!(write.remedy.as_deref(), Some("GRANT DELETE, CREATE ON <database>.* TO 'r'@'%';"));
        let all = ["GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION".to_string()];
        assert!(privilege_checks("root@%", &all).iter().all(|check| check.ok));
    }
}
