//! An open file of the operating system.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::Mode;

use prodigy_storage_layout::Timestamp;

use super::own_lock::OwnLock;
use super::{metadata_of, modified};
use crate::fs::{FsFile, Metadata};

/// Makes a file or folder survive power loss: `File::sync_all` uses `F_FULLFSYNC` on macOS and `fsync` on Linux.
pub(super) fn full_sync(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[derive(Debug)]
pub(super) struct RealFile {
    pub(super) file: File,
    lock: OwnLock,
}

impl RealFile {
    pub(super) fn new(file: File) -> Self {
        let lock = OwnLock::default();
        Self { file, lock }
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        self.lock.end(self.file.as_fd());
    }
}

impl FsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.file.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.file.write_at(bytes, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        full_sync(&self.file)
    }

    fn try_lock(&self) -> io::Result<bool> {
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(self.lock.note(true)),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.lock.forget();
        uninterrupted(|| self.file.unlock())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode as _))?)
    }

    fn set_modified(&self, time: Timestamp) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.file, &modified(time))?)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&self.file)?))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.lock.forget();
        Some(self.file.as_fd())
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
