//! Rows as aligned text: the first ones settle the widths, the rest go out as they come.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

/// Rows kept back until the widths are settled.
pub const SETTLE_ROWS_MAX: usize = 500;
/// A column is padded up to this; a longer cell moves the rest of its line.
const WIDTH_COLUMNS_MAX: usize = 80;

/// One answer being printed.
pub struct Table<W> {
    out: W,
    names: Vec<String>,
    /// Set when the header is out.
    layout: Option<Vec<Layout>>,
    kept: Vec<Vec<String>>,
    rows: u64,
}

struct Layout {
    width: usize,
    right: bool,
}

impl<W: Write> Table<W> {
    pub fn new(out: W, names: Vec<String>) -> Table<W> {
        let names = names.iter().map(|name| printable(name)).collect();
        Table { out, names, layout: None, kept: Vec::new(), rows: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// True while rows are kept back.
    pub fn awaits_rows(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Takes a row; `None` is NULL.
    pub fn push<'a>(&mut self, row: impl Iterator<Item = Option<&'a str>>) -> io::Result<()> {
        self.rows += 1;
        self.kept.push(row.map(|cell| cell.map_or("NULL".to_string(), printable)).collect());
        match &self.layout {
            Some(_) => self.print_kept(),
            None if self.kept.len() >= SETTLE_ROWS_MAX => self.settle(),
            None => Ok(()),
        }
    }

    /// Fixes the widths by what is kept, prints the header and what is kept.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.layout.is_some() {
            return Ok(());
        }
        let layout = |(i, name): (usize, &String)| {
            let widest = self.kept.iter().map(|row| row[i].width()).max().unwrap_or(0);
            let number = |cell: &str| cell == "NULL" || cell.parse::<f64>().is_ok();
            let right = !self.kept.is_empty() && self.kept.iter().all(|row| number(&row[i]));
            Layout { width: widest.max(name.width()).min(WIDTH_COLUMNS_MAX), right }
        };
        let layout: Vec<Layout> = self.names.iter().enumerate().map(layout).collect();
        let line: Vec<String> = layout.iter().map(|column| "-".repeat(column.width + 2)).collect();
        let names = std::mem::take(&mut self.names);
        self.layout = Some(layout);
        self.print(&names)?;
        writeln!(self.out, "{}", line.join("+"))?;
        self.print_kept()
    }

    /// The end of the answer.
    pub fn finish(mut self) -> io::Result<()> {
        self.settle()?;
        writeln!(self.out, "({} {})", self.rows, if self.rows == 1 { "row" } else { "rows" })?;
        self.out.flush()
    }

    fn print_kept(&mut self) -> io::Result<()> {
        for row in std::mem::take(&mut self.kept) {
            self.print(&row)?;
        }
        self.out.flush()
    }

    fn print(&mut self, cells: &[String]) -> io::Result<()> {
        let layout = self.layout.as_ref().expect("rows are printed after the header's layout is set");
        let cells = cells.iter().zip(layout).map(|(cell, column)| {
            let space = " ".repeat(column.width.saturating_sub(cell.width()));
            if column.right { format!(" {space}{cell} ") } else { format!(" {cell}{space} ") }
        });
        let line: Vec<String> = cells.collect();
        writeln!(self.out, "{}", line.join("|").trim_end())
    }
}

/// Line breaks, escape sequences and other control characters must not reach the terminal.
fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(names: &[&str], rows: &[&[Option<&str>]]) -> String {
        let mut out = vec![];
        let mut table = Table::new(&mut out, names.iter().map(|name| name.to_string()).collect());
        for row in rows {
            table.push(row.iter().copied()).unwrap();
        }
        table.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_numbers_to_the_right() {
        let rows: &[&[Option<&str>]] =
            &[&[Some("7"), Some("麦子"), None], &[Some("-12.50"), Some("a\nb\u{1b}"), Some("x")]];
        let expected = "     id | name       | note
--------+------------+------
      7 | 麦子       | NULL
 -12.50 | a\\nb\\u{1b} | x
(2 rows)
";
        assert_eq!(print(&["id", "name", "note"], rows), expected);
        assert_eq!(print(&["id"], &[]), " id\n----\n(0 rows)\n");
    }

    #[test]
    fn rows_after_the_first_go_out_at_once() {
        let mut out = vec![];
        let mut table = Table::new(&mut out, vec!["n".into()]);
        table.push([Some("1")].into_iter()).unwrap();
        assert!(table.awaits_rows());
        table.settle().unwrap();
        table.push([Some("22")].into_iter()).unwrap();
        drop(table);
        assert_eq!(String::from_utf8(out).unwrap(), " n\n---\n 1\n 22\n");
    }
}
