//! The handle on a store in a database, and the state that its clones share.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prodigy_storage_backend::{Deadline, Durability, Result, StorageError, Waiters};
use prodigy_storage_layout::JobAddress;

use crate::catalog::Counters;
use crate::db::Db;
use crate::lease::Leases;
use crate::log::{OF_WRITERS, Writer, WriterRow, of_writers};
use crate::notifier::Notifier;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::queue::Fronts;
use crate::schema::{self, SchemaState};
use crate::session::Names;
use crate::target::Target;

/// When the last handle is dropped, closing its writers may take this long at most.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(2);

/// A store in a PostgreSQL database. A clone is another handle that shares the connections.
///
/// ```no_run
/// use prodigy_storage_backend::{Catalog, Deadline};
/// use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};
///
/// let backend = PostgresBackend::open(PostgresOptions::new("postgresql://app@localhost/jobs"), Deadline::never())?;
/// println!("{:?}", backend.health(Deadline::never())?.severity());
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone)]
pub struct PostgresBackend {
    shared: Arc<Shared>,
}

struct Shared {
    db: Arc<Db>,
    options: PostgresOptions,
    /// A number that distinguishes this store from others. It is part of each cursor.
    store: u32,
    writers: Arc<Mutex<HashMap<JobAddress, Arc<Writer>>>>,
    waiters: Arc<Waiters>,
    leases: Arc<Leases>,
    notifier: Arc<Notifier>,
    counters: Counters,
    fronts: Arc<Fronts>,
}

fn connect(options: &PostgresOptions) -> Result<Db> {
    let names = Names::new(options)?;
    Db::new(Pool::new(Target::new(options)?, names, options.connections))
}

/// The version of the database's tables, even if this version of the program can't use them.
///
/// # Errors
/// The errors of opening a connection.
pub fn schema_state(options: &PostgresOptions) -> Result<SchemaState> {
    let db = connect(options)?;
    let deadline = Deadline::after(options.connect_timeout * 2);
    let target = db.pool.target().shown.clone();
    db.call("read schema", &target, deadline, move |mut session| async move {
        schema::state(&mut session).await
    })
}

/// Creates the tables, or migrates them to the version of this program. Does nothing if they have that version.
///
/// # Errors
/// [`NewerFormat`](prodigy_storage_backend::ErrorKind::NewerFormat) for tables of a newer version, and the errors
/// of opening a connection.
pub fn migrate_schema(options: &PostgresOptions, deadline: Deadline) -> Result<SchemaState> {
    let db = connect(options)?;
    let target = db.pool.target().shown.clone();
    db.call(
        "migrate schema",
        &target,
        deadline,
        move |mut session| async move { schema::migrate(&mut session).await },
    )
}

/// Gives a database that was restored to an earlier moment a new identity. Writers number their events again from
/// that moment, so a cursor from after it would skip events, if it was made before version 6 of the schema: a later
/// one is checked by what it names. Each cursor that was made before this call is refused from now on, with
/// [`CursorGap`](prodigy_storage_backend::ErrorKind::CursorGap), and its reader has to begin again. The cursors in
/// stored checkpoints are from before the restored moment: they are translated and stay valid. Returns the number of
/// checkpoints with a cursor.
///
/// # Errors
/// [`LockUnavailable`](prodigy_storage_backend::ErrorKind::LockUnavailable) while a process appends or holds a
/// lock; [`NotFound`](prodigy_storage_backend::ErrorKind::NotFound) for a schema without tables, or with tables of
/// an older version; the errors of opening a connection.
pub fn renew_store(options: &PostgresOptions, deadline: Deadline) -> Result<u64> {
    let db = connect(options)?;
    let target = db.pool.target().shown.clone();
    db.call("renew store", &target, deadline, move |mut session| async move {
        schema::renew(&mut session).await
    })
}

impl PostgresBackend {
    /// Opens a store. Creates or migrates its tables, unless the options [disable that](PostgresOptions::migrate).
    ///
    /// # Errors
    /// [`InvalidConfig`](prodigy_storage_backend::ErrorKind::InvalidConfig) for a connection string that is refused,
    /// [`Unavailable`](prodigy_storage_backend::ErrorKind::Unavailable) for a server that can't be reached,
    /// [`Unauthorised`](prodigy_storage_backend::ErrorKind::Unauthorised) if the server refuses the user or the
    /// password, [`NewerFormat`](prodigy_storage_backend::ErrorKind::NewerFormat) for tables of a newer version.
    pub fn open(options: PostgresOptions, deadline: Deadline) -> Result<Self> {
        let db = Arc::new(connect(&options)?);
        let may_migrate = options.migrate;
        let target = db.pool.target().shown.clone();
        let state = db.call(
            "open database",
            &target,
            deadline,
            move |mut session| async move {
                let state = if may_migrate {
                    schema::migrate(&mut session).await?
                } else {
                    schema::state(&mut session).await?
                };
                schema::check(&state, &session)?;
                Ok(state)
            },
        )?;
        let writers: Arc<Mutex<HashMap<JobAddress, Arc<Writer>>>> = Arc::default();
        let leases = Arc::new(Leases::default());
        let of_task = Arc::downgrade(&writers);
        leases.renew_always(&db, move || {
            let writers = of_task.upgrade();
            let writers = writers.as_ref().map(|writers| writers.lock());
            writers
                .iter()
                .flat_map(|writers| writers.values())
                .filter_map(|writer| writer.row())
                .collect()
        });
        let (store, waiters) = (state.store.map_or(0, |id| id.as_fields().0), Arc::default());
        let notifier = Arc::new(Notifier::new(store, Arc::clone(&waiters)));
        notifier.send_always(&db);
        Ok(Self {
            shared: Arc::new(Shared {
                db,
                options,
                store,
                writers,
                waiters,
                notifier,
                leases,
                counters: Counters::default(),
                fronts: Arc::default(),
            }),
        })
    }

    pub(crate) fn db(&self) -> &Db {
        &self.shared.db
    }

    pub(crate) fn shared_db(&self) -> Arc<Db> {
        Arc::clone(&self.shared.db)
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.shared.options
    }

    pub(crate) fn store(&self) -> u32 {
        self.shared.store
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.shared.waiters
    }

    pub(crate) fn leases(&self) -> &Arc<Leases> {
        &self.shared.leases
    }

    /// For each job, the place in its queue at which the next take begins.
    pub(crate) fn fronts(&self) -> &Arc<Fronts> {
        &self.shared.fronts
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Wakes all callers, in this process and in others, that wait for events of a job.
    pub(crate) fn announce(&self, job: &JobAddress) {
        self.shared.waiters.notify(job);
        self.shared.notifier.announce(job);
    }

    /// Receives the notifications of other processes. The first call begins to listen for them.
    pub(crate) fn notifier(&self) -> &Arc<Notifier> {
        self.shared.notifier.listen(&self.shared.db);
        &self.shared.notifier
    }

    pub(crate) fn writer(&self, job: &JobAddress) -> Arc<Writer> {
        let mut writers = self.shared.writers.lock();
        if let Some(writer) = writers.get(job) {
            return Arc::clone(writer);
        }
        let writer = Arc::new(Writer::start(
            self.db(),
            job,
            self.shared.options.max_segment_size,
        ));
        writers.insert(job.clone(), Arc::clone(&writer));
        writer
    }

    /// Removes the writer of a log from this handle. Returns its row in the database, which the caller has to
    /// close.
    pub(crate) fn drop_writer(&self, job: &JobAddress) -> Option<WriterRow> {
        self.shared.writers.lock().remove(job)?.row()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let rows: Vec<WriterRow> = self
            .writers
            .lock()
            .drain()
            .filter_map(|(_, writer)| writer.row())
            .collect();
        let announcement = self.notifier.announcement();
        if rows.is_empty() && announcement.is_none() {
            return;
        }
        let text = format!("update @.writer w set closed = true {OF_WRITERS}");
        let close = of_writers(text, &rows);
        // If this fails, other processes close the writers once their leases have ended.
        let closed: Result<(), StorageError> = self.db.call(
            "close writers",
            &"",
            Deadline::after(CLOSE),
            move |mut session| async move {
                let statements = [close].into_iter().chain(announcement).collect();
                session.write(Durability::Relaxed, statements).await.map(drop)
            },
        );
        if let Err(error) = closed {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "writers are closed when their leases have ended"
            );
        }
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.db.fmt(f)
    }
}
