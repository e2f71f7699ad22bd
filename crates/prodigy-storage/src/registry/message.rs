//! The errors of a search that finds no name for a repository. Their hints name the commands that resolve them.

use std::ffi::OsStr;
use std::path::Path;

use prodigy_storage_backend::{ErrorKind, StorageError, shell_flags, shell_operands};
use prodigy_storage_layout::{Identity, Relation, RepoName};

use super::Candidate;
use super::entry::text_of;

/// The error for a repository that may or may not be the one of the entry. Its hint has a command for each case.
/// `active` says which process works on a job of the name.
pub(super) fn conflict(
    candidate: &Candidate,
    active: Option<&str>,
    identity: &Identity,
    free: &RepoName,
) -> StorageError {
    let (name, recorded) = (&candidate.name, &candidate.entry.identity);
    let here = text_of(&identity.common_dir);
    let found = identity.evidence();
    let why = match (candidate.entry.evidence().relation(&found), active) {
        (Relation::Replaced { .. }, Some(active)) => format!(
            "the name belongs to an earlier directory at {here}; the one there now has the same `origin`, but {active}"
        ),
        (Relation::Replaced { .. }, None) => format!(
            "the name belongs to an earlier directory at {here}; the one there now is another, and nothing proves that \
             it is the same repository"
        ),
        (Relation::PerhapsElsewhere, _) => format!(
            "the name belongs to {recorded}, which is gone; {here} has its inode and may be the same directory, moved"
        ),
        _ => format!(
            "the name belongs to {recorded}, which is gone; {here} may be the same directory, moved or copied"
        ),
    };
    StorageError::new(ErrorKind::Conflict, "identify repository", name, why).with_hint(format!(
        "if it is the same repository: `{}`; if it is another one, register it under a name of its own: `{}`",
        relink(name, identity),
        register(free, identity)
    ))
}

/// The error for a damaged entry of an unknown repository, found while searching the name of a repository that has
/// no other entry.
pub(super) fn unclear_entry(
    name: &RepoName,
    error: Option<StorageError>,
    identity: &Identity,
    free: &RepoName,
) -> StorageError {
    let here = text_of(&identity.common_dir);
    let why = format!("the entry of this name is damaged, and may be that of {here}");
    let unclear = StorageError::new(ErrorKind::Damaged, "identify repository", name, why).with_hint(format!(
        "if it is: `{}`; if not, register this one under a name of its own: `{}`",
        relink(name, identity),
        register(free, identity)
    ));
    match error {
        Some(error) => unclear.with_source(error),
        None => unclear,
    }
}

/// The error for a repository whose entry is under another name than the one that it was registered under, so that the data of either
/// may be its own. `remedy` is the command that puts it right.
pub(super) fn misplaced_entry(found_at: &RepoName, entry: &str, remedy: &str) -> StorageError {
    let why = format!(
        "the entry of this name was registered as `{entry}`: its file was moved or copied by hand, and a write could be stored with the \
         data of another repository"
    );
    StorageError::new(ErrorKind::Conflict, "identify repository", found_at, why).with_hint(format!(
        "`{remedy}` gives the repository the name that its data is stored under"
    ))
}

pub(super) fn no_name(identity: &Identity) -> StorageError {
    let name = identity.distinct_name();
    let why = format!("no name is free for {}", text_of(&identity.common_dir));
    StorageError::new(ErrorKind::Conflict, "register repository", &name, why).with_hint(format!(
        "choose one: `{}`",
        register(&identity.proposed_name(), identity)
    ))
}

/// The command that makes a name stand for this repository.
pub(super) fn relink(name: &RepoName, identity: &Identity) -> String {
    relink_at(name, place(identity))
}

/// The command that makes a name stand for the repository at this path.
pub(super) fn relink_at(name: &RepoName, place: &Path) -> String {
    let operands = shell_operands([OsStr::new(name.as_str()), place.as_os_str()]);
    format!("prodigy-storage repo relink {operands}")
}

/// The command that registers this repository under a name of its own.
pub(super) fn register(name: &RepoName, identity: &Identity) -> String {
    register_at(name, place(identity))
}

/// The command that registers the repository at this path under a name of its own.
pub(crate) fn register_at(name: &RepoName, place: &Path) -> String {
    let (name, place) = (shell_flags([("--as", name.as_str())]), shell_operands([place]));
    format!("prodigy-storage repo register {name} {place}")
}

/// The path of the repository.
pub(super) fn place(identity: &Identity) -> &Path {
    identity.worktree.as_ref().unwrap_or(&identity.common_dir)
}
