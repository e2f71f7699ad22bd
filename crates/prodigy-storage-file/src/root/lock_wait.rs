//! The one way to wait for the operating system's lock on a file or a folder.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use rustix::io::Errno;

use super::Root;
use crate::fs::{FsFile, FsFolder, Metadata, OpenMode};

/// How long a wait lasts at most after it was interrupted.
const GRACE: Duration = Duration::from_secs(1);

/// An open file or folder that can be locked.
pub(crate) trait Lockable {
    fn try_lock(&self) -> io::Result<bool>;
    fn metadata(&self) -> io::Result<Metadata>;
}

impl Lockable for Box<dyn FsFile> {
    fn try_lock(&self) -> io::Result<bool> {
        (**self).try_lock()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        (**self).metadata()
    }
}

impl Lockable for Box<dyn FsFolder> {
    fn try_lock(&self) -> io::Result<bool> {
        (**self).try_lock()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        (**self).metadata()
    }
}

/// A wait for the lock on the file or folder that a path leads to.
pub(crate) struct LockWait<'r> {
    pub(crate) root: &'r Root,
    pub(crate) operation: &'static str,
    pub(crate) path: &'r Path,
    /// The folder that is made if it is missing.
    pub(crate) folder: &'r Path,
    /// When the wait began.
    pub(crate) began: Instant,
    pub(crate) deadline: Deadline,
    /// The longest pause between two tries.
    pub(crate) longest_pause: Duration,
    /// The way out, for a user who waited without success.
    pub(crate) hint: &'static str,
}

impl LockWait<'_> {
    /// Opens, tries the lock until it is taken, and checks that the path leads to what was locked. `holder` names the one
    /// who has it.
    pub(crate) fn take<L: Lockable>(
        &self,
        open: impl Fn() -> io::Result<L>,
        try_lock: impl Fn(&L) -> Result<bool>,
        holder: impl Fn(&L) -> String,
    ) -> Result<(L, Metadata)> {
        let fault = |error| self.root.write_fault(self.operation, self.path, error);
        let (mut deadline, mut interrupted) = (self.deadline, None);
        loop {
            let opened = self.root.open_in(self.folder, &open)?.map_err(fault)?;
            while !try_lock(&opened)? {
                if deadline.has_passed() && self.deadline.is_interrupted() {
                    return Err(self.interrupted(&holder(&opened)));
                }
                if deadline.has_passed() {
                    return Err(self.refused(&holder(&opened)));
                }
                if self.deadline.is_interrupted() {
                    // A lock that is held for moments is still worth the wait: the caller stores what it has.
                    deadline = deadline.min(*interrupted.get_or_insert_with(|| Deadline::after(GRACE)));
                }
                // A short wait is not made much longer by its pauses, and a long one tries rarely.
                let waited = self.began.elapsed() / 8;
                let pause = waited.clamp(self.longest_pause / 500, self.longest_pause);
                let left = deadline.remaining();
                std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
            }
            let ours = opened.metadata().map_err(fault)?;
            if self.root.leads_to(self.path, ours.identity).map_err(fault)? {
                return Ok((opened, ours));
            }
            // A user removed or replaced it by hand: this lock is on nothing.
            self.deadline.check(
                self.operation,
                &self.root.absolute(self.path).display(),
                "a file or folder that stays",
            )?;
        }
    }

    fn interrupted(&self, holder: &str) -> StorageError {
        let waited = self.began.elapsed().as_millis();
        StorageError::new(
            ErrorKind::Interrupted,
            self.operation,
            self.root.absolute(self.path).display(),
            format!("it is held by {holder}; the wait was ended after {waited} ms"),
        )
    }

    /// The error of a wait without success.
    pub(crate) fn refused(&self, holder: &str) -> StorageError {
        let waited = self.began.elapsed().as_millis();
        StorageError::new(
            ErrorKind::LockUnavailable,
            self.operation,
            self.root.absolute(self.path).display(),
            format!("it is held by {holder}; waited {waited} ms"),
        )
        .with_hint(self.hint)
    }
}

/// The result of a single try at the lock on an existing file.
pub(crate) enum LockNow {
    Taken(Box<dyn FsFile>, Metadata),
    Absent,
    Held,
    /// Its path leads elsewhere by now.
    Replaced,
}

impl Root {
    /// Opens an existing file and tries its lock once.
    pub(crate) fn lock_now(&self, path: &Path, mode: OpenMode) -> io::Result<LockNow> {
        let file = match self.fs.open(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockNow::Absent),
            other => other?,
        };
        if !self.try_lock(&file)? {
            return Ok(LockNow::Held);
        }
        // Between opening and locking it may have been replaced or removed.
        let ours = file.metadata()?;
        Ok(match self.leads_to(path, ours.identity)? {
            true => LockNow::Taken(file, ours),
            false => LockNow::Replaced,
        })
    }

    /// Tries a lock. On a file system without locks it counts as taken if the user promised a single process.
    pub(crate) fn try_lock(&self, opened: &impl Lockable) -> io::Result<bool> {
        match opened.try_lock() {
            Err(error) if !self.options.file_locks && has_no_locks(&error) => Ok(true),
            answer => answer,
        }
    }

    /// Whether a name still leads to a file that was opened by it.
    pub(crate) fn leads_to(&self, path: &Path, opened: (u64, u64)) -> io::Result<bool> {
        let found = self.fs.metadata(path);
        is_same(found.map(|found| found.identity), opened)
    }

    /// The same from the path of the root on, with the length of the file: one call, which also notices a root that was
    /// replaced. It follows links to folders below the root, so [`leads_to`](Self::leads_to) decides.
    pub(crate) fn len_by_path(&self, path: &Path, opened: (u64, u64)) -> io::Result<Option<u64>> {
        let found = self.fs.metadata_by_path(path);
        let len = found.as_ref().map_or(0, |found| found.len);
        Ok(is_same(found.map(|found| found.identity), opened)?.then_some(len))
    }

    /// Opens something in a folder. The folder is made if it is missing.
    pub(super) fn open_in<T>(
        &self,
        folder: &Path,
        open: impl Fn() -> io::Result<T>,
    ) -> Result<io::Result<T>> {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder(folder)?;
                Ok(open())
            }
            other => Ok(other),
        }
    }
}

/// Whether a name leads to something with this identity. A name that leads nowhere does not.
fn is_same(found: io::Result<(u64, u64)>, identity: (u64, u64)) -> io::Result<bool> {
    match found {
        Ok(found) => Ok(found == identity),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// True if this is how a file system answers that has no locks.
pub(crate) fn has_no_locks(error: &io::Error) -> bool {
    let without = [
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::NOLCK,
        Errno::INVAL,
        // NFS, for an exclusive lock on a folder: a folder can't be opened for writing.
        Errno::BADF,
    ];
    error.kind() == io::ErrorKind::Unsupported
        || without
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
