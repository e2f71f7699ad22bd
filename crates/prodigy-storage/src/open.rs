//! The backend that a configuration asks for.

use std::sync::Arc;

use prodigy_storage_backend::{Backend, Clock, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, Durability, StorageConfig};
use prodigy_storage_file::{Doctor, FileBackend, FileOptions};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

/// Opens the backend.
pub(crate) fn open(
    config: &StorageConfig,
    read_only: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Backend>> {
    Ok(match config.backend {
        BackendKind::Memory => {
            let mut options = MemoryOptions::new()
                .max_memory(config.memory.max_memory)
                .max_record_size(config.file.max_record_size)
                .max_document_size(config.file.max_document_size)
                .max_queue_size(config.file.max_queue_size)
                .clock(Arc::clone(clock));
            if config.memory.persist_to_disk
                && let Some(file) = &config.memory.persistence_path
            {
                options = options.persistence(file).read_only(read_only);
            }
            Arc::new(MemoryBackend::new(options)?)
        }
        _ => {
            let options = file_options(config, read_only, clock);
            Arc::new(FileBackend::open(options)?)
        }
    })
}

/// How the file backend is opened.
fn file_options(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> FileOptions {
    let file = &config.file;
    FileOptions::new(&file.base_dir)
        .read_only(read_only)
        .file_locks(file.enable_file_locks)
        .max_file_size(file.max_file_size)
        .compression(file.enable_compression)
        .max_record_size(file.max_record_size)
        .max_document_size(file.max_document_size)
        .max_queue_size(file.max_queue_size)
        .allow_shared_root(file.allow_shared_root)
        .allow_network_fs(file.allow_network_fs)
        .allow_foreign_owner(file.allow_foreign_owner)
        .clock(Arc::clone(clock))
}

/// The doctor of the backend that a configuration asks for.
pub(crate) fn doctor(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> Result<Doctor> {
    if config.backend == BackendKind::File {
        return Doctor::new(file_options(config, read_only, clock));
    }
    Err(StorageError::new(
        ErrorKind::Unsupported,
        "examine storage",
        config.backend.as_str(),
        "only files can be examined and repaired: this backend keeps none",
    ))
}

/// The backend's word for a durability of the configuration.
pub(crate) fn durability(of: Durability) -> prodigy_storage_backend::Durability {
    match of {
        Durability::Strict => prodigy_storage_backend::Durability::Strict,
        Durability::Relaxed => prodigy_storage_backend::Durability::Relaxed,
    }
}
