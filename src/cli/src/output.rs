//! What goes to standard output.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Standard output, buffered. Whoever writes ends with [`Output::finish`], so that nothing is lost without a word.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Output {
        Output(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(Failure::stdout)
    }

    /// One object on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.0, value).map_err(|error| Failure::stdout(error.into()))?;
        self.0.write_all(b"\n").map_err(Failure::stdout)
    }

    /// Names and values, a line each; the values stand below each other.
    pub(crate) fn fields(&mut self, fields: &[(&str, String)]) -> Result<(), Failure> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in fields {
            let value = printable(value);
            self.line(format_args!("{name:<width$}  {value}").to_string().trim_end())?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.0.flush().map_err(Failure::stdout)
    }
}

/// A text of callers as it may be shown on a terminal: what controls it, or turns the direction of what follows, stands there as `\u{..}`. JSON has
/// its own way.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let controls = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(controls) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match controls(letter) {
            true => shown.extend(letter.escape_unicode()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// A line for people on standard error. One that cannot be written is not worth ending a command for.
pub(crate) fn notice(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Rows under a head, in columns that are as wide as their widest cell; all but the first are set to the right where
/// they hold numbers.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    numeric_from: usize,
}

impl Table {
    /// Columns from `numeric_from` on hold numbers.
    pub(crate) fn new(head: Vec<String>, numeric_from: usize) -> Table {
        Table {
            head,
            rows: Vec::new(),
            numeric_from,
        }
    }

    pub(crate) fn row(&mut self, mut row: Vec<String>) {
        for cell in &mut row {
            if let Cow::Owned(shown) = printable(cell) {
                *cell = shown;
            }
        }
        self.rows.push(row);
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let mut widths: Vec<usize> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        std::iter::once(&self.head).chain(&self.rows).map(move |row| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count());
                if column > 0 {
                    line.push_str("  ");
                }
                if column >= self.numeric_from {
                    line.push_str(&padding);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&padding);
                }
            }
            line.truncate(line.trim_end().len());
            line
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_shown_in_letters() {
        assert_eq!(printable("Zimmer 7, Sëe"), "Zimmer 7, Sëe");
        assert_eq!(printable("a\u{1b}[2J\rb\u{202e}c"), "a\\u{1b}[2J\\u{d}b\\u{202e}c");
        let mut table = Table::new(vec!["reference".into()], 1);
        table.row(vec!["\u{1b}[31m".into()]);
        assert_eq!(table.lines().last().unwrap(), "\\u{1b}[31m");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(vec!["name".into(), "rooms".into()], 1);
        table.row(vec!["a-long-name".into(), "7".into()]);
        table.row(vec!["b".into(), "123456".into()]);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(
            lines,
            ["name          rooms", "a-long-name       7", "b            123456"]
        );
    }
}
