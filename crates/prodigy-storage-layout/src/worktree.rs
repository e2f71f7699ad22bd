//! Finds the main worktree of a repository.

use std::path::PathBuf;

use crate::git_dir::{CoreConfig, canonical};
use crate::identity::{Identity, IdentityError, IdentityKind};

impl Identity {
    /// The main worktree of the repository. It is the same from each of its worktrees. `None` for a plain folder.
    ///
    /// For a bare repository, or a git directory outside of its worktree, the folder that contains the git directory is
    /// returned, since such a git directory does not name a main worktree.
    ///
    /// # Errors
    /// [`IdentityError`] if the repository's `config` can't be read.
    pub fn main_worktree(&self) -> Result<Option<PathBuf>, IdentityError> {
        if self.kind == IdentityKind::Folder {
            return Ok(None);
        }
        let config = CoreConfig::of(&self.common_dir)?;
        if let Some(worktree) = config.worktree.filter(|_| config.bare != Some(true)) {
            let worktree = self.common_dir.join(worktree);
            return Ok(Some(canonical(&worktree).unwrap_or(worktree)));
        }
        Ok(self.common_dir.parent().map(PathBuf::from))
    }
}
