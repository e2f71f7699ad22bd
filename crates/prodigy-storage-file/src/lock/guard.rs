//! The guard of a named lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prodigy_storage_backend::{ErrorKind, Holder, LockGuard, LockOrigin, Result, StorageError};
use prodigy_storage_layout::LockName;

use super::origin::origin;
use super::slots::{Slots, note_release};
use crate::fs::FsFile;
use crate::root::Root;

/// The name of a named lock in the error for a root that was replaced while this process held something in it.
pub(crate) const HELD: &str = "a named lock";
const CHECK: &str = "check lock";

/// Holds the lock until its descriptor, and every duplicate of it in other processes, is closed.
#[derive(Debug)]
pub(super) struct FileGuard {
    root: Arc<Root>,
    held: Arc<AtomicUsize>,
    name: LockName,
    path: PathBuf,
    file: Box<dyn FsFile>,
    holder: Holder,
    fencing: u64,
    noted: bool,
    lost: AtomicBool,
}

impl FileGuard {
    pub(super) fn new(
        root: Arc<Root>,
        held: Arc<AtomicUsize>,
        name: LockName,
        path: PathBuf,
        file: Box<dyn FsFile>,
        holder: Holder,
        fencing: u64,
    ) -> Self {
        held.fetch_add(1, Ordering::AcqRel);
        Self {
            root,
            held,
            name,
            path,
            file,
            holder,
            fencing,
            noted: false,
            lost: AtomicBool::new(false),
        }
    }

    fn note(&mut self) -> std::io::Result<()> {
        self.noted = true;
        note_release(&*self.file, self.fencing, &self.holder)
    }
}

impl LockGuard for FileGuard {
    fn name(&self) -> &LockName {
        &self.name
    }

    fn fencing(&self) -> u64 {
        self.fencing
    }

    fn origin(&self) -> Option<LockOrigin> {
        Some(origin(&self.root, &self.name, self.fencing, &self.holder))
    }

    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.file.descriptor()
    }

    fn check(&self) -> Result<()> {
        self.root.still_here(CHECK, || Some(HELD))?;
        let place = self
            .file
            .metadata()
            .and_then(|ours| self.root.leads_to(&self.path, ours.identity));
        let signed = Slots::read(&*self.file).map(|slots| slots.fencing() == self.fencing);
        match place.and_then(|is_here| Ok((is_here, signed?))) {
            Ok((true, true)) if !self.lost.load(Ordering::Relaxed) => Ok(()),
            // The lock stays lost even if its file comes back, since another process may have held it in between.
            Ok((is_here, _)) => {
                self.lost.store(true, Ordering::Relaxed);
                let why = match is_here {
                    true => {
                        "the lock file does not name this holder any more: another program wrote to it, or copied a backup into it"
                    }
                    false => {
                        "the lock file, or a folder above it, was removed, moved or replaced while the lock was held"
                    }
                };
                Err(self.root.moved(CHECK, &self.path, why))
            }
            Err(error) => Err(self.root.read_fault(CHECK, &self.path, error)),
        }
    }

    fn release(mut self: Box<Self>) -> Result<()> {
        let checked = self.check();
        // Closing the descriptor releases the lock, even if the note of the release can't be written.
        self.note().map_err(|error| {
            StorageError::new(
                ErrorKind::Io,
                "release lock",
                self.path.display(),
                "the lock is released, but the release could not be noted in its file",
            )
            .with_hint("harmless: the next holder signs over it")
            .with_source(error)
        })?;
        checked
    }
}

impl Drop for FileGuard {
    fn drop(&mut self) {
        if !self.noted {
            // The note of the release only informs readers, so a failure is ignored.
            let _ = self.note();
        }
        self.held.fetch_sub(1, Ordering::AcqRel);
    }
}
