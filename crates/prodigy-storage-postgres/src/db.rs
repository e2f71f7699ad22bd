//! Calls from threads into asynchronous code, and the runtime that drives connections.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::fault::unknown;
use crate::pool::Pool;
use crate::session::{Claim, Session};

/// The connections to the database, and the runtime that drives them. All parts of the backend make their calls
/// through it.
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

    /// Calls `work` with a connection, until the deadline. If the deadline passes, the connection is closed. The
    /// running statement is not cancelled, since the outcome of a cancelled commit would be unknown too.
    ///
    /// The call runs on this thread if possible: handing it to another thread and back would take longer than a
    /// small statement.
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
        let claim = Claim::default();
        if let Some(seat) = self.pool.seat() {
            let shelf = seat.shelf.clone();
            let session = Session::open(
                &self.pool,
                Some(&shelf),
                claim.clone(),
                operation,
                target.to_string(),
            );
            let call = async { work(session.await?).await };
            let call = until(deadline, &claim, operation, target, call);
            return self
                .pool
                .run(seat, call)
                .unwrap_or_else(|| Err(closed(operation, target)));
        }
        let (sender, receiver) = sync_channel(1);
        let (pool, claim_of_task, of_task) = (Arc::clone(&self.pool), claim.clone(), target.to_string());
        let task = self.handle.spawn(async move {
            let result = match Session::open(&pool, None, claim_of_task, operation, of_task).await {
                Ok(session) => work(session).await,
                Err(error) => Err(error),
            };
            // This fails if the caller no longer waits.
            let _ = sender.send(result);
        });
        let answer = answer(&receiver, &claim, deadline, operation, target);
        // Has an effect only if the deadline passed: otherwise the task has ended.
        task.abort();
        answer
    }
}

/// Runs a call until the deadline. If it passes, the call is dropped.
pub(crate) async fn until<T>(
    deadline: Deadline,
    claim: &Claim,
    operation: &'static str,
    target: &(impl Display + ?Sized),
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(left) = deadline.remaining() else {
        return call.await;
    };
    match tokio::time::timeout(left, call).await {
        Ok(result) => result,
        Err(_) => Err(too_late(claim, operation, target)),
    }
}

/// The error of a call whose deadline passed. If a write had been sent, its outcome is unknown.
fn too_late(claim: &Claim, operation: &'static str, target: &(impl Display + ?Sized)) -> StorageError {
    let target = target.to_string();
    if claim.give_up() {
        StorageError::timeout(operation, target, "the database")
    } else {
        unknown(operation, &target, "the deadline passed during the commit")
    }
}

fn closed(operation: &'static str, target: &dyn Display) -> StorageError {
    StorageError::new(
        ErrorKind::Unavailable,
        operation,
        target,
        "the handle on the database was closed",
    )
}

/// Waits for the result of a task until the deadline. If the deadline passes after a write was sent, the outcome
/// is unknown.
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
        Err(RecvTimeoutError::Disconnected) if claim.give_up() => Err(closed(operation, target)),
        Err(_) => {
            let failure = too_late(claim, operation, target);
            // The result may have come since the wait ended.
            receiver.try_recv().unwrap_or(Err(failure))
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop of the runtime would block, which is not allowed on a thread of another runtime.
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
