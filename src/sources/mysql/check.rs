//! What a MySQL server must be set to: one line a setting, with the statement to paste.

mod tidb;

use mysql_async::Conn;

use super::connect::{Fault, Options, connect, one, query};
use crate::sources::Check;
pub use tidb::tidb_checks;

const RETENTION_SECONDS_MIN: u64 = 86_400;

/// Looks at the server; changes nothing.
pub async fn checks(options: &Options) -> Result<Vec<Check>, Fault> {
    let mut conn = connect(options).await?;
    let version: String = one(options, &mut conn, "SELECT VERSION()").await?;
    let mut checks = vec![version_check(&version)];
    if checks[0].ok {
        checks.extend(setting_checks(options, &mut conn).await?);
        checks.extend(privilege_checks(options, &mut conn).await?);
    }
    Ok(checks)
}

/// MariaDB's GTIDs and binlog events differ: it is refused by name.
pub fn version_check(version: &str) -> Check {
    let is_maria = version.to_ascii_lowercase().contains("maria");
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Check {
        setting: "version".into(),
        have: version.into(),
        need: "MySQL 5.7 or later (MariaDB is not supported as a source)".into(),
        ok: !is_maria && number >= (5, 7),
        remedy: None,
    }
}

async fn setting_checks(options: &Options, conn: &mut Conn) -> Result<Vec<Check>, Fault> {
    let rows: Vec<(String, String)> = query(
        options,
        conn,
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin','binlog_format','binlog_row_image','gtid_mode',\
         'enforce_gtid_consistency','binlog_row_value_options','binlog_expire_logs_seconds','expire_logs_days')",
    )
    .await?;
    let have = |name: &str| rows.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let setting = |name: &str, need: &str, unset_is_fine: bool, remedy: String| {
        let value = have(name);
        let ok = value.map_or(unset_is_fine, |v| v.eq_ignore_ascii_case(need));
        Check {
            setting: name.into(),
            have: value.map_or("(not known to this server)".into(), shown),
            need: shown(need),
            ok,
            remedy: (!ok).then_some(remedy),
        }
    };
    let global = |name: &str, value: &str| format!("SET PERSIST {name} = {value};");
    let gtid_steps = "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
                      SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON;";
    Ok(vec![
        setting("log_bin", "ON", false, "start the server with --log-bin (in my.cnf: log_bin = binlog)".into()),
        setting("binlog_format", "ROW", true, global("binlog_format", "'ROW'")),
        setting("binlog_row_image", "FULL", true, global("binlog_row_image", "'FULL'")),
        setting("binlog_row_value_options", "", true, global("binlog_row_value_options", "''")),
        setting("enforce_gtid_consistency", "ON", false, global("enforce_gtid_consistency", "ON")),
        setting("gtid_mode", "ON", false, gtid_steps.into()),
        retention_check(have("binlog_expire_logs_seconds"), have("expire_logs_days")),
    ])
}

fn retention_check(seconds: Option<&str>, days: Option<&str>) -> Check {
    let number = |v: Option<&str>| v.and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    // 0 in both: never purged by age.
    let kept = number(seconds).max(number(days) * 86_400);
    let ok = kept == 0 || kept >= RETENTION_SECONDS_MIN;
    Check {
        setting: "binlog_expire_logs_seconds".into(),
        have: kept.to_string(),
        need: format!("0 or at least {RETENTION_SECONDS_MIN}"),
        ok,
        remedy: (!ok).then(|| "SET PERSIST binlog_expire_logs_seconds = 604800;".into()),
    }
}

async fn privilege_checks(options: &Options, conn: &mut Conn) -> Result<Vec<Check>, Fault> {
    let user: String = one(options, conn, "SELECT CURRENT_USER()").await?;
    let grants: Vec<String> = query(options, conn, "SHOW GRANTS").await?;
    let account = match user.split_once('@') {
        Some((name, host)) => format!("'{name}'@'{host}'"),
        None => format!("'{user}'"),
    };
    let check = |name: &str, any_of: &[&[&str]], scope: &str| {
        let all = |privileges: &&[&str]| privileges.iter().all(|p| granted(&grants, p, scope == "*.*"));
        let ok = any_of.iter().any(all);
        Check {
            setting: format!("privilege {name}"),
            have: if ok { "granted" } else { "missing" }.into(),
            need: "granted".into(),
            ok,
            remedy: (!ok).then(|| format!("GRANT {name} ON {scope} TO {account};")),
        }
    };
    Ok(vec![
        check("SELECT", &[&["SELECT"]], "<database>.*"),
        check("REPLICATION SLAVE", &[&["REPLICATION SLAVE"]], "*.*"),
        check("REPLICATION CLIENT", &[&["REPLICATION CLIENT"]], "*.*"),
        // The moment of a snapshot is fixed under a lock: of the tables, or of all while XA RECOVER tells what waits.
        check("LOCK TABLES", &[&["LOCK TABLES"], &["RELOAD", "XA_RECOVER_ADMIN"]], "<database>.*"),
    ])
}

fn granted(grants: &[String], privilege: &str, global_only: bool) -> bool {
    grants.iter().filter_map(|grant| grant.strip_prefix("GRANT ")?.split_once(" ON ")).any(|(privileges, scope)| {
        let reaches = !global_only || scope.starts_with("*.*");
        // TiDB leaves out the space.
        reaches && privileges.split(',').map(str::trim).any(|p| p == privilege || p == "ALL PRIVILEGES")
    })
}

fn shown(value: &str) -> String {
    if value.is_empty() { "''".into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_by_name_and_number() {
        let ok = |v| version_check(v).ok;
        assert!(ok("9.7.4-2") && ok("8.0.36-28.1") && ok("5.7.44-log"));
        assert!(!ok("10.11.14-MariaDB-0+deb12u2") && !ok("5.6.51"));
    }

    #[test]
    fn a_grant_on_one_database_is_no_global_privilege() {
        let grants = vec!["GRANT SELECT, LOCK TABLES ON `shop`.* TO `r`@`%`".to_string()];
        assert!(granted(&grants, "SELECT", false) && granted(&grants, "LOCK TABLES", false));
        assert!(!granted(&grants, "SELECT", true) && !granted(&grants, "REPLICATION SLAVE", true));
        let all = vec!["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`".to_string()];
        assert!(granted(&all, "REPLICATION SLAVE", true));
    }

    #[test]
    fn binlogs_kept_less_than_a_day_are_too_short() {
        assert!(retention_check(Some("2592000"), None).ok);
        assert!(retention_check(Some("0"), None).ok);
        assert!(!retention_check(Some("3600"), None).ok);
        assert!(retention_check(None, Some("3")).ok);
    }
}
