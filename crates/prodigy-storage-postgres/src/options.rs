//! Settings of the backend.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Clock, SystemClock};
use prodigy_storage_layout::Timestamp;

/// Returns the time by which the leases of items are measured.
pub(crate) type ServerClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How to connect to a database, and the limits of a store.
///
/// ```
/// use prodigy_storage_postgres::PostgresOptions;
///
/// let options = PostgresOptions::new("postgresql://app:secret@db.example.com/jobs").schema("shop");
/// assert!(!format!("{options:?}").contains("secret"), "a password is never shown");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The connection string: a URL, or `key=value` pairs. It may name several hosts.
    pub(crate) url: String,
    /// The password, used if the connection string has none.
    pub(crate) password: Option<String>,
    /// A password file in the format of libpq, used if neither the connection string nor `password` has a password.
    pub(crate) password_file: Option<PathBuf>,
    /// The schema that holds the tables.
    pub(crate) schema: String,
    /// The largest number of connections that calls use at one time.
    pub(crate) connections: usize,
    /// The name of this program in the server's list of sessions.
    pub(crate) application_name: String,
    /// The longest time for opening a connection.
    pub(crate) connect_timeout: Duration,
    /// True if missing tables are created, and older ones migrated, when the store is opened.
    pub(crate) migrate: bool,
    pub(crate) max_record_size: u64,
    pub(crate) max_document_size: u64,
    pub(crate) max_queue_size: Option<u64>,
    pub(crate) max_segment_size: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server_clock: Option<ServerClock>,
}

impl PostgresOptions {
    /// Options for a database, with the default settings.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            password_file: None,
            schema: "prodigy".into(),
            connections: 10,
            application_name: "prodigy-storage".into(),
            connect_timeout: Duration::from_secs(5),
            migrate: true,
            max_record_size: 64 << 20,
            max_document_size: 64 << 20,
            max_queue_size: None,
            max_segment_size: 100 << 20,
            clock: Arc::new(SystemClock),
            server_clock: None,
        }
    }

    /// Sets the password that is used if the connection string has none, as `PGPASSWORD` does.
    #[must_use]
    pub fn password(mut self, password: Option<String>) -> Self {
        self.password = password;
        self
    }

    /// Sets the password file, like `PGPASSFILE` and `~/.pgpass`. A missing file is no error. A file that other
    /// users can read is ignored, as libpq does.
    #[must_use]
    pub fn password_file(mut self, path: Option<PathBuf>) -> Self {
        self.password_file = path;
        self
    }

    /// Sets the schema that holds the tables; the default is `prodigy`.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the largest number of connections that calls use at one time; at least 1, by default 10. The handle
    /// uses up to three more: for notifications, for the renewal of leases, and for the release of a lock.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the name in the server's list of sessions.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Sets the longest time for opening a connection; the default is 5 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets whether missing tables are created, and older ones migrated, when the store is opened; the default is
    /// true. Set false for a role that may not change tables: older tables are then refused.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets the largest size of a record or item, in bytes.
    #[must_use]
    pub fn max_record_size(mut self, bytes: u64) -> Self {
        self.max_record_size = bytes;
        self
    }

    /// Sets the largest size of a document, in bytes.
    #[must_use]
    pub fn max_document_size(mut self, bytes: u64) -> Self {
        self.max_document_size = bytes;
        self
    }

    /// Sets the largest size of a queue, in bytes of its items.
    #[must_use]
    pub fn max_queue_size(mut self, bytes: Option<u64>) -> Self {
        self.max_queue_size = bytes;
        self
    }

    /// Sets the size in bytes that the events of one writer may reach. A larger writer is closed, and a new one
    /// begins; the default is 100 MiB. Retention removes only the events of closed writers.
    #[must_use]
    pub fn max_segment_size(mut self, bytes: u64) -> Self {
        self.max_segment_size = bytes;
        self
    }

    /// Sets the clock of this machine, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the clock for leases and delays of items, instead of the server's, for tests.
    #[must_use]
    pub fn server_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.server_clock = Some(Arc::new(clock));
        self
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}
