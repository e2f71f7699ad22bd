//! The runtime that drives the connections, and calls from threads into it.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::fault::unknown;
use crate::pool::Pool;
use crate::session::{Claim, Session};

/// The database: what every part of the backend calls.
pub(crate) struct Db {
    runtime: Option<Runtime>,
    handle: Handle,
    pub(crate) pool: Arc<Pool>,
}

impl Db {
    pub(crate) fn new(pool: Pool) -> Result<Self> {
        let built = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("prodigy-postgres")
            .enable_all()
            .build();
        let runtime = built.map_err(|error| {
            StorageError::new(
                ErrorKind::Io,
                "open database",
                &pool.target().shown,
                "no thread could be started",
            )
            .with_source(error)
        })?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            pool: Arc::new(pool),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes a call with a connection of its own, until the deadline. Then its connection is closed, and nothing is
    /// cancelled: a cancelled commit could be stored or not.
    pub(crate) fn call<T, W, F>(
        &self,
        operation: &'static str,
        target: &dyn Display,
        deadline: Deadline,
        work: W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Session) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        deadline.check(operation, target, "its turn")?;
        let (sender, receiver) = sync_channel(1);
        let (claim, of_task) = (Claim::default(), target.to_string());
        let (pool, claim_of_task) = (Arc::clone(&self.pool), claim.clone());
        let task = self.handle.spawn(async move {
            let result = match Session::open(&pool, claim_of_task, operation, of_task).await {
                Ok(session) => work(session).await,
                Err(error) => Err(error),
            };
            // The caller may have gone.
            let _ = sender.send(result);
        });
        let answer = answer(&receiver, &claim, deadline, operation, target);
        // It has ended, unless the deadline passed.
        task.abort();
        answer
    }
}

/// Waits for the answer of a task until the deadline. The fate of a write that was sent by then is unknown.
pub(crate) fn answer<T>(
    receiver: &Receiver<Result<T>>,
    claim: &Claim,
    deadline: Deadline,
    operation: &'static str,
    target: &dyn Display,
) -> Result<T> {
    let answer = match deadline.remaining() {
        Some(left) => receiver.recv_timeout(left),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    match answer {
        Ok(result) => result,
        // It may be answered at this moment.
        Err(_) if !claim.give_up() => receiver.try_recv().unwrap_or_else(|_| {
            Err(unknown(
                operation,
                &target.to_string(),
                "the deadline passed during the commit",
            ))
        }),
        Err(RecvTimeoutError::Timeout) => Err(StorageError::timeout(operation, target, "the database")),
        Err(RecvTimeoutError::Disconnected) => Err(StorageError::new(
            ErrorKind::Unavailable,
            operation,
            target,
            "the handle on the database was closed",
        )),
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, which a thread of another runtime must not do.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("database", &self.pool.target().shown)
            .field("schema", &self.pool.names().prefix)
            .finish_non_exhaustive()
    }
}
