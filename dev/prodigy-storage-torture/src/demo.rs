//! `cargo xtask demo`: the main job, end to end, on real input, in a folder of its own.
//!
//! Three processes of the real tool, one in each worktree of a repository, append one job's events. One is killed in the
//! middle and goes on from the checkpoint. What fails goes to the dead-letter queue and is redriven. At the end all is
//! read back by fresh processes and compared with what was sent.

mod failing;
mod git;
mod mapping;
mod plan;
mod proof;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::input::Input;
use crate::project::Project;
use crate::tool::{self, Tool};
pub(crate) use git::{git, has_git};
use plan::Plan;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to work: a folder that is empty or not there. A fresh one in the folder for temporary files unless told.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Remove the folder at the end.
    #[arg(long)]
    remove: bool,
}

/// The job's id.
const JOB: &str = "mapreduce-demo";
/// The folder of the repository, which gives it its name.
const REPO: &str = "shop";

/// Shows the job.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    if !has_git() {
        bail!(
            "the demo makes a git repository with three worktrees, and `git` can't be started; please install it"
        );
    }
    println!("building the tool ...");
    let binary = tool::build(project)?;
    let input = Input::read(project, None)?;
    let folder = fresh(options.dir.as_deref())?;
    println!("\nPRODIGY STORAGE, the main job in {}\n", folder.display());
    let begun = Instant::now();
    let result = show(&binary, &folder, &input, begun);
    if options.remove && result.is_ok() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    result.with_context(|| format!("the demo failed; look into {}", folder.display()))
}

fn show(binary: &Path, folder: &Path, input: &Input, begun: Instant) -> Result<()> {
    let tool = Tool::new(binary, folder)?.at_home();
    let repository = folder.join(REPO);
    let tool = tool.within(&repository);

    println!("1. a git repository with three worktrees, each with an agent");
    git::create(&repository, tool.home())?;
    let plan = Plan::make(input, &tool)?;
    for agent in &plan.agents {
        println!(
            "     {}  {} commits to look at, in {}",
            agent.session,
            agent.tasks.len(),
            agent.shown(folder)
        );
    }

    println!("2. three processes append to one job's log; one is killed and goes on from the checkpoint");
    let course = mapping::run(&tool, &plan)?;

    println!("3. what fails goes to the dead-letter queue and is redriven");
    let redrive = failing::run(&tool, &plan)?;

    println!("4. all is read back by fresh processes and compared with what was sent");
    let proof = proof::prove(&tool, &plan, &redrive)?;

    summary::print(&tool, &plan, &course, &redrive, &proof, begun.elapsed())
}

/// A folder of the demo's own, by its real path.
fn fresh(wanted: Option<&Path>) -> Result<PathBuf> {
    let path = match wanted {
        None => tempfile::Builder::new().prefix("prodigy-demo-").tempdir()?.keep(),
        Some(path) => {
            std::fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))?;
            if std::fs::read_dir(path)?.next().is_some() {
                bail!(
                    "{} is not empty; the demo works in a folder of its own",
                    path.display()
                );
            }
            path.to_owned()
        }
    };
    path.canonicalize()
        .with_context(|| format!("can't find {}", path.display()))
}
