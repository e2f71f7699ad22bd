//! Counters of a cache.

/// An increment of a counter of [`CacheStats`], reported to the caller whose lookup caused it.
///
/// ```
/// use std::cell::RefCell;
/// use std::convert::Infallible;
/// use prodigy_storage_cache::{Cache, CacheEvent, CacheSettings, Loaded};
///
/// let cache: Cache<u32, u32> = Cache::new(&CacheSettings::default());
/// let load = || Ok::<_, Infallible>(Loaded::keep(10, 4));
/// let seen = RefCell::new(Vec::new());
/// for _ in 0..2 {
///     cache.get_or_load_observed(&1, None, |_| Ok(true), load, &|event| seen.borrow_mut().push(event)).unwrap();
/// }
/// assert_eq!(seen.into_inner(), [CacheEvent::Miss, CacheEvent::Hit]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheEvent {
    /// The lookup was answered from an entry.
    Hit,
    /// The lookup was not answered from an entry.
    Miss,
    /// The lookup was answered by a load that another caller had begun.
    Shared,
    /// The check rejected a value.
    Stale,
    /// The load failed or panicked.
    FailedLoad,
    /// Storing the value evicted another entry.
    Evicted,
}

/// Counters of a [`Cache`](crate::Cache) since it was made, and its size now.
///
/// Every lookup is either a hit or a miss, unless its check failed: then it may be neither.
///
/// ```
/// use prodigy_storage_cache::{Cache, CacheSettings};
///
/// let cache: Cache<u32, u32> = Cache::new(&CacheSettings::default());
/// cache.insert(1, 10, 4);
/// let stats = cache.stats();
/// assert_eq!((stats.entries, stats.bytes), (1, 4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Lookups answered from an entry.
    pub hits: u64,
    /// Lookups not answered from an entry: it was absent, too old or stale.
    pub misses: u64,
    /// Misses that were answered by a load that another caller had begun.
    pub shared: u64,
    /// Values, from an entry or from another caller's load, that a check rejected as no longer current.
    pub stale: u64,
    /// Loads that failed or panicked.
    pub failed_loads: u64,
    /// Entries dropped to make room.
    pub evicted: u64,
    /// Entries dropped because of their age.
    pub expired: u64,
    /// Callers that wait for another caller's load right now.
    pub waiting: usize,
    /// Entries right now.
    pub entries: usize,
    /// The weight of all entries right now, in bytes.
    pub bytes: u64,
}
