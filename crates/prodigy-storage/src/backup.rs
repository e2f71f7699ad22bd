//! Archives of a store, or of one job.

use std::io::{Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prodigy_storage_backend::{Clock, ErrorKind, Fence, Moved, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
use prodigy_storage_file::Backup as OfFiles;
pub use prodigy_storage_file::BackupSummary;
use prodigy_storage_layout::{JobAddress, Part};

use crate::builder::StorageBuilder;
use crate::copy::{self, CopyOptions};
use crate::job::Job;
use crate::open;
use crate::storage::Storage;
use crate::temporary::TemporaryFolder;

const BACKUP: &str = "back up";
const RESTORE: &str = "restore";

/// Writes a store, or one of its jobs, to an archive, and restores an archive. Made by [`StorageBuilder::backup`].
///
/// Whatever the backend, an archive is a `tar` file, compressed by `zstd`. It holds the files of a root and a
/// manifest of their sizes and checksums. With the file backend, other processes may write meanwhile. With another
/// backend the job is [copied](Storage::copy_to) through a temporary folder, both to write and to restore an
/// archive. The folder needs room for the uncompressed job, and no process may work on the job.
///
/// ```
/// use std::io::Cursor;
/// use prodigy_storage::{Backup, Storage};
///
/// let folder = tempfile::tempdir()?;
/// let at = |name: &str| Storage::builder().flag("backend_config.base_dir", folder.path().join(name));
/// let job = at("root").open()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
///
/// let mut archive = Vec::new();
/// at("root").backup()?.write(Some(job.address()), &mut archive)?;
/// assert_eq!(Backup::check(&mut archive.as_slice())?.jobs, 1);
/// at("copy").backup()?.restore(&mut Cursor::new(archive), None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Backup(Kind);

#[derive(Debug)]
enum Kind {
    Files(OfFiles),
    Other(Box<Other>),
}

/// A store of a backend without files.
#[derive(Debug)]
struct Other {
    config: StorageConfig,
    read_only: bool,
    clock: Arc<dyn Clock>,
    interrupt: Option<&'static AtomicBool>,
    fence: Option<Fence>,
}

/// The backup of the store that a configuration names.
pub(crate) fn of(
    config: StorageConfig,
    read_only: bool,
    clock: Arc<dyn Clock>,
    interrupt: Option<&'static AtomicBool>,
    fence: Option<Fence>,
) -> Result<Backup> {
    Ok(Backup(match config.backend {
        BackendKind::File => {
            let files = OfFiles::new(open::file_options(&config, read_only, &clock))?;
            Kind::Files(files.with_fence(fence))
        }
        _ => Kind::Other(Box::new(Other {
            config,
            read_only,
            clock,
            interrupt,
            fence,
        })),
    }))
}

impl Backup {
    /// Writes an archive of the whole store, or of one job. It holds everything that was acknowledged before the
    /// call, and some of the data that is written meanwhile. It does not hold worktrees, or leases of dead
    /// letters. `out` is not synced.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if nothing is stored; errors of the operating system for a file or for
    /// the archive. From a backend without files also [`Unsupported`](ErrorKind::Unsupported) for the whole store,
    /// and [`LockUnavailable`](ErrorKind::LockUnavailable) for a job that is [active](crate::JobState::Active).
    pub fn write(&self, job: Option<&JobAddress>, out: &mut dyn Write) -> Result<BackupSummary> {
        match &self.0 {
            Kind::Files(files) => files.write(job, out),
            Kind::Other(other) => other.write(job, out),
        }
    }

    /// Reads an archive to its end, and checks every byte.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged), which names the damaged file in the archive.
    pub fn check(archive: &mut dyn Read) -> Result<BackupSummary> {
        OfFiles::check(archive)
    }

    /// Restores an archive, or one job of it, after every byte of the archive was checked. With the file backend,
    /// a whole archive needs an empty root, and the root or the job appears at one moment. With another backend
    /// the jobs are copied one after the other, and each is compared at its end; if the restore is cut short, the
    /// next call continues it.
    ///
    /// A job that had been [moved](Storage::copy_to) to another store when the archive was made gets its mark
    /// back: it can't be written to until it is [reopened](Storage::reopen). If it is restored into the store that
    /// the mark names, it gets no mark.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) for a damaged archive, [`NotFound`](ErrorKind::NotFound) for a job that is
    /// not in the archive, and [`Conflict`](ErrorKind::Conflict) if the store has other data of the job. In each
    /// case nothing was changed.
    pub fn restore<A: Read + Seek>(
        &self,
        archive: &mut A,
        job: Option<&JobAddress>,
    ) -> Result<BackupSummary> {
        match &self.0 {
            Kind::Files(files) => files.restore(archive, job),
            Kind::Other(other) => other.restore(archive, job),
        }
    }
}

impl Other {
    fn store(&self) -> StorageBuilder {
        let store = Storage::builder()
            .config(self.config.clone())
            .read_only(self.read_only)
            .clock(Arc::clone(&self.clock));
        self.interruptible(store)
    }

    /// The configuration of a file backend whose root is a temporary folder.
    fn files(&self, folder: &TemporaryFolder) -> StorageConfig {
        let mut config = self.config.clone();
        config.backend = BackendKind::File;
        config.file.base_dir = folder.path().join("root");
        config
    }

    fn interruptible(&self, store: StorageBuilder) -> StorageBuilder {
        match self.interrupt {
            Some(flag) => store.interrupt(flag),
            None => store,
        }
    }

    fn of_files(&self, config: &StorageConfig) -> Result<OfFiles> {
        OfFiles::new(open::file_options(config, false, &self.clock))
    }

    fn write(&self, job: Option<&JobAddress>, out: &mut dyn Write) -> Result<BackupSummary> {
        let Some(job) = job else {
            let why =
                "an archive of this backend holds one job; a database has tools of its own for all of it";
            return Err(
                StorageError::new(ErrorKind::Unsupported, BACKUP, self.config.backend, why).with_hint(
                    "name a job with `--job`; or take everything with `pg_dump` or a base backup; or copy it into a folder with \
                     `prodigy-storage copy --to DIR --keep-source`, and back that up",
                ),
            );
        };
        let folder = TemporaryFolder::make(BACKUP)?;
        let config = self.files(&folder);
        let target = self.interruptible(Storage::builder().config(config.clone()));
        let options = CopyOptions::new().repo(job.repo.clone()).job(job.job.clone());
        let store = self.store().open()?;
        let report = store.copy_to(target, options.keep_source(true))?;
        match (report.refused.into_iter().next(), report.jobs.is_empty()) {
            (Some((_, error)), _) => return Err(error),
            (None, true) => {
                return Err(StorageError::new(
                    ErrorKind::NotFound,
                    BACKUP,
                    job,
                    "nothing is stored of this job",
                ));
            }
            (None, false) => {}
        }
        let copy = Storage::builder().config(config.clone()).open()?;
        carry_mark(&store, &copy, job)?;
        drop(copy);
        self.of_files(&config)?.write(Some(job), out)
    }

    fn restore<A: Read + Seek>(&self, archive: &mut A, job: Option<&JobAddress>) -> Result<BackupSummary> {
        if self.fence.is_some() {
            let why = "a restore under a fencing token needs the file backend";
            return Err(
                StorageError::new(ErrorKind::Unsupported, RESTORE, self.config.backend, why)
                    .with_hint("run it outside of `lock run`"),
            );
        }
        let folder = TemporaryFolder::make(RESTORE)?;
        let config = self.files(&folder);
        let mut summary = self.of_files(&config)?.restore(archive, job)?;
        let source = Storage::builder().config(config).read_only(true).open()?;
        let mut options = CopyOptions::new().keep_source(true);
        if let Some(job) = job {
            options = options.repo(job.repo.clone()).job(job.job.clone());
        }
        let report = source.copy_to(self.store(), options)?;
        if let Some((_, error)) = report.refused.into_iter().next() {
            return Err(error);
        }
        let (target, mut moved) = (self.store().open()?, 0);
        for job in report.jobs {
            moved += carry_mark(&source, &target, &job.address)?;
        }
        summary.moved = moved;
        Ok(summary)
    }
}

/// If the job was moved according to the source, marks it as moved in the target too, unless the target is the new
/// place of the job. Returns the number of marks that were made.
fn carry_mark(source: &Storage, target: &Storage, job: &JobAddress) -> Result<u64> {
    let of = |storage: &Storage| Job::new(Arc::clone(storage.inner()), job.clone());
    let Some(moved) = of(source)
        .moved()?
        .filter(|moved| moved.to != copy::place(target))
    else {
        return Ok(0);
    };
    let moved = Moved::new(Part::Job(job.clone()), moved.to, moved.at);
    let last = of(target).status()?.last_activity;
    copy::mark(target, &moved, last).map(u64::from)
}
