//! The store of a worker: a folder or a database.

use std::io::Read;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Storage, StorageError};

/// Ends this process when its parent ends, which closes its standard input.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        #[expect(clippy::exit, reason = "the thread ends the process")]
        std::process::exit(1);
    });
}

/// Opens the store, ignoring the environment of this process.
pub(crate) fn open(store: &str) -> Result<Storage, StorageError> {
    let builder = Storage::builder().environment(MapEnvironment::new());
    if !store.contains("://") {
        return builder.base_dir(store).open();
    }
    builder
        .set("backend", "postgres")
        .set("backend_config.url", store)
        .set("connection_pool_size", "3")
        // Short delays, since a worker lives only for a second or two.
        .set("retry_policy.initial_delay", "20ms")
        .set("retry_policy.max_retries", "8")
        .open()
}
