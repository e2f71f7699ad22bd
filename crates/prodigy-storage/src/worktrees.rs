//! Where the worktrees of sessions belong.

use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::Result;
use prodigy_storage_layout::{RepoName, SessionId};

use crate::call::operation::LIST_WORKTREES;
use crate::storage::Inner;

/// The worktrees of a repository's sessions. Their contents are git's: this says where they belong and which are
/// there.
#[derive(Clone, Debug)]
pub struct Worktrees {
    inner: Arc<Inner>,
    repo: RepoName,
}

impl Worktrees {
    pub(crate) fn new(inner: Arc<Inner>, repo: RepoName) -> Self {
        Self { inner, repo }
    }

    /// The absolute path of a session's worktree. Nothing is created: `git worktree add` makes the folder.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the backend has no folders.
    pub fn path(&self, session: &SessionId) -> Result<PathBuf> {
        self.inner.caller.backend().worktree_path(&self.repo, session)
    }

    /// The sessions whose worktree is there, sorted.
    ///
    /// # Errors
    /// What the backend says.
    pub fn list(&self) -> Result<Vec<SessionId>> {
        let deadline = self.inner.deadline();
        self.inner
            .caller
            .call(LIST_WORKTREES, &self.repo, deadline, |backend| {
                backend.worktrees(&self.repo, deadline)
            })
    }
}
