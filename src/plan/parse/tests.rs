//! Golden tests of the parser: `> ` lines are typed, the lines below are the answer.
//!
//! `UPDATE_GOLDEN=1 cargo test plan::parse` writes the answers anew: read the difference before you keep it.

use std::fmt::Write;
use std::path::Path;

use super::*;
use crate::plan::statement::{CreateView, Explain};

#[test]
fn statements_are_read() {
    golden("statements.txt");
    golden("tables.txt");
}

#[test]
fn bad_statements_say_what_where_and_what_to_do() {
    for file in ["statements", "connections", "views", "tables", "commands", "queries"] {
        golden(&format!("errors/{file}.txt"));
    }
}

#[test]
fn a_script_is_split_at_semicolons_outside_of_quotes_and_comments() {
    let text = ";; BEGIN ; -- one; two\n SELECT ';' /* ; */ FROM `a;b` ;\n# ;\nCOMMIT";
    let found: Vec<&str> = parse(text).unwrap().into_iter().map(|(_, range)| &text[range]).collect();
    assert_eq!(found, ["BEGIN", "SELECT ';' /* ; */ FROM `a;b`", "COMMIT"]);
    assert!(parse(" -- nothing\n;").unwrap().is_empty());
}

#[test]
fn positions_are_bytes_from_the_beginning_of_what_they_are_in() {
    let text = "BEGIN;\n/* 表 */ CREATE VIEW `é` AS\n  SELECT x\nFROM 表 u;";
    let (statement, range) = parse(text).unwrap().remove(1);
    let Statement::CreateView(view) = statement else { panic!("{statement:?}") };
    let statement = &text[range];
    assert!(statement.starts_with("CREATE") && statement.ends_with("FROM 表 u"));
    assert!(statement[view.name.at..].starts_with("`é`"));
    assert_eq!(&statement[view.query_at..], view.query_text);
    assert!(view.query_text.starts_with("SELECT x"));

    let error = parse("BEGIN;\nSELECT '表', FROM t").unwrap_err();
    assert_eq!(error.position, Some("BEGIN;\nSELECT '表', ".len()), "{error:?}");
    let error = parse("COMMIT; CREATE VIEW v AS SELECT (").unwrap_err();
    assert_eq!(error.position, Some("COMMIT; CREATE VIEW v AS SELECT (".len()), "{error:?}");
}

#[test]
fn no_error_and_no_debug_text_shows_a_secret() {
    for text in [
        "CREATE SECRET s AS hunter2",
        "CREATE SECRET s AS \"hunter2\"",
        "CREATE SECRET s AS $$hunter2$$",
        "CREATE SECRET s AS N'hunter2'",
        "CREATE SECRET s AS '' hunter2",
        "CREATE CONNECTION c TO MYSQL (HOST 'h', USER 'u', PASSWORD hunter2)",
        "CREATE SECRET s FROM 'hunter2'",
        "CREATE SECRET s 'hunter2'",
        "CREATE SECRE s AS 'hunter2'",
        "CREATE CONNECTION c TO MYSQL (HOST 'h', USER 'u', PASSWORD 'hunter2')",
        "CREATE CONNECTION c TO MYSQL (HOST 'h', USER 'u', PASSWORD = 'hunter2')",
        "CREATE CONNECTION c TO MYSQL (HOST 'h', USER 'u', PASSWD 'hunter2')",
        "CREATE CONNECTION c TO MYSQL 'hunter2'",
        "CREATE CONNECTION c TO KAFKA (BROKERS 'b', SCHEMA REGISTRY 'http://u:hunter2@h')",
        "CREATE CONNECTION c TO KAFKA (BROKERS 'b', SCHEMA REGISTRY 'http://h', REGISTRY PASSWORD 'hunter2')",
        "CREATE SOURCE s FROM CONNECTION c (TOPIC 't') FORMAT 'avro' (schema.registry.password = 'hunter2')",
        "CREATE SOURCE s FROM CONNECTION c (TOPIC 't') FORMAT 'avro' (schema.registry = 'https://hunter2@h')",
    ] {
        let error = parse(text).expect_err(text);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let parsed = parse("CREATE SECRET s AS 'hunter2'").unwrap();
    assert!(!format!("{parsed:?}").contains("hunter2"), "{parsed:?}");
}

#[test]
fn nesting_is_limited_and_long_scripts_are_read_once() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    let error = parse(&deep).unwrap_err();
    assert!(error.message.contains("nests deeper"), "{error:?}");
    let long = "COMMIT; ".repeat(20_000);
    assert_eq!(parse(&long).unwrap().len(), 20_000);
}

/// Statements with pieces of them cut out, doubled or moved: an answer or an error with a place, never a panic.
#[test]
fn nonsense_is_answered() {
    const SEED: u64 = 7;
    let all = ["statements.txt", "tables.txt", "errors/queries.txt"].map(|file| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
    });
    let all = all.join("\n");
    let pieces: Vec<&str> = all.split_inclusive([' ', '(', ')', ',', '.', '\'', ';', '\n']).collect();
    let mut state = SEED;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..below(4) + 1 {
            let begin = below(pieces.len());
            let end = (begin + below(12) + 1).min(pieces.len());
            pieces[begin..end].iter().for_each(|piece| text += piece);
        }
        match parse(&text) {
            Ok(statements) => statements.into_iter().for_each(|(_, range)| assert!(text.get(range).is_some())),
            Err(error) => {
                let at = error.position.expect("every error of the parser has a position");
                assert!(text.is_char_boundary(at), "seed {SEED}: {at} in {text:?}");
            }
        }
    }
}

fn golden(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut fresh = String::new();
    for case in kept.split("\n\n") {
        let typed: Vec<&str> = case.lines().filter_map(|line| line.strip_prefix("> ")).collect();
        let (head, typed) = (typed.join("\n> "), typed.join("\n"));
        let answer = parse(&typed).map(|all| all.iter().map(|(s, _)| shown(s)).collect::<Vec<_>>().join("\n"));
        let answer = answer.unwrap_or_else(|e| pointed(&typed, &e));
        write!(fresh, "> {head}\n{answer}\n\n").unwrap();
    }
    let fresh = fresh.trim_end().to_string() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, fresh).unwrap();
    } else {
        assert!(fresh == kept, "{file} differs; now it reads\n{fresh}");
    }
}

/// The error with its line and a caret below the place.
fn pointed(text: &str, error: &PlanError) -> String {
    let at = error.position.expect("every error of the parser has a position");
    let begin = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = text[begin..].lines().next().unwrap_or("");
    let indent = text[begin..at].chars().count();
    let hint = error.hint.iter().map(|hint| format!("\nhint: {hint}")).collect::<String>();
    format!("{:?}: {}\n  {line}\n  {}^{hint}", error.kind, error.message, " ".repeat(indent))
}

/// One line, with queries as SQL.
fn shown(statement: &Statement) -> String {
    match statement {
        Statement::CreateView(view) => shown_view(view),
        Statement::CreateTable { name, if_not_exists, schema } => {
            let columns = schema.columns.iter().map(|column| format!("\n  {column:?}")).collect::<String>();
            format!("CreateTable {name} if_not_exists={if_not_exists} key={:?}{columns}", schema.key)
        }
        Statement::Select(query) => format!("Select: {query}"),
        Statement::Wait { arguments } => {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            format!("Wait: {}", arguments.join(", "))
        }
        Statement::Insert(insert) => {
            let columns: Vec<String> = insert.columns.iter().map(|c| c.to_string()).collect();
            format!("Insert into {:?} columns {columns:?}: {}", insert.table, insert.query)
        }
        Statement::Update(update) => {
            let set: Vec<String> =
                update.assignments.iter().map(|(name, value)| format!("{name} := {value}")).collect();
            let predicate = update.predicate.as_ref().map(|p| p.to_string());
            format!("Update {:?} set {set:?} where {predicate:?}", update.table)
        }
        Statement::Delete { table, predicate } => {
            format!("Delete from {table:?} where {:?}", predicate.as_ref().map(|p| p.to_string()))
        }
        Statement::Explain(explain) => match &**explain {
            Explain::Query(query) => format!("Explain: {query}"),
            Explain::View(name) => format!("Explain view {name:?}"),
            Explain::Create(view) => format!("Explain {}", shown_view(view)),
        },
        other => format!("{other:?}"),
    }
}

fn shown_view(view: &CreateView) -> String {
    let CreateView { name, materialized, if_not_exists, or_replace, key, comment, into, options, query, .. } = view;
    format!(
        "CreateView {name} materialized={materialized} if_not_exists={if_not_exists} or_replace={or_replace} \
         key={key:?}\n  comment={comment:?} into={into:?} options={options:?}\n  {query}\n  typed at {}: {:?}",
        view.query_at, view.query_text
    )
}
