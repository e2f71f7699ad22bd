//! Reads everything that a store returns.

use std::collections::BTreeMap;
use std::path::Path;

use prodigy_storage_backend::{
    Catalog, Cursor, DocumentStore, ErrorKind, EventId, LockInfo, LockStore, LogStore, QueueStep, QueueStore,
    Result, ScanItem, ScanOptions, Select,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Document, DocumentScope, Phase};

use super::store::{NEVER, job};

/// An event that the store returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub id: EventId,
    pub line: String,
    pub verified: bool,
}

impl Read {
    /// The line of the event, without its checksum.
    pub fn text(&self) -> &str {
        &self.line[..self.line.len() - 18]
    }
}

/// The data that a store returns, and the damage that it reports.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub events: Vec<Read>,
    pub after: Vec<Read>,
    /// The body and the revision of each document that was returned.
    pub documents: BTreeMap<Document, (Vec<u8>, String)>,
    pub revisions: BTreeMap<Document, String>,
    pub listed: Vec<Document>,
    /// For each item, its id, and its other fields as text.
    pub items: BTreeMap<String, String>,
    pub locks: BTreeMap<String, LockInfo>,
    pub repos: Vec<String>,
    pub jobs: Vec<String>,
    /// The damage that was reported: file, offset and length.
    pub told: Vec<(String, u64, u64)>,
}

impl View {
    /// Reads all data of a store.
    pub fn of(backend: &FileBackend, cursor: &Cursor, documents: &[Document]) -> Result<Self> {
        let mut view = Self::default();
        view.events = view.scan(backend, &ScanOptions::all())?;
        view.after = view.scan(backend, &ScanOptions::after(cursor.clone()))?;
        for document in documents {
            view.document(backend, document)?;
        }
        let scopes = [
            DocumentScope::Job(job()),
            DocumentScope::Checkpoints(job(), Phase::Map),
            DocumentScope::Orphans(job().repo),
            DocumentScope::Repositories,
        ];
        for scope in &scopes {
            let listed = backend.list(scope, &Default::default(), NEVER())?.entries;
            view.listed.extend(listed.into_iter().map(|entry| entry.document));
        }
        for step in backend.queue_scan(&job(), &Select::any(), NEVER())? {
            match step? {
                QueueStep::Entry(entry) => {
                    let said = format!("{} {:?}", entry.body, entry.lease);
                    view.items.insert(entry.id.as_str().to_owned(), said);
                    // A read by id must find the same item as the scan.
                    assert!(backend.queue_get(&job(), &entry.id, NEVER())?.is_some());
                }
                QueueStep::Damage(damage) => view.told.push((damage.place, damage.offset, damage.len)),
                QueueStep::TooLarge(item) => panic!("{item}"),
            }
        }
        for lock in backend.locks(&Default::default(), NEVER())?.entries {
            view.locks.insert(lock.name.to_string(), lock);
        }
        view.repos = backend
            .repositories(&Default::default(), NEVER())?
            .entries
            .iter()
            .map(ToString::to_string)
            .collect();
        view.jobs = backend
            .jobs(&job().repo, &Default::default(), NEVER())?
            .entries
            .iter()
            .map(ToString::to_string)
            .collect();
        backend.log_summary(&job(), NEVER())?;
        Ok(view)
    }

    fn scan(&mut self, backend: &FileBackend, options: &ScanOptions) -> Result<Vec<Read>> {
        let mut read = Vec::new();
        let mut scan = backend.scan(&job(), options, NEVER())?;
        while let Some(item) = scan.next()? {
            match item {
                ScanItem::Record(record) => read.push(Read {
                    id: record.id,
                    line: record.line.to_owned(),
                    verified: record.verified,
                }),
                ScanItem::Damage(damage) => self.told.push((damage.place, damage.offset, damage.len)),
                ScanItem::TooLarge(record) => panic!("{record}"),
            }
        }
        Ok(read)
    }

    fn document(&mut self, backend: &FileBackend, document: &Document) -> Result<()> {
        let path = document.path();
        match backend.get(document, NEVER()) {
            Ok(Some(found)) => {
                let read = (found.body().to_vec(), found.revision().to_string());
                self.documents.insert(document.clone(), read);
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NewerFormat) => {
                let name = path.to_string_lossy();
                assert!(error.target().contains(&*name), "{error} does not name {name}");
                self.told.push((error.target().to_owned(), 0, 0));
            }
            Err(error) => return Err(error),
        }
        match backend.revision(document, NEVER()) {
            Ok(Some(revision)) => {
                self.revisions.insert(document.clone(), revision.to_string());
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NewerFormat) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// True if damage of this file was reported. For a segment, its other form counts as well.
    pub fn tells_of(&self, file: &Path) -> bool {
        let name = file.to_string_lossy();
        self.told.iter().any(|(place, ..)| place.ends_with(&*name))
    }
}
