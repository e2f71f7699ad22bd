//! Writes two entries to the store's audit log for each removal that a command makes: before it and after it.

use prodigy_storage::{
    Event, EventId, JobAddress, Removal, RemovalHistory, RemovalKind, RemovalOutcome, RepoName,
    Result as Stored, Storage, Timestamp,
};

use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;

/// A removal that a command is about to make.
pub(crate) struct Audited<'s> {
    storage: &'s Storage,
    removal: Removal,
    /// Removals of the same data that others began, and that end with this one.
    continues: Vec<Event<Removal>>,
}

impl<'s> Audited<'s> {
    /// A removal of data of a job, by this command.
    pub(crate) fn new(storage: &'s Storage, kind: RemovalKind, job: &JobAddress, command: &str) -> Self {
        Self::of(
            storage,
            Removal::new(kind, command, Timestamp::now()).job(job.clone()),
        )
    }

    /// A removal of data that belongs to a repository and to no job.
    pub(crate) fn of_repo(storage: &'s Storage, kind: RemovalKind, repo: &RepoName, command: &str) -> Self {
        Self::of(
            storage,
            Removal::new(kind, command, Timestamp::now()).repo(repo.clone()),
        )
    }

    fn of(storage: &'s Storage, removal: Removal) -> Self {
        let continues = Vec::new();
        Self {
            storage,
            removal,
            continues,
        }
    }

    /// The number of removed things, and their bytes.
    pub(crate) fn size(mut self, count: usize, bytes: u64) -> Self {
        self.removal = self.removal.size(count as u64, bytes);
        self
    }

    /// Sets the removals of the same data that others began: if this one removes it, they have ended, and removed nothing that it
    /// does not count.
    pub(crate) fn continues(mut self, begun: Vec<Event<Removal>>) -> Self {
        self.continues = begun;
        self
    }

    /// Makes the removal, which returns the number of things that it removed, and its result. On a full disk it is made without the
    /// entry before it. An entry after it that can't be written is reported as a failure.
    pub(crate) fn make<T>(
        self,
        app: &mut App<'_>,
        remove: impl FnOnce(&mut App<'_>) -> (u64, Result<T>),
    ) -> Result<(T, Exit)> {
        let (storage, removal) = (self.storage, self.removal);
        let begun = begin(storage, &removal).ok();
        let (removed, made) = remove(app);
        let left = removal.count.saturating_sub(removed);
        let removed_bytes = removal.bytes / removal.count.max(1) * removed;
        let bytes = if left == 0 { removal.bytes } else { removed_bytes };
        let part = |count, bytes| removal.clone().size(count, bytes).begun(begun);
        let mut entries = Vec::new();
        if begun.is_some() || removed > 0 {
            entries.push(part(removed, bytes).outcome(RemovalOutcome::Removed));
        }
        if removed > 0 {
            entries.extend(self.continues.into_iter().map(|earlier| {
                let ended = earlier.event.size(0, 0).begun(earlier.id);
                ended.outcome(RemovalOutcome::Removed)
            }));
        }
        if let (Err(failure), true, true) = (&made, begun.is_some(), left > 0) {
            let why = failure.what();
            entries.push(part(left, removal.bytes - bytes).outcome(RemovalOutcome::Kept { why }));
        }
        let recorded = match entries.is_empty() {
            true => Ok(()),
            false => storage.audit_log()?.append_batch(entries).map(drop),
        };
        let exit = match recorded {
            Ok(()) => Exit::Done,
            Err(error) => {
                let lacks = match begun {
                    Some(_) => "does not say how the removal ended of",
                    None => "lacks the removal of",
                };
                app.error(&format!(
                    "the audit log {lacks} {}: {error:#}",
                    removal.kind.as_str()
                ));
                Exit::Failed
            }
        };
        Ok((made?, exit))
    }

    /// Makes a removal of one thing, which returns false if the thing was gone.
    pub(crate) fn make_one(
        self,
        app: &mut App<'_>,
        remove: impl FnOnce() -> Stored<bool>,
    ) -> Result<(bool, Exit)> {
        self.make(app, |_| match remove() {
            Ok(removed) => (u64::from(removed), Ok(removed)),
            Err(error) => (0, Err(error.into())),
        })
    }
}

fn begin(storage: &Storage, removal: &Removal) -> Stored<EventId> {
    let begun = removal.clone().outcome(RemovalOutcome::Begun);
    storage.audit_log()?.append(&begun)
}

/// The deletions of jobs that were begun, and that are not known to have ended.
pub(crate) fn unended_deletions(storage: &Storage) -> Stored<Vec<Event<Removal>>> {
    // A damaged entry is reported where the log is printed.
    let entries = RemovalHistory::new(&storage.audit_log()?)?.flatten();
    Ok(entries
        .filter(|entry| {
            let removal = &entry.event;
            let is_deletion = matches!(removal.kind, RemovalKind::Job | RemovalKind::UnfinishedDeletion);
            is_deletion && removal.outcome == RemovalOutcome::Begun
        })
        .collect())
}
