//! Paths of the worktrees of sessions.
#![expect(
    clippy::disallowed_methods,
    reason = "lists the folders of worktrees, which belong to git"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{ErrorKind, ForeignKind, Result, StorageError};
use prodigy_storage_layout::{Entry, RepoName, SessionId, worktrees_folder};

use crate::storage::Inner;

/// The worktrees of a repository's sessions. Git creates and fills them; this type returns their paths, and lists
/// those that exist.
///
/// ```no_run
/// use prodigy_storage::{SessionId, Storage};
///
/// let worktrees = Storage::open()?.repo_at(".")?.worktrees();
/// let path = worktrees.path(&SessionId::new("42").expect("a valid name"))?;
/// println!("git worktree add {}", path.display());
/// println!("{} sessions have a worktree", worktrees.list()?.len());
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
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
    /// [`Unsupported`](ErrorKind::Unsupported) if the backend has no folder on this machine.
    pub fn path(&self, session: &SessionId) -> Result<PathBuf> {
        let root = self.root().ok_or_else(|| {
            StorageError::new(
                ErrorKind::Unsupported,
                "find worktree",
                format_args!("{} {session}", self.repo),
                "the backend has no folder that a worktree could lie in",
            )
            .with_hint("use the file backend, or give git a folder of your own")
        })?;
        let path = root.join(Entry::Worktree(self.repo.clone(), session.clone()).path());
        std::path::absolute(&path).map_err(|error| {
            StorageError::new(
                ErrorKind::Io,
                "find worktree",
                path.display(),
                "the current folder is unknown",
            )
            .with_hint("set an absolute `base_dir`")
            .with_source(error)
        })
    }

    /// The sessions with a worktree, sorted. Links are not followed and not listed. Folders of another program are
    /// skipped and counted in [`Storage::stats`](crate::Storage::stats).
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if the folder of the worktrees is a link;
    /// [`Io`](ErrorKind::Io) if it cannot be read.
    pub fn list(&self) -> Result<Vec<SessionId>> {
        let Some(root) = self.root() else {
            return Ok(Vec::new());
        };
        let folder = worktrees_folder(&self.repo);
        let (mut sessions, mut others) = (Vec::new(), 0);
        for name in folders_in(&root, &folder)? {
            match Entry::parse(&folder.join(name)) {
                Some(Entry::Worktree(_, session)) => sessions.push(session),
                _ => others += 1,
            }
        }
        self.inner.foreign.skip(ForeignKind::Worktrees, &folder, others);
        sessions.sort();
        Ok(sessions)
    }

    /// True if the repository has any folder of worktrees, even one of another program.
    pub(crate) fn is_any(&self) -> Result<bool> {
        let Some(root) = self.root() else { return Ok(false) };
        Ok(!folders_in(&root, &worktrees_folder(&self.repo))?.is_empty())
    }

    /// The folder of all worktrees on this machine; `None` if the backend has none.
    fn root(&self) -> Option<PathBuf> {
        self.inner.caller.capabilities().root
    }
}

/// The names of the folders in `folder`, which is below `root`; empty if it does not exist. No link below `root`
/// is followed.
fn folders_in(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let fault = |path: &Path, error: io::Error| {
        StorageError::new(
            ErrorKind::Io,
            "list worktrees",
            path.display(),
            "it cannot be read",
        )
        .with_source(error)
    };
    let mut path = root.to_owned();
    for part in folder.components() {
        path.push(part);
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let why = "it is a link or no folder, and no link is followed below the root";
                return Err(
                    StorageError::new(ErrorKind::Refused, "list worktrees", path.display(), why)
                        .with_hint("move it away, or put a folder in its place"),
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fault(&path, error)),
        }
    }
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(|error| fault(&path, error))? {
        let entry = entry.map_err(|error| fault(&path, error))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
