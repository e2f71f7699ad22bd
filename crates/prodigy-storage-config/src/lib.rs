//! The configuration of Prodigy storage: YAML and TOML files, overrides by the environment, validation, provenance.
//!
//! # Model
//! One table, [`KEYS`], says what may be set. Several sources set keys, and the later wins key by key: the defaults,
//! a file in the home folder, one in the project, one that `PRODIGY_CONFIG` names, one named in code, the environment,
//! flags. [`Loader::load`] reads them all and gives either a [`Loaded`] configuration, in which every value
//! knows its [`Origin`], or [`ConfigErrors`] with everything that is wrong in any of them: file, line, column, key, and what
//! was probably meant. [`reference_markdown`] documents the same table.
//!
//! The environment is handed in as an [`Environment`], so nothing but [`ProcessEnvironment`] touches the real one.
//!
//! # Limitations
//! - Positions point at keys, not at values; under a YAML alias or merge key, at the key where it was first written.
//! - A fault in YAML's syntax hides what comes after it in the same file. TOML is read on past a fault.
//! - A configuration file has at most 1 MiB and 64 levels of nesting.
//! - Whether a path exists or may be written to is for the backend to find out.
//!
//! # Example
//! ```
//! # #[cfg(feature = "yaml")] {
//! use prodigy_storage_config::{BackendKind, Loader, MapEnvironment, StorageConfig};
//!
//! let config = StorageConfig::from_yaml("storage:\n  timeout: 1m 30s\n")?;
//! assert_eq!(config.timeout.as_secs(), 90);
//!
//! let errors = StorageConfig::from_yaml("storage:\n  timeuot: 30s\n  enable_cache: maybe\n").unwrap_err();
//! assert_eq!(errors.len(), 2);
//! assert!(errors.to_string().contains("did you mean `timeout`?"));
//!
//! let environment = MapEnvironment::new().with("PRODIGY_STORAGE_TYPE", "memory");
//! let loaded = Loader::new(environment).load()?;
//! assert_eq!(loaded.config.backend, BackendKind::Memory);
//! assert_eq!(loaded.origin("backend").to_string(), "variable PRODIGY_STORAGE_TYPE");
//! # }
//! # Ok::<(), prodigy_storage_config::ConfigErrors>(())
//! ```
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod config;
mod duration;
mod environment;
mod error;
mod field;
mod files;
mod finish;
mod format;
mod gather;
mod key;
mod keys;
mod kind;
mod layer;
mod loaded;
mod loader;
mod merge;
mod notice;
mod origin;
mod paths;
mod postgres;
mod raw;
mod read;
mod reference;
mod size;
mod text;
#[cfg_attr(
    not(all(feature = "yaml", feature = "toml")),
    allow(dead_code, reason = "each format uses its own part of it")
)]
mod tree;
mod variables;
#[cfg_attr(
    not(any(feature = "yaml", feature = "toml")),
    allow(dead_code, reason = "without a format nothing is written")
)]
mod write;

pub use config::{FileSettings, MemorySettings, StorageConfig};
pub use duration::{InvalidDuration, MAX_DURATION, parse_duration};
pub use environment::{Environment, MapEnvironment, ProcessEnvironment};
pub use error::{ConfigError, ConfigErrors};
pub use key::{KeySpec, VariableSpec};
pub use keys::{FENCE_VARIABLE, KEYS, key};
pub use kind::BackendKind;
pub use loaded::Loaded;
pub use loader::Loader;
pub use notice::Notice;
pub use origin::Origin;
pub use postgres::PostgresSettings;
pub use prodigy_storage_backend::Durability;
pub use prodigy_storage_cache::{CacheSettings, CacheType};
pub use prodigy_storage_retry::RetrySettings;
pub use reference::reference_markdown;
pub use write::NotWritable;
