//! Waiting for events that this process or another one appends.
//!
//! A wait watches the folder of the log, or the nearest folder above it that exists, and pauses. A report of the watch
//! ends the pause at once. If a pause ends without a report, only the path of the root is checked. The log itself is
//! read after a report and, since no watch sees everything, every [`RARELY`]: a lost report delays an event but does
//! not lose it.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Cursor, Deadline, LookReason, Result, ScanOptions, WaitOptions, Waiters};
use prodigy_storage_layout::{Document, JobAddress, events_folder};

use super::handle::Handle;
use super::stores::Stores;
use crate::fs::{FsWatch, Wake};
use crate::root::{Look, Root, is_of_this_machine};

const WAIT: &str = "wait for events";
/// The time between two reads of a log whose watch reports nothing.
const RARELY: Duration = Duration::from_secs(5);

/// Waits until an event after the cursor is stored, or the job is finished.
pub(super) fn wait(
    handle: &Handle,
    job: &JobAddress,
    cursor: &Cursor,
    options: &WaitOptions,
    deadline: Deadline,
) -> Result<bool> {
    let scan = ScanOptions::after(cursor.clone());
    let finished = options.until_finished.then(|| Document::Finished(job.clone()));
    let watch = RefCell::new(None);
    let generation = handle.generation();
    handle.waiters.wait(job, options, deadline, |reason| {
        if reason == LookReason::Elapsed {
            let store = handle.enter(WAIT, Look::Now)?;
            if handle.generation() != generation {
                // A copy replaced the store, and its log may be shorter than the cursor says. The caller has to read to
                // find out.
                return Ok(true);
            }
            if watch
                .borrow()
                .as_ref()
                .is_some_and(|watch: &LogWatch| watch.has_seen_all_of(&store))
            {
                return Ok(false);
            }
        }
        handle.scan(WAIT, |store| {
            // The watch begins before the log is read, so that every later event is reported.
            watch.replace(LogWatch::begin(handle, store, job, finished.as_ref()));
            if let Some(finished) = &finished
                && options.ends_at(store.documents.revision(finished, Deadline::never())?)
            {
                return Ok(true);
            }
            Ok(store.logs.scan(job, &scan, Deadline::never())?.next()?.is_some())
        })
    })
}

/// A watch on the folder of a log.
struct LogWatch {
    store: Arc<Stores>,
    watches: Vec<Box<dyn FsWatch>>,
    /// The monotonic time when the log was last read.
    looked: Duration,
}

impl LogWatch {
    /// Begins to watch; `None` if the log can't be watched.
    fn begin(
        handle: &Handle,
        store: &Arc<Stores>,
        job: &JobAddress,
        finished: Option<&Document>,
    ) -> Option<Self> {
        let (waiters, told) = (Arc::clone(&handle.waiters), job.clone());
        let wake: Wake = Arc::new(move || Waiters::notify(&waiters, &told));
        let events = events_folder(job);
        let mark = finished.map(Document::path);
        let folders = [Some(events.as_path()), mark.as_deref().and_then(Path::parent)];
        let watches = folders
            .into_iter()
            .flatten()
            .map(|folder| watch_nearest(&store.root, folder, &wake))
            .collect::<io::Result<Option<Vec<_>>>>();
        match watches {
            Ok(watches) => watches.map(|watches| Self {
                store: Arc::clone(store),
                watches,
                looked: store.monotonic(),
            }),
            Err(error) => {
                handle.warn_unwatched(job, &error);
                None
            }
        }
    }

    /// True if the watch would have reported every event since the log was last read.
    fn has_seen_all_of(&self, store: &Arc<Stores>) -> bool {
        Arc::ptr_eq(&self.store, store)
            && self.watches.iter().all(|watch| watch.is_live())
            && store.monotonic().saturating_sub(self.looked) < RARELY
            && is_of_this_machine(&store.root)
    }
}

/// Watches a folder, or the nearest one above it that exists. `None` if the file system is not watched, or no folder
/// exists.
pub(super) fn watch_nearest(root: &Root, folder: &Path, wake: &Wake) -> io::Result<Option<Box<dyn FsWatch>>> {
    let mut missing: Option<&Path> = None;
    for folder in folder.ancestors() {
        match root.fs.watch(folder, Arc::clone(wake)) {
            Ok(None) => return Ok(None),
            Ok(Some(watch)) => {
                // A folder that was created before the watch began has not been reported.
                if missing.is_some_and(|missing| root.fs.metadata(missing).is_ok()) {
                    wake();
                }
                return Ok(Some(watch));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing = Some(folder),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
