//! Checks that a root is safe to use, and that no other process uses it exclusively.
#![expect(clippy::disallowed_methods, reason = "checks of the root from outside of it")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;

use super::exposure::{self, Exposed};
use super::fault::quoted;
use super::holder::process;
use super::{Root, has_no_locks, network, read_format};
use crate::fs::{FileKind, FsFolder};

const OPEN: &str = "open storage";

fn refused(root: &Root, why: String, hint: impl Into<Cow<'static, str>>) -> StorageError {
    StorageError::new(ErrorKind::Refused, OPEN, root.options.root.display(), why).with_hint(hint)
}

/// Fails if a root is not safe, or if a newer version wrote it. Creates nothing. An absent root passes.
pub(crate) fn check(root: &Root) -> Result<()> {
    if !check_place(root)? {
        return Ok(());
    }
    enter(root)?;
    check_format(root)
}

/// Fails if this user does not own the root: the owner could not open the files that this user would create.
///
/// If the root does not exist yet, the superuser must own the nearest existing folder above it.
pub(crate) fn check_owner(root: &Root) -> Result<()> {
    let Some(me) = root.fs.user().filter(|_| !root.options.allow_foreign_owner) else {
        return Ok(());
    };
    let (folder, owner, mode) = match root.fs.metadata(Path::new("")) {
        Ok(found) => (root.options.root.clone(), found.uid, found.mode),
        Err(error) if error.kind() == io::ErrorKind::NotFound && me == 0 => match seen_from_above(root) {
            Some((above, _, owner, mode)) => (above, owner, mode),
            None => return Ok(()),
        },
        // `check_place` reports such an error.
        Err(_) => return Ok(()),
    };
    if owner == me {
        return Ok(());
    }
    let why = format!(
        "the folder {} belongs to user {owner} (mode {mode:04o}), and this process runs as user {me}: user {owner} could \
         not enter what it creates",
        folder.display()
    );
    Err(
        StorageError::new(ErrorKind::Refused, "write", root.options.root.display(), why).with_hint(format!(
            "run it as user {owner}, or accept another user with `backend_config.allow_foreign_owner: true`"
        )),
    )
}

/// The owner of the root, if this process writes there as another user and may not give its files to the owner.
pub(crate) fn foreign_owner(root: &Root) -> Option<u32> {
    let options = &root.options;
    if !options.allow_foreign_owner || options.read_only {
        return None;
    }
    let me = root.fs.user().filter(|me| *me != 0)?;
    let owner = root.fs.metadata(Path::new("")).ok()?.uid;
    (owner != me).then_some(owner)
}

/// Fails if the location, the kind or the mode of the root is not safe. Returns false if the root is absent. Does not
/// look at its contents.
pub(crate) fn check_place(root: &Root) -> Result<bool> {
    let top = Path::new("");
    check_network(root)?;
    check_way(root)?;
    match root.fs.metadata(top) {
        Ok(found) if found.kind != FileKind::Folder => {
            return Err(refused(
                root,
                "it is not a folder".into(),
                "set another `base_dir`",
            ));
        }
        Ok(found) if found.mode & 0o002 != 0 && !root.options.allow_shared_root => {
            let why = format!(
                "any user may write to it (mode {:04o}, owner {})",
                found.mode, found.uid
            );
            return Err(refused(
                root,
                why,
                format!(
                    "run `chmod o-w {}`, or accept the risk with `backend_config.allow_shared_root: true`",
                    quoted(&root.options.root)
                ),
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refused(
                root,
                "it, or a part of its path, is not a folder".into(),
                "set another `base_dir`",
            ));
        }
        // This user has no access to the root, so a write would fail.
        Err(error) if !root.options.read_only => return Err(root.write_fault(OPEN, top, error)),
        Err(error) => return Err(root.read_fault(OPEN, top, error)),
    }
    Ok(true)
}

fn check_network(root: &Root) -> Result<()> {
    if root.options.allow_network_fs {
        return Ok(());
    }
    match file_system(root) {
        network::FileSystemKind::Network(name, at) => {
            let place = match at {
                None => "it is".to_owned(),
                Some(at) => format!("{} beneath it is", at.display()),
            };
            Err(refused(
                root,
                format!(
                    "{place} on a file system that other machines may reach ({name}), where locks and syncs can't be \
                     relied on"
                ),
                "use a local disk, or accept the risk with `backend_config.allow_network_fs: true`",
            ))
        }
        network::FileSystemKind::Unknown(why) => {
            tracing::warn!(root = %root.options.root.display(), why, "it is not known whether the root is on a network file system");
            Ok(())
        }
        network::FileSystemKind::Memory(_) | network::FileSystemKind::Local => Ok(()),
    }
}

/// The kind of the file system of the root, or of the nearest existing folder above it.
pub(super) fn file_system(root: &Root) -> network::FileSystemKind {
    network::find(&nearest(&root.options.root), &root.options.root)
}

/// True if no other machine can write to the root.
pub(crate) fn is_of_this_machine(root: &Root) -> bool {
    // Without this option, a root on a network file system can't be opened.
    !root.options.allow_network_fs
        || matches!(
            file_system(root),
            network::FileSystemKind::Local | network::FileSystemKind::Memory(_)
        )
}

fn check_way(root: &Root) -> Result<()> {
    if root.options.allow_shared_root {
        return Ok(());
    }
    match exposed(root) {
        Some(Exposed::Planted { folder, uid }) => Err(refused(
            root,
            format!(
                "user {uid} made {}, in a folder where any user may make one",
                folder.display()
            ),
            "set another `base_dir`, or accept the risk with `backend_config.allow_shared_root: true`",
        )),
        Some(Exposed::Loose { folder, mode }) => {
            tracing::warn!(
                root = %root.options.root.display(),
                folder = %folder.display(),
                mode = format_args!("{mode:04o}"),
                "any user may replace the root by another folder"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

pub(super) fn exposed(root: &Root) -> Option<Exposed> {
    exposure::find(&root.options.root, rustix::process::geteuid().as_raw())
}

/// The exclusive locks of this process on roots. All handles on a root share its lock, as do lock guards that outlive
/// them.
static ALONE: LazyLock<Mutex<Roots>> = LazyLock::new(Mutex::default);

/// Locked roots, by device and inode.
type Roots = HashMap<(u64, u64), Weak<dyn FsFolder>>;

/// Locks the root, so that two processes can't use it with contradictory settings for file locks.
///
/// A process with file locks takes a shared lock on the root. A process without file locks promises to be the only one,
/// and takes an exclusive lock. A read-only handle takes no lock.
pub(crate) fn enter(root: &Root) -> Result<()> {
    let mut held = root.root_lock.lock();
    if held.is_none() && !root.options.read_only {
        *held = lock_root(root)?;
    }
    Ok(())
}

/// Locks the root. Returns `None` if the root does not exist yet, or if it can't be locked but may still be used.
pub(super) fn lock_root(root: &Root) -> Result<Option<Arc<dyn FsFolder>>> {
    let (top, alone) = (Path::new(""), !root.options.file_locks);
    let folder: Arc<dyn FsFolder> = match root.fs.folder(top) {
        Ok(folder) => folder.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(root.read_fault(OPEN, top, error)),
    };
    if !alone {
        return match folder.try_lock_shared() {
            Ok(true) => Ok(Some(folder)),
            Ok(false) => Err(occupied(root, &*folder)),
            Err(error) if has_no_locks(&error) => Err(without_locks(root, top, error)),
            // The reason is reported by the first operation that needs a lock.
            Err(_) => Ok(None),
        };
    }
    let fault = |error| root.read_fault(OPEN, top, error);
    let identity = folder.metadata().map_err(fault)?.identity;
    let mut roots = ALONE.lock();
    if let Some(held) = roots.get(&identity).and_then(Weak::upgrade) {
        return Ok(Some(held));
    }
    match folder.try_lock() {
        Ok(true) => {
            roots.retain(|_, folder| folder.strong_count() > 0);
            roots.insert(identity, Arc::downgrade(&folder));
            Ok(Some(folder))
        }
        Ok(false) => Err(occupied(root, &*folder)),
        // The file system has no locks, so no process can lock the root.
        Err(error) if has_no_locks(&error) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// The error if another process uses the root, and one of the two promised to be the only one.
fn occupied(root: &Root, folder: &dyn FsFolder) -> StorageError {
    let other = process(folder.lock_holder());
    let (why, hint) = if root.options.file_locks {
        (
            format!(
                "{other} works in this root with `enable_file_locks: false`, which promises that it is the only one"
            ),
            "wait until that process has ended, or set `backend_config.enable_file_locks: true` for it",
        )
    } else {
        (
            format!(
                "`enable_file_locks: false` promises that this process is the only one, and {other} works in this root"
            ),
            "set `backend_config.enable_file_locks: true`, or wait until the other process has ended",
        )
    };
    StorageError::new(ErrorKind::LockUnavailable, OPEN, root.options.root.display(), why).with_hint(hint)
}

/// The error for a file system without locks.
fn without_locks(root: &Root, path: &Path, error: io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Unsupported,
        OPEN,
        root.absolute(path).display(),
        "its file system can't lock files",
    )
    .with_hint(
        "use a local disk, or set `backend_config.enable_file_locks: false`, for a single process and without named \
         locks",
    )
    .with_source(error)
}

fn check_format(root: &Root) -> Result<()> {
    let path = Entry::Format.path();
    let Some(format) = read_format(root)? else {
        return Ok(());
    };
    // Some file systems can lock folders but not files, so a file is locked as a test. No process waits for this lock.
    if root.options.file_locks
        && !root.options.read_only
        && let Err(error) = format.file.try_lock()
        && has_no_locks(&error)
    {
        return Err(without_locks(root, &path, error));
    }
    root.note_name(format.store);
    Ok(())
}

/// The path, true if it is a folder, the owner and the mode of the root, or of the nearest existing file or folder
/// above it. Opens nothing.
pub(super) fn seen_from_above(root: &Root) -> Option<(PathBuf, bool, u32, u32)> {
    root.options.root.ancestors().find_map(|path| {
        let found = std::fs::symlink_metadata(path).ok()?;
        let mode = found.mode() & 0o7777;
        Some((path.to_owned(), found.is_dir(), found.uid(), mode))
    })
}

/// The root if it exists, otherwise the nearest existing folder above it.
fn nearest(root: &Path) -> PathBuf {
    root.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."))
        .to_owned()
}
