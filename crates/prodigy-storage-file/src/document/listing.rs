//! Listing documents by their names.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Deadline, DocumentEntry, Result};
use prodigy_storage_layout::{
    Document, DocumentScope, Entry, RepoName, STATE, checkpoints_folder, orphans_folder,
};

use super::Documents;
use super::newest::is_anothers_state;
use crate::fs::{FileKind, Metadata};

const LIST: &str = "list documents";

impl Documents {
    /// [`DocumentStore::list`](prodigy_storage_backend::DocumentStore::list): those without a stamp come first, by name.
    pub(crate) fn list(&self, scope: &DocumentScope, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        let mut found = match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) => {
                let folder = checkpoints_folder(job);
                self.list_in(&folder, scope, deadline, |name| {
                    Document::in_checkpoints(job, name)
                })?
            }
            DocumentScope::Orphans(repo) => {
                let folder = orphans_folder(repo);
                self.list_in(&folder, scope, deadline, |name| {
                    match Entry::parse(&folder.join(name))? {
                        Entry::Document(document) => Some(document),
                        _ => None,
                    }
                })?
            }
            DocumentScope::Repositories => self.list_repositories(deadline)?,
            // A scope that a later layout adds lists nothing here.
            _ => Vec::new(),
        };
        found.sort_unstable_by(|one, other| {
            let stamps = one.document.stamp().cmp(&other.document.stamp());
            stamps.then_with(|| one.document.cmp(&other.document))
        });
        Ok(found)
    }

    /// The documents of a scope whose names stand in one folder.
    fn list_in(
        &self,
        path: &Path,
        scope: &DocumentScope,
        deadline: Deadline,
        parse: impl Fn(&str) -> Option<Document>,
    ) -> Result<Vec<DocumentEntry>> {
        let Some(folder) = self.root.open_folder(LIST, path)? else {
            return Ok(Vec::new());
        };
        let (mut named, mut others) = (Vec::new(), 0);
        folder
            .names(&mut |name| match parse(name) {
                Some(document) if scope.contains(&document) => named.push((name.to_owned(), document)),
                Some(_) => {}
                None => others += u64::from(is_anothers_state(path, name)),
            })
            .map_err(|error| self.root.read_fault(LIST, path, error))?;
        if let DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) = scope {
            self.skip_state(LIST, job, others)?;
        }
        let mut found = Vec::with_capacity(named.len());
        for (name, document) in named {
            deadline.check(LIST, &path.display(), "the file system")?;
            let looked = folder.metadata_of(name.as_ref());
            found.extend(self.entry(|| path.join(name), document, looked)?);
        }
        Ok(found)
    }

    fn list_repositories(&self, deadline: Deadline) -> Result<Vec<DocumentEntry>> {
        let mut found = Vec::new();
        for entry in self.root.names_in(LIST, Path::new(STATE))? {
            let Ok(repo) = RepoName::new(&entry.name) else {
                continue;
            };
            if entry.kind == FileKind::Folder {
                let document = Document::Repository(repo);
                let path = Entry::Document(document.clone()).path();
                deadline.check(LIST, &path.display(), "the file system")?;
                let looked = self.root.fs.metadata(&path);
                found.extend(self.entry(|| path, document, looked)?);
            }
        }
        Ok(found)
    }

    /// The line of a listing for a path; `None` if the file was removed since.
    fn entry(
        &self,
        path: impl FnOnce() -> PathBuf,
        document: Document,
        found: io::Result<Metadata>,
    ) -> Result<Option<DocumentEntry>> {
        match found {
            // Also for a link and other things that are no file: a reader of it gets an error, instead of nothing.
            Ok(file) => Ok(Some(DocumentEntry::new(document, file.len, file.modified))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.root.read_fault(LIST, &path(), error)),
        }
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
