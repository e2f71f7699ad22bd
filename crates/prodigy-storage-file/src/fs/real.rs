//! The file system of the operating system, below one root.
#![expect(clippy::disallowed_methods, reason = "the real file system")]

mod beneath;
mod file;
mod folder;
mod own_lock;
mod rights;
#[cfg(target_os = "linux")]
mod watch;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use prodigy_storage_layout::Timestamp;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{
    DirEntry, FILE_MODE, FileKind, FileSystem, FsFile, FsFolder, Metadata, NotRegular, OpenMode, Place, Space,
};
#[cfg(target_os = "linux")]
use super::{FsWatch, Wake};
#[cfg(test)]
pub(super) use beneath::{chmod_unread, open_stepwise};
use beneath::{make_folder, open_beneath, open_folder};
use file::{RealFile, full_sync};
use folder::{RealFolder, each_entry, each_name};
use rights::{Owner, heir, may, takes_nothing, write_and_leave_nothing};

/// The file system of the operating system, below one root.
///
/// Paths are resolved beneath a descriptor of the root and no link is followed (with `openat2` if the kernel has it,
/// otherwise component by component).
///
/// The root itself is opened at the first use, so that an absent root can be read as an empty one. It then stays open. If
/// its path leads to another folder later, [`place`](FileSystem::place) reports this, and a new `RealFs` is needed for that
/// folder. A link at the path of the root is not followed either: the caller resolves it first.
#[derive(Debug)]
pub struct RealFs {
    root: PathBuf,
    /// The path of the root as the caller gave it, in which links are not resolved.
    given: PathBuf,
    opened: RwLock<Option<Root>>,
    /// True after a warning was logged that new files do not get the owner of the root.
    warned: AtomicBool,
    /// The watcher, once a watch was requested. It is kept, so that a series of waits does not start a thread for each.
    #[cfg(target_os = "linux")]
    watcher: parking_lot::Mutex<Option<Arc<watch::Watcher>>>,
}

/// The open root.
#[derive(Clone, Debug)]
struct Root {
    descriptor: Arc<OwnedFd>,
    /// Device and inode. No other folder gets the same inode while the descriptor is open.
    identity: (u64, u64),
    /// The owner and group that new files get, if the root belongs to another user than the one of this process.
    heir: Option<Owner>,
}

impl RealFs {
    /// Creates a file system below this folder, which need not exist.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self::reached_by(root.clone(), root)
    }

    /// Creates a file system below `root`. The path `given` leads to `root`, possibly through links.
    pub(crate) fn reached_by(given: PathBuf, root: PathBuf) -> Self {
        Self {
            root,
            given,
            opened: RwLock::new(None),
            warned: AtomicBool::new(false),
            #[cfg(target_os = "linux")]
            watcher: parking_lot::Mutex::new(None),
        }
    }

    fn root(&self) -> io::Result<Arc<OwnedFd>> {
        if let Some(root) = &*self.opened.read() {
            return Ok(Arc::clone(&root.descriptor));
        }
        let mut opened = self.opened.write();
        // Another thread may have opened the root meanwhile, and both must use the same folder.
        if let Some(root) = &*opened {
            return Ok(Arc::clone(&root.descriptor));
        }
        let descriptor = Arc::new(open_folder(CWD, &self.root)?);
        let found = rustix::fs::fstat(&*descriptor)?;
        *opened = Some(Root {
            descriptor: Arc::clone(&descriptor),
            identity: metadata_of(&found).identity,
            heir: heir(&found, rustix::process::geteuid()),
        });
        Ok(descriptor)
    }

    /// Gives a new file or folder to the owner of the root. If this user may not do that, a warning is logged once.
    fn bequeath(&self, made: impl FnOnce(Owner) -> rustix::io::Result<()>) {
        let Some(heir) = self.opened.read().as_ref().and_then(|root| root.heir) else {
            return;
        };
        if let Err(error) = made(heir)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let (root, owner) = (self.root.display(), heir.0.as_raw());
            tracing::warn!(%root, owner, %error, "files that are written here do not get the owner of the root");
        }
    }

    /// Opens a path beneath the root. The empty path is the root.
    fn open_beneath(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let root = self.root()?;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        open_beneath(
            root.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode as _),
        )
    }

    /// Opens the folder that contains `path`; returns it with the last component of the path.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() {
            return Ok((self.root()?, name));
        }
        let parent = self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        Ok((Arc::new(parent), name))
    }
}

/// The absolute path, with the links in its existing part resolved.
pub(crate) fn canonical(root: &Path) -> PathBuf {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    for folder in absolute.ancestors() {
        if let Ok(found) = folder.canonicalize() {
            return match absolute.strip_prefix(folder) {
                Ok(rest) if !rest.as_os_str().is_empty() => found.join(rest),
                _ => found,
            };
        }
    }
    absolute
}

impl FileSystem for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
        };
        // O_NONBLOCK: opening a planted FIFO must not block; the flag has no effect on a regular file. O_NOCTTY: a planted
        // terminal must not become the controlling terminal of this process.
        let create_mode = if flags.contains(OFlags::CREATE) {
            FILE_MODE
        } else {
            0
        };
        let file = RealFile::new(File::from(self.open_beneath(
            path,
            flags | OFlags::NONBLOCK | OFlags::NOCTTY,
            create_mode,
        )?));
        if mode == OpenMode::CreateNew {
            // The umask may have removed bits from the mode. It is not set again without need: another process may have
            // taken over the empty file meanwhile, written to it and sealed it by its mode.
            let found = file.metadata()?;
            if found.len == 0 && found.mode & FILE_MODE != FILE_MODE {
                file.set_mode(FILE_MODE)?;
            }
            self.bequeath(|(uid, gid)| rustix::fs::fchown(&file.file, Some(uid), Some(gid)));
        } else {
            let found = file.metadata()?;
            if found.kind != FileKind::File {
                return Err(NotRegular.into());
            }
            // A file with a hard link, which may be outside of the root, keeps its mode and owner.
            if mode == OpenMode::Create && found.links < 2 && found.mode & FILE_MODE != FILE_MODE {
                file.set_mode(FILE_MODE)?;
            }
            if mode == OpenMode::Create && found.links < 2 && Some(found.uid) == self.user() {
                self.bequeath(|(uid, gid)| rustix::fs::fchown(&file.file, Some(uid), Some(gid)));
            }
        }
        Ok(Box::new(file))
    }

    fn create_root(&self) -> io::Result<()> {
        if self.opened.read().is_some() {
            return Ok(());
        }
        let missing =
            |folder: &&Path| !folder.as_os_str().is_empty() && std::fs::symlink_metadata(folder).is_err();
        let mut folders: Vec<&Path> = self.root.ancestors().take_while(missing).collect();
        let above = folders.last().and_then(|folder| folder.parent());
        let me = rustix::process::geteuid();
        let heir = above
            .filter(|_| me.is_root())
            .and_then(|above| heir(&rustix::fs::stat(above).ok()?, me));
        while let Some(folder) = folders.pop() {
            match make_folder(CWD, folder) {
                Ok(()) => {
                    if let Some((uid, gid)) = heir {
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        rustix::fs::chownat(CWD, folder, Some(uid), Some(gid), flags)?;
                    }
                }
                // Another process has just created the folder.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && folder.parent().is_some_and(Path::is_dir) =>
                {
                    return Err(takes_nothing());
                }
                Err(error) => return Err(error),
            }
        }
        self.root().map(drop)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        make_folder(parent.as_fd(), Path::new(name))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.bequeath(|(uid, gid)| rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        full_sync(&File::from(self.open_beneath(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            0,
        )?))
    }

    fn sync_above_root(&self) -> io::Result<()> {
        let root = std::fs::canonicalize(&self.root)?;
        let device = std::fs::metadata(&root)?.dev();
        for (height, folder) in root.ancestors().skip(1).enumerate() {
            let opened = File::open(folder);
            match opened {
                Ok(folder) if folder.metadata()?.dev() == device => {
                    if let Err(error) = full_sync(&folder)
                        && height == 0
                    {
                        return Err(error);
                    }
                }
                // The file system of the root ends here: the root's own file system is mounted at this point.
                Ok(_) => break,
                // This user can't read the folder, so this process did not create it, and it needs no sync.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        Ok(rustix::fs::renameat(
            &from_folder,
            from_name,
            &to_folder,
            to_name,
        )?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        let renamed = rustix::fs::renameat_with(
            &from_folder,
            from_name,
            &to_folder,
            to_name,
            RenameFlags::NOREPLACE,
        );
        match renamed {
            // The file system does not support this flag. Creates a hard link under the new name instead, which can't
            // replace a file either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(&from_folder, from_name, &to_folder, to_name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(&from_folder, from_name, AtFlags::empty())?)
            }
            other => Ok(other?),
        }
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let folder = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut entries = Vec::new();
        each_name(&folder, &mut |name, kind| {
            let name = name.to_owned();
            entries.push(DirEntry { name, kind });
        })?;
        Ok(entries)
    }

    fn names_of_bytes(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let folder = self.open_beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut names = Vec::new();
        each_entry(&folder, &mut |name, _| {
            if name.to_str().is_err() {
                names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
            Ok(())
        })?;
        Ok(names)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Box::new(RealFolder::new(self.open_beneath(path, flags, 0)?)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        if path.as_os_str().is_empty() {
            return Ok(metadata_of(&rustix::fs::fstat(&*self.root()?)?));
        }
        // For a path below a folder, one call finds out that the file is absent. Opening and closing the folder would
        // take two more.
        #[cfg(target_os = "linux")]
        if path.parent().is_some_and(|parent| !parent.as_os_str().is_empty()) {
            let found = self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
            return Ok(metadata_of(&rustix::fs::fstat(&found)?));
        }
        let (parent, name) = self.parent(path)?;
        Ok(metadata_of(&rustix::fs::statat(
            &parent,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?))
    }

    fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    #[cfg(target_os = "linux")]
    fn born(&self, path: &Path) -> io::Result<Option<Timestamp>> {
        use rustix::fs::{StatxFlags, statx};
        let opened = self.open_beneath(path, OFlags::PATH, 0)?;
        let found = statx(&opened, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
        let nanos = found.stx_btime.tv_sec.saturating_mul(1_000_000_000);
        let nanos = nanos.saturating_add(i64::from(found.stx_btime.tv_nsec));
        let is_known = found.stx_mask & StatxFlags::BTIME.bits() != 0 && nanos > 0;
        Ok(is_known.then(|| Timestamp::from_nanos(nanos)))
    }

    fn space(&self) -> io::Result<Space> {
        let space = rustix::fs::fstatvfs(&*self.root()?)?;
        Ok(Space {
            free: space.f_bavail.saturating_mul(space.f_frsize),
            capacity: space.f_blocks.saturating_mul(space.f_frsize),
            free_inodes: (space.f_files > 0).then_some(space.f_favail),
        })
    }

    fn place(&self) -> io::Result<Place> {
        let Some(identity) = self.opened.read().as_ref().map(|root| root.identity) else {
            let same = self.given == self.root || canonical(&self.given) == self.root;
            return Ok(if same { Place::Here } else { Place::Redirected });
        };
        match retry_on_intr(|| rustix::fs::stat(&self.given)) {
            Ok(found) if metadata_of(&found).identity == identity => Ok(Place::Here),
            Ok(_) => Ok(Place::Elsewhere),
            // The path leads to nothing, or a link on it leads to itself.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Place::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn metadata_by_path(&self, path: &Path) -> io::Result<Metadata> {
        let path = self.given.join(path);
        let found = retry_on_intr(|| rustix::fs::lstat(&path))?;
        Ok(metadata_of(&found))
    }

    #[cfg(target_os = "linux")]
    fn watch(&self, folder: &Path, wake: Wake) -> io::Result<Option<Box<dyn FsWatch>>> {
        let opened = self.open_beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let watcher = {
            let mut watcher = self.watcher.lock();
            match &*watcher {
                Some(running) if running.is_running() => Arc::clone(running),
                _ => Arc::clone(watcher.insert(watch::Watcher::shared()?)),
            }
        };
        watch::Watcher::watch(watcher, &opened, wake)
    }

    fn user(&self) -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    fn probe_write(&self, folder: &Path) -> io::Result<()> {
        let opened = match self.open_beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.as_os_str().is_empty() => {
                let above = self.root.ancestors().find(|above| above.exists());
                let above = above.unwrap_or(Path::new("/"));
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                retry_on_intr(|| rustix::fs::openat(CWD, above, flags, Mode::empty()))?
            }
            opened => opened?,
        };
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        may(opened.as_fd(), Path::new("."), access)?;
        write_and_leave_nothing(&opened)
    }
}

fn kind_of(stat: &rustix::fs::Stat) -> FileKind {
    kind_of_type(FileType::from_raw_mode(stat.st_mode))
}

fn kind_of_type(found: FileType) -> FileKind {
    match found {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        _ => FileKind::Other,
    }
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the widths of these fields differ between platforms"
)]
fn metadata_of(stat: &rustix::fs::Stat) -> Metadata {
    let time = |seconds: i64, nanos: i64| {
        Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    };
    Metadata {
        kind: kind_of(stat),
        len: stat.st_size.max(0) as u64,
        mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode() as u32 & 0o7777,
        uid: stat.st_uid,
        identity: (stat.st_dev as u64, stat.st_ino as u64),
        links: stat.st_nlink as u64,
        modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}

/// The timestamps that set a file's mtime to `time`.
fn modified(time: Timestamp) -> rustix::fs::Timestamps {
    let nanos = time.as_nanos();
    let at = rustix::fs::Timespec {
        tv_sec: nanos.div_euclid(1_000_000_000) as _,
        tv_nsec: nanos.rem_euclid(1_000_000_000) as _,
    };
    rustix::fs::Timestamps {
        last_access: at,
        last_modification: at,
    }
}
