//! A repository's namespace, for tasks.

use std::path::PathBuf;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::{Identity, JobId, RepoName, SessionId};
use serde::de::DeserializeOwned;

use super::mirror::{method, mirror, rows};
use super::{AsyncDocuments, AsyncJob, FollowAllStream, ItemStream};
use crate::documents::DocumentInfo;
use crate::events::FollowOptions;
use crate::job::JobOverview;
use crate::notice::StorageNotice;
use crate::orphans::JobOrphans;
use crate::registry::Registration;
use crate::repo::Repo;
use crate::worktrees::Worktrees;

mirror! {
    /// [`Repo`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::AsyncStorage;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let repo = AsyncStorage::in_memory()?.repo("shop")?;
    /// assert_eq!(repo.jobs().all().await?, []);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncRepo of Repo {
        fn name(&self) -> &RepoName;
        fn identity(&self) -> Option<&Identity>;
        fn notices(&self) -> &[StorageNotice];
        async fn registration(&self) -> Option<Registration>;
        #[wrapped]
        fn job(&self, id: impl AsRef<str>) -> Result<AsyncJob>;
        #[wrapped]
        fn jobs(&self) -> ItemStream<JobId>;
        #[wrapped]
        fn survey(&self) -> ItemStream<Result<JobOverview>>;
        #[wrapped]
        fn documents(&self, kind: impl AsRef<str>) -> Result<AsyncDocuments>;
        #[wrapped]
        fn all_documents(&self) -> ItemStream<DocumentInfo>;
        #[wrapped]
        async fn follow<T: DeserializeOwned>(&self, options: FollowOptions) -> FollowAllStream<T>;
        #[wrapped]
        fn worktrees(&self) -> AsyncWorktrees;
        async fn delete(&self) -> usize;
    }
}

impl AsyncRepo {
    /// Like [`Repo::orphans`], as a stream.
    pub fn orphans(&self) -> ItemStream<JobOrphans> {
        ItemStream::new(self.blocking.orphans(), &self.threads)
    }
}

mirror! {
    /// [`Worktrees`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::AsyncStorage;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let worktrees = AsyncStorage::in_memory()?.repo("shop")?.worktrees();
    /// assert_eq!(worktrees.list().await?, []);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncWorktrees of Worktrees {
        fn path(&self, session: &SessionId) -> Result<PathBuf>;
        async fn list(&self) -> Vec<SessionId>;
    }
}
