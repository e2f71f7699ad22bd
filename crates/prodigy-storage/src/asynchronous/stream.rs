//! Streams over iterators that may block.
//!
//! A stream reads a few items at a time on a thread. It reads the next ones only when all of these were returned.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use prodigy_storage_backend::{Cursor, Result};
use prodigy_storage_layout::JobAddress;
use serde::de::DeserializeOwned;

use super::Wrap;
use super::target::Target;
use super::threads::{Threads, late, wait_of_task};
use crate::events::{Event, EventReader, Follow, FollowAll, FollowHandle};
use crate::listing::Listing;

/// The largest number of items that one read collects.
const MOST: usize = 128;
/// A read ends once its items have this number of bytes.
const MOST_BYTES: usize = 256 << 10;

/// An item, the cursor after it, and its size in bytes.
pub(super) struct Step<T> {
    pub(super) item: Result<T>,
    pub(super) cursor: Option<Cursor>,
    pub(super) bytes: usize,
}

impl<T> From<Result<T>> for Step<T> {
    fn from(item: Result<T>) -> Self {
        Self {
            item,
            cursor: None,
            bytes: 0,
        }
    }
}

/// Reads the next item. The argument is true for the first item of a read; only for that one the call may wait
/// until the item exists.
type Steps<T> = Box<dyn FnMut(bool) -> Next<T> + Send>;

enum Next<T> {
    Step(Step<T>),
    /// The next item can't be read without a wait.
    Pause,
    End,
}

impl<T> From<Option<Step<T>>> for Next<T> {
    fn from(step: Option<Step<T>>) -> Self {
        step.map_or(Self::End, Self::Step)
    }
}

/// The items of one read, and the iterator for the next read; `None` if the iterator has ended.
type Read<T> = (VecDeque<Step<T>>, Option<Steps<T>>);

/// On which kind of thread a stream reads.
#[derive(Clone, Copy)]
enum Pace {
    /// Each read ends within `timeout`. It uses one of the handle's few threads.
    Reads,
    /// A read lasts until the next item exists. It has a thread of its own.
    Waits,
}

enum Source<T> {
    Idle(Steps<T>),
    Reading(Pin<Box<dyn Future<Output = Result<Read<T>>> + Send>>),
    Ended,
}

/// The common part of all streams.
struct Chunks<T> {
    source: Source<T>,
    read: VecDeque<Step<T>>,
    threads: Arc<Threads>,
    pace: Pace,
}

fn read<T>(mut steps: Steps<T>) -> Read<T> {
    let (mut read, mut bytes) = (VecDeque::new(), 0);
    while read.len() < MOST && bytes < MOST_BYTES {
        match steps(read.is_empty()) {
            Next::Step(step) => {
                bytes += step.bytes;
                read.push_back(step);
            }
            Next::Pause => break,
            Next::End => return (read, None),
        }
    }
    (read, Some(steps))
}

impl<T: Send + 'static> Chunks<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Step<T>>> {
        loop {
            if let Some(step) = self.read.pop_front() {
                return Poll::Ready(Some(step));
            }
            match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Ended => return Poll::Ready(None),
                Source::Idle(steps) => {
                    let (threads, pace) = (Arc::clone(&self.threads), self.pace);
                    self.source = Source::Reading(Box::pin(async move {
                        match pace {
                            Pace::Reads => {
                                let read = || match wait_of_task() {
                                    Some(wait) if wait.is_late => Err(late("read", &"")),
                                    _ => Ok(read(steps)),
                                };
                                threads.call(Target::ANY, "read", read).await
                            }
                            Pace::Waits => threads.wait("follow events", || read(steps)).await,
                        }
                    }));
                }
                Source::Reading(mut reading) => match reading.as_mut().poll(context) {
                    Poll::Pending => {
                        self.source = Source::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((read, steps))) => {
                        self.read = read;
                        self.source = steps.map_or(Source::Ended, Source::Idle);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Step::from(Err(error)))),
                },
            }
        }
    }
}

/// The items of a listing or of a queue, as a stream. It ends after the last item, and after an error that also
/// ends the blocking iterator.
///
/// Dropping the stream ends the reading. The method [`next`](Self::next) can be used without a crate of stream
/// combinators.
///
/// ```
/// # use prodigy_storage::AsyncStorage;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let storage = AsyncStorage::in_memory()?;
/// storage.repo("shop")?.job("mapreduce-7")?.events().append(&"started").await?;
/// let mut jobs = storage.repo("shop")?.jobs();
/// while let Some(job) = jobs.next().await {
///     println!("{}", job?);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream reads nothing until it is polled"]
pub struct ItemStream<T> {
    chunks: Chunks<T>,
}

impl<T: Send + 'static> ItemStream<T> {
    pub(super) fn new<S: Into<Step<T>> + 'static>(
        mut items: impl Iterator<Item = S> + Send + 'static,
        threads: &Arc<Threads>,
    ) -> Self {
        Self {
            chunks: Chunks {
                source: Source::Idle(Box::new(move |_| items.next().map(Into::into).into())),
                read: VecDeque::new(),
                threads: Arc::clone(threads),
                pace: Pace::Reads,
            },
        }
    }

    /// The next item; `None` at the end. If the future is dropped, no item is lost.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All remaining items, in memory at once.
    ///
    /// # Errors
    /// The first error of the stream.
    pub async fn all(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await {
            all.push(item?);
        }
        Ok(all)
    }
}

impl<T> Unpin for ItemStream<T> {}

impl<T: Send + 'static> Stream for ItemStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll(context).map(|step| Some(step?.item))
    }
}

impl<T: Send + 'static> Wrap for Listing<T> {
    type Wrapped = ItemStream<T>;

    fn wrap(self, threads: &Arc<Threads>) -> ItemStream<T> {
        ItemStream::new(self, threads)
    }
}

impl<T> fmt::Debug for ItemStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemStream").finish_non_exhaustive()
    }
}

/// An event, and the cursor after it: a read from the cursor begins with the next event.
///
/// ```
/// # use prodigy_storage::{AsyncStorage, SaveOptions};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let job = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started").await?;
/// let first = job.events().read::<String>().await?.next().await.expect("one event")?;
/// assert_eq!(first.event.event, "started");
/// job.checkpoints().save_map(&1, SaveOptions::at(first.cursor)).await?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EventAt<T> {
    /// The event.
    pub event: Event<T>,
    /// The cursor after the event.
    pub cursor: Cursor,
}

/// Events as a stream, each with the cursor after it. It returns the items of an [`EventReader`] and ends when the
/// reader ends.
///
/// It reads ahead at most 128 events, or a little over 256 KiB. The method [`next`](Self::next) can be used
/// without a crate of stream combinators.
///
/// ```
/// # use prodigy_storage::AsyncStorage;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let job = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append_batch(["started", "finished"]).await?;
/// let mut events = job.events().read::<String>().await?;
/// while let Some(event) = events.next().await {
///     println!("{}", event?.event.event);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream reads nothing until it is polled"]
pub struct EventStream<T> {
    chunks: Chunks<EventAt<T>>,
    cursor: Cursor,
}

impl<T: DeserializeOwned + Send + 'static> EventStream<T> {
    pub(super) fn new(mut reader: EventReader<T>, threads: &Arc<Threads>) -> Self {
        let cursor = reader.cursor();
        let steps = move |_| {
            let item = reader.next();
            item.map(|item| step(item, reader.cursor(), reader.bytes()))
                .into()
        };
        Self::over(Box::new(steps), cursor, Pace::Reads, threads)
    }

    fn over(steps: Steps<EventAt<T>>, cursor: Cursor, pace: Pace, threads: &Arc<Threads>) -> Self {
        Self {
            chunks: Chunks {
                source: Source::Idle(steps),
                read: VecDeque::new(),
                threads: Arc::clone(threads),
                pace,
            },
            cursor,
        }
    }

    /// The next event; `None` at the end. If the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Result<EventAt<T>>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

fn step<T>(item: Result<Event<T>>, cursor: Cursor, bytes: usize) -> Step<EventAt<T>> {
    Step {
        item: item.map(|event| EventAt {
            event,
            cursor: cursor.clone(),
        }),
        cursor: Some(cursor),
        bytes,
    }
}

impl<T> EventStream<T> {
    /// The cursor after the last item that the stream returned.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

impl<T> Unpin for EventStream<T> {}

impl<T: Send + 'static> Stream for EventStream<T> {
    type Item = Result<EventAt<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(step) = ready!(self.chunks.poll(context)) else {
            return Poll::Ready(None);
        };
        if let Some(cursor) = step.cursor {
            self.cursor = cursor;
        }
        Poll::Ready(Some(step.item))
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// Events as they are appended, as a stream, each with the cursor after it. It returns the items of a [`Follow`]
/// and ends when the follow ends.
///
/// While a task waits for the next event, a thread of the handle does too. Dropping the stream ends the follow and
/// the wait.
///
/// ```
/// # use prodigy_storage::AsyncStorage;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let job = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// let mut events = job.events().follow::<String>(None).await?;
/// job.events().append(&"started").await?;
/// let event = events.next().await.expect("one event")?;
/// assert_eq!(event.event.event, "started");
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream reads nothing until it is polled"]
#[derive(Debug)]
pub struct FollowStream<T> {
    events: EventStream<T>,
    handle: FollowHandle,
}

impl<T: DeserializeOwned + Send + 'static> FollowStream<T> {
    pub(super) fn new(mut follow: Follow<T>, threads: &Arc<Threads>) -> Self {
        let (cursor, handle) = (follow.cursor(), follow.handle());
        let steps = move |may_wait| {
            let item = if may_wait {
                follow.next()
            } else {
                follow.next_now()
            };
            match item {
                Some(item) => Next::Step(step(item, follow.cursor(), follow.bytes())),
                None if may_wait => Next::End,
                None => Next::Pause,
            }
        };
        Self {
            events: EventStream::over(Box::new(steps), cursor, Pace::Waits, threads),
            handle,
        }
    }

    /// The next event; waits until one is appended. `None` at the end. If the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Result<EventAt<T>>> {
        self.events.next().await
    }
}

impl<T> FollowStream<T> {
    /// The cursor after the last item that the stream returned.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.events.cursor()
    }

    /// A handle with which another task or thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }
}

impl<T: Send + 'static> Stream for FollowStream<T> {
    type Item = Result<EventAt<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}

impl<T> Drop for FollowStream<T> {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// Events of many jobs as they are appended, as a stream, each with its job. It returns the items of a
/// [`FollowAll`] and ends when that ends.
///
/// While a task waits for the next event, a thread of the handle does too. Dropping the stream ends the follow and
/// the wait.
///
/// ```
/// # use prodigy_storage::{AsyncStorage, FollowOptions};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let shop = AsyncStorage::in_memory()?.repo("shop")?;
/// let mut events = shop.follow::<String>(FollowOptions::new()).await?;
/// shop.job("map-1")?.events().append(&"started").await?;
/// let (job, event) = events.next().await.expect("one event")?;
/// assert_eq!((job.job.as_str(), event.event.as_str()), ("map-1", "started"));
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream reads nothing until it is polled"]
pub struct FollowAllStream<T> {
    chunks: Chunks<(JobAddress, Event<T>)>,
    cursor: Option<Cursor>,
    handle: FollowHandle,
}

impl<T: DeserializeOwned + Send + 'static> FollowAllStream<T> {
    pub(super) fn new(mut follow: FollowAll<T>, threads: &Arc<Threads>) -> Self {
        let handle = follow.handle();
        let steps = move |may_wait| match may_wait {
            true => {
                let item = follow.next().map(Step::from);
                let at = follow.cursor();
                item.map(|step| Step { cursor: at, ..step }).into()
            }
            // A read has only one event: no other event is read before the task has received this one.
            false => Next::Pause,
        };
        Self {
            handle,
            cursor: None,
            chunks: Chunks {
                source: Source::Idle(Box::new(steps)),
                read: VecDeque::new(),
                threads: Arc::clone(threads),
                pace: Pace::Waits,
            },
        }
    }

    /// The next event and its job; waits until one is appended. `None` at the end. If the future is dropped, no
    /// event is lost.
    pub async fn next(&mut self) -> Option<Result<(JobAddress, Event<T>)>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<T> FollowAllStream<T> {
    /// The cursor after the last returned item, in the log of that item's job, for
    /// [`FollowOptions::positions`](crate::FollowOptions::positions). `None` before the first item, and after an
    /// error that ended the reading of a log.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// A handle with which another task or thread can stop the follow, or have it check for events at once.
    #[must_use]
    pub fn handle(&self) -> FollowHandle {
        self.handle.clone()
    }
}

impl<T> Unpin for FollowAllStream<T> {}

impl<T: Send + 'static> Stream for FollowAllStream<T> {
    type Item = Result<(JobAddress, Event<T>)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = ready!(self.chunks.poll(context));
        Poll::Ready(step.map(|step| {
            self.cursor = step.cursor;
            step.item
        }))
    }
}

impl<T> fmt::Debug for FollowAllStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowAllStream").finish_non_exhaustive()
    }
}

impl<T> Drop for FollowAllStream<T> {
    fn drop(&mut self) {
        self.handle.stop();
    }
}
