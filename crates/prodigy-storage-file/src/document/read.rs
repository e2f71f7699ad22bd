//! Reading documents. Takes no lock, changes nothing.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, ErrorKind, Result, Revision, StorageError, StoredDocument};
use prodigy_storage_layout::{Document, Entry, ORPHANED};

use super::envelope::{Fault, HEAD, Head, decode, read_head};
use crate::fs::{FsFile, OpenMode};
use crate::store::Store;

/// What stands at the place of a document.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// A document, verified unless another program wrote it.
    Valid(StoredDocument),
    /// Damage: the error that says so, and the bytes.
    Damaged(StorageError, Vec<u8>),
}

impl Store {
    /// [`DocumentStore::get`](prodigy_storage_backend::DocumentStore::get).
    pub(crate) fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        const GET: &str = "get document";
        let path = Entry::Document(document.clone()).path();
        deadline.check(GET, &path.display(), "its turn")?;
        match self.look(GET, &path)? {
            Found::Absent => Ok(None),
            Found::Valid(document) => Ok(Some(document)),
            Found::Damaged(error, _) => Err(error),
        }
    }

    /// [`DocumentStore::revision`](prodigy_storage_backend::DocumentStore::revision): reads the first bytes; a bare document of
    /// another program is read whole, since its revision is its hash.
    pub(crate) fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        const REVISION: &str = "read revision";
        let path = Entry::Document(document.clone()).path();
        deadline.check(REVISION, &path.display(), "its turn")?;
        self.revision_at(REVISION, &path)
    }

    pub(super) fn revision_at(&self, operation: &'static str, path: &Path) -> Result<Option<Revision>> {
        let Some(file) = self.open_document(operation, path)? else {
            return Ok(None);
        };
        let mut head = [0; HEAD];
        let read = file
            .read_full_at(&mut head, 0)
            .map_err(|error| self.read_fault(operation, path, error))?;
        if let Head::Ours(revision) = read_head(head.get(..read).unwrap_or_default()) {
            return Ok(Some(revision));
        }
        match self.read_document(operation, path, &*file)? {
            Found::Absent => Ok(None),
            Found::Valid(document) => Ok(Some(document.revision())),
            Found::Damaged(error, _) => Err(error),
        }
    }

    /// What stands at a document's place. Damage is no error here; a newer format is.
    pub(crate) fn look(&self, operation: &'static str, path: &Path) -> Result<Found> {
        match self.open_document(operation, path)? {
            None => Ok(Found::Absent),
            Some(file) => self.read_document(operation, path, &*file),
        }
    }

    pub(super) fn open_document(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> Result<Option<Box<dyn FsFile>>> {
        match self.fs.open(path, OpenMode::Read) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.read_fault(operation, path, error)),
        }
    }

    fn read_document(&self, operation: &'static str, path: &Path, file: &dyn FsFile) -> Result<Found> {
        let at = self.absolute(path);
        let bytes = file
            .read_to_end(0, self.most_read())
            .map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => self.too_large(operation, at.display()),
                _ => self.read_fault(operation, path, error),
            })?;
        match decode(bytes, path.starts_with(ORPHANED)) {
            Ok(document) => Ok(Found::Valid(document)),
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
                let why = match offset {
                    Some(offset) => format!("{why}, at byte {offset} of {}", bytes.len()),
                    None => format!("{why}; it has {} bytes", bytes.len()),
                };
                let error = StorageError::new(ErrorKind::Damaged, operation, at.display(), why).with_hint(
                    "the file changed after it was stored, or another program wrote it: look at it, and restore it \
                     or move it away",
                );
                let error = match source {
                    Some(source) => error.with_source(source),
                    None => error,
                };
                Ok(Found::Damaged(error, bytes))
            }
        }
    }
}
