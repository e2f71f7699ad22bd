//! The errors of a search that finds no name for a repository. Their hints name the commands that resolve them.

use std::path::Path;

use prodigy_storage_backend::{ErrorKind, StorageError, shell_word};
use prodigy_storage_layout::{Identity, Relation, RepoName};

use super::Candidate;
use super::entry::text_of;

/// The error for a repository that may or may not be the one of the entry. Its hint has a command for each case.
pub(super) fn conflict(
    candidate: &Candidate,
    active: bool,
    identity: &Identity,
    free: &RepoName,
) -> StorageError {
    let (name, recorded) = (&candidate.name, &candidate.entry.identity);
    let here = text_of(&identity.common_dir);
    let found = identity.evidence();
    let why = match candidate.entry.evidence().relation(&found) {
        Relation::Replaced { .. } if active => format!(
            "the name belongs to an earlier directory at {here}; the one there now has the same `origin`, but a process \
             works on a job of this name"
        ),
        Relation::Replaced { .. } => format!(
            "the name belongs to an earlier directory at {here}; the one there now is another, and nothing proves that \
             it is the same repository"
        ),
        Relation::PerhapsElsewhere => format!(
            "the name belongs to {recorded}, which is gone; {here} has its inode and may be the same directory, moved"
        ),
        _ => format!(
            "the name belongs to {recorded}, which is gone; {here} may be the same directory, moved or copied"
        ),
    };
    let place = place(identity);
    StorageError::new(ErrorKind::Conflict, "identify repository", name, why).with_hint(format!(
        "if it is the same repository: `prodigy-storage repo relink {name} {place}`; if it is another one, register it \
         under a name of its own: `prodigy-storage repo register --as {free} {place}`"
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
    let place = place(identity);
    let unclear = StorageError::new(ErrorKind::Damaged, "identify repository", name, why).with_hint(format!(
        "if it is: `prodigy-storage repo relink {name} {place}`; if not, register this one under a name of its own: \
         `prodigy-storage repo register --as {free} {place}`"
    ));
    match error {
        Some(error) => unclear.with_source(error),
        None => unclear,
    }
}

pub(super) fn no_name(identity: &Identity) -> StorageError {
    let name = identity.distinct_name();
    let why = format!("no name is free for {}", text_of(&identity.common_dir));
    StorageError::new(ErrorKind::Conflict, "register repository", &name, why).with_hint(format!(
        "choose one: `prodigy-storage repo register --as {} {}`",
        identity.proposed_name(),
        place(identity)
    ))
}

/// The path of the repository, quoted for a shell command.
pub(super) fn place(identity: &Identity) -> String {
    quoted(identity.worktree.as_ref().unwrap_or(&identity.common_dir))
}

/// A path, quoted for a shell command.
pub(crate) fn quoted(path: &Path) -> String {
    path.to_str()
        .map_or_else(|| "PATH".to_owned(), |text| shell_word(text).into_owned())
}
