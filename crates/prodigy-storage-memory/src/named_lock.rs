//! Named locks between the threads of this process.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{
    Deadline, ErrorKind, Holder, LockGuard, LockInfo, LockOptions, Page, PageOptions, Result, StorageError,
};
use prodigy_storage_layout::LockName;

use crate::budget::LOCK_COST;
use crate::store::Store;

const LOCK: &str = "take lock";

#[derive(Debug, Default)]
struct State {
    held: bool,
    holder: Option<Holder>,
    fencing: u64,
    /// The callers that wait for the lock, in order of arrival.
    waiting: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Table {
    locks: BTreeMap<LockName, State>,
    tickets: u64,
}

/// All named locks of a store.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    table: Mutex<Table>,
    changed: Condvar,
}

impl LockTable {
    /// Takes a lock. Callers that wait get it in order of arrival.
    pub(crate) fn lock(
        store: &Arc<Store>,
        name: &LockName,
        options: &LockOptions,
        deadline: Deadline,
    ) -> Result<Box<dyn LockGuard>> {
        let began = options.since.unwrap_or_else(Instant::now);
        let this = &store.locks;
        let mut table = this.table.lock();
        if !table.locks.contains_key(name) {
            store.budget.reserve(cost(name), LOCK, name)?;
        }
        let ticket = table.tickets;
        table.tickets += 1;
        table
            .locks
            .entry(name.clone())
            .or_default()
            .waiting
            .push_back(ticket);
        loop {
            let state = table.locks.entry(name.clone()).or_default();
            if !state.held && state.waiting.front() == Some(&ticket) {
                state.waiting.pop_front();
                state.held = true;
                state.fencing += 1;
                let since = store.options.clock.now();
                let purpose = options.purpose.clone();
                state.holder = Some(Holder::new(
                    std::process::id(),
                    "localhost".into(),
                    since,
                    purpose,
                ));
                let guard = Guard {
                    store: Arc::clone(store),
                    name: name.clone(),
                    fencing: state.fencing,
                };
                drop(table);
                store.touch();
                return Ok(Box::new(guard));
            }
            let timed_out = match deadline.instant() {
                None => {
                    this.changed.wait(&mut table);
                    false
                }
                Some(at) => this.changed.wait_until(&mut table, at).timed_out(),
            };
            if timed_out {
                let state = table.locks.entry(name.clone()).or_default();
                if !state.held && state.waiting.front() == Some(&ticket) {
                    continue;
                }
                state.waiting.retain(|&waiting| waiting != ticket);
                let error = unavailable(name, state, began);
                drop(table);
                // The caller gives up, and the next one may now be the first in line.
                this.changed.notify_all();
                return Err(error);
            }
        }
    }

    fn release(&self, name: &LockName) {
        if let Some(state) = self.table.lock().locks.get_mut(name) {
            state.held = false;
        }
        self.changed.notify_all();
    }

    pub(crate) fn list(&self) -> Vec<LockInfo> {
        acquired(self.table.lock().locks.iter()).collect()
    }

    pub(crate) fn page(&self, page: &PageOptions<LockName>) -> Page<LockInfo, LockName> {
        let limit = page.limit.max(1);
        let behind = match &page.after {
            Some(after) => (Bound::Excluded(after), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let table = self.table.lock();
        let found = acquired(table.locks.range::<LockName, _>(behind)).take(limit.saturating_add(1));
        Page::up_to(limit, found.collect(), |last| last.name.clone())
    }

    /// Adds a lock from a snapshot. It is free, and its tokens continue.
    pub(crate) fn restore(&self, name: LockName, holder: Option<Holder>, fencing: u64) {
        let state = State {
            fencing,
            holder,
            ..State::default()
        };
        self.table.lock().locks.insert(name, state);
    }
}

/// The listing's entries for locks. A lock without a token was never taken: callers have only waited for it.
fn acquired<'a>(locks: impl Iterator<Item = (&'a LockName, &'a State)>) -> impl Iterator<Item = LockInfo> {
    locks.filter(|(_, state)| state.fencing > 0).map(|(name, state)| {
        let holder = state.holder.clone().filter(|_| state.held);
        LockInfo::new(name.clone(), state.held, holder, state.fencing).last_holder(state.holder.clone())
    })
}

/// The number of bytes that a lock counts in the budget.
pub(crate) fn cost(name: &LockName) -> u64 {
    name.as_str().len() as u64 + LOCK_COST
}

fn unavailable(name: &LockName, state: &State, began: Instant) -> StorageError {
    let holder = match &state.holder {
        Some(holder) if state.held => holder.to_string(),
        _ => "another thread of this process".into(),
    };
    StorageError::new(
        ErrorKind::LockUnavailable,
        LOCK,
        name,
        format!("it is held by {holder}; waited {:.1?} for it", began.elapsed()),
    )
    .with_hint("wait longer, or release the lock: its holder is a part of this process")
}

/// The guard of a held lock.
#[derive(Debug)]
struct Guard {
    store: Arc<Store>,
    name: LockName,
    fencing: u64,
}

impl LockGuard for Guard {
    fn name(&self) -> &LockName {
        &self.name
    }

    fn fencing(&self) -> u64 {
        self.fencing
    }

    fn release(self: Box<Self>) -> Result<()> {
        drop(self);
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.store.locks.release(&self.name);
    }
}
