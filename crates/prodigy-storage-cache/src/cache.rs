//! A cache that several threads share.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use crate::error::LoadError;
use crate::load::{Load, Waited};
use crate::lru_ttl::{Clock, LruTtl};
use crate::settings::CacheSettings;
use crate::stats::{CacheEvent, CacheStats};
use crate::sync::Mutex;

/// An [`LruTtl`] that threads share. If several threads miss the same key at the same time, only one of them loads
/// it.
///
/// A value is cloned for each caller, under the cache's lock, so it should be an `Arc`, or similarly cheap to clone. Loads and
/// checks run without that lock.
///
/// ```
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use prodigy_storage_cache::{Cache, CacheSettings, Loaded};
///
/// let cache: Cache<u32, Arc<str>> = Cache::new(&CacheSettings::default());
/// for _ in 0..2 {
///     let value = cache.get_or_load(&7, None, || Ok::<_, Infallible>(Loaded::keep("seven".into(), 5)));
///     assert_eq!(&*value.unwrap(), "seven");
/// }
/// assert_eq!((cache.stats().misses, cache.stats().hits), (1, 1));
/// ```
pub struct Cache<K, V> {
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: LruTtl<K, Slot<V>>,
    /// Running loads by key, if their results may be stored. A write of a key removes the key's load from this
    /// map.
    loads: HashMap<K, Arc<Load<V>>>,
    counted: CacheStats,
    next_generation: u64,
}

#[derive(Clone)]
struct Slot<V> {
    value: V,
    /// A number that distinguishes an entry from its replacement, since an entry may be replaced while it is
    /// checked.
    generation: u64,
}

/// The result of a load.
///
/// ```
/// use std::convert::Infallible;
/// use prodigy_storage_cache::{Cache, CacheSettings, Loaded};
///
/// let cache: Cache<u32, u32> = Cache::new(&CacheSettings::default());
/// // The caller gets the value, but it is not stored.
/// cache.get_or_load(&1, None, || Ok::<_, Infallible>(Loaded::pass(10))).unwrap();
/// assert_eq!(cache.get(&1), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<V> {
    value: V,
    weight: Option<u64>,
}

impl<V> Loaded<V> {
    /// A value to store, with its weight in bytes.
    pub fn keep(value: V, weight: u64) -> Self {
        Self {
            value,
            weight: Some(weight),
        }
    }

    /// A value that is returned to the callers that wait for it, but not stored.
    pub fn pass(value: V) -> Self {
        Self { value, weight: None }
    }
}

/// The next step of a lookup.
enum Next<V> {
    Check(Slot<V>),
    Join(Arc<Load<V>>),
    Lead(Arc<Load<V>>),
    Alone,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache with the system's monotonic clock.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        Self::with_clock(settings, Arc::new(Instant::now))
    }

    /// An empty cache. `clock` measures the age of entries; deadlines always use the system's clock.
    #[must_use]
    pub fn with_clock(settings: &CacheSettings, clock: Clock) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: LruTtl::with_clock(settings, clock),
                loads: HashMap::new(),
                counted: CacheStats::default(),
                next_generation: 0,
            }),
        }
    }

    /// The value of a key, if it is in the cache. Counts as a hit or a miss.
    pub fn get(&self, key: &K) -> Option<V> {
        let mut inner = self.inner.lock();
        let found = inner.entries.get(key).map(|slot| slot.value.clone());
        match found {
            Some(_) => inner.counted.hits += 1,
            None => inner.counted.misses += 1,
        }
        found
    }

    /// Stores a value. A running load of the key still returns its result to the callers that wait for it, but does not store
    /// it: the result may be older than this value.
    ///
    /// Returns false if the value is heavier than the limit of the whole cache. The key then has no entry.
    pub fn insert(&self, key: K, value: V, weight: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.loads.remove(&key);
        inner.store(key, value, weight)
    }

    /// Removes a key. The result of a running load of the key is not stored.
    pub fn remove(&self, key: &K) {
        let mut inner = self.inner.lock();
        inner.loads.remove(key);
        inner.entries.remove(key);
    }

    /// Removes each key for which `keep` returns false, like [`Cache::remove`]. `keep` is called under the cache's
    /// lock.
    pub fn retain(&self, mut keep: impl FnMut(&K) -> bool) {
        let mut inner = self.inner.lock();
        inner.loads.retain(|key, _| keep(key));
        inner.entries.retain(|key, _| keep(key));
    }

    /// Removes all keys, like [`Cache::remove`].
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.loads.clear();
        inner.entries.clear();
    }

    /// The counters and the present size of the cache.
    pub fn stats(&self) -> CacheStats {
        let inner = self.inner.lock();
        CacheStats {
            evicted: inner.entries.evicted(),
            expired: inner.entries.expired(),
            entries: inner.entries.len(),
            bytes: inner.entries.bytes(),
            ..inner.counted
        }
    }

    /// The value of a key, which is loaded if it is not in the cache. If several callers miss a key at the same time, one of
    /// them loads it, and the others wait for the result, until `deadline` at most.
    ///
    /// If the load fails or panics, nothing is stored: its caller gets the error or the panic, and one of the
    /// waiting callers loads again. The returned value may come from a load that another caller began before this
    /// call; if that matters, use [`Cache::get_or_load_checked`].
    ///
    /// # Errors
    /// [`LoadError::Failed`] if the load of this caller failed; [`LoadError::WaitTimedOut`] if the load of another
    /// caller did not end by the deadline.
    pub fn get_or_load<E>(
        &self,
        key: &K,
        deadline: Option<Instant>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        self.get_or_load_checked(key, deadline, |_| Ok(true), load)
    }

    /// Like [`Cache::get_or_load`], but `is_current` checks each value that this caller did not load itself: one
    /// from the cache, and one that another caller loaded, possibly before this call began.
    ///
    /// A value that is not current is dropped and loaded again. If another caller's load then returns a value that
    /// is not current either, this caller loads by itself. So `load` is called at most once, and `is_current` at
    /// most twice, unless another caller's load fails.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]. An error of `is_current` is returned as [`LoadError::Failed`]; the entry is
    /// kept.
    pub fn get_or_load_checked<E>(
        &self,
        key: &K,
        deadline: Option<Instant>,
        is_current: impl FnMut(&V) -> Result<bool, E>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        self.get_or_load_observed(key, deadline, is_current, load, &|_| {})
    }

    /// Like [`Cache::get_or_load_checked`], and calls `observe` for each counter that this lookup increments.
    /// `observe` is called without the cache's lock. If it panics, no other thread is left waiting.
    ///
    /// # Errors
    /// As [`Cache::get_or_load_checked`].
    pub fn get_or_load_observed<E>(
        &self,
        key: &K,
        deadline: Option<Instant>,
        mut is_current: impl FnMut(&V) -> Result<bool, E>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
        observe: &dyn Fn(CacheEvent),
    ) -> Result<V, LoadError<E>> {
        let start = Instant::now();
        let mut stale = 0;
        let mut missed = false;
        let mut observed = false;
        let mut observe_miss = || {
            if !std::mem::replace(&mut observed, true) {
                observe(CacheEvent::Miss);
            }
        };
        loop {
            match self.next(key, stale >= 2, &mut missed) {
                Next::Check(slot) => {
                    if is_current(&slot.value).map_err(LoadError::Failed)? {
                        if !missed {
                            self.inner.lock().counted.hits += 1;
                            observe(CacheEvent::Hit);
                        }
                        return Ok(slot.value);
                    }
                    stale += 1;
                    self.drop_stale(key, slot.generation, &mut missed);
                    observe_miss();
                    observe(CacheEvent::Stale);
                }
                Next::Join(running) => match self.join(&running, deadline) {
                    Waited::Loaded(value) => {
                        observe_miss();
                        if is_current(&value).map_err(LoadError::Failed)? {
                            self.inner.lock().counted.shared += 1;
                            observe(CacheEvent::Shared);
                            return Ok(value);
                        }
                        stale += 1;
                        self.inner.lock().counted.stale += 1;
                        observe(CacheEvent::Stale);
                    }
                    Waited::Abandoned => observe_miss(),
                    Waited::TimedOut => {
                        observe_miss();
                        return Err(LoadError::WaitTimedOut {
                            waited: start.elapsed(),
                        });
                    }
                },
                Next::Lead(begun) => {
                    let lead = Lead {
                        cache: self,
                        key,
                        load: begun,
                        done: false,
                        observe,
                    };
                    observe_miss();
                    let loaded = load().map_err(LoadError::Failed)?;
                    return Ok(lead.finish(loaded));
                }
                Next::Alone => {
                    observe_miss();
                    let loaded = load().map_err(|error| {
                        self.inner.lock().counted.failed_loads += 1;
                        observe(CacheEvent::FailedLoad);
                        LoadError::Failed(error)
                    })?;
                    return Ok(loaded.value);
                }
            }
        }
    }

    /// Decides the next step of a lookup. With `afresh`, neither an entry nor the load of another caller is used.
    fn next(&self, key: &K, afresh: bool, missed: &mut bool) -> Next<V> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if !afresh && let Some(slot) = inner.entries.get(key) {
            return Next::Check(slot.clone());
        }
        inner.miss(missed);
        match inner.loads.get(key) {
            Some(running) if afresh || running.is_own() => Next::Alone,
            Some(running) => {
                inner.counted.waiting += 1;
                Next::Join(Arc::clone(running))
            }
            None => {
                let begun = Arc::new(Load::begin());
                inner.loads.insert(key.clone(), Arc::clone(&begun));
                Next::Lead(begun)
            }
        }
    }

    fn join(&self, running: &Load<V>, deadline: Option<Instant>) -> Waited<V> {
        let waited = running.wait(deadline);
        self.inner.lock().counted.waiting -= 1;
        waited
    }

    fn drop_stale(&self, key: &K, generation: u64, missed: &mut bool) {
        let mut inner = self.inner.lock();
        inner.miss(missed);
        inner.counted.stale += 1;
        if inner
            .entries
            .peek(key)
            .is_some_and(|slot| slot.generation == generation)
        {
            inner.entries.remove(key);
        }
    }
}

impl<K: Hash + Eq, V> Inner<K, V> {
    fn store(&mut self, key: K, value: V, weight: u64) -> bool {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.entries.insert(key, Slot { value, generation }, weight)
    }

    /// Counts a miss, at most once per lookup.
    fn miss(&mut self, missed: &mut bool) {
        self.counted.misses += u64::from(!*missed);
        *missed = true;
    }

    /// Removes a load from `loads`. Returns false if it is no longer there: a write has removed it, or another
    /// load of the key has replaced it.
    fn take(&mut self, key: &K, load: &Arc<Load<V>>) -> bool {
        let is_registered = self
            .loads
            .get(key)
            .is_some_and(|running| Arc::ptr_eq(running, load));
        if is_registered {
            self.loads.remove(key);
        }
        is_registered
    }
}

/// Held by the caller that runs a load. When it is dropped, however the load ended, the waiting callers wake up.
struct Lead<'a, K: Hash + Eq, V: Clone> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    load: Arc<Load<V>>,
    done: bool,
    observe: &'a dyn Fn(CacheEvent),
}

impl<K: Hash + Eq + Clone, V: Clone> Lead<'_, K, V> {
    fn finish(mut self, loaded: Loaded<V>) -> V {
        let Loaded { value, weight } = loaded;
        let evicted = {
            let mut inner = self.cache.inner.lock();
            let before = inner.entries.evicted();
            if inner.take(self.key, &self.load)
                && let Some(weight) = weight
            {
                inner.store(self.key.clone(), value.clone(), weight);
            }
            inner.entries.evicted() - before
        };
        self.load.end(Some(value.clone()));
        self.done = true;
        for _ in 0..evicted {
            (self.observe)(CacheEvent::Evicted);
        }
        value
    }
}

impl<K: Hash + Eq, V: Clone> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        {
            let mut inner = self.cache.inner.lock();
            inner.take(self.key, &self.load);
            inner.counted.failed_loads += 1;
        }
        self.load.end(None);
        (self.observe)(CacheEvent::FailedLoad);
    }
}

impl<K: Hash + Eq + Clone, V: Clone> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "model"))]
mod model;
