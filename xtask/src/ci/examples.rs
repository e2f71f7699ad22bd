//! Runs each example of the facade crate, and some of them on each backend.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::report::Outcome;
use super::steps::{build, has_git};
use crate::project::{Project, must};
use crate::server::Server;

/// The crate of the examples.
const CRATE: &str = "prodigy-storage";
/// The example whose output must be the same on every backend.
const SAME: &str = "job";
/// An example that needs git, and runs on every backend, too.
const WITH_GIT: &str = "orchestrator";
/// The backends that an example runs on.
const BACKENDS: [&str; 3] = ["file", "memory", "postgres"];
/// The largest number of lines of code, without comments and blank lines, of the examples that are promised to be
/// short.
const SHORT: [(&str, usize); 2] = [("orchestrator", 150), ("third_party_store/ours", 150)];
/// A configuration that is valid for every backend.
const SHARED: &str = "storage:\n  timeout: 20s\n  enable_cache: true\n  retry_policy:\n    max_retries: 5\n";

/// Runs each example with a home folder of its own.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let package = project
        .metadata()
        .packages
        .iter()
        .find(|package| package.name == CRATE);
    let package = package.with_context(|| format!("there is no crate {CRATE}"))?;
    let is_example = |kind: &String| kind == "example";
    let names: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(is_example))
        .map(|target| target.name.as_str())
        // The demo needs git, so it is a step of its own.
        .filter(|name| *name != "demo" && *name != WITH_GIT)
        .collect();
    if names.is_empty() {
        bail!("{CRATE} has no example");
    }
    build(project)?;
    for name in &names {
        let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
        let mut command = example(project, name, home.path());
        println!("$ {name}");
        must(&mut command).with_context(|| format!("example `{name}`"))?;
    }
    println!("{} examples ran", names.len());
    are_short(project)?;
    on_each_backend(project)?;
    if !has_git() {
        let why = format!("there is no git here, and the example `{WITH_GIT}` makes a repository");
        return Ok(Outcome::Partly(why));
    }
    let server = Server::start();
    for backend in BACKENDS {
        let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
        let mut command = example(project, WITH_GIT, home.path());
        if backend == "postgres" {
            let Some(server) = &server else {
                let why = format!("there is no PostgreSQL server here to run `{WITH_GIT}` on");
                return Ok(Outcome::Partly(why));
            };
            command.env("PRODIGY_STORAGE_URL", server.url());
        }
        println!("$ PRODIGY_STORAGE_TYPE={backend} {WITH_GIT}");
        must(command.env("PRODIGY_STORAGE_TYPE", backend))
            .with_context(|| format!("example `{WITH_GIT}` on the {backend} backend"))?;
    }
    Ok(Outcome::Passed)
}

/// Fails if an example is longer than promised.
fn are_short(project: &Project) -> Result<()> {
    for (name, most) in SHORT {
        let path = project.path(format!("crates/{CRATE}/examples/{name}.rs"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let lines = text.lines().filter(is_code).count();
        println!("`{name}` has {lines} lines of code, of at most {most}");
        if lines > most {
            bail!("example `{name}` has {lines} lines of code, and promises at most {most}");
        }
    }
    Ok(())
}

/// The command of a built example, with a home folder of its own and no other environment variables.
fn example(project: &Project, name: &str, home: &Path) -> Command {
    let mut command = Command::new(project.built(&format!("examples/{name}")));
    command
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// Runs one example with the same configuration on each backend. The output must not differ.
fn on_each_backend(project: &Project) -> Result<()> {
    let printed = |backend: &str| -> Result<String> {
        let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
        let file = home.path().join("storage.yaml");
        std::fs::write(&file, SHARED)?;
        let mut command = example(project, SAME, home.path());
        command
            .env("PRODIGY_CONFIG", &file)
            .env("PRODIGY_STORAGE_TYPE", backend);
        println!("$ PRODIGY_STORAGE_TYPE={backend} {SAME}");
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("example `{SAME}` on the {backend} backend: {}", output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    };
    let (file, memory) = (printed("file")?, printed("memory")?);
    print!("{file}");
    if file.is_empty() || file != memory {
        bail!("example `{SAME}` says on the file backend:\n{file}and on the memory backend:\n{memory}");
    }
    println!("`{SAME}` says the same on the file and the memory backend");
    Ok(())
}
