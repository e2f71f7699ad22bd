//! Reads documents. Takes no lock and changes nothing.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{
    Deadline, ErrorKind, ForeignKind, Result, Revision, StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, ORPHANED};

use super::Documents;
use super::envelope::{Fault, HEAD, Head, decode, holds_as_a_stream, read_head};
use super::ours;
use crate::fs::{FileKind, FileRead, FsFile, OpenMode};

/// The result of reading the path of a document.
#[derive(Debug)]
pub(crate) enum DocumentRead {
    /// The document does not exist.
    Absent,
    /// A document, verified unless another program wrote it.
    Valid(StoredDocument),
    /// A file of another program in an unknown form, with the error that describes it.
    Foreign(StorageError),
    /// A damaged document, with the error that describes the damage, and the bytes.
    Damaged(StorageError, Vec<u8>),
}

impl Documents {
    /// Implements [`DocumentStore::get`](prodigy_storage_backend::DocumentStore::get).
    pub(crate) fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        const GET: &str = "get document";
        let path = document.path();
        deadline.check(GET, &path.display(), "its turn")?;
        match self.look(GET, &path)? {
            DocumentRead::Absent => Ok(None),
            DocumentRead::Valid(document) => Ok(Some(document)),
            DocumentRead::Foreign(error) => Err(self.skipped(&path, error)),
            DocumentRead::Damaged(error, _) => Err(error),
        }
    }

    /// Implements [`DocumentStore::revision`](prodigy_storage_backend::DocumentStore::revision). Reads only the head of
    /// the file. A bare document of another program has no head, and its revision is the hash of the whole file.
    pub(crate) fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        const REVISION: &str = "read revision";
        let path = document.path();
        deadline.check(REVISION, &path.display(), "its turn")?;
        self.revision_at(REVISION, &path)
    }

    pub(super) fn revision_at(&self, operation: &'static str, path: &Path) -> Result<Option<Revision>> {
        match self.head(operation, path)? {
            None => return Ok(None),
            Some(Head::Ours(revision)) => return Ok(Some(revision)),
            Some(_) => {}
        }
        match self.look(operation, path)? {
            DocumentRead::Absent => Ok(None),
            DocumentRead::Valid(document) => Ok(Some(document.revision())),
            DocumentRead::Foreign(error) => Err(self.skipped(path, error)),
            DocumentRead::Damaged(error, _) => Err(error),
        }
    }

    /// The head of a document; `None` if the document does not exist.
    pub(super) fn head(&self, operation: &'static str, path: &Path) -> Result<Option<Head>> {
        let head = self.first_bytes(operation, path)?;
        Ok(head.map(|head| read_head(&head)))
    }

    fn first_bytes(&self, operation: &'static str, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_document(operation, path)? else {
            return Ok(None);
        };
        let mut head = vec![0; HEAD];
        let read = file
            .read_full_at(&mut head, 0)
            .map_err(|error| self.root.read_fault(operation, path, error))?;
        head.truncate(read);
        Ok(Some(head))
    }

    /// Counts a skipped document of another program, and returns the error unchanged.
    fn skipped(&self, path: &Path, error: StorageError) -> StorageError {
        let kind = match path.starts_with(ORPHANED) {
            true => ForeignKind::OrphanLists,
            false => ForeignKind::Checkpoints,
        };
        self.root.foreign.skip(kind, path, 1);
        error
    }

    /// Reads the document at a path. Damage is returned as a value; a newer format is an error.
    pub(crate) fn look(&self, operation: &'static str, path: &Path) -> Result<DocumentRead> {
        match self.open_document(operation, path)? {
            None => Ok(DocumentRead::Absent),
            Some(file) => self.read_document(operation, path, &*file),
        }
    }

    pub(super) fn open_document(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> Result<Option<Box<dyn FsFile>>> {
        match self.root.fs.open(path, OpenMode::Read) {
            Ok(file) if path.extension().is_some_and(|ending| ending == "zst") => {
                self.unpack(operation, path, file).map(Some)
            }
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open_packed(operation, path),
            // A folder at the path of a checkpoint counts as damage, so that a search for the newest document continues
            // with the one before it.
            Err(error) if self.is_folder(path) => {
                let why = "there is a folder at the path of the file";
                let at = self.root.absolute(path);
                let damaged = StorageError::new(ErrorKind::Damaged, operation, at.display(), why);
                let hint = "find out who put it there, and move it away";
                Err(damaged.with_hint(hint).with_source(error))
            }
            Err(error) => Err(self.root.read_fault(operation, path, error)),
        }
    }

    fn is_folder(&self, path: &Path) -> bool {
        let found = self.root.fs.metadata(path);
        found.is_ok_and(|found| found.kind == FileKind::Folder)
    }

    /// Decides the result for a document above the size limit.
    ///
    /// A document that this store wrote is an error, so that no older document is taken for the newest one. It is
    /// verified as a stream, so damage is reported as damage. A document of another program can't be verified, and is
    /// skipped as unreadable.
    fn large_document(
        &self,
        operation: &'static str,
        path: &Path,
        file: &dyn FsFile,
    ) -> Result<DocumentRead> {
        let at = self.root.absolute(path);
        let mut head = vec![0; HEAD];
        let read = file.read_full_at(&mut head, 0);
        let read = read.map_err(|error| self.root.read_fault(operation, path, error))?;
        head.truncate(read);
        if !ours::document_at(path, &head) {
            let why = "the file is not read: it carries none of the marks of this program, and is larger than `max_document_size`";
            let error = StorageError::new(ErrorKind::Foreign, operation, at.display(), why);
            return Ok(DocumentRead::Foreign(error.with_hint(
                "set a larger `backend_config.max_document_size` to read it; it stays as it is, for the program that wrote it",
            )));
        }
        let is_blank = head.iter().all(|byte| *byte == 0);
        Err(match holds_as_a_stream(FileRead::new(file, 0)) {
            Ok(true) if !is_blank => self.too_large(operation, at.display()),
            Ok(_) => {
                let why = "its checksum does not hold; it is also larger than `max_document_size`";
                StorageError::new(ErrorKind::Damaged, operation, at.display(), why).with_hint(
                    "restore it from a backup, or repair with a larger `backend_config.max_document_size`",
                )
            }
            Err(error) => self.root.read_fault(operation, path, error),
        })
    }

    pub(super) fn read_document(
        &self,
        operation: &'static str,
        path: &Path,
        file: &dyn FsFile,
    ) -> Result<DocumentRead> {
        let at = self.root.absolute(path);
        let bytes = match file.read_to_end(0, self.most_read()) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return self.large_document(operation, path, file);
            }
            other => other.map_err(|error| self.root.read_fault(operation, path, error))?,
        };
        match decode(bytes, path.starts_with(ORPHANED)) {
            Ok(document) => Ok(DocumentRead::Valid(document)),
            Err((Fault::Newer(format), _)) => Err(StorageError::new(
                ErrorKind::NewerFormat,
                operation,
                at.display(),
                format!("the document has format {format}, this version knows up to 1"),
            )
            .with_hint("use the version that wrote it, or a newer one")),
            Err((
                Fault::Damaged {
                    why,
                    at: offset,
                    source,
                },
                bytes,
            )) => {
                if !ours::document_at(path, &bytes) && !ours::is_overwritten(&self.root, path, &bytes) {
                    return Ok(DocumentRead::Foreign(another_programs(
                        operation,
                        at.display(),
                        source,
                    )));
                }
                let why = match offset {
                    Some(offset) => format!("{why}, at byte {offset} of {}", bytes.len()),
                    None => format!("{why}; it has {} bytes", bytes.len()),
                };
                let error = StorageError::new(ErrorKind::Damaged, operation, at.display(), why).with_hint(
                    "the file changed after it was stored, or another program wrote it: restore it from a backup, or run \
                     `prodigy-storage doctor --repair`, which keeps it in the quarantine and frees its name",
                );
                let error = match source {
                    Some(source) => error.with_source(source),
                    None => error,
                };
                Ok(DocumentRead::Damaged(error, bytes))
            }
        }
    }
}

/// The error for a file that this store did not write and whose form is unknown.
fn another_programs(
    operation: &'static str,
    target: impl std::fmt::Display,
    source: Option<serde_json::Error>,
) -> StorageError {
    let error = StorageError::new(
        ErrorKind::Foreign,
        operation,
        target,
        "the file is not read: it carries none of the marks of this program, and is of no form that is known",
    )
    .with_hint("it stays as it is, for the program that wrote it; if no program needs it, look at it and move it away");
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}
