//! The pool of connections, which are checked before a call gets one.

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

/// A connection that was idle for longer is checked by a query before it is used: proxies drop idle connections
/// silently.
const TRUSTED: Duration = Duration::from_secs(5);
/// A connection that was in use a moment ago is used again without a look: two calls of the system are a tenth of a small statement.
const JUST_USED: Duration = Duration::from_millis(1);
/// The longest wait for the answer to that query.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// The largest number of statements that a connection prepares.
const STATEMENTS: usize = 64;

/// A connection. Dropping it closes it.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// True after the server reported that it stopped waiting for its synchronous standby.
    pub(crate) unreplicated: Arc<AtomicBool>,
    idle_since: Instant,
    /// The clone of [`Pool::open`] that counts this connection.
    counted: Option<Arc<()>>,
    /// The statements that are prepared in the server process; `None` behind a pooler.
    prepared: Option<Mutex<HashMap<String, Statement>>>,
}

/// Receives the notifications of a connection: channel and payload.
pub(crate) type Notified = Arc<dyn Fn(&str, &str) + Send + Sync>;

impl Link {
    /// Opens a connection, and drives it on the runtime until it is closed.
    pub(crate) async fn open(
        target: &Target,
        notified: Option<Notified>,
        operation: &'static str,
    ) -> Result<Self, StorageError> {
        let opened = target.config.connect(target.tls.clone()).await;
        let (client, connection) =
            opened.map_err(|error| fault(error, Stage::Before, operation, &target.shown))?;
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

    /// True if one server process serves the connection, so that its session has [`SETTINGS`].
    pub(crate) fn is_direct(&self) -> bool {
        self.prepared.is_some()
    }

    /// Applies the session's settings if one server process serves the connection.
    async fn settle(&mut self) -> Result<(), Error> {
        if is_direct(&self.client).await? {
            self.client.batch_execute(SETTINGS).await?;
            self.prepared = Some(Mutex::default());
        }
        Ok(())
    }

    /// The prepared form of a frequent statement. The first call prepares it.
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
        // The runtime of a seat runs during calls only, so it may not have noticed that the server closed the connection: the
        // first pause asks the system for news, the second one lets the connection read them.
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

/// Handles answers, notices and notifications until the connection ends.
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
            // The notice arrives before the answer to the commit, so the commit sees it. Only the name of the routine
            // is not translated by the server's language setting.
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
    /// Each open connection holds a clone.
    open: Arc<()>,
    /// The idle connections that the runtime of the handle drives.
    idle: Mutex<Vec<Link>>,
    /// The idle connections that calling threads drive.
    seats: Mutex<Vec<Seat>>,
    permits: Arc<Semaphore>,
}

/// The connection of a seat while no call uses it.
pub(crate) type Shelf = Arc<Mutex<Option<Link>>>;

/// A runtime that the calling thread drives, and the place of its connection. A call on it needs no other thread.
pub(crate) struct Seat {
    runtime: Option<Runtime>,
    pub(crate) shelf: Shelf,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // This closes the connection. A plain drop would wait, which a thread of another runtime must not do.
            runtime.shutdown_background();
        }
    }
}

/// A connection in use by a call. [`Pool::give_back`] returns it; a drop closes it.
pub(crate) struct Lent {
    pub(crate) link: Link,
    /// The place of the connection if it belongs to a seat.
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

    /// A seat for this thread; `None` while all connections are in use, and on the threads of a runtime: they must not
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

    /// Runs a call on this thread. The seat is kept for the next call if its connection is still open.
    pub(crate) fn run<T>(&self, seat: Seat, call: impl Future<Output = T>) -> Option<T> {
        let answer = seat.runtime.as_ref()?.block_on(call);
        if seat.shelf.lock().is_some() {
            self.seats.lock().push(seat);
            // Another thread may have opened one more before this one was known to be idle.
            self.close_above(self.size);
        }
        Some(answer)
    }

    /// Closes an idle connection if more than this number are open.
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

    /// Lends the connection of a seat, or without a shelf one that the runtime of the handle drives.
    pub(crate) async fn lend(
        &self,
        shelf: Option<&Shelf>,
        operation: &'static str,
    ) -> Result<Lent, StorageError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit
            .map_err(|error| StorageError::timeout(operation, "", "a connection").with_source(error))?;
        loop {
            // The lock is released before the wait.
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
        // The caller holds a permit, so if the pool is at its limit, a connection of the other kind is idle.
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
