//! Reading on several threads.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};
use prodigy_storage_backend::{Cursor, ErrorKind, EventId, Record, Result, Scan, ScanItem, StorageError};
use prodigy_storage_layout::JobAddress;
use serde::de::DeserializeOwned;

use super::event::Event;

/// When a batch is full: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
}

impl Default for Full {
    fn default() -> Self {
        Self {
            lines: 256,
            bytes: 128 << 10,
        }
    }
}

/// The most threads that read at once, however many are asked for.
const MOST_THREADS: usize = 256;

/// Events in batches, in their order, read by several threads: the caller's, and those that
/// [`read_batches`](super::Events::read_batches) began. These read ahead, a few batches a thread of 256 events or
/// 128 KiB, and parse what the caller does not get to; they end when this is dropped.
///
/// A panic in the parsing of a payload is a panic of [`next`](Iterator::next), here or of the batch.
pub struct EventBatches<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    cursor: Cursor,
}

/// Events that follow each other, and damage where it stands, as [`EventReader`](super::EventReader) gives them. A failure
/// that ended the reading is the last of the last batch.
///
/// What no other thread has parsed yet is parsed one by one, as it is asked for: an event that was dropped by then has
/// left its memory to the next one.
pub struct EventBatch<T> {
    shared: Arc<Shared<T>>,
    events: Events<T>,
    cursor: Cursor,
}

enum Events<T> {
    Raw(Lines),
    Parsed(std::vec::IntoIter<Result<Event<T>>>),
}

/// What is between reading and giving.
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    job: JobAddress,
    full: Full,
    /// How many batches may be read and not given yet.
    ahead: u64,
}

struct State<T> {
    /// `None` while a thread reads from it, and at its end.
    scan: Option<Box<dyn Scan>>,
    ended: bool,
    stopped: bool,
    /// Batches that were begun to be read, and that were given.
    read: u64,
    given: u64,
    raw: VecDeque<(u64, RawBatch)>,
    parsed: BTreeMap<u64, ParsedBatch<T>>,
    /// Lines that were parsed: their memory is filled again.
    spare: Vec<Lines>,
    panic: Option<Box<dyn Any + Send>>,
}

/// Lines as they were read, and where reading stood behind them.
struct RawBatch {
    lines: Lines,
    cursor: Cursor,
    ended: bool,
}

struct ParsedBatch<T> {
    events: Vec<Result<Event<T>>>,
    cursor: Cursor,
}

#[derive(Default)]
struct Lines {
    text: String,
    items: VecDeque<RawItem>,
}

enum RawItem {
    Record {
        id: EventId,
        verified: bool,
        line: Range<usize>,
    },
    Failed(StorageError),
}

/// What a thread may do next.
enum Task {
    Read(u64, Box<dyn Scan>, Lines),
    Parse(u64, RawBatch),
}

impl Lines {
    /// The next event, parsed.
    fn next<T: DeserializeOwned>(&mut self, job: &JobAddress) -> Option<Result<Event<T>>> {
        Some(match self.items.pop_front()? {
            RawItem::Record { id, verified, line } => {
                let line = self.text.get(line).unwrap_or_default();
                Event::from_record(&Record { id, line, verified }, job)
            }
            RawItem::Failed(error) => Err(error),
        })
    }

    fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
    }
}

impl<T> EventBatch<T> {
    /// The position behind the last event of the batch: reading from it goes on exactly there.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

impl<T: DeserializeOwned> Iterator for EventBatch<T> {
    type Item = Result<Event<T>>;

    fn next(&mut self) -> Option<Result<Event<T>>> {
        match &mut self.events {
            Events::Raw(lines) => lines.next(&self.shared.job),
            Events::Parsed(events) => events.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.events {
            Events::Raw(lines) => lines.items.len(),
            Events::Parsed(events) => events.len(),
        };
        (left, Some(left))
    }
}

impl<T: DeserializeOwned> ExactSizeIterator for EventBatch<T> {}

impl<T: DeserializeOwned> std::iter::FusedIterator for EventBatch<T> {}

impl<T> Drop for EventBatch<T> {
    fn drop(&mut self) {
        if let Events::Raw(lines) = &mut self.events {
            let mut lines = std::mem::take(lines);
            lines.clear();
            self.shared.state.lock().spare.push(lines);
        }
    }
}

impl<T> fmt::Debug for EventBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBatch")
            .field("job", &self.shared.job)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + 'static> EventBatches<T> {
    pub(crate) fn new(
        scan: Box<dyn Scan>,
        job: &JobAddress,
        threads: NonZeroUsize,
        full: Full,
    ) -> Result<Self> {
        let threads = threads.get().min(MOST_THREADS);
        let cursor = scan.cursor();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                scan: Some(scan),
                ended: false,
                stopped: false,
                read: 0,
                given: 0,
                raw: VecDeque::new(),
                parsed: BTreeMap::new(),
                spare: Vec::new(),
                panic: None,
            }),
            changed: Condvar::new(),
            job: job.clone(),
            full,
            ahead: 3 * threads as u64,
        });
        let mut batches = Self {
            shared,
            workers: Vec::new(),
            cursor,
        };
        for _ in 1..threads {
            let shared = Arc::clone(&batches.shared);
            let worker = std::thread::Builder::new()
                .name("read-events".to_owned())
                .spawn(move || shared.run())
                .map_err(|error| {
                    let why = "the system gives no further thread";
                    StorageError::new(ErrorKind::Io, "read events", job, why)
                        .with_hint("read on fewer threads")
                        .with_source(error)
                })?;
            batches.workers.push(worker);
        }
        Ok(batches)
    }
}

impl<T> EventBatches<T> {
    /// The position behind the last batch given.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

impl<T: DeserializeOwned> Iterator for EventBatches<T> {
    type Item = EventBatch<T>;

    fn next(&mut self) -> Option<EventBatch<T>> {
        let (events, cursor) = self.shared.next()?;
        self.cursor = cursor.clone();
        Some(EventBatch {
            shared: Arc::clone(&self.shared),
            events,
            cursor,
        })
    }
}

impl<T: DeserializeOwned> std::iter::FusedIterator for EventBatches<T> {}

impl<T> Drop for EventBatches<T> {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // What it panicked with was kept.
            let _ = worker.join();
        }
    }
}

impl<T> fmt::Debug for EventBatches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBatches")
            .field("job", &self.shared.job)
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

impl<T> State<T> {
    /// What comes next, if it is there.
    fn next(&mut self) -> Option<(Events<T>, Cursor)> {
        let number = self.given;
        let next = if let Some(parsed) = self.parsed.remove(&number) {
            (Events::Parsed(parsed.events.into_iter()), parsed.cursor)
        } else {
            self.raw.front().filter(|(first, _)| *first == number)?;
            let (_, raw) = self.raw.pop_front()?;
            (Events::Raw(raw.lines), raw.cursor)
        };
        self.given += 1;
        Some(next)
    }

    /// What the caller's thread does while what comes next is not there.
    fn task_of_caller(&mut self, ahead: u64) -> Option<Task> {
        if let Some(task) = self.reading(ahead) {
            return Some(task);
        }
        let (number, raw) = self.raw.pop_front()?;
        Some(Task::Parse(number, raw))
    }

    /// What any other thread does: it reads ahead, and beyond that takes parsing off the caller, from the other end. So
    /// most events are parsed where they are used: memory that one thread allocates and another frees costs both more.
    fn task_of_worker(&mut self, ahead: u64) -> Option<Task> {
        if let Some(task) = self.reading(ahead) {
            return Some(task);
        }
        let (number, raw) = self.raw.pop_back()?;
        Some(Task::Parse(number, raw))
    }

    fn reading(&mut self, ahead: u64) -> Option<Task> {
        if self.ended || self.read - self.given >= ahead {
            return None;
        }
        let scan = self.scan.take()?;
        let number = self.read;
        self.read += 1;
        Some(Task::Read(number, scan, self.spare.pop().unwrap_or_default()))
    }
}

impl<T: DeserializeOwned> Shared<T> {
    /// The work of a thread of its own.
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopped && state.panic.is_none() {
            match state.task_of_worker(self.ahead) {
                Some(task) => MutexGuard::unlocked(&mut state, || self.perform(task)),
                // No batch will come any more.
                None if state.ended => return,
                None => self.changed.wait(&mut state),
            }
        }
    }

    fn next(&self) -> Option<(Events<T>, Cursor)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(panic) = state.panic.take() {
                state.stopped = true;
                drop(state);
                self.changed.notify_all();
                resume_unwind(panic);
            }
            if let Some(next) = state.next() {
                drop(state);
                self.changed.notify_all();
                return Some(next);
            }
            if state.ended && state.given == state.read {
                return None;
            }
            match state.task_of_caller(self.ahead) {
                Some(task) => MutexGuard::unlocked(&mut state, || self.perform(task)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    fn perform(&self, task: Task) {
        let done = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Read(number, mut scan, lines) => {
                let raw = read(&mut *scan, self.full, lines);
                let mut state = self.state.lock();
                if raw.ended {
                    state.ended = true;
                } else {
                    state.scan = Some(scan);
                }
                state.raw.push_back((number, raw));
            }
            Task::Parse(
                number,
                RawBatch {
                    mut lines, cursor, ..
                },
            ) => {
                let mut events = Vec::with_capacity(lines.items.len());
                while let Some(event) = lines.next(&self.job) {
                    events.push(event);
                }
                lines.clear();
                let mut state = self.state.lock();
                state.parsed.insert(number, ParsedBatch { events, cursor });
                state.spare.push(lines);
            }
        }));
        if let Err(panic) = done {
            self.state.lock().panic = Some(panic);
        }
        self.changed.notify_all();
    }
}

/// Reads lines until a batch is full, or the scan at its end.
fn read(scan: &mut dyn Scan, full: Full, mut lines: Lines) -> RawBatch {
    let Lines { text, items } = &mut lines;
    if text.capacity() > 2 * full.bytes {
        // One long line must not cost its memory for the rest of the log.
        *text = String::new();
    }
    let mut ended = false;
    while items.len() < full.lines && text.len() < full.bytes {
        match scan.next() {
            Ok(Some(ScanItem::Record(record))) => {
                let start = text.len();
                text.push_str(record.line);
                items.push_back(RawItem::Record {
                    id: record.id,
                    verified: record.verified,
                    line: start..text.len(),
                });
            }
            Ok(Some(ScanItem::Damage(damage))) => items.push_back(RawItem::Failed(damage.into())),
            Ok(None) => {
                ended = true;
                break;
            }
            Err(error) => {
                items.push_back(RawItem::Failed(error));
                ended = true;
                break;
            }
        }
    }
    RawBatch {
        lines,
        cursor: scan.cursor(),
        ended,
    }
}

#[cfg(test)]
mod tests;
