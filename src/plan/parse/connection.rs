//! CREATE CONNECTION: each kind with the options it knows.

use crate::catalog::names::nearest;
use crate::catalog::object::SaslMechanism;
use crate::config::SslMode;
use crate::plan::parse::create::IF_NOT_EXISTS;
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::parse::registry;
use crate::plan::statement::{ConnectionKind, ConnectionOption, Name, OptionValue, Statement};
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
    Mechanism,
    Url,
}

const SERVER: &[Known] = &[
    Known { name: "HOST", value: Value::Text, required: true },
    Known { name: "PORT", value: Value::Port, required: false },
    Known { name: "USER", value: Value::Text, required: true },
    Known { name: "PASSWORD", value: Value::Secret, required: false },
    Known { name: "SSL MODE", value: Value::SslMode, required: false },
    Known { name: "SSL CA", value: Value::Text, required: false },
    Known { name: "SNAPSHOT HOST", value: Value::Text, required: false },
];
const GENERATOR: &[Known] = &[
    Known { name: "SEED", value: Value::Count, required: false },
    Known { name: "HISTORY", value: Value::Count, required: false },
    Known { name: "RATE", value: Value::Count, required: false },
];
const KAFKA: &[Known] = &[
    Known { name: "BROKERS", value: Value::Text, required: true },
    Known { name: "SASL MECHANISM", value: Value::Mechanism, required: false },
    Known { name: "USER", value: Value::Text, required: false },
    Known { name: "PASSWORD", value: Value::Secret, required: false },
    Known { name: "SSL MODE", value: Value::SslMode, required: false },
    Known { name: "SSL CA", value: Value::Text, required: false },
    Known { name: "SCHEMA REGISTRY", value: Value::Url, required: false },
    Known { name: "REGISTRY USER", value: Value::Text, required: false },
    Known { name: "REGISTRY PASSWORD", value: Value::Secret, required: false },
];
const FILES: &[Known] = &[
    Known { name: "PATH", value: Value::Text, required: true },
    Known { name: "ENDPOINT", value: Value::Text, required: false },
    Known { name: "REGION", value: Value::Text, required: false },
    Known { name: "ACCESS KEY", value: Value::Secret, required: false },
    Known { name: "SECRET KEY", value: Value::Secret, required: false },
];
const SQLITE: &[Known] = &[Known { name: "PATH", value: Value::Text, required: true }];

fn known(kind: ConnectionKind) -> &'static [Known] {
    match kind {
        ConnectionKind::Mysql | ConnectionKind::Tidb => SERVER,
        ConnectionKind::Sqlite => SQLITE,
        ConnectionKind::Kafka => KAFKA,
        ConnectionKind::Files => FILES,
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
    let given = |name: &str| options.iter().find(|option| option.name == name);
    if let Some(of) = given("REGISTRY USER").or(given("REGISTRY PASSWORD"))
        && given("SCHEMA REGISTRY").is_none()
    {
        let message = format!("{} is given without SCHEMA REGISTRY", of.name);
        return Err(error(PlanErrorKind::Syntax, message, of.at));
    }
    if !missing.is_empty() {
        let message = format!("a {} connection needs {}", to.word(), missing.join(" and "));
        return Err(error(PlanErrorKind::Syntax, message, name.at));
    }
    cursor.expect_end(&[])?;
    Ok(Statement::CreateConnection { name, if_not_exists, to, options })
}

fn kind(cursor: &mut Cursor) -> Result<ConnectionKind, PlanError> {
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
        Value::SslMode => OptionValue::Text(one_of_texts(cursor, "SSL mode", &SslMode::ALL.map(SslMode::word))?),
        Value::Mechanism => {
            let words = SaslMechanism::ALL.map(SaslMechanism::word);
            OptionValue::Text(one_of_texts(cursor, "SASL mechanism", &words)?)
        }
        Value::Url => OptionValue::Text(registry::url(cursor)?),
        Value::Secret => OptionValue::Secret(secret(cursor, option.name)?),
    };
    Ok(ConnectionOption { name: option.name.to_string(), value, at })
}

/// `SECRET name` behind an option: what is secret stands in no statement.
pub(super) fn secret(cursor: &mut Cursor, option: &str) -> Result<Name, PlanError> {
    if !cursor.word("SECRET") {
        let (what, secret) = if option.contains("KEY") { ("key", "s3_key") } else { ("password", "db_password") };
        let variable = secret.to_uppercase();
        let hint = format!("CREATE SECRET {secret} FROM ENV '{variable}', then {option} SECRET {secret}");
        return Err(cursor.refuse(format!("a {what} is not written into a statement"), hint));
    }
    cursor.local_name("a secret's name")
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

/// A text that is one of these, without regard to case.
pub(super) fn one_of_texts(cursor: &mut Cursor, what: &str, words: &[&str]) -> Result<String, PlanError> {
    let at = cursor.at();
    let given = cursor.text(what)?;
    if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(&given)) {
        return Ok(word.to_string());
    }
    let message = format!("unknown {what}; the {what}s are {}", words.join(", "));
    let mut error = error(PlanErrorKind::InvalidValue, message, at);
    error.hint = nearest(&given, words.iter().copied()).map(|word| format!("did you mean '{word}'?"));
    Err(error)
}
