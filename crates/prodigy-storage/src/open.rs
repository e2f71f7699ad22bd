//! Opens the backend that a configuration names.

use std::sync::Arc;

use prodigy_storage_backend::{Backend, Clock, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
#[cfg(feature = "file")]
use prodigy_storage_file::{FileBackend, FileOptions};
#[cfg(feature = "memory")]
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
#[cfg(feature = "postgres")]
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

/// Opens the backend that the configuration names.
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
        #[cfg(feature = "postgres")]
        BackendKind::Postgres => {
            let deadline = prodigy_storage_backend::Deadline::after(config.timeout);
            let options = postgres_options(config, clock).migrate(!read_only);
            // A server that restarts or is at its limit is tried again, as by a call.
            let opened = prodigy_storage_retry::Retry::new(config.retry_policy.clone()).run(
                std::time::Instant::now().checked_add(config.timeout),
                StorageError::is_transient,
                |_| {},
                |_| PostgresBackend::open(options.clone(), deadline),
            );
            Ok(Arc::new(opened.map_err(|failure| failure.error)?))
        }
        other => {
            let why = "this program was built without that backend";
            let hint =
                format!("set another `backend`, or build the program with the cargo feature `{other}`");
            Err(StorageError::new(ErrorKind::Unsupported, "open storage", other, why).with_hint(hint))
        }
    }
}

/// The options of the memory backend, from the configuration.
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

/// The options of the PostgreSQL backend, from the configuration.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_options(config: &StorageConfig, clock: &Arc<dyn Clock>) -> PostgresOptions {
    let postgres = &config.postgres;
    PostgresOptions::new(postgres.url.clone().unwrap_or_default())
        .password(postgres.password.clone())
        .password_file(postgres.password_file.clone())
        .schema(&postgres.schema)
        .application_name(&postgres.application_name)
        .connections(config.connection_pool_size)
        .connect_timeout(config.timeout.min(CONNECT_TIMEOUT))
        .max_record_size(config.file.max_record_size)
        .max_document_size(config.file.max_document_size)
        .max_queue_size(config.file.max_queue_size)
        .clock(Arc::clone(clock))
}

/// The longest wait for the answer of a server to a new connection. After that, the next server of the connection
/// string is tried.
#[cfg(feature = "postgres")]
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The options of the file backend, from the configuration.
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

#[cfg(all(test, not(all(feature = "file", feature = "memory", feature = "postgres"))))]
mod tests {
    use prodigy_storage_backend::{ErrorKind, SystemClock};

    use super::*;

    #[test]
    fn a_backend_that_the_program_was_built_without_is_unsupported() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let built = [
            (BackendKind::File, cfg!(feature = "file")),
            (BackendKind::Memory, cfg!(feature = "memory")),
            (BackendKind::Postgres, cfg!(feature = "postgres")),
        ];
        assert_eq!(built.map(|(backend, _)| backend), BackendKind::ALL);
        for (backend, _) in built.into_iter().filter(|(_, is_built)| !is_built) {
            let config = StorageConfig::default().backend(backend);
            let error = open(&config, true, &clock).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let hint = error.hint().unwrap();
            assert!(hint.contains(&format!("feature `{backend}`")), "{hint}");
        }
    }
}
