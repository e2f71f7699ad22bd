//! `cargo xtask mutants` plants bugs into a copy of the project. For each bug, a test has to fail.
//!
//! Each bug breaks a promise. The lists in `xtask/mutants` locate the code to change by its text, so a bug survives a
//! move of lines. The shipped code contains no trace of the bugs:
//!
//! ```toml
//! [ids-restart]
//! promise = "ids ascend over a restart, also if the clock stepped back"
//! file = "crates/prodigy-storage-file/src/log/writer.rs"
//! replace = 'IdSource::above(found.newest)'
//! by = 'IdSource::above(EventId::MIN)'
//! test = "prodigy-storage-file lib ids_and_names_ascend_when_the_clock_steps_back"
//! ```
//!
//! `property` names the property of the conformance suite that has to fail, if the test runs the suite. A text that
//! does not occur exactly once, and a bug that does not compile, are failures, as a bug is that no test catches.

mod bug;
#[cfg(feature = "docs")]
mod check;
mod copy;
mod outcome;
#[cfg(feature = "docs")]
mod page;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};

#[cfg(feature = "docs")]
pub(crate) use page::PAGE;

use crate::project::Project;
use bug::Bug;
use copy::Copy;
use outcome::Outcome;

/// Options of `mutants`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The bugs to plant; by default all.
    names: Vec<String>,
    /// List the bugs without running anything.
    #[arg(long)]
    list: bool,
}

/// Renders the page that lists the bugs. Fails if a bug does not fit the code.
#[cfg(feature = "docs")]
pub(crate) fn page(project: &Project) -> Result<String> {
    let bugs = Bug::read_all(project)?;
    check::check(project, &bugs)?;
    page::render(&bugs)
}

/// Plants each bug and checks that it is caught.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let bugs = Bug::select(Bug::read_all(project)?, &options.names)?;
    let width = bugs.iter().map(|bug| bug.name.len()).max().unwrap_or(0);
    if options.list {
        for bug in &bugs {
            println!("{:width$}  {}", bug.name, bug.promise);
        }
        return Ok(());
    }

    let copy = Copy::open(project)?;
    copy.refresh()?;
    must_pass_unchanged(&copy, &bugs)?;

    let mut escaped = Vec::new();
    for bug in &bugs {
        let began = Instant::now();
        copy.refresh()?;
        let outcome = plant(&copy, bug)?;
        let seconds = began.elapsed().as_secs();
        println!(
            "{:width$}  {seconds:>4} s  {}",
            bug.name,
            outcome.line(bug.caught_by())
        );
        if !outcome.is_caught_by(bug.caught_by()) {
            escaped.push(bug.name.as_str());
        }
    }
    copy.refresh()?;

    let count = bugs.len();
    if !escaped.is_empty() {
        bail!(
            "{} of {count} planted bugs were not caught by their test: {}",
            escaped.len(),
            escaped.join(", ")
        );
    }
    println!("all {count} planted bugs are caught");
    Ok(())
}

/// Checks that the named tests pass on the unchanged code: a test that fails without a bug proves nothing.
fn must_pass_unchanged(copy: &Copy<'_>, bugs: &[Bug]) -> Result<()> {
    let tests: BTreeSet<Vec<String>> = bugs.iter().map(Bug::test_arguments).collect();
    println!("without a bug: {} runs", tests.len());
    for test in tests {
        match copy.test(&test)? {
            Outcome::Passed { tests: 1.. } => {}
            other => bail!(
                "`cargo test {}` without a bug: {}",
                test.join(" "),
                other.line("")
            ),
        }
    }
    Ok(())
}

fn plant(copy: &Copy<'_>, bug: &Bug) -> Result<Outcome> {
    if let Err(error) = copy.plant(bug) {
        return Ok(Outcome::NotPlanted(format!("{error:#}")));
    }
    copy.test(&bug.test_arguments())
        .with_context(|| format!("planted bug {}", bug.name))
}
