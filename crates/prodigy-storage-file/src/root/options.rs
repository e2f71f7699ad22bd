//! The options of a file backend.

use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::{Clock, ErrorKind, Result, StorageError, SystemClock, setters};

use crate::fs::canonical;

/// Options for opening a [`FileBackend`](crate::FileBackend).
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
    /// The folder that contains all data. It need not exist: the first write creates it.
    pub root: PathBuf,
    /// The path of the root as the caller gave it, in which links are not resolved. While the store is in use, this
    /// path must lead to the open root.
    pub(crate) given: PathBuf,
    /// Refuses every write. Nothing is created, moved or repaired.
    pub read_only: bool,
    /// Uses the operating system's locks between processes. `false` promises that this process is the only one that writes:
    /// opening fails while another process has the store open for writing, and a file system without locks is accepted.
    pub file_locks: bool,
    /// The size in bytes at which a log segment is sealed and the next one begins.
    pub max_file_size: u64,
    /// Compresses sealed segments in the background.
    pub compression: bool,
    /// The largest event or item that may be written, in bytes. A stored event or item that is larger than both this
    /// limit and 64 MiB is not returned, but reported as too large.
    pub max_record_size: u64,
    /// The size up to which stored records are always read, in bytes: they may have been written under a larger
    /// `max_record_size`.
    pub(crate) always_read: u64,
    /// The largest total size of one scan's buffers, in bytes. A larger record still gets a buffer of its own size.
    pub(crate) scan_memory: usize,
    /// The largest checkpoint or other document that may be written, in bytes. A stored document that is larger than
    /// both this limit and 1 MiB is not read.
    pub max_document_size: u64,
    /// The largest size of a dead-letter queue, in bytes: a push that would exceed it is refused. `None` means no limit.
    pub max_queue_size: Option<u64>,
    /// Accepts a root that any user can write to, or that is below a folder where another user could replace it.
    pub allow_shared_root: bool,
    /// Accepts a network file system.
    pub allow_network_fs: bool,
    /// Allows writes by another user than the owner of the root. New files then get the owner of the root, if this user may
    /// change the owner of a file.
    pub allow_foreign_owner: bool,
    /// The clock for times and leases.
    pub clock: Arc<dyn Clock>,
}

impl FileOptions {
    /// The default options, with this root.
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

    /// Resolves the links on the path of the root, and keeps the given path too. A relative path starts at the current folder.
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

    /// Resolves the links on the given path again. If the path had no links, it is not resolved: a link that has since
    /// replaced the root was not chosen by the user.
    pub(crate) fn resolve_again(&mut self) {
        if self.given != self.root {
            self.root = canonical(&self.given);
        }
    }

    /// The largest stored event or item that is returned, in bytes. A larger one is only verified, in pieces.
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
