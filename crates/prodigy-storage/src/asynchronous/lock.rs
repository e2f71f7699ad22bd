//! A named lock that a task holds.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Fence, Result};
use prodigy_storage_layout::LockName;

use super::Call;
use super::target::Target;
use super::threads::{Threads, no_thread};
use crate::lock::StorageLock;

/// The pause between two checks whether a call still uses the guard.
const PAUSE: Duration = Duration::from_millis(1);

/// [`StorageLock`] for asynchronous tasks. Dropping it releases the lock shortly after, on a thread of the handle.
///
/// ```
/// # use prodigy_storage::AsyncStorage;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let storage = AsyncStorage::in_memory()?;
/// let lock = storage.lock("shop/mapreduce-7/resume").await?;
/// assert!(lock.fencing().await?.token() > 0);
/// lock.release().await?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct AsyncStorageLock {
    name: LockName,
    inert: bool,
    /// The held lock. `None` only after [`release`](Self::release) was called.
    held: Option<Arc<StorageLock>>,
    threads: Arc<Threads>,
}

impl AsyncStorageLock {
    pub(super) fn new(lock: StorageLock, threads: &Arc<Threads>) -> Self {
        Self {
            name: lock.name().clone(),
            inert: lock.is_inert(),
            held: Some(Arc::new(lock)),
            threads: Arc::clone(threads),
        }
    }

    /// As [`StorageLock::name`].
    #[must_use]
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// As [`StorageLock::fencing`].
    pub fn fencing(&self) -> Call<Fence> {
        self.call("fencing", StorageLock::fencing)
    }

    /// As [`StorageLock::is_inert`].
    #[must_use]
    pub fn is_inert(&self) -> bool {
        self.inert
    }

    /// As [`StorageLock::check`].
    pub fn check(&self) -> Call<()> {
        self.call("check", StorageLock::check)
    }

    /// As [`StorageLock::descriptor`].
    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.held.as_ref()?.descriptor()
    }

    /// Like [`StorageLock::release`]. The lock is also released if the future is dropped.
    pub fn release(mut self) -> Call<()> {
        Call::new(async move {
            match self.held.take() {
                Some(held) => {
                    self.threads
                        .call(Target::ANY, "release", move || release(held))
                        .await
                }
                None => Ok(()),
            }
        })
    }

    fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        call: impl FnOnce(&StorageLock) -> Result<T> + Send + 'static,
    ) -> Call<T> {
        let (held, threads) = (self.held.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            let held = held.ok_or_else(|| no_thread(name))?;
            threads.call(Target::ANY, name, move || call(&held)).await
        })
    }
}

/// Releases a lock. A cancelled call may still use the guard; the function waits until it has ended.
fn release(mut held: Arc<StorageLock>) -> Result<()> {
    loop {
        match Arc::try_unwrap(held) {
            Ok(lock) => return lock.release(),
            Err(shared) => held = shared,
        }
        std::thread::sleep(PAUSE);
    }
}

impl Drop for AsyncStorageLock {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // The release writes to the file of the lock, which may block.
            self.threads.operations.submit(move || drop(held));
        }
    }
}
