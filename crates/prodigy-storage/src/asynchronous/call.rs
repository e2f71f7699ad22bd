//! The future of a call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use prodigy_storage_backend::StorageError;

/// The future of a call. It does nothing until it is polled, needs no particular runtime, and owns its arguments.
///
/// Dropping the future cancels the call. If the call has not begun on its thread, it never begins. If it has
/// begun, it runs to its end, so an append may still be stored; a lease or a lock that it takes is released. Later calls
/// of the handle for the same job begin after that end, so a call that was given up never undoes a newer one.
///
/// ```
/// # use prodigy_storage::{AsyncStorage, Call, EventId};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let events = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.events();
/// let appended: Call<EventId> = events.append(&"started");
/// println!("{}", appended.await?);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// # }).unwrap();
/// ```
#[must_use = "a future does nothing until it is awaited"]
pub struct Call<T, E = StorageError>(Pin<Box<dyn Future<Output = Result<T, E>> + Send>>);

impl<T, E> Call<T, E> {
    pub(super) fn new(future: impl Future<Output = Result<T, E>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T, E> Future for Call<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
