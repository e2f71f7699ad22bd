//! The registry: the repository that owns each name.
//!
//! An entry per name records the [`Evidence`] of a common git directory. The pure function [`decide`] in the layout crate
//! chooses the entry of a repository; this module reads, maintains and writes the entries.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prodigy_storage_backend::{
    Body, Deadline, ErrorKind, Expected, PutOptions, Result, Revision, StorageError,
};
use prodigy_storage_layout::{
    Decision, Document, DocumentScope, Evidence, Identity, IdentityError, IdentityKind, Known, NameRole,
    Present, Relation, RepoName, Timestamp, decide,
};
use serde::{Deserialize, Serialize};

use crate::call::operation::FIND_WRITERS;
use crate::error::{no_identity, other_shape};
use crate::notice::StorageNotice;
use crate::storage::Inner;

/// An entry, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// The name as it was registered: it distinguishes names on a file system that folds case.
    name: String,
    /// The common git directory: see [`text_of`].
    identity: String,
    #[serde(default)]
    file_id: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    folder: String,
    registered_at: Timestamp,
}

impl Entry {
    fn new(name: &RepoName, identity: &Identity, evidence: &Evidence, registered_at: Timestamp) -> Self {
        Self {
            name: name.to_string(),
            identity: text_of(&evidence.path),
            file_id: evidence.file_id,
            born: evidence.born,
            origin: evidence.origin.clone(),
            kind: kind_of(identity.kind).to_owned(),
            folder: identity.folder_name.to_string_lossy().into_owned(),
            registered_at,
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            path: path_of(&self.identity).unwrap_or_default(),
            file_id: self.file_id,
            born: self.born,
            origin: self.origin.clone(),
        }
    }

    /// The present target of its path.
    fn present(&self) -> Present {
        let Some(recorded) = path_of(&self.identity) else {
            return Present::Unreadable;
        };
        match Identity::at(&recorded) {
            Ok(found) if found.common_dir == recorded => Present::Found(found.evidence()),
            Ok(_) | Err(IdentityError::NotFound { .. }) => Present::Nothing,
            Err(_) => Present::Unreadable,
        }
    }

    /// The input of the decision about the entry.
    fn known(&self, role: NameRole, found: &Evidence) -> Known {
        let recorded = self.evidence();
        let concerns = role != NameRole::Other || recorded.relation(found) != Relation::Unrelated;
        Known {
            role,
            present: match concerns {
                true => self.present(),
                false => Present::Nothing,
            },
            recorded,
            active: false,
        }
    }
}

/// The kind of an entry that replaces a damaged one: see `docs/reference/on-disk-format.md`.
const LOST: &str = "lost";

/// A repository and its name.
pub(crate) struct Named {
    pub(crate) name: RepoName,
    pub(crate) identity: Identity,
    /// A notice for the user.
    pub(crate) notice: Option<StorageNotice>,
}

/// An entry that was read.
struct Candidate {
    name: RepoName,
    entry: Entry,
    revision: Revision,
}

pub(crate) fn repo_at(inner: &Inner, path: &Path) -> Result<Named> {
    let identity = Identity::below(path, &inner.ceilings).map_err(no_identity)?;
    let found = identity.evidence();
    let deadline = inner.deadline();
    let named = |name: &RepoName, notice| Named {
        name: name.clone(),
        identity: identity.clone(),
        notice,
    };
    loop {
        let gathered = gather(inner, &identity, &found, deadline)?;
        let candidate = |index: usize| gathered.candidates.get(index);
        let decision = decide(&found, &gathered.known);
        let written = match &decision {
            Decision::Same { index, record } => {
                let Some(candidate) = candidate(*index) else {
                    continue;
                };
                let written = match record {
                    Some(record) => renew(inner, candidate, &identity, record, deadline),
                    None => Ok(()),
                };
                written.map(|()| named(&candidate.name, None))
            }
            Decision::FreshClone { index, record } => {
                let Some(candidate) = candidate(*index) else {
                    continue;
                };
                let notice = StorageNotice::FreshClone {
                    repo: candidate.name.clone(),
                    path: record.path.clone(),
                };
                renew(inner, candidate, &identity, record, deadline).map(|()| {
                    tracing::warn!("{notice}");
                    named(&candidate.name, Some(notice))
                })
            }
            // It may belong to this repository: a new registration would silently give it a second namespace.
            _ if gathered.unclear.is_some() => {
                let (name, error) = gathered
                    .unclear
                    .unwrap_or_else(|| (identity.suggested_name(), None));
                return Err(unclear_entry(
                    &name,
                    error,
                    &identity,
                    &free_name(inner, &identity, deadline),
                ));
            }
            Decision::Conflict { index } => {
                let Some(candidate) = candidate(*index) else {
                    continue;
                };
                let active = gathered.known.get(*index).is_some_and(|known| known.active);
                return Err(conflict(
                    candidate,
                    active,
                    &identity,
                    &free_name(inner, &identity, deadline),
                ));
            }
            Decision::NoName | Decision::Register(NameRole::Other) => return Err(no_name(&identity)),
            Decision::Register(role) => {
                let name = match role {
                    NameRole::Suggested => identity.suggested_name(),
                    _ => identity.distinct_name(),
                };
                let entry = Entry::new(&name, &identity, &found, inner.clock.now());
                match inner.caller.is_read_only() {
                    true => Ok(()),
                    false => put(inner, &name, &entry, Expected::Absent, deadline),
                }
                .map(|()| named(&name, None))
            }
        };
        match written {
            // Another process was faster: read again what it wrote.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                deadline.check(
                    "register repository",
                    &identity.suggested_name(),
                    "its turn: others register all the time",
                )?;
                std::thread::sleep(Duration::from_millis(1));
            }
            written => return written,
        }
    }
}

/// Gives a name to the repository, even a name of another repository, unless that one still exists.
pub(crate) fn relink(inner: &Inner, path: &Path, name: &RepoName) -> Result<Identity> {
    let identity = Identity::below(path, &inner.ceilings).map_err(no_identity)?;
    let found = identity.evidence();
    let deadline = inner.deadline();
    let holder = match read(inner, name, deadline) {
        // The owner of the entry is unknown; the caller names the new one.
        Err(error) if error.kind() == ErrorKind::Damaged => Err(error),
        holder => Ok(holder?),
    };
    if let Ok(Some((entry, _))) = &holder {
        let known = entry.known(NameRole::Suggested, &found);
        let is_another = entry.kind != LOST && known.is_home() && !is_same(&found, &known);
        if entry.name != name.as_str() || is_another {
            let why = format!("the name belongs to {}, which is still there", entry.identity);
            return Err(
                StorageError::new(ErrorKind::Conflict, "relink repository", name, why).with_hint(format!(
                    "choose another name, as two repositories can't share one: `prodigy-storage repo register --as {} \
                     {}`",
                    free_name(inner, &identity, deadline),
                    place(&identity)
                )),
            );
        }
    }
    // The other entries are removed first: if this is interrupted, the repository is searched for again, and never
    // has two names.
    for (other, listed) in entries(inner, deadline)? {
        let Ok((entry, revision)) = listed else { continue };
        if other != *name && is_same(&found, &entry.known(NameRole::Other, &found)) {
            let document = Document::Repository(other);
            let expected = Expected::Revision(revision);
            inner
                .caller
                .delete(&document, expected, inner.config.durability, None, deadline)?;
        }
    }
    let expected = match holder {
        Ok(None) => Expected::Absent,
        Ok(Some((_, revision))) => Expected::Revision(revision),
        Err(_) => Expected::Any,
    };
    let entry = Entry::new(name, &identity, &found, inner.clock.now());
    put(inner, name, &entry, expected, deadline)?;
    Ok(identity)
}

/// Registers a repository without a name under a name that no other repository has.
pub(crate) fn register(inner: &Inner, path: &Path, name: &RepoName) -> Result<Identity> {
    const REGISTER: &str = "register repository";
    let identity = Identity::below(path, &inner.ceilings).map_err(no_identity)?;
    let found = identity.evidence();
    let deadline = inner.deadline();
    if let Some((entry, _)) = read(inner, name, deadline)? {
        if entry.name == name.as_str() && is_same(&found, &entry.known(NameRole::Suggested, &found)) {
            return Ok(identity);
        }
        let why = format!("the name belongs to {}", entry.identity);
        return Err(
            StorageError::new(ErrorKind::Conflict, REGISTER, name, why).with_hint(format!(
                "choose another name, or, if it is the same repository: `prodigy-storage repo relink {name} {}`",
                place(&identity)
            )),
        );
    }
    for (other, listed) in entries(inner, deadline)? {
        let Ok((entry, _)) = listed else { continue };
        if is_same(&found, &entry.known(NameRole::Other, &found)) {
            let why = format!("{} is registered as `{other}`", entry.identity);
            return Err(
                StorageError::new(ErrorKind::Conflict, REGISTER, name, why).with_hint(format!(
                    "to give it another name, without its data: `prodigy-storage repo relink --new {name} {}`",
                    place(&identity)
                )),
            );
        }
    }
    let entry = Entry::new(name, &identity, &found, inner.clock.now());
    put(inner, name, &entry, Expected::Absent, deadline)?;
    Ok(identity)
}

fn is_same(found: &Evidence, known: &Known) -> bool {
    matches!(decide(found, std::slice::from_ref(known)), Decision::Same { .. })
}

/// The input of the decision.
struct Gathered {
    candidates: Vec<Candidate>,
    /// One for each candidate.
    known: Vec<Known>,
    /// An entry whose repository is unknown, and its error.
    unclear: Option<(RepoName, Option<StorageError>)>,
}

/// Reads the entries of both names that the repository may get. Unless one of them is certainly its own, reads all
/// others too: `relink` and `register` may have given it any name.
fn gather(inner: &Inner, identity: &Identity, found: &Evidence, deadline: Deadline) -> Result<Gathered> {
    let roles = [
        (NameRole::Suggested, identity.suggested_name()),
        (NameRole::Distinct, identity.distinct_name()),
    ];
    let mut gathered = Gathered {
        candidates: Vec::new(),
        known: Vec::new(),
        unclear: None,
    };
    let mut failed = None;
    for (role, name) in &roles {
        let (entry, revision) = match read(inner, name, deadline) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            // This repository may be registered under another name than the unreadable entry's.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                gathered.unclear.get_or_insert((name.clone(), Some(error)));
                continue;
            }
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        if entry.kind == LOST {
            gathered.unclear.get_or_insert((name.clone(), None));
            continue;
        }
        let mut known = entry.known(*role, found);
        if entry.name != name.as_str() {
            // It only looks equal, on a file system that folds case.
            known.recorded = Evidence::default();
            known.present = Present::Unreadable;
        }
        let is_certain = known.recorded.relation(found) == Relation::Same;
        gathered.push(name.clone(), entry, revision, known);
        if is_certain {
            return Ok(gathered);
        }
    }
    for (name, listed) in entries(inner, deadline)? {
        if roles.iter().any(|(_, role_name)| *role_name == name) {
            continue;
        }
        match listed {
            Ok((entry, _)) if entry.kind == LOST => {
                gathered.unclear.get_or_insert((name, None));
            }
            Ok((entry, revision)) => {
                let known = entry.known(NameRole::Other, found);
                gathered.push(name, entry, revision, known);
            }
            Err(error) => {
                gathered.unclear.get_or_insert((name, Some(error)));
            }
        }
    }
    for (candidate, known) in gathered.candidates.iter().zip(&mut gathered.known) {
        if known.recorded.relation(found) == (Relation::Replaced { same_origin: true }) {
            let name = &candidate.name;
            known.active = inner.caller.call(FIND_WRITERS, name, deadline, |backend| {
                backend.is_active(name, deadline)
            })?;
        }
    }
    let is_found = |known: &Known| is_same(found, known);
    match failed {
        Some(error) if !gathered.known.iter().any(is_found) => Err(error),
        _ => Ok(gathered),
    }
}

impl Gathered {
    fn push(&mut self, name: RepoName, entry: Entry, revision: Revision, known: Known) {
        self.known.push(known);
        self.candidates.push(Candidate {
            name,
            entry,
            revision,
        });
    }
}

/// An entry and its revision, or the error of a damaged one.
type Listed = Result<(Entry, Revision)>;

/// Every entry.
fn entries(inner: &Inner, deadline: Deadline) -> Result<Vec<(RepoName, Listed)>> {
    let mut found = Vec::new();
    for listed in inner.list(&DocumentScope::Repositories, deadline) {
        let Document::Repository(name) = listed?.document else {
            continue;
        };
        match read(inner, &name, deadline) {
            Ok(Some(entry)) => found.push((name, Ok(entry))),
            Ok(None) => {}
            // One unreadable entry must not keep other repositories from being found.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                tracing::warn!(repo = %name, error = &error as &dyn std::error::Error, "a registry entry is damaged");
                found.push((name, Err(error)));
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Refused) => {
                tracing::warn!(repo = %name, error = &error as &dyn std::error::Error, "a registry entry is ignored");
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

/// Records the new content of the entry. A handle for reading records nothing.
fn renew(
    inner: &Inner,
    candidate: &Candidate,
    identity: &Identity,
    record: &Evidence,
    deadline: Deadline,
) -> Result<()> {
    if inner.caller.is_read_only() {
        return Ok(());
    }
    let name = &candidate.name;
    let entry = Entry::new(name, identity, record, candidate.entry.registered_at);
    put(
        inner,
        name,
        &entry,
        Expected::Revision(candidate.revision),
        deadline,
    )
}

fn put(inner: &Inner, name: &RepoName, entry: &Entry, expected: Expected, deadline: Deadline) -> Result<()> {
    let mut buffer = Vec::new();
    let body = Body::write(&mut buffer, entry).map_err(|fault| fault.refused("register repository", name))?;
    let options = PutOptions::new(inner.config.durability).expect(expected);
    inner
        .caller
        .put(&Document::Repository(name.clone()), body, &options, deadline)
        .map(drop)
}

/// The name that is proposed for a repository: the one that its path gives, so that every message about the path
/// proposes the same, unless that name is taken.
fn free_name(inner: &Inner, identity: &Identity, deadline: Deadline) -> RepoName {
    let name = identity.distinct_name();
    match read(inner, &name, deadline) {
        Ok(None) => name,
        _ => identity.proposed_name(),
    }
}

/// The repository may be the one of the entry or another one: the error names both ways out.
fn conflict(candidate: &Candidate, active: bool, identity: &Identity, free: &RepoName) -> StorageError {
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

/// An entry whose repository is unknown, during a search for a repository without another entry.
fn unclear_entry(
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

fn no_name(identity: &Identity) -> StorageError {
    let name = identity.distinct_name();
    let why = format!("no name is free for {}", text_of(&identity.common_dir));
    StorageError::new(ErrorKind::Conflict, "register repository", &name, why).with_hint(format!(
        "choose one: `prodigy-storage repo register --as {} {}`",
        identity.proposed_name(),
        place(identity)
    ))
}

/// The path of the repository, quoted for a shell.
fn place(identity: &Identity) -> String {
    let path = identity.worktree.as_ref().unwrap_or(&identity.common_dir);
    let Some(text) = path.to_str() else {
        return "PATH".to_owned();
    };
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte) || !byte.is_ascii();
    match text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

const fn kind_of(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Repository => "repository",
        IdentityKind::BareRepository => "bare_repository",
        IdentityKind::Submodule => "submodule",
        IdentityKind::Folder => "folder",
    }
}

/// The prefix of the text of a path that is not Unicode. No absolute path begins with it.
const HEX: &str = "hex:";

/// A path as text: unchanged if it is Unicode, else its bytes in hexadecimal digits.
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

/// The path in a text; `None` for digits that are not hexadecimal.
fn path_of(text: &str) -> Option<PathBuf> {
    let Some(digits) = text.strip_prefix(HEX) else {
        return Some(PathBuf::from(text));
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
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
