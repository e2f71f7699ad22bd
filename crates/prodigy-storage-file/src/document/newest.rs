//! Finds the newest checkpoint of a series with one pass over the names in its folder.

use std::path::Path;

use prodigy_storage_backend::{Deadline, DocumentEntry, ForeignKind, Result};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, STATE, Stamp, checkpoints_folder};

use super::Documents;
use super::listing::is_absent;
use crate::fs::{DirEntry, FileKind, FsFolder, TEMP_PREFIX};

const NEWEST: &str = "find newest document";

/// The result of one pass over the names of a folder of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The newest stamp of each series. A job has few series.
    newest: Vec<(Phase, Stamp)>,
    /// The names of temporary files, whether their writers are alive or dead.
    pub(super) temps: Vec<String>,
    /// The names of files in which another program stores the state of the job.
    pub(super) others: Vec<String>,
}

impl Names {
    /// The newest stamp of a phase. `None` for the setup phase, which has no series.
    pub(super) fn newest_of(&self, phase: Phase) -> Option<&Stamp> {
        let mut newest = self.newest.iter();
        newest.find(|(of, _)| *of == phase).map(|(_, stamp)| stamp)
    }

    /// The newest stamps of all phases except this one.
    pub(super) fn newest_beside(&self, phase: Phase) -> impl Iterator<Item = &Stamp> {
        let others = self.newest.iter().filter(move |(of, _)| *of != phase);
        others.map(|(_, stamp)| stamp)
    }

    /// Stores a stamp if it is the newest of its phase so far. Ignores one that is not older than `before`.
    fn keep_newer(&mut self, phase: Phase, stamp: Stamp, before: Option<&Stamp>) {
        if before.is_some_and(|before| stamp >= *before) {
            return;
        }
        match self.newest.iter_mut().find(|(of, _)| *of == phase) {
            Some((_, newest)) if *newest < stamp => *newest = stamp,
            Some(_) => {}
            None => self.newest.push((phase, stamp)),
        }
    }
}

impl Documents {
    /// Implements [`DocumentStore::newest`](prodigy_storage_backend::DocumentStore::newest).
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
                    // There is only one setup checkpoint, so none is older.
                    None => return Ok(None),
                }
            }
            Some(_) => return Ok(None),
        };
        let path = checkpoints_folder(job);
        loop {
            deadline.check(NEWEST, &path.display(), "the file system")?;
            let Some(folder) = self.root.open_folder(NEWEST, &path)? else {
                return Ok(None);
            };
            // For the setup phase, the pass only finds files of other programs, to count them as skipped.
            let names = self.look_over(NEWEST, &*folder, &path, before)?;
            self.skip_state(NEWEST, job, &names.others)?;
            let document = if phase == Phase::Setup {
                Document::Setup(job.clone())
            } else {
                match names.newest_of(phase) {
                    Some(stamp) => Document::checkpoint(job, phase, stamp.clone()),
                    None => return Ok(None),
                }
            };
            let at = document.path();
            let looked = folder.metadata_of(at.file_name().unwrap_or_default());
            match self.packed_metadata(&document, looked) {
                Ok(found) => return Ok(Some(DocumentEntry::new(document, found.len, found.modified))),
                Err(error) if is_absent(&error) && phase == Phase::Setup => return Ok(None),
                // Another process has just removed the checkpoint, so the loop looks for the newest one again.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.root.read_fault(NEWEST, &at, error)),
            }
        }
    }

    /// Makes one pass over the names in a folder of checkpoints. Finds the newest stamp of each series that is older than
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
            .names(&mut |name, _| {
                let plain = name.strip_suffix(".zst");
                let found = Phase::in_file(plain.unwrap_or(name));
                if let Some((phase, text)) = found
                    && let Some(stamp) = Stamp::parse_keyed(text)
                    && (plain.is_none() || stamp.is_canonical())
                {
                    names.keep_newer(phase, stamp, before);
                } else if name.starts_with(TEMP_PREFIX) {
                    names.temps.push(name.to_owned());
                } else if is_anothers_state(path, name) {
                    names.others.push(name.to_owned());
                }
            })
            .map_err(|error| self.root.read_fault(operation, path, error))?;
        Ok(names)
    }

    /// Counts the files in which another program stores the state of a job, and which are skipped: `others` in the
    /// folder of the job's checkpoints, and the files in that program's own folder for the job, outside of all
    /// repositories.
    pub(super) fn skip_state(
        &self,
        operation: &'static str,
        job: &JobAddress,
        others: &[String],
    ) -> Result<()> {
        self.root
            .skip_files(ForeignKind::Checkpoints, &checkpoints_folder(job), others);
        let folder = Path::new(STATE).join("reduce_checkpoints").join(job.job.as_str());
        let names = self.root.names_in(operation, &folder)?;
        let is_state =
            |entry: &&DirEntry| entry.kind == FileKind::File && is_anothers_state(&folder, &entry.name);
        let files: Vec<String> = names
            .iter()
            .filter(is_state)
            .map(|entry| entry.name.clone())
            .collect();
        self.root.skip_files(ForeignKind::Checkpoints, &folder, &files);
        Ok(())
    }
}

/// True if a file with this name, in a folder of checkpoints, holds the state of a job for another program.
pub(super) fn is_anothers_state(folder: &Path, name: &str) -> bool {
    let is_state = !name.starts_with('.') && (name.ends_with(".json") || name.ends_with(".gz"));
    is_state && Entry::parse(&folder.join(name)).is_none()
}
