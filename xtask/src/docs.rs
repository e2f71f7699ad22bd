//! `cargo xtask docs` writes the pages that are generated from the code, or checks them.

use anyhow::Result;

use crate::project::Project;

/// Options of `docs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a page is out of date.
    #[arg(long)]
    check: bool,
}

/// The page of the configuration's keys.
const CONFIGURATION: &str = "docs/reference/configuration.md";

/// Writes or checks the generated pages. Also checks that the planted bugs fit the code, and that the links of the
/// book are not broken.
#[cfg(feature = "docs")]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    page(
        project,
        CONFIGURATION,
        &prodigy_storage_config::reference_markdown(),
        options,
    )?;
    page(
        project,
        crate::mutants::PAGE,
        &crate::mutants::page(project)?,
        options,
    )?;
    crate::book::check(project)
}

#[cfg(feature = "docs")]
fn page(project: &Project, name: &str, wanted: &str, options: &Options) -> Result<()> {
    use anyhow::{Context, bail};

    let path = project.path(name);
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("can't read {name}")),
    };
    if found.as_deref() == Some(wanted) {
        println!("{name} is what the code says");
        return Ok(());
    }
    if options.check {
        let place = found.map_or_else(
            || "there is no such file".to_owned(),
            |found| {
                let same = found
                    .lines()
                    .zip(wanted.lines())
                    .take_while(|(ours, theirs)| ours == theirs)
                    .count();
                format!("they differ from line {} on", same + 1)
            },
        );
        bail!("{name} is not what the code says: {place}; run `cargo xtask docs` and commit the result");
    }
    std::fs::write(&path, wanted).with_context(|| format!("can't write {name}"))?;
    println!("{name} written");
    Ok(())
}

/// Runs this program again with the cargo feature `docs`, which links the crates that the pages are generated from.
#[cfg(not(feature = "docs"))]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let mut command = project.again("docs");
    if options.check {
        command.arg("--check");
    }
    println!("{CONFIGURATION}: building what it is generated from");
    crate::project::must(&mut command)
}
