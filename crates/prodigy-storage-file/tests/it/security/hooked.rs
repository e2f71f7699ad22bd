//! The real file system, with a hook that runs before every call. Folders are not synced.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use prodigy_storage_file::fs::{
    DirEntry, FileKind, FileSystem, FsFile, FsFolder, FsWatch, Metadata, OpenMode, RealFs, Space, Wake,
};

type Hook = Box<dyn Fn(&'static str, &Path) + Send + Sync>;

pub struct Hooked {
    real: RealFs,
    before: Hook,
    /// If set, gives the result of each attempt to lock the root, which is then not locked.
    pub locks: Option<fn() -> io::Result<()>>,
    pub watching: Watching,
}

/// How the file system answers a request to watch a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    Really,
    /// The watch is accepted, but reports nothing.
    Deaf,
    /// The request fails, as if the system's limit of watches were reached.
    Refused,
}

/// A watch that reports nothing.
#[derive(Debug)]
struct Deaf;

impl FsWatch for Deaf {
    fn is_live(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    pub fn new(root: &Path, before: impl Fn(&'static str, &Path) + Send + Sync + 'static) -> Self {
        Self {
            real: RealFs::new(root),
            before: Box::new(before),
            locks: None,
            watching: Watching::Really,
        }
    }
}

impl FileSystem for Hooked {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        (self.before)("open", path);
        self.real.open(path, mode)
    }

    fn create_root(&self) -> io::Result<()> {
        (self.before)("create root", Path::new(""));
        self.real.create_root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        (self.before)("create folder", path);
        self.real.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.before)("sync folder", path);
        self.real.metadata(path).map(drop)
    }

    fn sync_above_root(&self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)("rename", to);
        self.real.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)("rename", to);
        self.real.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        (self.before)("unlink", path);
        self.real.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        (self.before)("remove_dir", path);
        self.real.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        (self.before)("list", path);
        self.real.list(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        (self.before)("list", path);
        let real = self.real.folder(path)?;
        Ok(match self.locks.filter(|_| path.as_os_str().is_empty()) {
            Some(answer) => Box::new(Lockless { real, answer }),
            None => real,
        })
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        (self.before)("look", path);
        self.real.metadata(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }

    fn watch(&self, folder: &Path, wake: Wake) -> io::Result<Option<Box<dyn FsWatch>>> {
        (self.before)("watch", folder);
        match self.watching {
            Watching::Really => self.real.watch(folder, wake),
            Watching::Deaf => Ok(Some(Box::new(Deaf))),
            Watching::Refused => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// A folder that can't really be locked: attempts give the result that the test chose.
#[derive(Debug)]
struct Lockless {
    real: Box<dyn FsFolder>,
    answer: fn() -> io::Result<()>,
}

impl FsFolder for Lockless {
    fn metadata(&self) -> io::Result<Metadata> {
        self.real.metadata()
    }

    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()> {
        self.real.names(show)
    }

    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        self.real.metadata_of(name)
    }

    fn try_lock(&self) -> io::Result<bool> {
        (self.answer)().map(|()| true)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        (self.answer)().map(|()| true)
    }

    fn lock_holder(&self) -> Option<u32> {
        None
    }
}
