//! Asks for a password on the terminal without showing it.

use std::borrow::Cow;
use std::io::IsTerminal;

use rustyline::config::Configurer;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::history::MemHistory;
use rustyline::{ColorMode, Completer, Config, Editor, Helper, Hinter, Validator};

use crate::config::Secret;

/// Asks at the terminal; `None` where there is none, or where the person gives up.
pub fn password(question: &str) -> Option<Secret> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let mut editor = Editor::<Hidden, MemHistory>::with_history(Config::default(), MemHistory::new()).ok()?;
    editor.set_helper(Some(Hidden));
    editor.set_color_mode(ColorMode::Forced);
    editor.set_auto_add_history(false);
    editor.readline(question).ok().map(Secret::new)
}

/// Shows nothing of what is typed.
#[derive(Completer, Helper, Hinter, Validator)]
struct Hidden;

impl Highlighter for Hidden {
    fn highlight<'l>(&self, line: &'l str, _at: usize) -> Cow<'l, str> {
        Cow::Owned(" ".repeat(line.chars().count()))
    }

    fn highlight_char(&self, _line: &str, _at: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}
