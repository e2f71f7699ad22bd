//! An LRU cache whose entries have a time to live, with limits for entries and bytes. A missing key is loaded only
//! once.
//!
//! # Model
//! [`LruTtl`] is the map. It limits the number, the weight and the age of its entries, and evicts the least recently used
//! entry first. [`Cache`] shares such a map between threads. If several callers miss a key at the same time, one of them loads
//! it, and the others wait, each until its own deadline. A failed load is never stored, and a loader that panics leaves no
//! caller waiting. [`Cache::get_or_load_checked`] checks on every hit that the value is still current. [`CacheSettings`] has
//! the limits.
//!
//! This crate does not depend on the other storage crates.
//!
//! # Limitations
//! - The caller states the weight of each entry. The overhead of the map, about 100 bytes per entry, is not counted.
//! - One mutex guards a cache. It is held for lookups and for clones of a value, but not for loads and checks, so values
//!   should be `Arc`s.
//! - After a failed load, the waiting callers load one after another until a load succeeds. Their deadlines limit
//!   the wait.
//! - An expired entry is dropped only when a lookup or an eviction finds it; there is no background thread.
//!
//! # Example
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//!
//! use prodigy_storage_cache::{Cache, CacheSettings, Loaded};
//!
//! let cache: Cache<String, Arc<str>> = Cache::new(&CacheSettings::default().max_entries(100));
//! let key = "greeting".to_owned();
//! let load = || Ok::<_, Infallible>(Loaded::keep("hello".into(), 5));
//!
//! assert_eq!(&*cache.get_or_load(&key, None, load).unwrap(), "hello");
//! assert_eq!(cache.get(&key).as_deref(), Some("hello"));
//! let stats = cache.stats();
//! assert_eq!((stats.hits, stats.misses, stats.bytes), (1, 1, 5));
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod cache;
mod error;
mod load;
mod lru_ttl;
mod settings;
mod stats;
mod sync;

pub use cache::{Cache, Loaded};
pub use error::LoadError;
pub use lru_ttl::{Clock, LruTtl};
pub use settings::{CacheSettings, CacheType};
pub use stats::{CacheEvent, CacheStats};

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
