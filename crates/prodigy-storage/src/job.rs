//! A job.

use std::sync::Arc;

use prodigy_storage_backend::{Body, ErrorKind, Expected, PutOptions, Result};
use prodigy_storage_layout::{Document, DocumentOwner, JobAddress, Timestamp};
use serde::{Deserialize, Serialize};

use crate::call::operation::SEAL;
use crate::checkpoints::Checkpoints;
use crate::dlq::Dlq;
use crate::documents::{self, DocumentInfo, Documents};
use crate::error::other_shape;
use crate::events::Events;
use crate::listing::Listing;
use crate::orphans::Orphans;
use crate::storage::Inner;

/// A job: its events, checkpoints, documents, dead letters and orphaned worktrees.
///
/// Cheap to clone, and so are the stores that it hands out.
///
/// ```
/// # use prodigy_storage::{SaveOptions, Storage};
/// # let storage = Storage::in_memory()?;
/// let job = storage.repo("shop")?.job("mapreduce-7")?;
/// job.events().append(&"started")?;
/// job.checkpoints().save_setup(&"3 items", SaveOptions::new())?;
/// job.finish()?;
/// assert!(job.finished_at()?.is_some());
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    inner: Arc<Inner>,
    address: JobAddress,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    finished_at: Timestamp,
}

impl Job {
    pub(crate) fn new(inner: Arc<Inner>, address: JobAddress) -> Self {
        Self { inner, address }
    }

    /// Its repository and id.
    #[must_use]
    pub fn address(&self) -> &JobAddress {
        &self.address
    }

    /// Its log, shared by every worktree and process.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.inner), self.address.clone())
    }

    /// Its checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(Arc::clone(&self.inner), self.address.clone())
    }

    /// Its documents of a kind of your own, such as `sessions`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a text that is no name.
    pub fn documents(&self, kind: impl AsRef<str>) -> Result<Documents> {
        Documents::new(Arc::clone(&self.inner), self.owner(), kind)
    }

    /// Its documents of every kind of your own, by kind and name.
    pub fn all_documents(&self) -> Listing<DocumentInfo> {
        documents::list(&self.inner, self.owner(), None)
    }

    fn owner(&self) -> DocumentOwner {
        DocumentOwner::Job(self.address.clone())
    }

    /// Its dead letters.
    #[must_use]
    pub fn dlq(&self) -> Dlq {
        Dlq::new(Arc::clone(&self.inner), self.address.clone())
    }

    /// Its worktrees that could not be cleaned up.
    #[must_use]
    pub fn orphans(&self) -> Orphans {
        Orphans::new(Arc::clone(&self.inner), self.address.clone())
    }

    /// Closes what this process appends to and marks the job as finished. A second time changes nothing: the first
    /// mark stays. Nothing is refused afterwards; retention reads the mark.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn finish(&self) -> Result<()> {
        let deadline = self.inner.deadline();
        self.inner.caller.call(SEAL, &self.address, deadline, |backend| {
            backend.seal(&self.address, deadline)
        })?;
        let document = Document::Finished(self.address.clone());
        let mark = Finished {
            finished_at: self.inner.clock.now(),
        };
        let mut buffer = Vec::new();
        let body =
            Body::write(&mut buffer, &mark).map_err(|fault| fault.refused("finish job", &self.address))?;
        let options = PutOptions::new(self.inner.config.durability).expect(Expected::Absent);
        match self.inner.caller.put(&document, body, &options, deadline) {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other.map(drop),
        }
    }

    /// When it was finished; `None` while it is not.
    ///
    /// # Errors
    /// The errors of the backend.
    pub fn finished_at(&self) -> Result<Option<Timestamp>> {
        let document = Document::Finished(self.address.clone());
        let Some(stored) = self.inner.caller.get(&document, self.inner.deadline())? else {
            return Ok(None);
        };
        let mark: Finished = serde_json::from_slice(stored.body())
            .map_err(|error| other_shape("read finished mark", &self.address, error))?;
        Ok(Some(mark.finished_at))
    }
}
