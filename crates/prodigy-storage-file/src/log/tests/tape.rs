//! The real file system, with a record of its calls. A test can make calls fail or wait.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use prodigy_storage_layout::Timestamp;

use crate::fs::{
    DirEntry, FileKind, FileSystem, FolderMark, FsFile, FsFolder, Metadata, OpenMode, RealFs, Space,
};

/// A function that runs before each call, and may make the call fail.
type Hook = Arc<dyn Fn(&str, &Path) -> io::Result<()> + Send + Sync>;

#[derive(Default)]
pub(super) struct Reel {
    pub(super) calls: Mutex<Vec<String>>,
    hook: Mutex<Option<Hook>>,
    /// The number of bytes that can still be written to segments, plus 1; 0 means no limit.
    pub(super) room: AtomicU64,
    /// The largest number of bytes that a single write accepts; 0 means no limit.
    pub(super) most: AtomicU64,
    /// True if syncs are only recorded, and not made.
    pub(super) quick: AtomicBool,
    pub(super) names: Mutex<Names>,
    /// The number of times that the names of a folder were read.
    pub(super) passes: AtomicU64,
}

/// Changes of the names in a folder, as its marks ([`FsFolder::mark`]) show them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Names {
    /// The marks of the real folder.
    #[default]
    Real,
    /// No name ever changes.
    Still,
    /// A name changes between any two calls.
    Changing,
}

impl std::fmt::Debug for Reel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reel")
    }
}

impl Reel {
    pub(super) fn on(&self, hook: impl Fn(&str, &Path) -> io::Result<()> + Send + Sync + 'static) {
        *self.hook.lock() = Some(Arc::new(hook));
    }

    pub(super) fn off(&self) {
        *self.hook.lock() = None;
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock())
    }

    fn call(&self, what: &str, path: &Path) -> io::Result<()> {
        self.calls.lock().push(format!("{what} {}", path.display()));
        let hook = self.hook.lock().clone();
        hook.map_or(Ok(()), |hook| hook(what, path))
    }

    fn sync(&self, what: &str, path: &Path, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        self.call(what, path)?;
        if self.quick.load(Ordering::Relaxed) {
            Ok(())
        } else {
            sync()
        }
    }
}

#[derive(Debug)]
pub(super) struct Tape {
    real: RealFs,
    reel: Arc<Reel>,
}

impl Tape {
    pub(super) fn new(root: &Path) -> (Self, Arc<Reel>) {
        let reel = Arc::new(Reel::default());
        let tape = Self {
            real: RealFs::new(root),
            reel: Arc::clone(&reel),
        };
        (tape, reel)
    }
}

impl FileSystem for Tape {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        let what = match mode {
            OpenMode::Read => "read",
            OpenMode::Write => "open",
            OpenMode::CreateNew | OpenMode::Create => "create",
        };
        self.reel.call(what, path)?;
        Ok(Box::new(TapeFile {
            real: self.real.open(path, mode)?,
            path: path.to_owned(),
            reel: Arc::clone(&self.reel),
        }))
    }

    fn create_root(&self) -> io::Result<()> {
        self.reel.call("root", Path::new(""))?;
        self.real.create_root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.reel.call("mkdir", path)?;
        self.real.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.reel.sync("sync-dir", path, || self.real.sync_dir(path))
    }

    fn sync_above_root(&self) -> io::Result<()> {
        self.reel
            .sync("sync-above", Path::new(""), || self.real.sync_above_root())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reel.call("rename", to)?;
        self.real.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reel.call("rename", to)?;
        self.real.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.reel.call("unlink", path)?;
        self.real.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.reel.call("remove_dir", path)?;
        self.real.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.reel.call("list", path)?;
        self.reel.passes.fetch_add(1, Ordering::Relaxed);
        self.real.list(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        self.reel.call("list", path)?;
        Ok(Box::new(TapeFolder {
            real: self.real.folder(path)?,
            path: path.to_owned(),
            reel: Arc::clone(&self.reel),
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.reel.call("stat", path)?;
        self.real.metadata(path)
    }

    fn born(&self, path: &Path) -> io::Result<Option<Timestamp>> {
        self.real.born(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }
}

#[derive(Debug)]
struct TapeFolder {
    real: Box<dyn FsFolder>,
    path: PathBuf,
    reel: Arc<Reel>,
}

impl FsFolder for TapeFolder {
    fn metadata(&self) -> io::Result<Metadata> {
        self.real.metadata()
    }

    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()> {
        self.reel.passes.fetch_add(1, Ordering::Relaxed);
        self.real.names(show)
    }

    fn mark(&self) -> io::Result<Option<FolderMark>> {
        static CHANGES: AtomicU64 = AtomicU64::new(0);
        match *self.reel.names.lock() {
            Names::Real => self.real.mark(),
            Names::Still => Ok(Some(FolderMark(-1))),
            Names::Changing => Ok(Some(FolderMark(CHANGES.fetch_add(1, Ordering::Relaxed).into()))),
        }
    }

    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        self.reel.call("stat", Path::new(name))?;
        self.real.metadata_of(name)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.real.try_lock()
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.reel.call("share", &self.path)?;
        self.real.try_lock_shared()
    }

    fn lock_holder(&self) -> Option<u32> {
        self.real.lock_holder()
    }
}

#[derive(Debug)]
struct TapeFile {
    real: Box<dyn FsFile>,
    path: PathBuf,
    reel: Arc<Reel>,
}

impl FsFile for TapeFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reel.call("get", &self.path)?;
        self.real.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.reel.call("write", &self.path)?;
        let mut len = bytes.len();
        if let most @ 1.. = self.reel.most.load(Ordering::Relaxed) {
            len = len.min(most as usize);
        }
        if let room @ 1.. = self.reel.room.load(Ordering::Relaxed)
            && self.path.starts_with("events")
        {
            len = len.min(room as usize - 1);
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.reel.room.fetch_sub(len as u64, Ordering::Relaxed);
        }
        self.real.write_at(&bytes[..len], offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reel.call("cut", &self.path)?;
        self.real.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.reel.sync("sync", &self.path, || self.real.sync())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.reel.sync("sync", &self.path, || self.real.sync_all())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.reel.call("lock", &self.path)?;
        self.real.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.reel.call("unlock", &self.path)?;
        self.real.unlock()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.reel.call("mode", &self.path)?;
        self.real.set_mode(mode)
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        self.real.set_modified(time)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.real.metadata()
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.real.descriptor()
    }
}
