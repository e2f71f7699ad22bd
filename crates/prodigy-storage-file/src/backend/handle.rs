//! The store that the handles of a process on one root share, and its replacement.
//!
//! Every operation of the backend passes through [`Handle::read`] or [`Handle::write`]. If the path of the root leads
//! to another folder than before, the operation fails if this process holds anything in the old folder, such as a lock.
//! Otherwise the new folder is opened, if it is a copy of the same store. All state about a root is in its [`Stores`]
//! and is dropped with it.

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

/// A root that is open in this process. Its store is exchanged if a copy replaces the root's folder.
#[derive(Debug)]
pub(crate) struct Handle {
    store: RwLock<Arc<Stores>>,
    /// The callers of this process that wait for events.
    pub(crate) waiters: Arc<Waiters>,
    /// True once a warning was logged that a log can't be watched.
    unwatched: AtomicBool,
    /// The number of times that a copy replaced the store.
    generation: AtomicU64,
    /// True if the root is on the real file system, and so can be opened again.
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

    /// Logs a warning that a log can't be watched; once per handle.
    pub(super) fn warn_unwatched(&self, log: &dyn fmt::Display, error: &io::Error) {
        if !self.unwatched.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %log, %error,
                "a log can't be watched, so a follower looks into it from time to time: raise `fs.inotify.max_user_watches` or \
                 `fs.inotify.max_user_instances` if the limit is reached"
            );
        }
    }

    /// The store that was opened last, whether or not the path of the root still leads to it.
    pub(crate) fn store(&self) -> Arc<Stores> {
        Arc::clone(&self.store.read())
    }

    /// The number of times that a copy replaced the store.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Checks the path of the root and returns the store in its folder; opens the folder if it was replaced.
    pub(crate) fn enter(&self, operation: &'static str, look: Look) -> Result<Arc<Stores>> {
        let store = self.store();
        match store.root.look_at_root(operation, look)? {
            Place::Here => Ok(store),
            place => self.follow(operation, &store, place),
        }
    }

    /// Opens the folder that the path leads to now. Fails if the folder is gone, holds another store, or if this
    /// process holds something in the old one.
    fn follow(&self, operation: &'static str, old: &Arc<Stores>, place: Place) -> Result<Arc<Stores>> {
        let mut current = self.store.write();
        if !Arc::ptr_eq(&current, old) {
            // Another thread has already exchanged the store.
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

    /// Runs a read. If the result is empty, checks that the path of the root still leads to the same folder, and
    /// otherwise reads again in the new one.
    pub(crate) fn read<T: Answer>(
        &self,
        operation: &'static str,
        read: impl Fn(&Arc<Stores>) -> Result<T>,
    ) -> Result<T> {
        self.read_after(operation, Look::Soon, read)
    }

    /// Like [`read`](Self::read) for a scan, which outlives the call: the path of the root is always checked first.
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
        // The folder was replaced during the read.
        read(&now)
    }

    /// Runs a write. A strict write fails if the path of the root no longer leads to the folder that was written to.
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

    /// Runs an append. An open writer itself checks, by the path of its segment, that the root was not replaced: before
    /// it writes, and before it acknowledges an event. So this method skips the check for it.
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

    /// Runs a write that stores the current time. Fails if the clock shows a time that can't be stored.
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
    /// True if the result says that nothing is stored.
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

/// A cursor may belong to an empty log, so it is checked like an empty result.
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

/// A scan that checks at its end that the root was not replaced and the log was not deleted while it ran.
pub(crate) struct CheckedScan {
    scan: Box<dyn Scan>,
    store: Arc<Stores>,
    log: LogAtStart,
}

impl CheckedScan {
    pub(crate) fn begin(
        store: &Arc<Stores>,
        job: &JobAddress,
        scan: impl Fn() -> Result<Box<dyn Scan>>,
    ) -> Result<Self> {
        let mut log = LogAtStart::look(store, job)?;
        let mut begun = scan()?;
        if log.folder.is_none() {
            // The log may have begun before the scan did. Only a scan that begins after a look at its folder can tell at its end whether
            // that log is still there.
            log = LogAtStart::look(store, job)?;
            if log.folder.is_some() {
                begun = scan()?;
            }
        }
        let store = Arc::clone(store);
        Ok(Self {
            scan: begun,
            store,
            log,
        })
    }
}

/// The job of a scan, and the identity of its log's folder when the scan began.
struct LogAtStart {
    job: JobAddress,
    folder: Option<FolderId>,
}

impl LogAtStart {
    fn look(store: &Stores, job: &JobAddress) -> Result<Self> {
        let folder = match store.root.is_deleted(SCAN, job)? {
            true => None,
            false => store.root.folder_id(&events_folder(job)).ok(),
        };
        let job = job.clone();
        Ok(Self { job, folder })
    }

    /// Fails if the log was deleted since the scan began.
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

/// A scan of a queue that checks at its end that the root was not replaced while it ran.
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
            let replaced = self.store.still_here("read items").err();
            self.ended = replaced.as_ref().is_none_or(|error| !error.is_transient());
            return replaced.map(Err);
        }
        item
    }
}

impl Answer for CheckedItems {}
