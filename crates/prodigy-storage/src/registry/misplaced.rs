//! Registry entries that are under another name than the one that they were registered under, since their files were moved or copied by
//! hand.

use std::path::Path;
use std::sync::Arc;

use prodigy_storage_backend::{Deadline, ErrorKind, Expected, Result, StorageError, shell_operands};
use prodigy_storage_layout::{DLQ, EVENTS, Evidence, NameRole, Relation, RepoName, STATE};

use super::entry::{Entry, LOST};
use super::message::relink_at;
use super::{Listed, is_same, read};
use crate::repo::Repo;
use crate::storage::Inner;

/// The facts about a registry entry that is under another name than the one that it was registered under: a part of [`Registration`](crate::Registration).
///
/// ```
/// use prodigy_storage::Storage;
///
/// let storage = Storage::in_memory()?;
/// let repo = storage.register("/", "everything")?;
/// assert!(repo.registration()?.is_some_and(|found| found.misplaced.is_none()));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misplaced {
    /// The name that it was registered under.
    pub name: String,
    /// The command of the tool that puts it right.
    pub remedy: String,
}

/// The command that puts an entry right that is under another name than the one that it was registered under. The repository gets the
/// name in the entry if data is stored under it, and otherwise the other one, to which its folders were moved. If it has an entry
/// under its own name, too, the other one is a copy.
pub(super) fn remedy(
    inner: &Arc<Inner>,
    at: &RepoName,
    entry: &Entry,
    place: &Path,
    deadline: Deadline,
) -> String {
    let Ok(own) = RepoName::new(&entry.name) else {
        return relink_at(at, place);
    };
    if let Ok(Some((its, _))) = read(inner, &own, deadline)
        && !its.is_misplaced(&own)
        && its.evidence().relation(&entry.evidence()) == Relation::Same
    {
        let name = shell_operands([at.as_str()]);
        return format!("prodigy-storage repo unregister --yes {name}");
    }
    if let Some(command) = renamed_back(inner, at, &own) {
        return command;
    }
    match is_anything_stored(inner, &own) {
        true => relink_at(&own, place),
        false => relink_at(at, place),
    }
}

fn is_anything_stored(inner: &Arc<Inner>, name: &RepoName) -> bool {
    let repo = Repo::new(Arc::clone(inner), name.clone(), None);
    repo.is_anything_stored().unwrap_or(true)
}

/// The command that gives the folder of a repository below `state` its name back, if that folder alone was renamed: the repository would
/// have its events under the one name and its checkpoints under the other one.
#[expect(clippy::disallowed_methods, reason = "it only looks which folders are there")]
fn renamed_back(inner: &Arc<Inner>, at: &RepoName, own: &RepoName) -> Option<String> {
    let root = inner.caller.capabilities().root?;
    let folder = |area: &str, name: &RepoName| root.join(area).join(name.as_str());
    let is_there = |area, name| folder(area, name).symlink_metadata().is_ok();
    let is_alone =
        is_there(STATE, at) && !is_there(STATE, own) && !is_there(EVENTS, at) && !is_there(DLQ, at);
    let names = [folder(STATE, at), folder(STATE, own)];
    (is_alone && is_anything_stored(inner, own)).then(|| format!("mv {}", shell_operands(&names)))
}

/// Fails if a relink would leave data of the repository under another name.
pub(super) fn refuse_divided(
    inner: &Arc<Inner>,
    all: &[(RepoName, Listed)],
    name: &RepoName,
    found: &Evidence,
) -> Result<()> {
    for (at, listed) in all {
        if let Ok((entry, _)) = listed
            && entry.is_misplaced(at)
            && is_same(found, &entry.known(NameRole::Other, found))
            && let Ok(own) = RepoName::new(&entry.name)
            && let Some(command) = renamed_back(inner, at, &own)
        {
            let why = format!("its folder below `{STATE}` was renamed by hand from `{own}` to `{at}`");
            let hint = format!("give the folder its name back: `{command}`");
            return Err(
                StorageError::new(ErrorKind::Conflict, "relink repository", name, why).with_hint(hint),
            );
        }
    }
    Ok(())
}

/// True if an entry of this repository, wherever it is, was registered under this name.
pub(super) fn has_claim(all: &[(RepoName, Listed)], name: &RepoName, found: &Evidence) -> bool {
    let mut entries = all
        .iter()
        .filter_map(|(_, listed)| Some(&listed.as_ref().ok()?.0));
    entries.any(|entry| !entry.is_misplaced(name) && is_same(found, &entry.known(NameRole::Other, found)))
}

/// True if the repository of an entry that is under a wrong name has an entry under its own name, too.
pub(super) fn has_own(all: &[(RepoName, Listed)], entry: &Entry) -> bool {
    let evidence = entry.evidence();
    all.iter().any(|(name, listed)| {
        let listed = listed.as_ref().ok().map(|(listed, _)| listed);
        let own = listed.filter(|listed| !listed.is_misplaced(name) && !entry.is_misplaced(name));
        own.is_some_and(|own| own.evidence().relation(&evidence) == Relation::Same)
    })
}

/// The entries that a relink of `name` puts back under the names that they were registered under: the misplaced one that it replaces, the
/// one that this replaces, and so on. The last one is written first, so that no crash loses an entry.
pub(super) fn to_put_back(
    all: &[(RepoName, Listed)],
    name: &RepoName,
    entry: &Entry,
    found: &Evidence,
) -> Vec<(RepoName, Entry, Expected)> {
    let (mut moved, mut entry, mut seen) = (Vec::new(), entry.clone(), vec![name.clone()]);
    while entry.kind != LOST
        && !is_same(found, &entry.known(NameRole::Other, found))
        && let Ok(own) = RepoName::new(&entry.name)
        && !seen.contains(&own)
    {
        let holder = all.iter().find(|(listed, _)| *listed == own);
        let (expected, next) = match holder {
            None => (Expected::Absent, None),
            Some((_, Ok((next, revision)))) if next.is_misplaced(&own) => {
                (Expected::Revision(*revision), Some(next.clone()))
            }
            Some(_) => break,
        };
        seen.push(own.clone());
        moved.push((own, entry, expected));
        match next {
            Some(next) => entry = next,
            None => break,
        }
    }
    moved.reverse();
    moved
}
