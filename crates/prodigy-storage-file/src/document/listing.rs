//! Lists documents by the names of their files.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{
    Deadline, DocumentCount, DocumentEntry, Page, PageBuilder, PageOptions, Result,
};
use prodigy_storage_layout::{
    DOCUMENTS, Document, DocumentKind, DocumentScope, Entry, JobAddress, RepoName, STATE, Stamp, Timestamp,
    checkpoints_folder, documents_folder, orphans_folder,
};

use super::Documents;
use super::newest::is_anothers_state;
use crate::fs::{FileKind, FsFolder, Metadata};

const LIST: &str = "list documents";

/// The counts of a job's checkpoints, and other facts that a listing of their folder shows.
#[derive(Debug, Default)]
pub(crate) struct StateSurvey {
    pub(crate) checkpoints: DocumentCount,
    pub(crate) last_write: Option<Timestamp>,
    /// False if the document that marks a job as finished is certainly absent.
    pub(crate) may_be_finished: bool,
    /// False if the job certainly has no documents of the caller's own kinds.
    pub(crate) may_have_documents: bool,
}

/// Collects one page of documents, ordered by stamp, then by document.
type Keys = PageBuilder<(Option<Stamp>, Document)>;

fn key(document: Document) -> (Option<Stamp>, Document) {
    (document.stamp().cloned(), document)
}

impl Documents {
    /// Implements [`DocumentStore::list`](prodigy_storage_backend::DocumentStore::list). Documents without a stamp come
    /// first, ordered by name.
    pub(crate) fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        let mut options = PageOptions::default().limit(page.limit);
        options.after = page.after.clone().map(key);
        let mut keys = PageBuilder::new(options);
        // The open folder, if all found documents are in one. Their metadata is then read relative to it.
        let mut folder = None;
        match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) | DocumentScope::Keyed(job, _) => {
                folder = self.find_in(&checkpoints_folder(job), scope, &mut keys)?;
            }
            DocumentScope::Orphans(repo) => {
                folder = self.find_in(&orphans_folder(repo), scope, &mut keys)?;
            }
            DocumentScope::Repositories => self.find_repositories(&mut keys)?,
            DocumentScope::Own(owner, kind) => {
                let path = documents_folder(owner);
                let kinds = match kind {
                    Some(kind) => vec![kind.clone()],
                    None => self.kinds_in(&path)?,
                };
                for kind in kinds {
                    self.find_in(&path.join(kind.as_str()), scope, &mut keys)?;
                }
            }
            // Scopes that a later version of the layout crate may add; they list nothing.
            _ => {}
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
            let looked = self.packed_metadata(&document, looked);
            found.extend(self.entry(&path, document, looked)?);
        }
        Ok(Page::new(found, keys.next.map(|(_, document)| document)))
    }

    /// Counts the checkpoints of a job with one pass over the names in its folder, in any order.
    pub(crate) fn survey(&self, job: &JobAddress, deadline: Deadline) -> Result<StateSurvey> {
        let mut survey = StateSurvey::default();
        let path = checkpoints_folder(job);
        let Some(folder) = self.root.open_folder(LIST, &path)? else {
            return Ok(survey);
        };
        let (mut others, mut counted) = (Vec::new(), Ok(()));
        let names = folder.names(
            &mut |name, kind| match Document::in_checkpoints_or_packed(job, name) {
                Some(_) if kind != FileKind::File => self.root.pass_over(&path.join(name), kind),
                Some(Document::Finished(_)) => survey.may_be_finished = true,
                Some(document) if document.phase().is_some() && counted.is_ok() => {
                    counted = deadline
                        .check(LIST, &path.display(), "the file system")
                        .and_then(|()| self.count(&mut survey, &*folder, &document, name));
                }
                Some(_) => {}
                None if name == DOCUMENTS => survey.may_have_documents = true,
                None if is_anothers_state(&path, name) => others.push(name.to_owned()),
                None => {}
            },
        );
        names.map_err(|error| self.root.read_fault(LIST, &path, error))?;
        counted?;
        self.skip_state(LIST, job, &others)?;
        Ok(survey)
    }

    fn count(
        &self,
        survey: &mut StateSurvey,
        folder: &dyn FsFolder,
        document: &Document,
        name: &str,
    ) -> Result<()> {
        let path = document.path();
        let plain = path.file_name().unwrap_or_default();
        // A process died during a compression and left both forms. The plain form is counted, so this one is skipped.
        if plain != name && folder.metadata_of(plain).is_ok() {
            return Ok(());
        }
        if let Some(file) = self.entry(&path, document.clone(), folder.metadata_of(name.as_ref()))? {
            survey.checkpoints.add(file.bytes);
            let written = match document {
                // A name that is later than its file is of a clock that was wrong.
                Document::Map(_, stamp) | Document::Reduce(_, stamp) => stamp.time().min(file.modified),
                _ => file.modified,
            };
            survey.last_write = survey.last_write.max(Some(written));
        }
        Ok(())
    }

    /// Finds the documents of a scope in one folder. Returns the folder if it exists.
    fn find_in(
        &self,
        path: &Path,
        scope: &DocumentScope,
        keys: &mut Keys,
    ) -> Result<Option<Box<dyn FsFolder>>> {
        let Some(folder) = self.root.open_folder(LIST, path)? else {
            return Ok(None);
        };
        let parse = |name: &str| match scope {
            DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) | DocumentScope::Keyed(job, _) => {
                Document::in_checkpoints_or_packed(job, name)
            }
            _ => match Entry::parse(&path.join(name))? {
                Entry::Document(document) => Some(document),
                _ => None,
            },
        };
        let mut others = Vec::new();
        let is_own = matches!(scope, DocumentScope::Own(..));
        folder
            .names(&mut |name, kind| match parse(name) {
                // A document of the caller's own has no older version that could be read in its place, so a link or
                // folder at its path is skipped.
                Some(_) if is_own && kind != FileKind::File => self.root.pass_over(&path.join(name), kind),
                Some(document) if scope.contains(&document) => keys.offer(key(document)),
                Some(_) => {}
                None if is_anothers_state(path, name) => others.push(name.to_owned()),
                None => {}
            })
            .map_err(|error| self.root.read_fault(LIST, path, error))?;
        if let DocumentScope::Checkpoints(job, _) | DocumentScope::Job(job) = scope {
            self.skip_state(LIST, job, &others)?;
        }
        Ok(Some(folder))
    }

    /// The kinds of the caller's own documents. Each kind has a folder of its name.
    fn kinds_in(&self, path: &Path) -> Result<Vec<DocumentKind>> {
        let names = self.root.folders_in(LIST, path)?;
        Ok(names.filter_map(|name| DocumentKind::new(name).ok()).collect())
    }

    fn find_repositories(&self, keys: &mut Keys) -> Result<()> {
        for name in self.root.folders_in(LIST, Path::new(STATE))? {
            if let Ok(repo) = RepoName::new(name) {
                keys.offer(key(Document::Repository(repo)));
            }
        }
        Ok(())
    }

    /// The entry of a listing for a document; `None` if the file was removed after its name was read.
    fn entry(
        &self,
        path: &Path,
        document: Document,
        found: io::Result<Metadata>,
    ) -> Result<Option<DocumentEntry>> {
        match found {
            // A link or another non-file is listed too, so that a reader gets an error instead of missing it.
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
