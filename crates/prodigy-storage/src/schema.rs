//! The schema of a PostgreSQL database.

use std::sync::Arc;

use prodigy_storage_backend::{Clock, Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_config::{BackendKind, StorageConfig};
use prodigy_storage_postgres::{PostgresOptions, migrate_schema, renew_store, schema_state};

pub use prodigy_storage_postgres::SchemaState;

/// The tables of the PostgreSQL backend: shows their version, and brings them to the version of this program. Made
/// by [`StorageBuilder::schema`](crate::StorageBuilder::schema).
///
/// Opening storage for writing also brings the tables to the version of this program. If the role of a service may
/// not change tables, another role has to call [`migrate`](Self::migrate) before the service opens the storage.
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

    /// The version of the database's tables, and the version that this program uses.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the database can't be reached, and
    /// [`Unauthorised`](ErrorKind::Unauthorised) if it refuses the login.
    pub fn state(&self) -> Result<SchemaState> {
        schema_state(&self.options)
    }

    /// Creates the tables, or brings them to the version of this program, in one transaction. Does nothing if they
    /// have that version.
    ///
    /// # Errors
    /// As [`state`](Self::state); and [`NewerFormat`](ErrorKind::NewerFormat) for tables of a newer version.
    pub fn migrate(&self) -> Result<SchemaState> {
        migrate_schema(&self.options, Deadline::after(self.timeout))
    }

    /// Gives a database that was restored to an earlier moment a new identity. A cursor from after that moment,
    /// which was made before version 6 of the schema, would skip events. So each cursor that a reader still has is
    /// refused from then on, with [`CursorGap`](ErrorKind::CursorGap). The cursors of restored checkpoints stay valid. No process may work on
    /// the database during this call. Returns the number of checkpoints with a cursor.
    ///
    /// # Errors
    /// As [`state`](Self::state); and [`LockUnavailable`](ErrorKind::LockUnavailable) while a process appends or
    /// holds a lock.
    pub fn renew(&self) -> Result<u64> {
        renew_store(&self.options, Deadline::after(self.timeout))
    }
}
