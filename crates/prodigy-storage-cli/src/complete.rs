//! Completions of a shell, with names from the store.
//!
//! The shell's script calls the tool for each completion, with the words of the line so far. Storage is opened for reading only, as
//! the words and the environment say. A store that can't be read has no names to offer: a completion never fails and prints no
//! message.

use std::ffi::OsString;

use clap::Command;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use prodigy_storage::{Repo, Storage};

/// Names that are offered at most.
const MOST: usize = 1000;

/// Answers a call of the shell's script, or prints that script, and ends the process, if the variable `COMPLETE` names a shell;
/// otherwise it does nothing.
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(|| with_names(crate::command())).complete();
}

/// The table of commands, whose flags and arguments for jobs and repositories have the names of the store.
fn with_names(table: Command) -> Command {
    let table = table.mut_args(|argument| match argument.get_id().as_str() {
        "job" | "jobs" => argument.add(ArgValueCandidates::new(jobs)),
        "repo" => argument.add(ArgValueCandidates::new(repositories)),
        _ => argument,
    });
    table.mut_subcommands(with_names)
}

/// The value of a flag among the words of the line.
fn word(flag: &str) -> Option<OsString> {
    let mut words = std::env::args_os();
    while let Some(word) = words.next() {
        if word == flag {
            return words.next();
        }
        let given = word
            .to_str()
            .and_then(|word| word.strip_prefix(flag)?.strip_prefix('='));
        if let Some(value) = given {
            return Some(value.into());
        }
    }
    None
}

fn open() -> Option<Storage> {
    let mut builder = Storage::builder().read_only(true);
    if let Some(file) = word("--config") {
        builder = builder.config_file(file);
    }
    if let Some(folder) = word("--base-dir") {
        builder = builder.flag("backend_config.base_dir", folder);
    }
    builder.open().ok()
}

fn repositories() -> Vec<CompletionCandidate> {
    let names = open().into_iter().flat_map(|storage| storage.repositories());
    names
        .map_while(Result::ok)
        .take(MOST)
        .map(|name| CompletionCandidate::new(name.as_str()))
        .collect()
}

/// The jobs of the repository that the line names, or of the one here.
fn jobs() -> Vec<CompletionCandidate> {
    let repo = |storage: Storage| -> Option<Repo> {
        match word("--repo") {
            Some(name) => storage.repo(name.to_str()?).ok(),
            None => storage.repo_at(".").ok(),
        }
    };
    let names = open().and_then(repo).into_iter().flat_map(|repo| repo.jobs());
    names
        .map_while(Result::ok)
        .take(MOST)
        .map(|name| CompletionCandidate::new(name.as_str()))
        .collect()
}
