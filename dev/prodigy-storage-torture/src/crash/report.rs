//! The results of all sections.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::section::Tally;

/// The results of the sections so far.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    quick: bool,
    sections: Vec<Row>,
}

/// The result of one section.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    seconds: f64,
    /// The failure, if the section failed.
    failure: Option<String>,
    #[serde(flatten)]
    tally: Tally,
}

impl Report {
    /// A report without sections.
    pub(super) fn new(seed: u64, quick: bool) -> Self {
        Self {
            seed,
            quick,
            sections: Vec::new(),
        }
    }

    /// Adds a section, and prints its counts.
    pub(super) fn add(&mut self, name: &'static str, took: Duration, done: Result<Tally>) {
        let (tally, failure) = match done {
            Ok(tally) => (tally, None),
            Err(error) => (Tally::default(), Some(format!("{error:#}"))),
        };
        let row = Row {
            name,
            seconds: took.as_secs_f64(),
            failure,
            tally,
        };
        row.print();
        self.sections.push(row);
    }

    /// The number of failed sections.
    pub(super) fn failed(&self) -> usize {
        self.sections.iter().filter(|row| row.failure.is_some()).count()
    }

    /// Prints a table of all counts.
    pub(super) fn print(&self) {
        println!("\ncrash: seed {}, {} sections", self.seed, self.sections.len());
        for row in &self.sections {
            row.print();
        }
        match self.failed() {
            0 => println!("crash: lost 0, twice 0, torn 0, wrong 0"),
            some => println!("crash: {some} sections FAILED"),
        }
    }

    /// Writes the counts as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("can't write {}", path.display()))?;
        println!("figures: {}", path.display());
        Ok(())
    }
}

impl Row {
    fn print(&self) {
        let (name, seconds) = (self.name, self.seconds);
        match &self.failure {
            Some(failure) => println!("  {name:<10} FAILED after {seconds:.1} s: {failure}"),
            None => println!("  {name:<10} held, in {seconds:.1} s"),
        }
        for count in self.tally.counts() {
            println!("  {:<10} {:>9}  {}", "", count.number, count.what);
        }
        for why in self.tally.skipped() {
            println!("  {:<10} SKIPPED    {why}", "");
        }
    }
}
