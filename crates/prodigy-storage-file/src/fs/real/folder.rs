//! An open folder of the operating system.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use prodigy_storage_layout::Timestamp;
#[cfg(not(target_os = "linux"))]
use rustix::fs::Dir;
use rustix::fs::{Access, AtFlags, FileType, FlockOperation};
use rustix::io::{Errno, retry_on_intr};

use super::beneath::open_folder;
use super::own_lock::OwnLock;
use super::rights::may;
use super::{kind_of, kind_of_type, metadata_of, modified};
use crate::fs::{FileKind, FolderMark, FsFolder, Metadata};
use crate::kernel::KernelLocks;

/// Takes a lock. Returns false if another holder has a conflicting lock.
fn flock(folder: &OwnedFd, operation: FlockOperation) -> io::Result<bool> {
    match retry_on_intr(|| rustix::fs::flock(folder, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An open folder.
#[derive(Debug)]
pub(super) struct RealFolder {
    folder: OwnedFd,
    lock: OwnLock,
}

impl RealFolder {
    pub(super) fn new(folder: OwnedFd) -> Self {
        let lock = OwnLock::default();
        Self { folder, lock }
    }
}

impl Drop for RealFolder {
    fn drop(&mut self) {
        self.lock.end(self.folder.as_fd());
    }
}

impl FsFolder for RealFolder {
    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&self.folder)?))
    }

    fn names(&self, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()> {
        // Opens the folder again, since some file systems list only the names that existed when the folder was opened.
        match open_folder(self.folder.as_fd(), Path::new(".")) {
            Ok(folder) => each_name(&folder, show),
            // The folder was removed, so it was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The folder's ctime, which only the kernel can set. Its clock is coarse, so two changes within one tick get the
    /// same time: a recent ctime proves nothing, and the result is then `None`.
    fn mark(&self) -> io::Result<Option<FolderMark>> {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let found = rustix::fs::fstat(&self.folder)?;
        let changed = nanos(found.st_ctime as i64, found.st_ctime_nsec as i64);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        // A ctime without nanoseconds is probably from a file system that stores whole seconds only.
        let recent = if found.st_ctime_nsec == 0 { SECOND } else { TICKS };
        let is_old = changed < nanos(now.tv_sec as i64, now.tv_nsec as i64) - recent;
        Ok(is_old.then_some(FolderMark(changed)))
    }

    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::statat(
            &self.folder,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?))
    }

    fn may(&self, name: &OsStr, kind: FileKind, write: bool) -> io::Result<()> {
        let mut access = Access::READ_OK;
        if write {
            access |= Access::WRITE_OK;
        }
        if kind == FileKind::Folder {
            access |= Access::EXEC_OK;
        }
        may(self.folder.as_fd(), Path::new(name), access)
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(self
            .lock
            .note(flock(&self.folder, FlockOperation::NonBlockingLockExclusive)?))
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        Ok(self
            .lock
            .note(flock(&self.folder, FlockOperation::NonBlockingLockShared)?))
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.folder, &modified(time))?)
    }

    fn lock_holder(&self) -> Option<u32> {
        let identity = self.metadata().ok()?.identity;
        KernelLocks::new().holder(identity, None).filter(|pid| *pid > 0)
    }
}

/// A change this many nanoseconds ago has another ctime than any later change, if the file system stores times by the
/// tick of the kernel (at most 10 ms).
const TICKS: i128 = 50_000_000;
/// Like [`TICKS`], for a file system that stores whole seconds.
const SECOND: i128 = 1_050_000_000;

/// The size of the buffer for one read of names, in bytes.
#[cfg(target_os = "linux")]
const NAMES: usize = 64 << 10;

/// Calls `show` with each name that is Unicode and its kind, without copying the name.
pub(super) fn each_name(folder: &OwnedFd, show: &mut dyn FnMut(&str, FileKind)) -> io::Result<()> {
    each_entry(folder, &mut |name, found| show_entry(folder, name, found, show))
}

/// A function that is called with a name in a folder and its type.
type ShowEntry<'a> = dyn FnMut(&CStr, FileType) -> io::Result<()> + 'a;

/// Calls `show` with each name, without copying it.
#[cfg(target_os = "linux")]
pub(super) fn each_entry(folder: &OwnedFd, show: &mut ShowEntry<'_>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(NAMES);
    let mut dir = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        match entry {
            Ok(entry) => show(entry.file_name(), entry.file_type())?,
            Err(Errno::INTR) => {}
            // The folder was removed meanwhile.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn each_entry(folder: &OwnedFd, show: &mut ShowEntry<'_>) -> io::Result<()> {
    let mut dir = retry_on_intr(|| Dir::read_from(folder))?;
    while let Some(entry) = dir.read() {
        let entry = entry?;
        show(entry.file_name(), entry.file_type())?;
    }
    Ok(())
}

fn show_entry(
    folder: &OwnedFd,
    name: &CStr,
    found: FileType,
    show: &mut dyn FnMut(&str, FileKind),
) -> io::Result<()> {
    let name = match name.to_str() {
        Ok("." | "..") | Err(_) => return Ok(()),
        Ok(name) => name,
    };
    let kind = match found {
        FileType::Unknown => kind_of(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?),
        found => kind_of_type(found),
    };
    show(name, kind);
    Ok(())
}
