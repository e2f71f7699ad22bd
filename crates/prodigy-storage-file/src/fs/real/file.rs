//! An open file of the operating system.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::Mode;

use prodigy_storage_layout::Timestamp;

use super::{metadata_of, modified};
use crate::fs::{FsFile, Metadata};

/// Makes a file or folder survive power loss: `File::sync_all` uses `F_FULLFSYNC` on macOS and `fsync` on Linux.
pub(super) fn full_sync(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[derive(Debug)]
pub(super) struct RealFile(pub(super) File);

impl FsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.0.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.0.write_at(bytes, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        full_sync(&self.0)
    }

    fn try_lock(&self) -> io::Result<bool> {
        loop {
            match self.0.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn unlock(&self) -> io::Result<()> {
        uninterrupted(|| self.0.unlock())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode as _))?)
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.0, &modified(time))?)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&self.0)?))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
