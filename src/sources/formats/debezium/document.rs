//! JSON columns as the text that MySQL prints.
//!
//! A snapshot's rows have the server's own text, a change's the connector's, which writes no spaces and leaves the
//! members where it found them: one value must not look like two.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::json::Raw;
use crate::sources::mysql::json::quote;

/// MySQL refuses documents deeper than 100.
const DEPTH_MAX: usize = 100;

/// The document as MySQL prints it; `None`: the text is no document.
pub fn text(document: &str) -> Option<String> {
    let mut out = String::with_capacity(document.len() + document.len() / 8);
    print(&mut out, Raw::new(document).ok()?, 0)?;
    Some(out)
}

fn print(out: &mut String, value: Raw<'_>, depth: usize) -> Option<()> {
    (depth <= DEPTH_MAX).then_some(())?;
    if value.is_object() {
        // MySQL keeps one member of a name, the last, and sorts by the name's length first.
        let members = value.members().ok()?;
        let sorted: BTreeMap<(usize, Cow<'_, str>), Raw<'_>> =
            members.into_iter().map(|(name, value)| ((name.len(), name), value)).collect();
        out.push('{');
        for (i, ((_, name), value)) in sorted.into_iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            quote(out, &name);
            out.push_str(": ");
            print(out, value, depth + 1)?;
        }
        out.push('}');
    } else if value.is_array() {
        out.push('[');
        for (i, value) in value.elements().ok()?.into_iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            print(out, value, depth + 1)?;
        }
        out.push(']');
    } else if value.is_string() {
        quote(out, &value.string()?);
    } else {
        (value.is_null() || value.boolean().is_some() || value.number().is_some()).then_some(())?;
        out.push_str(value.text());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn documents_are_printed_as_mysql_prints_them() {
        let cases = [
            (r#"{"bb":1,"a":[1,2.50,{}],"c":"é\u0001\/"}"#, r#"{"a": [1, 2.50, {}], "c": "é\u0001/", "bb": 1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
            ("null", "null"),
            ("[]", "[]"),
        ];
        for (written, printed) in cases {
            assert_eq!(text(written).as_deref(), Some(printed));
        }
        let deep = "[".repeat(101) + &"]".repeat(101);
        assert_eq!(text(&deep[1..deep.len() - 1]).map(|t| t.len()), Some(200));
        for bad in ["", "{", "tru", "[1 2]", &format!("[{deep}]")] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
