//! Turns an error of the operating system into a [`StorageError`] with a hint.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use prodigy_storage_backend::{ErrorKind, StorageError, shell_word};

use super::check::seen_from_above;
use super::health::size;
use super::{Root, usage};
use crate::fs::{FileKind, NotRegular};

/// The command if the limit of open files is too small.
pub(super) const RAISE_LIMIT: &str = "ulimit -n 1024";

/// The command for a full disk, or one without inodes.
pub(super) const CLEAN: &str = "prodigy-storage clean --finished-jobs 30d --quarantine 30d --yes";

/// The hint if the limit of open files is too small.
pub(super) const RAISE_FILES: &str = "raise it: `ulimit -n 1024` in the shell that starts the process, `LimitNOFILE=1024` in a unit of systemd; or look for \
     what keeps files open";

/// The hint for a full disk.
pub(super) const FREE_SPACE: &str = "`prodigy-storage usage --jobs --top 10` shows what takes the space, and `prodigy-storage clean --finished-jobs 30d \
     --quarantine 30d` what can go; with `--yes` it removes that, also on a full disk";

/// The number of files that this process may have open; `None` without a limit.
pub(super) fn file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The hint for an entry of the wrong kind for its path, such as a link at the path of a file.
const MISPLACED: &str = "find out who put it there; if it leads to data of the store, move the data back to this path; else move it \
     away";

/// The kind of access that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

pub(super) fn fault(
    root: &Root,
    operation: &'static str,
    path: &Path,
    error: io::Error,
    access: Access,
) -> StorageError {
    use io::ErrorKind as K;
    let at = root.absolute(path);
    let make = |kind: ErrorKind, why: String| StorageError::new(kind, operation, at.display(), why);
    let raw = error.raw_os_error();
    let made = match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge if access == Access::Write => {
            let why = match error.kind() {
                K::StorageFull if has_no_inode(root) => {
                    return make(
                        ErrorKind::DiskFull,
                        "no inode is free on the file system: each new file needs one".to_owned(),
                    )
                    .with_hint("nothing that was acknowledged is lost; remove small files that are not needed, then continue")
                    .with_source(error);
                }
                K::StorageFull => "no space is left on the disk",
                K::QuotaExceeded => "this user's quota is used up",
                _ => "the file would pass the limit of the process or the file system",
            };
            make(ErrorKind::DiskFull, format!("{why}{}", space(root))).with_hint(format!(
                "nothing that was acknowledged is lost; {FREE_SPACE}; or enable compression, or move the root; then try again"
            ))
        }
        K::ReadOnlyFilesystem if access == Access::Write => make(
            ErrorKind::NotWritable,
            "its file system is mounted for reading only".into(),
        )
        .with_hint("mount it for writing, or set another `base_dir`"),
        K::PermissionDenied => {
            let owner = Owner::of(root, path);
            let seen = owner.as_ref().map_or_else(String::new, ToString::to_string);
            let kind = match access {
                Access::Write => ErrorKind::NotWritable,
                Access::Read => ErrorKind::Io,
            };
            let made = make(kind, format!("the operating system refuses it{seen}"));
            // The error is EPERM. If the mode or the owner were the reason, it would be EACCES.
            match raw == Some(rustix::io::Errno::PERM.raw_os_error()) {
                true => made.with_hint(format!(
                    "it, or its folder, may be immutable or for appending only: `lsattr -d` shows an `i` or an `a`, which `{}` takes \
                     away; or a security module refuses it",
                    make_mutable(root, &at)
                )),
                false => made.with_hint(owner.map_or_else(
                    || "check owner and permissions of the folder, or set another `base_dir`".to_owned(),
                    |owner| owner.remedy(root),
                )),
            }
        }
        K::NotFound => make(ErrorKind::NotFound, "there is no such file or folder".into()),
        K::TimedOut | K::StaleNetworkFileHandle | K::Interrupted | K::WouldBlock => make(
            ErrorKind::Io,
            "the operating system reports a failure that may pass".into(),
        )
        .transient(),
        _ if raw == Some(rustix::io::Errno::LOOP.raw_os_error())
            || raw == Some(rustix::io::Errno::XDEV.raw_os_error()) =>
        {
            make(
                ErrorKind::Refused,
                "a symbolic link or a mount is in the path, and neither is followed".into(),
            )
            .with_hint(MISPLACED)
        }
        _ if is_no_file(&error) => make(
            ErrorKind::Refused,
            "there is a link or another thing instead of a file, and it is not opened".into(),
        )
        .with_hint(MISPLACED),
        K::NotADirectory => {
            make(ErrorKind::Refused, "a part of its path is not a folder".into()).with_hint(MISPLACED)
        }
        _ if raw == Some(rustix::io::Errno::MFILE.raw_os_error())
            || raw == Some(rustix::io::Errno::NFILE.raw_os_error()) =>
        {
            let limit = file_limit().filter(|_| raw == Some(rustix::io::Errno::MFILE.raw_os_error()));
            let limit = limit.map_or_else(String::new, |limit| {
                format!(": the limit of this process is {limit}")
            });
            make(ErrorKind::Io, format!("too many files are open{limit}"))
                .transient()
                .with_hint(RAISE_FILES)
        }
        _ if raw == Some(rustix::io::Errno::NOLCK.raw_os_error()) => {
            make(ErrorKind::Io, "the kernel has no lock left".into()).transient()
        }
        K::Unsupported => make(ErrorKind::Unsupported, "the file system does not offer it".into())
            .with_hint("if it can't lock files, set `enable_file_locks: false`, for one writer at a time"),
        _ if raw == Some(rustix::io::Errno::IO.raw_os_error()) => {
            make(ErrorKind::Io, "the disk reports an error".into()).with_hint(
                "`sudo dmesg` says which disk; save what can be read with `prodigy-storage backup FILE` to another disk, and restore it \
                 there",
            )
        }
        _ => make(ErrorKind::Io, "the operating system refuses it".into()),
    };
    made.with_source(error)
}

/// True if an open failed because the path leads to something other than a regular file.
fn is_no_file(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    error.get_ref().is_some_and(|inner| inner.is::<NotRegular>())
        || error.kind() == io::ErrorKind::IsADirectory
        || raw == Some(rustix::io::Errno::NXIO.raw_os_error())
}

/// The owner and the mode of the nearest file or folder on a path whose metadata can be read, and the user of this
/// process.
struct Owner {
    path: PathBuf,
    is_folder: bool,
    uid: u32,
    mode: u32,
    me: Option<u32>,
}

impl Owner {
    fn of(root: &Root, path: &Path) -> Option<Self> {
        let below = path.ancestors().find_map(|path| {
            let found = root.fs.metadata(path).ok()?;
            let folder = found.kind == FileKind::Folder;
            Some((root.absolute(path), folder, found.uid, found.mode))
        });
        // The root can't be opened because of its own mode, or the mode of a folder above it.
        let (path, is_folder, uid, mode) = below.or_else(|| seen_from_above(root))?;
        let me = root.fs.user();
        Some(Self {
            path,
            is_folder,
            uid,
            mode,
            me,
        })
    }

    /// The command that gives this process access, if owner and mode are the reason why it has none.
    fn command(&self, root: &Root) -> Option<String> {
        let path = quoted(&self.path);
        let me = self.me?;
        let (rights, needed) = match self.is_folder {
            true => ("rwx", 0o700),
            false => ("rw", 0o600),
        };
        if !self.path.starts_with(&root.options.root) {
            return None;
        }
        if me != self.uid {
            let to = root.fs.metadata(Path::new("")).map_or(me, |found| found.uid);
            return Some(match to {
                to if to == me || to == 0 => format!("{}chown -hR {me} {path}", sudo(root)),
                // The store is another user's.
                to => as_user(root, to),
            });
        }
        (self.mode & needed != needed).then(|| format!("chmod u+{rights} {path}"))
    }

    /// The advice that gives this process access: a command, or the user to run as. It names no command for what is not
    /// part of the store, or for a store of another user.
    fn remedy(&self, root: &Root) -> String {
        let path = quoted(&self.path);
        let rights = if self.is_folder { "rwx" } else { "rw" };
        let needed = if self.is_folder { 0o700 } else { 0o600 };
        let is_ours = root
            .fs
            .metadata(Path::new(""))
            .is_ok_and(|found| Some(found.uid) == self.me);
        match self.me {
            _ if !self.path.starts_with(&root.options.root) => {
                "check owner and permissions of the folder, or set another `base_dir`".to_owned()
            }
            Some(me) if me != self.uid && is_ours && self.path != root.options.root => {
                format!("let the superuser give it to this user, who owns the root: `chown -R {me} {path}`")
            }
            Some(me) if me != self.uid => {
                format!("run it as user {}, or set another `base_dir`", self.uid)
            }
            _ if self.mode & needed != needed => {
                format!("give the owner access again: `chmod u+{rights} {path}`")
            }
            _ => "owner and mode allow it: look at access lists (`getfacl`) and security modules, or set another `base_dir`"
                .to_owned(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_folder { "folder" } else { "file" };
        let (path, uid, mode) = (self.path.display(), self.uid, self.mode);
        write!(
            f,
            ": the {kind} {path} belongs to user {uid} and has mode {mode:04o}"
        )?;
        self.me.map_or(Ok(()), |me| write!(f, ", this is user {me}"))
    }
}

/// The error of the operating system behind an error of the store.
pub(crate) fn io_cause(error: &StorageError) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Quotes a path for use in a shell command, if necessary.
pub(super) fn quoted(path: &Path) -> String {
    shell_word(path).into_owned()
}

/// The beginning of a command that only the superuser may run.
pub(super) fn sudo(root: &Root) -> &'static str {
    match root.fs.user() {
        Some(0) => "",
        _ => "sudo ",
    }
}

/// The command that checks the store as another user.
pub(super) fn as_user(root: &Root, uid: u32) -> String {
    let user = match root.fs.user() {
        Some(0) => format!("setpriv --reuid={uid} --regid={uid} --clear-groups"),
        _ => format!("sudo -u '#{uid}'"),
    };
    format!(
        "{user} prodigy-storage --base-dir {} health",
        quoted(&root.options.root)
    )
}

/// The command that takes away the attributes of a file or folder that may not be changed.
pub(super) fn make_mutable(root: &Root, at: &Path) -> String {
    format!("{}chattr -i -a {}", sudo(root), quoted(at))
}

/// The command that keeps other users from renaming what is in a folder that they may write to.
pub(super) fn make_sticky(root: &Root, folder: &Path) -> String {
    format!("{}chmod +t {}", sudo(root), quoted(folder))
}

/// The command that solves an error of the operating system, if there is one.
pub(super) fn command(root: &Root, path: &Path, error: &io::Error) -> Option<String> {
    use io::ErrorKind as K;
    let raw = error.raw_os_error();
    match error.kind() {
        K::StorageFull | K::QuotaExceeded => Some(CLEAN.to_owned()),
        K::ReadOnlyFilesystem => Some(format!(
            "{}mount -o remount,rw \"$(findmnt -n -o TARGET --target {})\"",
            sudo(root),
            quoted(&root.options.root)
        )),
        K::PermissionDenied if raw == Some(rustix::io::Errno::PERM.raw_os_error()) => {
            Some(make_mutable(root, &root.absolute(path)))
        }
        K::PermissionDenied => Owner::of(root, path)?.command(root),
        _ if raw == Some(rustix::io::Errno::MFILE.raw_os_error()) => Some(RAISE_LIMIT.to_owned()),
        _ if raw == Some(rustix::io::Errno::LOOP.raw_os_error())
            || raw == Some(rustix::io::Errno::XDEV.raw_os_error())
            || error.kind() == K::NotADirectory
            || is_no_file(error) =>
        {
            Some("prodigy-storage doctor".to_owned())
        }
        _ => None,
    }
}

/// True if the file system has a fixed number of inodes and no inode is free.
fn has_no_inode(root: &Root) -> bool {
    root.fs.space().is_ok_and(|space| space.free_inodes == Some(0))
}

/// The free space, and the four areas of the store that use the most bytes, largest first.
fn space(root: &Root) -> String {
    let mut text = String::new();
    if let Ok(space) = root.fs.space() {
        text = format!(" ({} of {} are free)", size(space.free), size(space.capacity));
    }
    let mut areas = usage::by_area(root);
    areas.sort_by_key(|area| std::cmp::Reverse(area.1));
    let shown: Vec<String> = areas
        .iter()
        .filter(|area| area.1 > 0)
        .take(4)
        .map(|(area, bytes)| format!("{area} {}", size(*bytes)))
        .collect();
    if !shown.is_empty() {
        text.push_str("; used by area: ");
        text.push_str(&shown.join(", "));
    }
    text
}
