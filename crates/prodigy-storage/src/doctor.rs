//! Finds damage and repairs it: [`Storage::doctor`](crate::Storage::doctor). Needs the feature `file`.
#![expect(clippy::disallowed_methods, reason = "a look whether the snapshot is there")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Backend, Clock, Cursor, Deadline, Entries, ErrorKind, Result, ScanOptions, Select, StorageError,
};
use prodigy_storage_config::{BackendKind, StorageConfig};
pub use prodigy_storage_file::{
    DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity, Leftovers,
};
use prodigy_storage_layout::{DocumentScope, JobAddress, Timestamp};

use crate::open;

const EXAMINE: &str = "examine storage";

/// Examines a store for damage, and repairs it. Made by [`Storage::doctor`](crate::Storage::doctor).
///
/// The snapshot of the memory backend has a single checksum, and is read whole or not at all. So it can be
/// examined, but not repaired.
///
/// ```
/// use prodigy_storage::Storage;
/// use prodigy_storage::doctor::DoctorScope;
///
/// let folder = tempfile::tempdir()?;
/// let storage = Storage::builder().flag("backend_config.base_dir", folder.path()).open()?;
/// let summary = storage.doctor()?.examine(&DoctorScope::all(), &mut |finding| println!("{}", finding.why))?;
/// assert!(summary.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Doctor(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Files(prodigy_storage_file::Doctor),
    Snapshot(Box<Snapshot>),
}

impl Doctor {
    /// The doctor for the configured backend.
    pub(crate) fn of(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> Result<Self> {
        let kind = match config.backend {
            BackendKind::File => {
                let options = open::file_options(config, read_only, clock);
                Kind::Files(prodigy_storage_file::Doctor::new(options)?)
            }
            BackendKind::Memory if config.memory.persist_to_disk => Kind::Snapshot(Box::new(Snapshot {
                config: config.clone(),
                clock: Arc::clone(clock),
            })),
            _ => {
                return Err(StorageError::new(
                    ErrorKind::Unsupported,
                    EXAMINE,
                    config.backend.as_str(),
                    "only files and snapshots can be examined: this backend keeps none",
                ));
            }
        };
        Ok(Self(kind))
    }

    /// Reads everything in the scope and calls `found` with each finding. Takes no lock and writes nothing. A
    /// store that does not exist has no findings. A write that is in progress may be reported as a note.
    ///
    /// # Errors
    /// [`NewerFormat`](ErrorKind::NewerFormat) if a newer version wrote the store; errors of the operating system
    /// when a snapshot is read.
    pub fn examine(&self, scope: &DoctorScope, found: &mut dyn FnMut(Finding)) -> Result<DoctorSummary> {
        match &self.0 {
            Kind::Files(doctor) => doctor.examine(scope, found),
            Kind::Snapshot(snapshot) => snapshot.examine(scope, false, found),
        }
    }

    /// Examines the store like [`examine`](Self::examine), and repairs damage. `wait` bounds each wait for a lock,
    /// which a writer holds for one call. If damage can't be repaired, its finding states the reason.
    ///
    /// # Errors
    /// The errors of [`examine`](Self::examine); [`ReadOnly`](ErrorKind::ReadOnly) if the root is opened for
    /// reading only; [`Unsupported`](ErrorKind::Unsupported) if file locks are disabled.
    pub fn repair(
        &self,
        scope: &DoctorScope,
        wait: Duration,
        found: &mut dyn FnMut(Finding),
    ) -> Result<DoctorSummary> {
        match &self.0 {
            Kind::Files(doctor) => doctor.repair(scope, wait, found),
            Kind::Snapshot(snapshot) => snapshot.examine(scope, true, found),
        }
    }

    /// True if the store itself reads the file at this path, which is relative to the root. Importing such a file
    /// would store its contents twice.
    #[must_use]
    pub fn is_read(&self, path: &Path) -> bool {
        match &self.0 {
            Kind::Files(doctor) => doctor.is_read(path),
            Kind::Snapshot(_) => false,
        }
    }

    /// Records that files of another program were imported. Each is given with its path relative to the root, and
    /// with the length and mtime that it had before it was read. Until such a file changes, readers no longer
    /// report that they skip it.
    ///
    /// # Errors
    /// [`ReadOnly`](ErrorKind::ReadOnly) if the root is opened for reading only; errors of the operating system
    /// when the record is written.
    pub fn mark_imported(&self, files: &[(PathBuf, u64, Timestamp)]) -> Result<()> {
        match &self.0 {
            Kind::Files(doctor) => doctor.mark_imported(files),
            Kind::Snapshot(_) => Ok(()),
        }
    }

    /// Finds what a deletion leaves, or left, of a job: files of other programs, and what a process wrote since. The folders stay with
    /// such files, so the job stays in listings. Empty for the memory backend.
    ///
    /// # Errors
    /// Errors of the operating system about a read.
    pub fn left_of(&self, job: &JobAddress) -> Result<Leftovers> {
        match &self.0 {
            Kind::Files(doctor) => doctor.left_of(job),
            Kind::Snapshot(_) => Ok(Leftovers::default()),
        }
    }

    /// The reason why events before a cursor are certainly missing from the log of a job; `None` if no sign of that is found. Events
    /// that were removed as old, or with their job, are not missing. Reads the names of the segments and the ends of few. `None` for the
    /// memory backend, whose snapshot is whole or not read at all.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a cursor of another backend; errors of the operating system about a read.
    pub fn missing_before(&self, job: &JobAddress, cursor: &Cursor) -> Result<Option<String>> {
        match &self.0 {
            Kind::Files(doctor) => doctor.missing_before(job, cursor),
            Kind::Snapshot(_) => Ok(None),
        }
    }

    /// Removes the files that were moved to quarantine before a time. Returns their number and their size in
    /// bytes.
    pub(crate) fn clear_quarantine(&self, before: Timestamp, dry_run: bool) -> Result<(u64, u64)> {
        match &self.0 {
            Kind::Files(doctor) => doctor.clear_quarantine(before, dry_run),
            Kind::Snapshot(_) => Ok((0, 0)),
        }
    }
}

/// The snapshot of the memory backend.
#[derive(Clone, Debug)]
struct Snapshot {
    config: StorageConfig,
    clock: Arc<dyn Clock>,
}

impl Snapshot {
    fn examine(
        &self,
        scope: &DoctorScope,
        repairs: bool,
        found: &mut dyn FnMut(Finding),
    ) -> Result<DoctorSummary> {
        let mut summary = DoctorSummary::default();
        let path = self.config.memory.persistence_path.as_deref();
        let is_there = path.is_some_and(|path| path.symlink_metadata().is_ok());
        summary.files = u64::from(is_there);
        // A read-only backend takes no lock and writes nothing.
        match open::open(&self.config, true, &self.clock) {
            Ok(backend) => count(&*backend, scope, &mut summary)?,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let finding = Finding::new(
                    FindingSeverity::Damage,
                    FindingKind::DamagedSnapshot,
                    error.target().to_owned(),
                    error.why(),
                )
                .lost("everything in the snapshot: it is read whole or not at all")
                .advice(error.hint().unwrap_or("bring back a copy of it").to_owned());
                let outcome = match repairs {
                    true => FindingOutcome::Left {
                        why: "a snapshot has one checksum, so no part of it is known to be whole".into(),
                    },
                    false => FindingOutcome::Found,
                };
                let finding = finding.outcome(outcome);
                summary.count(&finding);
                found(finding);
            }
            Err(error) => return Err(error),
        }
        Ok(summary)
    }
}

/// Adds the contents of a store to the counts of a summary.
fn count(backend: &dyn Backend, scope: &DoctorScope, summary: &mut DoctorSummary) -> Result<()> {
    let deadline = Deadline::never();
    for repo in Entries::new(|page| backend.repositories(page, deadline)) {
        let repo = repo?;
        if scope.repo.as_ref().is_some_and(|wanted| *wanted != repo) {
            continue;
        }
        for job in Entries::new(|page| backend.jobs(&repo, page, deadline)) {
            let job = JobAddress::new(repo.clone(), job?);
            if scope.job.as_ref().is_some_and(|wanted| *wanted != job.job) {
                continue;
            }
            let mut scan = backend.scan(&job, &ScanOptions::all(), deadline)?;
            while scan.next()?.is_some() {
                summary.events += 1;
            }
            for item in backend.queue_scan(&job, &Select::any(), deadline)? {
                item?;
                summary.items += 1;
            }
            let scope = DocumentScope::Job(job.clone());
            for document in Entries::new(|page| backend.list(&scope, page, deadline)) {
                document?;
                summary.documents += 1;
            }
        }
    }
    Ok(())
}
