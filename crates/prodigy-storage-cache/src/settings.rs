//! Settings of the cache.

use std::time::Duration;

use serde::Serialize;

/// The size of a cache, and the lifetime of its entries.
///
/// Names and defaults are the same as in the `cache_config` section of the configuration. The time to live is
/// written as `humantime` text (`30s`, `1h 30m`).
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_cache::CacheSettings;
///
/// let short = CacheSettings::default().ttl(Duration::from_secs(60));
/// assert_eq!(short.max_entries, 1000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub struct CacheSettings {
    /// The largest number of entries. The least recently used entry is evicted first. At least 1. Default: 1000.
    pub max_entries: usize,
    /// The time to live: an entry that is older is not returned. Above zero. Default: 1 hour.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// The largest total weight of all entries, in bytes. At least 1. Default: 64 MiB.
    pub max_bytes: u64,
    /// The place where entries are stored. Default: memory.
    pub cache_type: CacheType,
}

/// The place where a cache stores its entries.
///
/// ```
/// use prodigy_storage_cache::{CacheSettings, CacheType};
///
/// assert_eq!(CacheSettings::default().cache_type, CacheType::Memory);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheType {
    /// The memory of this process. The entries are lost when it ends.
    #[default]
    Memory,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_entries: 1000,
            ttl: Duration::from_secs(60 * 60),
            max_bytes: 64 * 1024 * 1024,
            cache_type: CacheType::Memory,
        }
    }
}

impl CacheSettings {
    /// Sets [`max_entries`](field@Self::max_entries).
    #[must_use]
    pub fn max_entries(mut self, value: usize) -> Self {
        self.max_entries = value;
        self
    }

    /// Sets [`ttl`](field@Self::ttl).
    #[must_use]
    pub fn ttl(mut self, value: Duration) -> Self {
        self.ttl = value;
        self
    }

    /// Sets [`max_bytes`](field@Self::max_bytes).
    #[must_use]
    pub fn max_bytes(mut self, value: u64) -> Self {
        self.max_bytes = value;
        self
    }

    /// Sets [`cache_type`](field@Self::cache_type).
    #[must_use]
    pub fn cache_type(mut self, value: CacheType) -> Self {
        self.cache_type = value;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = CacheSettings::default();
        assert_eq!(settings.max_entries, 1000);
        assert_eq!(settings.ttl, Duration::from_secs(3600));
        assert_eq!(settings.max_bytes, 67_108_864);
        assert_eq!(settings.cache_type, CacheType::Memory);
    }

    #[test]
    fn is_written_as_the_configuration_writes_it() {
        let settings = CacheSettings {
            max_entries: 7,
            ..CacheSettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains("\"1h\"") && text.contains("\"memory\""), "{text}");
    }
}
