//! The configuration as Rust types.

use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_backend::{Durability, setters};
use prodigy_storage_cache::CacheSettings;
use prodigy_storage_retry::RetrySettings;

use crate::kind::BackendKind;
use crate::postgres::PostgresSettings;

/// The settings of storage.
///
/// [`Default`] reads no environment: its [`FileSettings::base_dir`] is the text `~/.prodigy`. For a configuration
/// that is made in code, call [`StorageConfig::resolved`], which expands `~` and checks every value.
/// [`Loader::load`](crate::Loader::load) returns a configuration that is resolved already.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_config::StorageConfig;
///
/// let config = StorageConfig::default().timeout(Duration::from_secs(5));
/// assert_eq!(config.connection_pool_size, 10);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StorageConfig {
    /// The backend that stores the data. Default: [`BackendKind::File`].
    pub backend: BackendKind,
    /// The largest number of backend operations that run at once, and of connections to a database; at least 1.
    /// Appends to files do not count. Default: 10.
    pub connection_pool_size: usize,
    /// The longest duration of a call, including waits and retries; above zero. Default: 30 seconds.
    pub timeout: Duration,
    /// True if named locks exclude other processes. If false, taking a lock has no effect. Default: true.
    pub enable_locking: bool,
    /// True if documents are cached in memory. Default: false.
    pub enable_cache: bool,
    /// The failures that an acknowledged write survives. Default: [`Durability::Strict`].
    pub durability: Durability,
    /// Settings of the file backend.
    pub file: FileSettings,
    /// Settings of the memory backend.
    pub memory: MemorySettings,
    /// Settings of the PostgreSQL backend.
    pub postgres: PostgresSettings,
    /// Settings for retries of operations that failed.
    pub retry_policy: RetrySettings,
    /// Settings of the cache: its size, and how long entries are kept.
    pub cache_config: CacheSettings,
    /// Settings of retention: the age from which old data may be removed. Default: no data is removed.
    pub retention: RetentionSettings,
}

/// Settings of the file backend.
///
/// ```
/// use prodigy_storage_config::{FileSettings, StorageConfig};
///
/// let file = FileSettings::default().base_dir("/srv/prodigy").enable_compression(true);
/// let config = StorageConfig::default().file(file);
/// # let _ = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSettings {
    /// The root of all data. Default: `~/.prodigy`.
    pub base_dir: PathBuf,
    /// True to store data under [`FileSettings::base_dir`]. `false` is deprecated: data is then stored in
    /// `.prodigy/` of the current worktree, and the loader sets `base_dir` to that folder. Default: true.
    pub use_global: bool,
    /// True to separate concurrent writers with file locks of the operating system. Default: true.
    pub enable_file_locks: bool,
    /// The size in bytes above which a log segment is rotated; at least 1. Default: 104857600.
    pub max_file_size: u64,
    /// True to compress sealed log segments. Default: false.
    pub enable_compression: bool,
    /// The largest size of an event or a dead letter, in bytes; at least 1. A larger one is refused. It also
    /// applies to the other backends. Default: 64 MiB.
    pub max_record_size: u64,
    /// The largest size of a checkpoint or another document, in bytes; at least 1. A larger one is refused. It
    /// also applies to the other backends. Default: 64 MiB.
    pub max_document_size: u64,
    /// The largest size of a queue of dead letters, in bytes; at least 1. A push that would exceed it is refused.
    /// It also applies to the other backends. Default: none.
    pub max_queue_size: Option<u64>,
    /// True to accept a root to which any user may write. Default: false.
    pub allow_shared_root: bool,
    /// True to accept a root on a network file system. Default: false.
    pub allow_network_fs: bool,
    /// True to allow writes by another user than the owner of the root. Default: false.
    pub allow_foreign_owner: bool,
}

/// Settings of the memory backend.
///
/// ```
/// use prodigy_storage_config::{BackendKind, MemorySettings, StorageConfig};
///
/// let memory = MemorySettings::default().max_memory(10 << 20);
/// let config = StorageConfig::default().backend(BackendKind::Memory).memory(memory);
/// # let _ = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySettings {
    /// The limit of memory for all data, in bytes; at least 1. A write that would exceed it is refused. Default: 104857600.
    pub max_memory: u64,
    /// True to write a snapshot on flush and on drop. Default: false.
    pub persist_to_disk: bool,
    /// The path of the snapshot, required with [`MemorySettings::persist_to_disk`]. Default: none.
    pub persistence_path: Option<PathBuf>,
}

/// The data that a clean removes, and from which age. [`Default`] removes nothing; `None` in a field keeps that
/// kind of data.
///
/// ```
/// use std::time::Duration;
/// use prodigy_storage_config::{RetentionSettings, StorageConfig};
///
/// let month = Duration::from_secs(30 * 24 * 60 * 60);
/// let config = StorageConfig::default().retention(RetentionSettings::default().finished_jobs(month));
/// assert_eq!(config.retention.events, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetentionSettings {
    /// The age at which finished jobs are removed whole, since they were finished or last written to, whichever is
    /// later.
    pub finished_jobs: Option<Duration>,
    /// The age at which jobs are removed whole that were never finished and are not active, since their last
    /// write.
    pub idle_jobs: Option<Duration>,
    /// The age at which checkpoints are removed. The newest valid one of each phase is always kept.
    pub checkpoints: Option<Duration>,
    /// The number of newest checkpoints of each phase that are kept, whatever their age; at least 1.
    pub checkpoints_keep: Option<usize>,
    /// The age at which events are removed. They have to be in sealed segments, of jobs that are not active.
    pub events: Option<Duration>,
    /// The age at which parked dead letters are removed, since their last attempt.
    pub dead_letters: Option<Duration>,
    /// The age at which records of orphaned worktrees are removed. The worktrees themselves are kept.
    pub orphans: Option<Duration>,
    /// The age at which files in quarantine are removed.
    pub quarantine: Option<Duration>,
}

impl StorageConfig {
    setters! {
        /// Sets [`backend`](field@Self::backend).
        backend: BackendKind,
        /// Sets [`connection_pool_size`](field@Self::connection_pool_size).
        connection_pool_size: usize,
        /// Sets [`timeout`](field@Self::timeout).
        timeout: Duration,
        /// Sets [`enable_locking`](field@Self::enable_locking).
        enable_locking: bool,
        /// Sets [`enable_cache`](field@Self::enable_cache).
        enable_cache: bool,
        /// Sets [`durability`](field@Self::durability).
        durability: Durability,
        /// Sets [`file`](field@Self::file).
        file: FileSettings,
        /// Sets [`memory`](field@Self::memory).
        memory: MemorySettings,
        /// Sets [`postgres`](field@Self::postgres).
        postgres: PostgresSettings,
        /// Sets [`retry_policy`](field@Self::retry_policy).
        retry_policy: RetrySettings,
        /// Sets [`cache_config`](field@Self::cache_config).
        cache_config: CacheSettings,
        /// Sets [`retention`](field@Self::retention).
        retention: RetentionSettings,
    }
}

impl FileSettings {
    setters! {
        /// Sets [`base_dir`](field@Self::base_dir).
        base_dir: into PathBuf,
        /// Sets [`use_global`](field@Self::use_global).
        use_global: bool,
        /// Sets [`enable_file_locks`](field@Self::enable_file_locks).
        enable_file_locks: bool,
        /// Sets [`max_file_size`](field@Self::max_file_size).
        max_file_size: u64,
        /// Sets [`enable_compression`](field@Self::enable_compression).
        enable_compression: bool,
        /// Sets [`max_record_size`](field@Self::max_record_size).
        max_record_size: u64,
        /// Sets [`max_document_size`](field@Self::max_document_size).
        max_document_size: u64,
        /// Sets [`max_queue_size`](field@Self::max_queue_size).
        max_queue_size: Option<u64>,
        /// Sets [`allow_shared_root`](field@Self::allow_shared_root).
        allow_shared_root: bool,
        /// Sets [`allow_network_fs`](field@Self::allow_network_fs).
        allow_network_fs: bool,
        /// Sets [`allow_foreign_owner`](field@Self::allow_foreign_owner).
        allow_foreign_owner: bool,
    }
}

impl MemorySettings {
    setters! {
        /// Sets [`max_memory`](field@Self::max_memory).
        max_memory: u64,
        /// Sets [`persist_to_disk`](field@Self::persist_to_disk).
        persist_to_disk: bool,
        /// Sets [`persistence_path`](field@Self::persistence_path).
        persistence_path: Option<PathBuf>,
    }
}

impl RetentionSettings {
    setters! {
        /// Sets [`finished_jobs`](field@Self::finished_jobs).
        finished_jobs: into Option<Duration>,
        /// Sets [`idle_jobs`](field@Self::idle_jobs).
        idle_jobs: into Option<Duration>,
        /// Sets [`checkpoints`](field@Self::checkpoints).
        checkpoints: into Option<Duration>,
        /// Sets [`checkpoints_keep`](field@Self::checkpoints_keep).
        checkpoints_keep: into Option<usize>,
        /// Sets [`events`](field@Self::events).
        events: into Option<Duration>,
        /// Sets [`dead_letters`](field@Self::dead_letters).
        dead_letters: into Option<Duration>,
        /// Sets [`orphans`](field@Self::orphans).
        orphans: into Option<Duration>,
        /// Sets [`quarantine`](field@Self::quarantine).
        quarantine: into Option<Duration>,
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            backend: BackendKind::File,
            connection_pool_size: 10,
            timeout: Duration::from_secs(30),
            enable_locking: true,
            enable_cache: false,
            durability: Durability::Strict,
            file: FileSettings::default(),
            memory: MemorySettings::default(),
            postgres: PostgresSettings::default(),
            retry_policy: RetrySettings::default(),
            cache_config: CacheSettings::default(),
            retention: RetentionSettings::default(),
        }
    }
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            base_dir: PathBuf::from("~/.prodigy"),
            use_global: true,
            enable_file_locks: true,
            max_file_size: 104_857_600,
            enable_compression: false,
            max_record_size: 64 * 1024 * 1024,
            max_document_size: 64 * 1024 * 1024,
            max_queue_size: None,
            allow_shared_root: false,
            allow_network_fs: false,
            allow_foreign_owner: false,
        }
    }
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            max_memory: 104_857_600,
            persist_to_disk: false,
            persistence_path: None,
        }
    }
}
