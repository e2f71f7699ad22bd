//! Calls on documents, and the cache for reading them.

use prodigy_storage_backend::{
    Added, Body, Deadline, Durability, Expected, Fence, PutOptions, Result, Revision, Stats, StorageError,
    StoredDocument,
};
use prodigy_storage_cache::{Cache, CacheEvent, CacheSettings, LoadError, Loaded};
use prodigy_storage_layout::{Document, JobAddress, Phase};

use super::Caller;
use super::operation::{ADD, DELETE, GET, PUT, REVISION};

/// The estimated memory that a cache entry uses besides its document.
const OVERHEAD: u64 = 512;

/// A cache of documents. A cached document is returned only if the backend reports the same revision, so that a
/// write of another process is never hidden. A hit saves reading and verifying the document, but the revision is
/// still read.
///
/// A missing document is not cached, and neither is a document that is larger than the whole cache.
#[derive(Debug)]
pub(super) struct DocumentCache {
    documents: Cache<Document, Option<StoredDocument>>,
    max_bytes: u64,
}

impl DocumentCache {
    pub(super) fn new(settings: &CacheSettings) -> Self {
        Self {
            documents: Cache::new(settings),
            max_bytes: settings.max_bytes,
        }
    }

    /// Makes a cache entry of a document, with its size in memory.
    fn loaded(&self, stored: Option<StoredDocument>) -> Loaded<Option<StoredDocument>> {
        let Some(stored) = stored else {
            return Loaded::pass(None);
        };
        let weight = u64::try_from(stored.weight())
            .unwrap_or(u64::MAX)
            .saturating_add(OVERHEAD);
        if weight > self.max_bytes {
            Loaded::pass(Some(stored))
        } else {
            Loaded::keep(Some(stored), weight)
        }
    }

    pub(super) fn stats(&self, stats: &mut Stats) {
        let counts = self.documents.stats();
        for (name, count) in [
            ("cache.hits", counts.hits),
            ("cache.misses", counts.misses),
            ("cache.shared", counts.shared),
            ("cache.stale", counts.stale),
            ("cache.failed_loads", counts.failed_loads),
            ("cache.evicted", counts.evicted),
            ("cache.expired", counts.expired),
            ("cache.entries", u64::try_from(counts.entries).unwrap_or(u64::MAX)),
            ("cache.bytes", counts.bytes),
        ] {
            stats.add(name, count);
        }
    }
}

impl Caller {
    /// Reads a document, from the cache if the backend still has the cached revision.
    ///
    /// Threads that miss the same document at the same time load it once. A thread waits for another thread's load only
    /// until its own deadline.
    pub(crate) fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        let load = || self.call(GET, document, deadline, |backend| backend.get(document, deadline));
        let Some(cache) = &self.cache else {
            return load();
        };
        let found = cache.documents.get_or_load_observed(
            document,
            deadline.instant(),
            |found| Ok(self.revision(document, deadline)? == found.as_ref().map(StoredDocument::revision)),
            || load().map(|stored| cache.loaded(stored)),
            &|event| trace(document, event),
        );
        found.map_err(|error| match error {
            LoadError::Failed(error) => error,
            _ => StorageError::timeout(
                GET.name,
                document,
                "another thread that loads the same document into the cache",
            ),
        })
    }

    /// The revision of a document, at less cost than reading the document.
    pub(crate) fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        self.call(REVISION, document, deadline, |backend| {
            backend.revision(document, deadline)
        })
    }

    /// Stores a document, whole or not at all.
    pub(crate) fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        self.warn_if_large(document, body);
        let stored = self.call(PUT, document, deadline, |backend| {
            backend.put(document, body, options, deadline)
        });
        self.forget(document);
        stored
    }

    /// Adds a document to a checkpoint series.
    pub(crate) fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        self.warn_if_large(job, body);
        let added = self.call(ADD, job, deadline, |backend| {
            backend.add(job, phase, body, options, deadline)
        });
        // Only setup reuses a name. In every other phase the new document has a new name, which can't be cached.
        if phase == Phase::Setup {
            self.forget(&Document::Setup(job.clone()));
        }
        added
    }

    /// Deletes a document; false if it did not exist.
    pub(crate) fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        let deleted = self.call(DELETE, document, deadline, |backend| {
            backend.delete(document, expected, durability, fence, deadline)
        });
        self.forget(document);
        deleted
    }

    /// Logs a warning if a document is larger than a tenth of the limit, and is not refused.
    fn warn_if_large(&self, target: &dyn std::fmt::Display, body: Body<'_>) {
        let bytes = body.as_bytes().len() as u64;
        if self.large_documents.contains(&bytes) {
            tracing::warn!(
                %target,
                bytes,
                "the document is larger than a tenth of `max_document_size`: keep large data in files of its own, and their paths here"
            );
        }
    }

    /// Removes a document from the cache after a write, even a failed one, so that the next read through this
    /// handle is not older than the write.
    fn forget(&self, document: &Document) {
        if let Some(cache) = &self.cache {
            cache.documents.remove(document);
        }
    }
}

/// Emits the `tracing` event of a change of the cache. `document` is the document that was read; an evicted
/// document is another one.
fn trace(document: &Document, event: CacheEvent) {
    match event {
        CacheEvent::Hit => tracing::trace!(%document, "cache hit"),
        CacheEvent::Miss => tracing::trace!(%document, "cache miss"),
        CacheEvent::Shared => tracing::trace!(%document, "cache load shared"),
        CacheEvent::Stale => tracing::trace!(%document, "cache entry stale"),
        CacheEvent::FailedLoad => tracing::debug!(%document, "cache load failed"),
        CacheEvent::Evicted => tracing::trace!(replaced_by = %document, "cache entry evicted"),
        _ => {}
    }
}
