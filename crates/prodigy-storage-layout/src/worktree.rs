//! Finds the main worktree of a repository.

use std::path::PathBuf;

use crate::git_dir::{CoreConfig, canonical};
use crate::identity::{Identity, IdentityError, IdentityKind};

impl Identity {
    /// The main worktree of the repository, the same from each of its worktrees. `None` for a plain folder.
    ///
    /// The git directory of a bare repository, or one outside of its worktree, does not name a main worktree. For these, the
    /// folder that contains the git directory is returned.
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
