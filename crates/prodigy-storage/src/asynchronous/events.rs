//! The events of a job, for tasks.

use std::sync::Arc;

use prodigy_storage_backend::{Appended, Batch, Cursor, Durability, EventId, LogSummary, Result};
use prodigy_storage_layout::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::appends::{How, Ids};
use super::mirror::{method, mirror, rows};
use super::threads::Threads;
use super::{Call, EventStream, FollowAllStream, FollowStream, Wrap};
use crate::events::{
    AppendOptions, EventCounts, EventReader, Events, Follow, FollowAll, FollowOptions, ReadOptions,
};

mirror! {
    /// [`Events`] for asynchronous tasks.
    ///
    /// Appends of many tasks share calls and syncs. If a task awaits each of its appends before the next one, they
    /// are stored in that order.
    ///
    /// ```
    /// # use prodigy_storage::AsyncStorage;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let events = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.events();
    /// let tasks: Vec<_> = (0..1000).map(|agent| tokio::spawn(events.append(&agent))).collect();
    /// for task in tasks {
    ///     task.await.expect("no panic")?;
    /// }
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncEvents of Events {
        #[wrapped]
        async fn read<T: DeserializeOwned>(&self) -> EventStream<T>;
        #[wrapped]
        async fn read_with<T: DeserializeOwned>(&self, options: ReadOptions) -> EventStream<T>;
        #[wrapped]
        async fn follow<T: DeserializeOwned>(&self, cursor: Option<Cursor>) -> FollowStream<T>;
        #[wrapped]
        async fn follow_with<T: DeserializeOwned>(&self, options: FollowOptions) -> FollowStream<T>;
        #[wrapped]
        async fn tail<T: DeserializeOwned>(&self, count: usize) -> EventStream<T>;
        async fn count(&self, options: ReadOptions) -> EventCounts;
        async fn end(&self) -> Cursor;
        async fn summary(&self) -> LogSummary;
        async fn removable_before(&self, before: Timestamp) -> LogSummary;
        async fn remove_before(&self, before: Timestamp) -> LogSummary;
    }
}

impl AsyncEvents {
    /// Like [`Events::append`]. The event is serialised before this method returns.
    pub fn append<T: Serialize + ?Sized>(&self, event: &T) -> Call<EventId> {
        self.append_with(event, AppendOptions::new())
    }

    /// Like [`Events::append_with`]. The event is serialised before this method returns.
    pub fn append_with<T, M>(&self, event: &T, options: AppendOptions<'_, M>) -> Call<EventId>
    where
        T: Serialize + ?Sized,
        M: Serialize,
    {
        let mut batch = Batch::new();
        let filled = batch.push_with(event, options.annotations());
        batch.set_ids(options.id);
        let appended = self.store(filled.map(|()| batch), options.durability, false);
        let blocking = self.blocking.clone();
        Call::new(async move {
            let (ids, _) = appended.await?;
            ids.first().copied().ok_or_else(|| blocking.without_ids())
        })
    }

    /// Like [`Events::append_batch`]. The events are serialised before this method returns.
    pub fn append_batch<T: Serialize>(&self, events: impl IntoIterator<Item = T>) -> Call<Vec<EventId>> {
        self.append_batch_with(events, AppendOptions::new())
    }

    /// Like [`Events::append_batch_with`]. The events are serialised before this method returns.
    pub fn append_batch_with<T, M>(
        &self,
        events: impl IntoIterator<Item = T>,
        options: AppendOptions<'_, M>,
    ) -> Call<Vec<EventId>>
    where
        T: Serialize,
        M: Serialize,
    {
        let mut batch = Batch::new();
        let filled = self.blocking.fill(&mut batch, events, &options);
        let appended = self.store(filled.map(|()| batch), options.durability, false);
        Call::new(async move { Ok(appended.await?.0) })
    }

    /// Like [`Events::append_prepared`]. The batch gets its ids when the future completes; if the future is
    /// dropped, the batch is unchanged.
    pub fn append_prepared<'b>(
        &self,
        batch: &'b mut Batch,
        durability: Option<Durability>,
    ) -> impl Future<Output = Result<Appended>> + Send + use<'b> {
        let appended = self.store(Ok(batch.clone()), durability, true);
        async move {
            let appended = appended.await;
            let ids = match &appended {
                Ok((ids, _)) => ids,
                Err(error) => error.ids(),
            };
            if !ids.is_empty() {
                batch.set_ids(ids.iter().copied());
            }
            appended.map(|(_, appended)| appended)
        }
    }

    fn store(
        &self,
        batch: Result<Batch>,
        durability: Option<Durability>,
        alone: bool,
    ) -> impl Future<Output = Result<Ids>> + Send + use<> {
        let (events, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        async move {
            let mut batch = batch?;
            batch.set_fence(events.fence.as_ref());
            if batch.is_empty() {
                return Ok((Vec::new(), Appended::default()));
            }
            threads
                .append(&events.inner, &events.job, batch, How { durability, alone })
                .await
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Wrap for EventReader<T> {
    type Wrapped = EventStream<T>;

    fn wrap(self, threads: &Arc<Threads>) -> EventStream<T> {
        EventStream::new(self, threads)
    }
}

impl<T: DeserializeOwned + Send + 'static> Wrap for Follow<T> {
    type Wrapped = FollowStream<T>;

    fn wrap(self, threads: &Arc<Threads>) -> FollowStream<T> {
        FollowStream::new(self, threads)
    }
}

impl<T: DeserializeOwned + Send + 'static> Wrap for FollowAll<T> {
    type Wrapped = FollowAllStream<T>;

    fn wrap(self, threads: &Arc<Threads>) -> FollowAllStream<T> {
        FollowAllStream::new(self, threads)
    }
}
