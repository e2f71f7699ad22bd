//! The interface for asynchronous tasks: each method corresponds to one of the blocking interface.
//!
//! A call serialises its arguments in the task, and does the rest on a thread of the handle ([`threads`]). Most
//! calls run on a few threads, in order of arrival ([`pool`]). Appends are collected per log ([`appends`]), and
//! waits for named locks take turns ([`locks`]). An iterator becomes a stream that reads a few items at a time
//! ([`stream`]). Most methods are generated ([`mirror`]).

mod appends;
mod call;
mod checkpoints;
mod dlq;
mod documents;
mod events;
mod job;
mod lock;
mod locks;
mod mirror;
mod pool;
mod queues;
mod repo;
mod storage;
mod stream;
mod target;
#[cfg(all(test, feature = "file", feature = "memory"))]
mod tests;
mod threads;

use std::sync::Arc;

use prodigy_storage_backend::Result;

pub use call::Call;
pub use checkpoints::AsyncCheckpoints;
pub use dlq::{AsyncDlq, AsyncTaken};
pub use documents::AsyncDocuments;
pub use events::AsyncEvents;
pub use job::{AsyncJob, AsyncOrphans};
pub use lock::AsyncStorageLock;
pub use repo::{AsyncRepo, AsyncWorktrees};
pub use storage::AsyncStorage;
pub use stream::{EventAt, EventStream, FollowAllStream, FollowStream, ItemStream};
pub(crate) use threads::{late, wait_of_task, waited};

use threads::Threads;

/// Implemented by each blocking type that has a corresponding type for tasks.
trait Wrap {
    /// The corresponding type for tasks.
    type Wrapped;

    /// Converts this value to the type for tasks.
    fn wrap(self, threads: &Arc<Threads>) -> Self::Wrapped;
}

impl<T: Wrap> Wrap for Result<T> {
    type Wrapped = Result<T::Wrapped>;

    fn wrap(self, threads: &Arc<Threads>) -> Self::Wrapped {
        self.map(|value| value.wrap(threads))
    }
}
