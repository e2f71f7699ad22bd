//! `cargo xtask fuzz` runs each target of `prodigy-storage-fuzz` under cargo-fuzz for some minutes.
//!
//! Inputs that libFuzzer generates are kept in the target folder from run to run; the committed corpus is only read. An
//! input that breaks a property is kept in `artifacts`. Copy it to `corpus` under a name that describes it, and the
//! tests replay it from then on.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::{Project, show};

/// The folder of cargo-fuzz.
const FOLDER: &str = "dev/prodigy-storage-fuzz/fuzz";
/// The largest memory of a run in MiB; an input that needs more breaks a property.
const MOST_MEMORY: u32 = 2048;
/// The longest time for an input in seconds; an input that takes longer counts as endless.
const LONGEST: u32 = 10;

/// Options of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The targets to run; by default all.
    targets: Vec<String>,
    /// The minutes for each target.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// List the targets without running them.
    #[arg(long)]
    list: bool,
}

/// Runs the targets one after the other. A finding does not stop the run; the end lists all targets with findings.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let known = targets(project)?;
    if options.list {
        for target in &known {
            println!("{target}");
        }
        return Ok(());
    }
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(*name)) {
        bail!("no target is named `{unknown}`; `cargo xtask fuzz --list` names them");
    }
    needs(
        "rustc",
        "there is no nightly toolchain, which fuzzing needs: `rustup toolchain install nightly`",
        &["--version"],
    )?;
    needs(
        "cargo",
        "cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`",
        &["fuzz", "--version"],
    )?;

    let chosen = known
        .iter()
        .filter(|name| options.targets.is_empty() || options.targets.contains(name));
    let mut found = Vec::new();
    for target in chosen {
        let grown = project.target().join("fuzz-corpus").join(target);
        fs::create_dir_all(&grown).with_context(|| format!("can't make {}", grown.display()))?;
        let mut command = nightly("cargo");
        command
            .current_dir(project.root())
            .args(["fuzz", "run", "--fuzz-dir", FOLDER, "--target-dir"]);
        command.arg(project.target().join("fuzz")).arg(target).arg(&grown);
        command
            .arg(project.path(FOLDER).join("corpus").join(target))
            .arg("--");
        command.arg(format!("-max_total_time={}", options.minutes * 60));
        command
            .arg(format!("-rss_limit_mb={MOST_MEMORY}"))
            .arg(format!("-timeout={LONGEST}"));
        // A compression thread may still be running when the process exits.
        command.args(["-detect_leaks=0", "-print_final_stats=1"]);
        println!("\n==> {target}\n$ {}", show(&command));
        let status = command.status().context("can't start rustup")?;
        if !status.success() {
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        bail!(
            "a property does not hold, or the target does not build: {}; see {FOLDER}/artifacts",
            found.join(", ")
        );
    }
    Ok(())
}

/// The targets: one file each in `dev/prodigy-storage-fuzz/fuzz/fuzz_targets`.
fn targets(project: &Project) -> Result<BTreeSet<String>> {
    let folder = project.path(FOLDER).join("fuzz_targets");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))? {
        let name = entry?.file_name();
        names.extend(name.to_string_lossy().strip_suffix(".rs").map(str::to_owned));
    }
    Ok(names)
}

/// A program of the nightly toolchain, without the variables of the toolchain that runs this program.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || [
                    "CARGO",
                    "CARGO_MANIFEST_DIR",
                    "RUSTC",
                    "RUSTDOC",
                    "RUSTUP_TOOLCHAIN",
                ]
                .contains(&name)
        });
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// Fails with the message `missing` if the program is not installed.
fn needs(program: &str, missing: &'static str, arguments: &[&str]) -> Result<()> {
    let mut command = nightly(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!(missing),
        Err(_) => bail!("rustup is not here, and with it no nightly toolchain, which fuzzing needs"),
    }
}
