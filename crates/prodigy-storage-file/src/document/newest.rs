//! The newest of a series, without listing where nothing changed.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Deadline, DocumentEntry, Result};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, Stamp, checkpoints_folder};

use super::few::Below;
use super::listing::is_absent;
use super::memory::{FolderState, Newest};
use crate::fs::FsFolder;
use crate::fs::TEMP_PREFIX;
use crate::store::Store;

const NEWEST: &str = "find newest document";

/// What one pass over the names of a folder of checkpoints finds.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) newest: Newest,
    /// Temporary files, of writers alive or dead.
    pub(super) temps: Vec<String>,
}

impl Store {
    /// [`DocumentStore::newest`](prodigy_storage_backend::DocumentStore::newest).
    pub(crate) fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        let before = match before {
            None => None,
            Some(document) if document.phase() == Some(phase) && document.job() == Some(job) => {
                match document.stamp() {
                    Some(stamp) => Some(stamp),
                    // There is one setup checkpoint.
                    None => return Ok(None),
                }
            }
            Some(_) => return Ok(None),
        };
        let path = checkpoints_folder(job);
        loop {
            deadline.check(NEWEST, &path.display(), "the file system")?;
            let Some(folder) = self.open_folder(NEWEST, &path)? else {
                return Ok(None);
            };
            let document = if phase == Phase::Setup {
                Document::Setup(job.clone())
            } else {
                match self.newest_stamp(&*folder, &path, phase, before)? {
                    Some(stamp) => Document::checkpoint(job, phase, stamp),
                    None => return Ok(None),
                }
            };
            let at = Entry::Document(document.clone()).path();
            match folder.metadata_of(at.file_name().unwrap_or_default()) {
                Ok(found) => return Ok(Some(DocumentEntry::new(document, found.len, found.modified))),
                Err(error) if is_absent(&error) => {
                    if phase == Phase::Setup {
                        return Ok(None);
                    }
                    // Removed since: another one may be the newest now.
                    self.memory.forget(&path);
                }
                Err(error) => return Err(self.read_fault(NEWEST, &at, error)),
            }
        }
    }

    fn newest_stamp(
        &self,
        folder: &dyn FsFolder,
        path: &Path,
        phase: Phase,
        before: Option<&Stamp>,
    ) -> Result<Option<Stamp>> {
        let fault = |error| self.read_fault(NEWEST, path, error);
        let state = FolderState::of(&folder.metadata().map_err(fault)?);
        let mut found = self.memory.recall(path, state, phase, before);
        if found.is_none() {
            // Read after the state and before the names: a change in between is among them.
            let now = folder.clock();
            let newest = self.look_over(NEWEST, folder, path, None)?.newest;
            found = newest.of(phase).map(|few| few.below(before));
            self.memory.keep(path, state, now, newest);
        }
        if found == Some(Below::Older) {
            let newest = self.look_over(NEWEST, folder, path, before)?.newest;
            found = newest.of(phase).map(|few| few.below(before));
        }
        match found {
            Some(Below::Stamp(stamp)) => Ok(Some(stamp)),
            _ => Ok(None),
        }
    }

    /// One pass over the names of a folder of checkpoints: the newest few of each series that are older than
    /// `before`.
    pub(super) fn look_over(
        &self,
        operation: &'static str,
        folder: &dyn FsFolder,
        path: &Path,
        before: Option<&Stamp>,
    ) -> Result<Names> {
        let mut names = Names::default();
        folder
            .names(&mut |name| {
                if let Some(text) = Phase::Map.stamp_in(name) {
                    names.newest.map.offer(text, before);
                } else if let Some(text) = Phase::Reduce.stamp_in(name) {
                    names.newest.reduce.offer(text, before);
                } else if name.starts_with(TEMP_PREFIX) {
                    names.temps.push(name.to_owned());
                }
            })
            .map_err(|error| self.read_fault(operation, path, error))?;
        Ok(names)
    }

    /// A folder, for looking at what is in it; `None` where it is absent.
    pub(super) fn open_folder(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> Result<Option<Box<dyn FsFolder>>> {
        match self.fs.folder(path) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.read_fault(operation, path, error)),
        }
    }
}
