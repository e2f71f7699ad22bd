//! Instructions and system calls per operation, which are reproducible where times are not.
//!
//! An operation is run twice, with different numbers of repetitions, and the difference of the counts is divided by the
//! difference of the repetitions. So the cost of starting a process cancels out. As in callgrind, only instructions in
//! user space count.

mod callgrind;
mod operation;
mod strace;

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub(crate) use operation::Operation;
use operation::{Kind, Size};

use crate::arguments::work_folder;
use crate::lab::{Lab, Scale};
use crate::show::page;
use crate::show::table::count;

/// Options of `counts`.
#[derive(Debug, clap::Args)]
pub(crate) struct CountOptions {
    /// The folder to work in; by default the target folder.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write the table to this folder of pages.
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
}

const HEAD: &str = "\
| operation | instructions | system calls |
|---|---|---|
";
/// Calls per operation below this number are left out.
const RARE: f64 = 0.01;

/// Counts all operations, and prints a table. If a tool is missing, says so, and leaves its column empty.
pub(crate) fn run(options: &CountOptions) -> Result<()> {
    let lab = Lab::new(&work_folder(options.folder.clone())?, Scale::FULL, None)?;
    let mut out = std::io::stdout().lock();
    let (no_callgrind, no_strace) = (callgrind::lacking(), strace::lacking());
    for why in no_callgrind.iter().chain(&no_strace) {
        writeln!(out, "SKIPPED: {why}")?;
    }
    let mut rows = HEAD.to_owned();
    out.write_all(HEAD.as_bytes())?;
    for kind in Kind::ALL {
        let Size { few, many } = kind.size();
        let difference = (many - few) as f64;
        let instructions = match &no_callgrind {
            Some(_) => "not counted".to_owned(),
            None => {
                let count = |times| kind.prepared(&lab, times)?.run(callgrind::instructions);
                let more = count(many)? as f64 - count(few)? as f64;
                grouped(more / difference)
            }
        };
        let calls = match &no_strace {
            Some(_) => "not counted".to_owned(),
            None => {
                let count = |times| kind.prepared(&lab, times)?.run(strace::calls);
                shown(&strace::difference(&count(few)?, &count(many)?, difference))
            }
        };
        let line = format!("| {} | {instructions} | {calls} |\n", kind.words());
        out.write_all(line.as_bytes())?;
        out.flush()?;
        rows.push_str(&line);
    }
    match &options.docs {
        // An incomplete table must not replace a complete one.
        Some(docs) if no_callgrind.is_none() && no_strace.is_none() => {
            page::write_part(docs, "counts", &rows)
                .with_context(|| format!("can't write into {}", docs.display()))
        }
        Some(_) => Ok(writeln!(out, "the page is left as it is")?),
        None => Ok(()),
    }
}

/// The calls as text, most frequent first.
fn shown(calls: &[(String, f64)]) -> String {
    let mut text = String::new();
    for (name, times) in calls.iter().filter(|(_, times)| *times >= RARE) {
        let separator = if text.is_empty() { "" } else { ", " };
        // A count near a whole number is rounded: some calls are made once per process, not per operation.
        let rounded = (times * 100.0).round() / 100.0;
        let _ = write!(text, "{separator}{name} {}", count(rounded));
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// A number with separators: `1,234,567`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, shown};

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0.4, 999.0, 1_000.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn rare_calls_are_left_out() {
        let calls = [("write", 1.0), ("fdatasync", 0.5), ("mmap", 0.001)]
            .map(|(name, times)| (name.to_owned(), times));
        assert_eq!(shown(&calls), "write 1, fdatasync 0.50");
        assert_eq!(shown(&[]), "none");
    }
}
