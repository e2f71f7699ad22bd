//! `cargo xtask crash` causes failures of many kinds, and checks after each that no data is lost.
//!
//! Each section causes one kind of failure. It runs the real tool on real input in a folder of its own, and fails if
//! acknowledged data is lost, duplicated, torn or wrong. A section that the machine does not support is skipped with a
//! notice.

mod audit;
mod clocks;
mod deletions;
mod dialogue;
mod faults;
mod flips;
mod letters;
mod limits;
mod many;
mod moves;
mod places;
mod pool;
mod postgres;
mod power;
mod random;
mod report;
mod scenario;
mod section;
mod simulated;
mod strace;
mod syscalls;
pub(crate) mod victims;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::input::Input;
use crate::project::Project;
use crate::tool;
use report::Report;
use section::{Lab, Section, mixed};

/// Options of `crash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The number of kills at random moments.
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: u32,
    /// The duration in seconds of each section that works for a given time.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Run a short form of each section, as `ci` does.
    #[arg(long)]
    quick: bool,
    /// The seed of an earlier run, to repeat its random choices.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// The JSON lines to append, instead of the bundled ones.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Also print all figures as one table, and write them as JSON to the target folder.
    #[arg(long)]
    report: bool,
    /// Only these sections, by name.
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<String>,
    /// All sections except these, by name.
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the sections without running them.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn asks_for(&self, section: &Section) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == section.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}

/// The sections, in the order in which they run.
const SECTIONS: &[Section] = &[
    Section {
        name: "simulated",
        about: "every call of the file backend is the last before a loss of power, on a simulated disk",
        run: simulated::run,
    },
    Section {
        name: "flips",
        about: "every byte of a small store flipped, one at a time",
        run: flips::run,
    },
    Section {
        name: "kills",
        about: "SIGKILL at random moments while events are acknowledged",
        run: random::run,
    },
    Section {
        name: "syscalls",
        about: "SIGKILL at every system call that touches the store",
        run: syscalls::run,
    },
    Section {
        name: "faults",
        about: "system calls that fail, and writes and reads that do a part",
        run: faults::run,
    },
    Section {
        name: "limits",
        about: "sizes of files, open files, rights and disks that are used up",
        run: limits::run,
    },
    Section {
        name: "power",
        about: "loss of power on real file systems, with what was not synced gone",
        run: power::run,
    },
    Section {
        name: "victims",
        about: "planted programs that break a promise: the loss of power has to catch each of them",
        run: victims::run,
    },
    Section {
        name: "many",
        about: "many processes at once on one store, some of them killed",
        run: many::run,
    },
    Section {
        name: "letters",
        about: "pushers, takers, extenders, operators and compactors on one queue, killed and stopped; redrivers whose leases are short",
        run: letters::run,
    },
    Section {
        name: "deletions",
        about: "a job that is deleted again and again under writers, readers and followers, all of them killed",
        run: deletions::run,
    },
    Section {
        name: "moves",
        about: "backups beside writers; backups, restores, exports and imports struck at their system calls and run again",
        run: moves::run,
    },
    Section {
        name: "clocks",
        about: "many processes whose clocks differ and step back and forth, some of them killed or stopped",
        run: clocks::run,
    },
    Section {
        name: "places",
        about: "the root restored, moved, replaced, removed, linked, read-only or another user's, under running processes",
        run: places::run,
    },
    Section {
        name: "postgres",
        about: "sixteen processes on a database, killed, while its server is killed and its sessions are terminated",
        run: postgres::run,
    },
];

/// Sections that only kill or hinder processes. They run on a file system in memory, which gives the same results much
/// faster.
const IN_MEMORY: &[&str] = &["syscalls", "faults", "limits", "moves"];
/// The folder of a file system in memory.
const MEMORY: &str = "/dev/shm";

fn scratch(section: &str) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("prodigy-crash-");
    if IN_MEMORY.contains(&section)
        && let Ok(folder) = builder.tempdir_in(MEMORY)
    {
        return Ok(folder);
    }
    Ok(builder.tempdir()?)
}

/// The path of this program, even if a build has replaced its file.
fn program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    Ok(std::env::current_exe()?)
}

/// Runs the sections, and prints their counts and what they skipped.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    if options.list {
        for section in SECTIONS {
            println!("{:<10} {}", section.name, section.about);
        }
        return Ok(());
    }
    for name in options.only.iter().chain(&options.skip) {
        if !SECTIONS.iter().any(|section| section.name == name) {
            bail!("no section is named `{name}`; `cargo xtask crash --list` names them");
        }
    }
    // A copy of the tool, so that a concurrent build changes nothing.
    let bench = tempfile::Builder::new().prefix("prodigy-crash-tool-").tempdir()?;
    let (binary, served) = (
        bench.path().join("prodigy-storage"),
        bench.path().join("torture-served"),
    );
    let this = bench.path().join("prodigy-storage-torture");
    std::fs::copy(program()?, &this)?;
    std::fs::copy(tool::build(project)?, &binary)?;
    std::fs::copy(
        project.build("prodigy-storage-torture", "torture-served")?,
        &served,
    )?;
    let input = Input::read(project, options.input.as_deref())?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("crash: --seed {seed}, input {}", input.path().display());
    let mut report = Report::new(seed, options.quick);
    for section in SECTIONS.iter().filter(|section| options.asks_for(section)) {
        println!("{}: {}", section.name, section.about);
        let folder = scratch(section.name)?;
        let lab = Lab {
            project,
            binary: &binary,
            this: &this,
            served: &served,
            input: &input,
            quick: options.quick,
            seed: mixed(seed, section.name),
            kills: options.kills,
            time: options.seconds.map(Duration::from_secs),
            scratch: folder.path(),
        };
        let begun = Instant::now();
        let done = (section.run)(&lab);
        let took = begun.elapsed();
        let done = done.map_err(|error| {
            let kept = folder.keep();
            error.context(format!(
                "`crash --only {} --seed {seed}` failed; its folder is kept in {}",
                section.name,
                kept.display()
            ))
        });
        report.add(section.name, took, done);
    }
    if options.report {
        report.print();
        report.write(&project.target().join("crash-report.json"))?;
    }
    match report.failed() {
        0 => Ok(()),
        some => bail!("{some} sections of `crash --seed {seed}` failed"),
    }
}
