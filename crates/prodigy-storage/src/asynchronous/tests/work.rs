//! The work of a future: an endless sequence of calls of every kind.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{ErrorKind, EventId, Expected, ItemId, Result, Select, Settled};
use prodigy_storage_layout::Phase;
use serde::{Deserialize, Deserializer};

use super::record::{NAMES, Record, TOGETHER, counter, value};
use crate::asynchronous::{AsyncJob, AsyncStorage, AsyncStorageLock, AsyncTaken};
use crate::{AppendOptions, DocumentOptions, FollowOptions, SaveOptions};

/// The length of a lease, which is longer than the test.
const LEASE: Duration = Duration::from_secs(36_000);
/// The number of different events of which each may be appended by several futures, under one id.
const KEYS: u64 = 200;
/// The largest number of items that a future reads from a stream.
const READ: usize = 40;

/// A small pseudo-random number generator.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        // The seed is made odd, since the generator would return only zeros after zero.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(super) fn part_of(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap()))
    }

    fn one_of<T>(&mut self, all: &[T]) -> usize {
        usize::try_from(self.below(all.len() as u64)).unwrap()
    }
}

/// The payload of the intended panics. They are raised without the panic hook, so that nothing is printed.
struct Wanted;

/// A value that panics when it is deserialised.
#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        resume_unwind(Box::new(Wanted))
    }
}

/// While it exists, asserts that no other one does. It is dropped before the lock is released, even if the future
/// is dropped.
struct Alone<'a>(&'a AtomicBool);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The value of a call; `None` if the call timed out, which happens since a thousand futures share a few threads.
fn in_time<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::LockUnavailable) => None,
        Err(error) => panic!("{error:#}"),
    }
}

pub(super) struct Worker {
    pub(super) storage: AsyncStorage,
    pub(super) job: AsyncJob,
    pub(super) record: Arc<Record>,
    pub(super) draw: Draw,
}

impl Worker {
    /// Makes calls until the future is dropped.
    pub(super) async fn work(mut self) {
        let record = Arc::clone(&self.record);
        loop {
            let mut call = pin!(self.one_call());
            let panic =
                poll_fn(
                    |context| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                        Ok(Poll::Pending) => Poll::Pending,
                        Ok(Poll::Ready(())) => Poll::Ready(None),
                        Err(panic) => Poll::Ready(Some(panic)),
                    },
                );
            match panic.await {
                None => {}
                Some(panic) if panic.is::<Wanted>() => {
                    record.panics.fetch_add(1, Ordering::SeqCst);
                }
                Some(panic) => resume_unwind(panic),
            }
        }
    }

    async fn one_call(&mut self) {
        match self.draw.below(18) {
            0 => self.append().await,
            1 => self.append_batch().await,
            2 => self.append_once().await,
            3 | 4 => self.push().await,
            5 => self.push_together().await,
            6..10 => self.take().await,
            10 => self.lock().await,
            11 => self.save().await,
            12 | 13 => self.put().await,
            14 => self.count().await,
            15 => self.read().await,
            16 => self.follow().await,
            _ => self.panic().await,
        }
    }

    fn acknowledge_events(&self, ids: Vec<EventId>, texts: Vec<String>) {
        self.record
            .events
            .lock()
            .unwrap()
            .extend(ids.into_iter().zip(texts));
    }

    async fn append(&self) {
        let text = format!("single {}", self.record.number());
        if let Some(id) = in_time(self.job.events().append(&text).await) {
            self.acknowledge_events(vec![id], vec![text]);
        }
    }

    async fn append_batch(&self) {
        let number = self.record.number();
        let texts: Vec<String> = (0..TOGETHER)
            .map(|part| format!("batch {number} {part}"))
            .collect();
        if let Some(ids) = in_time(self.job.events().append_batch(&texts).await) {
            assert_eq!(ids.len(), texts.len());
            self.acknowledge_events(ids, texts);
        }
    }

    /// Appends an event under an id that depends on its text only, so that several futures append the same event.
    async fn append_once(&mut self) {
        let text = format!("once {}", self.draw.below(KEYS));
        let options: AppendOptions<'_> = AppendOptions::new().id(EventId::for_key(Record::PLANNED, &text));
        if let Some(id) = in_time(self.job.events().append_with(&text, options).await) {
            self.acknowledge_events(vec![id], vec![text]);
        }
    }

    async fn push(&self) {
        let number = self.record.number();
        let id = ItemId::new(format!("item-{number}")).unwrap();
        if in_time(self.job.dlq().push(&DeadLetter::new(id.clone(), number)).await).is_some() {
            self.record.pushed.lock().unwrap().push(id);
        }
    }

    /// Pushes several items in one call. They are never taken, so either all of them are stored or none.
    async fn push_together(&self) {
        let number = self.record.number();
        let ids: Vec<ItemId> = (0..TOGETHER)
            .map(|part| ItemId::new(format!("together-{number}-{part}")).unwrap())
            .collect();
        let letters = ids
            .iter()
            .map(|id| DeadLetter::new(id.clone(), number).eligible(false));
        if in_time(self.job.dlq().push_batch(letters).await).is_some() {
            self.record.pushed.lock().unwrap().extend(ids);
        }
    }

    async fn take(&mut self) {
        let most = 1 + self.draw.one_of(&[(); 3]);
        let taken = self.job.dlq().take(&Select::eligible(), most, LEASE).await;
        for taken in in_time(taken).unwrap_or_default() {
            self.settle(taken).await;
        }
    }

    async fn settle(&mut self, taken: AsyncTaken) {
        let (record, id) = (Arc::clone(&self.record), taken.id().clone());
        match self.draw.below(8) {
            0..3 => {
                record.leaving.lock().unwrap().insert(id.clone());
                if in_time(taken.ack().await) == Some(Settled::Done) {
                    record.gone.lock().unwrap().insert(id);
                }
            }
            3 => {
                record
                    .failures
                    .lock()
                    .unwrap()
                    .entry(id.clone())
                    .or_default()
                    .begun += 1;
                if in_time(taken.fail(Failure::new("Odd", "odd")).await) == Some(Settled::Done) {
                    record
                        .failures
                        .lock()
                        .unwrap()
                        .entry(id)
                        .or_default()
                        .acknowledged += 1;
                }
            }
            4 => {
                let parked = in_time(taken.park(None).await) == Some(Settled::Done);
                record.parked.lock().unwrap().extend(parked.then_some(id));
            }
            5 => drop(in_time(taken.release(Duration::ZERO).await)),
            6 => drop(in_time(taken.extend(LEASE).await)),
            // In the remaining cases the items are dropped without being settled.
            _ => {}
        }
    }

    async fn lock(&mut self) {
        let name = self.draw.one_of(&NAMES);
        let Some(lock) = in_time(self.storage.lock(NAMES[name]).await) else {
            return;
        };
        let held = &self.record.held[name];
        assert!(!held.swap(true, Ordering::SeqCst), "two hold {}", NAMES[name]);
        self.record.locked.fetch_add(1, Ordering::SeqCst);
        let alone = Alone(held);
        in_time(lock.check().await);
        drop(alone);
        match self.draw.below(2) {
            0 => drop(in_time(lock.release().await)),
            _ => drop::<AsyncStorageLock>(lock),
        }
    }

    async fn save(&mut self) {
        let number = self.record.number();
        let phase = [Phase::Map, Phase::Reduce][self.draw.one_of(&[(); 2])];
        let saved = self
            .job
            .checkpoints()
            .save(phase, &value(number), SaveOptions::new())
            .await;
        if let Some(saved) = in_time(saved) {
            self.record.saved.lock().unwrap().push((saved.id, number));
        }
    }

    /// Puts a document, and sometimes deletes it.
    async fn put(&mut self) {
        let number = self.record.number();
        let (documents, name) = (self.job.documents("values").unwrap(), format!("value-{number}"));
        let put = documents.put(&name, &value(number), DocumentOptions::new()).await;
        if in_time(put).is_none() {
            return;
        }
        if self.draw.below(2) == 0 {
            self.record.put.lock().unwrap().insert(name, number);
        } else if in_time(documents.delete(&name, DocumentOptions::new()).await) == Some(true) {
            self.record.deleted.lock().unwrap().insert(name);
        }
    }

    /// Increments the number in a document by compare-and-set.
    async fn count(&mut self) {
        let name = self.draw.one_of(&NAMES);
        let (counters, document) = (self.job.documents("counters").unwrap(), counter(NAMES[name]));
        let Some(found) = in_time(counters.get::<u64>(&document).await) else {
            return;
        };
        let (expected, next) = match found {
            Some(found) => (Expected::Revision(found.revision), found.data + 1),
            None => (Expected::Absent, 1),
        };
        self.record.counted[name].lock().unwrap().begun += 1;
        let options = DocumentOptions::new().expected_revision(expected);
        match counters.put(&document, &next, options).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            put => {
                if in_time(put).is_some() {
                    self.record.counted[name].lock().unwrap().acknowledged += 1;
                }
            }
        }
    }

    async fn read(&mut self) {
        match self.draw.below(3) {
            0 => {
                let events = self.job.events().read::<String>().await;
                let Some(mut events) = in_time(events) else { return };
                for _ in 0..READ {
                    let Some(event) = events.next().await else { break };
                    in_time(event);
                    self.record.read.fetch_add(1, Ordering::SeqCst);
                }
            }
            1 => {
                let mut values = self.job.documents("values").unwrap().list();
                for _ in 0..READ {
                    let Some(value) = values.next().await else { break };
                    in_time(value);
                }
            }
            _ => {
                let items = self.job.dlq().scan(&Select::any()).await;
                let Some(mut items) = in_time(items) else { return };
                for _ in 0..READ {
                    let Some(item) = items.next().await else { break };
                    in_time(item);
                }
            }
        }
    }

    /// Reads a few events by a follow, which may wait for events that are not stored yet.
    async fn follow(&mut self) {
        let options = match self.draw.below(2) {
            0 => FollowOptions::new(),
            _ => FollowOptions::new().from_now(),
        };
        let follow = self.job.events().follow_with::<String>(options).await;
        let Some(mut follow) = in_time(follow) else { return };
        for _ in 0..1 + self.draw.below(4) {
            let Some(event) = follow.next().await else { break };
            in_time(event);
        }
    }

    /// Panics, either on a thread of the handle, or in the task while it holds items and a lock.
    async fn panic(&mut self) {
        if self.draw.below(2) == 0 {
            let loaded = self.job.checkpoints().latest_map::<Panics>().await;
            assert!(
                in_time(loaded).is_none_or(|found| found.is_none()),
                "it was loaded"
            );
            return;
        }
        let name = self.draw.one_of(&NAMES);
        let taken = in_time(self.job.dlq().take(&Select::eligible(), 2, LEASE).await);
        let lock = in_time(self.storage.lock(NAMES[name]).await);
        let _in_hand = (taken, lock);
        resume_unwind(Box::new(Wanted));
    }
}
