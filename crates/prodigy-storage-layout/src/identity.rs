//! Identifies the repository that a folder belongs to.
#![expect(
    clippy::disallowed_methods,
    reason = "the identity of a repository is read from its folder"
)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::evidence::Evidence;
use crate::git_dir::{CoreConfig, DotGit, canonical, common_dir, is_git_dir, origin};
use crate::name::RepoName;
use crate::suggested;
use crate::time::Timestamp;

/// The kind of repository that a folder belongs to.
///
/// ```no_run
/// use prodigy_storage_layout::{Identity, IdentityKind};
///
/// let is_git = Identity::at(".".as_ref())?.kind != IdentityKind::Folder;
/// # let _ = is_git;
/// # Ok::<(), prodigy_storage_layout::IdentityError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a registry has a word for each")]
pub enum IdentityKind {
    /// A repository with a worktree of its own.
    Repository,
    /// A bare repository, whether or not linked worktrees were added to it.
    BareRepository,
    /// A submodule whose git directory is inside the one of its superproject.
    Submodule,
    /// A plain folder outside of every repository, which is its own identity.
    Folder,
}

/// The identity of the repository that a folder belongs to.
///
/// Two folders belong to the same repository exactly if their [`common_dir`](Self::common_dir) is the same: all worktrees of
/// a repository share one common git directory.
///
/// Git is not run, and no environment variable is read: the caller passes the folders that end the search ([`Ceilings`]). A
/// folder outside of every repository is its own identity.
///
/// A submodule in a linked worktree of its superproject and the same submodule in the main worktree have separate git
/// directories. For git they are two repositories, and so they have two identities.
///
/// ```no_run
/// use prodigy_storage_layout::Identity;
///
/// let identity = Identity::at(".".as_ref())?;
/// println!("{} at {}", identity.suggested_name(), identity.common_dir.display());
/// # Ok::<(), prodigy_storage_layout::IdentityError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "evidence and names follow from all of it"
)]
pub struct Identity {
    /// The kind of repository.
    pub kind: IdentityKind,
    /// The canonical common git directory; for a plain folder the canonical folder.
    pub common_dir: PathBuf,
    /// The canonical root of the worktree that contains the path. `None` for a plain folder, inside a git
    /// directory, and in a bare repository outside of its linked worktrees.
    pub worktree: Option<PathBuf>,
    /// The name of the folder that names the repository. It is the same from every folder of the repository:
    ///
    /// - the folder that contains `.git`, or another hidden git directory;
    /// - for a submodule, its folder in the superproject;
    /// - in any other case, the git directory itself, without `.git` at the end of its name.
    ///
    /// Empty for the root of the file system.
    pub folder_name: OsString,
    /// Device and inode of `common_dir`, if the platform has them. They stay the same when a repository is moved within one
    /// file system.
    pub file_id: Option<(u64, u64)>,
    /// The creation time of `common_dir`, if the file system stores it.
    pub born: Option<Timestamp>,
    /// The address of the remote `origin` in the repository's `config`, without credentials. Files that the
    /// configuration includes are not read, and `insteadOf` is not applied.
    pub origin: Option<String>,
}

/// Folders that end the search for a repository, like those in `GIT_CEILING_DIRECTORIES`.
///
/// A search that begins below a ceiling does not search the ceiling or the folders above it. The folder where the search
/// begins is always searched.
///
/// ```no_run
/// use prodigy_storage_layout::{Ceilings, Identity};
///
/// // With GIT_CEILING_DIRECTORIES=/home, a repository in `/home` itself does not count.
/// let ceilings = Ceilings::parse("/home".as_ref());
/// let identity = Identity::below("/home/me/notes".as_ref(), &ceilings)?;
/// # let _ = identity;
/// # Ok::<(), prodigy_storage_layout::IdentityError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings(Vec<PathBuf>);

impl Ceilings {
    /// Parses the value of `GIT_CEILING_DIRECTORIES`: absolute paths in the form of `PATH`. As in git, links are resolved in
    /// the paths before an empty entry, and not in those after it. Paths that are not absolute are ignored.
    #[must_use]
    pub fn parse(value: &OsStr) -> Self {
        let mut resolve = true;
        let mut ceilings = Vec::new();
        for entry in std::env::split_paths(value) {
            if entry.as_os_str().is_empty() {
                resolve = false;
            } else if entry.is_absolute() {
                match resolve {
                    true => ceilings.extend(fs::canonicalize(&entry)),
                    false => ceilings.push(entry),
                }
            }
        }
        Self(ceilings)
    }

    /// The lowest ceiling above a folder; `None` if no ceiling is above it.
    fn above(&self, folder: &Path) -> Option<&Path> {
        let above = |ceiling: &&PathBuf| folder != ceiling.as_path() && folder.starts_with(ceiling);
        let ceilings = self.0.iter().filter(above);
        ceilings
            .max_by_key(|ceiling| ceiling.components().count())
            .map(PathBuf::as_path)
    }
}

impl Identity {
    /// The identity of the nearest repository that contains a file or folder. The search goes up to the root of the
    /// file system.
    ///
    /// # Errors
    /// [`IdentityError`] if the path does not exist, if a `.git` file or a `commondir` on the path is broken, or if something
    /// can't be read. A broken file is never skipped in favour of a repository further up. A `.git` folder that is not a
    /// repository is skipped, as in git.
    pub fn at(path: &Path) -> Result<Self, IdentityError> {
        Self::below(path, &Ceilings::default())
    }

    /// Like [`at`](Self::at), but the search ends below a ceiling.
    ///
    /// # Errors
    /// The errors of [`at`](Self::at).
    pub fn below(path: &Path, ceilings: &Ceilings) -> Result<Self, IdentityError> {
        let start = fs::canonicalize(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => IdentityError::NotFound {
                path: path.to_owned(),
            },
            _ => IdentityError::io(path, source),
        })?;
        let folder = if start.is_dir() {
            start.as_path()
        } else {
            start.parent().unwrap_or(&start)
        };
        let ceiling = ceilings.above(folder);
        for folder in folder.ancestors().take_while(|folder| ceiling != Some(*folder)) {
            match DotGit::of(folder)? {
                DotGit::Folder(git_dir) | DotGit::File(git_dir) => {
                    return Self::of_git_dir(&git_dir, Some(folder));
                }
                DotGit::None if is_git_dir(folder)? => return Self::of_git_dir(folder, None),
                DotGit::None => {}
            }
        }
        let (file_id, born) = file_id(folder)?;
        Ok(Self {
            kind: IdentityKind::Folder,
            common_dir: folder.to_owned(),
            worktree: None,
            folder_name: folder.file_name().unwrap_or_default().to_owned(),
            file_id,
            born,
            origin: None,
        })
    }

    /// The facts by which this repository is distinguished from another one at the same path, and recognised at another
    /// path.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            path: self.common_dir.clone(),
            file_id: self.file_id,
            born: self.born,
            origin: self.origin.clone(),
        }
    }

    /// A name for the repository, derived from its folder's name.
    ///
    /// A folder name that is a valid [`RepoName`] and not [reserved](RepoName::is_reserved) is used unchanged. Any other name is changed in these steps:
    ///
    /// - it is converted to normalisation form C;
    /// - each character that is not allowed in names becomes `-`;
    /// - leading dots, and spaces at both ends, are removed;
    /// - in a name that is reserved on Windows, the first dot becomes `-`;
    /// - a name that is now empty becomes `repository`;
    /// - the name is truncated, and `-` and 8 hexadecimal digits of a hash of the folder name's bytes are appended, so that
    ///   two folder names don't get the same name.
    ///
    /// The root of the file system has no name, so its suggested name is `repository`.
    #[must_use]
    pub fn suggested_name(&self) -> RepoName {
        suggested::from_folder_name(&self.folder_name)
    }

    /// A name for the repository if another repository owns its suggested name: the suggested name, truncated if necessary,
    /// then `-` and 8 hexadecimal digits of a hash of the common directory's path.
    #[must_use]
    pub fn distinct_name(&self) -> RepoName {
        suggested::with_hash(self.suggested_name().as_str(), self.common_dir.as_os_str())
    }

    /// A name to propose if the user has to choose one: the suggested name, truncated if necessary, then `-` and 8
    /// hexadecimal digits of a hash of path, device, inode and creation time. Two repositories that were at the same path one
    /// after the other get different names.
    #[must_use]
    pub fn proposed_name(&self) -> RepoName {
        let mut hashed = self.common_dir.clone().into_os_string();
        hashed.push(format!(
            " {:?} {:?}",
            self.file_id,
            self.born.map(Timestamp::as_nanos)
        ));
        suggested::with_hash(self.suggested_name().as_str(), &hashed)
    }

    /// The identity of the repository with this git directory. `checkout` is the folder whose `.git` led to it.
    fn of_git_dir(git_dir: &Path, checkout: Option<&Path>) -> Result<Self, IdentityError> {
        let common = common_dir(git_dir)?;
        let config = CoreConfig::of(&common)?;
        let linked = git_dir != common;
        let kind = if is_submodule(&common)? {
            IdentityKind::Submodule
        } else if config
            .bare
            .unwrap_or_else(|| common.file_name() != Some(OsStr::new(".git")))
        {
            IdentityKind::BareRepository
        } else {
            IdentityKind::Repository
        };
        // If a `.git` file leads to a bare repository, the folder with this file is not a worktree of it.
        let in_worktree = linked || kind != IdentityKind::BareRepository;
        let (file_id, born) = file_id(&common)?;
        Ok(Self {
            kind,
            worktree: checkout.filter(|_| in_worktree).map(Path::to_owned),
            folder_name: naming_folder(kind, &common, &config),
            file_id,
            born,
            origin: origin(&common)?,
            common_dir: common,
        })
    }
}

/// True if a git directory is in the `modules` folder of another one, at any depth, since a submodule's name may have
/// slashes.
fn is_submodule(common: &Path) -> Result<bool, IdentityError> {
    for folder in common.ancestors().skip(1) {
        if folder.file_name() == Some(OsStr::new("modules"))
            && let Some(superproject) = folder.parent()
            && is_git_dir(superproject)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The name of the folder that names the repository. It depends only on the common directory, so it is the same from every
/// worktree.
fn naming_folder(kind: IdentityKind, common: &Path, config: &CoreConfig) -> OsString {
    if kind == IdentityKind::Submodule
        && let Some(worktree) = &config.worktree
    {
        // Git stores this path relative to the git directory. It always ends with the name of the submodule's folder.
        let worktree = common.join(worktree);
        let worktree = canonical(&worktree).unwrap_or(worktree);
        if let Some(name) = worktree.file_name() {
            return name.to_owned();
        }
    }
    let name = common.file_name().unwrap_or_default();
    let bytes = name.as_encoded_bytes();
    if bytes.starts_with(b".") {
        let parent = common.parent().and_then(Path::file_name);
        return parent.unwrap_or_default().to_owned();
    }
    match Path::new(name).extension() {
        Some(extension) if extension == "git" => Path::new(name).file_stem().unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    }
}

/// Device and inode of a folder, and its creation time.
type FileId = (Option<(u64, u64)>, Option<Timestamp>);

fn file_id(folder: &Path) -> Result<FileId, IdentityError> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(folder).map_err(|error| IdentityError::io(folder, error))?;
    Ok((Some((meta.dev(), meta.ino())), born(folder, &meta)))
}

/// The creation time of a folder, read with `statx`, which is available with every C library.
#[cfg(target_os = "linux")]
fn born(folder: &Path, _: &fs::Metadata) -> Option<Timestamp> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, folder, AtFlags::empty(), StatxFlags::BTIME).ok()?;
    if found.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return None;
    }
    let secs = found.stx_btime.tv_sec.checked_mul(1_000_000_000)?;
    stamp(secs.checked_add(i64::from(found.stx_btime.tv_nsec))?)
}

#[cfg(not(target_os = "linux"))]
fn born(_: &Path, meta: &fs::Metadata) -> Option<Timestamp> {
    let since = meta.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    stamp(i64::try_from(since.as_nanos()).ok()?)
}

/// Converts a creation time. Some file systems that store none return 0, which becomes `None`.
fn stamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanos(nanos))
}

/// The reason why the repository of a path can't be determined.
///
/// ```
/// use prodigy_storage_layout::{Identity, IdentityError};
///
/// match Identity::at("/no/such/folder".as_ref()) {
///     Err(error @ IdentityError::NotFound { .. }) => eprintln!("{error}: {}", error.hint()),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The path does not exist.
    #[error("no repository to identify: {path:?} does not exist")]
    NotFound {
        /// The path that the caller gave.
        path: PathBuf,
    },
    /// A `.git` file with invalid contents.
    #[error("broken git file {file:?}: {problem}")]
    BrokenGitFile {
        /// The `.git` file.
        file: PathBuf,
        /// The problem.
        problem: &'static str,
    },
    /// A `.git` file whose target is not a git directory.
    #[error("git file {file:?} names {target:?}, which is no git directory")]
    NoGitDir {
        /// The `.git` file.
        file: PathBuf,
        /// The target.
        target: PathBuf,
    },
    /// A `commondir` file that does not name an existing folder.
    #[error("broken worktree: {file:?} names no folder")]
    BrokenCommonDir {
        /// The `commondir` file.
        file: PathBuf,
    },
    /// A file or folder could not be read.
    #[error("failed to read {path:?} while looking for the repository: {source}")]
    Io {
        /// The path of the file or folder that can't be read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The message and the hint: a `main` that returns the error prints it so.
impl fmt::Debug for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}\n  hint: {}", self.hint())
    }
}

impl IdentityError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// A hint for the user.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "give a folder that exists",
            Self::BrokenGitFile { .. } | Self::NoGitDir { .. } | Self::BrokenCommonDir { .. } => {
                "run `git worktree repair` in the main worktree (`git submodule update --init` for a submodule), \
                 or remove the broken file"
            }
            Self::Io { .. } => "check who may read it",
        }
    }
}
