//! Helpers of the tests of the interface for tasks.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use prodigy_storage::{AsyncJob, AsyncStorage, SaveOptions};
use serde::{Deserialize, Deserializer};

use crate::support::{Fixture, file_with, memory_with};

/// Storage for tasks, and a blocking handle on the same store for the checks of a test.
pub struct Tasks {
    pub storage: AsyncStorage,
    pub beside: Fixture,
}

impl Tasks {
    pub fn new(beside: Fixture) -> Self {
        Self {
            storage: AsyncStorage::from(beside.storage.clone()),
            beside,
        }
    }

    /// Storage whose handle has one thread for calls, one for appends and one for waits for locks.
    pub fn narrow() -> Self {
        Self::new(memory_with(|builder| builder.set("connection_pool_size", "1")))
    }

    pub fn job(&self) -> AsyncJob {
        self.storage.repo("shop").unwrap().job("job-1").unwrap()
    }
}

/// Runs a test on every backend.
pub fn on_each<F: Future<Output = ()>>(test: impl Fn(Tasks) -> F) {
    for (name, fixture) in [("memory", memory_with(|b| b)), ("file", file_with(|b| b))] {
        println!("on the {name} backend");
        run(test(Tasks::new(fixture)));
    }
}

/// Runs a future in a runtime of one thread.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime.
pub fn run_bare<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// Polls a future once, which starts its call.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Yields this thread again and again, until a condition is true.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

type Gates = HashMap<String, (Sender<()>, Receiver<()>)>;

static GATES: LazyLock<Mutex<Gates>> = LazyLock::new(Mutex::default);

/// A value that is deserialised in two steps: it reports that its deserialisation has begun, and then blocks until
/// the test opens the gate.
#[derive(Debug)]
pub struct Gated;

/// Controls the deserialisation of a [`Gated`] value in a test.
pub struct Gate {
    begun: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    /// Saves a checkpoint of the map phase whose state is a [`Gated`] value. The name must be unique among all
    /// tests.
    pub async fn save(job: &AsyncJob, name: &str) -> Self {
        let (begin, begun) = channel();
        let (open, opened) = channel();
        GATES.lock().unwrap().insert(name.to_owned(), (begin, opened));
        job.checkpoints()
            .save_map(name, SaveOptions::new())
            .await
            .unwrap();
        Self { begun, open }
    }

    /// Waits until the deserialisation of the checkpoint has begun.
    pub fn begun(&self) {
        self.begun.recv().unwrap();
    }

    /// True if a deserialisation of the checkpoint has begun and was not reported before.
    pub fn has_begun(&self) -> bool {
        self.begun.try_recv().is_ok()
    }

    pub fn open(self) {
        self.open.send(()).unwrap();
    }
}

impl<'de> Deserialize<'de> for Gated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let (begin, opened) = GATES
            .lock()
            .unwrap()
            .remove(&name)
            .expect("a gate is passed once");
        begin.send(()).unwrap();
        // If the test failed, the gate was dropped, and this does not block.
        let _ = opened.recv();
        Ok(Self)
    }
}
