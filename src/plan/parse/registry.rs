//! Where a schema registry is, and who we are to it.

use sqlparser::tokenizer::Token;

use crate::plan::parse::connection::secret;
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::statement::RegistryClause;
use crate::plan::{PlanError, PlanErrorKind};

const OPTIONS: [&str; 3] = ["schema.registry", "schema.registry.username", "schema.registry.password"];

/// `(schema.registry = 'http://registry:8081', schema.registry.username = 'u', schema.registry.password = SECRET s)`.
pub(super) fn options(cursor: &mut Cursor) -> Result<RegistryClause, PlanError> {
    let at = cursor.at();
    let (mut url_, mut user, mut password) = (None, None, None);
    cursor.list(|c| {
        let name = c.name("an option of the schema registry")?;
        let given = name.parts.join(".").to_ascii_lowercase();
        let Some(option) = OPTIONS.into_iter().find(|option| *option == given) else {
            let message = format!("unknown option `{name}` of a schema registry; they are {}", OPTIONS.join(", "));
            return Err(error(PlanErrorKind::Syntax, message, name.at));
        };
        c.expect_symbol(&Token::Eq)?;
        let is_first = match option {
            "schema.registry" => url_.replace(url(c)?).is_none(),
            "schema.registry.username" => user.replace(c.text("a user's name")?).is_none(),
            _ => password.replace(secret(c, "schema.registry.password =")?).is_none(),
        };
        match is_first {
            true => Ok(()),
            false => Err(error(PlanErrorKind::Syntax, format!("{option} is given twice"), name.at)),
        }
    })?;
    match url_ {
        Some(url) => Ok(RegistryClause { url, user, password, at }),
        None => Err(error(PlanErrorKind::Syntax, "the registry's place is missing: schema.registry = 'http://…'", at)),
    }
}

/// A registry's address, without a password in it: statements and faults show it.
pub(super) fn url(cursor: &mut Cursor) -> Result<String, PlanError> {
    let at = cursor.at();
    let url = cursor.text("a registry's address")?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => {
            let hint = "CREATE SECRET and name it: REGISTRY USER 'u', REGISTRY PASSWORD SECRET s of a connection, or \
                        schema.registry.username and schema.registry.password = SECRET name";
            let message = "a registry's address has no user and no password in it";
            Err(PlanError { hint: Some(hint.to_string()), ..error(PlanErrorKind::InvalidValue, message, at) })
        }
        Some(host) if !host.is_empty() && !url.contains(['?', '#', ' ']) => Ok(url),
        _ => Err(error(PlanErrorKind::InvalidValue, "expected an address such as 'http://registry:8081'", at)),
    }
}
