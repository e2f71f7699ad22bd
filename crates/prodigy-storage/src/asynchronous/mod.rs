//! The interface for tasks: the blocking one, method by method.
//!
//! A call for tasks serialises what it is given in the task, and does the rest on a thread of its handle ([`threads`]): calls on a few
//! threads in order of arrival ([`pool`]), appends gathered by log ([`appends`]), waits for named locks in turn ([`locks`]). An
//! iterator becomes a stream that asks for a few items at a time ([`stream`]). Most methods are rows ([`mirror`]).

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
pub(crate) use threads::waited;

use threads::Threads;

/// A type of the blocking interface with a counterpart for tasks.
trait Wrap {
    /// The counterpart.
    type Wrapped;

    /// The counterpart of this value.
    fn wrap(self, threads: &Arc<Threads>) -> Self::Wrapped;
}

impl<T: Wrap> Wrap for Result<T> {
    type Wrapped = Result<T::Wrapped>;

    fn wrap(self, threads: &Arc<Threads>) -> Self::Wrapped {
        self.map(|value| value.wrap(threads))
    }
}
