//! A pool of connections. A connection is checked before it is used again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prodigy_storage_backend::StorageError;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Statement};

use crate::direct::is_direct;
use crate::fault::{Stage, fault};
use crate::session::{Names, SETTINGS};
use crate::sql::Sql;
use crate::target::Target;

/// A connection that was idle for longer is checked by a query before it is used, since a proxy may have dropped
/// it without a notice.
const TRUSTED: Duration = Duration::from_secs(5);
/// A connection that was idle for less than this is not checked at all: even the two system calls of a check take
/// a tenth of the time of a small statement.
const JUST_USED: Duration = Duration::from_millis(1);
/// The longest wait for the answer to the query that checks a connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// The largest number of statements that are prepared on a connection.
const STATEMENTS: usize = 64;

/// A connection. Dropping it closes it.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// Set to true when the server reports that a commit no longer waits for its synchronous standby.
    pub(crate) unreplicated: Arc<AtomicBool>,
    idle_since: Instant,
    /// A clone of [`Pool::open`], which has as many clones as there are open connections.
    counted: Option<Arc<()>>,
    /// The statements that are prepared on this connection; `None` behind a pooler, where none may be.
    prepared: Option<Mutex<HashMap<String, Statement>>>,
}

/// Called with the channel and the payload of each notification that a connection receives.
pub(crate) type Notified = Arc<dyn Fn(&str, &str) + Send + Sync>;

impl Link {
    /// Opens a connection, and drives it on the runtime until it is closed.
    pub(crate) async fn open(
        target: &Target,
        notified: Option<Notified>,
        operation: &'static str,
    ) -> Result<Self, StorageError> {
        let (client, connection) = target.connect(operation).await?;
        let unreplicated = Arc::new(AtomicBool::new(false));
        tokio::spawn(drive(connection, Arc::clone(&unreplicated), notified));
        Ok(Self {
            client,
            unreplicated,
            idle_since: Instant::now(),
            counted: None,
            prepared: None,
        })
    }

    /// True if a single server process serves the connection. Its session then has [`SETTINGS`].
    pub(crate) fn is_direct(&self) -> bool {
        self.prepared.is_some()
    }

    /// Applies [`SETTINGS`] to the session if a single server process serves the connection.
    async fn settle(&mut self) -> Result<(), Error> {
        if is_direct(&self.client).await? {
            self.client.batch_execute(SETTINGS).await?;
            self.prepared = Some(Mutex::default());
        }
        Ok(())
    }

    /// The prepared form of a frequent statement. It is prepared by the first call. `None` for any other
    /// statement.
    pub(crate) async fn prepared(&self, sql: &Sql, text: &str) -> Result<Option<Statement>, Error> {
        let Some(prepared) = self.prepared.as_ref().filter(|_| sql.is_frequent) else {
            return Ok(None);
        };
        {
            let prepared = prepared.lock();
            match prepared.get(text) {
                Some(statement) => return Ok(Some(statement.clone())),
                None if prepared.len() >= STATEMENTS => return Ok(None),
                None => {}
            }
        }
        let types: Vec<_> = sql.params().into_iter().map(|(_, kind)| kind).collect();
        let statement = self.client.prepare_typed(text, &types).await?;
        prepared.lock().insert(text.to_owned(), statement.clone());
        Ok(Some(statement))
    }

    /// Runs a statement that returns no rows.
    pub(crate) async fn run(&self, statement: &str, operation: &'static str) -> Result<(), StorageError> {
        self.client
            .batch_execute(statement)
            .await
            .map_err(|error| fault(error, Stage::Before, operation, ""))
    }

    async fn is_alive(&self) -> bool {
        let idle = self.idle_since.elapsed();
        if idle < JUST_USED && !self.client.is_closed() {
            return true;
        }
        // The runtime that drives this connection runs only during calls. So it may not have noticed yet that the
        // server closed the connection. During the first pause it asks the operating system for news, and during
        // the second the connection reads them.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        if self.client.is_closed() {
            return false;
        }
        if idle < TRUSTED {
            return true;
        }
        let sign = tokio::time::timeout(SIGN_OF_LIFE, self.client.batch_execute(""));
        matches!(sign.await, Ok(Ok(())))
    }
}

/// Handles the answers, notices and notifications that arrive, until the connection ends.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    unreplicated: Arc<AtomicBool>,
    notified: Option<Notified>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        match message {
            // The notice arrives before the answer to the commit, so the commit sees the flag. The name of the
            // routine is compared, because the server translates the text of the notice.
            AsyncMessage::Notice(notice) if notice.routine() == Some("SyncRepWaitForLSN") => {
                unreplicated.store(true, Ordering::SeqCst);
            }
            AsyncMessage::Notification(notification) => {
                if let Some(notified) = &notified {
                    notified(notification.channel(), notification.payload());
                }
            }
            _ => {}
        }
    }
}

/// The connections of a handle.
pub(crate) struct Pool {
    target: Target,
    names: Names,
    size: usize,
    /// Each open connection holds a clone of this value, so that the connections are counted.
    open: Arc<()>,
    /// Idle connections that the runtime of the handle drives.
    idle: Mutex<Vec<Link>>,
    /// Idle connections that the calling threads drive, each with its own runtime.
    seats: Mutex<Vec<Seat>>,
    permits: Arc<Semaphore>,
}

/// Holds the connection of a seat while no call uses it.
pub(crate) type Shelf = Arc<Mutex<Option<Link>>>;

/// A runtime that the calling thread itself drives, and its connection. A call on it needs no other thread.
pub(crate) struct Seat {
    runtime: Option<Runtime>,
    pub(crate) shelf: Shelf,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Closes the connection. A plain drop would block, which is not allowed on a thread of another
            // runtime.
            runtime.shutdown_background();
        }
    }
}

/// A connection that a call uses. [`Pool::give_back`] returns it to the pool; dropping it closes the connection.
pub(crate) struct Lent {
    pub(crate) link: Link,
    /// Where the connection is returned, if it belongs to a seat.
    shelf: Option<Shelf>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(target: Target, names: Names, size: usize) -> Self {
        Self {
            target,
            names,
            size,
            open: Arc::default(),
            idle: Mutex::default(),
            seats: Mutex::default(),
            permits: Arc::new(Semaphore::new(size)),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// A seat for this thread. `None` if all connections are in use, and on a thread of a runtime, which must not
    /// drive another one.
    pub(crate) fn seat(&self) -> Option<Seat> {
        if Handle::try_current().is_ok() || self.permits.available_permits() == 0 {
            return None;
        }
        if let Some(seat) = self.seats.lock().pop() {
            return Some(seat);
        }
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        Some(Seat {
            runtime: Some(runtime),
            shelf: Shelf::default(),
        })
    }

    /// Runs a call on this thread. If the seat's connection is still open then, the seat is kept for a later call.
    pub(crate) fn run<T>(&self, seat: Seat, call: impl Future<Output = T>) -> Option<T> {
        let answer = seat.runtime.as_ref()?.block_on(call);
        if seat.shelf.lock().is_some() {
            self.seats.lock().push(seat);
            // While this connection was in use, another thread may have opened one more than the limit allows.
            self.close_above(self.size);
        }
        Some(answer)
    }

    /// If more than this number of connections are open, closes an idle one.
    fn close_above(&self, number: usize) {
        if Arc::strong_count(&self.open) - 1 <= number {
            return;
        }
        let idle = self.idle.lock().pop();
        if idle.is_none() {
            let seat = self.seats.lock().pop();
            drop(seat);
        }
    }

    /// Lends the connection that is kept on the `shelf` and that the calling thread drives. Without a `shelf`, lends one that the runtime
    /// of the handle drives.
    pub(crate) async fn lend(
        &self,
        shelf: Option<&Shelf>,
        operation: &'static str,
    ) -> Result<Lent, StorageError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit
            .map_err(|error| StorageError::timeout(operation, "", "a connection").with_source(error))?;
        loop {
            // The mutex is unlocked again before the connection is checked.
            let idle = match shelf {
                Some(shelf) => shelf.lock().take(),
                None => self.idle.lock().pop(),
            };
            let link = match idle {
                Some(link) if link.is_alive().await => link,
                Some(_) => continue,
                None => self.open(operation).await?,
            };
            return Ok(Lent {
                link,
                shelf: shelf.cloned(),
                _permit: permit,
            });
        }
    }

    async fn open(&self, operation: &'static str) -> Result<Link, StorageError> {
        // The caller has a permit. So if the limit of connections is reached, one of them is idle, of the other
        // kind, and is closed.
        self.close_above(self.size - 1);
        let counted = Arc::clone(&self.open);
        let mut link = Link::open(&self.target, None, operation).await?;
        link.counted = Some(counted);
        let settled = link.settle().await;
        settled.map_err(|error| fault(error, Stage::Before, operation, &self.target.shown))?;
        Ok(link)
    }

    pub(crate) fn give_back(&self, mut lent: Lent) {
        if lent.link.client.is_closed() {
            return;
        }
        lent.link.idle_since = Instant::now();
        match &lent.shelf {
            Some(shelf) => *shelf.lock() = Some(lent.link),
            None => self.idle.lock().push(lent.link),
        }
    }
}
