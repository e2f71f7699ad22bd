//! The store that a worker is given: a folder, or a database.

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Storage, StorageError};

/// Opens it without the environment of this process.
pub(crate) fn open(store: &str) -> Result<Storage, StorageError> {
    let builder = Storage::builder().environment(MapEnvironment::new());
    if !store.contains("://") {
        return builder.base_dir(store).open();
    }
    builder
        .set("backend", "postgres")
        .set("backend_config.url", store)
        .set("connection_pool_size", "3")
        // A worker lives for a second or two.
        .set("retry_policy.initial_delay", "20ms")
        .set("retry_policy.max_retries", "8")
        .open()
}
