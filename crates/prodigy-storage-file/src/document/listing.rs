//! Listing documents by their names.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Deadline, DocumentEntry, Result};
use prodigy_storage_layout::{
    Document, DocumentScope, Entry, RepoName, STATE, checkpoints_folder, orphans_folder,
};

use crate::fs::{DirEntry, FileKind};
use crate::store::Store;

const LIST: &str = "list documents";

impl Store {
    /// [`Backend::list`](prodigy_storage_backend::Backend::list): those without a stamp come first, by name.
    pub(crate) fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        let mut found = Vec::new();
        for path in self.candidates(scope)? {
            deadline.check(LIST, &path.display(), "the file system")?;
            let Some(Entry::Document(document)) = Entry::parse(&path) else {
                continue;
            };
            if !scope.contains(&document) {
                continue;
            }
            match self.fs.metadata(&path) {
                // Also what is no file, such as a link: a reader of it is told, instead of finding nothing.
                Ok(file) => found.push(DocumentEntry::new(document, file.len, file.modified)),
                // Removed since.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.read_fault(LIST, &path, error)),
            }
        }
        let order = |document: &Document| (document.stamp().cloned(), document.clone());
        found.sort_by_cached_key(|entry| order(&entry.document));
        Ok(found)
    }

    /// Paths that may be documents of the scope.
    fn candidates(&self, scope: &DocumentScope) -> Result<Vec<PathBuf>> {
        let folder = match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) => checkpoints_folder(job),
            DocumentScope::Orphans(repo) => orphans_folder(repo),
            DocumentScope::Repositories => {
                let repos = self.names_in(LIST, Path::new(STATE))?;
                return Ok(repos
                    .iter()
                    .filter(|entry| entry.kind == FileKind::Folder)
                    .filter_map(|entry| RepoName::new(&entry.name).ok())
                    .map(|repo| Entry::Document(Document::Repository(repo)).path())
                    .collect());
            }
            // A scope that a later layout adds lists nothing here.
            _ => return Ok(Vec::new()),
        };
        Ok(self
            .names_in(LIST, &folder)?
            .iter()
            .map(|entry| folder.join(&entry.name))
            .collect())
    }

    /// The names in a folder; none where it is absent.
    pub(crate) fn names_in(&self, operation: &'static str, folder: &Path) -> Result<Vec<DirEntry>> {
        match self.fs.list(folder) {
            Ok(entries) => Ok(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.read_fault(operation, folder, error)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
