//! `cargo xtask ci` runs every check, one after the other. A failed step does not stop the others, but the run fails at
//! its end.

mod deny;
mod examples;
mod packed;
mod report;
mod shown;
mod steps;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::project::Project;
use report::{Outcome, Report};
use steps::{STEPS, Step};

/// Options of `ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these steps, by name.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// All but these steps.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the steps without running them.
    #[arg(long)]
    list: bool,
}

/// Runs the steps.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    if options.list {
        for step in STEPS {
            println!("{:<10} {}", step.name, step.about);
        }
        return Ok(());
    }
    for name in options.only.iter().chain(&options.skip) {
        if !STEPS.iter().any(|step| step.name == name) {
            bail!("no step is named `{name}`; `cargo xtask ci --list` names them");
        }
    }
    let begun = Instant::now();
    let mut report = Report::default();
    for step in STEPS.iter().filter(|step| options.asks_for(step)) {
        println!("\n==> {}: {}", step.name, step.about);
        let started = Instant::now();
        let outcome = (step.run)(project).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        report.add(step.name, outcome, started.elapsed());
    }
    report.close(begun.elapsed())
}

impl Options {
    fn asks_for(&self, step: &Step) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == step.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}
