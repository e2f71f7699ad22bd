//! Watches on folders with inotify.
//!
//! The number of inotify instances per user is small, so all roots of a process share one. A thread reads its reports; it
//! ends when the [`Watcher`] is dropped.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::fs::{FsWatch, TEMP_PREFIX, Wake};

/// The watcher that all roots of this process share.
static SHARED: LazyLock<Mutex<Weak<Watcher>>> = LazyLock::new(Mutex::default);

/// The size of the buffer for one read of reports, in bytes.
const REPORTS: usize = 4096;

/// The changes to watch for.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The reports after which a watch is over, because its folder was removed or moved or the kernel ended the watch.
const ENDS: ReadFlags = ReadFlags::IGNORED
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT);

/// An instance of inotify and its thread.
#[derive(Debug)]
pub(super) struct Watcher {
    queue: Arc<Queue>,
    /// An event descriptor that becomes readable when the thread has to end.
    stop: Arc<OwnedFd>,
}

/// The kernel's reports, and the watches that receive them.
#[derive(Debug)]
struct Queue {
    inotify: OwnedFd,
    /// False after the thread has ended.
    running: AtomicBool,
    /// The watches by watch descriptor. The kernel uses one descriptor per folder, even if several watches are on it.
    watches: Mutex<HashMap<i32, Vec<Watched>>>,
}

/// A watch, as the watcher's thread needs it.
struct Watched {
    live: Arc<AtomicBool>,
    wake: Wake,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// The shared watcher of this process. Starts it if it is not running.
    pub(super) fn shared() -> io::Result<Arc<Self>> {
        let mut shared = SHARED.lock();
        if let Some(running) = shared.upgrade().filter(|watcher| watcher.is_running()) {
            return Ok(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    fn start() -> io::Result<Self> {
        let queue = Arc::new(Queue {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            running: AtomicBool::new(true),
            watches: Mutex::default(),
        });
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (reports, ended) = (Arc::clone(&queue), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("prodigy-watch".into())
            .spawn(move || reports.read(&ended))?;
        Ok(Self { queue, stop })
    }

    /// False if the thread ended because of an error. All its watches have ended then, too.
    pub(super) fn is_running(&self) -> bool {
        self.queue.running.load(Ordering::Acquire)
    }

    /// Watches an open folder. `None` if the folder can't be reached through `/proc`.
    pub(super) fn watch(
        watcher: Arc<Self>,
        folder: &OwnedFd,
        wake: Wake,
    ) -> io::Result<Option<Box<dyn FsWatch>>> {
        // This path leads to the open folder, even if the folder was moved or replaced since.
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let live = Arc::new(AtomicBool::new(true));
        let mut watches = watcher.queue.watches.lock();
        let descriptor = match inotify::add_watch(&watcher.queue.inotify, path, CHANGES) {
            Ok(descriptor) => descriptor,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        watches.entry(descriptor).or_default().push(Watched {
            live: Arc::clone(&live),
            wake,
        });
        drop(watches);
        Ok(Some(Box::new(Watch {
            watcher,
            descriptor,
            live,
        })))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The write fails only if the event counter is full, and then the descriptor is already readable.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }
}

impl Queue {
    /// Reads reports until `stop` is readable.
    fn read(&self, stop: &OwnedFd) {
        let mut buffer = [MaybeUninit::uninit(); REPORTS];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let mut ready = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return self.end(error),
            }
            let [_, stopped] = &ready;
            if !stopped.revents().is_empty() {
                return;
            }
            loop {
                match reader.next() {
                    Ok(report) => {
                        let name = report.file_name().map(std::ffi::CStr::to_bytes);
                        self.report(report.wd(), report.events(), name.unwrap_or_default());
                    }
                    Err(Errno::WOULDBLOCK) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return self.end(error),
                }
            }
        }
    }

    /// Wakes the watches that a report concerns.
    fn report(&self, descriptor: i32, changes: ReadFlags, name: &[u8]) {
        if name.starts_with(TEMP_PREFIX.as_bytes()) && !changes.intersects(ENDS) {
            return;
        }
        let mut watches = self.watches.lock();
        let concerned: Vec<Wake> = if changes.contains(ReadFlags::QUEUE_OVERFLOW) {
            // The kernel lost reports of any number of folders, so every watch is woken.
            watches
                .values()
                .flatten()
                .map(|watched| Arc::clone(&watched.wake))
                .collect()
        } else {
            let here = watches.get(&descriptor).map(Vec::as_slice).unwrap_or_default();
            if changes.intersects(ENDS) {
                here.iter().for_each(Watched::end);
            }
            here.iter().map(|watched| Arc::clone(&watched.wake)).collect()
        };
        if changes.contains(ReadFlags::IGNORED) {
            watches.remove(&descriptor);
        }
        drop(watches);
        for wake in concerned {
            wake();
        }
    }

    /// Marks all watches as ended, because the thread can't continue. Their users poll from then on.
    fn end(&self, error: Errno) {
        let error = io::Error::from(error);
        tracing::warn!(%error, "the watch on new events ended: logs are looked into from time to time instead");
        self.running.store(false, Ordering::Release);
        let watches = std::mem::take(&mut *self.watches.lock());
        for watched in watches.into_values().flatten() {
            watched.end();
            (watched.wake)();
        }
    }
}

impl Watched {
    fn end(&self) {
        self.live.store(false, Ordering::Release);
    }
}

/// A watch on a folder, which ends when it is dropped.
#[derive(Debug)]
struct Watch {
    watcher: Arc<Watcher>,
    descriptor: i32,
    live: Arc<AtomicBool>,
}

impl FsWatch for Watch {
    fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let queue = &self.watcher.queue;
        let mut watches = queue.watches.lock();
        // No entry is left if the kernel ended the watch.
        let Some(here) = watches.get_mut(&self.descriptor) else {
            return;
        };
        here.retain(|watched| !Arc::ptr_eq(&watched.live, &self.live));
        if here.is_empty() {
            watches.remove(&self.descriptor);
            // This fails only if the kernel has just ended the watch. Descriptors are never reused, so no other watch
            // is removed.
            let _ = inotify::remove_watch(&queue.inotify, self.descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_overflowed_has_every_watch_look_again() {
        let queue = Queue {
            inotify: inotify::init(CreateFlags::CLOEXEC).unwrap(),
            running: AtomicBool::new(true),
            watches: Mutex::default(),
        };
        let (reports, reported) = std::sync::mpsc::channel();
        let live = Arc::new(AtomicBool::new(true));
        for descriptor in [1, 1, 2] {
            let reports = reports.clone();
            queue.watches.lock().entry(descriptor).or_default().push(Watched {
                live: Arc::clone(&live),
                wake: Arc::new(move || reports.send(descriptor).unwrap()),
            });
        }
        // The kernel's overflow report names no watch.
        queue.report(-1, ReadFlags::QUEUE_OVERFLOW, b"");
        let mut woken: Vec<i32> = reported.try_iter().collect();
        woken.sort_unstable();
        assert_eq!(woken, [1, 1, 2]);
        assert!(live.load(Ordering::Acquire), "a watch ended");
        queue.report(2, ReadFlags::MODIFY, b"a");
        assert_eq!(reported.try_iter().collect::<Vec<_>>(), [2]);
    }
}
