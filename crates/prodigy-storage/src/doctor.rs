//! Finds damage and repairs it: see [`Storage::doctor`](crate::Storage::doctor). Needs the feature `file`.
#![expect(clippy::disallowed_methods, reason = "a look whether the snapshot is there")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Backend, Clock, Deadline, Entries, ErrorKind, Result, ScanOptions, Select, StorageError,
};
use prodigy_storage_config::{BackendKind, StorageConfig};
pub use prodigy_storage_file::{
    DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity,
};
use prodigy_storage_layout::{DocumentScope, JobAddress, Timestamp};

use crate::open;

const EXAMINE: &str = "examine storage";

/// Examines a store for damage, and repairs it: see [`Storage::doctor`](crate::Storage::doctor).
///
/// The snapshot of the memory backend has one checksum, and is read whole or not at all. So it is examined and never
/// repaired.
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
    /// The doctor of the configured backend.
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

    /// Reads everything in the scope and reports findings. Takes no lock and writes nothing; a store that does not
    /// exist has no findings. A write that is under way may be reported as a note.
    ///
    /// # Errors
    /// [`NewerFormat`](ErrorKind::NewerFormat) if a newer version wrote the store; errors of the operating system about
    /// a snapshot.
    pub fn examine(&self, scope: &DoctorScope, found: &mut dyn FnMut(Finding)) -> Result<DoctorSummary> {
        match &self.0 {
            Kind::Files(doctor) => doctor.examine(scope, found),
            Kind::Snapshot(snapshot) => snapshot.examine(scope, false, found),
        }
    }

    /// Like [`examine`](Self::examine), and repairs damage. `wait` bounds each wait for a lock that writers hold for
    /// one call. Damage that can't be repaired is left, with the reason in its finding.
    ///
    /// # Errors
    /// The errors of [`examine`](Self::examine); [`ReadOnly`](ErrorKind::ReadOnly) and
    /// [`Unsupported`](ErrorKind::Unsupported) for a root that is opened for reading, or without file locks.
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

    /// True if readers of the store read the file at this path (relative to the root) in place. Importing such a file
    /// would store its contents twice.
    #[must_use]
    pub fn is_read(&self, path: &Path) -> bool {
        match &self.0 {
            Kind::Files(doctor) => doctor.is_read(path),
            Kind::Snapshot(_) => false,
        }
    }

    /// Records files of another program as imported. Each has its path relative to the root, and the length and mtime
    /// that it had before it was read. Until such a file changes, readers no longer report that they skip it.
    ///
    /// # Errors
    /// [`ReadOnly`](ErrorKind::ReadOnly) for a root opened for reading; errors of the operating system about a write.
    pub fn mark_imported(&self, files: &[(PathBuf, u64, Timestamp)]) -> Result<()> {
        match &self.0 {
            Kind::Files(doctor) => doctor.mark_imported(files),
            Kind::Snapshot(_) => Ok(()),
        }
    }

    /// Removes the files that were put into the quarantine before a time. Returns their number and bytes.
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
        // Opened for reading: takes no lock and writes nothing.
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

/// Counts the contents of a store.
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
