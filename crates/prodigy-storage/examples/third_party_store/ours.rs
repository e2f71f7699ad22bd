//! The traits of another program, implemented with `AsyncStorage` on any backend.

use std::time::SystemTime;

use prodigy_storage::{
    AsyncDlq, AsyncDocuments, AsyncRepo, AsyncStorage, CheckpointKey, DeadLetter, DocumentOptions, Event,
    EventFilter, Failure, FollowOptions, ItemId, Phase, ReadOptions, SaveOptions, Select, Settled, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};

use crate::theirs::{
    CheckpointStore, DeadLetterStore, EventStore, Letter, LetterStats, Query, Result, StoredEvent, ValueStore,
};

/// The events, checkpoints and dead letters of a repository's jobs.
pub(crate) struct Store(AsyncRepo);

/// The values of one kind.
pub(crate) struct Values(AsyncDocuments);

#[derive(Serialize, Deserialize)]
struct Payload {
    kind: String,
    data: Value,
}

impl Store {
    pub(crate) fn new(storage: &AsyncStorage, repo: &str) -> Result<Self> {
        Ok(Self(storage.repo(repo)?))
    }

    /// Sessions, workflows and other named values.
    pub(crate) fn values(&self, kind: &str) -> Result<Values> {
        Ok(Values(self.0.documents(kind)?))
    }

    fn dlq(&self, job: &str) -> Result<AsyncDlq> {
        Ok(self.0.job(job)?.dlq())
    }
}

fn stored(event: Event<Payload>) -> StoredEvent {
    StoredEvent {
        id: event.id.to_string(),
        at: SystemTime::from(event.timestamp),
        kind: event.event.kind,
        data: event.event.data,
    }
}

impl EventStore for Store {
    async fn append(&self, job: &str, kind: &str, data: Value) -> Result<String> {
        let kind = kind.to_owned();
        let id = self.0.job(job)?.events().append(&Payload { kind, data }).await?;
        Ok(id.to_string())
    }

    async fn query(&self, job: &str, query: Query) -> Result<Vec<StoredEvent>> {
        let kind = query.kind.map(|kind| EventFilter::equals("kind", kind));
        let since = query.since.map(Timestamp::from);
        let options = ReadOptions::new().since(since).filters(kind);
        let mut events = self.0.job(job)?.events().read_with::<Payload>(options).await?;
        let mut found = Vec::new();
        while query.limit.is_none_or(|limit| found.len() < limit)
            && let Some(event) = events.next().await
        {
            found.push(stored(event?.event));
        }
        Ok(found)
    }

    async fn subscribe(&self, job: &str) -> Result<Receiver<StoredEvent>> {
        let options = FollowOptions::new().from_now().until_finished();
        let mut events = self.0.job(job)?.events().follow_with::<Payload>(options).await?;
        let (sender, receiver) = channel(64);
        tokio::spawn(async move {
            // The follow ends when the receiver is dropped; the receiver ends after an error.
            while let Some(Ok(event)) = events.next().await {
                if sender.send(stored(event.event)).await.is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }

    async fn archive(&self, job: &str) -> Result {
        Ok(self.0.job(job)?.finish().await?)
    }

    async fn count(&self, job: &str) -> Result<u64> {
        let counts = self.0.job(job)?.events().count(ReadOptions::new()).await?;
        Ok(counts.events)
    }
}

impl ValueStore for Values {
    async fn save(&self, name: &str, value: &Value) -> Result {
        self.0.put(name, value, DocumentOptions::new()).await?;
        Ok(())
    }

    async fn load(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.0.get(name).await?.map(|found| found.data))
    }

    async fn names(&self) -> Result<Vec<String>> {
        let found = self.0.list().all().await?;
        Ok(found.into_iter().map(|info| info.name.to_string()).collect())
    }

    async fn delete(&self, name: &str) -> Result<bool> {
        Ok(self.0.delete(name, DocumentOptions::new()).await?)
    }
}

impl CheckpointStore for Store {
    async fn save(&self, job: &str, id: &str, state: &Value) -> Result {
        let options = SaveOptions::new().key(id.parse::<CheckpointKey>()?);
        self.0
            .job(job)?
            .checkpoints()
            .save(Phase::Map, state, options)
            .await?;
        Ok(())
    }

    async fn load(&self, job: &str, id: &str) -> Result<Option<Value>> {
        let found = self.0.job(job)?.checkpoints().find(id).await?;
        Ok(found.map(|checkpoint| checkpoint.data))
    }

    async fn latest(&self, job: &str) -> Result<Option<Value>> {
        let found = self.0.job(job)?.checkpoints().latest(Phase::Map).await?;
        Ok(found.map(|checkpoint| checkpoint.data))
    }
}

impl DeadLetterStore for Store {
    async fn add(&self, job: &str, id: &str, data: Value, error: &str) -> Result {
        let letter = DeadLetter::new(ItemId::new(id)?, data).failure(Failure::new("error", error));
        self.dlq(job)?.push(&letter).await?;
        Ok(())
    }

    async fn get(&self, job: &str, id: &str) -> Result<Option<Value>> {
        let found = self.dlq(job)?.get(&ItemId::new(id)?).await?;
        Ok(found.map(|item| item.data()).transpose()?)
    }

    async fn list(&self, job: &str) -> Result<Vec<Letter>> {
        let found = self.dlq(job)?.list(&Select::eligible()).await?.all().await?;
        let letters = found.into_iter().map(|item| Letter {
            id: item.id.to_string(),
            error: item.signature,
            attempts: item.failure_count,
        });
        Ok(letters.collect())
    }

    async fn remove(&self, job: &str, id: &str) -> Result<bool> {
        let settled = self.dlq(job)?.remove(&[ItemId::new(id)?]).await?;
        Ok(settled == [Settled::Done])
    }

    async fn archive(&self, job: &str, id: &str) -> Result<bool> {
        let settled = self.dlq(job)?.park([ItemId::new(id)?], Some("archived")).await?;
        Ok(settled == [Settled::Done])
    }

    async fn stats(&self, job: &str) -> Result<LetterStats> {
        let summary = self.dlq(job)?.summary().await?;
        let archived = summary.parked;
        Ok(LetterStats {
            pending: summary.items - archived,
            archived,
        })
    }
}
