//! A job, for tasks.

use std::path::Path;

use prodigy_storage_backend::{Fence, Moved, Result};
use prodigy_storage_layout::{JobAddress, Timestamp};

use super::mirror::{method, mirror, rows};
use super::target::HasTarget;
use super::{
    AsyncCheckpoints, AsyncDlq, AsyncDocuments, AsyncEvents, AsyncStorageLock, Call, ItemStream, Wrap,
};
use crate::documents::DocumentInfo;
use crate::job::{Job, JobOverview, JobStatus};
use crate::orphans::{OrphanedWorktree, Orphans};

mirror! {
    /// [`Job`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::AsyncStorage;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let job = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
    /// job.finish().await?;
    /// assert!(job.finished_at().await?.is_some());
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncJob of Job {
        fn address(&self) -> &JobAddress;
        #[wrapped]
        fn with_fence(&self, fence: impl Into<Option<Fence>>) -> AsyncJob;
        fn fence(&self) -> Option<&Fence>;
        #[wrapped]
        fn events(&self) -> AsyncEvents;
        #[wrapped]
        fn checkpoints(&self) -> AsyncCheckpoints;
        #[wrapped]
        fn documents(&self, kind: impl AsRef<str>) -> Result<AsyncDocuments>;
        #[wrapped]
        fn all_documents(&self) -> ItemStream<DocumentInfo>;
        #[wrapped]
        fn dlq(&self) -> AsyncDlq;
        #[wrapped]
        fn orphans(&self) -> AsyncOrphans;
        async fn finish(&self) -> ();
        async fn finished_at(&self) -> Option<Timestamp>;
        async fn status(&self) -> JobStatus;
        async fn active_by(&self) -> Option<String>;
        async fn overview(&self) -> JobOverview;
        async fn moved(&self) -> Option<Moved>;
        async fn delete(&self) -> bool;
        async fn delete_unless_written(&self, last: Timestamp) -> bool;
    }
}

impl AsyncJob {
    /// Like [`Job::fenced`], with a guard for tasks.
    pub fn fenced(&self, guard: &AsyncStorageLock) -> Call<Self> {
        let (job, token) = (self.clone(), guard.fencing());
        Call::new(async move {
            let (blocking, token) = (job.blocking.clone(), token.await?);
            let target = blocking.target();
            let fenced = job
                .threads
                .call(target, "fenced", move || blocking.under(token))
                .await?;
            Ok(fenced.wrap(&job.threads))
        })
    }
}

mirror! {
    /// [`Orphans`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::{AsyncStorage, OrphanedWorktree};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let orphans = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.orphans();
    /// orphans.record(&OrphanedWorktree::new("agent-1", "item-7", "/tmp/worktree", "busy")).await?;
    /// assert_eq!(orphans.list().await?.len(), 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncOrphans of Orphans {
        async fn record(&self, orphan: &OrphanedWorktree) -> ();
        async fn list(&self) -> Vec<OrphanedWorktree>;
        async fn remove(&self, worktree_path: impl AsRef<Path>) -> bool;
    }
}
