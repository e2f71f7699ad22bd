//! Waits for the operating system's lock on a file or a folder. All such waits of the backend are made here.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;
use rustix::io::Errno;

use super::Root;
use super::holder::names_this_process;
use crate::fs::{FsFile, FsFolder, Metadata, OpenMode};

/// The longest time for which a wait still continues after it was interrupted.
const GRACE: Duration = Duration::from_secs(1);

/// The time for which a wait makes many attempts.
const EAGER: Duration = Duration::from_secs(1);
/// A wait that takes longer than this is announced.
const SILENT: Duration = Duration::from_secs(1);

/// The holder of a lock for which threads of this process wait without the kernel.
pub(super) const ANOTHER_THREAD: &str = "another thread of this process";
/// The hint if this process holds the lock, so that its end would help nobody.
const HINT_HERE: &str =
    "this process holds it: begin fewer calls at once, release it earlier, or raise `timeout`";

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
    /// The folder that contains the file. It is created if it is missing.
    pub(crate) folder: &'r Path,
    /// The time at which the caller began to wait.
    pub(crate) began: Instant,
    pub(crate) deadline: Deadline,
    /// The longest pause between two attempts.
    pub(crate) longest_pause: Duration,
    /// The hint of the error if another process holds the lock until the deadline.
    pub(crate) hint: &'static str,
}

/// How often a folder may be deleted between its creation and the opening of a file in it.
const MOST_DELETED: usize = 100;

impl LockWait<'_> {
    /// Opens the file or folder, waits for its lock, and checks that the path still leads to it. `holder` describes the
    /// current holder for the error message.
    pub(crate) fn take<L: Lockable>(
        &self,
        open: impl Fn() -> io::Result<L>,
        try_lock: impl Fn(&L) -> Result<bool>,
        holder: impl Fn(&L) -> String,
    ) -> Result<(L, Metadata)> {
        let fault = |error| self.root.write_fault(self.operation, self.path, error);
        loop {
            let opened = self.root.open_in(self.folder, &open)?.map_err(fault)?;
            self.lock(&opened, &try_lock, &holder)?;
            let ours = opened.metadata().map_err(fault)?;
            if self.root.leads_to(self.path, ours.identity).map_err(fault)? {
                return Ok((opened, ours));
            }
            // The file or folder was removed or replaced by hand, so its lock protects nothing. The path is opened
            // again.
            self.deadline.check(
                self.operation,
                &self.root.absolute(self.path).display(),
                "a file or folder that stays",
            )?;
        }
    }

    /// Tries to lock an open file or folder until this succeeds or the deadline has passed.
    pub(crate) fn lock<L: Lockable>(
        &self,
        opened: &L,
        try_lock: impl Fn(&L) -> Result<bool>,
        holder: impl Fn(&L) -> String,
    ) -> Result<()> {
        let (mut deadline, mut interrupted) = (self.deadline, None);
        // A caller who waits for a named lock knows that.
        let mut is_announced = matches!(Entry::parse(self.path), Some(Entry::Lock(_)));
        while !try_lock(opened)? {
            if deadline.has_passed() && self.deadline.is_interrupted() {
                return Err(self.interrupted(&holder(opened)));
            }
            if deadline.has_passed() {
                return Err(self.refused(&holder(opened)));
            }
            if self.deadline.is_interrupted() {
                // Waits a little longer: most locks are held only briefly, and with the lock the caller can still store
                // its data.
                deadline = deadline.min(*interrupted.get_or_insert_with(|| Deadline::after(GRACE)));
            }
            if !is_announced && self.began.elapsed() > SILENT {
                is_announced = true;
                let path = self.root.absolute(self.path);
                let text = format!(
                    "{} waits for {}: it is held by {}",
                    self.operation,
                    path.display(),
                    holder(opened)
                );
                self.deadline.announce(&text);
            }
            // Pauses for an eighth of the time waited so far: a short wait ends promptly, and a long one makes few
            // attempts. In the first second the pauses stay short: where many processes take a lock for a moment each, one
            // that paused for long would wait the longer for it.
            let waited = self.began.elapsed();
            let longest = if waited < EAGER {
                self.longest_pause / 50
            } else {
                self.longest_pause
            };
            let pause = (waited / 8).clamp(self.longest_pause / 500, longest);
            let left = deadline.remaining();
            std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
        }
        Ok(())
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

    /// The error if the lock was not taken in time.
    pub(crate) fn refused(&self, holder: &str) -> StorageError {
        let waited = self.began.elapsed().as_millis();
        let is_here = holder == ANOTHER_THREAD || names_this_process(holder);
        StorageError::new(
            ErrorKind::LockUnavailable,
            self.operation,
            self.root.absolute(self.path).display(),
            format!("it is held by {holder}; waited {waited} ms"),
        )
        .with_hint(if is_here { HINT_HERE } else { self.hint })
    }
}

/// The result of a single attempt to lock an existing file.
pub(crate) enum LockNow {
    Taken(Box<dyn FsFile>, Metadata),
    Absent,
    Held,
    /// The file was locked, but its path no longer leads to it.
    Replaced,
}

impl Root {
    /// Opens an existing file and tries once to lock it.
    pub(crate) fn lock_now(&self, path: &Path, mode: OpenMode) -> io::Result<LockNow> {
        let file = match self.fs.open(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockNow::Absent),
            other => other?,
        };
        if !self.try_lock(&file)? {
            return Ok(LockNow::Held);
        }
        // The file may have been replaced or removed between the open and the lock.
        let ours = file.metadata()?;
        Ok(match self.leads_to(path, ours.identity)? {
            true => LockNow::Taken(file, ours),
            false => LockNow::Replaced,
        })
    }

    /// Tries to lock a file or folder. With `file_locks` off, a lock on a file system without locks always succeeds.
    pub(crate) fn try_lock(&self, opened: &impl Lockable) -> io::Result<bool> {
        match opened.try_lock() {
            Err(error) if !self.options.file_locks && has_no_locks(&error) => Ok(true),
            answer => answer,
        }
    }

    /// True if a path still leads to the file that was opened through it.
    pub(crate) fn leads_to(&self, path: &Path, opened: (u64, u64)) -> io::Result<bool> {
        let found = self.fs.metadata(path);
        is_same(found.map(|found| found.identity), opened)
    }

    /// The length of an open file, if a walk along its path from `/` still leads to it; otherwise `None`.
    ///
    /// This is a single system call, which also notices if the root was replaced. It follows links to folders below the
    /// root, which only [`leads_to`](Self::leads_to) detects.
    pub(crate) fn len_by_path(&self, path: &Path, opened: (u64, u64)) -> io::Result<Option<u64>> {
        let found = self.fs.metadata_by_path(path);
        let len = found.as_ref().map_or(0, |found| found.len);
        Ok(is_same(found.map(|found| found.identity), opened)?.then_some(len))
    }

    /// Runs `open` for a path in a folder. If the folder is missing, creates it and runs `open` again; and once more, where
    /// another process deletes the job at that moment.
    pub(super) fn open_in<T>(
        &self,
        folder: &Path,
        open: impl Fn() -> io::Result<T>,
    ) -> Result<io::Result<T>> {
        let mut opened = open();
        for _ in 0..MOST_DELETED {
            if !matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
            self.make_folder(folder)?;
            opened = open();
        }
        Ok(opened)
    }
}

/// True if the file found at a path has this identity. False if the path leads to nothing.
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

/// True for the errors that file systems without locks return.
pub(crate) fn has_no_locks(error: &io::Error) -> bool {
    let without = [
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::NOLCK,
        Errno::INVAL,
        // NFS returns this error for an exclusive lock on a folder, since a folder can't be opened for writing.
        Errno::BADF,
    ];
    error.kind() == io::ErrorKind::Unsupported
        || without
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::root::FileOptions;

    #[test]
    fn a_folder_that_is_deleted_before_its_file_is_opened_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(FileOptions::new(dir.path()));
        let (folder, left) = (Path::new("events/shop/job"), Cell::new(3_u8));
        let opened = root.open_in(folder, || {
            if let Some(fewer) = left.get().checked_sub(1) {
                left.set(fewer);
                let _ = std::fs::remove_dir(dir.path().join(folder));
            }
            root.fs.folder(folder)
        });
        opened.unwrap().unwrap();
    }
}
