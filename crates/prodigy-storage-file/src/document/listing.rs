//! Listing documents by their names.

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Deadline, DocumentEntry, Page, PageBuilder, PageOptions, Result};
use prodigy_storage_layout::{
    Document, DocumentScope, Entry, RepoName, STATE, Stamp, checkpoints_folder, orphans_folder,
};

use super::Documents;
use super::newest::is_anothers_state;
use crate::fs::{FileKind, FsFolder, Metadata};

const LIST: &str = "list documents";

/// The keys of a page, in the order of the listing: a document and its stamp.
type Keys = PageBuilder<(Option<Stamp>, Document)>;

fn key(document: Document) -> (Option<Stamp>, Document) {
    (document.stamp().cloned(), document)
}

impl Documents {
    /// [`DocumentStore::list`](prodigy_storage_backend::DocumentStore::list): those without a stamp come first, by name.
    pub(crate) fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        let mut options = PageOptions::default().limit(page.limit);
        options.after = page.after.clone().map(key);
        let mut keys = PageBuilder::new(options);
        let path = match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) => checkpoints_folder(job),
            DocumentScope::Orphans(repo) => orphans_folder(repo),
            DocumentScope::Repositories => {
                self.find_repositories(&mut keys)?;
                PathBuf::new()
            }
            // A scope that a later layout adds lists nothing here.
            _ => return Ok(Page::new(Vec::new(), None)),
        };
        let folder = match scope {
            DocumentScope::Repositories => None,
            _ => self.root.open_folder(LIST, &path)?,
        };
        if let Some(folder) = &folder {
            self.find_in(&**folder, &path, scope, &mut keys)?;
        }
        let keys = keys.finish();
        let mut found = Vec::with_capacity(keys.entries.len());
        for (_, document) in keys.entries {
            let path = document.path();
            deadline.check(LIST, &path.display(), "the file system")?;
            let looked = match (&folder, path.file_name()) {
                (Some(folder), Some(name)) => folder.metadata_of(name),
                _ => self.root.fs.metadata(&path),
            };
            found.extend(self.entry(&path, document, looked)?);
        }
        Ok(Page::new(found, keys.next.map(|(_, document)| document)))
    }

    /// The documents of a scope whose names stand in one folder.
    fn find_in(
        &self,
        folder: &dyn FsFolder,
        path: &Path,
        scope: &DocumentScope,
        keys: &mut Keys,
    ) -> Result<()> {
        let parse = |name: &str| match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) => {
                Document::in_checkpoints(job, name)
            }
            _ => match Entry::parse(&path.join(name))? {
                Entry::Document(document) => Some(document),
                _ => None,
            },
        };
        let mut others = 0;
        folder
            .names(&mut |name| match parse(name) {
                Some(document) if scope.contains(&document) => keys.offer(key(document)),
                Some(_) => {}
                None => others += u64::from(is_anothers_state(path, name)),
            })
            .map_err(|error| self.root.read_fault(LIST, path, error))?;
        match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) => {
                self.skip_state(LIST, job, others)
            }
            _ => Ok(()),
        }
    }

    fn find_repositories(&self, keys: &mut Keys) -> Result<()> {
        for entry in self.root.names_in(LIST, Path::new(STATE))? {
            if entry.kind == FileKind::Folder
                && let Ok(repo) = RepoName::new(&entry.name)
            {
                keys.offer(key(Document::Repository(repo)));
            }
        }
        Ok(())
    }

    /// The line of a listing for a path; `None` if the file was removed since.
    fn entry(
        &self,
        path: &Path,
        document: Document,
        found: io::Result<Metadata>,
    ) -> Result<Option<DocumentEntry>> {
        match found {
            // Also for a link and other things that are no file: a reader of it gets an error, instead of nothing.
            Ok(file) => Ok(Some(DocumentEntry::new(document, file.len, file.modified))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.root.read_fault(LIST, path, error)),
        }
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
