//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::counts::{CountOptions, Operation};
use crate::lab::Scale;

/// Measures this project beside its peers and the limits of the machine.
#[derive(Debug, Parser)]
#[command(name = "prodigy-storage-bench", max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) chore: Option<Chore>,
    /// A tenth of the sizes, 3 rounds, a margin of 25 %: under three minutes on a quiet machine.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these rows, by name.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the rows without measuring.
    #[arg(long)]
    pub(crate) list: bool,
    /// Fail if a row misses its bar by more than the margin for noise (10 %).
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the raw numbers to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The number of measured rounds; by default 7 (3 with `--quick`).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// The folder to work in; by default the target folder. Its contents are removed afterwards.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The seed of an earlier run, to repeat its random inputs.
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// The tool in the release profile, for the rows about it.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) tool: Option<PathBuf>,
    /// Write tables, plots and raw numbers to this folder of pages; with `--only`, the other rows keep their figures.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) docs: Option<PathBuf>,
}

/// Other commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Chore {
    /// Count instructions and system calls per operation, by callgrind and strace.
    Counts(CountOptions),
    /// Repeat an operation (used by `counts`).
    #[command(hide = true)]
    Operation(Operation),
    /// Run as a child process of a row.
    #[command(hide = true)]
    Child {
        /// The task, as JSON.
        task: String,
    },
}

impl Arguments {
    /// The amount of work.
    pub(crate) fn scale(&self) -> Scale {
        let mut scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        if let Some(rounds) = self.rounds {
            scale.rounds = usize::from(rounds);
        }
        scale
    }

    /// The folder to work in; it is created if it does not exist.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        work_folder(self.folder.clone())
    }
}

/// The requested folder, or `bench` in the target folder that this program was built in.
pub(crate) fn work_folder(asked: Option<PathBuf>) -> Result<PathBuf> {
    let folder = match asked {
        Some(folder) => folder,
        None => {
            let program = std::env::current_exe()?;
            let target = program
                .ancestors()
                .nth(2)
                .context("this program lies in no folder")?;
            target.join("bench")
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn rounds_may_be_asked_for_but_not_none() {
        let scale = |words: &[&str]| {
            let words = ["bench"].iter().chain(words);
            Arguments::try_parse_from(words).map(|arguments| arguments.scale().rounds)
        };
        assert_eq!(scale(&[]).unwrap(), 7);
        assert_eq!(scale(&["--quick"]).unwrap(), 3);
        assert_eq!(scale(&["--quick", "--rounds", "2"]).unwrap(), 2);
        assert!(scale(&["--rounds", "0"]).is_err());
    }
}
