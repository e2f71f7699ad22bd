//! Adding to the checkpoint series of a job.

use std::path::Path;

use prodigy_storage_backend::{
    Added, Deadline, ErrorKind, Expected, PutOptions, Result, StorageError, StoredDocument,
};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, Stamp, checkpoints_folder};

use super::body;
use super::read::Found;
use crate::fs::DirEntry;
use crate::store::{Replace, Store};

const ADD: &str = "add checkpoint";
/// Tries at a new name. A name is taken only by a writer that keeps no lock of ours.
const TRIES: u32 = 16;

impl Store {
    /// [`Backend::add`](prodigy_storage_backend::Backend::add).
    ///
    /// Where a condition or a fencing token asks for the newest document, a damaged one is passed over and moved to
    /// quarantine. Its stamp still counts: no name is given twice.
    pub(crate) fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: &[u8],
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        let folder = checkpoints_folder(job);
        let body = body::check(ADD, &folder.display(), body)?;
        self.prepare_write(ADD, &folder.display())?;
        deadline.check(ADD, &folder.display(), "its turn")?;
        self.check_condition_possible(ADD, options.expected, options.fencing)?;
        let _lock = self.lock_file(&Entry::StateLock(job.clone()).path(), ADD, ADD, deadline)?;
        let mut tries = 0;
        loop {
            let entries = self.names_in(ADD, &folder)?;
            self.sweep(&folder, entries.iter().map(|entry| entry.name.as_str()));
            let series = series(job, phase, &folder, &entries);
            self.check_newest(&folder, &series, options)?;
            let (document, replace) = match phase {
                Phase::Setup => (Document::Setup(job.clone()), Replace::Over),
                Phase::Map | Phase::Reduce => {
                    let stamp = self.next_stamp(&folder, series.last())?;
                    (Document::checkpoint(job, phase, stamp), Replace::Never)
                }
            };
            let path = Entry::Document(document.clone()).path();
            match self.write_document(ADD, &path, body, replace, options.durability) {
                Ok(revision) => return Ok(Added { document, revision }),
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                    tries += 1;
                    deadline.check(ADD, &path.display(), "a name that is free")?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks the condition and the fencing token against the newest valid document of the series.
    fn check_newest(&self, folder: &Path, series: &[Document], options: &PutOptions) -> Result<()> {
        if options.expected == Expected::Any && options.fencing.is_none() {
            return Ok(());
        }
        let newest = self.newest_valid(series)?;
        let revision = newest.as_ref().map(StoredDocument::revision);
        self.check_expected(ADD, folder, options.expected, revision)?;
        match options.fencing {
            Some(token) => self.check_fencing(ADD, folder, token, newest.as_ref()),
            None => Ok(()),
        }
    }

    fn newest_valid(&self, series: &[Document]) -> Result<Option<StoredDocument>> {
        for document in series.iter().rev() {
            let path = Entry::Document(document.clone()).path();
            match self.look(ADD, &path)? {
                Found::Valid(found) => return Ok(Some(found)),
                Found::Damaged(error, bytes) => self.set_aside(&path, &error, &bytes),
                // Removed by hand since the listing.
                Found::Absent => {}
            }
        }
        Ok(None)
    }

    /// The greater of now and the newest of the series + 1 ns.
    fn next_stamp(&self, folder: &Path, newest: Option<&Document>) -> Result<Stamp> {
        let now = self.now();
        let Some(newest) = newest.and_then(Document::stamp).map(Stamp::time) else {
            return Ok(Stamp::from(now));
        };
        let next = newest.next();
        if next == newest {
            return Err(StorageError::new(
                ErrorKind::Refused,
                ADD,
                self.absolute(folder).display(),
                format!("the newest checkpoint there has the last stamp that there is, {newest}"),
            )
            .with_hint("no clock gave it: look at that file and move it away"));
        }
        Ok(Stamp::from(now.max(next)))
    }
}

/// The documents of a series in a listing, oldest first, whichever program named them.
fn series(job: &JobAddress, phase: Phase, folder: &Path, entries: &[DirEntry]) -> Vec<Document> {
    let mut series: Vec<Document> = entries
        .iter()
        .filter_map(|entry| match Entry::parse(&folder.join(&entry.name))? {
            Entry::Document(document) => Some(document),
            _ => None,
        })
        .filter(|document| document.phase() == Some(phase) && document.job() == Some(job))
        .collect();
    series.sort_by(|a, b| a.stamp().cmp(&b.stamp()));
    series
}
