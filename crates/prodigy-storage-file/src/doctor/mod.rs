//! Finds damage below a root, explains it, and repairs it.
//!
//! [`Doctor::examine`] reads everything, takes no lock, and changes nothing. [`Doctor::repair`] also repairs damage,
//! file by file, under the lock that writers of that file take:
//!
//! 1. the bytes are copied to `quarantine/` and synced, with a report beside them;
//! 2. only then is the file replaced or removed, as atomically as by any other write.
//!
//! So an interrupted repair loses nothing, and the next run finds the remaining damage.
//!
//! Readable data keeps its place. In a plain segment, blanks replace damaged bytes, so that the offsets in cursors stay
//! valid. From a compressed segment, every record that can be decompressed is written to a plain segment of the same
//! name. Data that another process has locked is left unchanged, and the finding says so.
//!
//! Files of other programs are reported in one finding for each kind, and never changed.
//!
//! - `walk` goes through the root and recognises each name; `finding` is the report;
//! - `foreign` counts the files of other programs;
//! - `log`, `queue`, `document`, `lock` and `place` examine the files of their kind; `segment` rewrites segments;
//! - `displaced` finds data of the store under wrong names;
//! - `keep` is the quarantine and its reports;
//! - `left` looks at what a deletion left.

mod displaced;
mod document;
mod finding;
mod foreign;
mod keep;
mod left;
mod lock;
mod log;
mod marks;
mod place;
mod queue;
mod segment;
#[cfg(all(test, feature = "compression"))]
mod tests;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Cursor, ErrorKind, Result, StorageError};
use prodigy_storage_layout::{Entry, JobAddress, Timestamp, events_folder};

pub use finding::{DoctorScope, DoctorSummary, Finding, FindingKind, FindingOutcome, FindingSeverity};
pub use left::Leftovers;

use crate::document::Documents;
use crate::fs::FileSystem;
use crate::lock::Locks;
use crate::log::Extent;
use crate::queue::Queues;
use crate::root::{self, AsImported, FileOptions, Imported, Quarantine, Root};

/// Examines a root for damage, and repairs it.
///
/// It shares no state with a [`FileBackend`](crate::FileBackend) on the same root, which may be in use at the same
/// time. Unlike the backend, it also opens a root whose `format.json` is damaged.
///
/// ```
/// use prodigy_storage_file::{Doctor, DoctorScope, FileOptions};
///
/// let folder = tempfile::tempdir()?;
/// let doctor = Doctor::new(FileOptions::new(folder.path()))?;
/// let summary = doctor.examine(&DoctorScope::all(), &mut |finding| println!("{finding:?}"))?;
/// assert!(summary.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Doctor {
    parts: Arc<Parts>,
}

/// A root, and the stores that repairs write through.
#[derive(Debug)]
struct Parts {
    root: Arc<Root>,
    documents: Documents,
    queues: Queues,
    locks: Locks,
}

impl Doctor {
    /// A doctor for a root. Creates nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a root that [`FileBackend::open`](crate::FileBackend::open) refuses.
    pub fn new(mut options: FileOptions) -> Result<Self> {
        options.resolve()?;
        Self::of(Root::open(options))
    }

    /// A doctor for a root on another file system, for tests.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn new_on(file_system: Arc<dyn FileSystem>, options: FileOptions) -> Result<Self> {
        Self::of(Root::new(file_system, options))
    }

    fn of(root: Arc<Root>) -> Result<Self> {
        root::check_place(&root)?;
        let parts = Parts {
            documents: Documents::new(Arc::clone(&root)),
            queues: Queues::new(Arc::clone(&root)),
            locks: Locks::new(Arc::clone(&root)),
            root,
        };
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// Reads everything in the scope and reports findings, file by file. Takes no lock and writes nothing; an absent
    /// root has no findings. A write that is under way may be reported as a note.
    ///
    /// # Errors
    /// [`ErrorKind::NewerFormat`] if a newer version wrote the root.
    pub fn examine(&self, scope: &DoctorScope, found: &mut dyn FnMut(Finding)) -> Result<DoctorSummary> {
        walk::Examination::new(&self.parts, scope, None, found).run()
    }

    /// Like [`examine`](Self::examine), and repairs damage. `wait` bounds each wait for a lock that writers hold for
    /// one call. Damage that can't be repaired is left, with the reason in its finding.
    ///
    /// # Errors
    /// [`ErrorKind::NewerFormat`]; [`ErrorKind::ReadOnly`] and [`ErrorKind::Unsupported`] for a root opened for
    /// reading or without file locks.
    pub fn repair(
        &self,
        scope: &DoctorScope,
        wait: Duration,
        found: &mut dyn FnMut(Finding),
    ) -> Result<DoctorSummary> {
        self.check_writable("repair")?;
        walk::Examination::new(&self.parts, scope, Some(wait), found).run()
    }

    /// Removes what was put into the quarantine before a time: files, links, and folders with everything in them. Returns
    /// the number and the bytes of the files. With `dry_run` nothing is removed.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] for a root opened for reading, unless `dry_run`.
    pub fn clear_quarantine(&self, before: Timestamp, dry_run: bool) -> Result<(u64, u64)> {
        let root = &self.parts.root;
        if !dry_run {
            self.check_writable("clear quarantine")?;
        }
        Quarantine::of(root).clear(before, dry_run)
    }

    /// Finds the files that a deletion leaves, or left, of a job. The folders stay with such files, so the job stays in listings.
    ///
    /// # Errors
    /// Errors of the operating system about a read.
    pub fn left_of(&self, job: &JobAddress) -> Result<Leftovers> {
        left::left_of(&self.parts, job)
    }

    /// The reason why events before a cursor are certainly missing from the log of a job; `None` if no sign of that is found. Events
    /// that were removed as old, or with their job, are not missing. Reads the names of the segments and the ends of few.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a cursor of another backend; errors of the operating system about a read.
    pub fn missing_before(&self, job: &JobAddress, cursor: &Cursor) -> Result<Option<String>> {
        let (root, folder) = (&self.parts.root, events_folder(job));
        let lacks = Extent::of(root, &folder)?.lacks(root, &folder, cursor)?;
        // Of a job that is being deleted, or restored, only a part is here.
        Ok(match root.is_deleted("compare cursor", job)? {
            true => None,
            false => lacks,
        })
    }

    /// True if readers of the store read the file at this path (relative to the root) in place. Importing such a file
    /// would store its contents twice.
    #[must_use]
    pub fn is_read(&self, path: &Path) -> bool {
        Entry::parse(path).is_some()
    }

    /// Records files of another program as imported. Each has its path relative to the root, and the length and mtime
    /// that it had before it was read. Until such a file changes, readers no longer report that they skip it.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`] for a root opened for reading; errors of the operating system about a write.
    pub fn mark_imported(&self, files: &[(PathBuf, u64, Timestamp)]) -> Result<()> {
        self.check_writable("mark as imported")?;
        let files: Vec<_> = files
            .iter()
            .map(|(path, len, modified)| {
                (
                    path.clone(),
                    AsImported {
                        len: *len,
                        modified: *modified,
                    },
                )
            })
            .collect();
        Imported::mark(&self.parts.root, &files)
    }

    /// Fails if this process may not change the root.
    fn check_writable(&self, operation: &'static str) -> Result<()> {
        let root = &self.parts.root;
        if root.options.read_only {
            let why = "this root was opened for reading only";
            return Err(StorageError::new(
                ErrorKind::ReadOnly,
                operation,
                root.options.root.display(),
                why,
            ));
        }
        root::check_owner(root)?;
        root::enter(root)
    }
}
