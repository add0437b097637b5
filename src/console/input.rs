//! When a typed text is complete, and how a word may go on.

use rustyline::completion::{Completer, Pair};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Highlighter, Hinter};

const KEYWORDS: &[&str] = &[
    "ADD",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "COLUMNS",
    "COMMENT",
    "COMMIT",
    "CONNECTION",
    "CREATE",
    "DATABASES",
    "DELETE",
    "DELIMITER",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "EARLIEST",
    "ELSE",
    "END",
    "EVERY",
    "EXISTS",
    "EXPLAIN",
    "FORMAT",
    "FROM",
    "GROUP",
    "HAVING",
    "HEADER",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOBS",
    "JOIN",
    "KEY",
    "KILL",
    "LATEST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATERIALIZED",
    "NOT",
    "NULL",
    "OFFSETS",
    "ON",
    "OR",
    "ORDER",
    "OTHERS",
    "PARTITIONS",
    "PATH",
    "PRIMARY",
    "QUARANTINE",
    "REFRESH",
    "REGISTRY",
    "REPLACE",
    "REPLAY",
    "RESUME",
    "RETAIN",
    "ROLLBACK",
    "SECRET",
    "SELECT",
    "SET",
    "SHOW",
    "SOURCE",
    "SOURCES",
    "START",
    "SUBSCRIBE",
    "TABLE",
    "TABLES",
    "THEN",
    "TIDEMILL_WAIT",
    "TO",
    "TOPIC",
    "TOPICS",
    "UNION",
    "UPDATE",
    "VALIDATE",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WHEN",
    "WHERE",
    "WITH",
];

/// The line editor's knowledge: keywords, and the names the server told.
#[derive(Default, Helper, Highlighter, Hinter)]
pub struct Sql {
    pub names: Vec<String>,
}

impl Validator for Sql {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Sql {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Sql {
    /// What the last word of a text may become, from where it begins; keywords keep the case they were begun in.
    fn candidates(&self, text: &str) -> (usize, Vec<Pair>) {
        let is_word = |c: char| c.is_alphanumeric() || "_.$".contains(c);
        let begin = text.len() - text.chars().rev().take_while(|c| is_word(*c)).map(char::len_utf8).sum::<usize>();
        let word = &text[begin..];
        if word.is_empty() {
            return (begin, vec![]);
        }
        let lower = word.chars().all(|c| !c.is_uppercase());
        let keywords = KEYWORDS.iter().map(|k| if lower { k.to_lowercase() } else { k.to_string() });
        let mut found: Vec<String> = keywords
            .chain(self.names.iter().cloned())
            .filter(|name| name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
            .collect();
        found.sort();
        found.dedup();
        (begin, found.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect())
    }
}

/// True for a text that can be run: empty, a command of the shell, or ending in a semicolon that stands outside of
/// quotes and comments.
pub fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') {
        return true;
    }
    let mut chars = text.chars().peekable();
    let mut ended = false;
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' | '`' => {
                ended = false;
                // A doubled quote opens again at once.
                if !chars.by_ref().any(|next| next == c) {
                    return false;
                }
            }
            '-' if chars.peek() == Some(&'-') => {
                let _ = chars.by_ref().find(|next| *next == '\n');
            }
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                let mut last = ' ';
                if !chars.by_ref().any(|next| std::mem::replace(&mut last, next) == '*' && next == '/') {
                    return false;
                }
            }
            ';' => ended = true,
            c if c.is_whitespace() => {}
            _ => ended = false,
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_complete_at_its_semicolon() {
        for text in ["", "  ", "\\q", "SELECT 1;", "SELECT ';';  -- done", "SELECT 'it''s'; /* ; */"] {
            assert!(is_complete(text), "{text}");
        }
        for text in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT /* ;", "SELECT 1 -- ;", "SELECT `a;"] {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn words_go_on_as_keywords_and_names() {
        let sql = Sql { names: vec!["wide_orders".into(), "Where_used".into()] };
        let words = |text: &str| {
            let (begin, pairs) = sql.candidates(text);
            (begin, pairs.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(words("SELECT * FROM wi"), (14, vec!["wide_orders".to_string(), "with".into()]));
        assert_eq!(words("WHE"), (0, vec!["WHEN".to_string(), "WHERE".into(), "Where_used".into()]));
        assert_eq!(words("SELECT ").1, Vec::<String>::new());
    }
}
