//! Tables for people: aligned columns that fit the terminal.

use std::ops::Range;

use clap::builder::styling::Style;
use prodigy_storage::escape;

use crate::app::App;
use crate::errors::Result;
use crate::output::{beginning, style_of, width_of};

/// The number of rows that are kept in memory to align their columns.
const ROWS: usize = 1000;
/// The blanks between two columns.
const GAP: usize = 2;
/// A name is shortened to this width before a column is left out.
const LEAST_NAME: usize = 24;
/// A name is never shortened below this width.
const LEAST: usize = 5;

const HEADING: Style = Style::new().bold();
/// The headings of columns whose words the tool itself defines.
const STATES: [&str; 3] = ["STATE", "CHECKSUM", "OUTCOME"];

/// How a cell is made narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Whole,
    /// An ellipsis takes the place of the middle, since names often differ at their ends.
    Middle,
    /// An ellipsis takes the place of the end.
    End,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    heading: String,
    fit: Fit,
    is_right: bool,
    rank: u8,
}

impl Column {
    fn of(heading: impl Into<String>, fit: Fit) -> Self {
        Self {
            heading: heading.into(),
            fit,
            is_right: false,
            rank: 0,
        }
    }

    /// Words that are always shown whole.
    pub(crate) fn word(heading: impl Into<String>) -> Self {
        Self::of(heading, Fit::Whole)
    }

    /// A number, a size or an age: aligned at the right, and shown whole.
    pub(crate) fn number(heading: impl Into<String>) -> Self {
        Self {
            is_right: true,
            ..Self::of(heading, Fit::Whole)
        }
    }

    /// A name or a path, which is shortened in the middle on a narrow terminal.
    pub(crate) fn name(heading: impl Into<String>) -> Self {
        Self::of(heading, Fit::Middle)
    }

    /// A text, which is cut at the end on a narrow terminal.
    pub(crate) fn text(heading: impl Into<String>) -> Self {
        Self::of(heading, Fit::End)
    }

    /// The column may be left out on a narrow terminal: those with the highest number first.
    pub(crate) fn optional(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// The width below which a column with cells of this width is not narrowed while another one may be left out.
    fn least(&self, width: usize) -> usize {
        match self.fit {
            Fit::Whole => width,
            Fit::Middle | Fit::End => width.min(LEAST_NAME.max(width_of(&self.heading))),
        }
    }

    fn cell(&self, text: &str, width: usize) -> String {
        let text = match self.fit {
            Fit::Whole => text.to_owned(),
            Fit::Middle => shortened_in_the_middle(text, width),
            Fit::End => shortened(text, width),
        };
        let blanks = " ".repeat(width.saturating_sub(width_of(&text)));
        match self.is_right {
            true => blanks + &text,
            false => text + &blanks,
        }
    }
}

/// A line of output, and the styles of parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) styles: Vec<(Range<usize>, Style)>,
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        let styles = Vec::new();
        Self { text, styles }
    }
}

/// A table with aligned columns. A later row may widen a column.
///
/// In a pipe, every cell is printed whole. On a terminal no line is wider than it: names are shortened, then optional
/// columns are left out.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    any: bool,
    whole: bool,
    /// The columns that are shown, by their indices; known from the first line on.
    shown: Option<Vec<usize>>,
    /// The index of the column whose words are coloured.
    state: Option<usize>,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let columns: Vec<_> = columns.into_iter().collect();
        let widths = columns.iter().map(|column| width_of(&column.heading)).collect();
        let state = columns
            .iter()
            .position(|column| STATES.contains(&column.heading.as_str()));
        Self {
            columns,
            rows: Vec::new(),
            widths,
            any: false,
            whole: false,
            shown: None,
            state,
        }
    }

    /// Lines may be wider than the terminal: a person needs the cells whole.
    pub(crate) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Adds a row. Its cells are escaped, so that it stays on one line and in its columns, and no text of others controls the terminal
    /// that shows it, through a pipe as well.
    pub(crate) fn row(&mut self, app: &mut App<'_>, cells: impl IntoIterator<Item = String>) -> Result<()> {
        self.add(cells);
        if self.rows.len() < ROWS {
            return Ok(());
        }
        self.give(app)
    }

    /// Prints the remaining rows; nothing if the table has no row.
    pub(crate) fn print(mut self, app: &mut App<'_>) -> Result<()> {
        self.give(app)
    }

    fn give(&mut self, app: &mut App<'_>) -> Result<()> {
        let lines = self.lines(app.width);
        lines.iter().try_for_each(|line| app.print_line(line))
    }

    /// Adds a row for output of this width.
    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        self.any = true;
        let cells: Vec<_> = cells.into_iter().map(|cell| escape(&cell).into_owned()).collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = width_of(cell).max(*width);
        }
        self.rows.push(cells);
    }

    /// Takes the lines of the rows that were added, with the headings above the first one.
    pub(crate) fn lines(&mut self, width: Option<usize>) -> Vec<Line> {
        if !self.any {
            return Vec::new();
        }
        let width = width.filter(|_| !self.whole);
        let is_first = self.shown.is_none();
        let shown = self.shown.take().unwrap_or_else(|| self.choose(width));
        let widths = self.fitted(&shown, width);
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        if is_first {
            let headings: Vec<_> = self.columns.iter().map(|column| column.heading.clone()).collect();
            let text = self.line(&headings, &shown, &widths, width).text;
            let styles = vec![(0..text.len(), HEADING)];
            lines.push(Line { text, styles });
        }
        let rows = std::mem::take(&mut self.rows);
        lines.extend(rows.iter().map(|row| self.line(row, &shown, &widths, width)));
        self.shown = Some(shown);
        lines
    }

    fn line(&self, row: &[String], shown: &[usize], widths: &[usize], width: Option<usize>) -> Line {
        let (mut text, mut styles) = (String::new(), Vec::new());
        for (place, (&index, &width)) in shown.iter().zip(widths).enumerate() {
            let (Some(column), Some(cell)) = (self.columns.get(index), row.get(index)) else {
                continue;
            };
            if place > 0 {
                text.push_str(&" ".repeat(GAP));
            }
            let style = style_of(cell).filter(|_| Some(index) == self.state);
            styles.extend(style.map(|style| (text.len()..text.len() + cell.len(), style)));
            text.push_str(&column.cell(cell, width));
        }
        let text = text.trim_end();
        let text = width.map_or_else(|| text.to_owned(), |width| shortened(text, width));
        Line { text, styles }
    }

    /// The columns that have room on a terminal of this width, with names that are shortened a little.
    fn choose(&self, width: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(room) = width else { return shown };
        let rank = |index: &usize| self.columns.get(*index).map_or(0, |column| column.rank);
        let least = |index: &usize| {
            let column = self.columns.get(*index).zip(self.widths.get(*index));
            column.map_or(0, |(column, width)| column.least(*width) + GAP)
        };
        while shown.iter().map(least).sum::<usize>() > room + GAP
            && let Some(place) = (0..shown.len()).max_by_key(|place| shown.get(*place).map_or(0, rank))
            && shown.get(place).map_or(0, rank) > 0
        {
            shown.remove(place);
        }
        shown
    }

    /// The widths of the columns that are shown: the widest name is shortened first.
    fn fitted(&self, shown: &[usize], width: Option<usize>) -> Vec<usize> {
        let of = |index: &usize| self.widths.get(*index).copied().unwrap_or_default();
        let mut widths: Vec<usize> = shown.iter().map(of).collect();
        let Some(room) = width else { return widths };
        let is_flexible = |place: usize| {
            let column = shown.get(place).and_then(|index| self.columns.get(*index));
            column.is_some_and(|column| column.fit != Fit::Whole)
        };
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let flexible = widths.iter_mut().enumerate();
            let widest = flexible
                .filter(|(place, width)| is_flexible(*place) && **width > LEAST)
                .max_by_key(|(_, width)| **width);
            match widest {
                Some((_, width)) => *width -= 1,
                None => break,
            }
        }
        widths
    }
}

/// The text, if it has at most this width on a terminal; otherwise its beginning with an ellipsis.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    if width == 0 || width_of(text) <= width {
        return text.to_owned();
    }
    format!("{}\u{2026}", beginning(text, width - 1))
}

/// The text, if it has at most this width on a terminal; otherwise its beginning and its end, with an ellipsis between.
pub(crate) fn shortened_in_the_middle(text: &str, width: usize) -> String {
    if width == 0 || width_of(text) <= width {
        return text.to_owned();
    }
    let end = (width - 1) / 2;
    let reversed: String = text.chars().rev().collect();
    let end: String = beginning(&reversed, end).chars().rev().collect();
    format!("{}\u{2026}{end}", beginning(text, width - 1 - width_of(&end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;

    fn jobs() -> Table {
        Table::new([
            Column::name("JOB"),
            Column::word("STATE"),
            Column::number("SIZE"),
            Column::name("PATH").optional(2),
            Column::text("ERROR").optional(1),
        ])
    }

    fn texts(table: &mut Table, width: Option<usize>) -> Vec<String> {
        table.lines(width).into_iter().map(|line| line.text).collect()
    }

    fn filled(width: Option<usize>) -> Vec<String> {
        let mut table = jobs();
        for (job, size) in [("mapreduce-2026-11-24-nightly-0001", "1.2 KiB"), ("b", "12 B")] {
            let path = format!("/srv/work/of/the/team/{job}");
            let error = "Timeout: the agent did not answer";
            let row = [job, "open", size, &path, error].map(str::to_owned);
            table.add(row);
        }
        texts(&mut table, width)
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_names_are_shortened_in_the_middle() {
        for width in 1..200 {
            for line in filled(Some(width)) {
                assert!(width_of(&line) <= width, "{width}: {line}");
            }
        }
        assert_eq!(
            filled(Some(40)),
            [
                "JOB                       STATE     SIZE",
                "mapreduce-20\u{2026}ightly-0001  open   1.2 KiB",
                "b                         open      12 B",
            ]
        );
    }

    #[test]
    fn columns_are_left_out_in_their_order_and_none_on_a_wide_terminal_or_in_a_pipe() {
        let headings = |width| {
            let line = filled(width).swap_remove(0);
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            words.join(" ")
        };
        assert_eq!(headings(Some(30)), "JOB STATE SIZE");
        assert_eq!(headings(Some(70)), "JOB STATE SIZE ERROR");
        assert_eq!(headings(Some(100)), "JOB STATE SIZE PATH ERROR");
        assert_eq!(filled(Some(200)), filled(None));
        assert!(filled(None)[1].contains("/srv/work/of/the/team/mapreduce-2026-11-24-nightly-0001"));
    }

    #[test]
    fn the_width_is_that_on_the_terminal() {
        let mut table = Table::new([Column::name("JOB"), Column::number("AGE")]);
        for job in ["\u{6d4b}\u{8bd5}\u{4efb}\u{52a1}", "a\u{202e}b\tc"] {
            table.add([job.to_owned(), "3h".to_owned()]);
        }
        assert_eq!(
            texts(&mut table, Some(80)),
            [
                "JOB               AGE",
                "\u{6d4b}\u{8bd5}\u{4efb}\u{52a1}           3h",
                "a\\u{202e}b\\u{9}c   3h",
            ]
        );
        assert_eq!(
            shortened_in_the_middle("\u{6d4b}\u{8bd5}\u{4efb}\u{52a1}", 6),
            "\u{6d4b}\u{2026}\u{52a1}"
        );
        assert_eq!(shortened("\u{e4}bcd", 3), "\u{e4}b\u{2026}");
        assert_eq!(shortened("\u{e4}bc", 3), "\u{e4}bc");
    }

    #[test]
    fn a_table_keeps_a_bounded_number_of_rows_in_memory_and_gives_each_once() {
        let mut output = Vec::new();
        let console = Console::of_pipes(&mut output, std::io::sink());
        let mut app = App::new(crate::cli::Global::default(), console);
        let mut table = Table::new([Column::name("ITEM")]);
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
}
