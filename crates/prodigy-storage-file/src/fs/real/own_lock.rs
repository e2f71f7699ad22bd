//! The lock that a descriptor has.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;

/// Whether this process took a lock with a descriptor, and releases it before the descriptor is closed.
///
/// Closing alone releases nothing while another process has a copy of the descriptor. Each process that a thread starts has
/// copies of all descriptors until it executes its own program, so a lock would seem held for a moment after its end.
#[derive(Debug, Default)]
pub(super) struct OwnLock {
    /// The process that took the lock; 0 for none. The child of a fork must not release the lock of its parent.
    taker: AtomicU32,
}

impl OwnLock {
    /// Notes the outcome of an attempt to take the lock, and returns it.
    pub(super) fn note(&self, is_taken: bool) -> bool {
        if is_taken {
            self.taker.store(std::process::id(), Ordering::Relaxed);
        }
        is_taken
    }

    /// Forgets the lock: it was released, or the descriptor was handed out, and it ends when the last copy is closed.
    pub(super) fn forget(&self) {
        self.taker.store(0, Ordering::Relaxed);
    }

    /// Releases the lock that was taken, if there is one, since the descriptor is closed next.
    pub(super) fn end(&self, descriptor: BorrowedFd<'_>) {
        let taker = self.taker.load(Ordering::Relaxed);
        if taker != 0 && taker == std::process::id() {
            // If it fails, closing the descriptor releases the lock.
            let _ = rustix::fs::flock(descriptor, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::file::RealFile;
    use super::super::folder::RealFolder;
    use crate::fs::{FsFile, FsFolder};

    #[test]
    fn a_lock_ends_with_its_file_or_folder_though_a_child_has_a_copy_of_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let open = || {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        };
        let (file, folder) = (open().unwrap(), File::open(dir.path()).unwrap());
        let copies = (file.try_clone().unwrap(), folder.try_clone().unwrap());
        let (file, folder) = (RealFile::new(file), RealFolder::new(folder.into()));
        assert!(file.try_lock().unwrap() && folder.try_lock().unwrap());
        drop((file, folder));
        open().unwrap().try_lock().unwrap();
        File::open(dir.path()).unwrap().try_lock().unwrap();
        drop(copies);
    }

    #[test]
    fn a_lock_whose_descriptor_was_handed_out_lasts_as_long_as_its_copies() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("file")).unwrap();
        let file = RealFile::new(open());
        assert!(file.try_lock().unwrap());
        let copy = file.descriptor().unwrap().try_clone_to_owned().unwrap();
        drop(file);
        open().try_lock().unwrap_err();
        drop(copy);
        open().try_lock().unwrap();
    }
}
