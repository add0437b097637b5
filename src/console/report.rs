//! Errors and notices in words, with a caret under the place.

use tokio_postgres::error::{DbError, ErrorPosition};
use unicode_width::UnicodeWidthStr;

/// An error of a statement as several lines, the last without a break.
pub fn error(error: &tokio_postgres::Error, text: &str) -> String {
    match error.as_db_error() {
        Some(db) => db_error(db, text),
        None => format!("ERROR: {}", reason(error)),
    }
}

/// An error in one line, with its cause.
pub fn reason(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{}: {}", db.code().code(), db.message()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

pub fn notice(notice: &DbError) -> String {
    format!("{}: {}", notice.severity(), notice.message())
}

fn db_error(error: &DbError, text: &str) -> String {
    let mut lines = vec![format!("{} {}: {}", error.severity(), error.code().code(), error.message())];
    if let Some(ErrorPosition::Original(position)) = error.position() {
        lines.extend(place(text, *position as usize).into_iter().flatten());
    }
    lines.extend(error.detail().map(|detail| format!("detail: {detail}")));
    lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

/// The line of the `position`-th character (from 1), and a caret under it.
fn place(text: &str, position: usize) -> Option<[String; 2]> {
    let at = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(position.checked_sub(1)?)?;
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let spaces = text[begin..at].replace('\t', " ").width();
    Some([line.replace('\t', " "), format!("{}^", " ".repeat(spaces))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "SELECT a,\n\t麦, oops\nFROM t";
        let lines = place(text, 15).unwrap();
        assert_eq!(lines, [" 麦, oops".to_string(), "     ^".to_string()]);
        assert_eq!(place("x", 2).unwrap()[1], " ^");
        assert_eq!(place("x", 9), None);
        assert_eq!(place("x", 0), None);
    }
}
