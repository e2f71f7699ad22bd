//! The real file system, with syncs and reads of metadata that fail when a test switches them off.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DirEntry, FileSystem, FsFile, FsFolder, Metadata, OpenMode, RealFs, Space};

#[derive(Debug, Default)]
pub(crate) struct Switches {
    pub(crate) files: AtomicBool,
    pub(crate) folders: AtomicBool,
    /// Makes [`FileSystem::metadata`] fail.
    pub(crate) names: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    real: RealFs,
    switches: Arc<Switches>,
}

impl Faulty {
    pub(crate) fn new(real: RealFs, switches: Arc<Switches>) -> Self {
        Self { real, switches }
    }
}

fn refuse(switch: &AtomicBool) -> io::Result<()> {
    if switch.load(Ordering::Relaxed) {
        return Err(io::Error::other("the disk is failing"));
    }
    Ok(())
}

impl FileSystem for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(FaultyFile {
            real: self.real.open(path, mode)?,
            switches: Arc::clone(&self.switches),
        }))
    }

    fn create_root(&self) -> io::Result<()> {
        self.real.create_root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        refuse(&self.switches.folders)?;
        self.real.sync_dir(path)
    }

    fn sync_above_root(&self) -> io::Result<()> {
        self.real.sync_above_root()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename_new(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.real.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.real.list(path)
    }

    fn folder(&self, path: &Path) -> io::Result<Box<dyn FsFolder>> {
        self.real.folder(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        refuse(&self.switches.names)?;
        self.real.metadata(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.real.space()
    }
}

#[derive(Debug)]
struct FaultyFile {
    real: Box<dyn FsFile>,
    switches: Arc<Switches>,
}

impl FsFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.real.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.real.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.real.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.real.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        refuse(&self.switches.files)?;
        self.real.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.real.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.real.unlock()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.real.set_mode(mode)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.real.metadata()
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.real.descriptor()
    }
}
