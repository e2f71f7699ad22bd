//! Recognises git directories by the same rules as git. Only reads files.
#![expect(
    clippy::disallowed_methods,
    reason = "the identity of a repository is read from its folder"
)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::git_config::settings;
use crate::identity::IdentityError;
use crate::origin::without_credentials;

/// The largest number of bytes that are read of a `.git` or `commondir` file: more than the longest path has.
const MAX_POINTER_BYTES: u64 = 64 * 1024;
/// The largest number of bytes that are read of a `config` file: more than any hand-written one has.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The `.git` of a folder.
pub(crate) enum DotGit {
    /// It does not exist, or is no repository for git.
    None,
    /// A git directory, or a link to one. The path is canonical.
    Folder(PathBuf),
    /// A file that names a git directory. The path is the canonical one of this directory.
    File(PathBuf),
}

impl DotGit {
    /// Examines `.git` in a folder, whose path is canonical.
    pub(crate) fn of(folder: &Path) -> Result<Self, IdentityError> {
        let dot_git = folder.join(".git");
        let broken = |problem| IdentityError::BrokenGitFile {
            file: dot_git.clone(),
            problem,
        };
        let meta = match fs::metadata(&dot_git) {
            Ok(meta) => meta,
            Err(error) if is_absent(&error) && fs::symlink_metadata(&dot_git).is_ok() => {
                return Err(broken("it is a link that leads to nothing"));
            }
            Err(error) if is_absent(&error) => return Ok(Self::None),
            Err(error) => return Err(IdentityError::io(&dot_git, error)),
        };
        if meta.is_dir() {
            // Git skips a `.git` folder that is not a repository, and searches further up.
            return if is_git_dir(&dot_git)? {
                Ok(Self::Folder(canonical(&dot_git)?))
            } else {
                Ok(Self::None)
            };
        }
        if !meta.is_file() {
            return Err(broken("it is neither a folder nor a regular file"));
        }
        let content = read(&dot_git, MAX_POINTER_BYTES)?.unwrap_or_default();
        let target = content
            .strip_prefix(b"gitdir: ")
            .ok_or_else(|| broken("it does not start with `gitdir: `"))?;
        let target = path_of_line(target).ok_or_else(|| broken("it names no path"))?;
        let target = folder.join(target);
        let missing = || IdentityError::NoGitDir {
            file: dot_git.clone(),
            target: target.clone(),
        };
        let git_dir = match fs::canonicalize(&target) {
            Ok(git_dir) => git_dir,
            Err(error) if is_absent(&error) => return Err(missing()),
            Err(error) => return Err(IdentityError::io(&target, error)),
        };
        if is_git_dir(&git_dir)? {
            Ok(Self::File(git_dir))
        } else {
            Err(missing())
        }
    }
}

/// True if a folder is a git directory: it has a valid `HEAD`, and it, or the directory that its `commondir` names, has
/// `objects` and `refs`. A folder that can't be searched is an error.
pub(crate) fn is_git_dir(folder: &Path) -> Result<bool, IdentityError> {
    let head = folder.join("HEAD");
    let meta = match fs::symlink_metadata(&head) {
        Ok(meta) => meta,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(IdentityError::io(&head, error)),
    };
    let common = common_dir(folder)?;
    if !(is_folder(&common.join("objects"))? && is_folder(&common.join("refs"))?) {
        return Ok(false);
    }
    if meta.is_symlink() {
        return Ok(fs::read_link(&head).is_ok_and(|target| target.starts_with("refs")));
    }
    let Some(content) = read(&head, MAX_POINTER_BYTES)? else {
        return Ok(false);
    };
    let line = content.trim_ascii();
    Ok(match line.strip_prefix(b"ref:") {
        Some(name) => name.trim_ascii_start().starts_with(b"refs/"),
        None => matches!(line.len(), 40 | 64) && line.iter().all(u8::is_ascii_hexdigit),
    })
}

/// The canonical path of the directory that all worktrees of a repository share: the one that `commondir` names or,
/// without `commondir`, the git directory itself.
pub(crate) fn common_dir(git_dir: &Path) -> Result<PathBuf, IdentityError> {
    let file = git_dir.join("commondir");
    let Some(content) = read(&file, MAX_POINTER_BYTES)? else {
        return canonical(git_dir);
    };
    let broken = || IdentityError::BrokenCommonDir { file: file.clone() };
    let target = git_dir.join(path_of_line(&content).ok_or_else(broken)?);
    match fs::canonicalize(&target) {
        Ok(common) => Ok(common),
        Err(error) if is_absent(&error) => Err(broken()),
        Err(error) => Err(IdentityError::io(&target, error)),
    }
}

/// The settings of a repository that its identity needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CoreConfig {
    /// `core.bare`, if it is set.
    pub(crate) bare: Option<bool>,
    /// `core.worktree`, if it is set.
    pub(crate) worktree: Option<PathBuf>,
}

impl CoreConfig {
    /// Reads `config` in the common directory, and then `config.worktree`, to which git moves `core.worktree` and
    /// `core.bare` if a repository has settings per worktree.
    pub(crate) fn of(common_dir: &Path) -> Result<Self, IdentityError> {
        let mut config = Self::default();
        for name in ["config", "config.worktree"] {
            if let Some(content) = read(&common_dir.join(name), MAX_CONFIG_BYTES)? {
                config.read(&content);
            }
        }
        Ok(config)
    }

    fn read(&mut self, content: &[u8]) {
        for setting in settings(content) {
            if setting.is("core", None, "bare") {
                // In git, a key without a value means true.
                let value = setting.value.as_deref().unwrap_or(b"true");
                self.bare = Some(
                    [&b"true"[..], b"yes", b"on", b"1"]
                        .iter()
                        .any(|yes| value.eq_ignore_ascii_case(yes)),
                );
            } else if setting.is("core", None, "worktree") {
                self.worktree = setting.value.and_then(path_of_bytes);
            }
        }
    }
}

/// The address of the remote `origin` in the `config` of a common directory, without credentials. If it has several
/// addresses, the first one counts, since git fetches from it. An empty address cancels the addresses before it.
pub(crate) fn origin(common_dir: &Path) -> Result<Option<String>, IdentityError> {
    let content = read(&common_dir.join("config"), MAX_CONFIG_BYTES)?.unwrap_or_default();
    let mut first: Option<Vec<u8>> = None;
    for setting in settings(&content) {
        if !setting.is("remote", Some("origin"), "url") {
            continue;
        }
        match setting.value {
            Some(value) if value.is_empty() => first = None,
            Some(value) => drop(first.get_or_insert(value)),
            None => {}
        }
    }
    Ok(first.and_then(|address| without_credentials(&address)))
}

/// Reads at most `most` bytes of a file; `None` if the file is absent. Only regular files are opened, since reading from a
/// pipe could block forever.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, IdentityError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(IdentityError::io(path, error)),
    }
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut content));
    read.map_err(|error| IdentityError::io(path, error))?;
    Ok(Some(content))
}

pub(crate) fn canonical(path: &Path) -> Result<PathBuf, IdentityError> {
    fs::canonicalize(path).map_err(|error| IdentityError::io(path, error))
}

fn is_folder(path: &Path) -> Result<bool, IdentityError> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.is_dir()),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(IdentityError::io(path, error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The path in a `.git` or `commondir` file: the content without the line ends at its end.
fn path_of_line(content: &[u8]) -> Option<PathBuf> {
    let end = content
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r'))
        .map_or(0, |last| last + 1);
    path_of_bytes(content.get(..end)?.to_vec())
}

/// Converts bytes to a path. `None` if they are empty or contain a zero byte.
fn path_of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    if bytes.is_empty() || bytes.contains(&0) {
        return None;
    }
    Some(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> CoreConfig {
        let mut config = CoreConfig::default();
        config.read(text.as_bytes());
        config
    }

    #[test]
    fn a_configuration_file() {
        let read = config("[core]\n\tbare = false\n\tworktree = ../../../libs/a b\n[user]\n\tname = x\n");
        assert_eq!(read.bare, Some(false));
        assert_eq!(read.worktree, Some(PathBuf::from("../../../libs/a b")));
    }

    #[test]
    fn quotes_comments_case_and_a_value_on_the_line_of_its_section() {
        let read = config("# bare = true\n[CORE] Bare\n worktree = \"/a #1/\\\"b\\\"  \" ; why\n");
        assert_eq!(read.bare, Some(true));
        assert_eq!(read.worktree, Some(PathBuf::from("/a #1/\"b\"  ")));
        assert_eq!(
            config("[core \"x\"]\nbare = true\n[corex]\nworktree = y\n"),
            CoreConfig::default()
        );
        assert_eq!(config("[core]\nbare = on\nbare = off\n").bare, Some(false));
        assert_eq!(config("").bare, None);
    }

    #[test]
    fn a_pointer_file_ends_at_its_line_end() {
        assert_eq!(path_of_line(b"/a b \r\n\n"), Some(PathBuf::from("/a b ")));
        assert_eq!(path_of_line(b"\n"), None);
        assert_eq!(path_of_line(b"a\0b"), None);
    }
}
