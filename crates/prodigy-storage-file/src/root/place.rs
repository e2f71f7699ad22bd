//! Whether the path of the root still leads to the folder that was opened.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use prodigy_storage_layout::Entry;

use super::Root;
use crate::fs::{FsFile, OpenMode, Place};

/// How long a look at a path lasts for reads and relaxed writes.
pub(crate) const LASTS: Duration = Duration::from_secs(1);

const LASTS_NANOS: u64 = LASTS.as_nanos() as u64;

/// When to look at the path of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Now: before and after whatever has to be where the path leads.
    Now,
    /// If the last look is a second old.
    Soon,
}

/// The facts about the place of a root.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// The monotonic time of the last look, in nanoseconds; 0 before the first one.
    looked: AtomicU64,
    /// Why the store must not be used any more. It is set once.
    lost: OnceLock<String>,
    /// The name in `format.json`, once it was read.
    name: Mutex<Option<String>>,
    /// The `format.json` that has the name, and its identity. It stays open, so that no other file can get that.
    format: OnceLock<(Box<dyn FsFile>, (u64, u64))>,
}

impl Root {
    /// Remembers the name of the store and the file that has it.
    pub(super) fn note_name(&self, name: Option<String>) {
        if name.is_none() {
            return;
        }
        *self.whereabouts.name.lock() = name;
        if self.whereabouts.format.get().is_none()
            && let Ok(file) = self.fs.open(&Entry::Format.path(), OpenMode::Read)
            && let Ok(found) = file.metadata()
        {
            let _ = self.whereabouts.format.set((file, found.identity));
        }
    }

    /// Whether the folder is still there with the contents that were in use: a backup may be restored into the same folder.
    fn place(&self) -> io::Result<Place> {
        let place = self.fs.place()?;
        let (Place::Here, Some(format)) = (place, self.whereabouts.format.get()) else {
            return Ok(place);
        };
        match self.fs.metadata(&Entry::Format.path()) {
            Ok(found) if found.identity == format.1 => Ok(Place::Here),
            Ok(_) => Ok(Place::Elsewhere),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Gone),
            Err(error) => Err(error),
        }
    }

    fn monotonic(&self) -> Duration {
        self.options.clock.monotonic()
    }

    /// The name of the store, from memory or from the open folder.
    pub(crate) fn name(&self) -> Option<String> {
        let known = self.whereabouts.name.lock().clone();
        known.or_else(|| super::format::name_of_store(self))
    }

    /// Where the path of the root leads. A store that was lost fails from then on.
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
        // The next operation looks again, whatever its rule is.
        let lasts = if place == Place::Here { now.max(1) } else { 0 };
        self.whereabouts.looked.store(lasts, Ordering::Release);
        Ok(place)
    }

    /// Fails if the path of the root no longer leads to the open folder. `held`: the things that would be lost with it.
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

    /// The error for a root whose path leads elsewhere. If the process holds anything there, the root can't be used from now
    /// on, whatever the path leads to later.
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

    /// Ends the use of this store.
    pub(crate) fn lose(&self, why: String) {
        let root = self.options.root.display();
        tracing::warn!(%root, why, "the root was replaced");
        // The first reason stays.
        let _ = self.whereabouts.lost.set(why);
    }

    /// The error for a file that this process holds and that its path leads to no longer.
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
