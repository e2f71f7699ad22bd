//! Listings that are read page by page.

use std::fmt;
use std::sync::Arc;

use prodigy_storage_backend::{Backend, Deadline, DocumentEntry, Entries, Page, PageOptions, Result};
use prodigy_storage_layout::DocumentScope;

use crate::call::operation::{LIST, Operation};
use crate::storage::Inner;

/// The entries of a listing: an iterator that reads them page by page, and holds at most one page in memory.
///
/// An entry that exists during the whole iteration is returned once. An entry that is created or removed meanwhile
/// may be returned or not. `timeout` bounds the reading of each page. After an error the iterator ends.
///
/// ```
/// # use prodigy_storage::Storage;
/// # let storage = Storage::in_memory()?;
/// # storage.repo("shop")?.job("mapreduce-7")?.events().append(&"started")?;
/// for job in storage.repo("shop")?.jobs() {
///     println!("{}", job?);
/// }
/// assert_eq!(storage.repositories().all()?.len(), 1);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[must_use = "a listing reads nothing until it is iterated over"]
pub struct Listing<T> {
    entries: Box<dyn Iterator<Item = Result<T>> + Send>,
}

impl<T: Send + 'static> Listing<T> {
    pub(crate) fn new<K: Send + 'static>(
        inner: Arc<Inner>,
        operation: Operation,
        target: impl fmt::Display + Send + 'static,
        read: impl Fn(&dyn Backend, &PageOptions<K>, Deadline) -> Result<Page<T, K>> + Send + 'static,
    ) -> Self {
        let entries = Entries::new(move |page| {
            let deadline = inner.deadline();
            inner.caller.call(operation, &target, deadline, |backend| {
                read(backend, page, deadline)
            })
        });
        Self {
            entries: Box::new(entries),
        }
    }

    /// All remaining entries, in memory at once.
    ///
    /// # Errors
    /// The first error of the listing.
    pub fn all(self) -> Result<Vec<T>> {
        self.collect()
    }
}

impl<T: 'static> Listing<T> {
    /// The results of `keep` that are not `None`. Errors are passed on.
    pub(crate) fn keep<U>(self, mut keep: impl FnMut(T) -> Option<U> + Send + 'static) -> Listing<U> {
        let entries = self
            .entries
            .filter_map(move |entry| entry.map(&mut keep).transpose());
        Listing {
            entries: Box::new(entries),
        }
    }
}

impl Listing<DocumentEntry> {
    pub(crate) fn documents(inner: &Arc<Inner>, scope: DocumentScope) -> Self {
        Self::new(Arc::clone(inner), LIST, "", move |backend, page, deadline| {
            backend.list(&scope, page, deadline)
        })
    }
}

impl<T> Iterator for Listing<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").finish_non_exhaustive()
    }
}
