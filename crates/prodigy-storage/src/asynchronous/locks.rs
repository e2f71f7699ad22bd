//! Waiting for named locks, without a thread for each task.
//!
//! Tasks that wait for one name form a queue, and only its first task tries. It tries for a [`SLICE`] at a time; then the other names have
//! their turn. So a few threads serve any number of names, and no name keeps the holder of another one from going on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Deadline, ErrorKind, Result, StorageError};
use prodigy_storage_layout::LockName;

use super::queues::Queues;
use super::threads::{Reply, Threads, reply};
use crate::lock::{self, LockOptions, StorageLock};
use crate::storage::Inner;

/// How long a name is tried until the next one has its turn.
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
    /// Takes a lock, after the tasks that wait for it already.
    pub(super) async fn lock(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        name: LockName,
        options: LockOptions,
    ) -> Result<StorageLock> {
        // A guard that does not arrive releases its lock when it is dropped.
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
        answer.get("acquire lock").await
    }
}

/// Lets the first task of a queue try.
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
                waiter.reply.send(Err(error.clone()));
            }
        }
        result => {
            if let Some(first) = queues.with(name, std::collections::VecDeque::pop_front) {
                first.reply.send(result);
            }
        }
    }
}

/// Whether a wait continues after this error, until its deadline.
fn continues(error: &StorageError) -> bool {
    matches!(error.kind(), ErrorKind::LockUnavailable | ErrorKind::Timeout) || error.is_transient()
}
