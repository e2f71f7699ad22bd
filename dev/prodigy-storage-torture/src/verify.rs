//! The checks of `cargo xtask verify`: each checks a promise of the tool on real input.

mod dead_letters;
mod documents;
mod events;
mod names;
mod refusals;
mod repositories;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::input::Input;
use crate::project::Project;
use crate::tool::{self, Tool};

/// Options of `verify`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// The JSON lines to work on; by default the bundled ones.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The JSON document to save as a checkpoint; by default, one that is made of the input.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Only these checks, by name.
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
}

/// The input that all checks share.
#[derive(Debug)]
struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    input: Input,
    /// A large JSON document, which is saved as a checkpoint.
    document: Vec<u8>,
}

impl Bench {
    /// The tool, with a store for the check with this name.
    fn tool(&self, name: &str) -> Result<Tool> {
        Tool::new(&self.binary, &self.folder.join(name))
    }
}

/// A check. It returns its figures, or the reason why it was skipped.
type Check = fn(&Bench) -> Result<Seen>;

/// The outcome of a check that did not fail.
#[derive(Debug)]
enum Seen {
    /// The promise holds; the text has the figures.
    Holds(String),
    /// The check can't run here, for this reason.
    Skipped(String),
}

const CHECKS: &[(&str, Check)] = &[
    ("round-trip", events::round_trip),
    ("many-writers", events::many_writers),
    ("same-batch", events::same_batch),
    ("bad-line", events::bad_line),
    ("checkpoint", documents::checkpoint),
    ("redriver", dead_letters::redriver),
    ("dlq-file", dead_letters::file),
    ("names", names::hostile),
    ("nothing-made", refusals::nothing_made),
    ("bad-config", refusals::bad_config),
    ("lock", refusals::lock),
    ("repositories", repositories::apart_and_together),
];

/// Runs all checks, even if one fails.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| !CHECKS.iter().any(|(known, _)| known == name))
    {
        let known: Vec<_> = CHECKS.iter().map(|(name, _)| *name).collect();
        bail!("no check is named `{unknown}`; there are {}", known.join(", "));
    }
    let binary = tool::build(project)?;
    let input = Input::read(project, options.input.as_deref())?;
    let document = match &options.checkpoint {
        Some(path) => std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?,
        None => format!("[{}]", input.lines().join(",")).into_bytes(),
    };
    let folder = tempfile::Builder::new().prefix("prodigy-verify-").tempdir()?;
    println!(
        "verify: {} events of {}",
        input.lines().len(),
        input.path().display()
    );
    let bench = Bench {
        binary,
        folder: folder.path().to_owned(),
        input,
        document,
    };
    let asked = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let (mut held, mut skipped, mut failed) = (0, 0, 0);
    for (name, check) in CHECKS.iter().filter(|(name, _)| asked(name)) {
        let begun = Instant::now();
        let result = check(&bench);
        let seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(Seen::Holds(figures)) => {
                held += 1;
                println!("  {name:<13} {seconds:>6.1} s  holds: {figures}");
            }
            Ok(Seen::Skipped(why)) => {
                skipped += 1;
                println!("  {name:<13} {seconds:>6.1} s  SKIPPED: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("  {name:<13} {seconds:>6.1} s  FAILED: {error:#}");
            }
        }
    }
    println!("verify: {held} checks hold, {failed} failed, {skipped} skipped");
    if failed > 0 {
        let kept = folder.keep();
        bail!(
            "{failed} checks failed; their stores are kept in {}",
            kept.display()
        );
    }
    Ok(())
}

/// The folder of a check.
fn folder(bench: &Bench, name: &str) -> Result<PathBuf> {
    let path = bench.folder.join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
    Ok(path)
}

/// Every file and folder below a path with its bytes, to detect changes.
fn snapshot(path: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let files = crate::tree::files(path)?;
    files
        .into_iter()
        .map(|file| Ok((file.clone(), std::fs::read(&file)?)))
        .collect()
}
