//! The pool of connections, which are checked before a call gets one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prodigy_storage_backend::StorageError;
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
        if self.client.is_closed() {
            return false;
        }
        if self.idle_since.elapsed() < TRUSTED {
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
    idle: Mutex<Vec<Link>>,
    permits: Arc<Semaphore>,
}

/// A connection in use by a call. [`Pool::give_back`] returns it; a drop closes it.
pub(crate) struct Lent {
    pub(crate) link: Link,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(target: Target, names: Names, size: usize) -> Self {
        Self {
            target,
            names,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(size)),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) async fn lend(&self, operation: &'static str) -> Result<Lent, StorageError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit
            .map_err(|error| StorageError::timeout(operation, "", "a connection").with_source(error))?;
        loop {
            // The lock is released before the wait.
            let idle = self.idle.lock().pop();
            let link = match idle {
                Some(link) if link.is_alive().await => link,
                Some(_) => continue,
                None => {
                    let mut link = Link::open(&self.target, None, operation).await?;
                    let settled = link.settle().await;
                    settled.map_err(|error| fault(error, Stage::Before, operation, &self.target.shown))?;
                    link
                }
            };
            return Ok(Lent {
                link,
                _permit: permit,
            });
        }
    }

    pub(crate) fn give_back(&self, mut lent: Lent) {
        if !lent.link.client.is_closed() {
            lent.link.idle_since = Instant::now();
            self.idle.lock().push(lent.link);
        }
    }
}
