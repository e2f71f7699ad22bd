//! Backups: writes a root, or one job, to an archive, and restores it.
//!
//! - `archive` is the format, `sealed` its checksum, `job_of` finds the job of a file, `log_names` the marks of a log;
//! - `copy` reads a root, `verify` reads an archive, `restore` writes a root.

mod archive;
mod copy;
mod job_of;
mod log_names;
mod restore;
mod sealed;
mod verify;

use std::collections::BTreeSet;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, ErrorKind, Fence, Result, StorageError};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use serde::Serialize;

use crate::backend::Stores;
use crate::fs::FileSystem;
use crate::root::{self, FileOptions, Root};
use archive::{ArchiveWriter, Head, VERSION, WITHOUT_MARKS, unwritten};
use copy::Copy;
use restore::{OneJob, WholeRoot, raise_locks, read_small, refuse_existing};
use verify::{Nothing, Verified, read};

const BACKUP: &str = "back up";
const RESTORE: &str = "restore";
/// The longest wait for a lock that writers hold only briefly.
const MOMENT: Duration = Duration::from_secs(5);

/// Writes a root, or one job, to an archive, and restores it.
///
/// It shares no state with a [`FileBackend`](crate::FileBackend) on the same root, and writers may be active while a
/// backup is made. An archive is a `tar` file, compressed by `zstd`, with the files of the root and a manifest of their
/// sizes and checksums.
///
/// ```
/// use std::io::Cursor;
/// use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore};
/// use prodigy_storage_file::{Backup, FileBackend, FileOptions};
/// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
///
/// let folder = tempfile::tempdir()?;
/// let options = FileOptions::new(folder.path().join("root"));
/// let backend = FileBackend::open(options.clone())?;
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("mapreduce-7")?);
/// let mut batch = Batch::new();
/// batch.push("agent started")?;
/// backend.append(&job, &mut batch, &AppendOptions::default(), Deadline::never())?;
///
/// let mut archive = Vec::new();
/// Backup::new(options)?.write(None, &mut archive)?;
/// let copy = Backup::new(FileOptions::new(folder.path().join("copy")))?;
/// assert_eq!(copy.restore(&mut Cursor::new(archive), None)?.jobs, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backup {
    store: Arc<Stores>,
    /// The fencing token of a restore of one job.
    fence: Option<Fence>,
}

/// The contents of an archive, or the restored part of it, in numbers.
///
/// ```
/// use prodigy_storage_file::BackupSummary;
///
/// fn describe(summary: &BackupSummary) -> String {
///     format!("{} files of {}", summary.files, summary.made)
/// }
/// # let _ = describe;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// When the backup began.
    pub made: Timestamp,
    /// The repository and the job, if the archive is of one job.
    pub job: Option<String>,
    /// The number of files.
    pub files: u64,
    /// The size of the files, in bytes.
    pub bytes: u64,
    /// The number of jobs.
    pub jobs: u64,
    /// The number of damaged places: damaged items of dead-letter queues, which a backup leaves out, and damaged events
    /// and segments that do not decompress, which it copies unchanged.
    pub damaged: u64,
    /// The number of marks that say what was [moved](prodigy_storage_backend::Catalog::mark_moved) to another store.
    /// The marked jobs and repositories take no writes.
    pub moved: u64,
    /// The paths that a backup left out, each with a description: links, and other things at the path of a file or
    /// folder. A backup of everything also leaves out files and folders that this process may not read.
    pub left_out: Vec<String>,
}

impl Backup {
    /// Backups of a root. Creates nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a root that [`FileBackend::open`](crate::FileBackend::open) refuses.
    pub fn new(mut options: FileOptions) -> Result<Self> {
        options.resolve()?;
        Self::of(Root::open(options))
    }

    /// Backups of a root on another file system, for tests.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn new_on(file_system: Arc<dyn FileSystem>, options: FileOptions) -> Result<Self> {
        Self::of(Root::new(file_system, options))
    }

    fn of(root: Arc<Root>) -> Result<Self> {
        root::check_place(&root)?;
        Ok(Self {
            store: Stores::new(root),
            fence: None,
        })
    }

    /// Restores one job under this fencing token. The restore fails as [`Fenced`](ErrorKind::Fenced) if the job was
    /// written to under a newer token of the lock before it was deleted.
    #[must_use]
    pub fn with_fence(mut self, fence: impl Into<Option<Fence>>) -> Self {
        self.fence = fence.into();
        self
    }

    /// Writes an archive of the whole root, or of one job. Takes no lock, and writes nothing to the root. The archive
    /// holds everything that was acknowledged before the call, and perhaps some of what is written during the call. It
    /// includes the marks of parts that were moved to another store, but no leases on dead letters and no worktrees,
    /// which belong to git. The caller syncs the output.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if nothing is stored; errors of the operating system about a file or the
    /// archive. A file that the system refuses to this process is an error only in an archive of one job.
    pub fn write(&self, job: Option<&JobAddress>, out: &mut dyn Write) -> Result<BackupSummary> {
        let root = &self.store.root;
        root::check(root)?;
        let is_anything = match job {
            Some(job) => !root.is_deleted(BACKUP, job)? && self.store.is_anything_of(BACKUP, job)?,
            None => !root.names_in(BACKUP, Path::new(""))?.is_empty(),
        };
        if !is_anything {
            let target = job.map_or_else(|| root.options.root.display().to_string(), ToString::to_string);
            return Err(StorageError::new(
                ErrorKind::NotFound,
                BACKUP,
                target,
                "nothing is stored there",
            ));
        }
        let moved = root.marks_of(job)?;
        let head = Head {
            archive: if moved.is_empty() { WITHOUT_MARKS } else { VERSION },
            id: uuid::Uuid::new_v4().simple().to_string(),
            made: root.now(),
            written_by: root::WRITTEN_BY.to_owned(),
            repo: job.map(|job| job.repo.to_string()),
            job: job.map(|job| job.job.to_string()),
        };
        let archive = ArchiveWriter::begin(out, &head)?;
        let copied = Copy::new(&self.store, archive, job).run(&moved)?;
        // If the root was replaced during the copy, the archive may mix two stores.
        self.store.still_here(BACKUP)?;
        let closing = copied.archive.finish(root.now())?;
        Ok(BackupSummary {
            made: head.made,
            job: job.map(ToString::to_string),
            files: closing.files,
            bytes: closing.bytes,
            jobs: closing.jobs,
            damaged: copied.damaged,
            moved: moved.len() as u64,
            left_out: copied.left_out,
        })
    }

    /// Reads an archive to its end and checks every byte. This needs no root.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged), with the name of the file in the archive; [`NewerFormat`](ErrorKind::NewerFormat).
    pub fn check(archive: &mut dyn Read) -> Result<BackupSummary> {
        read(archive, &mut Nothing).map(|verified| verified.summary())
    }

    /// Restores an archive into an empty root, or one job into a root that has no data of it: the named job, or the job
    /// of the archive. The archive is read twice, and is checked before anything is written.
    ///
    /// The restored data appears all at once: until the end a whole root can't be opened, and a single job is absent.
    /// If a process dies during a restore, the next call with the same archive starts over. A part that was moved to
    /// another store gets its mark again and takes no writes, unless it is restored to the root that the mark names.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) for an archive that is not whole: nothing was written;
    /// [`NotFound`](ErrorKind::NotFound) for a job that is not in it; [`Refused`](ErrorKind::Refused) for a root that
    /// is not empty; [`Conflict`](ErrorKind::Conflict) for a job that exists in the root.
    pub fn restore(
        &self,
        archive: &mut (impl Read + Seek),
        job: Option<&JobAddress>,
    ) -> Result<BackupSummary> {
        archive.rewind().map_err(unwritten)?;
        let root = &*self.store.root;
        if root.options.read_only {
            return Err(StorageError::new(
                ErrorKind::ReadOnly,
                RESTORE,
                root.options.root.display(),
                "it was opened for reading only",
            ));
        }
        let mut jobs = Jobs {
            wanted: job,
            ..Jobs::default()
        };
        let verified = read(archive, &mut jobs)?;
        archive.rewind().map_err(unwritten)?;
        let own = verified.job()?;
        let Some(job) = job.or(own.as_ref()) else {
            let mut into = WholeRoot::begin(root, &verified)?;
            again(archive, &verified, &mut into)?;
            let moved = into.finish()?;
            return Ok(BackupSummary {
                moved,
                ..verified.summary()
            });
        };
        if !jobs.found.contains(job) || verified.is_deleted(job) {
            let why = format!("the archive has no such job; it has {}", jobs.names(&verified));
            return Err(StorageError::new(ErrorKind::NotFound, RESTORE, job, why));
        }
        root::check(root)?;
        root.prepare_write(RESTORE, job)?;
        self.store.finish_deletion(job, Deadline::after(MOMENT))?;
        refuse_existing(root, job)?;
        if let Some(fence) = &self.fence {
            let moment = Deadline::after(MOMENT);
            self.store.documents.pass_mark(RESTORE, job, fence, moment)?;
        }
        let marks = match jobs.marks.is_empty() {
            true => None,
            false => Some(self.store.documents.marks_in(job, jobs.marks)?),
        };
        if let Some(marks) = &marks {
            raise_locks(&self.store, marks)?;
        }
        let _held = self.store.hold(RESTORE, job, Deadline::after(MOMENT))?;
        root.check_takes_writes(RESTORE, job)?;
        refuse_existing(root, job)?;
        let begun = OneJob::begin(&self.store, job, marks.as_ref(), &verified);
        if begun.is_err()
            && let Err(error) = self.store.remove_files(job, Deadline::after(MOMENT))
        {
            // Taking the locks made the folders of the job, which look like an empty one.
            tracing::warn!(%job, %error, "the folders of a job whose restore could not begin were not removed");
        }
        let mut into = begun?;
        again(archive, &verified, &mut into)?;
        let restored = into.finish()?;
        Ok(BackupSummary {
            job: Some(job.to_string()),
            files: restored.files,
            bytes: restored.bytes,
            moved: restored.moved,
            jobs: 1,
            ..verified.summary()
        })
    }
}

/// Reads a checked archive a second time, and fails if it changed since.
fn again(archive: &mut dyn Read, known: &Verified, receiver: &mut dyn verify::Receiver) -> Result<()> {
    let found = read(archive, receiver)?;
    if found.head.id == known.head.id && found.closing == known.closing {
        return Ok(());
    }
    Err(verify::damaged(
        "the archive",
        "it changed while it was read",
        None,
    ))
}

/// The jobs that a first reading of an archive finds.
#[derive(Default)]
struct Jobs<'j> {
    found: BTreeSet<JobAddress>,
    wanted: Option<&'j JobAddress>,
    /// The bytes of the document with the fencing marks of the wanted job.
    marks: Vec<u8>,
}

impl Jobs<'_> {
    /// The largest number of names that an error lists.
    const SHOWN: usize = 20;

    fn names(&self, verified: &Verified) -> String {
        let mut jobs = self.found.iter().filter(|job| !verified.is_deleted(job));
        let names: Vec<String> = jobs.by_ref().take(Self::SHOWN).map(ToString::to_string).collect();
        match (names.is_empty(), jobs.count()) {
            (true, _) => "no job".to_owned(),
            (_, 0) => names.join(", "),
            (_, more) => format!("{} and {more} more", names.join(", ")),
        }
    }
}

impl verify::Receiver for Jobs<'_> {
    fn file(&mut self, file: &verify::Archived, contents: &mut dyn Read) -> Result<()> {
        let Some(job) = job_of::job_of(&file.path) else {
            return Ok(());
        };
        if !job_of::is_fencing(&file.path) {
            self.found.insert(job);
        } else if self.wanted.is_none_or(|wanted| *wanted == job) {
            read_small(file, contents, &mut self.marks)?;
        }
        Ok(())
    }
}

impl Verified {
    fn summary(&self) -> BackupSummary {
        let names = self.head.repo.as_ref().zip(self.head.job.as_ref());
        BackupSummary {
            made: self.head.made,
            job: names.map(|(repo, job)| format!("{repo}/{job}")),
            files: self.closing.files,
            bytes: self.closing.bytes,
            jobs: self.closing.jobs,
            damaged: 0,
            moved: self.marks,
            left_out: Vec::new(),
        }
    }

    /// The job in the head of an archive of one job; `None` for an archive of a whole root.
    fn job(&self) -> Result<Option<JobAddress>> {
        let Some((repo, job)) = self.head.repo.as_ref().zip(self.head.job.as_ref()) else {
            return Ok(None);
        };
        match (RepoName::new(repo), JobId::new(job)) {
            (Ok(repo), Ok(job)) => Ok(Some(JobAddress::new(repo, job))),
            _ => Err(verify::damaged(
                "the archive",
                "it names a job that can't exist",
                None,
            )),
        }
    }
}
