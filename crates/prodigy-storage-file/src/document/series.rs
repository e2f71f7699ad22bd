//! Adds checkpoints to the series of a job.

use std::path::Path;

use prodigy_storage_backend::{
    Added, Body, Deadline, ErrorKind, Expected, PutOptions, Result, StorageError, newest_valid,
};
use prodigy_storage_layout::{Document, Entry, JobAddress, Phase, Stamp, Timestamp, checkpoints_folder};

use super::Documents;
use super::newest::Names;
use super::read::DocumentRead;
use crate::root::{LockedFile, Replace, TempFile};

const ADD: &str = "add checkpoint";
/// The largest number of attempts to find a free name. A name can be taken only by a writer that ignores our lock.
const TRIES: u32 = 16;

impl Documents {
    /// Implements [`DocumentStore::add`](prodigy_storage_backend::DocumentStore::add).
    ///
    /// If the options have a condition on the newest document, damaged newer documents are skipped and moved to
    /// quarantine. Their stamps still count, so that no name is used twice.
    pub(crate) fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        let folder = checkpoints_folder(job);
        body.check_size(self.root.options.max_document_size, ADD, folder.display())?;
        self.root.prepare_write(ADD, &folder.display())?;
        deadline.check(ADD, &folder.display(), "its turn")?;
        let _lock = LockedFile::take(
            &self.root,
            &Entry::StateLock(job.clone()).path(),
            ADD,
            ADD,
            deadline,
        )?;
        self.root.check_takes_writes(ADD, job)?;
        match &options.fencing {
            Some(fence) => self.pass_fence(ADD, job, fence, &folder, deadline)?,
            None if phase == Phase::Setup => self.keep_token(&Document::Setup(job.clone()), deadline)?,
            None => {}
        }
        let mut tries = 0;
        loop {
            let names = match self.root.open_folder(ADD, &folder)? {
                Some(open) => self.look_over(ADD, &*open, &folder, None)?,
                None => Names::default(),
            };
            TempFile::sweep(&self.root, &folder, names.temps.iter().map(String::as_str));
            self.check_newest(job, phase, &folder, &names, options, deadline)?;
            let (document, replace) = match phase {
                Phase::Setup => {
                    let setup = Document::Setup(job.clone());
                    self.check_ours(ADD, &setup, &setup.path())?;
                    (setup, Replace::Over)
                }
                _ => {
                    let stamp = self.next_stamp(&folder, phase, &names, options.not_before)?;
                    let stamp = stamp.with_key(options.key.clone());
                    (Document::checkpoint(job, phase, stamp), Replace::Never)
                }
            };
            let path = document.path();
            match self.write_document(ADD, &path, body, replace, options.durability) {
                Ok(revision) => {
                    if let Some(before) = names.newest_of(phase) {
                        self.pack(&Document::checkpoint(job, phase, before.clone()));
                    }
                    return Ok(Added { document, revision });
                }
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                    tries += 1;
                    deadline.check(ADD, &path.display(), "a name that is free")?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks the condition against the newest valid document of the series. Damaged documents that are newer are moved
    /// to quarantine.
    fn check_newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        folder: &Path,
        names: &Names,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<()> {
        if options.expected == Expected::Any {
            return Ok(());
        }
        let newest = newest_valid(
            |last: Option<&Document>| match (last, phase) {
                // The names were already listed, so the newest document is known without a second listing.
                (None, Phase::Setup) => Ok(Some(Document::Setup(job.clone()))),
                (None, _) => Ok(names
                    .newest_of(phase)
                    .map(|stamp| Document::checkpoint(job, phase, stamp.clone()))),
                (Some(_), _) => {
                    let older = self.newest(job, phase, last, deadline)?;
                    Ok(older.map(|entry| entry.document))
                }
            },
            |document| {
                let path = document.path();
                match self.look(ADD, &path)? {
                    DocumentRead::Valid(found) => Ok(found.revision()),
                    DocumentRead::Damaged(error, bytes) => {
                        self.set_aside(&path, &error, &bytes);
                        Err(error)
                    }
                    DocumentRead::Foreign(error) => Err(error),
                    DocumentRead::Absent => {
                        let why = "it was removed by hand since it was listed";
                        Err(StorageError::new(ErrorKind::NotFound, ADD, path.display(), why))
                    }
                }
            },
        )?;
        let revision = newest.found.map(|(_, revision)| revision);
        self.check_expected(ADD, folder, options.expected, revision)
    }

    /// The stamp of the next checkpoint, chosen as [`DocumentStore::add`](prodigy_storage_backend::DocumentStore::add)
    /// describes.
    fn next_stamp(
        &self,
        folder: &Path,
        phase: Phase,
        names: &Names,
        not_before: Option<Timestamp>,
    ) -> Result<Stamp> {
        // Stamps of other phases count only if this store gave them: those of another program come from its own clock.
        let above = names
            .newest_beside(phase)
            .filter(|stamp| stamp.is_canonical())
            .map(|stamp| stamp.time().next());
        let lowest = above.chain(not_before).fold(self.root.now(), Timestamp::max);
        let Some(newest) = names.newest_of(phase).map(Stamp::time) else {
            return Ok(Stamp::from(lowest));
        };
        let next = newest.next();
        if next == newest {
            return Err(StorageError::new(
                ErrorKind::Refused,
                ADD,
                self.root.absolute(folder).display(),
                format!("the newest checkpoint there has the last stamp that there is, {newest}"),
            )
            .with_hint("no clock gave it: look at that file and move it away"));
        }
        Ok(Stamp::from(lowest.max(next)))
    }
}
