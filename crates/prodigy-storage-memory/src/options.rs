//! The options of a memory backend.

use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::{Clock, SystemClock, setters};

/// The options of a [`MemoryBackend`](crate::MemoryBackend). The default is 100 MiB of memory and no persistence file.
///
/// ```
/// use prodigy_storage_memory::MemoryOptions;
///
/// let options = MemoryOptions::new().max_memory(8 << 20);
/// assert!(options.persistence.is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The largest memory of all data with its structures, in bytes. A write that would exceed it is refused.
    pub max_memory: u64,
    /// The file for a snapshot of all data. It is loaded at open, and written on flush and when the last handle is
    /// dropped.
    pub persistence: Option<PathBuf>,
    /// True if the snapshot is only loaded. Otherwise, the store locks the snapshot and writes it.
    pub read_only: bool,
    /// The largest event or item, in bytes. A larger one is refused.
    pub max_record_size: u64,
    /// The largest checkpoint or other document, in bytes. A larger one is refused.
    pub max_document_size: u64,
    /// The largest size of a queue, in bytes. A push that would exceed it is refused. `None` means no limit.
    pub max_queue_size: Option<u64>,
    /// The clock for times and leases.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            max_memory: 100 << 20,
            persistence: None,
            read_only: false,
            max_record_size: 64 << 20,
            max_document_size: 64 << 20,
            max_queue_size: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl MemoryOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`max_memory`](Self::max_memory), in bytes.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Sets [`persistence`](Self::persistence).
    #[must_use]
    pub fn persistence(mut self, file: impl Into<PathBuf>) -> Self {
        self.persistence = Some(file.into());
        self
    }

    setters! {
        /// Sets [`read_only`](Self::read_only).
        read_only: bool,

        /// Sets [`max_record_size`](Self::max_record_size), in bytes.
        max_record_size: u64,

        /// Sets [`max_document_size`](Self::max_document_size), in bytes.
        max_document_size: u64,

        /// Sets [`max_queue_size`](Self::max_queue_size), in bytes.
        max_queue_size: Option<u64>,

        /// Sets [`clock`](Self::clock).
        clock: Arc<dyn Clock>,
    }
}
