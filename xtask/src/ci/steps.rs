//! The steps of `ci`, in the order in which they run: quick steps first.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::report::Outcome;
use super::{deny, examples, packed, shown};
use crate::project::Project;
use crate::{demo, tidy, torture};

/// A step of `ci`.
#[derive(Debug)]
pub(crate) struct Step {
    /// The name of the step on the command line.
    pub(crate) name: &'static str,
    /// The purpose of the step.
    pub(crate) about: &'static str,
    /// Runs the step; an error counts as a failure.
    pub(crate) run: fn(&Project) -> Result<Outcome>,
}

/// All steps.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "rustfmt has nothing to change, and no line has blanks at its end",
        run: format,
    },
    Step {
        name: "tidy",
        about: "invariants that no compiler or lint holds: links, places of crates, plain English",
        run: tidy_up,
    },
    Step {
        name: "clippy",
        about: "no warning in any target, with all cargo features",
        run: clippy,
    },
    Step {
        name: "features",
        about: "no warning in any crate with the fewest cargo features that suffice",
        run: features,
    },
    Step {
        name: "test",
        about: "unit, integration, property and documentation tests",
        run: test,
    },
    Step {
        name: "models",
        about: "the concurrent parts hold in every order of steps that a scheduler finds",
        run: models,
    },
    Step {
        name: "rustdoc",
        about: "the documentation builds without a warning",
        run: rustdoc,
    },
    Step {
        name: "docs",
        about: "generated pages are what the code says, planted bugs fit the code, and the book's links lead somewhere",
        run: drift,
    },
    Step {
        name: "examples",
        about: "each example runs and its own checks hold",
        run: examples::run,
    },
    Step {
        name: "verify",
        about: "the tool keeps what it promises, on real input",
        run: verify_tool,
    },
    Step {
        name: "crash",
        about: "killed, failed and cut off, nothing acknowledged is lost",
        run: crash_tool,
    },
    Step {
        name: "demo",
        about: "the main job, end to end",
        run: show_demo,
    },
    Step {
        name: "dist",
        about: "the release archive unpacks, its checksum holds, and its tool starts",
        run: packed::run,
    },
    Step {
        name: "deny",
        about: "licences, advisories, sources and duplicates of dependencies",
        run: deny::run,
    },
    Step {
        name: "msrv",
        about: "it compiles with the oldest compiler that is promised",
        run: msrv,
    },
];

/// git's name for the empty tree: compared with it, all lines are new.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Crates and sets of features: each crate has to compile with each of its sets, without its default features.
const SMALL: &[(&str, &str)] = &[
    ("prodigy-storage", "file"),
    ("prodigy-storage", "memory"),
    ("prodigy-storage", "postgres"),
    ("prodigy-storage", "file,tokio"),
    ("prodigy-storage", "memory,tokio"),
    ("prodigy-storage-cache", ""),
    ("prodigy-storage-cli", "file"),
    ("prodigy-storage-cli", "memory"),
    ("prodigy-storage-config", ""),
    ("prodigy-storage-cli", "postgres"),
    ("prodigy-storage-file", ""),
    ("prodigy-storage-file", "backup"),
    ("prodigy-storage-postgres", ""),
    ("prodigy-storage-retry", ""),
];

/// The features of the workspace's build that all steps share. With other features, a step would compile all crates
/// again.
const FEATURES: &str =
    "prodigy-storage/tokio,prodigy-storage/postgres,prodigy-storage-cli/postgres,xtask/dist,xtask/docs";

/// Crates with concurrency models of their parts, behind the feature `model`.
const MODELLED: &[&str] = &[
    "prodigy-storage-cache",
    "prodigy-storage-file",
    "prodigy-storage-retry",
];

/// Prints and runs a command. Fails if the command fails.
fn step(command: &mut Command) -> Result<Outcome> {
    shown::run(command)?;
    Ok(Outcome::Passed)
}

/// Builds the programs and examples of all crates, with the features of [`test`].
pub(super) fn build(project: &Project) -> Result<()> {
    let mut command = project.cargo(["build", "--locked", "--workspace", "--bins", "--examples"]);
    step(command.args(["--features", FEATURES])).map(drop)
}

pub(super) fn has_git() -> bool {
    Command::new("git").arg("--version").output().is_ok()
}

fn format(project: &Project) -> Result<Outcome> {
    step(&mut project.cargo(["fmt", "--all", "--check"]))?;
    if !has_git() || !project.path(".git").exists() {
        return Ok(Outcome::Partly(
            "this is not a git checkout, or git is missing: blanks at line ends were not checked".to_owned(),
        ));
    }
    let texts = ["*.rs", "*.md", "*.toml", ":!*/corpus/*", ":!*/fixtures/*"];
    let mut command = Command::new("git");
    command
        .current_dir(project.root())
        .args(["diff", "--check", EMPTY_TREE, "--"])
        .args(texts);
    step(&mut command)
}

fn tidy_up(project: &Project) -> Result<Outcome> {
    tidy::run(project)?;
    Ok(Outcome::Passed)
}

fn clippy(project: &Project) -> Result<Outcome> {
    step(&mut project.cargo([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

fn features(project: &Project) -> Result<Outcome> {
    // Crates are built one at a time: in a common build, a crate would also get the features that other crates ask
    // for.
    for (name, features) in SMALL {
        let arguments = [
            "clippy",
            "--locked",
            "--package",
            name,
            "--lib",
            "--no-default-features",
            "--features",
            features,
            "--",
            "-D",
            "warnings",
        ];
        step(&mut project.cargo(arguments))?;
    }
    // A configured backend that the program was built without has an error of its own, which this test checks.
    let package = ["test", "--locked", "--package", "prodigy-storage", "--lib"];
    let mut command = project.cargo(package);
    step(command.args(["--no-default-features", "--features", "memory", "open::"]))
}

fn test(project: &Project) -> Result<Outcome> {
    let mut command = project.cargo(["test", "--locked", "--workspace", "--no-fail-fast"]);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        // Many tests wait for the disk, a server or another process.
        let processors = std::thread::available_parallelism()?;
        command.env("RUST_TEST_THREADS", (2 * processors.get()).to_string());
    }
    step(command.args(["--features", FEATURES]))?;
    let mut skipped = Vec::new();
    if has_postgresql() {
        let pooler = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
        if !pooler
            .iter()
            .any(|folder| Path::new(folder).join("pgbouncer").is_file())
        {
            skipped.push("no pgbouncer is installed: the tests behind a pooler were skipped");
        }
        if !can_mount()? {
            skipped.push("no small disk can be mounted: the tests of a server's full disk were skipped");
        }
    } else {
        skipped.push("no PostgreSQL server is installed: the tests of that backend were skipped");
    }
    if !has_chromium() {
        skipped.push("no Chromium is installed: the tests of `report` in a browser were skipped");
    }
    Ok(match skipped.as_slice() {
        [] => Outcome::Passed,
        _ => Outcome::Partly(skipped.join("; ")),
    })
}

/// True if the tests of `report` find a browser on the path.
fn has_chromium() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders.any(|folder| {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        names.iter().any(|name| folder.join(name).is_file())
    })
}

/// True if this user may mount a file system in memory.
fn can_mount() -> Result<bool> {
    let point = tempfile::tempdir()?;
    let run = |command: &mut Command| {
        let status = command
            .arg(point.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    Ok(run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"])) && run(&mut Command::new("umount")))
}

/// True if the tests of the PostgreSQL backend find a server, on the path or in Debian's folder.
pub(super) fn has_postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = debian
        .map(|version| version.path().join("bin"))
        .chain(std::env::split_paths(&path));
    folders.any(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn models(project: &Project) -> Result<Outcome> {
    // Only unit tests of the library run, because only these are compiled with the modelled locks.
    let mut arguments = vec![
        "test".to_owned(),
        "--locked".into(),
        "--lib".into(),
        "--no-fail-fast".into(),
    ];
    for name in MODELLED {
        let package = format!("--package={name}");
        let feature = format!("--features={name}/model");
        arguments.extend([package, feature]);
    }
    arguments.push("model::".into());
    step(&mut project.cargo(arguments))
}

fn rustdoc(project: &Project) -> Result<Outcome> {
    let mut command = project.cargo([
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--all-features",
        "--lib",
    ]);
    step(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn drift(project: &Project) -> Result<Outcome> {
    build(project)?;
    let mut command = Command::new(project.built("xtask"));
    step(command.args(["docs", "--check"]).current_dir(project.root()))
}

fn verify_tool(project: &Project) -> Result<Outcome> {
    build(project)?;
    step(&mut torture::built(project, "verify"))
}

/// Runs the sections of the crash tests, except those whose short form is already a test of a crate.
fn crash_tool(project: &Project) -> Result<Outcome> {
    build(project)?;
    let mut command = torture::built(project, "crash");
    step(command.args(["--quick", "--report", "--skip", "simulated,flips"]))?;
    let skipped = torture::skipped(project)?;
    Ok(match skipped.as_slice() {
        [] => Outcome::Passed,
        some => Outcome::Partly(some.join("; ")),
    })
}

fn show_demo(project: &Project) -> Result<Outcome> {
    if !has_git() {
        return Ok(Outcome::Skipped(
            "there is no git here, and the demo makes a repository".to_owned(),
        ));
    }
    build(project)?;
    let on = |backend| demo::Options {
        dir: None,
        remove: true,
        backend,
    };
    demo::show(project, &on(demo::Backend::File))?;
    if !has_postgresql() {
        return Ok(Outcome::Partly(
            "there is no PostgreSQL server here to run the demo on".to_owned(),
        ));
    }
    demo::show(project, &on(demo::Backend::Postgres))?;
    Ok(match demo::has_namespaces() {
        true => Outcome::Passed,
        false => Outcome::Partly("this machine allows no network namespaces".to_owned()),
    })
}

/// Compiles with the oldest supported compiler: the current compiler if it has that version, otherwise an installed
/// toolchain. This step never installs one.
fn msrv(project: &Project) -> Result<Outcome> {
    let Some(wanted) = project
        .metadata()
        .packages
        .iter()
        .find_map(|package| package.rust_version.clone())
    else {
        return Ok(Outcome::Failed("no crate states its `rust-version`".to_owned()));
    };
    let is_wanted = |version: &str| {
        let rest = version.strip_prefix(wanted.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    let output_of = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let running = output_of("rustc", &["--version"]);
    if running.split_whitespace().nth(1).is_some_and(is_wanted) {
        println!("every other step compiled with {wanted}");
        return Ok(Outcome::Passed);
    }
    let installed = output_of("rustup", &["toolchain", "list"]);
    let toolchain = installed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| is_wanted(name));
    let Some(toolchain) = toolchain else {
        let how = format!("toolchain {wanted} is not installed (`rustup toolchain install {wanted}`)");
        return Ok(Outcome::Skipped(how));
    };
    let mut command = Command::new("rustup");
    command
        .current_dir(project.root())
        .args(["run", toolchain, "cargo", "check", "--locked", "--workspace"]);
    step(&mut command)
}
