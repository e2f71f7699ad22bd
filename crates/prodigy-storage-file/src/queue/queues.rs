//! The queues that this process has open, and what it knows about them.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prodigy_storage_backend::{Check, Deadline, Result};
use prodigy_storage_layout::{DLQ, Entry, JobAddress, JobId, RepoName, repo_queues_folder};

use super::files::QueueFiles;
use super::leases::Leases;
use super::owner;
use crate::fs::{FileKind, Metadata, OpenMode};
use crate::root::{Replace, Root, TempFile};

/// The largest number of queues that are kept open at the same time.
const OPEN: usize = 64;

/// The queues of a root.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(super) root: Arc<Root>,
    pub(crate) leases: Leases,
    /// The open queues of this process. Before each use, under the lock, the state is checked against the files.
    open: Mutex<HashMap<PathBuf, QueueFiles>>,
    /// The paths of queues that have a file whose sync failed.
    distrusted: Mutex<HashSet<PathBuf>>,
    hasher: foldhash::quality::RandomState,
    /// True once all queues were searched for one that a process left uncompacted when it died.
    has_walked: AtomicBool,
    /// The bits of each hash that are cleared. Tests set them to make all ids collide.
    #[cfg(test)]
    pub(super) ignored_bits: std::sync::atomic::AtomicU64,
}

impl Queues {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self {
            root,
            leases: Leases::default(),
            open: Mutex::default(),
            distrusted: Mutex::default(),
            hasher: foldhash::quality::RandomState::default(),
            has_walked: AtomicBool::new(false),
            #[cfg(test)]
            ignored_bits: std::sync::atomic::AtomicU64::default(),
        }
    }

    /// The hash of an item's id.
    pub(super) fn hash(&self, id: &str) -> u64 {
        let hash = self.hasher.hash_one(id);
        #[cfg(test)]
        let hash = hash & !self.ignored_bits.load(std::sync::atomic::Ordering::Relaxed);
        hash
    }

    /// The hash of a lease's token. It is never 0, which marks a delay.
    pub(super) fn token_hash(&self, token: &str) -> u64 {
        self.hasher.hash_one(token) | 1
    }

    /// Removes the stored state of a queue and returns it; `None` if the queue is not open here. After its use, the
    /// caller stores it again with [`keep`](Self::keep).
    pub(super) fn known(&self, path: &Path) -> Option<QueueFiles> {
        self.open.lock().remove(path)
    }

    /// Stores the state of a queue. To be called only after the operation on the queue succeeded.
    pub(super) fn keep(&self, path: &Path, files: QueueFiles) {
        let mut all = self.open.lock();
        if all.len() >= OPEN
            && let Some(other) = all.keys().next().cloned()
        {
            all.remove(&other);
        }
        all.insert(path.to_owned(), files);
    }

    /// Drops the state of a queue after a failed sync. The bytes of the file may not be on the disk, and a later sync
    /// would not report that, so the next turn writes the whole queue again.
    pub(super) fn distrust(&self, path: &Path) {
        self.distrusted.lock().insert(path.to_owned());
        self.open.lock().remove(path);
    }

    pub(super) fn is_distrusted(&self, path: &Path) -> bool {
        self.distrusted.lock().contains(path)
    }

    /// Records that a queue whose sync had failed was written again.
    pub(super) fn trust(&self, path: &Path) {
        self.distrusted.lock().remove(path);
    }

    /// Replaces a file that has a second name (a hard link) by a copy. A queue is changed in place, and the second name
    /// may be outside of the root.
    pub(super) fn unshare(
        &self,
        operation: &'static str,
        path: &Path,
        deadline: Deadline,
    ) -> Result<Metadata> {
        const CHUNK: usize = 256 << 10;
        let fault = |error| self.root.write_fault(operation, path, error);
        let from = self.root.fs.open(path, OpenMode::Read).map_err(fault)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut temp = TempFile::create(&self.root, operation, folder)?;
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            deadline.check(operation, &path.display(), "the queue to be copied")?;
            let read = from.read_full_at(&mut buffer, offset).map_err(fault)?;
            if read == 0 {
                break;
            }
            temp.append(buffer.get(..read).unwrap_or_default())
                .map_err(|error| temp.fault(error))?;
            offset += read as u64;
        }
        temp.publish(path, Replace::Over)?;
        self.root.sync_folder(folder)?;
        tracing::warn!(path = %path.display(), "a file with a second name was replaced by a copy before it is written to");
        self.root.fs.metadata(path).map_err(fault)
    }

    /// The paths of all queues that this process has open.
    pub(super) fn worked_on(&self) -> Vec<PathBuf> {
        self.open.lock().keys().cloned().collect()
    }

    /// The paths of queues whose array may differ from their pending items: those that this process has open and, at
    /// the first call, all queues with a journal, since a process that died may have left one.
    pub(super) fn untidy(&self) -> Vec<PathBuf> {
        let mut found = self.worked_on();
        if !self.has_walked.swap(true, Ordering::AcqRel) {
            found.extend(self.all());
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The paths of all queues that have a journal.
    fn all(&self) -> Vec<PathBuf> {
        let jobs = self.jobs().into_iter();
        let has_journal = |job: &JobAddress| {
            let journal = Entry::QueueJournal(job.clone()).path();
            self.root.fs.metadata(&journal).is_ok()
        };
        jobs.filter(has_journal)
            .map(|job| Entry::Queue(job).path())
            .collect()
    }

    /// The jobs that may have a queue. Folders that can't be listed are left out.
    pub(super) fn jobs(&self) -> Vec<JobAddress> {
        let folders = |folder: PathBuf| {
            let names = self.root.fs.list(&folder).unwrap_or_default();
            let folders = names.into_iter().filter(|entry| entry.kind == FileKind::Folder);
            folders.map(|entry| entry.name)
        };
        let mut jobs = Vec::new();
        for repo in folders(PathBuf::from(DLQ)).filter_map(|name| RepoName::new(name).ok()) {
            let names = folders(repo_queues_folder(&repo));
            jobs.extend(
                names
                    .filter_map(|name| JobId::new(name).ok())
                    .map(|job| JobAddress::new(repo.clone(), job)),
            );
        }
        jobs
    }

    /// True if this project wrote the queue, or if it does not exist. The caller holds its lock.
    pub(crate) fn is_ours(&self, operation: &'static str, job: &JobAddress) -> Result<bool> {
        let (items, journal) = (
            Entry::Queue(job.clone()).path(),
            Entry::QueueJournal(job.clone()).path(),
        );
        if self.root.fs.metadata(&journal).is_ok() {
            return Ok(true);
        }
        match self.root.fs.open(&items, OpenMode::Read) {
            Ok(file) => {
                owner::is_ours(&*file).map_err(|error| self.root.read_fault(operation, &items, error))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.root.read_fault(operation, &items, error)),
        }
    }

    /// The health check for the sizes of queues; `None` if no maximum size is set.
    pub(crate) fn health(&self) -> Option<Check> {
        let cap = self.root.options.max_queue_size?;
        let len = |entry: Entry| self.root.fs.metadata(&entry.path()).map_or(0, |found| found.len);
        let sizes = self.jobs().into_iter().map(|job| {
            let bytes = len(Entry::Queue(job.clone())) + len(Entry::QueueJournal(job.clone()));
            (job, bytes)
        });
        Some(Check::queues(sizes.filter(|(_, bytes)| *bytes > 0), cap))
    }
}
