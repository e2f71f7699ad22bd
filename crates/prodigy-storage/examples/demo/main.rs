//! An example job from beginning to end, on real input: `cargo xtask demo`.
//!
//! Three processes append the events of one job, each in its own worktree of a git repository. One process is killed, and
//! resumed from the checkpoint. Work items that fail become dead letters and are redriven. At the end a fresh process reads
//! everything back and compares it with the input.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod agents;
mod plan;
mod proof;
mod redrive;
mod repository;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{ErrorKind, Repo, SessionId, Storage};
use support::{Outcome, check};

/// The job's id.
const JOB: &str = "mapreduce-demo";
/// The folder of the git repository. The store names the repository after it.
const REPO: &str = "shop";
/// The variable with the connection string of a database; without it, the store is a folder.
const DATABASE: &str = "PRODIGY_DEMO_DATABASE";
/// The variable that asks for a network namespace for each agent.
const APART: &str = "PRODIGY_DEMO_APART";

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // The demo starts itself again for its agents, and for the process that verifies the result.
    match words.as_slice() {
        ["agent", store, worktree, session] => agents::agent(store.as_ref(), worktree.as_ref(), session),
        ["prove", store, tool, report] => proof::prove(store.as_ref(), tool, &serde_json::from_str(report)?),
        options => demo(&Options::parse(options)?),
    }
}

/// Options of the command line.
#[derive(Default)]
struct Options {
    /// An empty or absent folder to work in; a new temporary one if it is not given.
    dir: Option<PathBuf>,
    /// Remove the folder at the end.
    remove: bool,
    /// The command-line tool, for the commands that the summary suggests.
    tool: Option<String>,
}

impl Options {
    fn parse(mut words: &[&str]) -> Outcome<Self> {
        let mut options = Self::default();
        loop {
            words = match words {
                [] => return Ok(options),
                ["--remove", rest @ ..] => {
                    options.remove = true;
                    rest
                }
                ["--dir", dir, rest @ ..] => {
                    options.dir = Some(dir.into());
                    rest
                }
                ["--tool", tool, rest @ ..] => {
                    options.tool = Some((*tool).to_owned());
                    rest
                }
                [word, ..] => {
                    return Err(format!("unknown `{word}`: use --dir DIR, --remove, --tool PATH").into());
                }
            }
        }
    }
}

fn demo(options: &Options) -> Outcome {
    let folder = work_folder(options.dir.as_deref())?;
    println!("PRODIGY STORAGE, the main job in {}\n", folder.display());
    run(&folder, options.tool.as_deref().unwrap_or("prodigy-storage")).map_err(|error| {
        format!(
            "the demo failed, its files are in {}: {error:#}",
            folder.display()
        )
    })?;
    if options.remove {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn run(folder: &Path, tool: &str) -> Outcome {
    let started = Instant::now();
    let store = folder.join("store");
    let repository = folder.join(REPO);

    println!("1. a git repository with three worktrees, each with an agent");
    repository::create(&repository)?;
    let repo = open(&store)?.repo_at(&repository)?;
    let plan = plan::make(&repo, &store, &repository)?;
    let job = repo.job(JOB)?;

    println!("2. three processes append to one job's log; one is killed and resumed from the checkpoint");
    let map = agents::map(&store, &repo, &job, &plan)?;

    println!("3. failed work items become dead letters and are redriven");
    let redrive = redrive::run(&job)?;

    println!("4. a fresh process reads everything back and compares it with the input");
    let report = proof::Report {
        seconds: started.elapsed().as_secs_f64(),
        map,
        redrive,
    };
    let status = itself()?
        .arg("prove")
        .arg(&store)
        .arg(tool)
        .arg(serde_json::to_string(&report)?)
        .status()?;
    check(status.success(), "the proof succeeds")
}

/// Opens the store with default settings, ignoring the environment of the user. `cargo xtask demo --backend postgres`
/// names a database.
fn open(store: &Path) -> prodigy_storage::Result<Storage> {
    let builder = Storage::builder().environment(MapEnvironment::new());
    match std::env::var(DATABASE) {
        Ok(url) => builder
            .set("backend", "postgres")
            .set("backend_config.url", url)
            .open(),
        Err(_) => builder.base_dir(store).open(),
    }
}

/// The folder for a session's worktree. With a database it is beside the repository, since the store has no folder.
fn worktree(repo: &Repo, store: &Path, session: &str) -> Outcome<PathBuf> {
    match repo.worktrees().path(&SessionId::new(session)?) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(store.with_file_name("worktrees").join(session))
        }
        path => Ok(path?),
    }
}

/// A command that starts this program again as an agent. If requested, in a network namespace of its own, in which it
/// can reach only the database's socket.
fn agent() -> Outcome<std::process::Command> {
    if std::env::var_os(APART).is_none() {
        return itself();
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "--"]).arg(std::env::current_exe()?);
    Ok(command)
}

/// A command that starts this program again.
fn itself() -> Outcome<std::process::Command> {
    Ok(std::process::Command::new(std::env::current_exe()?))
}

/// An empty folder for this run, by its canonical path.
fn work_folder(wanted: Option<&Path>) -> Outcome<PathBuf> {
    let path = match wanted {
        None => tempfile::Builder::new().prefix("prodigy-demo-").tempdir()?.keep(),
        Some(path) => {
            std::fs::create_dir_all(path)?;
            let shown = path.display();
            check(
                std::fs::read_dir(path)?.next().is_none(),
                &format!("{shown} is empty"),
            )?;
            path.to_owned()
        }
    };
    Ok(path.canonicalize()?)
}
