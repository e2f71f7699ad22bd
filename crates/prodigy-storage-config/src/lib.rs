//! The configuration of Prodigy storage: YAML and TOML files, environment variables, checks, and the origin of
//! each value.
//!
//! # Model
//! One table, [`KEYS`], defines the keys. If several sources set a key, the last one takes precedence, in this
//! order: the defaults, the file in the home folder, the file in the project, the file that `PRODIGY_CONFIG`
//! names, the file that the program names, the environment, flags, and values that the program sets.
//!
//! [`Loader::load`] reads all sources. It returns a [`Loaded`] configuration, which has the [`Origin`] of every
//! value. If there are errors, it returns [`ConfigErrors`] with all errors in all sources: file, line, column,
//! key, and a suggestion for a misspelt word. [`reference_markdown`] writes the documentation of the keys.
//!
//! The caller passes the variables as an [`Environment`]. Only [`ProcessEnvironment`] reads those of the process.
//!
//! # Limitations
//! - A position is where a key is written, not its value. For a key from a YAML alias or merge key, the position is the one
//!   at which the key is written.
//! - After a syntax error, the rest of a YAML file is not read. The rest of a TOML file is read.
//! - A configuration file has at most 1 MiB and 64 levels of nesting.
//! - Whether a path exists and can be accessed is not checked here, but by the backend.
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

pub use config::{FileSettings, MemorySettings, RetentionSettings, StorageConfig};
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
