//! The backend that a configuration asks for.

use std::sync::Arc;

use prodigy_storage_backend::{Backend, Clock, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
#[cfg(feature = "file")]
use prodigy_storage_file::{FileBackend, FileOptions};
#[cfg(feature = "memory")]
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

/// Opens the backend.
pub(crate) fn open(
    config: &StorageConfig,
    read_only: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Backend>> {
    match config.backend {
        #[cfg(feature = "file")]
        BackendKind::File => Ok(Arc::new(FileBackend::open(file_options(
            config, read_only, clock,
        ))?)),
        #[cfg(feature = "memory")]
        BackendKind::Memory => Ok(Arc::new(MemoryBackend::new(memory_options(
            config, read_only, clock,
        ))?)),
        other => {
            let why = "this program was built without that backend";
            let hint =
                format!("set another `backend`, or build the program with the cargo feature `{other}`");
            Err(StorageError::new(ErrorKind::Unsupported, "open storage", other, why).with_hint(hint))
        }
    }
}

/// How the memory backend is opened.
#[cfg(feature = "memory")]
fn memory_options(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> MemoryOptions {
    let options = MemoryOptions::new()
        .max_memory(config.memory.max_memory)
        .max_record_size(config.file.max_record_size)
        .max_document_size(config.file.max_document_size)
        .max_queue_size(config.file.max_queue_size)
        .clock(Arc::clone(clock));
    match &config.memory.persistence_path {
        Some(file) if config.memory.persist_to_disk => options.persistence(file).read_only(read_only),
        _ => options,
    }
}

/// How the file backend is opened.
#[cfg(feature = "file")]
pub(crate) fn file_options(config: &StorageConfig, read_only: bool, clock: &Arc<dyn Clock>) -> FileOptions {
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

#[cfg(all(test, not(all(feature = "file", feature = "memory"))))]
mod tests {
    use prodigy_storage_backend::{ErrorKind, SystemClock};

    use super::*;

    #[test]
    fn a_backend_that_the_program_was_built_without_is_unsupported() {
        let (backend, clock): (_, Arc<dyn Clock>) = (
            if cfg!(feature = "file") {
                BackendKind::Memory
            } else {
                BackendKind::File
            },
            Arc::new(SystemClock),
        );
        let config = StorageConfig::default().backend(backend);
        let error = open(&config, true, &clock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("feature `{backend}`")), "{hint}");
    }
}
