//! The order of calls: a call is never overtaken by an earlier one whose future was dropped while it ran.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;
use prodigy_storage_layout::{DocumentOwner, JobAddress, RepoName};
use tokio::sync::watch;

use super::threads::Threads;
use crate::checkpoints::Checkpoints;
use crate::dlq::{Dlq, Taken};
use crate::documents::Documents;
use crate::events::Events;
use crate::job::Job;
use crate::orphans::Orphans;
use crate::repo::Repo;
use crate::storage::Storage;
use crate::worktrees::Worktrees;

/// The job or the repository of a call, as a hash. Two of them may have the same one, and then wait for each other's
/// calls, too. [`Target::ANY`] has no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target(Option<u64>);

impl Target {
    pub(super) const ANY: Self = Self(None);

    fn of(name: impl Hash) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(Some(HASHER.hash_one(name)))
    }

    pub(super) fn job(job: &JobAddress) -> Self {
        Self::of(job)
    }

    fn repo(repo: &RepoName) -> Self {
        Self::of(repo)
    }
}

/// Implemented by each blocking type whose methods are calls for tasks. By default its calls have no order.
pub(super) trait HasTarget {
    fn target(&self) -> Target {
        Target::ANY
    }
}

macro_rules! of_job {
    ($($Type:ty),*) => {$(
        impl HasTarget for $Type {
            fn target(&self) -> Target {
                Target::job(&self.job)
            }
        }
    )*};
}

of_job!(Events, Checkpoints, Dlq, Orphans);

impl HasTarget for Job {
    fn target(&self) -> Target {
        Target::job(self.address())
    }
}

impl HasTarget for Taken {
    fn target(&self) -> Target {
        self.dlq.target()
    }
}

impl HasTarget for Documents {
    fn target(&self) -> Target {
        match &self.owner {
            DocumentOwner::Job(job) => Target::job(job),
            DocumentOwner::Repo(repo) => Target::repo(repo),
        }
    }
}

impl HasTarget for Repo {
    fn target(&self) -> Target {
        Target::repo(self.name())
    }
}

impl HasTarget for Worktrees {}

impl HasTarget for Storage {}

/// The calls that run although their futures were dropped, by target. A receiver notices the end of its call.
#[derive(Debug, Default)]
pub(super) struct GivenUp(Mutex<HashMap<Target, Vec<watch::Receiver<()>>>>);

impl GivenUp {
    /// Completes when all calls of a target that were given up before have ended.
    pub(super) async fn ended(&self, target: Target) {
        let ends = self.0.lock().get(&target).cloned();
        for mut end in ends.into_iter().flatten() {
            // Nothing is ever sent: an error is the end of the call.
            while end.changed().await.is_ok() {}
        }
    }

    fn add(&self, target: Target) -> watch::Sender<()> {
        let (sender, end) = watch::channel(());
        let mut calls = self.0.lock();
        calls.retain(|_, ends| {
            ends.retain(|end| end.has_changed().is_ok());
            !ends.is_empty()
        });
        calls.entry(target).or_default().push(end);
        sender
    }
}

/// Held by a call until it has ended.
pub(super) type OfCall = Arc<OnceLock<watch::Sender<()>>>;

/// Held by the future of a call. If it is dropped before [`answered`](Self::answered), the call counts as given up until
/// the call has ended.
#[must_use]
pub(super) struct OfFuture {
    threads: Arc<Threads>,
    target: Target,
    of_call: OfCall,
}

impl OfFuture {
    pub(super) fn new(threads: &Arc<Threads>, target: Target) -> Self {
        Self {
            threads: Arc::clone(threads),
            target,
            of_call: Arc::default(),
        }
    }

    pub(super) fn of_call(&self) -> OfCall {
        Arc::clone(&self.of_call)
    }

    pub(super) fn answered(mut self) {
        self.target = Target::ANY;
    }
}

impl Drop for OfFuture {
    fn drop(&mut self) {
        if self.target != Target::ANY {
            // If the call has ended already, the sender is dropped together with this value.
            let _ = self.of_call.set(self.threads.given_up.add(self.target));
        }
    }
}
