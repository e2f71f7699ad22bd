//! Completions of a shell, with names from the store.
//!
//! The shell's script calls the tool for each completion, with the words of the line so far. Storage is opened for
//! reading only, with the flags on the line and the environment. If it can't be read, no names are offered: a
//! completion never fails and prints no message.

use std::ffi::{OsStr, OsString};

use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use prodigy_storage::{DocumentInfo, Job, Listing, Repo, Result, Select, Storage};

/// The largest number of names that are offered.
const MOST: usize = 1000;

/// If the variable `COMPLETE` names a shell, answers the call of its script (or prints that script) and ends the
/// process; otherwise does nothing.
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(|| with_names(crate::command())).complete();
}

/// The table of commands, with completions added to the arguments that name stored things.
fn with_names(table: Command) -> Command {
    let path = table.get_name().to_owned();
    below(table, &path)
}

/// Adds the names to one command; `path` are the words that lead to it.
fn below(command: Command, path: &str) -> Command {
    let command = command.mut_args(|argument| match find_names(path, argument.get_id().as_str()) {
        Some(names) => argument.add(ArgValueCompleter::new(move |begun: &OsStr| offer(names, begun))),
        None => argument,
    });
    command.mut_subcommands(|command| {
        let path = format!("{path} {}", command.get_name());
        below(command, &path)
    })
}

/// Passes names to a function until the function returns false.
type Names = fn(&mut dyn FnMut(&str) -> bool) -> Option<()>;

/// The names for an argument of a command.
fn find_names(path: &str, argument: &str) -> Option<Names> {
    let mut words = path.split(' ').skip(1);
    Some(match (words.next()?, words.next(), argument) {
        ("repo", Some("relink" | "unregister"), "name") | (_, _, "repo") => repositories,
        (_, _, "job" | "jobs") => jobs,
        ("dlq", _, "id" | "ids" | "keys") => items,
        ("checkpoint", _, "document" | "one" | "other") => checkpoints,
        ("checkpoint", _, "phase") => phases,
        ("document", _, "kind") => kinds,
        ("document", _, "name") => documents,
        ("lock", Some("run"), "name") => locks,
        ("worktree", Some("path"), "session") => sessions,
        _ => return None,
    })
}

/// True if a shell takes a name as one word and nothing else. It inserts the names as they are: any other name could run
/// a command.
fn is_plain(name: &str) -> bool {
    let is_plain = |char: char| char.is_alphanumeric() || "/._-:@%+,=".contains(char);
    !name.starts_with('-') && name.chars().all(is_plain)
}

/// The names that begin with the typed word, of those that a shell takes as they are.
fn offer(names: Names, begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let mut found: Vec<String> = Vec::new();
    // If the store can't be read, there are no names.
    let _ = names(&mut |name| {
        if name.starts_with(&*begun) && is_plain(name) && found.last().is_none_or(|last| last != name) {
            found.push(name.to_owned());
        }
        found.len() < MOST
    });
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// Passes the names of items to `take`, up to the first error or until `take` returns false.
fn give<T>(
    items: impl Iterator<Item = Result<T>>,
    name: impl Fn(T) -> String,
    take: &mut dyn FnMut(&str) -> bool,
) -> Option<()> {
    items
        .map_while(Result::ok)
        .map(name)
        .all(|name| take(&name))
        .then_some(())
}

/// The value of a flag on the typed line.
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

/// The repository that the line names, or otherwise the one of the current folder.
fn repo() -> Option<Repo> {
    let storage = open()?;
    match word("--repo") {
        Some(name) => storage.repo(name.to_str()?).ok(),
        None => storage.repo_at(".").ok(),
    }
}

/// The job that the line names.
fn job() -> Option<Job> {
    repo()?.job(word("--job")?.to_str()?).ok()
}

fn repositories(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    give(crate::job::repositories(&open()?), |name| name.to_string(), take)
}

fn jobs(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    give(repo()?.jobs(), |name| name.to_string(), take)
}

fn items(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    let items = job()?.dlq().list(&Select::any()).ok()?;
    give(items, |item| item.id.to_string(), take)
}

fn checkpoints(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    give(job()?.checkpoints().list(), |entry| entry.id.to_string(), take)
}

fn phases(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    let phases = job()?.checkpoints().phases().ok()?;
    give(phases.into_iter().map(Ok), |phase| phase.to_string(), take)
}

fn locks(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    give(open()?.locks(), |lock| lock.name.to_string(), take)
}

fn sessions(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    let sessions = repo()?.worktrees().list().ok()?;
    give(sessions.into_iter().map(Ok), |session| session.to_string(), take)
}

/// The documents of the job, or of the repository if the line names no job.
fn all_documents() -> Option<Listing<DocumentInfo>> {
    Some(match word("--job") {
        Some(_) => job()?.all_documents(),
        None => repo()?.all_documents(),
    })
}

fn kinds(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    give(all_documents()?, |found| found.kind.to_string(), take)
}

fn documents(take: &mut dyn FnMut(&str) -> bool) -> Option<()> {
    let kind = word("--kind");
    let of_kind = all_documents()?.filter(|found| match (found, &kind) {
        (Ok(found), Some(kind)) => found.kind.as_str() == kind,
        _ => true,
    });
    give(of_kind, |found| found.name.to_string(), take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_run_or_split_are_not_offered() {
        let names: Names = |take| {
            let all = [
                "item-1",
                "item 2",
                "item$(id)",
                "item`id`",
                "item;id",
                "item\u{1b}[2J",
                "item\n",
                "item*",
                "item'",
                "-x",
                "item-\u{e9}/a.rs:7",
            ];
            all.iter().all(|name| take(name)).then_some(())
        };
        let offered = |begun: &str| -> Vec<OsString> {
            let found = offer(names, OsStr::new(begun));
            found.iter().map(|name| name.get_value().to_owned()).collect()
        };
        assert_eq!(offered("item"), ["item-1", "item-\u{e9}/a.rs:7"]);
        assert!(offered("-").is_empty());
    }
}
