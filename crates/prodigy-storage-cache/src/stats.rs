//! Counters of a cache.

/// An increment of a counter of [`CacheStats`], which is reported to the caller whose lookup caused it.
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
    /// The lookup got its value from an entry.
    Hit,
    /// The lookup did not get its value from an entry.
    Miss,
    /// The lookup got its value from a load that another caller had begun.
    Shared,
    /// The check found that a value is no longer current.
    Stale,
    /// The load failed or panicked.
    FailedLoad,
    /// Storing the value evicted another entry.
    Evicted,
}

/// The counters of a [`Cache`](crate::Cache) since it was made, and its present size.
///
/// Each lookup is a hit or a miss. If its check fails, it may be neither.
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
    /// The number of lookups that got their value from an entry.
    pub hits: u64,
    /// The number of lookups without a usable entry: it was absent, too old or no longer current.
    pub misses: u64,
    /// The number of misses that got their value from a load that another caller had begun.
    pub shared: u64,
    /// The number of values, from an entry or from another caller's load, that a check rejected as no longer
    /// current.
    pub stale: u64,
    /// The number of loads that failed or panicked.
    pub failed_loads: u64,
    /// The number of entries that were dropped to make room.
    pub evicted: u64,
    /// The number of entries that were dropped because of their age.
    pub expired: u64,
    /// The number of callers that are waiting for another caller's load.
    pub waiting: usize,
    /// The present number of entries.
    pub entries: usize,
    /// The present weight of all entries, in bytes.
    pub bytes: u64,
}
