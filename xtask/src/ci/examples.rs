//! Runs each example of the facade crate, and some of them on each backend.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

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
/// The number of homes in which that example is killed, and of kills in each.
const KILLED: (u64, u64) = (8, 5);
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
    survives_kills(project)?;
    says_what_fails(project)?;
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

/// Kills the example that needs git, at moments in each of its phases, and starts it again in the same home. At the end
/// it has to find each item done and no dead letter left, and so does each run that ends before its kill.
fn survives_kills(project: &Project) -> Result<()> {
    let (homes, kills) = KILLED;
    let (mut killed, mut random) = (0, 14_u64);
    let mut below = |most: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % most
    };
    println!("$ {WITH_GIT}, killed {kills} times in each of {homes} homes");
    for _ in 0..homes {
        let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
        for _ in 0..kills {
            let mut child = example(project, WITH_GIT, home.path())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut printed = BufReader::new(child.stdout.take().context("no output")?).lines();
            // It prints a line for each item, and a few around them.
            let most = usize::try_from(1 + below(16))?;
            let is_at_work = printed.by_ref().take(most).count() == most;
            if is_at_work {
                thread::sleep(Duration::from_millis(below(40)));
                child.kill()?;
                killed += 1;
            }
            let status = child.wait()?;
            if !is_at_work && !status.success() {
                bail!("example `{WITH_GIT}` after {killed} kills: {status}");
            }
        }
        let mut command = example(project, WITH_GIT, home.path());
        must(&mut command).with_context(|| format!("example `{WITH_GIT}` after {killed} kills"))?;
        must(&mut command).with_context(|| format!("example `{WITH_GIT}` on a finished job"))?;
    }
    println!("`{WITH_GIT}` was killed {killed} times, and each item is done");
    Ok(())
}

/// Runs the example that needs git where its first coordinator fails, since a file is at the path of a folder. It has to
/// end with that error.
fn says_what_fails(project: &Project) -> Result<()> {
    let home = tempfile::Builder::new().prefix("prodigy-example-").tempdir()?;
    let in_the_way = home.path().join(".prodigy/dlq");
    std::fs::create_dir(home.path().join(".prodigy"))?;
    std::fs::write(&in_the_way, "not a folder")?;
    println!("$ {WITH_GIT}, with a file at the path of a folder");
    let mut command = example(project, WITH_GIT, home.path());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    // It takes a second.
    for _ in 0..600 {
        if child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    // Does nothing to a program that has ended.
    child.kill()?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !said.contains(".prodigy/dlq") {
        bail!(
            "example `{WITH_GIT}` does not say what failed: {}: {said}",
            output.status
        );
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
