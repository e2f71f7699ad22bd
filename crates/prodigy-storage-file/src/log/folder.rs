//! The lock on a log's folder, under which segments are created.
//!
//! It is the operating system's lock on the folder itself, so no lock file is left behind. A writer holds it while it
//! lists the folder and creates one file, and syncs nothing under it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};

use crate::fs::FsFolder;
use crate::root::Root;
use crate::root::has_no_locks;

const OPERATION: &str = "create segment";
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct LockedFolder {
    /// `None` where the user promised a single process and the file system cannot lock.
    _folder: Option<Box<dyn FsFolder>>,
}

impl LockedFolder {
    /// Takes the lock on a folder, which is created if it is missing.
    pub(super) fn take(root: &Root, folder: &Path, deadline: Deadline) -> Result<Self> {
        let fault = |error| root.write_fault(OPERATION, folder, error);
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = match root.fs.folder(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    root.make_folder(folder)?;
                    root.fs.folder(folder)
                }
                other => other,
            };
            let opened = opened.map_err(fault)?;
            match opened.try_lock() {
                Ok(true) => {
                    let ours = opened.metadata().map_err(fault)?;
                    if root.leads_to(folder, &ours).map_err(fault)? {
                        return Ok(Self {
                            _folder: Some(opened),
                        });
                    }
                    // The folder was removed or replaced in between: the lock is on one that no path leads to.
                    deadline.check(OPERATION, &root.absolute(folder).display(), "a folder that stays")?;
                }
                Ok(false) => {
                    if deadline.has_passed() {
                        return Err(held(root, folder, &*opened, began));
                    }
                    std::thread::sleep(deadline.remaining().map_or(pause, |left| left.min(pause)));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if !root.options.file_locks && has_no_locks(&error) => {
                    return Ok(Self { _folder: None });
                }
                Err(error) => return Err(fault(error)),
            }
        }
    }
}

/// The error of a writer that waited without success.
fn held(root: &Root, folder: &Path, opened: &dyn FsFolder, began: Instant) -> StorageError {
    let holder = opened.lock_holder().map_or_else(
        || "a process that the system does not name".to_owned(),
        |pid| format!("process {pid}"),
    );
    let waited = began.elapsed().as_millis();
    StorageError::new(
        ErrorKind::LockUnavailable,
        OPERATION,
        root.absolute(folder).display(),
        format!("the folder is locked by {holder}; waited {waited} ms"),
    )
    .with_hint(
        "a writer holds this lock for a moment only: look whether that process was stopped. The kernel frees the lock \
         when the process ends",
    )
}
