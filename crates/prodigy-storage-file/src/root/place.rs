//! Checks that the path of the root still leads to the folder that was opened.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;

use super::Root;
use crate::fs::{FsFile, Metadata, OpenMode, Place};

/// The time for which reads and relaxed writes rely on the last check of the root's path.
pub(crate) const LASTS: Duration = Duration::from_secs(1);

const LASTS_NANOS: u64 = LASTS.as_nanos() as u64;

/// When to check the path of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Now. For an operation whose data must be in the folder that the path leads to.
    Now,
    /// Only if the last check was at least [`LASTS`] ago.
    Soon,
}

/// The state of a root that these checks keep.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// The monotonic time of the last successful check, in nanoseconds; 0 if the next operation must check.
    looked: AtomicU64,
    /// The reason why this store must not be used any more. It is set once and never changed.
    lost: OnceLock<String>,
    /// The name of the store; `None` until `format.json` was read.
    name: Mutex<Option<String>>,
    /// The `format.json` that states the name, and its metadata. The file stays open, so that no other file can get its
    /// identity. We never change this file in place.
    format: OnceLock<(Box<dyn FsFile>, Metadata)>,
}

impl Root {
    /// Stores the name of the store, and opens the file that states it.
    pub(super) fn note_name(&self, name: Option<String>) {
        if name.is_none() {
            return;
        }
        *self.whereabouts.name.lock() = name;
        if self.whereabouts.format.get().is_none()
            && let Ok(file) = self.fs.open(&Entry::Format.path(), OpenMode::Read)
            && let Ok(found) = file.metadata()
        {
            let _ = self.whereabouts.format.set((file, found));
        }
    }

    /// Checks that the path leads to the open folder, and that `format.json` there is the same file with the same
    /// length: a backup may have been restored into the folder.
    fn place(&self) -> io::Result<Place> {
        let place = self.fs.place()?;
        let (Place::Here, Some((_, format))) = (place, self.whereabouts.format.get()) else {
            return Ok(place);
        };
        match self.fs.metadata(&Entry::Format.path()) {
            Ok(found) if (found.identity, found.len) == (format.identity, format.len) => Ok(Place::Here),
            Ok(_) => Ok(Place::Elsewhere),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Gone),
            Err(error) => Err(error),
        }
    }

    fn monotonic(&self) -> Duration {
        self.options.clock.monotonic()
    }

    /// The name of the store; it is read from the open folder if it is not known yet.
    pub(crate) fn name(&self) -> Option<String> {
        let known = self.whereabouts.name.lock().clone();
        known.or_else(|| super::format::name_of_store(self))
    }

    /// Finds out where the path of the root leads. Fails if the store was lost earlier.
    pub(crate) fn look_at_root(&self, operation: &'static str, look: Look) -> Result<Place> {
        if let Some(why) = self.whereabouts.lost.get() {
            return Err(self.replaced(operation, why.clone()));
        }
        let now = u64::try_from(self.monotonic().as_nanos()).unwrap_or(u64::MAX);
        let looked = self.whereabouts.looked.load(Ordering::Acquire);
        if look == Look::Soon && looked > 0 && now.saturating_sub(looked) < LASTS_NANOS {
            return Ok(Place::Here);
        }
        let place = self
            .place()
            .map_err(|error| self.read_fault(operation, "".as_ref(), error))?;
        // After a check that did not find the open folder, the next operation checks again, even with `Look::Soon`.
        let lasts = if place == Place::Here { now.max(1) } else { 0 };
        self.whereabouts.looked.store(lasts, Ordering::Release);
        Ok(place)
    }

    /// Fails if the path of the root no longer leads to the open folder. `held` describes what this process holds in
    /// the folder, such as a lock.
    pub(crate) fn still_here(
        &self,
        operation: &'static str,
        held: impl FnOnce() -> Option<&'static str>,
    ) -> Result<()> {
        match self.look_at_root(operation, Look::Now)? {
            Place::Here => Ok(()),
            place => Err(self.leave(operation, place, held())),
        }
    }

    /// The error if the path of the root leads elsewhere. If this process holds anything in the old folder, every later
    /// operation fails too, even if the path leads to the old folder again.
    pub(crate) fn leave(
        &self,
        operation: &'static str,
        place: Place,
        held: Option<&'static str>,
    ) -> StorageError {
        let mut why = match place {
            Place::Gone => {
                "the folder, or what was in it, was removed or moved away while it was in use".to_owned()
            }
            _ => "the path leads to another folder, or to other contents, than those that were in use"
                .to_owned(),
        };
        if let Some(held) = held {
            why.push_str(&format!(
                "; this process held {held} in the old folder, which is lost"
            ));
            self.lose(why.clone());
        }
        self.replaced(operation, why)
    }

    /// Makes every later operation on this store fail.
    pub(crate) fn lose(&self, why: String) {
        let root = self.options.root.display();
        tracing::warn!(%root, why, "the root was replaced");
        // An earlier reason is kept.
        let _ = self.whereabouts.lost.set(why);
    }

    /// The error for a file that this process has open, if its path leads to another file.
    pub(crate) fn moved(&self, operation: &'static str, path: &Path, why: &'static str) -> StorageError {
        StorageError::new(ErrorKind::Replaced, operation, self.absolute(path).display(), why).with_hint(
            "stop the work that relied on it; move no folder below the root while a process works there, and restore a \
             backup only after all processes have ended",
        )
    }

    fn replaced(&self, operation: &'static str, why: String) -> StorageError {
        let root = self.options.given.display();
        StorageError::new(ErrorKind::Replaced, operation, root, why).with_hint(
            "stop the work that relied on the old folder, then put that folder back, or open the storage again to \
             continue with the present one",
        )
    }
}
