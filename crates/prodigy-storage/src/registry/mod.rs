//! The registry records which repository owns each name.
//!
//! Each name has an entry with the [`Evidence`] of a common git directory: its path, inode, birth time and origin.
//! The function [`decide`] of the layout crate chooses the entry of a repository. This module reads, renews and
//! writes the entries.

mod entry;
mod message;
mod misplaced;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Body, Deadline, Entries, ErrorKind, Expected, LockInfo, PutOptions, Result, Revision, StorageError,
    shell_operands,
};
use prodigy_storage_layout::{
    Decision, Document, DocumentScope, Evidence, Identity, JobAddress, KnownRepo, NameRole, Present,
    Relation, RepoName, Timestamp, decide,
};

use self::entry::{Entry, LOST, path_of};
pub(crate) use self::message::register_at;
use self::message::{conflict, misplaced_entry, no_name, place, unclear_entry};
pub use self::misplaced::Misplaced;
use self::misplaced::{has_claim, has_own, refuse_divided, remedy, to_put_back};
use crate::call::operation::{ACTIVITY, FIND_WRITERS, LIST_JOBS, LIST_LOCKS};
use crate::error::{no_identity, other_shape};
use crate::notice::StorageNotice;
use crate::repo::Repo;
use crate::storage::Inner;

/// The registry entry of a repository's name.
///
/// ```
/// use prodigy_storage::Storage;
///
/// let storage = Storage::in_memory()?;
/// let repo = storage.register("/", "everything")?;
/// let found = repo.registration()?.expect("it was registered");
/// assert!(found.path.is_some());
/// // A name without an entry, although data is stored under it.
/// storage.repo("shop")?.job("mapreduce-7")?.events().append(&"started")?;
/// assert!(storage.repo("shop")?.registration()?.is_none());
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The recorded path of the common git directory, or of the plain folder. `None` if the entry replaces a
    /// damaged one, since the path is then unknown.
    pub path: Option<PathBuf>,
    /// The time of the first registration.
    pub registered_at: Timestamp,
    /// `None` if the entry is where it belongs. Otherwise its file was moved or copied by hand: its repository is refused until the
    /// remedy was run.
    pub misplaced: Option<Misplaced>,
}

/// A repository that was found, and its name.
pub(crate) struct Named {
    pub(crate) name: RepoName,
    pub(crate) identity: Identity,
    /// A warning for the user about how the repository was found.
    pub(crate) notice: Option<StorageNotice>,
}

/// An entry that may belong to the repository.
struct Candidate {
    name: RepoName,
    entry: Entry,
    revision: Revision,
}

/// Finds the name of the repository at a path. A new one is registered if `registers` is true and the handle can write.
pub(crate) fn repo_at(inner: &Arc<Inner>, path: &Path, registers: bool) -> Result<Named> {
    let registers = registers && !inner.caller.is_read_only();
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
            _ if let Some((at, entry)) = &gathered.misplaced => {
                let remedy = remedy(inner, at, entry, place(&identity), deadline);
                return Err(misplaced_entry(at, &entry.name, &remedy));
            }
            // The unreadable entry may belong to this repository: a new registration would give the repository a
            // second namespace without anyone noticing.
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
                let active = match gathered.known.get(*index) {
                    Some(known) if known.active => Some(worked_on(inner, &candidate.name, deadline)?),
                    _ => None,
                };
                return Err(conflict(
                    candidate,
                    active.as_deref(),
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
                let notice = of_data(inner, &name, &identity, registers, deadline);
                match registers {
                    false => Ok(()),
                    true => put(inner, &name, &entry, Expected::Absent, deadline).inspect(|()| {
                        if let Some(notice) = &notice {
                            tracing::warn!("{notice}");
                        }
                    }),
                }
                .map(|()| named(&name, notice))
            }
        };
        match written {
            // Another process has written the entry first, so the search starts again.
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

/// The warning that a repository without an entry continues with data that is stored under its name. `None`
/// without data; if the data can't be listed, there may be some.
fn of_data(
    inner: &Arc<Inner>,
    name: &RepoName,
    identity: &Identity,
    registered: bool,
    deadline: Deadline,
) -> Option<StorageNotice> {
    let repo = Repo::new(Arc::clone(inner), name.clone(), None);
    repo.is_anything_stored()
        .unwrap_or(true)
        .then(|| StorageNotice::HasData {
            repo: name.clone(),
            path: identity.worktree.as_ref().unwrap_or(&identity.common_dir).clone(),
            other: free_name(inner, identity, deadline),
            registered,
        })
}

/// The entry of a name.
pub(crate) fn registration(inner: &Arc<Inner>, name: &RepoName) -> Result<Option<Registration>> {
    let deadline = inner.deadline();
    let Some((entry, _)) = read(inner, name, deadline)? else {
        return Ok(None);
    };
    let path = path_of(&entry.identity).filter(|_| entry.kind != LOST);
    let misplaced = entry.is_misplaced(name).then(|| {
        let common = path.clone().unwrap_or_default();
        let worktree = common.parent().filter(|_| common.ends_with(".git"));
        let remedy = remedy(inner, name, &entry, worktree.unwrap_or(&common), deadline);
        Misplaced {
            name: entry.name.clone(),
            remedy,
        }
    });
    Ok(Some(Registration {
        path,
        registered_at: entry.registered_at,
        misplaced,
    }))
}

/// Removes the entry of a name. Returns false if the name has no entry.
pub(crate) fn unregister(inner: &Inner, name: &RepoName) -> Result<bool> {
    const UNREGISTER: &str = "unregister repository";
    inner.caller.check_writable(UNREGISTER, name)?;
    let deadline = inner.deadline();
    let expected = match read(inner, name, deadline) {
        Ok(Some((_, revision))) => Expected::Revision(revision),
        Ok(None) => return Ok(false),
        // The entry is damaged, so it can't show whether it was changed meanwhile.
        Err(error) if error.kind() == ErrorKind::Damaged => Expected::Any,
        Err(error) => return Err(error),
    };
    if is_active(inner, name, deadline)? {
        let why = worked_on(inner, name, deadline)?;
        return Err(
            StorageError::new(ErrorKind::LockUnavailable, UNREGISTER, name, why)
                .with_hint("end the process, or let it finish the job; then try again"),
        );
    }
    let document = Document::Repository(name.clone());
    let durability = inner.config.durability;
    inner
        .caller
        .delete(&document, expected, durability, None, deadline)?;
    Ok(true)
}

fn is_active(inner: &Inner, name: &RepoName, deadline: Deadline) -> Result<bool> {
    inner.caller.call(FIND_WRITERS, name, deadline, |backend| {
        backend.is_active(name, deadline)
    })
}

/// The reason why a name is in use, with the process that works on one of its jobs.
fn worked_on(inner: &Inner, name: &RepoName, deadline: Deadline) -> Result<String> {
    const WHY: &str = "a process works on a job of this name";
    let caller = &inner.caller;
    let locks = Entries::new(|page| {
        caller.call(LIST_LOCKS, name, deadline, |backend| {
            backend.locks(page, deadline)
        })
    });
    let is_ours = |lock: &LockInfo| lock.name.as_str().split('/').next() == Some(name.as_str());
    for lock in locks {
        let lock = lock?;
        if lock.held && is_ours(&lock) {
            return Ok(format!("{WHY}: {}", lock.held_by()));
        }
    }
    let jobs = Entries::new(|page| {
        caller.call(LIST_JOBS, name, deadline, |backend| {
            backend.jobs(name, page, deadline)
        })
    });
    for job in jobs {
        let job = JobAddress::new(name.clone(), job?);
        let activity = caller.call(ACTIVITY, &job, deadline, |backend| {
            backend.activity(&job, deadline)
        })?;
        if let Some(by) = activity.by {
            return Ok(format!("{WHY}: {by} (job `{}`)", job.job));
        }
    }
    Ok(WHY.to_owned())
}

/// Fails for a name under which the store keeps data of its own.
fn refuse_reserved(operation: &'static str, name: &RepoName) -> Result<()> {
    match name.is_reserved() {
        false => Ok(()),
        true => {
            Err(
                StorageError::invalid(operation, name, "the store keeps data of its own under this name")
                    .with_hint("choose another name"),
            )
        }
    }
}

/// Gives a name to the repository at a path. Fails if the name belongs to another repository that still exists.
pub(crate) fn relink(inner: &Arc<Inner>, path: &Path, name: &RepoName) -> Result<Identity> {
    refuse_reserved("relink repository", name)?;
    let identity = Identity::below(path, &inner.ceilings).map_err(no_identity)?;
    let found = identity.evidence();
    let deadline = inner.deadline();
    let holder = match read(inner, name, deadline) {
        // The entry is damaged and its owner unknown, so the new owner is accepted.
        Err(error) if error.kind() == ErrorKind::Damaged => Err(error),
        holder => Ok(holder?),
    };
    let all = entries(inner, deadline)?;
    refuse_divided(inner, &all, name, &found)?;
    let mut moved = Vec::new();
    if let Ok(Some((entry, _))) = &holder {
        let known = entry.known(NameRole::Suggested, &found);
        let is_another = entry.kind != LOST && known.is_home() && !is_same(&found, &known);
        let is_alias = entry.is_misplaced(name) && !all.iter().any(|(listed, _)| listed == name);
        let is_misplaced = entry.is_misplaced(name) && !is_alias;
        if is_misplaced {
            moved = to_put_back(&all, name, entry, &found);
        }
        let is_free = is_misplaced && (has_claim(&all, name, &found) || has_own(&all, entry));
        if is_alias || (is_another && !is_free) {
            let why = format!("the name belongs to {}, which is still there", entry.identity);
            return Err(
                StorageError::new(ErrorKind::Conflict, "relink repository", name, why).with_hint(format!(
                    "choose another name, as two repositories can't share one: `{}`",
                    message::register(&free_name(inner, &identity, deadline), &identity)
                )),
            );
        }
    }
    let expected = match holder {
        Ok(None) => Expected::Absent,
        Ok(Some((_, revision))) => Expected::Revision(revision),
        Err(_) => Expected::Any,
    };
    for (name, entry, expected) in moved {
        put(inner, &name, &entry, expected, deadline)?;
    }
    let entry = Entry::new(name, &identity, &found, inner.clock.now());
    put(inner, name, &entry, expected, deadline)?;
    // The other entries are removed last: if this is interrupted, the repository still has one of its names, and the next
    // relink removes the other entries.
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
    Ok(identity)
}

/// Registers a repository that has no name, under a name that no other repository has.
pub(crate) fn register(inner: &Arc<Inner>, path: &Path, name: &RepoName) -> Result<Named> {
    const REGISTER: &str = "register repository";
    refuse_reserved(REGISTER, name)?;
    let identity = Identity::below(path, &inner.ceilings).map_err(no_identity)?;
    let found = identity.evidence();
    let deadline = inner.deadline();
    if let Some((entry, _)) = read(inner, name, deadline)? {
        if !entry.is_misplaced(name) && is_same(&found, &entry.known(NameRole::Suggested, &found)) {
            return Ok(Named {
                name: name.clone(),
                identity,
                notice: None,
            });
        }
        let why = format!("the name belongs to {}", entry.identity);
        return Err(
            StorageError::new(ErrorKind::Conflict, REGISTER, name, why).with_hint(format!(
                "choose another name, or, if it is the same repository: `{}`",
                message::relink(name, &identity)
            )),
        );
    }
    for (other, listed) in entries(inner, deadline)? {
        let Ok((entry, _)) = listed else { continue };
        if is_same(&found, &entry.known(NameRole::Other, &found)) {
            let why = format!("{} is registered as `{other}`", entry.identity);
            return Err(
                StorageError::new(ErrorKind::Conflict, REGISTER, name, why).with_hint(format!(
                    "to give it another name, without its data: `prodigy-storage repo relink --new {}`",
                    shell_operands([OsStr::new(name.as_str()), place(&identity).as_os_str()])
                )),
            );
        }
    }
    let entry = Entry::new(name, &identity, &found, inner.clock.now());
    let notice = of_data(inner, name, &identity, !inner.caller.is_read_only(), deadline);
    put(inner, name, &entry, Expected::Absent, deadline)?;
    Ok(Named {
        name: name.clone(),
        identity,
        notice,
    })
}

fn is_same(found: &Evidence, known: &KnownRepo) -> bool {
    matches!(decide(found, std::slice::from_ref(known)), Decision::Same { .. })
}

/// The facts that decide which entry belongs to the repository.
struct Gathered {
    candidates: Vec<Candidate>,
    /// The facts about each candidate, in the same order.
    known: Vec<KnownRepo>,
    /// An unreadable entry, which may belong to the repository, with its error.
    unclear: Option<(RepoName, Option<StorageError>)>,
    /// An entry of the repository that is under another name than the one that it was registered under.
    misplaced: Option<(RepoName, Entry)>,
}

/// Reads the entries of the two names that the repository may get by default. Unless one of them certainly belongs
/// to it, reads all other entries too, since `relink` and `register` may have given it any name.
fn gather(inner: &Inner, identity: &Identity, found: &Evidence, deadline: Deadline) -> Result<Gathered> {
    let roles = [
        (NameRole::Suggested, identity.suggested_name()),
        (NameRole::Distinct, identity.distinct_name()),
    ];
    let mut gathered = Gathered {
        candidates: Vec::new(),
        known: Vec::new(),
        unclear: None,
        misplaced: None,
    };
    let (mut failed, mut replaced) = (None, Vec::new());
    for (role, name) in &roles {
        let (entry, revision) = match read(inner, name, deadline) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            // The search continues, since this repository may be registered under another name.
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
        if entry.is_misplaced(name) {
            let is_alias = entry.name.to_lowercase() == name.as_str().to_lowercase();
            if !is_alias && is_same(found, &known) {
                gathered.misplaced.get_or_insert((name.clone(), entry.clone()));
            } else if !is_alias {
                replaced.push(name.clone());
            }
            // On a file system that ignores case, this is the entry of a name that differs only in case.
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
            // The entry that was here may have been that of this repository.
            if replaced.contains(&name) {
                gathered.unclear.get_or_insert((name, None));
            }
            continue;
        }
        match listed {
            Ok((entry, _)) if entry.kind == LOST => {
                gathered.unclear.get_or_insert((name, None));
            }
            Ok((entry, revision)) => {
                let known = entry.known(NameRole::Other, found);
                if !entry.is_misplaced(&name) {
                    gathered.push(name, entry, revision, known);
                } else if is_same(found, &known) {
                    gathered.misplaced.get_or_insert((name, entry));
                }
            }
            Err(error) => {
                gathered.unclear.get_or_insert((name, Some(error)));
            }
        }
    }
    for (candidate, known) in gathered.candidates.iter().zip(&mut gathered.known) {
        if known.recorded.relation(found) == (Relation::Replaced { same_origin: true }) {
            known.active = is_active(inner, &candidate.name, deadline)?;
        }
    }
    let is_found = |known: &KnownRepo| is_same(found, known);
    match failed {
        Some(error) if !gathered.known.iter().any(is_found) => Err(error),
        _ => Ok(gathered),
    }
}

impl Gathered {
    fn push(&mut self, name: RepoName, entry: Entry, revision: Revision, known: KnownRepo) {
        self.known.push(known);
        self.candidates.push(Candidate {
            name,
            entry,
            revision,
        });
    }
}

/// An entry and its revision, or the error if it is damaged.
type Listed = Result<(Entry, Revision)>;

/// All entries of the registry.
fn entries(inner: &Inner, deadline: Deadline) -> Result<Vec<(RepoName, Listed)>> {
    let mut found = Vec::new();
    for listed in inner.list(&DocumentScope::Repositories, deadline) {
        let Document::Repository(name) = listed?.document else {
            continue;
        };
        match read(inner, &name, deadline) {
            Ok(Some(entry)) => found.push((name, Ok(entry))),
            Ok(None) => {}
            // A damaged entry must not prevent the search for other repositories.
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

/// Stores changed contents of an entry. A read-only handle stores nothing.
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

/// The name that messages propose for a repository: the one that its path determines, so that all messages about
/// the path propose the same name. If it is taken, another one.
fn free_name(inner: &Inner, identity: &Identity, deadline: Deadline) -> RepoName {
    let name = identity.distinct_name();
    match read(inner, &name, deadline) {
        Ok(None) => name,
        _ => identity.proposed_name(),
    }
}
