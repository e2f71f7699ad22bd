//! Warnings to the user about a storage handle that works.

use std::fmt;
use std::path::PathBuf;

use prodigy_storage_backend::shell_operands;
use prodigy_storage_config::Notice;
use prodigy_storage_layout::RepoName;

use crate::registry::register_at;

/// A warning about how storage was opened, or how a repository was found. Each is also logged once, when it
/// arises.
///
/// [`Display`](fmt::Display) writes one line.
///
/// ```
/// use prodigy_storage::config::MapEnvironment;
/// use prodigy_storage::{Storage, StorageNotice};
///
/// let environment = MapEnvironment::new().with("PRODIGY_STORAGE_TYPE", "memory");
/// let storage = Storage::builder().environment(environment).project_dir("/").open()?;
/// assert!(storage.notices().contains(&StorageNotice::NothingKept));
/// for notice in storage.notices() {
///     eprintln!("warning: {notice}");
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageNotice {
    /// The configuration is valid, but one of its settings deserves a warning.
    Config(Notice),
    /// `enable_locking: false`: named locks are inert, and protect nothing.
    LockingDisabled,
    /// `backend: memory` without a snapshot: all data is lost when the process ends.
    NothingKept,
    /// New files of this process will not belong to the owner of the root.
    ForeignOwner {
        /// The path of the root.
        root: PathBuf,
        /// The user id of the owner of the root.
        owner: u32,
    },
    /// The directory of a repository was replaced by a fresh clone of the same project. The clone continues under
    /// the repository's name. See [`Repo::notices`](crate::Repo::notices).
    FreshClone {
        /// The name of the repository.
        repo: RepoName,
        /// The git directory of the clone.
        path: PathBuf,
    },
    /// A repository that was not registered gets a name under which data is stored already, and continues with
    /// that data. See [`Repo::notices`](crate::Repo::notices).
    HasData {
        /// The name that the repository gets.
        repo: RepoName,
        /// The folder of the repository.
        path: PathBuf,
        /// A name that is free, to use if the data belongs to another repository.
        other: RepoName,
        /// True if the repository is registered under the name now. False if the handle is read-only: the next
        /// handle that can write registers it.
        registered: bool,
    },
}

impl fmt::Display for StorageNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(notice) => notice.fmt(f),
            Self::NothingKept => f.write_str(
                "the backend is `memory`, and nothing is kept when the process ends: set `backend: file`, or \
                 `backend_config.persist_to_disk` and `backend_config.persistence_path`",
            ),
            Self::LockingDisabled => f.write_str(
                "`enable_locking` is false: named locks are inert, and nothing keeps two processes apart",
            ),
            Self::ForeignOwner { root, owner } => write!(
                f,
                "the root {} belongs to user {owner}, and what this process writes belongs to another user: user {owner} \
                 can't read it until `chown -R` gives it back",
                root.display()
            ),
            Self::FreshClone { repo, path } => write!(
                f,
                "{} is a fresh clone of the project with the name `{repo}`: it continues under this name",
                path.display()
            ),
            Self::HasData {
                repo,
                path,
                other,
                registered,
            } => {
                let register = register_at(other, path);
                match registered {
                    true => write!(
                        f,
                        "{} was registered as `{repo}`, and continues with the data that is stored under this name; if \
                         that is another repository's: `prodigy-storage repo unregister --yes {}`, then `{register}`",
                        path.display(),
                        shell_operands([repo.as_str()])
                    ),
                    false => write!(
                        f,
                        "{} is not registered, and the first write registers it as `{repo}`, a name under which data is \
                         stored; if that is another repository's: `{register}`",
                        path.display()
                    ),
                }
            }
        }
    }
}

impl From<Notice> for StorageNotice {
    fn from(notice: Notice) -> Self {
        Self::Config(notice)
    }
}
