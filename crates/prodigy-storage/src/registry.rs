//! Which repository a name stands for.
//!
//! An entry a name says which common git directory it stands for. An identity is looked up under its suggested name,
//! under its distinct one, and then among all entries, since `relink` may have given it any name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prodigy_storage_backend::{
    Body, Deadline, ErrorKind, Expected, PutOptions, Result, Revision, StorageError,
};
use prodigy_storage_layout::{
    Document, DocumentScope, Identity, IdentityError, IdentityKind, RepoName, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::error::{no_identity, other_shape};
use crate::storage::Inner;

/// An entry as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// The name as it was registered: tells names apart where the file system folds case.
    name: String,
    /// The common git directory: see [`text_of`].
    identity: String,
    #[serde(default)]
    file_id: Option<(u64, u64)>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    folder: String,
    registered_at: Timestamp,
}

/// The kind of an entry that takes the place of a damaged one: see `docs/on-disk-format.md`.
const LOST: &str = "lost";

/// What stands under a name.
enum Slot {
    Free,
    /// This repository's.
    Ours,
    /// Another one's, which is still there; or a name that differs only by case.
    Taken,
    /// One's that is gone from where it was.
    Gone(Entry),
}

pub(crate) fn repo_at(inner: &Inner, path: &Path) -> Result<(RepoName, Identity)> {
    let identity = Identity::at(path).map_err(no_identity)?;
    let deadline = inner.deadline();
    let suggested = identity.suggested_name();
    let distinct = identity.distinct_name();
    loop {
        // Each is looked at before any is complained of: this repository may stand under another name than that of a
        // damaged entry.
        let mut slot = look(inner, &suggested, &identity, deadline);
        if matches!(slot, Ok(Slot::Ours)) {
            return Ok((suggested, identity));
        }
        let mut distinct_slot = look(inner, &distinct, &identity, deadline);
        if matches!(distinct_slot, Ok(Slot::Ours)) {
            return Ok((distinct, identity));
        }
        let found = elsewhere(inner, &identity, deadline);
        if let Ok(Some(name)) = found {
            return Ok((name, identity));
        }
        // What is damaged is complained of with what to do about it.
        let is_damaged = |error: &StorageError| error.kind() == ErrorKind::Damaged;
        for slot in [&mut slot, &mut distinct_slot] {
            if slot.as_ref().is_err_and(|error| !is_damaged(error)) {
                std::mem::replace(slot, Ok(Slot::Free))?;
            }
        }
        found?;
        let (slot, distinct_slot) = (slot?, distinct_slot?);
        let name = match (slot, distinct_slot) {
            (Slot::Gone(entry), _) => return Err(moved(&suggested, &entry, &identity)),
            (Slot::Taken, Slot::Gone(entry)) => return Err(moved(&distinct, &entry, &identity)),
            (Slot::Taken, Slot::Taken) => return Err(no_name(&distinct, &identity)),
            (Slot::Taken, _) => &distinct,
            _ => &suggested,
        };
        if inner.caller.is_read_only() {
            return Ok((name.clone(), identity));
        }
        match put(inner, name, &identity, Expected::Absent, deadline) {
            Ok(()) => return Ok((name.clone(), identity)),
            // Another process was quicker: look again at whose it is now.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                deadline.check(
                    "register repository",
                    name,
                    "its turn: others register all the time",
                )?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn relink(inner: &Inner, path: &Path, name: &RepoName) -> Result<Identity> {
    let identity = Identity::at(path).map_err(no_identity)?;
    let deadline = inner.deadline();
    let found = match read(inner, name, deadline) {
        // Whose it was can't be told any more, and is said now.
        Err(error) if error.kind() == ErrorKind::Damaged => Err(error),
        found => Ok(found?),
    };
    if let Ok(Some((entry, _))) = &found
        && matches!(judge(entry, name, &identity)?, Slot::Taken)
    {
        let why = format!("the name stands for {}, which is still there", entry.identity);
        return Err(
            StorageError::new(ErrorKind::Conflict, "relink repository", name, why)
                .with_hint("choose another name: two repositories can't share one"),
        );
    }
    // The others go first: where this ends half-way, the repository is looked up again, and never under two names.
    for (other, found) in entries(inner, deadline)? {
        let Ok((entry, revision)) = found else { continue };
        if other != *name && entry.identity == text_of(&identity.common_dir) {
            let document = Document::Repository(other);
            let expected = Expected::Revision(revision);
            inner
                .caller
                .delete(&document, expected, inner.durability, deadline)?;
        }
    }
    let expected = match found {
        Ok(None) => Expected::Absent,
        Ok(Some((_, revision))) => Expected::Revision(revision),
        Err(_) => Expected::Any,
    };
    put(inner, name, &identity, expected, deadline)?;
    Ok(identity)
}

fn look(inner: &Inner, name: &RepoName, identity: &Identity, deadline: Deadline) -> Result<Slot> {
    match read(inner, name, deadline)? {
        None => Ok(Slot::Free),
        Some((entry, _)) => judge(&entry, name, identity),
    }
}

fn judge(entry: &Entry, name: &RepoName, identity: &Identity) -> Result<Slot> {
    if entry.name != name.as_str() {
        return Ok(Slot::Taken);
    }
    if entry.identity == text_of(&identity.common_dir) {
        return Ok(Slot::Ours);
    }
    Ok(if is_there(entry) {
        Slot::Taken
    } else {
        Slot::Gone(entry.clone())
    })
}

/// Whether what an entry stands for is where it was. What can't be read counts as there.
fn is_there(entry: &Entry) -> bool {
    let Some(recorded) = path_of(&entry.identity) else {
        return true;
    };
    match Identity::at(&recorded) {
        Ok(found) => found.common_dir == recorded,
        Err(IdentityError::NotFound { .. }) => false,
        Err(_) => true,
    }
}

/// The name under which an identity is registered, whatever it is. A repository that is known by its inode alone,
/// and is gone from where it was, has been moved.
fn elsewhere(inner: &Inner, identity: &Identity, deadline: Deadline) -> Result<Option<RepoName>> {
    let ours = text_of(&identity.common_dir);
    let (mut moved_from, mut unclear) = (None, None);
    for (name, found) in entries(inner, deadline)? {
        let (entry, _) = match found {
            Ok(found) => found,
            Err(error) => {
                unclear.get_or_insert((name, Some(error)));
                continue;
            }
        };
        if entry.identity == ours {
            return Ok(Some(name));
        }
        if entry.kind == LOST {
            unclear.get_or_insert((name, None));
            continue;
        }
        if entry.file_id.is_some() && entry.file_id == identity.file_id && !is_there(&entry) {
            moved_from = Some((name, entry));
        }
    }
    match (moved_from, unclear) {
        (Some((name, entry)), _) => Err(moved(&name, &entry, identity)),
        // It may be this repository's: registered anew it would have a second namespace, and nobody would be told.
        (None, Some((name, error))) => Err(unclear_entry(&name, error, identity)),
        (None, None) => Ok(None),
    }
}

/// An entry and its revision; in place of one that is damaged, the error that says so.
type Listed = Result<(Entry, Revision)>;

/// Every entry.
fn entries(inner: &Inner, deadline: Deadline) -> Result<Vec<(RepoName, Listed)>> {
    let mut found = Vec::new();
    for listed in inner.list(&DocumentScope::Repositories, deadline)? {
        let Document::Repository(name) = listed.document else {
            continue;
        };
        match read(inner, &name, deadline) {
            Ok(Some(entry)) => found.push((name, Ok(entry))),
            Ok(None) => {}
            // An entry that can't be read must not keep every other repository from being found.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                tracing::warn!(repo = %name, %error, "a registry entry is damaged");
                found.push((name, Err(error)));
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Refused) => {
                tracing::warn!(repo = %name, %error, "a registry entry is passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn read(inner: &Inner, name: &RepoName, deadline: Deadline) -> Result<Option<(Entry, Revision)>> {
    let Some(stored) = inner.caller.get(&Document::Repository(name.clone()), deadline)? else {
        return Ok(None);
    };
    let entry = serde_json::from_slice(stored.body())
        .map_err(|error| other_shape("read registry entry", name, error))?;
    Ok(Some((entry, stored.revision())))
}

fn put(
    inner: &Inner,
    name: &RepoName,
    identity: &Identity,
    expected: Expected,
    deadline: Deadline,
) -> Result<()> {
    let entry = Entry {
        name: name.to_string(),
        identity: text_of(&identity.common_dir),
        file_id: identity.file_id,
        kind: kind_of(identity.kind).to_owned(),
        folder: identity.folder_name.to_string_lossy().into_owned(),
        registered_at: inner.clock.now(),
    };
    let mut buffer = Vec::new();
    let body =
        Body::write(&mut buffer, &entry).map_err(|fault| fault.refused("register repository", name))?;
    let options = PutOptions::new(inner.durability).expect(expected);
    inner
        .caller
        .put(&Document::Repository(name.clone()), body, &options, deadline)
        .map(drop)
}

fn moved(name: &RepoName, entry: &Entry, identity: &Identity) -> StorageError {
    let here = text_of(&identity.common_dir);
    let why = if entry.file_id.is_some() && entry.file_id == identity.file_id {
        format!(
            "the name stands for {}, which was moved to {here}: it is the same folder",
            entry.identity
        )
    } else {
        format!(
            "the name stands for {}, which is gone: it looks moved, perhaps to {here}",
            entry.identity
        )
    };
    StorageError::new(ErrorKind::Conflict, "identify repository", name, why).with_hint(format!(
        "if it is the same repository: `prodigy-storage repo relink {name} PATH`; if it is another one, register it \
         under a name of its own: `prodigy-storage repo relink {} PATH`",
        identity.distinct_name()
    ))
}

/// An entry that does not say which repository it stands for, where one is looked for that no other entry has.
fn unclear_entry(name: &RepoName, error: Option<StorageError>, identity: &Identity) -> StorageError {
    let here = text_of(&identity.common_dir);
    let why = format!("the entry of this name is damaged, and may be that of {here}");
    let unclear = StorageError::new(ErrorKind::Damaged, "identify repository", name, why).with_hint(format!(
        "if it is: `prodigy-storage repo relink {name} PATH`; if not, register this one under a name of its own: \
         `prodigy-storage repo relink {} PATH`",
        identity.distinct_name()
    ));
    match error {
        Some(error) => unclear.with_source(error),
        None => unclear,
    }
}

fn no_name(name: &RepoName, identity: &Identity) -> StorageError {
    let why = format!("no name is free for {}", text_of(&identity.common_dir));
    StorageError::new(ErrorKind::Conflict, "register repository", name, why)
        .with_hint("choose one: `prodigy-storage repo relink NAME PATH`")
}

const fn kind_of(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Repository => "repository",
        IdentityKind::BareRepository => "bare_repository",
        IdentityKind::Submodule => "submodule",
        IdentityKind::Folder => "folder",
    }
}

/// Begins the text of a path that is not Unicode. No absolute path begins like it.
const HEX: &str = "hex:";

/// A path as text: as it is where it is Unicode, else its bytes in hexadecimal digits.
fn text_of(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes
                .iter()
                .fold(HEX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
    }
}

/// The path that a text stands for; `None` where this platform has no such path.
fn path_of(text: &str) -> Option<PathBuf> {
    let Some(digits) = text.strip_prefix(HEX) else {
        return Some(PathBuf::from(text));
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Some(PathBuf::from(OsStr::from_bytes(&bytes)))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn any_path_survives_as_text() {
        for bytes in [
            &b"/srv/shop/.git"[..],
            b"/srv/\xff\x00x/.git",
            "/srv/\u{e9}".as_bytes(),
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(path_of(&text_of(path)).as_deref(), Some(path));
        }
        assert!(text_of(Path::new(OsStr::from_bytes(b"/\xff"))).starts_with("hex:2fff"));
        assert_eq!(path_of("hex:zz"), None);
    }
}
