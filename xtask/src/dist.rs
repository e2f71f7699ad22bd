//! `cargo xtask dist` packs a release archive of the tool, with its completions and manual pages, and a checksum next
//! to it.

use std::path::PathBuf;

use anyhow::Result;

use crate::project::Project;

/// Options of `dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder to write to; by default `dist` in the target folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Pack this binary instead of building one.
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
}

/// Files of the project that go into the archive as they are.
#[cfg(feature = "dist")]
const BESIDE: [(&str, &str); 4] = [
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("crates/prodigy-storage-cli/README.md", "README.md"),
    ("CHANGELOG.md", "CHANGELOG.md"),
];

/// Writes `completions/` and `man/`, both from the table of flags that the tool parses with, then the archive and its
/// checksum.
#[cfg(feature = "dist")]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    use anyhow::Context;

    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| project.target().join("dist"));
    let (completions, man) = (dir.join("completions"), dir.join("man"));
    for folder in [&completions, &man] {
        // Removes files of an earlier version.
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("can't empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    }
    pages(&completions, &man)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            let package = [
                "build",
                "--release",
                "--locked",
                "--package",
                "prodigy-storage-cli",
            ];
            crate::project::must(&mut project.cargo(package))?;
            project.target().join("release/prodigy-storage")
        }
    };
    let name = format!("prodigy-storage-{}-{}", env!("CARGO_PKG_VERSION"), host(project)?);
    let path = dir.join(format!("{name}.tar.gz"));
    let mut files = vec![(binary, "prodigy-storage".to_owned())];
    files.extend(BESIDE.map(|(from, to)| (project.path(from), to.to_owned())));
    for (folder, to) in [(&completions, "completions"), (&man, "man")] {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            files.push((
                entry.path(),
                format!("{to}/{}", entry.file_name().to_string_lossy()),
            ));
        }
    }
    files.sort_by(|one, other| one.1.cmp(&other.1));
    pack(&path, &name, &files).with_context(|| format!("can't write {}", path.display()))?;
    let sum = checksum(&path)?;
    println!("{} ({} files)", path.display(), files.len());
    println!("{}", sum.display());
    Ok(())
}

#[cfg(feature = "dist")]
fn pages(completions: &std::path::Path, man: &std::path::Path) -> Result<()> {
    use anyhow::Context;
    use clap_complete::Shell;
    use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell};

    const NAME: &str = "prodigy-storage";
    // These scripts call the tool for each completion, so they also complete names from the store.
    let scripts: [(&dyn EnvCompleter, &str); 4] = [
        (&Bash, "prodigy-storage.bash"),
        (&Elvish, "prodigy-storage.elv"),
        (&Fish, "prodigy-storage.fish"),
        (&Powershell, "_prodigy-storage.ps1"),
    ];
    for (shell, file) in scripts {
        let mut script = Vec::new();
        shell.write_registration("COMPLETE", NAME, NAME, NAME, &mut script)?;
        std::fs::write(completions.join(file), script).with_context(|| format!("can't write {file}"))?;
    }
    let mut command = prodigy_storage_cli::command();
    // zsh loads a completion only from a file that defines it. So its file has the commands and flags, and does not
    // call the tool.
    clap_complete::generate_to(Shell::Zsh, &mut command, NAME, completions)
        .context("can't write the completions of zsh")?;
    clap_mangen::generate_to(without_help(prodigy_storage_cli::command()), man)
        .context("can't write the manual pages")
}

/// The table of commands without the `help` commands, which need no manual pages.
#[cfg(feature = "dist")]
fn without_help(command: clap::Command) -> clap::Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help)
}

/// The target triple of this machine, for which rustc builds by default.
#[cfg(feature = "dist")]
fn host(project: &Project) -> Result<String> {
    use anyhow::Context;

    let output = project.cargo(["-vV"]).output().context("can't start cargo")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo does not name its host")?.to_owned())
}

/// Packs files below one folder. The archive is reproducible: the same files give the same bytes.
#[cfg(feature = "dist")]
fn pack(path: &std::path::Path, folder: &str, files: &[(PathBuf, String)]) -> Result<()> {
    use anyhow::Context;

    let packed = flate2::write::GzEncoder::new(std::fs::File::create(path)?, flate2::Compression::best());
    let mut archive = tar::Builder::new(packed);
    archive.mode(tar::HeaderMode::Deterministic);
    for (from, to) in files {
        archive
            .append_path_with_name(from, format!("{folder}/{to}"))
            .with_context(|| from.display().to_string())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

/// Writes the checksum of a file beside it, in the format of `sha256sum --check`.
#[cfg(feature = "dist")]
fn checksum(path: &std::path::Path) -> Result<PathBuf> {
    use anyhow::Context;
    use sha2::Digest;

    let bytes = std::fs::read(path)?;
    let sum: String = sha2::Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let beside = path.with_file_name(format!("{name}.sha256"));
    std::fs::write(&beside, format!("{sum}  {name}\n"))?;
    Ok(beside)
}

/// Runs this program again with the cargo feature `dist`, which links the tool's table of flags.
#[cfg(not(feature = "dist"))]
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let mut command = project.again("dist");
    for (flag, path) in [("--dir", &options.dir), ("--binary", &options.binary)] {
        if let Some(path) = path {
            command.arg(flag).arg(std::path::absolute(path)?);
        }
    }
    crate::project::must(&mut command)
}
