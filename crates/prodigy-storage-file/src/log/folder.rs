//! The lock on a log's folder, under which segments are created and removed.
//!
//! It is a lock of the operating system on the folder itself, so no lock file is left behind. A writer holds it while
//! it lists the folder and creates one file, and syncs nothing meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, Result};

use crate::fs::FsFolder;
use crate::root::holder::process;
use crate::root::{LockWait, Root};

const OPERATION: &str = "create segment";

fn wait<'r>(root: &'r Root, folder: &'r Path, deadline: Deadline) -> LockWait<'r> {
    LockWait {
        root,
        operation: OPERATION,
        path: folder,
        folder,
        began: Instant::now(),
        deadline,
        longest_pause: Duration::from_millis(5),
        hint: "a writer holds this lock for a moment only: look whether that process was stopped. The kernel frees the \
               lock when the process ends",
    }
}

/// A locked folder. The lock is released when this is dropped.
#[derive(Debug)]
pub(super) struct LockedFolder {
    _folder: Box<dyn FsFolder>,
}

impl LockedFolder {
    /// Takes the lock on a folder. Creates the folder if it is missing.
    pub(super) fn take(root: &Root, folder: &Path, deadline: Deadline) -> Result<Self> {
        let wait = wait(root, folder, deadline);
        let (folder, _) = wait.take(
            || root.fs.folder(folder),
            |opened| {
                root.try_lock(opened)
                    .map_err(|error| root.write_fault(OPERATION, folder, error))
            },
            |opened| process(opened.lock_holder()),
        )?;
        Ok(Self { _folder: folder })
    }
}

/// Waits until no other process holds the lock on a folder, or until the deadline. Creates nothing. Others can't take the lock for
/// an instant meanwhile.
#[cfg(feature = "backup")]
pub(crate) fn wait_until_free(root: &Root, folder: &Path, deadline: Deadline) {
    let Ok(opened) = root.fs.folder(folder) else {
        return;
    };
    let wait = wait(root, folder, deadline);
    let fault = |error| root.read_fault(OPERATION, folder, error);
    let waited = wait.lock(
        &opened,
        |opened| opened.try_lock_shared().map_err(fault),
        |opened| process(opened.lock_holder()),
    );
    if let Err(error) = waited {
        tracing::debug!(%error, "the folder is read although its lock is held, or it has none");
    }
}
