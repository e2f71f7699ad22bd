//! `cargo xtask bench` builds the benchmarks in the release profile, as users build the library, and runs them beside
//! their peers.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::Result;

use crate::project::{Project, must};

/// Options of `bench`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Run another measurement instead of the table of bars.
    #[arg(value_enum)]
    what: Option<What>,
    /// A tenth of the sizes, fewer rounds, a wider margin: under three minutes on a quiet machine.
    #[arg(long)]
    quick: bool,
    /// Only these rows, by name.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// List the rows without measuring.
    #[arg(long)]
    list: bool,
    /// Fail if a row misses its bar by more than the margin for noise.
    #[arg(long)]
    check: bool,
    /// Also write the raw numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The number of measured rounds.
    #[arg(long, value_name = "N")]
    rounds: Option<u16>,
    /// The folder to work in; by default the target folder.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The seed of an earlier run, to repeat its random inputs.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Leave `docs/assurance/performance.md` and its plots unchanged; implied by `--quick`, and by `--only` without `--write`.
    #[arg(long)]
    no_write: bool,
    /// Put the rows of `--only` into `docs/assurance/performance.md`; the other rows keep their figures.
    #[arg(long, requires = "only", conflicts_with_all = ["quick", "no_write"])]
    write: bool,
}

/// Measurements other than the table of bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Instructions and system calls per operation, by callgrind and strace.
    Counts,
    /// Parts of the crates alone: serialise, checksum, merge, retry, cache, names.
    Parts,
}

/// The arguments of cargo that build and run the benchmarks, together with the peers.
const RUN: &[&str] = &[
    "run",
    "--release",
    "--quiet",
    "--locked",
    "--package",
    "prodigy-storage-bench",
    "--features",
    "peers",
    "--",
];
/// The arguments of cargo that build the tool as it is shipped. `PARTS` runs the micro-benchmarks.
const TOOL: &[&str] = &[
    "build",
    "--release",
    "--quiet",
    "--locked",
    "--package",
    "prodigy-storage-cli",
];
const PARTS: &[&str] = &[
    "bench",
    "--locked",
    "--package",
    "prodigy-storage-bench",
    "--benches",
];

/// Runs the benchmarks.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    if options.what == Some(What::Parts) {
        return must(&mut project.cargo(PARTS));
    }
    if options.what.is_none() && !options.list {
        must(&mut project.cargo(TOOL))?;
    }
    must(
        &mut project.cargo(
            RUN.iter().map(OsStr::new).chain(
                options
                    .arguments(project)
                    .iter()
                    .map(|argument| argument.as_os_str()),
            ),
        ),
    )
}

impl Options {
    /// The arguments of the benchmark program.
    fn arguments(&self, project: &Project) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        let mut add = |words: &[&OsStr]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let counts = self.what == Some(What::Counts);
        if counts {
            add(&["counts".as_ref()]);
        }
        if let Some(folder) = &self.folder {
            add(&["--folder".as_ref(), folder.as_ref()]);
        }
        if self.write || !(self.no_write || self.quick || !self.only.is_empty()) {
            add(&["--docs".as_ref(), project.path("docs/assurance").as_ref()]);
        }
        if counts {
            return arguments;
        }
        let flags = [
            (self.quick, "--quick"),
            (self.list, "--list"),
            (self.check, "--check"),
        ];
        for (_, flag) in flags.iter().filter(|(asked, _)| *asked) {
            add(&[flag.as_ref()]);
        }
        for row in &self.only {
            add(&["--only".as_ref(), row.as_ref()]);
        }
        if let Some(json) = &self.json {
            add(&["--json".as_ref(), json.as_ref()]);
        }
        if let Some(rounds) = self.rounds {
            add(&["--rounds".as_ref(), rounds.to_string().as_ref()]);
        }
        if let Some(seed) = self.seed {
            add(&["--seed".as_ref(), seed.to_string().as_ref()]);
        }
        let tool = project.target().join("release/prodigy-storage");
        add(&["--tool".as_ref(), tool.as_ref()]);
        arguments
    }
}
