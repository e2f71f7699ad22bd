//! Settings of the cache.

use std::fmt;
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
/// let short = CacheSettings { ttl: Duration::from_secs(60), ..CacheSettings::default() };
/// short.validate()?;
/// # Ok::<(), prodigy_storage_cache::InvalidCacheSettings>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct CacheSettings {
    /// The largest number of entries. The least recently used entry is evicted first. At least 1. Default: 1000.
    pub max_entries: usize,
    /// An entry older than this is not served. Above zero. Default: 1 hour.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// The size of all entries in bytes, whatever their number. At least 1. Default: 64 MiB.
    pub max_bytes: u64,
    /// Where entries are kept. Default: memory.
    pub cache_type: CacheType,
}

/// Where a cache keeps its entries.
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
    /// In the memory of this process; gone when it ends.
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
    /// Checks that every value is one that a cache can work with.
    ///
    /// # Errors
    /// [`InvalidCacheSettings`] with every problem found, not only the first.
    pub fn validate(&self) -> Result<(), InvalidCacheSettings> {
        let mut problems = Vec::new();
        if self.max_entries == 0 {
            problems.push(CacheProblem {
                key: "max_entries",
                reason: "must be at least 1",
            });
        }
        if self.ttl.is_zero() {
            problems.push(CacheProblem {
                key: "ttl",
                reason: "must be above zero",
            });
        }
        if self.max_bytes == 0 {
            problems.push(CacheProblem {
                key: "max_bytes",
                reason: "must be at least 1",
            });
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(InvalidCacheSettings { problems })
        }
    }
}

/// One impossible value in [`CacheSettings`].
///
/// ```
/// use prodigy_storage_cache::CacheSettings;
///
/// let refused = CacheSettings { max_entries: 0, ..CacheSettings::default() }.validate().unwrap_err();
/// assert_eq!(refused.problems()[0].key, "max_entries");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheProblem {
    /// The field's name, which is also its key in a configuration file.
    pub key: &'static str,
    /// The problem with the value, to be read after the key.
    pub reason: &'static str,
}

impl fmt::Display for CacheProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.key, self.reason)
    }
}

/// Cache settings that make no sense, with every reason.
///
/// ```
/// use prodigy_storage_cache::CacheSettings;
///
/// let refused = CacheSettings { max_entries: 0, max_bytes: 0, ..CacheSettings::default() }.validate().unwrap_err();
/// assert!(refused.to_string().contains("max_entries"), "{refused}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCacheSettings {
    problems: Vec<CacheProblem>,
}

impl InvalidCacheSettings {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[CacheProblem] {
        &self.problems
    }
}

impl fmt::Display for InvalidCacheSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid cache settings: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidCacheSettings {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones_and_valid() {
        let settings = CacheSettings::default();
        assert_eq!(settings.max_entries, 1000);
        assert_eq!(settings.ttl, Duration::from_secs(3600));
        assert_eq!(settings.max_bytes, 67_108_864);
        assert_eq!(settings.cache_type, CacheType::Memory);
        settings.validate().unwrap();
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let settings = CacheSettings {
            max_entries: 0,
            ttl: Duration::ZERO,
            max_bytes: 0,
            cache_type: CacheType::Memory,
        };
        let invalid = settings.validate().unwrap_err();
        let keys: Vec<_> = invalid.problems().iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["max_entries", "ttl", "max_bytes"]);
        assert!(
            invalid.to_string().contains("`ttl` must be above zero"),
            "{invalid}"
        );
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
