//! A cache for a single thread.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::settings::CacheSettings;

/// A function that returns the present time. If the time goes back, entries live longer.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
/// use prodigy_storage_cache::{CacheSettings, Clock, LruTtl};
///
/// let stopped = Instant::now();
/// let clock: Clock = Arc::new(move || stopped);
/// let cache: LruTtl<u32, u32> = LruTtl::with_clock(&CacheSettings::default(), clock);
/// # let _ = cache;
/// ```
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A map that evicts the least recently used entries when it has too many or too heavy ones, and drops entries
/// that are older than the time to live.
///
/// The caller states the weight of an entry in bytes; the overhead of the map is not counted. An entry that is
/// heavier than `max_bytes` by itself is not stored. An expired entry is dropped when it is looked up, or when it
/// is evicted as the least recently used one; there is no background thread.
///
/// ```
/// use prodigy_storage_cache::{CacheSettings, LruTtl};
///
/// let mut cache = LruTtl::new(&CacheSettings::default().max_entries(2));
/// cache.insert("a", 1, 8);
/// cache.insert("b", 2, 8);
/// assert_eq!(cache.get("a"), Some(&1));
/// cache.insert("c", 3, 8); // evicts `b`, the least recently used entry
/// assert_eq!(cache.get("b"), None);
/// ```
pub struct LruTtl<K, V> {
    // The `LruCache` is unbounded, since a bounded one allocates all its memory at once. This type enforces the
    // limits.
    map: LruCache<K, Entry<V>>,
    max_entries: usize,
    max_bytes: u64,
    ttl: Duration,
    bytes: u64,
    evicted: u64,
    expired: u64,
    clock: Clock,
}

struct Entry<V> {
    value: V,
    weight: u64,
    stored: Instant,
}

impl<K: Hash + Eq, V> LruTtl<K, V> {
    /// An empty map with these limits and the system's monotonic clock. No memory is allocated in advance.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        Self::with_clock(settings, Arc::new(Instant::now))
    }

    /// Like [`new`](Self::new), with the caller's clock.
    #[must_use]
    pub fn with_clock(settings: &CacheSettings, clock: Clock) -> Self {
        Self {
            map: LruCache::unbounded(),
            max_entries: settings.max_entries,
            max_bytes: settings.max_bytes,
            ttl: settings.ttl,
            bytes: 0,
            evicted: 0,
            expired: 0,
            clock,
        }
    }

    /// The value of a key, which becomes the most recently used one. `None` if the key is absent or its entry has
    /// expired.
    pub fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.is_expired(self.map.peek(key)?) {
            self.remove(key);
            self.expired += 1;
            return None;
        }
        self.map.get(key).map(|entry| &entry.value)
    }

    /// The value of a key, without making it the most recently used one.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.map.peek(key)?;
        (!self.is_expired(entry)).then_some(&entry.value)
    }

    /// Stores a value as the most recently used one. It replaces the earlier value of its key. Other entries are
    /// evicted until the limits are met.
    ///
    /// Returns false if the value is heavier than the limit of the whole map. It is then not stored, and the
    /// earlier value of the key is removed too.
    pub fn insert(&mut self, key: K, value: V, weight: u64) -> bool {
        self.remove(&key);
        if weight > self.max_bytes || self.max_entries == 0 {
            return false;
        }
        while self.map.len() >= self.max_entries || self.bytes > self.max_bytes - weight {
            let Some((_, gone)) = self.map.pop_lru() else {
                break;
            };
            self.bytes -= gone.weight;
            if self.is_expired(&gone) {
                self.expired += 1;
            } else {
                self.evicted += 1;
            }
        }
        self.bytes += weight;
        let stored = (self.clock)();
        self.map.put(
            key,
            Entry {
                value,
                weight,
                stored,
            },
        );
        true
    }

    /// Removes a key and returns its value, even if it has expired.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.map.pop(key)?;
        self.bytes -= entry.weight;
        Some(entry.value)
    }

    /// Drops every entry for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let bytes = &mut self.bytes;
        self.map.retain(|key, entry| {
            let kept = keep(key, &entry.value);
            *bytes -= if kept { 0 } else { entry.weight };
            kept
        });
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.map.clear();
        self.bytes = 0;
    }

    /// The number of entries, including expired ones that were not dropped yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True if the map has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The weight of all entries, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of entries that were evicted to make room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of entries that were dropped because of their age.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }

    fn is_expired(&self, entry: &Entry<V>) -> bool {
        (self.clock)().saturating_duration_since(entry.stored) > self.ttl
    }
}

impl<K: Hash + Eq, V> fmt::Debug for LruTtl<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LruTtl")
            .field("entries", &self.map.len())
            .field("max_entries", &self.max_entries)
            .field("bytes", &self.bytes)
            .field("max_bytes", &self.max_bytes)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
