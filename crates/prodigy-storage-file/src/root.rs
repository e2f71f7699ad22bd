//! The root of a store: what it may be, and the format that it is written in.
#![expect(clippy::disallowed_methods, reason = "checks of the root from outside of it")]

mod exposure;
mod health;
mod network;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;
use serde::{Deserialize, Serialize};

use crate::fs::{FileKind, FsFile, FsFolder, OpenMode};
use crate::lockfile::has_no_locks;
use crate::store::{Replace, Store};
use exposure::Exposed;

pub(crate) use health::health;

/// The format that this version writes. It reads format 1 as well, and its first write takes such a store over.
pub(crate) const FORMAT: u64 = 2;

const OPEN: &str = "open storage";

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u64,
    #[serde(default)]
    written_by: String,
    /// Names the store: a copy keeps the name, a new store gets another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
}

/// The content of `format.json`.
pub(crate) struct Format {
    file: Box<dyn FsFile>,
    number: u64,
    store: Option<String>,
}

fn refused(store: &Store, why: String, hint: &'static str) -> StorageError {
    StorageError::new(ErrorKind::Refused, OPEN, store.options.root.display(), why).with_hint(hint)
}

/// Refuses a root that is not safe, or that a newer version wrote. Makes nothing; an absent root passes.
pub(crate) fn check(store: &Store) -> Result<()> {
    if !check_place(store)? {
        return Ok(());
    }
    enter(store)?;
    check_format(store)
}

/// Refuses to write as another user than the owner of the root: the owner could not enter what this user creates. For a
/// root that does not exist yet, the superuser counts as a stranger in the folder of another user.
pub(crate) fn check_owner(store: &Store) -> Result<()> {
    let Some(me) = store.fs.user().filter(|_| !store.options.allow_foreign_owner) else {
        return Ok(());
    };
    let (folder, owner, mode) = match store.fs.metadata(Path::new("")) {
        Ok(found) => (store.options.root.clone(), found.uid, found.mode),
        Err(error) if error.kind() == io::ErrorKind::NotFound && me == 0 => match seen_from_above(store) {
            Some((above, _, owner, mode)) => (above, owner, mode),
            None => return Ok(()),
        },
        // Whatever is wrong with the root is found by the checks of the root.
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
        StorageError::new(ErrorKind::Refused, "write", store.options.root.display(), why).with_hint(format!(
            "run it as user {owner}, or accept another user with `backend_config.allow_foreign_owner: true`"
        )),
    )
}

/// The owner of the root, if this process may write there as another user who can't give files away.
pub(crate) fn foreign_owner(store: &Store) -> Option<u32> {
    let options = &store.options;
    if !options.allow_foreign_owner || options.read_only {
        return None;
    }
    let me = store.fs.user().filter(|me| *me != 0)?;
    let owner = store.fs.metadata(Path::new("")).ok()?.uid;
    (owner != me).then_some(owner)
}

/// Refuses a root that is not safe, whatever is in it; false for an absent one. Only reads.
pub(crate) fn check_place(store: &Store) -> Result<bool> {
    let root = Path::new("");
    check_network(store)?;
    check_way(store)?;
    match store.fs.metadata(root) {
        Ok(found) if found.kind != FileKind::Folder => {
            return Err(refused(
                store,
                "it is not a folder".into(),
                "set another `base_dir`",
            ));
        }
        Ok(found) if found.mode & 0o002 != 0 && !store.options.allow_shared_root => {
            let why = format!(
                "any user may write to it (mode {:04o}, owner {})",
                found.mode, found.uid
            );
            return Err(refused(
                store,
                why,
                "run `chmod o-w` on it, or accept the risk with `backend_config.allow_shared_root: true`",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refused(
                store,
                "it, or a part of its path, is not a folder".into(),
                "set another `base_dir`",
            ));
        }
        // A user who may not even enter it can't write there.
        Err(error) if !store.options.read_only => return Err(store.write_fault(OPEN, root, error)),
        Err(error) => return Err(store.read_fault(OPEN, root, error)),
    }
    Ok(true)
}

fn check_network(store: &Store) -> Result<()> {
    if store.options.allow_network_fs {
        return Ok(());
    }
    match file_system(store) {
        network::FileSystemKind::Network(name, at) => {
            let place = match at {
                None => "it is".to_owned(),
                Some(at) => format!("{} beneath it is", at.display()),
            };
            Err(refused(
                store,
                format!(
                    "{place} on a file system that other machines may reach ({name}), where locks and syncs can't be \
                     relied on"
                ),
                "use a local disk, or accept the risk with `backend_config.allow_network_fs: true`",
            ))
        }
        network::FileSystemKind::Unknown(why) => {
            let root = store.options.root.display();
            tracing::warn!(%root, why, "it is not known whether the root is on a network file system");
            Ok(())
        }
        network::FileSystemKind::Memory(_) | network::FileSystemKind::Local => Ok(()),
    }
}

/// The file system of the root, or of the nearest folder above it that exists.
fn file_system(store: &Store) -> network::FileSystemKind {
    network::find(&nearest(&store.options.root), &store.options.root)
}

fn check_way(store: &Store) -> Result<()> {
    if store.options.allow_shared_root {
        return Ok(());
    }
    match exposed(store) {
        Some(Exposed::Planted { folder, uid }) => Err(refused(
            store,
            format!(
                "user {uid} made {}, in a folder where any user may make one",
                folder.display()
            ),
            "set another `base_dir`, or accept the risk with `backend_config.allow_shared_root: true`",
        )),
        Some(Exposed::Loose { folder, mode }) => {
            tracing::warn!(
                root = %store.options.root.display(),
                folder = %folder.display(),
                mode = format_args!("{mode:04o}"),
                "any user may replace the root by another folder"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

fn exposed(store: &Store) -> Option<Exposed> {
    exposure::find(&store.options.root, rustix::process::geteuid().as_raw())
}

/// The roots in which this process is alone. Its handles, and the guards that outlive them, share the lock.
static ALONE: LazyLock<Mutex<Roots>> = LazyLock::new(Mutex::default);

/// Locked roots by device and inode.
type Roots = HashMap<(u64, u64), Weak<dyn FsFolder>>;

/// Shows other processes that this one works in the root. A process with file locks shares the lock on the root. One
/// without promised to be the only one: it holds the lock alone. A handle that only reads holds none.
pub(crate) fn enter(store: &Store) -> Result<()> {
    let mut held = store.root_lock.lock();
    if held.is_none() && !store.options.read_only {
        *held = lock_root(store)?;
    }
    Ok(())
}

/// The root, locked; `None` where there is nothing to lock yet.
fn lock_root(store: &Store) -> Result<Option<Arc<dyn FsFolder>>> {
    let (root, alone) = (Path::new(""), !store.options.file_locks);
    let folder: Arc<dyn FsFolder> = match store.fs.folder(root) {
        Ok(folder) => folder.into(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(store.read_fault(OPEN, root, error)),
    };
    if !alone {
        return match folder.try_lock_shared() {
            Ok(true) => Ok(Some(folder)),
            Ok(false) => Err(occupied(store, &*folder)),
            Err(error) if has_no_locks(&error) => Err(without_locks(store, root, error)),
            // The first lock that is needed says why it fails.
            Err(_) => Ok(None),
        };
    }
    let fault = |error| store.read_fault(OPEN, root, error);
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
        Ok(false) => Err(occupied(store, &*folder)),
        // Nobody can lock it.
        Err(error) if has_no_locks(&error) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// Another process is in the root, and one of the two promised to be alone.
fn occupied(store: &Store, folder: &dyn FsFolder) -> StorageError {
    let other = folder
        .lock_holder()
        .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let (why, hint) = if store.options.file_locks {
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
    StorageError::new(
        ErrorKind::LockUnavailable,
        OPEN,
        store.options.root.display(),
        why,
    )
    .with_hint(hint)
}

/// Refuses a file system that has no locks.
fn without_locks(store: &Store, path: &Path, error: io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Unsupported,
        OPEN,
        store.absolute(path).display(),
        "its file system can't lock files",
    )
    .with_hint(
        "use a local disk, or set `backend_config.enable_file_locks: false`, for a single process and without named \
         locks",
    )
    .with_source(error)
}

fn check_format(store: &Store) -> Result<()> {
    let path = Entry::Format.path();
    let Some(format) = read_format(store)? else {
        return Ok(());
    };
    // A folder may take a lock where a file does not. Nobody waits for this one.
    if store.options.file_locks
        && !store.options.read_only
        && let Err(error) = format.file.try_lock()
        && has_no_locks(&error)
    {
        return Err(without_locks(store, &path, error));
    }
    store.whereabouts.note_name(format.store);
    Ok(())
}

/// The name of the store in `format.json`, if it can be read and has one.
pub(crate) fn store_name(store: &Store) -> Option<String> {
    read_format(store).ok()??.store
}

/// Reads `format.json`, with the number in it: refuses what a newer version wrote, and one that is damaged. No file at all
/// is format 1.
pub(crate) fn read_format(store: &Store) -> Result<Option<Format>> {
    let path = Entry::Format.path();
    let file = match store.fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(store.read_fault("read format", &path, error)),
    };
    let bytes = file
        .read_to_end(0, 64 << 10)
        .map_err(|error| store.read_fault("read format", &path, error))?;
    let at = store.absolute(&path);
    let format: FormatFile = serde_json::from_slice(&bytes).map_err(|error| {
        StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "it is not a format file",
        )
        .with_hint(format!(
            "it should hold {{\"format\":{FORMAT}}}; `prodigy-storage doctor --repair` mends it where that is plain"
        ))
        .with_source(error)
    })?;
    if format.format > FORMAT {
        return Err(StorageError::new(
            ErrorKind::NewerFormat,
            "open storage",
            at.display(),
            format!(
                "the store has format {}, this version knows up to {FORMAT}",
                format.format
            ),
        )
        .with_hint("use the version that wrote it, or a newer one"));
    }
    if format.format == 0 {
        return Err(StorageError::new(
            ErrorKind::Damaged,
            "read format",
            at.display(),
            "there is no format 0",
        ));
    }
    Ok(Some(Format {
        file,
        number: format.format,
        store: format.store,
    }))
}

/// Writes `format.json` if it is missing or names an older format: this is how a store of an older format is taken over.
/// The file is replaced atomically and durably before anything else is written.
pub(crate) fn write_format(store: &Store) -> Result<()> {
    let path = Entry::Format.path();
    loop {
        let (replace, name) = match read_format(store)? {
            Some(format) if format.number == FORMAT => {
                store.whereabouts.note_name(format.store);
                return Ok(());
            }
            Some(format) => {
                let (root, older) = (store.options.root.display(), format.number);
                tracing::info!(%root, older, now = FORMAT, "the store is taken over");
                (Replace::Over, format.store)
            }
            None => (Replace::Never, None),
        };
        let text = format_text(&path, name)?;
        match store.write_atomic("write format", &path, &[&text], replace, Durability::Strict) {
            // Another process was quicker, perhaps one of an older version.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => other?,
        }
    }
}

/// The `format.json` of this version; the store gets a new name if it has none.
pub(crate) fn format_text(path: &Path, name: Option<String>) -> Result<Vec<u8>> {
    let name = name.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    let written_by = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
    let mut text = serde_json::to_vec(&FormatFile {
        format: FORMAT,
        written_by,
        store: Some(name),
    })
    .map_err(|error| {
        StorageError::new(
            ErrorKind::Io,
            "write format",
            path.display(),
            "it does not serialise",
        )
        .with_source(error)
    })?;
    text.push(b'\n');
    Ok(text)
}

/// The root, or the nearest folder above it that exists, without opening it: its path, whether it is a folder, its owner
/// and its mode.
pub(crate) fn seen_from_above(store: &Store) -> Option<(PathBuf, bool, u32, u32)> {
    store.options.root.ancestors().find_map(|path| {
        let found = std::fs::symlink_metadata(path).ok()?;
        let mode = found.mode() & 0o7777;
        Some((path.to_owned(), found.is_dir(), found.uid(), mode))
    })
}

/// The nearest folder above that exists.
fn nearest(root: &Path) -> PathBuf {
    root.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."))
        .to_owned()
}
