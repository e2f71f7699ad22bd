//! `cargo xtask demo` runs the example `demo` of the facade.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::project::{Project, must};
use crate::server::Server;

/// Options of `demo`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// An empty or absent folder to work in; by default a new temporary folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Remove the folder at the end.
    #[arg(long)]
    pub(crate) remove: bool,
    /// The backend for the data; `postgres` starts a private server.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,
}

/// A backend that the demo runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Backend {
    #[default]
    File,
    Postgres,
}

/// Builds the example, and the tool, since the summary suggests its commands; then runs it.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    println!("building ...");
    must(&mut project.cargo(["build", "--quiet", "--locked", "--package", "prodigy-storage-cli"]))?;
    let example = ["--locked", "--package", "prodigy-storage", "--example", "demo"];
    let mut build = project.cargo(["build", "--quiet"]);
    build.args(example);
    if options.backend == Backend::Postgres {
        build.args(["--features", "postgres"]);
    }
    must(&mut build)?;
    show(project, options)
}

/// Runs the example, which is built already. With a database, the example's three processes share only the database.
pub(crate) fn show(project: &Project, options: &Options) -> Result<()> {
    let mut command = Command::new(project.built("examples/demo"));
    command.current_dir(project.root()).stdin(Stdio::null());
    let server = match options.backend {
        Backend::File => None,
        Backend::Postgres => {
            let Some(server) = Server::start() else {
                bail!("the demo on `postgres` needs the programs of a PostgreSQL server");
            };
            command.env("PRODIGY_DEMO_DATABASE", server.socket_url());
            if has_namespaces() {
                println!("each of the three processes has a network namespace of its own");
                command.env("PRODIGY_DEMO_APART", "1");
            } else {
                println!(
                    "SKIPPED: this machine allows no network namespaces: the three processes share that of this one"
                );
            }
            Some(server)
        }
    };
    command.arg("--tool").arg(project.built("prodigy-storage"));
    if let Some(dir) = &options.dir {
        command.arg("--dir").arg(std::path::absolute(dir)?);
    }
    if options.remove {
        command.arg("--remove");
    }
    let ended = must(&mut command);
    drop(server);
    ended
}

/// True if a process may be started in a network namespace of its own.
pub(crate) fn has_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "true"]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
