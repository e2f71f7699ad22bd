//! `cargo xtask mutants`: bugs planted into a copy of the project, each of which its tests have to catch.
//!
//! A mutant is a patch in `xtask/mutants`, applied to the code that is shipped; nothing in that code knows of it. Its
//! first lines say what it breaks, which test to run, and which property or test has to fail:
//!
//! ```text
//! # what: a scan ends one record early
//! # test: -p prodigy-storage-memory --test it -- --exact conformance::every_property_holds
//! # caught by: appended_is_read
//! ```
//!
//! A patch that no longer applies, or that no longer compiles, is a failure like one that survives.

mod copy;
mod outcome;
#[cfg(feature = "docs")]
mod page;
mod patch;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};

#[cfg(feature = "docs")]
pub(crate) use page::PAGE;

use crate::project::Project;
use copy::Copy;
use outcome::Outcome;
use patch::Patch;

/// Options of `mutants`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these; all without a name.
    names: Vec<String>,
    /// Name them, and run nothing.
    #[arg(long)]
    list: bool,
}

/// The page that names them, as the patches say it.
#[cfg(feature = "docs")]
pub(crate) fn page(project: &Project) -> Result<String> {
    page::render(&Patch::read_all(project)?)
}

/// Plants each bug and checks that it is caught.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let patches = Patch::select(Patch::read_all(project)?, &options.names)?;
    let width = patches.iter().map(|patch| patch.name.len()).max().unwrap_or(0);
    if options.list {
        for patch in &patches {
            println!("{:width$}  {}", patch.name, patch.what);
        }
        return Ok(());
    }

    let copy = Copy::open(project)?;
    copy.refresh()?;
    must_pass_unchanged(&copy, &patches)?;

    let mut escaped = Vec::new();
    for patch in &patches {
        let began = Instant::now();
        copy.refresh()?;
        let outcome = plant(&copy, patch)?;
        let seconds = began.elapsed().as_secs();
        println!(
            "{:width$}  {seconds:>4} s  {}",
            patch.name,
            outcome.told(&patch.caught_by)
        );
        if !outcome.is_caught_by(&patch.caught_by) {
            escaped.push(patch.name.as_str());
        }
    }
    copy.refresh()?;

    let count = patches.len();
    if !escaped.is_empty() {
        bail!(
            "{} of {count} mutants were not caught by what should catch them: {}",
            escaped.len(),
            escaped.join(", ")
        );
    }
    println!("all {count} mutants are caught");
    Ok(())
}

/// A change of the code moves what a patch is planted in: then the patch is renewed with it.
pub(crate) fn must_apply(project: &Project) -> Result<()> {
    let patches = Patch::read_all(project)?;
    let mut stale = Vec::new();
    for patch in &patches {
        if let Some(why) = copy::git_apply(project.root(), patch, &["--check"])? {
            stale.push(format!("{}: {why}", patch.name));
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} of {} planted bugs no longer apply:\n{}",
            stale.len(),
            patches.len(),
            stale.join("\n")
        );
    }
    println!("all {} planted bugs apply", patches.len());
    Ok(())
}

/// A test that fails anyway catches nothing: the tests that the patches name have to pass on the code as it is.
fn must_pass_unchanged(copy: &Copy<'_>, patches: &[Patch]) -> Result<()> {
    let tests: BTreeSet<&[String]> = patches.iter().map(|patch| patch.test.as_slice()).collect();
    println!("without a mutant: {} runs", tests.len());
    for test in tests {
        match copy.test(test)? {
            Outcome::Passed { tests: 1.. } => {}
            other => bail!(
                "`cargo test {}` without a mutant: {}",
                test.join(" "),
                other.told("")
            ),
        }
    }
    Ok(())
}

fn plant(copy: &Copy<'_>, patch: &Patch) -> Result<Outcome> {
    if let Some(why) = copy.apply(patch)? {
        return Ok(Outcome::NotApplied(why));
    }
    copy.test(&patch.test)
        .with_context(|| format!("mutant {}", patch.name))
}
