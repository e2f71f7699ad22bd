//! How to open a file backend.

use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::{Clock, ErrorKind, Result, StorageError, SystemClock, setters};

use crate::fs::canonical;

/// How to open a [`FileBackend`](crate::FileBackend).
///
/// ```
/// use prodigy_storage_file::FileOptions;
///
/// let options = FileOptions::new("/srv/prodigy").max_file_size(16 << 20).compression(true);
/// assert!(options.file_locks);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileOptions {
    /// The root of all data. It need not exist: the first write makes it.
    pub root: PathBuf,
    /// The root as it was given, with its links: it is checked while the store is in use.
    pub(crate) given: PathBuf,
    /// Nothing is created, moved or repaired; every write is refused.
    pub read_only: bool,
    /// Operating system locks between processes. False promises that this process is the only one that writes: opening is
    /// refused while another one does, and a file system without locks is accepted.
    pub file_locks: bool,
    /// Bytes past which a log segment is sealed and the next one begun.
    pub max_file_size: u64,
    /// Whether sealed segments are compressed in the background.
    pub compression: bool,
    /// Bytes past which an event or an item is refused. A stored one that is larger, and larger than 64 MiB, is reported as
    /// too large instead of given.
    pub max_record_size: u64,
    /// Records up to this number of bytes are read whatever `max_record_size` says: it may have been larger once.
    pub(crate) always_read: u64,
    /// Bytes that the buffers of one scan may take, if no record is larger.
    pub(crate) scan_memory: usize,
    /// Bytes past which a checkpoint or another document is refused, and one that is stored is not read.
    pub max_document_size: u64,
    /// Bytes that a dead-letter queue may take: a push that would make it larger is refused. `None`: no cap.
    pub max_queue_size: Option<u64>,
    /// Accepts a root that any user may write to.
    pub allow_shared_root: bool,
    /// Accepts a network file system.
    pub allow_network_fs: bool,
    /// Writes as another user than the owner of the root. What is created then gets that owner, where this user may give
    /// files away.
    pub allow_foreign_owner: bool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl FileOptions {
    /// The defaults, for this root.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            given: root.clone(),
            root,
            read_only: false,
            file_locks: true,
            max_file_size: 100 << 20,
            compression: false,
            max_record_size: 64 << 20,
            always_read: 64 << 20,
            scan_memory: 32 << 20,
            max_document_size: 64 << 20,
            max_queue_size: None,
            allow_shared_root: false,
            allow_network_fs: false,
            allow_foreign_owner: false,
            clock: Arc::new(SystemClock),
        }
    }

    /// Resolves the links on the path of the root, and keeps the path as it was given. A relative path needs a current
    /// folder.
    pub(crate) fn resolve(&mut self) -> Result<()> {
        self.given = std::path::absolute(&self.root).map_err(|error| {
            StorageError::new(
                ErrorKind::InvalidInput,
                "open storage",
                self.root.display(),
                "the path is relative, and the current folder can't be found",
            )
            .with_hint("pass an absolute path, or change to a folder that exists")
            .with_source(error)
        })?;
        self.root = canonical(&self.given);
        Ok(())
    }

    /// Resolves the links on the path once more. If the path had none, a link that replaced the root is not followed:
    /// the user did not choose it.
    pub(crate) fn resolve_again(&mut self) {
        if self.given != self.root {
            self.root = canonical(&self.given);
        }
    }

    /// Bytes past which a stored event or item is too large to be given. It is verified in pieces.
    pub(crate) fn largest_read(&self) -> u64 {
        self.max_record_size.max(self.always_read)
    }

    setters! {
        /// Sets [`read_only`](Self::read_only).
        read_only: bool,

        /// Sets [`file_locks`](Self::file_locks).
        file_locks: bool,

        /// Sets [`max_file_size`](Self::max_file_size), in bytes.
        max_file_size: u64,

        /// Sets [`compression`](Self::compression).
        compression: bool,

        /// Sets [`max_record_size`](Self::max_record_size), in bytes.
        max_record_size: u64,

        /// Sets [`max_document_size`](Self::max_document_size), in bytes.
        max_document_size: u64,

        /// Sets [`max_queue_size`](Self::max_queue_size), in bytes.
        max_queue_size: into Option<u64>,

        /// Sets [`allow_shared_root`](Self::allow_shared_root).
        allow_shared_root: bool,

        /// Sets [`allow_network_fs`](Self::allow_network_fs).
        allow_network_fs: bool,

        /// Sets [`allow_foreign_owner`](Self::allow_foreign_owner).
        allow_foreign_owner: bool,

        /// Sets [`clock`](Self::clock).
        clock: Arc<dyn Clock>,
    }
}
