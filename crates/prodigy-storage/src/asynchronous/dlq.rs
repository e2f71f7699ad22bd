//! The dead letters of a job, for tasks.

use std::future::{pending, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::RwLock;
use prodigy_storage_backend::dead_letter::{DeadLetter, Failure};
use prodigy_storage_backend::{
    Claim, Compaction, ErrorKind, ItemId, Lease, LeaseToken, PutReport, QueueItem, QueueSummary, Result,
    Select, Settled, Settlement, StorageError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::mirror::{method, mirror, rows};
use super::target::{HasTarget, Target};
use super::threads::Threads;
use super::{Call, ItemStream, Wrap};
use crate::dlq::{
    Dlq, DlqItem, DlqScan, DlqSummary, Outcome, RedriveError, RedriveOptions, RedriveReport, SignatureCounts,
    Taken, release_all,
};

mirror! {
    /// [`Dlq`] for asynchronous tasks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use prodigy_storage::{AsyncStorage, DeadLetter, ItemId, Select};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let dlq = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
    /// dlq.push(&DeadLetter::new(ItemId::new("src/a.rs")?, "review this file")).await?;
    /// let taken = dlq.take(&Select::eligible(), 1, Duration::from_secs(60)).await?;
    /// taken[0].ack().await?;
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncDlq of Dlq {
        async fn get(&self, id: &ItemId) -> Option<DlqItem>;
        #[wrapped]
        async fn scan(&self, select: &Select) -> ItemStream<DlqItem>;
        async fn by_signature(&self, select: &Select) -> SignatureCounts;
        async fn summary(&self) -> QueueSummary;
        async fn extend(&self, tokens: &[LeaseToken], lease: Duration) -> Vec<Settled>;
        async fn ack(&self, tokens: &[LeaseToken]) -> Vec<Settled>;
        async fn release(&self, items: impl IntoIterator<Item: Into<Claim>>, delay: Duration) -> Vec<Settled>;
        async fn fail(&self, token: &LeaseToken, id: &ItemId, failure: Failure) -> Settled;
        async fn park(&self, items: impl IntoIterator<Item: Into<Claim>>, reason: Option<&str>) -> Vec<Settled>;
        async fn unpark(&self, ids: &[ItemId]) -> Vec<Settled>;
        async fn edit(&self, read: &DlqItem, contents: &RawValue) -> Settled;
        async fn remove(&self, ids: &[ItemId]) -> Vec<Settled>;
        async fn settle(&self, settlements: &[Settlement]) -> Vec<Settled>;
        async fn compact(&self) -> Compaction;
    }
}

impl AsyncDlq {
    /// Like [`Dlq::push`]. The item is serialised before this method returns.
    pub fn push<T: Serialize>(&self, letter: &DeadLetter<T>) -> Call<PutReport> {
        self.put(self.blocking.item(letter).map(|item| vec![item]))
    }

    /// Like [`Dlq::push_raw`]. The item is checked before this method returns.
    pub fn push_raw(&self, item: &RawValue) -> Call<PutReport> {
        self.put(self.blocking.raw_item(item).map(|item| vec![item]))
    }

    /// Like [`Dlq::push_batch`]. The items are serialised before this method returns.
    pub fn push_batch<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Call<PutReport> {
        self.put(self.blocking.items(items))
    }

    fn put(&self, items: Result<Vec<QueueItem>>) -> Call<PutReport> {
        let (blocking, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            let items = items?;
            threads
                .call(blocking.target(), "push", move || blocking.put(&items))
                .await
        })
    }

    /// Like [`Dlq::list`], as a stream of summaries.
    pub fn list(&self, select: &Select) -> Call<ItemStream<DlqSummary>> {
        let (blocking, threads, select) = (self.blocking.clone(), Arc::clone(&self.threads), select.clone());
        Call::new(async move {
            let summaries = threads
                .call(blocking.target(), "list", move || blocking.list(&select))
                .await?;
            Ok(ItemStream::new(summaries, &threads))
        })
    }

    /// Like [`Dlq::take`]. If the future is dropped, the items that it took are released shortly after.
    pub fn take(&self, select: &Select, limit: usize, lease: Duration) -> Call<Vec<AsyncTaken>> {
        let (blocking, threads, select) = (self.blocking.clone(), Arc::clone(&self.threads), select.clone());
        Call::new(async move {
            let target = blocking.target();
            let take = move || blocking.take(&select, limit, lease);
            let taken = threads.call_or_undo(target, "take", take, release_all).await?;
            Ok(taken.into_iter().map(|taken| taken.wrap(&threads)).collect())
        })
    }

    /// Like [`Dlq::redrive`]. `work` runs in the tokio runtime that first polls the future, on up to `concurrency`
    /// items at once, each on its own thread.
    ///
    /// Dropping the future stops the run, and so does the end of the runtime. Running work is dropped at its next
    /// `await`, and its items are released, as are taken items whose work has not begun.
    ///
    /// # Errors
    /// As [`Dlq::redrive`]; and [`Unsupported`](ErrorKind::Unsupported) outside of a tokio runtime.
    ///
    /// # Panics
    /// As [`Dlq::redrive`].
    ///
    /// ```
    /// use prodigy_storage::{AsyncStorage, DeadLetter, ItemId, Outcome, RedriveOptions, Select};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let dlq = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
    /// dlq.push(&DeadLetter::new(ItemId::new("item-3")?, 3)).await?;
    /// let report = dlq
    ///     .redrive(Select::eligible(), &RedriveOptions::new(), async |item| match item.data::<u32>() {
    ///         Ok(_) => Outcome::Done,
    ///         Err(error) => Outcome::park(error.to_string()),
    ///     })
    ///     .await?;
    /// assert_eq!(report.done, 1);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    pub fn redrive(
        &self,
        select: Select,
        options: &RedriveOptions,
        work: impl AsyncFn(&DlqItem) -> Outcome + Send + Sync + 'static,
    ) -> Call<RedriveReport, RedriveError> {
        let (blocking, threads, options) =
            (self.blocking.clone(), Arc::clone(&self.threads), options.clone());
        Call::new(async move {
            let runtime = Handle::try_current().map_err(|error| RedriveError::unbegun(no_runtime(error)))?;
            let (sender, cancelled) = watch::channel(());
            // A runtime that shuts down drops its tasks, and only then ends its timers.
            let mut of_runtime = JoinSet::new();
            let polls = Arc::new(RwLock::new(()));
            let shuts_down = ShutsDown {
                cancel: sender.clone(),
                polls: Arc::clone(&polls),
            };
            of_runtime.spawn_on(
                async move {
                    let _shuts_down = shuts_down;
                    pending::<()>().await;
                },
                &runtime,
            );
            let dropped = Cancels(sender);
            let stops = {
                let (cancelled, options) = (cancelled.clone(), options.clone());
                move || !matches!(cancelled.has_changed(), Ok(false)) || options.stops()
            };
            let options = options.stop(stops);
            let run = move || {
                blocking.redrive(select, &options, |item| {
                    let mut cancelled = cancelled.clone();
                    runtime.block_on(async {
                        let (mut work, mut cancelled) = (pin!(work(item)), pin!(cancelled.changed()));
                        // The work of a cancelled run is not polled again: its runtime may have shut down.
                        poll_fn(|context| {
                            let _polls = polls.read();
                            match cancelled.as_mut().poll(context) {
                                Poll::Pending => work.as_mut().poll(context),
                                Poll::Ready(_) => Poll::Ready(Outcome::release()),
                            }
                        })
                        .await
                    })
                })
            };
            let report = threads.wait("redrive", run).await;
            drop((dropped, of_runtime));
            report.unwrap_or_else(|error| Err(RedriveError::unbegun(error)))
        })
    }
}

/// The longest wait of a runtime that shuts down for a poll of work, which should take no time.
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// Cancels a redrive when its runtime shuts down, and waits until its work is no longer polled: the work would find timers that have
/// ended, and panic.
struct ShutsDown {
    cancel: watch::Sender<()>,
    /// Locked for reading during each poll of work.
    polls: Arc<RwLock<()>>,
}

impl Drop for ShutsDown {
    fn drop(&mut self) {
        self.cancel.send_replace(());
        drop(self.polls.try_write_for(LONGEST_POLL));
    }
}

/// Cancels a redrive when it is dropped.
struct Cancels(watch::Sender<()>);

impl Drop for Cancels {
    fn drop(&mut self) {
        self.0.send_replace(());
    }
}

fn no_runtime(error: tokio::runtime::TryCurrentError) -> StorageError {
    StorageError::new(
        ErrorKind::Unsupported,
        "redrive",
        "",
        "there is no tokio runtime to run the work in",
    )
    .with_hint("await the redrive in a tokio runtime")
    .with_source(error)
}

impl Wrap for DlqScan {
    type Wrapped = ItemStream<DlqItem>;

    fn wrap(self, threads: &Arc<Threads>) -> ItemStream<DlqItem> {
        ItemStream::new(self, threads)
    }
}

mirror! {
    /// [`Taken`] for asynchronous tasks. Dropping it releases the item shortly after, on a thread of the handle,
    /// unless the item was settled or [kept](Self::keep). The release waits until the futures of its methods have
    /// ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use prodigy_storage::{AsyncStorage, DeadLetter, ItemId, Select, Settled};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let dlq = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.dlq();
    /// dlq.push(&DeadLetter::new(ItemId::new("a")?, 1)).await?;
    /// for taken in dlq.take(&Select::eligible(), 10, Duration::from_secs(60)).await? {
    ///     assert_eq!(taken.data::<u32>()?, 1);
    ///     assert_eq!(taken.ack().await?, Settled::Done);
    /// }
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "the item is released as soon as this is dropped"]
    AsyncTaken of Taken as Arc<InTask> {
        fn id(&self) -> &ItemId;
        fn token(&self) -> &LeaseToken;
        fn data<T: DeserializeOwned>(&self) -> Result<T>;
        async fn extend(&self, lease: Duration) -> Settled;
        async fn ack(&self) -> Settled;
        async fn release(&self, delay: Duration) -> Settled;
        async fn fail(&self, failure: Failure) -> Settled;
        async fn park(&self, reason: Option<&str>) -> Settled;
        fn keep(&self) -> ();
    }
}

impl AsyncTaken {
    /// The item as it was when it was taken.
    #[must_use]
    pub fn item(&self) -> &DlqItem {
        &self.blocking.item
    }

    /// The lease under which the item was taken.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.blocking.lease
    }
}

impl Wrap for Taken {
    type Wrapped = AsyncTaken;

    fn wrap(self, threads: &Arc<Threads>) -> AsyncTaken {
        let threads = Arc::clone(threads);
        AsyncTaken {
            blocking: Arc::new(InTask {
                taken: self,
                threads: Arc::clone(&threads),
            }),
            threads,
        }
    }
}

/// A taken item that is released on another thread when it is dropped, so that the release does not block a task.
#[derive(Debug)]
struct InTask {
    taken: Taken,
    threads: Arc<Threads>,
}

impl HasTarget for Arc<InTask> {
    fn target(&self) -> Target {
        self.taken.target()
    }
}

impl Deref for InTask {
    type Target = Taken;

    fn deref(&self) -> &Taken {
        &self.taken
    }
}

impl Drop for InTask {
    fn drop(&mut self) {
        if let Some(release) = self.taken.let_go() {
            self.threads.operations.run(release);
        }
    }
}
