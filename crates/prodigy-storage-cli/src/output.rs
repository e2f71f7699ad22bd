//! Tables for people.

use std::borrow::Cow;
use std::fmt::Display;

use clap::builder::styling::{AnsiColor, Style};

use crate::app::App;
use crate::errors::Result;

/// The number of rows that are kept in memory to align their columns.
const ROWS: usize = 1000;

/// A table with aligned columns. A later row may widen a column.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    any: bool,
    cut: bool,
    /// True if the headings are printed already.
    printed: bool,
    /// The index of the column whose words are coloured.
    state: Option<usize>,
}

const HEADING: Style = Style::new().bold();
/// The headings of columns whose words the tool itself defines.
const STATES: [&str; 3] = ["STATE", "CHECKSUM", "OUTCOME"];

/// The style of the word for a state, a severity or an outcome.
pub(crate) fn style_of(word: &str) -> Option<Style> {
    let colour = match word {
        "active" | "held" | "ok" | "valid" => AnsiColor::Green,
        "delayed" | "leased" | "none" | "unread" | "warning" => AnsiColor::Yellow,
        "damage" | "failure" | "mismatch" | "parked" => AnsiColor::Red,
        _ => return None,
    };
    Some(colour.on_default())
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
            widths: vec![0; headings.len()],
            any: false,
            cut: false,
            printed: false,
            state: headings.iter().position(|heading| STATES.contains(heading)),
        }
    }

    /// Cuts each line to the width of the terminal. If the output is not a terminal, lines are printed whole.
    pub(crate) fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// Adds a row. Line ends in its cells are escaped, so it stays on one line.
    pub(crate) fn row(&mut self, app: &mut App<'_>, cells: impl IntoIterator<Item = String>) -> Result<()> {
        self.any = true;
        let cells = cells.into_iter();
        self.rows
            .push(cells.map(|cell| cell.replace('\n', "\\u{a}")).collect());
        if self.rows.len() < ROWS {
            return Ok(());
        }
        self.give(app)
    }

    /// Prints the remaining rows; nothing if the table has no row.
    pub(crate) fn print(mut self, app: &mut App<'_>) -> Result<()> {
        if self.any { self.give(app) } else { Ok(()) }
    }

    fn give(&mut self, app: &mut App<'_>) -> Result<()> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in self.rows.drain(..) {
            let mut line = String::new();
            let mut styles = Vec::new();
            for (number, (cell, &width)) in row.iter().zip(&self.widths).enumerate() {
                let style = style_of(cell).filter(|_| self.printed && Some(number) == self.state);
                styles.extend(style.map(|style| (line.len()..line.len() + cell.len(), style)));
                line.push_str(&format!("{cell:width$}  "));
            }
            let line = line.trim_end();
            if !std::mem::replace(&mut self.printed, true) {
                styles.push((0..line.len(), HEADING));
            }
            match app.width.filter(|_| self.cut) {
                Some(width) => app.styled_line(&shortened(line, width), &styles)?,
                None => app.styled_line(line, &styles)?,
            }
        }
        Ok(())
    }
}

/// The line, if it has at most `width` characters; otherwise its beginning with an ellipsis.
pub(crate) fn shortened(line: &str, width: usize) -> Cow<'_, str> {
    if width == 0 || line.chars().nth(width).is_none() {
        return Cow::Borrowed(line);
    }
    let kept: String = line.chars().take(width - 1).collect();
    Cow::Owned(format!("{kept}\u{2026}"))
}

/// A number of bytes in readable units: `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    format!("{scaled:.1} {unit}")
}

/// A number with its noun: `1 event`, `2 events`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, of: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {of}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;

    #[test]
    fn a_table_keeps_a_bounded_number_of_rows_in_memory_and_gives_each_once() {
        let mut output = Vec::new();
        let console = Console {
            input: Box::new(std::io::empty()),
            ready: |_| true,
            output: Box::new(&mut output),
            errors: Box::new(std::io::sink()),
            terminal: false,
            width: None,
            colour: false,
            closed: || false,
            closed_from_start: false,
        };
        let mut app = App::new(crate::cli::Global::default(), console);
        let mut table = Table::new(&["ITEM"]);
        for number in 0..5 * ROWS {
            table.row(&mut app, [format!("i{number}")]).unwrap();
            assert!(table.rows.len() < ROWS);
        }
        table.print(&mut app).unwrap();
        app.flush().unwrap();
        drop(app);
        let wanted: String = std::iter::once("ITEM\n".to_owned())
            .chain((0..5 * ROWS).map(|number| format!("i{number}\n")))
            .collect();
        assert_eq!(String::from_utf8(output).unwrap(), wanted);
    }

    #[test]
    fn a_line_is_cut_to_the_width_and_no_shorter() {
        assert_eq!(shortened("\u{e4}bc", 3), "\u{e4}bc");
        assert_eq!(shortened("\u{e4}bcd", 3), "\u{e4}b\u{2026}");
        assert_eq!(shortened("abc", 0), "abc");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 40), "3.0 TiB");
        assert_eq!(counted(1_usize, "event"), "1 event");
        assert_eq!(counted(0_u64, "event"), "0 events");
    }
}
