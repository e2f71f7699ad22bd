//! The storage handle for tasks.

use std::sync::Arc;

use prodigy_storage_backend::{
    Backend, Capabilities, Health, LockInfo, Moved, Result, Stats, UnfinishedDeletion, Usage,
};
use prodigy_storage_config::StorageConfig;
use prodigy_storage_layout::{LockName, Part, RepoName};
use serde::de::DeserializeOwned;

use super::mirror::{method, mirror, rows};
use super::target::Target;
use super::threads::{Threads, open};
use super::{AsyncEvents, AsyncRepo, AsyncStorageLock, Call, FollowAllStream, ItemStream};
use crate::builder::StorageBuilder;
use crate::clean::{CleanOptions, CleanReport};
use crate::copy::{CopyOptions, CopyReport};
#[cfg(feature = "file")]
use crate::doctor::Doctor;
use crate::events::FollowOptions;
use crate::lock::LockOptions;
use crate::notice::StorageNotice;
use crate::storage::Storage;
use std::path::Path;

mirror! {
    /// [`Storage`] for asynchronous tasks. It has the same methods, but their work is done on threads of the
    /// handle, so that no task blocks.
    ///
    /// - Each call is a future ([`Call`]), and each iterator a stream. Arguments are serialised before the method
    ///   returns, so they need to be neither `Send` nor `'static`.
    /// - The handle has at most `connection_pool_size` threads for calls, as many for appends, and as many for
    ///   waits for locks, each used in order of arrival. A [follow](super::AsyncEvents::follow) and a
    ///   [redrive](super::AsyncDlq::redrive) have threads of their own. The time that a call waits for a thread
    ///   counts towards its `timeout`.
    /// - Appends of many tasks to one log share calls and syncs, whatever the number of tasks.
    /// - Dropping a future cancels its call. A call is never left half done: see [`Call`].
    /// - The threads end when all clones of the handle, all objects that it returned, and all futures are dropped.
    ///   Futures and streams work in any runtime. Only a redrive has to be awaited in a tokio runtime.
    /// - Await [`flush`](AsyncStorage::flush) before the program ends or its runtime shuts down: it waits for what
    ///   dropped futures have begun.
    ///
    /// The page `docs/how-to/async.md` of the project lists what a dropped future leaves, call by call.
    ///
    /// ```
    /// use prodigy_storage::{AsyncStorage, SaveOptions};
    /// use serde_json::{Value, json};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let storage = AsyncStorage::in_memory()?; // or `AsyncStorage::open().await?`
    /// let job = storage.repo("shop")?.job("mapreduce-7")?;
    /// job.events().append(&json!({"agent": 1, "status": "done"})).await?; // `Ok`: the event is stored
    ///
    /// let mut done = 0;
    /// let mut events = job.events().read::<Value>().await?;
    /// while let Some(event) = events.next().await {
    ///     if event?.event.event["status"] == "done" {
    ///         done += 1;
    ///     }
    /// }
    /// job.checkpoints().save_map(&done, SaveOptions::at(events.cursor())).await?;
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncStorage of Storage {
        #[wrapped]
        fn repo(&self, name: impl AsRef<str>) -> Result<AsyncRepo>;
        #[wrapped]
        async fn repo_at(&self, path: impl AsRef<Path>) -> AsyncRepo;
        #[wrapped]
        async fn find_repo_at(&self, path: impl AsRef<Path>) -> AsyncRepo;
        #[wrapped]
        async fn relink(&self, path: impl AsRef<Path>, name: impl AsRef<str>) -> AsyncRepo;
        #[wrapped]
        async fn register(&self, path: impl AsRef<Path>, name: impl AsRef<str>) -> AsyncRepo;
        async fn unregister(&self, name: impl AsRef<str>) -> bool;
        #[wrapped]
        fn repositories(&self) -> ItemStream<RepoName>;
        #[wrapped]
        async fn follow<T: DeserializeOwned>(&self, options: FollowOptions) -> FollowAllStream<T>;
        #[wrapped]
        fn locks(&self) -> ItemStream<LockInfo>;
        #[wrapped]
        fn moved(&self) -> ItemStream<Moved>;
        #[wrapped]
        fn unfinished_deletions(&self) -> ItemStream<UnfinishedDeletion>;
        async fn reopen(&self, part: &Part) -> u64;
        async fn health(&self) -> Health;
        async fn usage(&self) -> Usage;
        async fn clean(&self, options: CleanOptions) -> CleanReport;
        async fn copy_to(&self, target: StorageBuilder, options: CopyOptions) -> CopyReport;
        #[wrapped]
        fn audit_log(&self) -> Result<AsyncEvents>;
        fn stats(&self) -> Stats;
        fn config(&self) -> &StorageConfig;
        fn notices(&self) -> &[StorageNotice];
        fn capabilities(&self) -> Capabilities;
        fn backend(&self) -> &Arc<dyn Backend>;
    }
}

impl AsyncStorage {
    /// Like [`Storage::open`].
    pub fn open() -> Call<Self> {
        Self::open_with(Storage::open)
    }

    /// Like [`Storage::open_read_only`].
    pub fn open_read_only() -> Call<Self> {
        Self::open_with(Storage::open_read_only)
    }

    /// Like [`Storage::with_config`].
    pub fn with_config(config: StorageConfig) -> Call<Self> {
        Self::open_with(move || Storage::with_config(config))
    }

    /// Like [`Storage::in_memory`].
    ///
    /// # Errors
    /// As [`Storage::in_memory`].
    #[cfg(feature = "memory")]
    pub fn in_memory() -> Result<Self> {
        Storage::in_memory().map(Self::from)
    }

    /// Like [`Storage::builder`]. Open the builder with [`StorageBuilder::open_async`].
    pub fn builder() -> StorageBuilder {
        StorageBuilder::new()
    }

    pub(super) fn open_with(opens: impl FnOnce() -> Result<Storage> + Send + 'static) -> Call<Self> {
        Call::new(async move { open(opens).await.map(Self::from) })
    }

    /// Like [`Storage::lock`]. Tasks of this handle that wait for the same name get the lock in order of arrival.
    pub fn lock(&self, name: impl AsRef<str>) -> Call<AsyncStorageLock> {
        self.lock_with(name, LockOptions::default())
    }

    /// Like [`Storage::lock_with`]. Tasks of this handle that wait for the same name get the lock in order of
    /// arrival. If the wait fails, a task that is not the first in this order gets the error shortly after its
    /// deadline.
    pub fn lock_with(&self, name: impl AsRef<str>, options: LockOptions) -> Call<AsyncStorageLock> {
        let name = LockName::new(name);
        let inner = Arc::clone(self.blocking.inner());
        let threads = Arc::clone(&self.threads);
        Call::new(async move {
            let lock = threads.lock(&inner, name?, options).await?;
            Ok(AsyncStorageLock::new(lock, &threads))
        })
    }

    /// Like [`Storage::doctor`]. The methods of the returned doctor block.
    #[cfg(feature = "file")]
    pub fn doctor(&self) -> Call<Doctor> {
        let (blocking, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            threads
                .call(Target::ANY, "doctor", move || blocking.doctor())
                .await
        })
    }

    /// Like [`Storage::flush`]. First it waits for the calls of this handle that have begun, and for the releases
    /// of leases and locks that cancelled futures have taken.
    pub fn flush(&self) -> Call<()> {
        let (blocking, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            threads.ended().await;
            threads.call(Target::ANY, "flush", move || blocking.flush()).await
        })
    }

    /// The blocking handle on the same storage. The two share the store, its cache and its counters. A flush of the
    /// blocking handle waits for no calls of tasks: use [`flush`](Self::flush).
    #[must_use]
    pub fn blocking(&self) -> &Storage {
        &self.blocking
    }
}

impl From<Storage> for AsyncStorage {
    fn from(blocking: Storage) -> Self {
        let threads = Threads::new(&blocking);
        Self { blocking, threads }
    }
}

impl StorageBuilder {
    /// Like [`open`](Self::open), on a separate thread.
    pub fn open_async(self) -> Call<AsyncStorage> {
        AsyncStorage::open_with(|| self.open())
    }
}
