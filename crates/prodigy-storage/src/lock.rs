//! Named locks between processes.

use std::time::{Duration, Instant};

use prodigy_storage_backend::{Fence, LockGuard, Result};
use prodigy_storage_layout::LockName;

use crate::call::operation::LOCK;
use crate::storage::Inner;

/// How to take a lock; `Default` waits for at most the configured `timeout`.
///
/// ```
/// # use std::time::Duration;
/// # use prodigy_storage::{ErrorKind, LockOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let options = LockOptions::new("resume the job").wait(Duration::ZERO);
/// let lock = storage.lock_with("shop/mapreduce-7/resume", options.clone())?;
/// let error = storage.lock_with("shop/mapreduce-7/resume", options).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::LockUnavailable);
/// assert!(error.to_string().contains("resume the job"));
/// # drop(lock);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LockOptions {
    /// The purpose of the lock, which waiting processes see.
    pub purpose: String,
    /// The longest wait, instead of the configured `timeout`. With zero, the lock is tried once.
    pub wait: Option<Duration>,
}

impl LockOptions {
    /// Options with this purpose.
    #[must_use]
    pub fn new(purpose: impl Into<String>) -> Self {
        Self {
            purpose: purpose.into(),
            wait: None,
        }
    }

    /// Sets the longest wait, instead of the configured `timeout`.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// A held lock. It is released when this guard is dropped or the process dies.
///
/// ```
/// # use prodigy_storage::{SaveOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let job = storage.repo("shop")?.job("mapreduce-7")?;
/// let lock = storage.lock("shop/mapreduce-7/resume")?;
/// // If the process loses the lock while it is suspended, its next save fails.
/// let fenced = job.fenced(&lock)?;
/// fenced.checkpoints().save_map(&"half done", SaveOptions::new())?;
/// lock.release()?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct StorageLock {
    guard: Box<dyn LockGuard>,
}

impl StorageLock {
    /// The name of the lock.
    #[must_use]
    pub fn name(&self) -> &LockName {
        self.guard.name()
    }

    /// The fencing token, which is greater than that of every earlier holder. [`Job::fenced`](crate::Job::fenced)
    /// sends it with every write. Any other resource that the lock protects can compare it.
    ///
    /// # Errors
    /// [`Refused`](crate::ErrorKind::Refused) for an inert guard, which is one of disabled locking: its token
    /// would protect nothing. Otherwise as [`check`](Self::check).
    pub fn fencing(&self) -> Result<Fence> {
        self.check()?;
        Fence::of(&*self.guard)
    }

    /// True if the guard protects nothing, because locking is disabled.
    #[must_use]
    pub fn is_inert(&self) -> bool {
        self.guard.is_inert()
    }

    /// Fails if the lock was lost, because the folder of the store was moved, removed or replaced, or because its
    /// lease in the database has ended or was removed.
    ///
    /// # Errors
    /// [`Replaced`](crate::ErrorKind::Replaced), with the reason.
    pub fn check(&self) -> Result<()> {
        self.guard.check()
    }

    /// The file descriptor of the lock, if it has one. A child process that inherits a copy of it keeps the lock
    /// until the child ends.
    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.guard.descriptor()
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`Replaced`](crate::ErrorKind::Replaced) if the lock was lost before. The error of the operating system or the
    /// database.
    pub fn release(self) -> Result<()> {
        self.guard.release()
    }
}

pub(crate) fn take(inner: &Inner, name: &LockName, options: LockOptions) -> Result<StorageLock> {
    inner
        .caller
        .counted(LOCK, name, || take_since(inner, name, options, None))
}

/// Takes a lock, for a caller that has waited for it since `since`, if that is given, and that counts the call.
pub(crate) fn take_since(
    inner: &Inner,
    name: &LockName,
    options: LockOptions,
    since: impl Into<Option<Instant>>,
) -> Result<StorageLock> {
    if !inner.config.enable_locking {
        tracing::warn!(lock = %name, "locking is disabled: the guard is inert");
        return Ok(StorageLock {
            guard: Box::new(InertGuard(name.clone())),
        });
    }
    let deadline = match options.wait {
        Some(wait) => inner.deadline_after(wait),
        None => inner.deadline(),
    };
    let options = prodigy_storage_backend::LockOptions::new(options.purpose).since(since);
    let guard = inner.caller.call_uncounted(LOCK, name, deadline, |backend| {
        backend.lock(name, &options, deadline)
    })?;
    Ok(StorageLock { guard })
}

/// The guard that is returned for every lock while locking is disabled.
#[derive(Debug)]
struct InertGuard(LockName);

impl LockGuard for InertGuard {
    fn name(&self) -> &LockName {
        &self.0
    }

    fn fencing(&self) -> u64 {
        0
    }

    fn is_inert(&self) -> bool {
        true
    }

    fn release(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
