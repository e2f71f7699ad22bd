//! The outcomes of the steps.

use std::time::Duration;

use anyhow::{Result, bail};

/// The outcome of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The whole step passed.
    Passed,
    /// The checked part of the step passed; the text names the unchecked part.
    Partly(String),
    /// The step could not run, for this reason.
    Skipped(String),
    /// The step failed.
    Failed(String),
}

/// The outcomes of the steps so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    /// Adds the outcome of a step, and prints it.
    pub(crate) fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration) {
        println!("<== {}", row(name, &outcome, took));
        self.rows.push((name, outcome, took));
    }

    /// Prints the output of failed steps about their failures, then all steps, and the counts of outcomes. Fails if a
    /// step failed.
    pub(crate) fn close(&self, took: Duration) -> Result<()> {
        for (name, outcome, _) in &self.rows {
            if let Outcome::Failed(why) = outcome
                && let Some((_, printed)) = why.split_once('\n')
            {
                println!("\n`{name}` printed:\n{printed}");
            }
        }
        println!("\nsteps:");
        for (name, outcome, took) in &self.rows {
            println!("  {}", row(name, outcome, *took));
        }
        let count =
            |wanted: fn(&Outcome) -> bool| self.rows.iter().filter(|(_, outcome, _)| wanted(outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Passed | Outcome::Partly(_)));
        let partly = count(|outcome| matches!(outcome, Outcome::Partly(_)));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        println!(
            "\nci: {passed} steps passed ({partly} of them in part), {failed} failed, {skipped} skipped, in {:.0} s",
            took.as_secs_f64()
        );
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.rows.len());
        }
        Ok(())
    }
}

/// A step and its outcome as one line of text.
fn row(name: &str, outcome: &Outcome, took: Duration) -> String {
    let (word, why) = match outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Partly(why) => ("PASSED IN PART", Some(why)),
        Outcome::Skipped(why) => ("SKIPPED", Some(why)),
        Outcome::Failed(why) => ("FAILED", Some(why)),
    };
    let seconds = took.as_secs_f64();
    match why {
        Some(why) => {
            let why = why.lines().next().unwrap_or_default();
            format!("{name:<10} {seconds:>7.1} s  {word}: {why}")
        }
        None => format!("{name:<10} {seconds:>7.1} s  {word}"),
    }
}
