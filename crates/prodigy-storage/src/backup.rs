//! Archives of a store, or of one job.

use std::sync::Arc;

use prodigy_storage_backend::{Clock, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
pub use prodigy_storage_file::{Backup, BackupSummary};

use crate::open;

/// Opens the backend that a configuration names, to write and restore archives.
pub(crate) fn of(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> Result<Backup> {
    if config.backend != BackendKind::File {
        let why = "an archive is a copy of files, and this backend keeps none";
        return Err(
            StorageError::new(ErrorKind::Unsupported, "back up", config.backend.as_str(), why)
                .with_hint("set `backend: file`, or export the job"),
        );
    }
    Backup::new(open::file_options(config, read_only, clock))
}
