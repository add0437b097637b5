//! The house rules that no compiler checks; a failure names the file, the line and the remedy.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up; a file imports from lower floors and its own folder.
const FLOORS: &[&[&str]] = &[
    &["row", "config"],
    &["store", "target"],
    &["sources", "catalog"],
    &["clock", "plan"],
    &["dataflow"],
    &["sinks"],
    &["engine"],
    &["server", "console"],
];

const LINE_COLUMNS_MAX: usize = 120;
const FIRST_LINE_COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 800;
const FILE_LINES_WANTED: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Files above `FILE_LINES_WANTED`, with their length: it may fall, not grow; a new one needs a reason in review.
const LONG_FILES: &[(&str, usize)] = &[
    ("benches/engine.rs", 403),
    ("src/plan/desugar.rs", 447),
    ("src/plan/lower.rs", 495),
    ("src/plan/parse/cursor.rs", 418),
    ("src/plan/scalars.rs", 544),
    ("src/sinks/wide/task.rs", 504),
    ("src/sinks/wide/tests.rs", 588),
    ("src/store/tests/suite.rs", 414),
    ("tests/mysql_source.rs", 448),
];
/// Functions above `FUNCTION_LINES_MAX`, likewise.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[
    ("src/dataflow/arrange/tests.rs", "a_trace_reads_compacts_and_imports_as_of_a_time", 84),
    ("src/plan/tests.rs", "expressions_have_mysqls_values", 72),
    ("src/store/tests/suite.rs", "every_type_comes_back_as_it_went", 76),
];
/// Modules whose every name is meant: a list of array types, an enum's variants inside one function.
const STAR_IMPORTS: &[(&str, &str)] = &[
    ("src/plan/functions/types.rs", "use SqlType::*;"),
    ("src/row/types.rs", "use SqlType::*;"),
    ("src/sources/mysql/assemble.rs", "use EventType::*;"),
    ("src/sources/mysql/value.rs", "use ColumnType::*;"),
];

/// Text, where it is banned, where not, and what to write instead.
struct Banned {
    text: &'static str,
    under: &'static [&'static str],
    except: &'static [&'static str],
    instead: &'static str,
}

const SOURCE: &[&str] = &["src/"];
/// Floors whose output must not depend on the order of a hash.
const LOGIC: &[&str] = &["src/plan/", "src/catalog/", "src/clock/", "src/store/"];
/// Where the world comes in: timers of sockets, the terminal, the command line.
const EDGES: &[&str] = &["src/main.rs", "src/console/", "src/server/"];

/// Also the timers of links to other servers: back-off, heartbeats, deadlines.
const TIMERS: &[&str] = &[
    "src/main.rs",
    "src/console/",
    "src/server/",
    "src/sinks/wide/task.rs",
    "src/sources/changefeed/",
    "src/sources/log/",
    "src/sources/mysql/",
];
/// Where secrets are looked up, when they are used.
const ENVIRONMENT: &[&str] = &["src/main.rs", "src/engine/connect.rs"];

const BANNED: &[Banned] = &[
    Banned {
        text: "todo!",
        under: SOURCE,
        except: &[],
        instead: "write it, or return an error that names what is missing",
    },
    Banned { text: "unimplemented!", under: SOURCE, except: &[], instead: "refuse the input by name" },
    Banned { text: "dbg!", under: SOURCE, except: &[], instead: "tracing::debug!" },
    Banned { text: ".unwrap()", under: SOURCE, except: &[], instead: "`?`, or expect(\"why it holds\")" },
    Banned { text: "SystemTime::now", under: SOURCE, except: EDGES, instead: "take the time as a value" },
    Banned { text: "Instant::now", under: SOURCE, except: TIMERS, instead: "take the time as a value" },
    Banned { text: "rand::", under: SOURCE, except: &[], instead: "take the random number or a seed as a value" },
    Banned { text: "println!", under: SOURCE, except: EDGES, instead: "tracing" },
    Banned { text: "env::var", under: SOURCE, except: ENVIRONMENT, instead: "config, which takes the variables" },
    Banned { text: "process::exit", under: SOURCE, except: &[], instead: "return from main" },
    Banned { text: "HashMap", under: LOGIC, except: &[], instead: "BTreeMap: its order is the same in every run" },
    Banned { text: "HashSet", under: LOGIC, except: &[], instead: "BTreeSet: its order is the same in every run" },
];

/// Directories of the machines it is built on: nothing in the repository may know them.
const MACHINE_PATHS: &[&str] = &["/work/", "/tmp/", "/root/", "/home/", "/Users/"];
const TEXTS: &[&str] = &["rs", "toml", "md", "sql", "txt", "yml", "yaml", "sh", "json"];

struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Lines of program text with their number, without comments; tests are passed over.
    fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = match self.is_test() {
            true => 0,
            false => self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len()),
        };
        self.text[..end].lines().enumerate().map(|(i, line)| (i + 1, without_comment(line)))
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("/fixture.rs")
    }

    fn floor(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(folder, _)| folder)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folders: &[&str], extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no file under {folders:?}");
    found
}

fn rust() -> Vec<File> {
    let folders: Vec<&str> = ["src", "tests", "benches"].into_iter().filter(|f| root().join(f).is_dir()).collect();
    files(&folders, &["rs"])
}

/// The part of a line before a comment; quotes are not understood, so that `//` in a text ends it, too.
fn without_comment(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The floors named by `crate::floor` or `crate::{floor::…, floor}` in a line.
fn floors_used(line: &str) -> Vec<&str> {
    let first = |text: &'_ str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").len();
    let mut used = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => used.push(&rest[..first(rest)]),
            Some(group) => used.extend(group.split(", ").map(|part| &part[..first(part)])),
        }
    }
    used
}

fn level(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|level| level.contains(&floor))
}

#[test]
fn imports_go_down() {
    let mut faults = Vec::new();
    for file in files(&["src"], &["rs"]) {
        let Some(own) = file.floor().map(str::to_string) else { continue };
        let Some(own_level) = level(&own) else {
            faults.push(format!("{}: folder {own} stands on no floor: add it to FLOORS", file.path));
            continue;
        };
        for (number, line) in file.program() {
            for used in floors_used(line) {
                if used != own && level(used).is_some_and(|level| level >= own_level) {
                    faults.push(format!("{}:{number}: {own} imports {used}, which is not below it", file.path));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn a_floor_is_recognised_in_every_form_of_import() {
    assert_eq!(floors_used("use crate::row::Ts;"), ["row"]);
    assert_eq!(floors_used("use crate::{row::Ts, server};"), ["row", "server"]);
    assert_eq!(floors_used("    let x: crate::engine::Session = crate::plan::parse();"), ["engine", "plan"]);
    assert!(level("engine") > level("sinks") && level("row") == level("config"));
}

#[test]
fn files_begin_with_one_plain_sentence() {
    let fault = |file: &File| {
        let line = file.text.lines().next().unwrap_or_default();
        let fine = line.starts_with("//! ") && line.ends_with('.') && line.chars().count() <= FIRST_LINE_COLUMNS_MAX;
        (!fine).then(|| {
            format!("{}: begin with `//! ` and a sentence of at most {FIRST_LINE_COLUMNS_MAX} columns", file.path)
        })
    };
    none(rust().iter().filter_map(fault).collect());
}

#[test]
fn lines_are_not_too_long() {
    let mut faults = Vec::new();
    for file in rust() {
        for (i, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                faults.push(format!("{}:{}: {columns} columns, at most {LINE_COLUMNS_MAX}", file.path, i + 1));
            }
        }
    }
    none(faults);
}

#[test]
fn files_are_not_too_long() {
    let mut faults = Vec::new();
    for file in rust() {
        let lines = file.text.lines().count();
        let known = LONG_FILES.iter().find(|(path, _)| *path == file.path).map(|(_, lines)| *lines);
        let allowed = known.unwrap_or(FILE_LINES_WANTED).min(FILE_LINES_MAX);
        if lines > allowed {
            faults.push(format!("{}: {lines} lines, at most {allowed}: split it by what it does", file.path));
        }
        if known.is_some_and(|known| lines < known) {
            faults.push(format!("{}: {lines} lines: lower its number in LONG_FILES", file.path));
        }
    }
    none(faults);
}

/// Name and lines of each function, by rustfmt's indentation.
fn functions(text: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let modifiers = ["pub", "async", "const", "unsafe", "extern"];
        if !before.split_whitespace().all(|word| modifiers.iter().any(|modifier| word.starts_with(modifier))) {
            continue;
        }
        let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let indent = &line[..line.len() - code.len()];
        // A body ends with a brace where its function began, a signature without one with a semicolon.
        let is_end = |line: &&str| {
            line.strip_prefix(indent).is_some_and(|rest| rest == "}" || rest.ends_with(';') && !rest.starts_with(' '))
        };
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let length = lines[i..].iter().position(is_end).map_or(1, |end| end + 1);
        found.push((name, i + 1, length));
    }
    found
}

#[test]
fn functions_are_not_too_long() {
    let mut faults = Vec::new();
    for file in rust() {
        for (name, line, lines) in functions(&file.text) {
            let known = LONG_FUNCTIONS.iter().find(|(path, known, _)| *path == file.path && *known == name);
            let allowed = known.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
            if lines > allowed {
                faults.push(format!("{}:{line}: {name} has {lines} lines, at most {allowed}", file.path));
            }
            if known.is_some_and(|(_, _, known)| lines < *known) {
                faults.push(format!(
                    "{}:{line}: {name} has {lines} lines: lower its number in LONG_FUNCTIONS",
                    file.path
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn a_function_is_measured_to_its_brace() {
    let text = "impl A {\n    pub fn long(\n        &self,\n    ) -> u8 {\n        1\n    }\n    fn short() {}\n}\n";
    assert_eq!(functions(text), [("long", 2, 5)]);
    assert_eq!(functions("trait T {\n    fn f(\n        a: u8,\n    );\n}\n"), [("f", 2, 3)]);
}

#[test]
fn names_are_imported_one_by_one() {
    let mut faults = Vec::new();
    for file in files(&["src"], &["rs"]) {
        for (number, line) in file.program() {
            let line = line.trim();
            let known = STAR_IMPORTS.contains(&(file.path.as_str(), line));
            if line.contains("use ") && line.ends_with("::*;") && !known {
                faults.push(format!("{}:{number}: name what `{line}` imports", file.path));
            }
        }
    }
    none(faults);
}

#[test]
fn the_root_of_the_library_exports_modules_only() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let fine = |line: &str| line.is_empty() || line.starts_with("//!") || line.starts_with("pub mod ");
    none(lib.lines().filter(|line| !fine(line)).map(|line| format!("src/lib.rs: `{line}`: only `pub mod`")).collect());
}

#[test]
fn banned_calls_have_a_replacement() {
    let mut faults = Vec::new();
    for file in rust() {
        let under = |folders: &[&str]| folders.iter().any(|folder| file.path.starts_with(folder));
        let bans: Vec<&Banned> = BANNED.iter().filter(|ban| under(ban.under) && !under(ban.except)).collect();
        for (number, line) in file.program() {
            for ban in bans.iter().filter(|ban| mentions(line, ban.text)) {
                faults.push(format!("{}:{number}: {}: instead: {}", file.path, ban.text, ban.instead));
            }
        }
    }
    none(faults);
}

/// True where the text stands for itself: `eprintln!` is another word than `println!`.
fn mentions(line: &str, text: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(text).any(|(at, _)| text.starts_with('.') || !line[..at].ends_with(continues))
}

#[test]
fn a_word_inside_another_is_not_mentioned() {
    assert!(mentions("    todo!()", "todo!") && mentions("x.unwrap()", ".unwrap()"));
    assert!(!mentions("eprintln!()", "println!") && !mentions("operand::x", "rand::"));
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut faults = Vec::new();
    let skipped = ["target", ".git", "Cargo.lock"];
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().to_string());
    let entries: Vec<String> = entries.filter(|name| !skipped.contains(&name.as_str())).collect();
    for file in files(&entries.iter().map(String::as_str).collect::<Vec<_>>(), TEXTS) {
        if file.path == "tests/tidy.rs" {
            continue;
        }
        for (i, line) in file.text.lines().enumerate() {
            for path in MACHINE_PATHS.iter().filter(|path| line.contains(**path)) {
                faults.push(format!(
                    "{}:{}: {path}: name it from the repository's root or take it as a value",
                    file.path,
                    i + 1
                ));
            }
        }
    }
    none(faults);
}
