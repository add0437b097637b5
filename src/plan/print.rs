//! SHOW CREATE: an object as a statement that makes it again as it is.
//!
//! What a statement cannot say is a comment line before it: the value of a secret, the upstream of a followed table.

use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS};

use crate::catalog::Catalog;
use crate::catalog::feed::{
    Feed, FeedCompression, OnBadMessage, OnMismatch, OtherPartitions, StartAt, StartOffset, Topics,
};
use crate::catalog::object::{Connection, Object, Secret, SecretFrom, Source, Table, View};
use crate::plan::parse::{interval_text, is_refused_in_columns};
use crate::row::ObjectId;
use crate::row::schema::{Column, Schema};
use crate::row::temporal;

/// The statement, without a semicolon.
pub fn create(catalog: &Catalog, object: &Object) -> String {
    match object {
        Object::Secret(secret) => create_secret(secret),
        Object::Connection(connection) => create_connection(catalog, connection),
        Object::Source(source) => create_source(catalog, source),
        Object::Table(table) => create_table(catalog, table),
        Object::View(view) => create_view(catalog, view),
    }
}

/// A name as it can be typed: in backticks unless it is a plain word that is no keyword.
pub fn identifier(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !is_reserved(&name.to_ascii_uppercase());
    if plain { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

/// Words of queries, and those that begin something else than a column in CREATE TABLE or a name after CREATE.
fn is_reserved(word: &str) -> bool {
    const OURS: &[&str] = &["IF", "PRIMARY", "NOT", "NULL", "AS", "TO", "INTO", "TABLE"];
    let in_queries = ALL_KEYWORDS.binary_search(&word).is_ok_and(|at| {
        let keyword = &ALL_KEYWORDS_INDEX[at];
        RESERVED_FOR_TABLE_ALIAS.contains(keyword) || RESERVED_FOR_COLUMN_ALIAS.contains(keyword)
    });
    in_queries || OURS.contains(&word) || is_refused_in_columns(word)
}

/// A text as a literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

fn names(parts: &[String]) -> String {
    let part = |part: &String| if part == "*" { part.clone() } else { identifier(part) };
    parts.iter().map(part).collect::<Vec<_>>().join(".")
}

fn create_secret(secret: &Secret) -> String {
    let name = identifier(&secret.name);
    match &secret.from {
        SecretFrom::Env(variable) => format!("CREATE SECRET {name} FROM ENV {}", literal(variable)),
        SecretFrom::File(path) => format!("CREATE SECRET {name} FROM FILE {}", literal(path)),
        SecretFrom::As(_) => {
            commented(&format!("the value is not shown; give it again in its place:\nCREATE SECRET {name} AS '…'"))
        }
    }
}

fn create_connection(catalog: &Catalog, connection: &Connection) -> String {
    let given = &connection.options;
    let text = |value: &Option<String>| value.as_deref().map(literal);
    let registry = given.registry.as_ref();
    let options = [
        ("HOST", text(&given.host)),
        ("PORT", given.port.map(|port| port.to_string())),
        ("USER", text(&given.user)),
        ("PASSWORD SECRET", given.password.map(|secret| name_of(catalog, secret))),
        ("SSL MODE", given.ssl_mode.map(|mode| literal(mode.word()))),
        ("SSL CA", text(&given.ssl_ca)),
        ("SNAPSHOT HOST", text(&given.snapshot_host)),
        ("BROKERS", text(&given.brokers)),
        ("SCHEMA REGISTRY", registry.map(|registry| literal(&registry.url))),
        ("REGISTRY USER", registry.and_then(|registry| text(&registry.user))),
        (
            "REGISTRY PASSWORD SECRET",
            registry.and_then(|registry| registry.password).map(|secret| name_of(catalog, secret)),
        ),
        ("SASL MECHANISM", given.sasl.map(|mechanism| literal(mechanism.word()))),
        ("PATH", text(&given.path)),
        ("ENDPOINT", text(&given.endpoint)),
        ("REGION", text(&given.region)),
        ("ACCESS KEY SECRET", given.keys.map(|keys| name_of(catalog, keys.access))),
        ("SECRET KEY SECRET", given.keys.map(|keys| name_of(catalog, keys.secret))),
        ("SEED", given.seed.map(|seed| seed.to_string())),
        ("HISTORY", given.history.map(|history| history.to_string())),
        ("RATE", given.rate.map(|rate| rate.to_string())),
    ];
    let options: Vec<_> = options.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
    let mut out = format!("CREATE CONNECTION {} TO {}", identifier(&connection.name), connection.kind.word());
    if !options.is_empty() {
        out += &format!(" ({})", options.join(", "));
    }
    out
}

fn create_source(catalog: &Catalog, source: &Source) -> String {
    let connection = name_of(catalog, source.connection);
    let mut out = format!("CREATE SOURCE {} FROM CONNECTION {connection}", identifier(&source.name));
    if let Some(feed) = &source.feed {
        out += &feed_clauses(catalog, feed);
    }
    let declared = source.feed.as_ref().is_some_and(|feed| feed.schemas.is_none());
    let table = |name: &[String; 2]| match declared {
        true => names(name) + &followed_columns(catalog, source.id, name),
        false => names(name),
    };
    let mut clause = |word: &str, items: Vec<String>| {
        if !items.is_empty() {
            out += &format!("\n  {word} ({})", items.join(", "));
        }
    };
    clause("TABLES", source.tables.iter().map(table).collect());
    clause("EXCLUDE COLUMNS", source.exclude_columns.iter().map(|column| names(column)).collect());
    if let Some(seconds) = source.refresh_seconds {
        out += &format!("\n  REFRESH EVERY {}", literal(&interval_text(seconds)));
    }
    out
}

fn feed_clauses(catalog: &Catalog, feed: &Feed) -> String {
    let mut read = vec![match &feed.topics {
        Topics::Names(names) if names.len() == 1 => format!("TOPIC {}", literal(&names[0])),
        Topics::Names(names) => {
            format!("TOPICS ({})", names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", "))
        }
        Topics::Pattern(pattern) => format!("TOPICS {}", literal(pattern)),
        Topics::Path(path) => format!("PATH {}", literal(path)),
    }];
    read.extend(feed.transactions.as_ref().map(|topic| format!("TRANSACTIONS TOPIC {}", literal(topic))));
    match &feed.start {
        StartAt::Earliest => {}
        StartAt::Latest => read.push("START AT LATEST".to_string()),
        StartAt::Time(ms) => {
            let time = temporal::format_datetime(ms * 1000, 3);
            read.push(format!("START AT TIMESTAMP {}", literal(&time)));
        }
        StartAt::Offsets { named, others } => read.push(start_offsets(named, *others)),
    }
    let mut out = format!(" ({})\n  FORMAT {}", read.join(", "), literal(feed.format.word()));
    if let Some(registry) = &feed.registry {
        let user = registry.user.as_ref().map(|user| format!(", schema.registry.username = {}", literal(user)));
        let password = registry.password.map(|secret| name_of(catalog, secret));
        let password = password.map(|secret| format!(", schema.registry.password = SECRET {secret}"));
        let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
        out += &format!(" (schema.registry = {}{user}{password})", literal(&registry.url));
    }
    if feed.by_row {
        out += "\n  CONSISTENCY 'row'";
    }
    if let Some(zone) = &feed.time_zone {
        out += &format!("\n  TIME ZONE {}", literal(zone));
    }
    if feed.compression != FeedCompression::None {
        out += &format!("\n  COMPRESSION {}", literal(feed.compression.word()));
    }
    if feed.on_bad_message == OnBadMessage::Quarantine {
        out += "\n  ON BAD MESSAGE QUARANTINE";
    }
    if feed.on_mismatch == OnMismatch::Stop {
        out += "\n  ON MISMATCH STOP";
    }
    if let Some(seconds) = feed.retain_seconds {
        out += &format!("\n  RETAIN {}", literal(&interval_text(seconds)));
    }
    if let Some(files) = feed.claim_check {
        out += &format!("\n  CLAIM CHECK FROM CONNECTION {}", name_of(catalog, files));
    }
    if feed.csv.header {
        out += "\n  HEADER";
    }
    if let Some(delimiter) = feed.csv.delimiter {
        out += &format!("\n  DELIMITER {}", literal(&delimiter.to_string()));
    }
    if let Some(schemas) = feed.schemas {
        let what = if feed.snapshot { "SNAPSHOT" } else { "SCHEMAS" };
        out += &format!("\n  {what} FROM CONNECTION {}", name_of(catalog, schemas));
    }
    out
}

fn start_offsets(named: &[StartOffset], others: Option<OtherPartitions>) -> String {
    let offset = |named: &StartOffset| {
        let topic = named.topic.as_ref().map_or_else(String::new, |topic| format!("{topic}:"));
        literal(&format!("{topic}{}:{}", named.partition, named.offset))
    };
    let others = match others {
        None => "",
        Some(OtherPartitions::Earliest) => " OTHERS EARLIEST",
        Some(OtherPartitions::Latest) => " OTHERS LATEST",
    };
    format!("START AT OFFSETS ({}){others}", named.iter().map(offset).collect::<Vec<_>>().join(", "))
}

/// ` (id INT NOT NULL, …, PRIMARY KEY (id))` of a table that a source follows.
fn followed_columns(catalog: &Catalog, source: ObjectId, name: &[String; 2]) -> String {
    let of = |object: &Object| match object {
        Object::Table(table) if table.source == Some(source) && table.name[1..] == name[..] => {
            Some(elements(&table.schema).join(", "))
        }
        _ => None,
    };
    catalog.objects().find_map(|object| of(object)).map_or_else(String::new, |columns| format!(" ({columns})"))
}

fn elements(schema: &Schema) -> Vec<String> {
    schema.columns.iter().map(column).chain(key_clause(schema)).collect()
}

fn create_table(catalog: &Catalog, table: &Table) -> String {
    let mut out = String::new();
    if let Some(source) = table.source {
        let upstream = names(&table.name);
        let source = name_of(catalog, source);
        out = commented(&format!("{upstream}, followed by source {source}, as a local table:")) + "\n";
    }
    let name = table.name.last().expect("a table's name has a part");
    out + &format!("CREATE TABLE {} (\n  {}\n)", identifier(name), elements(&table.schema).join(",\n  "))
}

/// Every line behind dashes, whatever the names in it hold.
fn commented(text: &str) -> String {
    text.split(['\n', '\r']).map(|line| format!("-- {line}")).collect::<Vec<_>>().join("\n")
}

fn column(column: &Column) -> String {
    let mut out = format!("{} {}", identifier(&column.name), column.sql_type);
    if let Some(collation) = &column.collation {
        out += &format!(" COLLATE {}", identifier(collation));
    }
    if !column.nullable {
        out += " NOT NULL";
    }
    if let Some(comment) = &column.comment {
        out += &format!(" COMMENT {}", literal(comment));
    }
    out
}

fn key_clause(schema: &Schema) -> Option<String> {
    let key: Vec<_> = schema.key.as_ref()?.iter().map(|&k| identifier(&schema.columns[k].name)).collect();
    (!key.is_empty()).then(|| format!("PRIMARY KEY ({})", key.join(", ")))
}

fn create_view(catalog: &Catalog, view: &View) -> String {
    let kind = if view.materialized { "MATERIALIZED VIEW" } else { "VIEW" };
    let mut out = format!("CREATE {kind} {}", identifier(&view.name));
    if let Some(key) = &view.declared_key {
        let key: Vec<_> = key.iter().map(|column| identifier(column)).collect();
        out += &format!(" (PRIMARY KEY ({}))", key.join(", "));
    }
    if let Some(comment) = &view.comment {
        out += &format!("\n  COMMENT {}", literal(comment));
    }
    if let Some(into) = &view.into {
        out += &format!("\n  INTO {}.{}", name_of(catalog, into.connection), names(&into.table));
        if view.options.reconcile {
            out += " EXISTING ROWS RECONCILE";
        }
    }
    if view.materialized {
        out += &format!("\n  WITH (time_zone = {})", literal(&view.time_zone));
    }
    out + &format!("\nAS {}", view.query_text)
}

fn name_of(catalog: &Catalog, id: ObjectId) -> String {
    let object = catalog.get(id).unwrap_or_else(|| panic!("object {id} is needed and not in the catalog"));
    names(object.parts())
}

#[cfg(test)]
mod tests;
