//! Which repository a folder belongs to.
#![expect(
    clippy::disallowed_methods,
    reason = "the identity of a repository is read from its folder"
)]

use std::ffi::{OsStr, OsString};
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
    /// No repository: the folder is its own identity.
    Folder,
}

/// The identity of the repository that a folder belongs to.
///
/// Two folders belong to one repository exactly when their [`common_dir`](Self::common_dir) is the same: every
/// worktree of a repository, in any folder, has the common git directory that the main one has.
///
/// Git itself is never run, and no environment variable is read here: the caller hands in the folders that end the
/// search ([`Ceilings`]). A folder outside of every repository is its own identity.
///
/// A submodule checked out in a linked worktree of its superproject has a git directory of its own, apart from
/// the one that the main worktree's submodule has; git makes them two repositories, and so does this.
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
    /// The name of the folder that names the repository, from wherever in it the identity was asked for:
    ///
    /// - the folder that contains `.git` or another hidden git directory;
    /// - a submodule's folder in its superproject;
    /// - else the git directory's own name, `.git` at its end taken off.
    ///
    /// Empty for the root of the file system.
    pub folder_name: OsString,
    /// Device and inode of `common_dir`, where the platform has them: they stay when a repository is moved
    /// within one file system.
    pub file_id: Option<(u64, u64)>,
    /// When `common_dir` was created, where the file system keeps it.
    pub born: Option<Timestamp>,
    /// The address of the remote `origin` in the repository's `config`, without credentials. Files that the
    /// configuration includes are not read, and `insteadOf` is not applied.
    pub origin: Option<String>,
}

/// Folders that end the search for a repository, as `GIT_CEILING_DIRECTORIES` names them.
///
/// A ceiling and the folders above it are not searched from a folder below it. The folder where the search begins is
/// always searched.
///
/// ```no_run
/// use prodigy_storage_layout::{Ceilings, Identity};
///
/// // As with GIT_CEILING_DIRECTORIES=/home: a repository in `/home` itself does not count.
/// let ceilings = Ceilings::parse("/home".as_ref());
/// let identity = Identity::below("/home/me/notes".as_ref(), &ceilings)?;
/// # let _ = identity;
/// # Ok::<(), prodigy_storage_layout::IdentityError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings(Vec<PathBuf>);

impl Ceilings {
    /// Reads the value of `GIT_CEILING_DIRECTORIES`: absolute paths in the form of `PATH`. As in git, links in them
    /// are resolved up to an empty entry, and not behind it; anything but an absolute path is ignored.
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

    /// The lowest ceiling above a folder.
    fn above(&self, folder: &Path) -> Option<&Path> {
        let above = |ceiling: &&PathBuf| folder != ceiling.as_path() && folder.starts_with(ceiling);
        let ceilings = self.0.iter().filter(above);
        ceilings
            .max_by_key(|ceiling| ceiling.components().count())
            .map(PathBuf::as_path)
    }
}

impl Identity {
    /// The identity of the repository that contains a path: a folder, or a file in one. The nearest repository
    /// counts, looked for up to the root of the file system.
    ///
    /// # Errors
    /// [`IdentityError`] where the path does not exist, a `.git` file or a `commondir` on the way is broken, or
    /// something can't be read. A broken one is never skipped in favour of a repository further up; a `.git` folder
    /// that holds no repository is, as by git.
    pub fn at(path: &Path) -> Result<Self, IdentityError> {
        Self::below(path, &Ceilings::default())
    }

    /// As [`at`](Self::at), but the search ends below a ceiling.
    ///
    /// # Errors
    /// As [`at`](Self::at).
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

    /// Evidence that distinguishes this repository from another one at the same path, and finds it at another path.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            path: self.common_dir.clone(),
            file_id: self.file_id,
            born: self.born,
            origin: self.origin.clone(),
        }
    }

    /// A name for the repository, from its folder's name.
    ///
    /// A folder name that is a valid [`RepoName`] is taken as it is. Any other is mapped: to normalisation form
    /// C; each character that no name holds becomes `-`; leading dots and outer spaces go; the first dot of a
    /// name reserved on Windows becomes `-`; it is cut to fit; what has nothing left is `repository`. Where
    /// that changed anything, `-` and 8 hex digits of a hash of the folder name's bytes follow, so that two
    /// folder names don't get one name. A folder without a name (the root) is `repository`.
    #[must_use]
    pub fn suggested_name(&self) -> RepoName {
        suggested::from_folder_name(&self.folder_name)
    }

    /// A name for the repository if another one owns its suggested name: the suggested name, cut to fit,
    /// then `-` and 8 hex digits of a hash of the common directory's path.
    #[must_use]
    pub fn distinct_name(&self) -> RepoName {
        suggested::with_hash(self.suggested_name().as_str(), self.common_dir.as_os_str())
    }

    /// A name for the repository where a person has to choose one: the suggested name, cut to fit, then `-` and 8 hex
    /// digits of a hash of path, device, inode and birth time. Two repositories at one path get two of them.
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

    /// `checkout`: the folder whose `.git` led here.
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
        // Where a `.git` file beside a bare repository leads to it, its folder is no worktree.
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

/// True if a git directory is in `modules` of another one, at any depth: a submodule's name may hold slashes.
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

/// Depends on the common directory alone, so that every worktree gives the same name.
fn naming_folder(kind: IdentityKind, common: &Path, config: &CoreConfig) -> OsString {
    if kind == IdentityKind::Submodule
        && let Some(worktree) = &config.worktree
    {
        // Git writes it relative to the git directory, and it always ends with the folder's name.
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

/// Device and inode, and the birth time.
type FileId = (Option<(u64, u64)>, Option<Timestamp>);

fn file_id(folder: &Path) -> Result<FileId, IdentityError> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(folder).map_err(|error| IdentityError::io(folder, error))?;
    Ok((Some((meta.dev(), meta.ino())), born(folder, &meta)))
}

/// By `statx`, whatever C library the program is linked with.
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

/// File systems that keep no birth time may give 0.
fn stamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanos(nanos))
}

/// The reason why the repository of a path cannot be determined.
///
/// ```
/// use prodigy_storage_layout::{Identity, IdentityError};
///
/// match Identity::at("/no/such/folder".as_ref()) {
///     Err(error @ IdentityError::NotFound { .. }) => eprintln!("{error}: {}", error.hint()),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is nothing at the path.
    #[error("no repository to identify: {path:?} does not exist")]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A `.git` file that says nothing of use.
    #[error("broken git file {file:?}: {problem}")]
    BrokenGitFile {
        /// The `.git` file.
        file: PathBuf,
        /// The problem.
        problem: &'static str,
    },
    /// A `.git` file that names something that is no git directory.
    #[error("git file {file:?} names {target:?}, which is no git directory")]
    NoGitDir {
        /// The `.git` file.
        file: PathBuf,
        /// The missing target.
        target: PathBuf,
    },
    /// A `commondir` file that names no folder.
    #[error("broken worktree: {file:?} names no folder")]
    BrokenCommonDir {
        /// The `commondir` file.
        file: PathBuf,
    },
    /// Something on the way could not be read.
    #[error("failed to read {path:?} while looking for the repository: {source}")]
    Io {
        /// The file or folder that could not be read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
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
