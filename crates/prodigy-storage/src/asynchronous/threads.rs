//! The threads of one handle, and the channel by which a task waits for them.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use tokio::sync::oneshot;

use super::appends::{self, Appends};
use super::locks::{self, LockWaits};
use super::pool::{self, Batch, Pool};
use super::queues::Queues;
use super::target::{GivenUp, OfFuture, Target};
use crate::storage::Storage;

thread_local! {
    /// How long the call that this thread is about to run had to wait for the thread.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WAIT: Cell<Option<Wait>> = const { Cell::new(None) };
}

/// How the call that a thread is about to run came to the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// When the task began the call.
    pub(crate) begun: Instant,
    /// The wait for the thread, if all threads were busy.
    pub(crate) waited: Option<Duration>,
    /// True if the wait took the whole `timeout`, so that the call has to fail.
    pub(crate) is_late: bool,
}

/// How the present call came to its thread. The first step of the call receives it. Later calls of this function
/// return `None`, and so do calls on other threads.
pub(crate) fn wait_of_task() -> Option<Wait> {
    WAIT.take()
}

/// The error of a call that waited for a thread during its whole `timeout`.
pub(crate) fn late(operation: &'static str, target: &dyn std::fmt::Display) -> StorageError {
    StorageError::timeout(operation, target, "a thread of the handle")
        .with_hint("raise `connection_pool_size` or `timeout`, or begin fewer calls at once")
}

/// Sets how the present call came to its thread, until it is dropped.
struct OfThread;

impl OfThread {
    fn set(wait: Wait, waited: Duration) -> Self {
        WAITED.set(waited);
        WAIT.set(Some(wait));
        Self
    }
}

impl Drop for OfThread {
    fn drop(&mut self) {
        WAITED.set(Duration::ZERO);
        WAIT.set(None);
    }
}

/// How long the present call had to wait for its thread. This time counts towards the `timeout` of the call's first
/// step. Later calls of this function return zero, and so do calls on other threads.
pub(crate) fn waited() -> Duration {
    WAITED.take()
}

/// The state that all clones of a handle share.
#[derive(Debug)]
pub(super) struct Threads {
    /// For calls that end within `timeout`.
    pub(super) operations: Pool,
    /// For calls without a time limit. Each has its own thread.
    pub(super) waits: Pool,
    pub(super) appends: Arc<Appends>,
    pub(super) locks: Arc<LockWaits>,
    pub(super) given_up: GivenUp,
    timeout: Duration,
}

/// The name of each thread.
const NAME: &str = "prodigy-storage";

impl Threads {
    pub(super) fn new(storage: &Storage) -> Arc<Self> {
        let config = storage.config();
        let limit = config.connection_pool_size;
        Arc::new(Self {
            operations: Pool::new(NAME, limit),
            waits: Pool::new(NAME, usize::MAX),
            appends: Queues::new(Pool::new(NAME, limit), appends::serve),
            locks: Queues::new(Pool::new(NAME, limit), locks::serve),
            given_up: GivenUp::default(),
            timeout: config.timeout,
        })
    }

    /// Runs `call` on one of the threads, after the calls of the target whose futures were dropped while they ran. If the
    /// future is dropped before the call has begun, it never begins. If the call waited too long for the thread, its
    /// first step fails ([`wait_of_task`]).
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        target: Target,
        name: &'static str,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call_or_undo(target, name, call, drop).await
    }

    /// Like [`call`](Self::call). If the future is dropped after the call has begun, `undo` is called with the
    /// call's result.
    pub(super) async fn call_or_undo<T: Send + 'static>(
        self: &Arc<Self>,
        target: Target,
        name: &'static str,
        call: impl FnOnce() -> Result<T> + Send + 'static,
        undo: fn(T),
    ) -> Result<T> {
        let (begun, timeout) = (Instant::now(), self.timeout);
        self.given_up.ended(target).await;
        let (reply, answer) = reply(self, undo);
        let of_future = OfFuture::new(self, target);
        let of_call = of_future.of_call();
        self.operations.submit(move || {
            let waited = begun.elapsed();
            reply.give(move || {
                let wait = Wait {
                    begun,
                    waited: pool::was_busy().then_some(waited),
                    is_late: waited >= timeout,
                };
                let _of_thread = OfThread::set(wait, waited);
                call()
            });
            drop(of_call);
        });
        let result = answer.get(name).await;
        of_future.answered();
        result
    }

    /// Runs a call without a time limit on a thread of its own. If the future is dropped, the call has to end soon
    /// after, and [`ended`](Self::ended) waits for it.
    pub(super) async fn wait<T: Send + 'static>(
        self: &Arc<Self>,
        name: &'static str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = reply(self, drop);
        let left = Arc::new(OnceLock::new());
        let of_call = Arc::clone(&left);
        self.waits.submit(move || {
            reply.give(|| Ok(call()));
            drop(of_call);
        });
        let _guard = Left {
            threads: Arc::clone(self),
            left,
        };
        answer.get(name).await
    }

    /// Completes when all calls that have begun now have ended, and the results of cancelled calls are undone.
    pub(super) async fn ended(self: &Arc<Self>) {
        let (calls, appends, locks) = (
            self.operations.ended(),
            self.appends.served(),
            self.locks.served(),
        );
        calls.await;
        appends.await;
        locks.await;
    }
}

#[cfg(test)]
impl Threads {
    /// A closure that returns whether the handle or one of its threads still exists.
    pub(super) fn watch(&self) -> impl Fn() -> bool + use<> {
        let (operations, waits) = (self.operations.watch(), self.waits.watch());
        let (appends, locks) = (self.appends.watch(), self.locks.watch());
        move || operations() || waits() || appends() || locks()
    }
}

/// Calls `open` on a thread of its own.
pub(super) async fn open(open: impl FnOnce() -> Result<Storage> + Send + 'static) -> Result<Storage> {
    let pool = Pool::new(NAME, 1);
    let (sender, receiver) = oneshot::channel();
    pool.submit(move || drop(sender.send(catch_unwind(AssertUnwindSafe(open)))));
    match receiver.await {
        Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => Err(no_thread("open storage")),
    }
}

/// The error for a call for which no thread could be started.
pub(super) fn no_thread(operation: &'static str) -> StorageError {
    StorageError::new(
        ErrorKind::Io,
        operation,
        "",
        "no thread could be started for the call",
    )
    .with_hint("look at the limits on threads and memory of the process (`ulimit -u`, cgroups)")
}

/// When the future of a call without a time limit is dropped, makes the call count as one of the operations until
/// the call has ended.
struct Left {
    threads: Arc<Threads>,
    left: Arc<OnceLock<Batch>>,
}

impl Drop for Left {
    fn drop(&mut self) {
        // The call keeps this cell until it ends. If it has ended already, the cell is dropped together with this
        // guard.
        let _ = self.left.set(self.threads.operations.hold());
    }
}

/// The result of a call that is sent to a task. If the task does not receive it, it is undone.
struct Parcel<T: Send + 'static> {
    result: Option<Result<T>>,
    undo: fn(T),
    threads: Arc<Threads>,
}

impl<T: Send + 'static> Parcel<T> {
    /// Undoes the result on the present thread, which may block.
    fn undo_here(mut self) {
        if let Some(Ok(value)) = self.result.take() {
            (self.undo)(value);
        }
    }
}

impl<T: Send + 'static> Drop for Parcel<T> {
    fn drop(&mut self) {
        if let Some(Ok(value)) = self.result.take() {
            let undo = self.undo;
            self.threads.operations.submit(move || undo(value));
        }
    }
}

type Sent<T> = Result<Parcel<T>, Box<dyn Any + Send>>;

/// The sender of a call's result, for the thread.
pub(super) struct Reply<T: Send + 'static> {
    sender: oneshot::Sender<Sent<T>>,
    undo: fn(T),
    threads: Arc<Threads>,
}

/// The receiver of a call's result, for the task.
pub(super) struct Answer<T: Send + 'static> {
    receiver: oneshot::Receiver<Sent<T>>,
}

/// Makes the sender and the receiver of a call's result. `undo` is called with a result that the task does not
/// receive.
pub(super) fn reply<T: Send + 'static>(threads: &Arc<Threads>, undo: fn(T)) -> (Reply<T>, Answer<T>) {
    let (sender, receiver) = oneshot::channel();
    let reply = Reply {
        sender,
        undo,
        threads: Arc::clone(threads),
    };
    (reply, Answer { receiver })
}

impl<T: Send + 'static> Reply<T> {
    /// True if the task no longer waits for the result.
    pub(super) fn is_cancelled(&self) -> bool {
        self.sender.is_closed()
    }

    /// Runs the call unless the task no longer waits for it, and sends its result or its panic.
    fn give(self, call: impl FnOnce() -> Result<T>) {
        if self.is_cancelled() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => self.send(result),
            Err(panic) => drop(self.sender.send(Err(panic))),
        }
    }

    /// Sends the result. If the task no longer waits for it, undoes it on the present thread.
    pub(super) fn send(self, result: Result<T>) {
        let parcel = Parcel {
            result: Some(result),
            undo: self.undo,
            threads: self.threads,
        };
        if let Err(Ok(parcel)) = self.sender.send(Ok(parcel)) {
            parcel.undo_here();
        }
    }
}

impl<T: Send + 'static> Answer<T> {
    /// Waits for the result. If the call panicked, the panic continues in the task.
    pub(super) async fn get(self, operation: &'static str) -> Result<T> {
        match self.receiver.await {
            Ok(Ok(mut parcel)) => match parcel.result.take() {
                Some(result) => result,
                None => Err(no_thread(operation)),
            },
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(no_thread(operation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::{Context, Waker};
    use std::thread;

    use prodigy_storage_layout::{JobAddress, JobId, RepoName};

    use super::super::AsyncStorage;
    use super::*;
    use crate::{DeadLetter, ItemId, Select};

    fn poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn wait_for<F: Future>(future: F) -> F::Output {
        let mut future = Box::pin(future);
        loop {
            if let std::task::Poll::Ready(output) = poll(&mut future) {
                return output;
            }
            thread::yield_now();
        }
    }

    /// A call that reports when it has begun, waits until it may end, and reports when its result is undone.
    struct Call {
        future: std::pin::Pin<Box<dyn Future<Output = Result<Sender<()>>>>>,
        begun: Receiver<()>,
        may_end: Sender<()>,
        undone: Receiver<()>,
    }

    fn call(threads: &Arc<Threads>) -> Call {
        call_of(threads, Target::ANY)
    }

    fn call_of(threads: &Arc<Threads>, target: Target) -> Call {
        let ((begin, begun), (may_end, end), (undo, undone)) = (channel(), channel(), channel());
        let threads = Arc::clone(threads);
        let future = async move {
            let work = move || {
                begin.send(()).unwrap();
                end.recv().unwrap();
                Ok(undo)
            };
            threads
                .call_or_undo(target, "test", work, |undo: Sender<()>| undo.send(()).unwrap())
                .await
        };
        let future = Box::pin(future);
        Call {
            future,
            begun,
            may_end,
            undone,
        }
    }

    fn threads() -> Arc<Threads> {
        Threads::new(&Storage::in_memory().unwrap())
    }

    #[test]
    fn the_result_of_a_call_whose_future_is_dropped_while_it_runs_is_undone() {
        let threads = threads();
        let mut call = call(&threads);
        assert!(poll(&mut call.future).is_pending());
        call.begun.recv().unwrap();
        drop(call.future);
        call.may_end.send(()).unwrap();
        assert_eq!(call.undone.recv(), Ok(()));
    }

    #[test]
    fn a_call_is_not_overtaken_by_an_earlier_one_whose_future_was_dropped() {
        let threads = threads();
        let job = |id: &str| {
            Target::job(&JobAddress::new(
                RepoName::new("shop").unwrap(),
                JobId::new(id).unwrap(),
            ))
        };
        let mut first = call_of(&threads, job("a"));
        assert!(poll(&mut first.future).is_pending());
        first.begun.recv().unwrap();
        drop(first.future);
        let (mut second, mut other) = (call_of(&threads, job("a")), call_of(&threads, job("b")));
        for call in [&mut second, &mut other] {
            call.may_end.send(()).unwrap();
            assert!(poll(&mut call.future).is_pending());
        }
        wait_for(other.future).unwrap();
        assert!(poll(&mut second.future).is_pending());
        assert!(second.begun.try_recv().is_err());
        first.may_end.send(()).unwrap();
        wait_for(second.future).unwrap();
        assert_eq!(first.undone.recv(), Ok(()));
    }

    #[test]
    fn a_result_that_was_sent_and_not_taken_is_undone() {
        let threads = threads();
        let mut call = call(&threads);
        assert!(poll(&mut call.future).is_pending());
        call.may_end.send(()).unwrap();
        wait_for(threads.ended());
        drop(call.future);
        assert_eq!(call.undone.recv(), Ok(()));
    }

    #[test]
    fn a_result_that_was_taken_is_not_undone() {
        let threads = threads();
        let call = call(&threads);
        call.may_end.send(()).unwrap();
        drop(wait_for(call.future).unwrap());
        assert!(call.undone.recv().is_err());
    }

    #[test]
    fn the_end_of_all_calls_covers_what_dropped_futures_left_behind() {
        let threads = threads();
        for _ in 0..100 {
            let mut call = call(&threads);
            call.may_end.send(()).unwrap();
            let begun = poll(&mut call.future);
            drop(call.future);
            wait_for(threads.ended());
            // Either the call never began, or its result is undone by now.
            assert!(begun.is_ready() || call.undone.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty));
        }
    }

    #[test]
    fn the_end_covers_a_wait_whose_future_was_dropped_and_no_other_one() {
        let threads = threads();
        let ((begin, begun), (may_end, end)) = (channel(), channel());
        let of_wait = Arc::clone(&threads);
        let mut wait = Box::pin(async move {
            let call = move || {
                begin.send(()).unwrap();
                end.recv().unwrap();
            };
            of_wait.wait("test", call).await
        });
        assert!(poll(&mut wait).is_pending());
        begun.recv().unwrap();
        wait_for(threads.ended());
        drop(wait);
        // Both wait for the same call, although the first `ended` has begun a new batch.
        let (mut first, mut second) = (Box::pin(threads.ended()), Box::pin(threads.ended()));
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        may_end.send(()).unwrap();
        wait_for(second);
        wait_for(first);
    }

    #[test]
    fn dropping_a_handle_and_what_it_gave_ends_its_threads() {
        let storage = AsyncStorage::in_memory().unwrap();
        let are_there = storage.threads.watch();
        let job = storage.repo("shop").unwrap().job("job-1").unwrap();
        wait_for(job.events().append(&1)).unwrap();
        wait_for(job.dlq().push(&DeadLetter::new(ItemId::new("a").unwrap(), 1))).unwrap();
        let lock = wait_for(storage.lock("shop/lock")).unwrap();
        let mut follow = wait_for(job.events().follow::<u32>(None)).unwrap();
        wait_for(follow.next()).unwrap().unwrap();
        // These futures are dropped while they wait for the lock.
        let mut second = storage.lock("shop/lock");
        assert!(poll(&mut second).is_pending());
        assert!(poll(&mut Box::pin(follow.next())).is_pending());
        let mut take = job.dlq().take(&Select::eligible(), 1, Duration::from_secs(60));
        let _ = poll(&mut take);
        drop((storage, job, lock));
        assert!(are_there());
        drop((second, follow, take));
        while are_there() {
            thread::yield_now();
        }
    }
}
