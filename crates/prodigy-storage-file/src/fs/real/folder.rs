//! An open folder of the operating system.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

#[cfg(not(target_os = "linux"))]
use rustix::fs::Dir;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::{Errno, retry_on_intr};

use super::beneath::open_folder;
use super::metadata_of;
use crate::fs::{FsFolder, Metadata};
use crate::kernel::KernelLocks;

/// Takes a lock; false if others have it.
fn flock(folder: &OwnedFd, operation: FlockOperation) -> io::Result<bool> {
    match retry_on_intr(|| rustix::fs::flock(folder, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An open folder.
#[derive(Debug)]
pub(super) struct RealFolder(pub(super) OwnedFd);

impl FsFolder for RealFolder {
    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&self.0)?))
    }

    fn names(&self, show: &mut dyn FnMut(&str)) -> io::Result<()> {
        // Opened afresh: some file systems show what was there when the descriptor was opened, and nothing newer.
        let folder = open_folder(self.0.as_fd(), Path::new("."))?;
        each_name(&folder, |name| match name.to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => show(name),
        })
    }

    fn metadata_of(&self, name: &OsStr) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::statat(
            &self.0,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        flock(&self.0, FlockOperation::NonBlockingLockExclusive)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        flock(&self.0, FlockOperation::NonBlockingLockShared)
    }

    fn lock_holder(&self) -> Option<u32> {
        let identity = self.metadata().ok()?.identity;
        KernelLocks::new().holder(identity, None).filter(|pid| *pid > 0)
    }
}

/// Bytes of names that the kernel is asked for at once.
#[cfg(target_os = "linux")]
const NAMES: usize = 64 << 10;

/// Shows each name, without a copy of it.
#[cfg(target_os = "linux")]
fn each_name(folder: &OwnedFd, mut show: impl FnMut(&std::ffi::CStr)) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(NAMES);
    let mut dir = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        match entry {
            Ok(entry) => show(entry.file_name()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn each_name(folder: &OwnedFd, mut show: impl FnMut(&std::ffi::CStr)) -> io::Result<()> {
    let mut dir = retry_on_intr(|| Dir::read_from(folder))?;
    while let Some(entry) = dir.read() {
        show(entry?.file_name());
    }
    Ok(())
}
