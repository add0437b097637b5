//! CREATE CONNECTION: each kind with the options it knows.

use crate::catalog::names::nearest;
use crate::catalog::object::SslMode;
use crate::plan::parse::create::IF_NOT_EXISTS;
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::statement::{ConnectionKind, ConnectionOption, OptionValue, Statement};
use crate::plan::{PlanError, PlanErrorKind};

struct Known {
    name: &'static str,
    value: Value,
    required: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    Text,
    Port,
    Count,
    Secret,
    SslMode,
}

const SERVER: &[Known] = &[
    Known { name: "HOST", value: Value::Text, required: true },
    Known { name: "PORT", value: Value::Port, required: false },
    Known { name: "USER", value: Value::Text, required: true },
    Known { name: "PASSWORD", value: Value::Secret, required: false },
    Known { name: "SSL MODE", value: Value::SslMode, required: false },
    Known { name: "SNAPSHOT HOST", value: Value::Text, required: false },
];
const GENERATOR: &[Known] = &[
    Known { name: "SEED", value: Value::Count, required: false },
    Known { name: "HISTORY", value: Value::Count, required: false },
    Known { name: "RATE", value: Value::Count, required: false },
];
const SQLITE: &[Known] = &[Known { name: "PATH", value: Value::Text, required: true }];

fn known(kind: ConnectionKind) -> &'static [Known] {
    match kind {
        ConnectionKind::Mysql | ConnectionKind::Tidb => SERVER,
        ConnectionKind::Sqlite => SQLITE,
        ConnectionKind::Generator => GENERATOR,
    }
}

pub(super) fn connection(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("CONNECTION")?;
    let if_not_exists = cursor.condition(IF_NOT_EXISTS)?;
    let name = cursor.local_name("a connection's name")?;
    cursor.expect_word("TO")?;
    let to = kind(cursor)?;
    let mut options: Vec<ConnectionOption> = vec![];
    if cursor.opens_parenthesis() {
        cursor.list(|c| {
            let next = option(c, to)?;
            if options.iter().any(|seen| seen.name == next.name) {
                return Err(error(PlanErrorKind::Syntax, format!("{} is given twice", next.name), next.at));
            }
            options.push(next);
            Ok(())
        })?;
    }
    let missing: Vec<&str> = known(to)
        .iter()
        .filter(|known| known.required && !options.iter().any(|option| option.name == known.name))
        .map(|known| known.name)
        .collect();
    if !missing.is_empty() {
        let message = format!("a {} connection needs {}", to.word(), missing.join(" and "));
        return Err(error(PlanErrorKind::Syntax, message, name.at));
    }
    cursor.expect_end(&[])?;
    Ok(Statement::CreateConnection { name, if_not_exists, to, options })
}

fn kind(cursor: &mut Cursor) -> Result<ConnectionKind, PlanError> {
    if let Some(word @ ("KAFKA" | "FILES")) = cursor.peek_word().map(str::to_ascii_uppercase).as_deref() {
        let hint = "a connection is TO MYSQL, TIDB, SQLITE or GENERATOR";
        return Err(cursor.refuse(format!("a connection to {word} is not supported yet"), hint));
    }
    let word = cursor.expect_one_of(&ConnectionKind::ALL.map(ConnectionKind::word))?;
    let kind = ConnectionKind::ALL.into_iter().find(|kind| kind.word() == word);
    Ok(kind.expect("the word is one of the kinds'"))
}

fn option(cursor: &mut Cursor, kind: ConnectionKind) -> Result<ConnectionOption, PlanError> {
    let at = cursor.at();
    let found = known(kind).iter().find(|k| cursor.words(&k.name.split(' ').collect::<Vec<_>>()));
    let Some(option) = found else {
        return Err(unknown_option(cursor, kind));
    };
    let value = match option.value {
        Value::Text => OptionValue::Text(cursor.text(option.name)?),
        Value::Count => OptionValue::Number(cursor.number(option.name)?),
        Value::Port => OptionValue::Number(cursor.number_in("a port", 1..65536)?),
        Value::SslMode => OptionValue::Text(ssl_mode(cursor)?),
        Value::Secret if !cursor.word("SECRET") => {
            let hint = "CREATE SECRET db_password FROM ENV 'DB_PASSWORD', then PASSWORD SECRET db_password";
            return Err(cursor.refuse("a password is not written into a statement", hint));
        }
        Value::Secret => OptionValue::Secret(cursor.local_name("a secret's name")?),
    };
    Ok(ConnectionOption { name: option.name.to_string(), value, at })
}

fn unknown_option(cursor: &Cursor, kind: ConnectionKind) -> PlanError {
    let names: Vec<&str> = known(kind).iter().map(|known| known.name).collect();
    let mut error = cursor.expected(&names);
    let Some(found) = cursor.peek_word() else {
        return error;
    };
    let of = format!("unknown option `{found}` of a {} connection", kind.word());
    error.message = match names.is_empty() {
        true => format!("{of}: it has none"),
        false => format!("{of}; the options are {}", names.join(", ")),
    };
    error
}

fn ssl_mode(cursor: &mut Cursor) -> Result<String, PlanError> {
    let at = cursor.at();
    let mode = cursor.text("an SSL mode")?.to_lowercase();
    let words = SslMode::ALL.map(SslMode::word);
    if words.contains(&mode.as_str()) {
        return Ok(mode);
    }
    let message = format!("unknown SSL mode; the modes are {}", words.join(", "));
    let mut error = error(PlanErrorKind::InvalidValue, message, at);
    error.hint = nearest(&mode, words.iter().copied()).map(|word| format!("did you mean '{word}'?"));
    Err(error)
}
