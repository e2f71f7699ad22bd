//! The lock on a log's folder, under which segments are created.
//!
//! It is a lock of the operating system on the folder itself, so no lock file is left behind. A writer holds it while
//! it lists the folder and creates one file, and syncs nothing meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, Result};

use crate::fs::FsFolder;
use crate::root::{LockWait, Root};

const OPERATION: &str = "create segment";

/// A locked folder. The lock is released when this is dropped.
#[derive(Debug)]
pub(super) struct LockedFolder {
    _folder: Box<dyn FsFolder>,
}

impl LockedFolder {
    /// Takes the lock on a folder. Creates the folder if it is missing.
    pub(super) fn take(root: &Root, folder: &Path, deadline: Deadline) -> Result<Self> {
        let wait = LockWait {
            root,
            operation: OPERATION,
            path: folder,
            folder,
            began: Instant::now(),
            deadline,
            longest_pause: Duration::from_millis(5),
            hint: "a writer holds this lock for a moment only: look whether that process was stopped. The kernel frees the \
                   lock when the process ends",
        };
        let (folder, _) = wait.take(
            || root.fs.folder(folder),
            |opened| {
                root.try_lock(opened)
                    .map_err(|error| root.write_fault(OPERATION, folder, error))
            },
            |opened| match opened.lock_holder() {
                Some(pid) => format!("process {pid}"),
                None => "a process that the system does not name".to_owned(),
            },
        )?;
        Ok(Self { _folder: folder })
    }
}
