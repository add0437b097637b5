//! A source's checks as a table, with the statements to paste.

use std::io::{self, Write};

use crate::console::table::Table;
use crate::sources::Check;

/// Prints the checks; true if all are fine.
pub fn print(checks: &[Check], mut out: impl Write) -> io::Result<bool> {
    let names = ["", "setting", "have", "need"].map(str::to_string).to_vec();
    let mut table = Table::new(&mut out, names);
    for check in checks {
        let mark = if check.ok { "ok" } else { "MISSING" };
        table.push([mark, &check.setting, &check.have, &check.need].into_iter().map(Some))?;
    }
    table.settle()?;
    let missing: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    drop(table);
    if missing.is_empty() {
        writeln!(out, "everything is as a source needs it")?;
        return Ok(true);
    }
    let remedies: Vec<&String> = missing.iter().filter_map(|check| check.remedy.as_ref()).collect();
    if !remedies.is_empty() {
        writeln!(out, "\nto be run on the server:\n")?;
        for remedy in remedies {
            writeln!(out, "    {remedy}")?;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_statement() {
        let check = |setting: &str, have: &str, ok, remedy: Option<&str>| Check {
            setting: setting.into(),
            have: have.into(),
            need: "ROW".into(),
            ok,
            remedy: remedy.map(str::to_string),
        };
        let checks = [
            check("binlog_row_image", "ROW", true, None),
            check("binlog_format", "MIXED", false, Some("SET PERSIST binlog_format = 'ROW';")),
        ];
        let mut out = vec![];
        assert!(!print(&checks, &mut out).unwrap());
        let expected = "         | setting          | have  | need
---------+------------------+-------+------
 ok      | binlog_row_image | ROW   | ROW
 MISSING | binlog_format    | MIXED | ROW

to be run on the server:

    SET PERSIST binlog_format = 'ROW';
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(print(&checks[..1], &mut vec![]).unwrap());
    }
}
