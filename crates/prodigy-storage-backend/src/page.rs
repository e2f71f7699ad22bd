//! Listings in pages.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::Result;

/// Selects a page of a listing; `Default` is the first page.
///
/// `K` is the key by which the listing is ordered. A page begins after the key of the last entry of the page
/// before. So every page costs one round trip, and no entry is skipped or returned twice when other entries are
/// added or removed.
///
/// ```
/// use prodigy_storage_backend::PageOptions;
/// use prodigy_storage_layout::JobId;
///
/// let next = PageOptions::after(JobId::new("mapreduce-7")?).limit(100);
/// assert_eq!(next.limit, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageOptions<K> {
    /// Only entries with a key above this one; an entry with this key need not exist. All entries if `None`.
    pub after: Option<K>,
    /// The largest number of entries. Zero counts as one.
    pub limit: usize,
}

impl<K> PageOptions<K> {
    /// The default limit.
    pub const LIMIT: usize = 10_000;

    /// The page that begins after this key, with the default limit.
    #[must_use]
    pub fn after(key: K) -> Self {
        Self {
            after: Some(key),
            ..Self::default()
        }
    }

    /// Sets the largest number of entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl<K> Default for PageOptions<K> {
    fn default() -> Self {
        Self {
            after: None,
            limit: Self::LIMIT,
        }
    }
}

/// A page of a listing.
///
/// ```
/// use prodigy_storage_backend::Page;
///
/// let page: Page<&str> = Page::new(vec!["a", "b"], Some("b"));
/// assert_eq!(page.next, Some("b"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T, K = T> {
    /// The entries, in the order of the listing. Even a page that is not the last may have few entries or none,
    /// because entries that were removed while it was read are left out.
    pub entries: Vec<T>,
    /// The key after which the next page begins; `None` on the last page.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// A page with these entries.
    #[must_use]
    pub fn new(entries: Vec<T>, next: Option<K>) -> Self {
        Self { entries, next }
    }

    /// The first page of these entries, with at most `limit` of them. If there are more entries, the next page
    /// begins after the key of this page's last entry.
    ///
    /// ```
    /// use prodigy_storage_backend::Page;
    ///
    /// let page = Page::up_to(2, vec!["a", "b", "c"], |entry| *entry);
    /// assert_eq!((page.entries, page.next), (vec!["a", "b"], Some("b")));
    /// ```
    #[must_use]
    pub fn up_to(limit: usize, mut entries: Vec<T>, key: impl FnOnce(&T) -> K) -> Self {
        let goes_on = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| goes_on).map(key);
        Self::new(entries, next)
    }

    /// True if this page and all later ones have no entries: it is empty and the last one.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.entries.is_empty() && self.next.is_none()
    }
}

/// Collects the keys of a page from keys in any order, for a backend whose keys are unsorted or repeated.
///
/// The builder holds at most one key more than the page, however many keys are offered.
///
/// ```
/// use prodigy_storage_backend::{PageBuilder, PageOptions};
///
/// let mut page = PageBuilder::new(PageOptions::after(1).limit(2));
/// for key in [4, 1, 3, 2, 3] {
///     page.offer(key);
/// }
/// let page = page.finish();
/// assert_eq!((page.entries, page.next), (vec![2, 3], Some(3)));
/// ```
#[derive(Debug)]
pub struct PageBuilder<K> {
    options: PageOptions<K>,
    keys: BTreeSet<K>,
}

impl<K: Ord + Clone> PageBuilder<K> {
    /// A page that has no keys yet.
    #[must_use]
    pub fn new(options: PageOptions<K>) -> Self {
        Self {
            options: PageOptions {
                limit: options.limit.max(1),
                ..options
            },
            keys: BTreeSet::new(),
        }
    }

    /// Adds a key, unless it belongs to another page.
    pub fn offer(&mut self, key: K) {
        let is_before = self.options.after.as_ref().is_some_and(|after| key <= *after);
        let is_full = self.keys.len() > self.options.limit;
        if is_before || (is_full && self.keys.last().is_some_and(|last| key >= *last)) {
            return;
        }
        if self.keys.insert(key) && is_full {
            self.keys.pop_last();
        }
    }

    /// The page, with its keys sorted.
    #[must_use]
    pub fn finish(self) -> Page<K> {
        Page::up_to(self.options.limit, self.keys.into_iter().collect(), K::clone)
    }
}

impl<K: Ord + Clone> Extend<K> for PageBuilder<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.offer(key);
        }
    }
}

/// Iterates over the entries of a listing, and holds one page at a time. Ends after the first error.
///
/// ```
/// use prodigy_storage_backend::{Catalog, Deadline, Entries, Result};
/// use prodigy_storage_layout::{JobId, RepoName};
///
/// fn count(catalog: &dyn Catalog, repo: &RepoName) -> Result<usize> {
///     let jobs = Entries::new(|page| catalog.jobs(repo, page, Deadline::never()));
///     jobs.map(|job| job.map(|_| 1)).sum()
/// }
/// ```
pub struct Entries<T, K, F> {
    read: F,
    options: PageOptions<K>,
    page: std::vec::IntoIter<T>,
    ended: bool,
}

impl<T, K, F> Entries<T, K, F>
where
    F: FnMut(&PageOptions<K>) -> Result<Page<T, K>>,
{
    /// The entries of all pages. `read` reads the page with the given options.
    pub fn new(read: F) -> Self {
        Self {
            read,
            options: PageOptions::default(),
            page: Vec::new().into_iter(),
            ended: false,
        }
    }

    /// Sets the largest number of entries in a page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.options.limit = limit;
        self
    }
}

impl<T, K, F> Iterator for Entries<T, K, F>
where
    F: FnMut(&PageOptions<K>) -> Result<Page<T, K>>,
{
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.ended {
                return None;
            }
            // The buffer of the finished page is freed before the next page is read, so that there is never a
            // second buffer.
            self.page = Vec::new().into_iter();
            match (self.read)(&self.options) {
                Ok(page) => {
                    self.ended = page.next.is_none();
                    self.options.after = page.next;
                    self.page = page.entries.into_iter();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<T, K: fmt::Debug, F> fmt::Debug for Entries<T, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("after", &self.options.after)
            .field("left_in_page", &self.page.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, StorageError};

    #[test]
    fn pages_of_any_limit_join_to_the_whole_listing() {
        let keys = [7, 3, 9, 3, 1, 8, 2, 9];
        for limit in 0..10 {
            let mut sizes = Vec::new();
            let all: Vec<i32> = Entries::new(|page: &PageOptions<i32>| {
                let mut builder = PageBuilder::new(page.clone());
                builder.extend(keys);
                assert!(
                    builder.keys.len() <= limit.max(1) + 1,
                    "more keys are held than needed"
                );
                let page = builder.finish();
                sizes.push(page.entries.len());
                Ok(page)
            })
            .limit(limit)
            .collect::<Result<_>>()
            .unwrap();
            assert_eq!(all, [1, 2, 3, 7, 8, 9], "limit {limit}");
            assert_eq!(
                sizes.len(),
                6usize.div_ceil(limit.max(1)),
                "limit {limit}: {sizes:?}"
            );
        }
    }

    #[test]
    fn an_empty_page_does_not_end_a_listing_and_an_error_does() {
        let mut pages = vec![
            Err(StorageError::new(ErrorKind::Io, "test", "", "scripted")),
            Ok(Page::new(vec![2], Some(2))),
            Ok(Page::new(Vec::new(), Some(1))),
        ];
        let entries = Entries::new(|_: &PageOptions<i32>| pages.pop().unwrap());
        let seen: Vec<_> = entries.map(|entry| entry.map_err(|error| error.kind())).collect();
        assert_eq!(seen, [Ok(2), Err(ErrorKind::Io)]);
    }
}
