//! Writes an entry to the store's audit log for each removal that a command makes.

use prodigy_storage::{
    JobAddress, Removal, RemovalKind, RemovalOutcome, RepoName, Result as Stored, Storage, Timestamp,
};

use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;

/// A removal that a command is about to make.
pub(crate) struct Audited<'s> {
    storage: &'s Storage,
    removal: Removal,
}

impl<'s> Audited<'s> {
    /// A removal of data of a job, by this command.
    pub(crate) fn new(storage: &'s Storage, kind: RemovalKind, job: &JobAddress, command: &str) -> Self {
        let removal = Removal::new(kind, command, Timestamp::now()).job(job.clone());
        Self { storage, removal }
    }

    /// A removal of data that belongs to a repository and to no job.
    pub(crate) fn of_repo(storage: &'s Storage, kind: RemovalKind, repo: &RepoName, command: &str) -> Self {
        let removal = Removal::new(kind, command, Timestamp::now()).repo(repo.clone());
        Self { storage, removal }
    }

    /// The number of removed things, and their bytes.
    pub(crate) fn size(mut self, count: usize, bytes: u64) -> Self {
        self.removal = self.removal.size(count as u64, bytes);
        self
    }

    /// Makes the removal. An entry is written before it, and another entry if it fails. On a full disk the removal is
    /// made first; if the entry can't be written afterwards, that is reported as a failure.
    pub(crate) fn make<T>(
        self,
        app: &mut App<'_>,
        remove: impl FnOnce(&mut App<'_>) -> Result<T>,
    ) -> Result<(T, Exit)> {
        let mut removal = self.removal;
        let mut lacks = record(self.storage, &removal).err();
        let made = remove(app);
        if let Err(failure) = &made {
            removal = removal.outcome(RemovalOutcome::Kept { why: failure.what() });
        }
        if made.is_err() || lacks.is_some() {
            lacks = record(self.storage, &removal).err();
        }
        let exit = match &lacks {
            None => Exit::Done,
            Some(error) => {
                app.error(&format!(
                    "the audit log lacks the removal of {}: {error:#}",
                    removal.kind.as_str()
                ));
                Exit::Failed
            }
        };
        Ok((made?, exit))
    }
}

fn record(storage: &Storage, removal: &Removal) -> Stored<()> {
    storage.audit_log()?.append(removal).map(drop)
}
