//! Locks for concurrency models: the interface of `parking_lot`, run by shuttle's scheduler on threads of a model.
//!
//! Outside of tests, a crate with a model uses `parking_lot` itself; in its tests with the feature `model`, it uses
//! these types. On a thread that is not part of a model they behave like `parking_lot`'s.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    missing_debug_implementations,
    reason = "only tests use it, in the place of `parking_lot`"
)]

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Instant;

use shuttle::current::try_get_current_task;
use shuttle::rand::{Rng, thread_rng};

fn in_model() -> bool {
    try_get_current_task().is_some()
}

fn take<T>(mutex: &shuttle::sync::Mutex<T>) -> shuttle::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutex of the scheduler on whose thread it was created. As in `parking_lot`, a panic does not poison it.
#[derive(Debug)]
pub enum Mutex<T> {
    Plain(parking_lot::Mutex<T>),
    Model(shuttle::sync::Mutex<T>),
}

pub enum MutexGuard<'a, T> {
    Plain(parking_lot::MutexGuard<'a, T>),
    Model {
        mutex: &'a shuttle::sync::Mutex<T>,
        /// `None` only while a [`Condvar`] holds it.
        held: Option<shuttle::sync::MutexGuard<'a, T>>,
    },
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        if in_model() {
            Self::Model(shuttle::sync::Mutex::new(value))
        } else {
            Self::Plain(parking_lot::Mutex::new(value))
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self {
            Self::Plain(mutex) => MutexGuard::Plain(mutex.lock()),
            Self::Model(mutex) => MutexGuard::Model {
                mutex,
                held: Some(take(mutex)),
            },
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Plain(guard) => guard,
            Self::Model { held, .. } => held.as_deref().unwrap(),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Self::Plain(guard) => guard,
            Self::Model { held, .. } => held.as_deref_mut().unwrap(),
        }
    }
}

/// A condition variable of the scheduler on whose thread it was created. Use it with a mutex of the same scheduler.
#[derive(Debug)]
pub enum Condvar {
    Plain(parking_lot::Condvar),
    Model(shuttle::sync::Condvar),
}

pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub fn new() -> Self {
        if in_model() {
            Self::Model(shuttle::sync::Condvar::new())
        } else {
            Self::Plain(parking_lot::Condvar::new())
        }
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        match (self, guard) {
            (Self::Plain(condvar), MutexGuard::Plain(guard)) => condvar.wait(guard),
            (Self::Model(condvar), MutexGuard::Model { held, .. }) => {
                let guard = held.take().unwrap();
                *held = Some(condvar.wait(guard).unwrap_or_else(PoisonError::into_inner));
            }
            _ => panic!("a lock and a condition of different makers"),
        }
    }

    /// A model has no time: the deadline passes at once or never. In both cases other threads can run.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        if let (Self::Plain(condvar), MutexGuard::Plain(guard)) = (self, &mut *guard) {
            return WaitTimeoutResult(condvar.wait_until(guard, deadline).timed_out());
        }
        let comes = thread_rng().gen_bool(0.5);
        match guard {
            MutexGuard::Model { mutex, held } if comes => {
                drop(held.take());
                shuttle::thread::yield_now();
                *held = Some(take(mutex));
            }
            guard => self.wait(guard),
        }
        WaitTimeoutResult(comes)
    }

    pub fn notify_all(&self) {
        match self {
            Self::Plain(condvar) => {
                condvar.notify_all();
            }
            Self::Model(condvar) => condvar.notify_all(),
        }
    }

    pub fn notify_one(&self) {
        match self {
            Self::Plain(condvar) => {
                condvar.notify_one();
            }
            Self::Model(condvar) => condvar.notify_one(),
        }
    }
}

/// The identity of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadId {
    Plain(std::thread::ThreadId),
    Model(shuttle::current::TaskId),
}

/// The current thread. Shuttle runs all threads of a model on one system thread.
pub fn this_thread() -> ThreadId {
    try_get_current_task().map_or_else(|| ThreadId::Plain(std::thread::current().id()), ThreadId::Model)
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets another thread run.
pub fn yield_now() {
    if in_model() {
        shuttle::thread::yield_now();
    } else {
        std::thread::yield_now();
    }
}
