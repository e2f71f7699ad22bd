//! The dead letters of a job, for tasks.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

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
    /// Dropping the future stops the run. Running work is dropped, and its items are released, as are taken items
    /// whose work has not begun.
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
            // Dropped together with this future; `stops` then sees that the channel is closed.
            let (alive, cancelled) = watch::channel(());
            let stops = {
                let (cancelled, options) = (cancelled.clone(), options.clone());
                move || cancelled.has_changed().is_err() || options.stops()
            };
            let options = options.stop(stops);
            let run = move || {
                blocking.redrive(select, &options, |item| {
                    let mut cancelled = cancelled.clone();
                    runtime.block_on(async {
                        let (mut work, mut cancelled) = (pin!(work(item)), pin!(cancelled.changed()));
                        poll_fn(|context| match work.as_mut().poll(context) {
                            Poll::Pending => cancelled.as_mut().poll(context).map(|_| Outcome::release()),
                            outcome => outcome,
                        })
                        .await
                    })
                })
            };
            let report = threads.wait("redrive", run).await;
            drop(alive);
            report.unwrap_or_else(|error| Err(RedriveError::unbegun(error)))
        })
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
