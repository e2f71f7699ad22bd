//! Replaces and deletes documents.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use prodigy_storage_backend::{
    Body, Deadline, Durability, ErrorKind, Expected, Fence, FenceMarks, PutOptions, Result, Revision,
    StorageError,
};
use prodigy_storage_layout::{Document, Entry, Part};

use super::Documents;
use super::envelope::{Envelope, Head};
use super::ours;
use super::read::DocumentRead;
use crate::root::{LockedFile, Quarantine, Replace, TempFile, count};

/// The number of writes after which a put also removes the temporary files that dead writers left in its folder.
const SWEEP_EVERY: u64 = 64;

impl Documents {
    /// Implements [`DocumentStore::put`](prodigy_storage_backend::DocumentStore::put).
    pub(crate) fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        const PUT: &str = "put document";
        let path = document.path();
        body.check_size(self.root.options.max_document_size, PUT, path.display())?;
        self.root.prepare_write(PUT, &path.display())?;
        deadline.check(PUT, &path.display(), "its turn")?;
        FenceMarks::check_target(PUT, document, options.fencing.as_ref())?;
        let _lock = self.lock_documents(document, PUT, deadline)?;
        match (document.job(), &options.fencing) {
            (Some(job), Some(fence)) => self.pass_fence(PUT, job, fence, &path, deadline)?,
            _ => self.keep_token(document, deadline)?,
        }
        if options.expected != Expected::Any {
            let found = self.revision_at(PUT, &path)?;
            self.check_expected(PUT, &path, options.expected, found)?;
        } else if matches!(document, Document::Repository(_))
            && let DocumentRead::Damaged(error, bytes) = self.look(PUT, &path)?
        {
            // Keeps the damaged registry entry in quarantine: its bytes may still show which repository owns the name.
            self.set_aside(&path, &error, &bytes);
        }
        self.check_ours(PUT, document, &path)?;
        if self
            .root
            .counters
            .documents
            .load(Ordering::Relaxed)
            .is_multiple_of(SWEEP_EVERY)
        {
            TempFile::sweep_all(&self.root, path.parent().unwrap_or(Path::new("")));
        }
        let replace = match options.expected {
            Expected::Absent => Replace::Never,
            Expected::Any | Expected::Revision(_) => Replace::Over,
        };
        let revision = self.write_document(PUT, &path, body, replace, options.durability)?;
        self.unlink_packed(PUT, document)?;
        Ok(revision)
    }

    /// Implements [`DocumentStore::delete`](prodigy_storage_backend::DocumentStore::delete).
    pub(crate) fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        const DELETE: &str = "delete document";
        let path = document.path();
        self.root.prepare_write(DELETE, &path.display())?;
        deadline.check(DELETE, &path.display(), "its turn")?;
        FenceMarks::check_target(DELETE, document, fence)?;
        let _lock = self.lock_documents(document, DELETE, deadline)?;
        match (document.job(), fence) {
            (Some(job), Some(fence)) => self.pass_fence(DELETE, job, fence, &path, deadline)?,
            _ => self.keep_token(document, deadline)?,
        }
        if expected != Expected::Any {
            let found = self.revision_at(DELETE, &path)?;
            self.check_expected(DELETE, &path, expected, found)?;
        }
        self.check_ours(DELETE, document, &path)?;
        let removed = self.root.unlink(DELETE, &path)?;
        let removed = self.unlink_packed(DELETE, document)? || removed;
        if !removed && !self.folder_is_there(&path) {
            return Ok(false);
        }
        // Sync even if the document was absent: the process that removed it may have died before its sync.
        if durability == Durability::Strict {
            self.root.sync_folder(path.parent().unwrap_or(Path::new("")))
                .map_err(|error| {
                    StorageError::new(
                        ErrorKind::OutcomeUnknown,
                        DELETE,
                        self.root.absolute(&path).display(),
                        "it was removed, but its folder could not be synced: it may be back after a loss of power",
                    )
                    .with_hint("delete it again")
                    .with_source(error)
                })?;
        } else {
            self.root.sync_later(path.parent().unwrap_or(Path::new("")))?;
        }
        Ok(removed)
    }

    /// Refuses to replace or remove a file that another program wrote at the path of a document. The caller holds the
    /// document's lock.
    pub(super) fn check_ours(&self, operation: &'static str, document: &Document, path: &Path) -> Result<()> {
        if ours::by_name(document) {
            return Ok(());
        }
        let is_anothers = match self.head(operation, path) {
            Ok(None | Some(Head::Ours(_))) => false,
            Ok(Some(_)) => match self.look(operation, path)? {
                DocumentRead::Valid(found) => !found.is_verified(),
                DocumentRead::Foreign(_) => true,
                // The file may be of another program after all, so only a repair moves it, to quarantine.
                DocumentRead::Damaged(error, bytes) if ours::is_overwritten(&self.root, path, &bytes) => {
                    return Err(error);
                }
                DocumentRead::Absent | DocumentRead::Damaged(..) => false,
            },
            // A link may be replaced or removed, since that changes the link itself and not its target.
            Err(error) if error.kind() == ErrorKind::Refused => false,
            Err(error) => return Err(error),
        };
        if !is_anothers {
            return Ok(());
        }
        Err(StorageError::new(
            ErrorKind::Unsupported,
            operation,
            self.root.absolute(path).display(),
            "the file belongs to another program, and is neither replaced nor removed",
        )
        .with_hint(
            "use that program for it, or a job id of your own; if no program needs the file, look at it and move it away",
        ))
    }

    /// True if a deletion of the job may remove the document: this store wrote it, or it is absent.
    pub(crate) fn is_ours(&self, operation: &'static str, document: &Document) -> Result<bool> {
        match self.check_ours(operation, document, &document.path()) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Damaged) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn folder_is_there(&self, path: &Path) -> bool {
        self.root
            .fs
            .metadata(path.parent().unwrap_or(Path::new("")))
            .is_ok()
    }

    /// Takes the lock that all writers of a document share: the state lock of a job, the lock for the documents of a
    /// repository, or the lock of the registry.
    pub(crate) fn lock_documents(
        &self,
        document: &Document,
        operation: &'static str,
        deadline: Deadline,
    ) -> Result<LockedFile<'_>> {
        let lock: PathBuf = match document.job() {
            Some(job) => Entry::StateLock(job.clone()).path(),
            None => match document {
                Document::Own(owner, ..) => Entry::DocumentsLock(owner.repo().clone()).path(),
                _ => Entry::RegistryLock.path(),
            },
        };
        let locked = LockedFile::take(&self.root, &lock, operation, operation, deadline)?;
        match document.job() {
            Some(job) => self.root.check_takes_writes(operation, job)?,
            None => self
                .root
                .refuse_moved(operation, &Part::Repository(document.repo().clone()))?,
        }
        Ok(locked)
    }

    pub(super) fn check_expected(
        &self,
        operation: &'static str,
        path: &Path,
        expected: Expected,
        found: Option<Revision>,
    ) -> Result<()> {
        let wanted = match expected {
            Expected::Any => return Ok(()),
            Expected::Absent if found.is_none() => return Ok(()),
            Expected::Revision(wanted) if found == Some(wanted) => return Ok(()),
            Expected::Absent => "no document".to_owned(),
            Expected::Revision(wanted) => format!("revision {wanted}"),
        };
        let found = found.map_or_else(|| "no document".to_owned(), |found| format!("revision {found}"));
        Err(StorageError::new(
            ErrorKind::Conflict,
            operation,
            self.root.absolute(path).display(),
            format!("expected {wanted}, found {found}"),
        )
        .with_hint("another writer was there in between: read it again and decide"))
    }

    /// Moves a damaged document to quarantine. The caller holds the document's lock. If the move fails, a warning is
    /// logged and the document stays; later reads report its damage again. A file of another program always stays.
    pub(super) fn set_aside(&self, path: &Path, error: &StorageError, bytes: &[u8]) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "a damaged document is skipped"
        );
        if !ours::document_at(path, bytes) {
            return;
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let moved = Quarantine::of(&self.root).keep(path, 0, bytes).and_then(|_| {
            self.root
                .fs
                .unlink(path)
                .map_err(|error| self.root.write_fault("quarantine", path, error))?;
            self.root.sync_folder(folder)
        });
        if let Err(error) = moved {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a damaged document could not be moved to quarantine"
            );
        }
    }

    /// Writes a document atomically, under a new revision.
    pub(crate) fn write_document(
        &self,
        operation: &'static str,
        path: &Path,
        body: Body<'_>,
        replace: Replace,
        durability: Durability,
    ) -> Result<Revision> {
        let envelope = Envelope::new(Revision::random(), body);
        TempFile::write_whole(
            &self.root,
            operation,
            path,
            &envelope.parts(),
            replace,
            durability,
        )?;
        count(&self.root.counters.documents, 1);
        tracing::debug!(path = %path.display(), bytes = body.as_bytes().len(), "document written");
        Ok(envelope.revision)
    }
}
