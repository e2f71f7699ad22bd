//! The state of jobs that are being deleted.
//!
//! A job counts as deleted once its tombstone (a file) is durable: every read then finds nothing. The deletion then
//! removes the job's files, and the tombstone last. The deleting process holds all locks of the job until the end. If
//! it dies, the locks are free and the tombstone stays: the next write to the job, or the next deletion, first removes
//! the remaining files. So each writer checks for a tombstone after it has taken a lock of the job.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, Result, StorageError};
use prodigy_storage_layout::{
    Document, Entry, JobAddress, Part, RepoName, Timestamp, checkpoints_folder, events_folder, queue_folder,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LockedFile, Replace, Root, TempFile};
use crate::fs::{FileKind, OpenMode, SEALED_MODE, TEMP_PREFIX};

/// The reason for which a job has a tombstone.
enum Tombstone {
    Deleted,
    /// A restore of the job that is not complete.
    Restored,
}

impl Root {
    /// True if a deletion or a restore of the job has begun and is not complete.
    ///
    /// Fails if the file at the path of the tombstone has other contents, since such a file must neither hide the job
    /// nor cause its removal.
    pub(crate) fn is_deleted(&self, operation: &'static str, job: &JobAddress) -> Result<bool> {
        Ok(self.tombstone(operation, job)?.is_some())
    }

    /// True if data of the job exists. What a deletion leaves (fencing marks), locks, temporary files and empty folders do not count.
    pub(crate) fn has_data_of(&self, operation: &'static str, job: &JobAddress) -> Result<bool> {
        let marks = Document::Fencing(job.clone()).path();
        let lock = Entry::QueueLock(job.clone()).path();
        if self.fs.metadata(&Document::Orphans(job.clone()).path()).is_ok() {
            return Ok(true);
        }
        for folder in [events_folder(job), queue_folder(job), checkpoints_folder(job)] {
            let mut names = self.names_in(operation, &folder)?.into_iter();
            if names.any(|entry| {
                let path = folder.join(&entry.name);
                path != marks && path != lock && !entry.name.starts_with(TEMP_PREFIX)
            }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True if the tombstone belongs to a restore that is not complete. All existing files of the job then come from
    /// the archive.
    pub(crate) fn is_restored(&self, job: &JobAddress) -> bool {
        matches!(
            self.tombstone("read tombstone", job),
            Ok(Some(Tombstone::Restored))
        )
    }

    fn tombstone(&self, operation: &'static str, job: &JobAddress) -> Result<Option<Tombstone>> {
        let path = Entry::Tombstone(job.clone()).path();
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let found = match self.fs.metadata(&path) {
            Ok(found) => found,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(self.read_fault(operation, &path, error)),
        };
        let file = self.fs.open(&path, OpenMode::Read);
        let bytes = match file.and_then(|file| file.read_to_end(0, 4096)) {
            Ok(bytes) => bytes,
            // The file is gone, so the deletion has just ended. A link whose target is absent is an error, however, since the link remains.
            Err(error) if is_gone(&error) && found.kind == FileKind::File => return Ok(None),
            Err(error) => return Err(self.read_fault(operation, &path, error)),
        };
        if bytes.is_empty() && found.mode == SEALED_MODE {
            return Ok(Some(Tombstone::Deleted));
        }
        let text: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match (text.get("restoring"), text.get("deleted_at")) {
            (Some(_), _) => Ok(Some(Tombstone::Restored)),
            (None, Some(_)) => Ok(Some(Tombstone::Deleted)),
            (None, None) => Err(StorageError::new(
                ErrorKind::Damaged,
                operation,
                self.absolute(&path).display(),
                "it is at the path of the mark of a deletion, and no deletion wrote it",
            )
            .with_hint(
                "move it away, or run `prodigy-storage doctor --repair`: the job is complete without it",
            )),
        }
    }

    /// Fails if the job is being deleted, or was moved to another store. To be called under a lock of the job, before
    /// the first write.
    pub(crate) fn check_takes_writes(&self, operation: &'static str, job: &JobAddress) -> Result<()> {
        self.refuse_moved(operation, &Part::Job(job.clone()))?;
        match self.is_deleted(operation, job)? {
            true => Err(deleted(operation, job, "the job is being deleted")),
            false => Ok(()),
        }
    }
}

/// The contents of `deletions/{repo}.json`.
#[derive(Serialize, Deserialize)]
struct DeletedLogs {
    /// The creation time of the newest segment of any deleted log, in nanoseconds since 1970.
    newest_made: i64,
}

impl Root {
    /// The creation time of the newest segment in any deleted log of the repository. A new log only gets segments with
    /// a later time, whatever the clock shows, so that no cursor into a deleted log fits a new log of the same name.
    pub(crate) fn newest_deleted(&self, repo: &RepoName) -> Result<Option<Timestamp>> {
        const READ: &str = "read deleted logs";
        let path = Entry::DeletedLogs(repo.clone()).path();
        let Some(bytes) = self.read_small(READ, &path, 4096)? else {
            return Ok(None);
        };
        match serde_json::from_slice::<DeletedLogs>(&bytes) {
            Ok(deleted) => Ok(Some(Timestamp::from_nanos(deleted.newest_made))),
            Err(error) => Err(StorageError::new(
                ErrorKind::Damaged,
                READ,
                self.absolute(&path).display(),
                "it does not hold the time of the newest deleted segment",
            )
            .with_hint(
                "run `prodigy-storage doctor --repair`, which moves it to the quarantine; then read logs of this repository that are \
                 begun again without a cursor",
            )
            .with_source(error)),
        }
    }

    /// Stores the creation time of the newest segment of a log that is about to be removed, unless a later one is stored.
    pub(crate) fn note_deleted(
        &self,
        operation: &'static str,
        repo: &RepoName,
        made: Timestamp,
        deadline: Deadline,
    ) -> Result<()> {
        let lock = Entry::RegistryLock.path();
        let _lock = LockedFile::take(self, &lock, operation, operation, deadline)?;
        if self.newest_deleted(repo)?.is_some_and(|newest| newest >= made) {
            return Ok(());
        }
        let deleted = DeletedLogs {
            newest_made: made.as_nanos(),
        };
        // An integer can always be serialised.
        let text = serde_json::to_vec(&deleted).unwrap_or_default();
        let path = Entry::DeletedLogs(repo.clone()).path();
        TempFile::sweep_all(self, path.parent().unwrap_or(Path::new("")));
        TempFile::write_whole(
            self,
            operation,
            &path,
            &[&text],
            Replace::Over,
            Durability::Strict,
        )
        .map(drop)
    }
}

/// The error if a job was deleted during a call.
pub(crate) fn deleted(operation: &'static str, job: &JobAddress, why: &'static str) -> StorageError {
    StorageError::new(ErrorKind::Deleted, operation, job, why)
        .with_hint("what is written to the job from now on begins it again, without anything from before")
}
