//! The storage handle.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use prodigy_storage_backend::{
    Backend, Capabilities, Check, Clock, Deadline, DocumentEntry, Entries, Fence, Foreign, Health, LockInfo,
    LogScope, Moved, Result, Severity, Stats, UnfinishedDeletion, Usage,
};
#[cfg(feature = "memory")]
use prodigy_storage_config::BackendKind;
use prodigy_storage_config::StorageConfig;
use prodigy_storage_layout::{Ceilings, DocumentScope, JobAddress, LockName, Part, RepoName, Timestamp};
#[cfg(feature = "memory")]
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use serde::de::DeserializeOwned;

use crate::builder::StorageBuilder;
use crate::call::Caller;
use crate::call::operation::{
    FINISH_DELETION, FLUSH, HEALTH, LIST, LIST_LOCKS, LIST_MOVED, LIST_REPOSITORIES, LIST_UNFINISHED,
    Operation, UNMARK_MOVED, USAGE,
};
use crate::checkpoints::Setups;
use crate::copy;
use crate::dlq::InHand;
#[cfg(feature = "file")]
use crate::doctor::Doctor;
use crate::events::{FollowAll, FollowAllLines, FollowOptions};
use crate::listing::Listing;
use crate::lock::{LockOptions, StorageLock};
use crate::notice::StorageNotice;
use crate::registry;
use crate::repo::Repo;

/// The state that all handles of one opened storage share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) caller: Caller,
    pub(crate) config: StorageConfig,
    pub(crate) notices: Vec<StorageNotice>,
    pub(crate) clock: Arc<dyn Clock>,
    /// True if the program passed the backend, and the configuration did not choose it.
    #[cfg(feature = "file")]
    pub(crate) given: bool,
    /// The times of the setup checkpoints that this handle has read.
    pub(crate) setups: Setups,
    /// The dead letters that this handle has taken and that are not settled yet.
    pub(crate) in_hand: InHand,
    /// Counts the folders of other programs that were skipped. The backend counts other skipped data itself.
    pub(crate) foreign: Foreign,
    /// The folders at which the search for a git repository ends.
    pub(crate) ceilings: Ceilings,
    /// A flag that ends waits for other processes when it is raised.
    pub(crate) interrupt: Option<&'static AtomicBool>,
    /// A function that reports long waits for other processes.
    pub(crate) announce: Option<fn(&str)>,
    /// The fencing token that the process got in its environment.
    pub(crate) fence: Option<Fence>,
}

impl Inner {
    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        #[cfg(feature = "tokio")]
        let waited = crate::asynchronous::waited();
        #[cfg(not(feature = "tokio"))]
        let waited = Duration::ZERO;
        self.deadline_after(self.config.timeout.saturating_sub(waited))
    }

    /// A deadline after this duration. If a flag for interrupts is set, it also ends waits.
    pub(crate) fn deadline_after(&self, wait: Duration) -> Deadline {
        let mut deadline = Deadline::after(wait);
        if let Some(announce) = self.announce {
            deadline = deadline.announcing(announce);
        }
        match self.interrupt {
            Some(flag) => deadline.or_when(flag),
            None => deadline,
        }
    }

    /// The documents of a scope, oldest first, without their bodies. One deadline bounds the whole iteration.
    pub(crate) fn list(
        &self,
        scope: &DocumentScope,
        deadline: Deadline,
    ) -> impl Iterator<Item = Result<DocumentEntry>> {
        Entries::new(move |page| {
            self.caller
                .call(LIST, &"", deadline, |backend| backend.list(scope, page, deadline))
        })
    }
}

/// An opened storage. Repositories, locks, health checks and everything else are reached through it.
///
/// It is cheap to clone, and threads can share it. Every call ends within the configured `timeout`, including waits
/// and retries. Each step of an iterator has the whole `timeout`.
///
/// ```no_run
/// use prodigy_storage::Storage;
///
/// let storage = Storage::open()?;
/// let job = storage.repo_at(".")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Storage {
    inner: Arc<Inner>,
}

impl Storage {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Opens the storage that configuration files and the environment describe.
    ///
    /// # Errors
    /// As [`StorageBuilder::open`].
    pub fn open() -> Result<Self> {
        StorageBuilder::new().open()
    }

    /// Opens the storage that configuration files and the environment describe, for reading only, as with
    /// [`StorageBuilder::read_only`].
    ///
    /// # Errors
    /// As [`StorageBuilder::open`].
    pub fn open_read_only() -> Result<Self> {
        StorageBuilder::new().read_only(true).open()
    }

    /// Opens the storage that this configuration describes, without reading other sources: see
    /// [`StorageBuilder::config`].
    ///
    /// # Errors
    /// As [`StorageBuilder::open`].
    pub fn with_config(config: StorageConfig) -> Result<Self> {
        StorageBuilder::new().config(config).open()
    }

    /// A store in the memory of this process, with the default settings, for tests. No file and no variable is
    /// read. The data is lost when the last handle is dropped. Each call makes a separate store.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&"agent 7 finished")?;
    /// assert_eq!(job.events().read::<String>()?.count(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// This version returns no error.
    #[cfg(feature = "memory")]
    pub fn in_memory() -> Result<Self> {
        let config = StorageConfig::default().backend(BackendKind::Memory);
        let backend = MemoryBackend::new(MemoryOptions::new().max_memory(config.memory.max_memory))?;
        StorageBuilder::new()
            .config(config)
            .backend(Arc::new(backend))
            .open()
    }

    /// A builder, for all other ways to open a storage.
    pub fn builder() -> StorageBuilder {
        StorageBuilder::new()
    }

    /// The repository with this name. Nothing is registered, and nothing is created before the first write.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name.
    pub fn repo(&self, name: impl AsRef<str>) -> Result<Repo> {
        let name = RepoName::new(name)?;
        Ok(Repo::new(Arc::clone(&self.inner), name, None))
    }

    /// The git repository that contains a path. It is the same from each of its worktrees. If no git repository
    /// contains the path, the folder itself is the repository.
    ///
    /// A new repository is registered under the name of its folder. If that name belongs to another repository, a
    /// short hash is added. A repository that was moved is recognised by its inode and birth time.
    /// `docs/explanation/identity.md` has the rules. A read-only handle registers nothing, but uses the name that
    /// the repository would get. [`Repo::notices`] has a warning if a fresh clone continues under the name of the
    /// repository that it replaced, and if a new repository gets a name under which data is stored already.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not certain that this is the repository to which the name
    /// belongs, because its directory was replaced, or is no longer where it was. The hint names the two
    /// solutions: [`relink`](Self::relink) and [`register`](Self::register).
    /// [`NotFound`](crate::ErrorKind::NotFound) for a path that does not exist,
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a broken `.git` file, [`Io`](crate::ErrorKind::Io) for
    /// a `.git` that can't be read.
    pub fn repo_at(&self, path: impl AsRef<Path>) -> Result<Repo> {
        self.at(path.as_ref(), true)
    }

    /// Like [`repo_at`](Self::repo_at), but registers no new repository: the repository has the name that it would get. Use it for a
    /// call that changes what is stored already, so that a wrong folder does not become a repository.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let storage = Storage::in_memory()?;
    /// storage.find_repo_at(folder.path())?;
    /// assert_eq!(storage.repositories().count(), 0);
    /// storage.repo_at(folder.path())?;
    /// assert_eq!(storage.repositories().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`repo_at`](Self::repo_at).
    pub fn find_repo_at(&self, path: impl AsRef<Path>) -> Result<Repo> {
        self.at(path.as_ref(), false)
    }

    fn at(&self, path: &Path, registers: bool) -> Result<Repo> {
        let found = registry::repo_at(&self.inner, path, registers)?;
        let repo = Repo::new(Arc::clone(&self.inner), found.name, Some(found.identity));
        Ok(repo.with_notice(found.notice))
    }

    /// Gives a name, with all data under it, to the repository that contains a path. Use it for a repository that
    /// was moved, copied or cloned again. The data itself is neither moved nor changed.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the name belongs to another repository that still exists.
    /// Otherwise as [`repo_at`](Self::repo_at).
    pub fn relink(&self, path: impl AsRef<Path>, name: impl AsRef<str>) -> Result<Repo> {
        let name = RepoName::new(name)?;
        let identity = registry::relink(&self.inner, path.as_ref(), &name)?;
        Ok(Repo::new(Arc::clone(&self.inner), name, Some(identity)))
    }

    /// Registers the repository that contains a path under a chosen name. Use it if the name of its folder belongs
    /// to another repository. [`Repo::notices`] has a warning if data is stored under the name already.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) if the name belongs to another repository, even one that no longer
    /// exists, or if this repository is registered under another name. Otherwise as [`repo_at`](Self::repo_at).
    pub fn register(&self, path: impl AsRef<Path>, name: impl AsRef<str>) -> Result<Repo> {
        let name = RepoName::new(name)?;
        let found = registry::register(&self.inner, path.as_ref(), &name)?;
        let repo = Repo::new(Arc::clone(&self.inner), found.name, Some(found.identity));
        Ok(repo.with_notice(found.notice))
    }

    /// Removes the registry entry of a name, and keeps all data under the name. Returns false if the name has no
    /// entry.
    ///
    /// After that, another repository can get the name and its data: by [`relink`](Self::relink), or when it is
    /// registered under the name of its folder. The repository that had the name can be
    /// [registered](Self::register) under another one.
    ///
    /// ```
    /// use prodigy_storage::Storage;
    ///
    /// let storage = Storage::in_memory()?;
    /// storage.register("/", "everything")?;
    /// assert!(storage.unregister("everything")?);
    /// assert!(!storage.unregister("everything")?);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable) while a process has an unsealed segment of a log
    /// under this name, or holds a named lock whose first part is the name. A process between two calls on a queue
    /// or a document is not noticed; its handle continues to use the name.
    pub fn unregister(&self, name: impl AsRef<str>) -> Result<bool> {
        let name = RepoName::new(name)?;
        registry::unregister(&self.inner, &name)
    }

    /// The repositories that have stored data, sorted.
    pub fn repositories(&self) -> Listing<RepoName> {
        let inner = Arc::clone(&self.inner);
        Listing::new(inner, LIST_REPOSITORIES, "", |backend, page, deadline| {
            backend.repositories(page, deadline)
        })
    }

    /// Reads the events of all jobs of all repositories as they are appended, including jobs that are created
    /// later.
    ///
    /// # Errors
    /// As [`Repo::follow`].
    pub fn follow<T: DeserializeOwned>(&self, options: FollowOptions) -> Result<FollowAll<T>> {
        Ok(FollowAll::new(self.follow_lines(options)?))
    }

    /// Reads the events of all jobs of all repositories as they are appended, line by line, without parsing them.
    ///
    /// # Errors
    /// As [`Repo::follow`].
    pub fn follow_lines(&self, options: FollowOptions) -> Result<FollowAllLines> {
        FollowAllLines::begin(&self.inner, LogScope::Store, options)
    }

    /// Takes a named lock between processes, and waits for it at most `timeout`. A name has 1 to 4 parts joined by
    /// `/`, such as `shop/mapreduce-7/resume`.
    ///
    /// # Errors
    /// As [`lock_with`](Self::lock_with).
    pub fn lock(&self, name: impl AsRef<str>) -> Result<StorageLock> {
        self.lock_with(name, LockOptions::default())
    }

    /// Takes a named lock between processes, with options.
    ///
    /// With `enable_locking: false` the guard [is inert](StorageLock::is_inert).
    ///
    /// # Errors
    /// [`LockUnavailable`](crate::ErrorKind::LockUnavailable), with the holder and the time of the wait;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a valid name of a lock.
    pub fn lock_with(&self, name: impl AsRef<str>, options: LockOptions) -> Result<StorageLock> {
        let name = LockName::new(name)?;
        crate::lock::take(&self.inner, &name, options)
    }

    /// All locks that were ever taken, held or not, sorted by name.
    pub fn locks(&self) -> Listing<LockInfo> {
        let inner = Arc::clone(&self.inner);
        Listing::new(inner, LIST_LOCKS, "", |backend, page, deadline| {
            backend.locks(page, deadline)
        })
    }

    /// The marks on the parts of this store that were [moved](Self::copy_to) to another store, sorted by
    /// repository and job. A mark on a repository, or on the whole store, covers everything in it. Empty for a
    /// backend that keeps no marks.
    ///
    /// ```
    /// # use prodigy_storage::Storage;
    /// # let storage = Storage::in_memory()?;
    /// for moved in storage.moved() {
    ///     let moved = moved?;
    ///     println!("{} is in {} now", moved.part, moved.to);
    /// }
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    pub fn moved(&self) -> Listing<Moved> {
        let inner = Arc::clone(&self.inner);
        Listing::new(inner, LIST_MOVED, "", |backend, page, deadline| {
            backend.moved(&Part::Store, page, deadline)
        })
    }

    /// Removes the marks of a part that was moved to another store, and of all parts within it, so that they can
    /// be written to again. Returns the number of removed marks. If the mark of a repository or of the whole store
    /// covers the part, it stays, and the part still can't be written to. The marks of [copies](Self::copy_to) into this store that
    /// have not ended are removed, too.
    ///
    /// Make sure that nobody writes to the new place too: the two stores would then differ.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn reopen(&self, part: &Part) -> Result<u64> {
        let deadline = self.inner.deadline();
        let marks = self.inner.caller.call(UNMARK_MOVED, part, deadline, |backend| {
            backend.unmark_moved(part, deadline)
        })?;
        Ok(marks + copy::begun::forget(self, part)?)
    }

    /// The jobs whose deletion, or restore, was cut short because its process died: no other listing has them, and what
    /// is left of them takes space. The next [clean](Self::clean) removes it.
    ///
    /// ```
    /// # use prodigy_storage::Storage;
    /// # let storage = Storage::in_memory()?;
    /// for left in storage.unfinished_deletions() {
    ///     let left = left?;
    ///     println!("{}: {} bytes", left.job, left.bytes);
    /// }
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// ```
    pub fn unfinished_deletions(&self) -> Listing<UnfinishedDeletion> {
        let inner = Arc::clone(&self.inner);
        Listing::new(inner, LIST_UNFINISHED, "", |backend, page, deadline| {
            backend.unfinished_deletions(page, deadline)
        })
    }

    /// Removes what an unfinished deletion of a job left. Returns false if another process has done so.
    pub(crate) fn finish_deletion(&self, job: &JobAddress) -> Result<bool> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(FINISH_DELETION, job, deadline, |backend| {
            backend.finish_deletion(job, deadline)
        })
    }

    /// Checks the store as far as that is possible without writing to it. If a check finds a problem, that is no
    /// error: see [`Health::severity`].
    ///
    /// # Errors
    /// An error if the checks can't be made.
    pub fn health(&self) -> Result<Health> {
        let mut health = self.call(HEALTH, |backend, deadline| backend.health(deadline))?;
        health.checks.extend(copy::begun::checks(self));
        for notice in &self.inner.notices {
            health
                .checks
                .push(Check::new("configuration", Severity::Warning, notice.to_string()));
        }
        Ok(health)
    }

    /// The doctor, which finds damage and moves it to quarantine. It does nothing until one of its methods is
    /// called.
    ///
    /// If a damaged `format.json` keeps storage from being opened, use [`StorageBuilder::doctor`].
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a backend that keeps neither files nor a snapshot.
    #[cfg(feature = "file")]
    pub fn doctor(&self) -> Result<Doctor> {
        if self.inner.given {
            let why = "the program brought a backend of its own, which has to be examined by itself";
            return Err(prodigy_storage_backend::StorageError::new(
                prodigy_storage_backend::ErrorKind::Unsupported,
                "examine storage",
                self.inner.caller.capabilities().backend,
                why,
            ));
        }
        Doctor::of(
            &self.inner.config,
            self.inner.caller.is_read_only(),
            &self.inner.clock,
        )
    }

    /// The space that the store uses, by area and repository.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn usage(&self) -> Result<Usage> {
        self.call(USAGE, |backend, deadline| backend.usage(deadline))
    }

    /// The counters of this handle and of its backend since it was opened, and the number, the failures and the
    /// durations of its calls [by operation](Stats::operation), as its callers experienced them.
    ///
    /// The counters `limit.*` count waits for a permit of `connection_pool_size`, and waits of tasks for a thread of
    /// the handle. The counters `foreign.*` count data that was skipped because another program wrote it in an unknown
    /// form: see [`ForeignKind`](crate::ForeignKind).
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.inner.caller.stats();
        self.inner.foreign.add_to(&mut stats);
        stats
    }

    /// Ends background work and makes relaxed writes of this handle survive power loss. It does not wait for the calls
    /// of an `AsyncStorage`, nor for the leases and locks that its dropped futures give back: the `flush` of that handle
    /// does.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn flush(&self) -> Result<()> {
        self.call(FLUSH, |backend, deadline| backend.flush(deadline))
    }

    /// The configuration that this storage was opened with.
    #[must_use]
    pub fn config(&self) -> &StorageConfig {
        &self.inner.config
    }

    /// Warnings from opening the storage.
    #[must_use]
    pub fn notices(&self) -> &[StorageNotice] {
        &self.inner.notices
    }

    /// The capabilities of the backend.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.caller.capabilities()
    }

    /// The backend, for functions that this handle does not offer. Each call of a backend's method gets its own
    /// deadline. It is not repeated, limited, cached or counted.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        self.inner.caller.backend()
    }

    /// Fails if the handle was opened for reading only.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        self.inner.caller.check_writable(operation, &"")
    }

    /// The time of day, from the clock of the handle.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Calls the backend with an operation on the whole storage, with a deadline that begins now.
    fn call<T>(
        &self,
        operation: Operation,
        mut try_once: impl FnMut(&dyn Backend, Deadline) -> Result<T>,
    ) -> Result<T> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(operation, &"", deadline, |backend| try_once(backend, deadline))
    }
}
