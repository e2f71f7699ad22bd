//! The data and the state that all handles on one memory store share.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use prodigy_storage_backend::{LockInfo, Result, Stats, Waiters};
use prodigy_storage_layout::{Document, JobAddress};

use crate::budget::{Budget, JOB_COST};
use crate::document::Documents;
use crate::job::{Job, new_incarnation};
use crate::named_lock::LockTable;
use crate::options::MemoryOptions;
use crate::snapshot_lock::SnapshotLock;

/// The number of shards. It is large enough that threads rarely wait for each other, even while jobs are created.
const SHARDS: usize = 64;

type Shard = RwLock<HashMap<JobAddress, Arc<Job>>>;

/// Counters that every write changes. They are aligned so that no other values share their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// The number of writes to the store so far.
    changes: AtomicU64,
    pub(crate) appends: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) documents: AtomicU64,
    pub(crate) items: AtomicU64,
    pub(crate) snapshots: AtomicU64,
}

/// Adds a number to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) options: MemoryOptions,
    pub(crate) budget: Budget,
    pub(crate) locks: LockTable,
    /// The callers that wait for events.
    pub(crate) waiters: Arc<Waiters>,
    /// The entries of the registry, which belong to no job.
    pub(crate) registry: Mutex<Documents>,
    pub(crate) counters: Counters,
    /// The number of writes that the newest snapshot includes. Locked while a snapshot is written.
    pub(crate) saved: Mutex<Option<u64>>,
    /// The lock on the snapshot. It is released after the last snapshot was written.
    pub(crate) snapshot_lock: Option<SnapshotLock>,
    shards: Vec<Shard>,
    hasher: RandomState,
}

impl Store {
    pub(crate) fn new(options: MemoryOptions) -> Self {
        Self {
            budget: Budget::new(options.max_memory),
            options,
            locks: LockTable::default(),
            waiters: Arc::default(),
            registry: Mutex::default(),
            counters: Counters::default(),
            saved: Mutex::new(None),
            snapshot_lock: None,
            shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a write, so that the next snapshot is written.
    pub(crate) fn touch(&self) {
        self.counters.changes.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn changes(&self) -> u64 {
        self.counters.changes.load(Ordering::Acquire)
    }

    fn shard(&self, job: &JobAddress) -> Option<&Shard> {
        let index = self.hasher.hash_one(job) % self.shards.len().max(1) as u64;
        self.shards.get(index as usize)
    }

    /// The job with this address; `None` if it does not exist.
    pub(crate) fn job(&self, address: &JobAddress) -> Option<Arc<Job>> {
        self.shard(address)?.read().get(address).cloned()
    }

    /// The job with this address. It is created if it does not exist.
    pub(crate) fn job_or_new(&self, address: &JobAddress, operation: &'static str) -> Result<Arc<Job>> {
        if let Some(job) = self.job(address) {
            return Ok(job);
        }
        let job = Arc::new(Job::new(new_incarnation()));
        let Some(shard) = self.shard(address) else {
            return Ok(job);
        };
        let mut shard = shard.write();
        if let Some(job) = shard.get(address) {
            return Ok(Arc::clone(job));
        }
        self.budget.reserve(job_cost(address), operation, address)?;
        shard.insert(address.clone(), Arc::clone(&job));
        Ok(job)
    }

    /// Adds a job from a snapshot.
    pub(crate) fn restore_job(&self, address: JobAddress, job: Job) {
        if let Some(shard) = self.shard(&address) {
            shard.write().insert(address, Arc::new(job));
        }
    }

    /// True if a named lock of the job is held.
    pub(crate) fn held_lock_of(&self, job: &JobAddress) -> Option<LockInfo> {
        let mut locks = self.locks.list().into_iter();
        locks.find(|lock| lock.held && job.owns(&lock.name))
    }

    /// All jobs, sorted by address.
    pub(crate) fn all_jobs(&self) -> Vec<(JobAddress, Arc<Job>)> {
        let mut jobs: Vec<(JobAddress, Arc<Job>)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            jobs.extend(
                shard
                    .iter()
                    .map(|(address, job)| (address.clone(), Arc::clone(job))),
            );
        }
        jobs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        jobs
    }

    /// Calls a function with the group of documents that `document` belongs to, those of its job or the registry.
    pub(crate) fn read_documents<T: Default>(
        &self,
        document: &Document,
        read: impl FnOnce(&Documents) -> T,
    ) -> T {
        match document.job() {
            Some(address) => self
                .job(address)
                .map(|job| read(&job.data.lock().documents))
                .unwrap_or_default(),
            None => read(&self.registry.lock()),
        }
    }

    /// Calls a function with the group of documents that `document` belongs to, for a write to them.
    pub(crate) fn write_documents<T>(
        &self,
        document: &Document,
        operation: &'static str,
        write: impl FnOnce(&mut Documents) -> Result<T>,
    ) -> Result<T> {
        let written = match document.job() {
            Some(address) => {
                let job = self.job_or_new(address, operation)?;
                let mut data = job.data.lock();
                write(&mut data.documents)?
            }
            None => write(&mut self.registry.lock())?,
        };
        self.touch();
        Ok(written)
    }

    pub(crate) fn stats(&self, stats: &mut Stats) {
        let counters = &self.counters;
        for (name, counter) in [
            ("log.appends", &counters.appends),
            ("log.events", &counters.events),
            ("log.duplicates", &counters.duplicates),
            ("document.writes", &counters.documents),
            ("queue.items", &counters.items),
            ("memory.snapshots", &counters.snapshots),
        ] {
            stats.add(name, counter.load(Ordering::Relaxed));
        }
        stats.add("memory.bytes", self.budget.used());
    }

    /// Returns an error if the deadline has passed.
    pub(crate) fn check(
        deadline: prodigy_storage_backend::Deadline,
        operation: &'static str,
        target: &dyn Display,
    ) -> Result<()> {
        deadline.check(operation, target, "its turn")
    }
}

/// The number of bytes that an empty job counts in the budget.
pub(crate) fn job_cost(address: &JobAddress) -> u64 {
    (address.repo.as_str().len() + address.job.as_str().len()) as u64 + JOB_COST
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the snapshot of the memory backend could not be written"
            );
        }
    }
}
