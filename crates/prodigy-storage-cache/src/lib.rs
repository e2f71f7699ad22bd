//! An LRU cache with a time to live, bounded by entries and by bytes, that loads a missing key once.
//!
//! # Model
//! [`LruTtl`] is the map: least recently used first out, entries bounded in number, weight and age. [`Cache`] shares
//! one between threads: of callers that miss a key at the same time one loads it and the others wait, each until its
//! own deadline. A failed load is never stored, and a loader that panics leaves no one waiting. A value that must not
//! be out of date is checked on every hit ([`Cache::get_or_load_checked`]). [`CacheSettings`] holds the bounds.
//!
//! This crate knows nothing of storage.
//!
//! # Limitations
//! - Weights are the caller's word; the overhead of the map, some 100 bytes an entry, is not counted.
//! - One mutex guards a cache. It is held for lookups and clones of a value, never for a load or a check, so let
//!   values be `Arc`s.
//! - After a failed load the waiting callers try one after another, each with its own load, until one succeeds.
//!   A deadline bounds the wait.
//! - Expired entries go when they are met; there is no background thread.
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

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
