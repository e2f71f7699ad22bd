//! Waiting for named locks, without a thread for each task.
//!
//! Tasks that wait for the same name form a queue, and only the first task of a queue tries to take the lock, for
//! [`SLICE`] at a time. After that the other queues are served. So a few threads serve any number of names, and a
//! name that stays locked does not delay the others for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::LockName;

use super::queues::Queues;
use super::threads::{Reply, Threads, reply};
use crate::call::operation::LOCK;
use crate::lock::{self, LockOptions, StorageLock};
use crate::storage::Inner;

/// The time for which a thread tries to take a lock before it serves the next queue.
const SLICE: Duration = Duration::from_millis(20);

pub(super) type LockWaits = Queues<LockName, Waiter>;

/// A task that waits for a lock.
pub(super) struct Waiter {
    inner: Arc<Inner>,
    options: LockOptions,
    begun: Instant,
    deadline: Deadline,
    reply: Reply<StorageLock>,
}

impl Threads {
    /// Takes a lock, after all tasks that already wait for it.
    pub(super) async fn lock(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        name: LockName,
        options: LockOptions,
    ) -> Result<StorageLock> {
        // If the task no longer waits, the guard is dropped, which releases the lock.
        let (reply, answer) = reply(self, drop);
        let waiter = Waiter {
            inner: Arc::clone(inner),
            begun: Instant::now(),
            deadline: options
                .wait
                .map_or_else(|| inner.deadline(), |wait| inner.deadline_after(wait)),
            options,
            reply,
        };
        self.locks.push(name, waiter);
        answer.get(LOCK.name).await
    }
}

impl Waiter {
    /// Counts this wait, as its task made it, and sends its result.
    fn answer(self, result: Result<StorageLock>) {
        self.inner.caller.count(LOCK, self.begun, result.is_err());
        self.reply.send(result);
    }
}

/// Tries to take a lock for the first task of its queue.
pub(super) fn serve(queues: &LockWaits, name: &LockName) {
    let first = queues.with(name, |queue| {
        queue.retain(|waiter| !waiter.reply.is_cancelled());
        let first = queue.front()?;
        Some((
            Arc::clone(&first.inner),
            first.options.clone(),
            first.begun,
            first.deadline,
        ))
    });
    let Some((inner, mut options, begun, deadline)) = first else {
        return;
    };
    options.wait = Some(deadline.remaining().map_or(SLICE, |left| left.min(SLICE)));
    let taken = lock::take_since(&inner, name, options, begun);
    match taken {
        Err(error) if continues(&error) => {
            let given_up = queues.with(name, |queue| {
                let waiters = std::mem::take(queue).into_iter();
                let (given_up, waiting): (Vec<_>, _) =
                    waiters.partition(|waiter| waiter.deadline.has_passed());
                *queue = waiting.into();
                given_up
            });
            for waiter in given_up {
                waiter.answer(Err(error.clone()));
            }
        }
        result => {
            if let Some(first) = queues.with(name, std::collections::VecDeque::pop_front) {
                first.answer(result);
            }
        }
    }
}

/// True if a task continues to wait after this error, until its deadline.
fn continues(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::LockUnavailable | ErrorKind::Timeout) || error.is_transient()
}
