//! The store that the handles of a process on one root share, and its replacement.
//!
//! Every operation of the backend passes through [`Handle::read`] or [`Handle::write`]. When the path of the root leads to
//! another folder, the operation fails if the store holds anything in the old one. Otherwise the new folder is opened, if
//! it is a copy of the same store. All that is remembered of a root belongs to its [`Stores`] and goes with it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use prodigy_storage_backend::{
    Activity, Appended, Cursor, Durability, LogSummary, Page, QueueScan, QueueStep, QueueSummary, Result,
    Scan, ScanItem, StorageError, Usage, Waiters, time_to_store,
};
use prodigy_storage_layout::{JobAddress, events_folder};

use super::stores::Stores;
use crate::fs::Place;
use crate::root::{self, FolderId, Look, Root};

/// The present store of a root.
#[derive(Debug)]
pub(crate) struct Handle {
    store: RwLock<Arc<Stores>>,
    /// The callers of this process that wait for events.
    pub(crate) waiters: Arc<Waiters>,
    /// Whether a log that can't be watched was reported.
    unwatched: AtomicBool,
    /// How often a copy has taken the place of the store.
    generation: AtomicU64,
    /// Whether the root is a folder of the operating system, and can be opened again.
    real: bool,
}

impl Handle {
    pub(crate) fn new(store: Arc<Stores>, real: bool) -> Self {
        Self {
            store: RwLock::new(store),
            waiters: Arc::default(),
            unwatched: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            real,
        }
    }

    /// Reports once that a log is not watched.
    pub(super) fn warn_unwatched(&self, log: &dyn fmt::Display, error: &io::Error) {
        if !self.unwatched.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %log, %error,
                "a log can't be watched, so a follower looks into it from time to time: raise `fs.inotify.max_user_watches` or \
                 `fs.inotify.max_user_instances` if the limit is reached"
            );
        }
    }

    /// The present store, whether or not the path still leads to it.
    pub(crate) fn store(&self) -> Arc<Stores> {
        Arc::clone(&self.store.read())
    }

    /// How often a copy has taken the place of the store.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The store that the path of the root leads to.
    pub(crate) fn enter(&self, operation: &'static str, look: Look) -> Result<Arc<Stores>> {
        let store = self.store();
        match store.root.look_at_root(operation, look)? {
            Place::Here => Ok(store),
            place => self.follow(operation, &store, place),
        }
    }

    /// Opens the folder that the path leads to by now, if that may be.
    fn follow(&self, operation: &'static str, old: &Arc<Stores>, place: Place) -> Result<Arc<Stores>> {
        let mut current = self.store.write();
        if !Arc::ptr_eq(&current, old) {
            // Another thread was quicker.
            return Ok(Arc::clone(&current));
        }
        if place == Place::Gone || !self.real || old.held().is_some() {
            return Err(old.leave(operation, place));
        }
        let mut options = old.root.options.clone();
        options.resolve_again();
        let new = Stores::new(Root::open(options));
        root::check(&new.root)?;
        let name = old.root.name();
        if place == Place::Redirected {
            *current = Arc::clone(&new);
            return Ok(new);
        }
        if name.is_none() || name != new.root.name() {
            old.root
                .lose("the folder in its place holds another store than the one that was in use".into());
            old.root.look_at_root(operation, Look::Now)?;
        }
        old.root
            .lose("it was replaced by a copy of the same store, which is in use now".into());
        *current = Arc::clone(&new);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(new)
    }

    /// Reads. An answer of nothing is given only if the path leads to the folder that was looked into.
    pub(crate) fn read<T: Answer>(
        &self,
        operation: &'static str,
        read: impl Fn(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        self.read_after(operation, Look::Soon, read)
    }

    /// The same for a scan, which outlives the call: it begins in the folder that the path leads to.
    pub(crate) fn scan<T: Answer>(
        &self,
        operation: &'static str,
        scan: impl Fn(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        self.read_after(operation, Look::Now, scan)
    }

    fn read_after<T: Answer>(
        &self,
        operation: &'static str,
        look: Look,
        read: impl Fn(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        let store = self.enter(operation, look)?;
        let answer = read(&store);
        if answer.as_ref().is_ok_and(|answer| !answer.is_nothing()) {
            return answer;
        }
        let now = self.enter(operation, Look::Now)?;
        if Arc::ptr_eq(&now, &store) {
            return answer;
        }
        // The folder was replaced meanwhile.
        read(&now)
    }

    /// Writes. A strict write succeeds only if the path leads to the folder that was written to.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        durability: Durability,
        write: impl FnOnce(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        let strict = durability == Durability::Strict;
        let store = self.enter(operation, if strict { Look::Now } else { Look::Soon })?;
        let answer = write(&store);
        if strict || answer.is_err() {
            store.still_here(operation)?;
        }
        answer
    }

    /// Appends to a log. The writer of a log that this process has open finds out by itself, by the path of its segment,
    /// whether the root is in its place: before it writes, and before it acknowledges an event that it wrote.
    pub(crate) fn append(
        &self,
        operation: &'static str,
        job: &JobAddress,
        durability: Durability,
        append: impl FnOnce(&Arc<Stores>) -> Result<Appended>,
    ) -> Result<Appended> {
        let strict = durability == Durability::Strict;
        let look = match strict && !self.store().logs.is_writing_to(job) {
            true => Look::Now,
            false => Look::Soon,
        };
        let store = self.enter(operation, look)?;
        let answer = append(&store);
        let wrote = answer.as_ref().is_ok_and(|appended| appended.stored > 0);
        if !wrote && (strict || answer.is_err()) {
            store.still_here(operation)?;
        }
        answer
    }

    /// Writes something that carries the time of day.
    pub(crate) fn write_dated<T>(
        &self,
        operation: &'static str,
        target: &dyn fmt::Display,
        durability: Durability,
        write: impl FnOnce(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        time_to_store(&*self.store().root.options.clock, operation, target)?;
        self.write(operation, durability, write)
    }
}

/// The result of a read.
pub(crate) trait Answer {
    /// Whether it says that nothing is stored.
    fn is_nothing(&self) -> bool {
        false
    }
}

impl<T> Answer for Option<T> {
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl<T> Answer for Vec<T> {
    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<T, K> Answer for Page<T, K> {
    fn is_nothing(&self) -> bool {
        Page::is_nothing(self)
    }
}

impl Answer for bool {
    fn is_nothing(&self) -> bool {
        !self
    }
}

/// A cursor may be that of an empty log, so it is checked like an answer of nothing.
impl Answer for Cursor {
    fn is_nothing(&self) -> bool {
        true
    }
}

impl Answer for Activity {
    fn is_nothing(&self) -> bool {
        self.last_write.is_none()
    }
}

impl Answer for LogSummary {
    fn is_nothing(&self) -> bool {
        self.segments == 0
    }
}

impl Answer for QueueSummary {
    fn is_nothing(&self) -> bool {
        self.items == 0
    }
}

impl Answer for Usage {
    fn is_nothing(&self) -> bool {
        self.areas.is_empty()
    }
}

/// A scan of a log whose end is checked: a folder that went meanwhile does not look like one that was read whole.
pub(crate) struct CheckedScan {
    scan: Box<dyn Scan>,
    store: Arc<Stores>,
    log: LogAtStart,
}

impl CheckedScan {
    pub(crate) fn new(scan: Box<dyn Scan>, store: &Arc<Stores>, log: LogAtStart) -> Self {
        let store = Arc::clone(store);
        Self { scan, store, log }
    }
}

/// The log of a scan, as it was before the scan began.
pub(crate) struct LogAtStart {
    job: JobAddress,
    folder: Option<FolderId>,
}

impl LogAtStart {
    pub(crate) fn look(store: &Stores, job: &JobAddress) -> Result<Self> {
        let folder = match store.root.is_deleted(SCAN, job)? {
            true => None,
            false => store.root.folder_id(&events_folder(job)).ok(),
        };
        let job = job.clone();
        Ok(Self { job, folder })
    }

    /// Fails if the log was deleted since.
    fn is_there(&self, store: &Stores) -> Result<()> {
        if self.folder.is_none() || Self::look(store, &self.job)?.folder == self.folder {
            return Ok(());
        }
        Err(root::deleted(
            SCAN,
            &self.job,
            "the log was removed while it was read",
        ))
    }
}

const SCAN: &str = "scan events";

impl Scan for CheckedScan {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        match self.scan.next() {
            Ok(Some(item)) => Ok(Some(item)),
            end => self
                .store
                .still_here(SCAN)
                .and_then(|()| self.log.is_there(&self.store))
                .and(end),
        }
    }

    fn cursor(&self) -> Cursor {
        self.scan.cursor()
    }
}

impl Answer for CheckedScan {}

/// The same for a queue.
pub(crate) struct CheckedItems {
    pub(crate) items: QueueScan<'static>,
    pub(crate) store: Arc<Stores>,
    pub(crate) ended: bool,
}

impl Iterator for CheckedItems {
    type Item = Result<QueueStep, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.items.next();
        if item.is_none() {
            self.ended = true;
            return self.store.still_here("read items").err().map(Err);
        }
        item
    }
}

impl Answer for CheckedItems {}
