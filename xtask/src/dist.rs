//! `cargo xtask dist`: shell completions and manual pages of the tool.

use std::path::PathBuf;

use anyhow::Result;

use crate::project::Project;

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to write; by default `dist` in the target folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes `completions/` and `man/`, both from the one table of flags that the tool parses with.
#[cfg(feature = "dist")]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    use anyhow::Context;
    use clap_complete::Shell;

    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| project.target().join("dist"));
    let (completions, man) = (dir.join("completions"), dir.join("man"));
    for folder in [&completions, &man] {
        std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    }
    let mut command = prodigy_storage_cli::command();
    for shell in [
        Shell::Bash,
        Shell::Elvish,
        Shell::Fish,
        Shell::PowerShell,
        Shell::Zsh,
    ] {
        let path = clap_complete::generate_to(shell, &mut command, "prodigy-storage", &completions)
            .with_context(|| format!("can't write the completions of {shell}"))?;
        println!("{}", path.display());
    }
    let before = count(&man)?;
    clap_mangen::generate_to(command, &man).context("can't write the manual pages")?;
    println!("{}: {} pages ({before} before)", man.display(), count(&man)?);
    Ok(())
}

/// How many files a folder has.
#[cfg(feature = "dist")]
fn count(folder: &std::path::Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

/// Calls cargo again, with the tool's table of flags.
#[cfg(not(feature = "dist"))]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let mut command = project.again("dist");
    if let Some(dir) = &options.dir {
        command.arg("--dir").arg(std::path::absolute(dir)?);
    }
    crate::project::must(&mut command)
}
