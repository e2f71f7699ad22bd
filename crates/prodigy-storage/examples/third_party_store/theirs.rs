//! The storage traits of another program, which do not depend on this library.

use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::mpsc::Receiver;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An event as it is read back.
#[derive(Debug)]
pub(crate) struct StoredEvent {
    pub(crate) id: String,
    pub(crate) at: SystemTime,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// The events that a query asks for.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) kind: Option<String>,
    pub(crate) since: Option<SystemTime>,
    pub(crate) limit: Option<usize>,
}

pub(crate) trait EventStore {
    async fn append(&self, job: &str, kind: &str, data: Value) -> Result<String>;
    async fn query(&self, job: &str, query: Query) -> Result<Vec<StoredEvent>>;
    /// Events from now on, until the job is archived.
    async fn subscribe(&self, job: &str) -> Result<Receiver<StoredEvent>>;
    /// Closes the log of a job.
    async fn archive(&self, job: &str) -> Result;
    async fn count(&self, job: &str) -> Result<u64>;
}

/// Sessions and workflows: values with a name.
pub(crate) trait ValueStore {
    async fn save(&self, name: &str, value: &Value) -> Result;
    async fn load(&self, name: &str) -> Result<Option<Value>>;
    async fn names(&self) -> Result<Vec<String>>;
    async fn delete(&self, name: &str) -> Result<bool>;
}

pub(crate) trait CheckpointStore {
    async fn save(&self, job: &str, id: &str, state: &Value) -> Result;
    async fn load(&self, job: &str, id: &str) -> Result<Option<Value>>;
    async fn latest(&self, job: &str) -> Result<Option<Value>>;
}

/// A dead letter as it is listed.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) error: Option<String>,
    pub(crate) attempts: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LetterStats {
    pub(crate) pending: u64,
    pub(crate) archived: u64,
}

pub(crate) trait DeadLetterStore {
    async fn add(&self, job: &str, id: &str, data: Value, error: &str) -> Result;
    async fn get(&self, job: &str, id: &str) -> Result<Option<Value>>;
    /// The letters that are not archived.
    async fn list(&self, job: &str) -> Result<Vec<Letter>>;
    async fn remove(&self, job: &str, id: &str) -> Result<bool>;
    /// Archives the letter: it is kept, and is not tried again.
    async fn archive(&self, job: &str, id: &str) -> Result<bool>;
    async fn stats(&self, job: &str) -> Result<LetterStats>;
}
