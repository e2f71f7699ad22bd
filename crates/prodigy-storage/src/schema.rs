//! The schema of a database.

use std::sync::Arc;

use prodigy_storage_backend::{Clock, Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
use prodigy_storage_postgres::{PostgresOptions, migrate_schema, renew_store, schema_state};

pub use prodigy_storage_postgres::SchemaState;

/// The tables of the PostgreSQL backend: their version, and the way to a newer one
/// ([`StorageBuilder::schema`](crate::StorageBuilder::schema)).
///
/// Opening storage for writing migrates them as well. A service whose role may not change tables is opened after someone
/// else called [`migrate`](Self::migrate).
///
/// ```no_run
/// use prodigy_storage::Storage;
///
/// let schema = Storage::builder().config_file("storage.yaml").schema()?;
/// let state = schema.state()?;
/// if state.found < state.wanted {
///     schema.migrate()?;
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Debug)]
pub struct Schema {
    options: PostgresOptions,
    timeout: std::time::Duration,
}

impl Schema {
    pub(crate) fn of(config: &StorageConfig, clock: &Arc<dyn Clock>) -> Result<Self> {
        if config.backend != BackendKind::Postgres {
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                "read schema",
                config.backend,
                "only the `postgres` backend has a schema",
            )
            .with_hint("set `backend: postgres` and `backend_config.url`"));
        }
        Ok(Self {
            options: crate::open::postgres_options(config, clock),
            timeout: config.timeout,
        })
    }

    /// The version that the database has, and the version of this program.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) and [`Unauthorised`](ErrorKind::Unauthorised) for a database that refuses the
    /// connection.
    pub fn state(&self) -> Result<SchemaState> {
        schema_state(&self.options)
    }

    /// Creates the tables, or brings them to the version of this program, in one transaction. Harmless if they have it.
    ///
    /// # Errors
    /// As [`state`](Self::state); [`NewerFormat`](ErrorKind::NewerFormat) for tables of a newer version.
    pub fn migrate(&self) -> Result<SchemaState> {
        migrate_schema(&self.options, Deadline::after(self.timeout))
    }

    /// Gives a database that was restored to an earlier moment a new identity, while no process works on it. A cursor of after that moment would
    /// pass over events: each cursor that a reader still has then gets [`CursorGap`](ErrorKind::CursorGap). Checkpoints keep the positions that were
    /// restored with them. Returns the number of checkpoints with a position.
    ///
    /// # Errors
    /// As [`state`](Self::state); [`LockUnavailable`](ErrorKind::LockUnavailable) while a process appends or holds a lock.
    pub fn renew(&self) -> Result<u64> {
        renew_store(&self.options, Deadline::after(self.timeout))
    }
}
