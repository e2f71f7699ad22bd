//! Orphaned worktrees: those that could not be removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    Body, Deadline, ErrorKind, Expected, Fence, PutOptions, Result, Revision, StorageError,
};
use prodigy_storage_layout::{Document, JobAddress, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::other_shape;
use crate::storage::Inner;

/// A worktree that could not be removed.
///
/// ```
/// use prodigy_storage::OrphanedWorktree;
///
/// let orphan = OrphanedWorktree::new("agent-1", "item-3", "/src/shop-agent-1", "directory not empty");
/// assert_eq!(orphan.agent_id, "agent-1");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OrphanedWorktree {
    /// The agent that worked in the worktree.
    pub agent_id: String,
    /// The item that the agent worked on.
    pub item_id: String,
    /// The path of the worktree.
    #[serde(alias = "path")]
    pub worktree_path: PathBuf,
    /// The time at which the removal failed.
    #[serde(alias = "failed_at")]
    pub timestamp: Timestamp,
    /// The reason why it could not be removed.
    pub error: String,
    /// Fields that another program wrote and that this version does not know. They are kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl OrphanedWorktree {
    /// A worktree whose removal failed now.
    #[must_use]
    pub fn new(
        agent_id: impl Into<String>,
        item_id: impl Into<String>,
        worktree_path: impl Into<PathBuf>,
        error: impl Into<String>,
    ) -> Self {
        Self {
            agent_id: agent_id.into(),
            item_id: item_id.into(),
            worktree_path: worktree_path.into(),
            timestamp: Timestamp::now(),
            error: error.into(),
            extra: Map::new(),
        }
    }
}

/// The orphaned worktrees of one job.
///
/// ```
/// # use prodigy_storage::{OrphanedWorktree, Storage};
/// # let storage = Storage::in_memory()?;
/// let repo = storage.repo("shop")?;
/// let orphan = OrphanedWorktree::new("agent-1", "item-3", "/src/shop-agent-1", "directory not empty");
/// repo.job("mapreduce-7")?.orphans().record(&orphan)?;
/// for found in repo.orphans() {
///     let found = found?;
///     println!("{}: {} worktrees are left", found.job, found.orphans.len());
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobOrphans {
    /// The job.
    pub job: JobId,
    /// The orphaned worktrees of the job, in the order in which they were recorded.
    pub orphans: Vec<OrphanedWorktree>,
}

impl JobOrphans {
    /// The orphaned worktrees of a job.
    #[must_use]
    pub fn new(job: JobId, orphans: Vec<OrphanedWorktree>) -> Self {
        Self { job, orphans }
    }
}

/// The stored form of a list of orphaned worktrees.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrphansDocument {
    /// The id of the job; `None` in a list of another program.
    job_id: Option<String>,
    #[serde(default)]
    pub(crate) orphaned_worktrees: Vec<OrphanedWorktree>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// The orphaned worktrees of a job. The list is one document, changed by compare-and-set, so that no record is
/// lost if several processes record at the same time.
///
/// A list that another program keeps for the job, such as a bare array of `path`, `agent_id`, `item_id`,
/// `failed_at` and `error`, is read but never changed.
///
/// ```
/// # use prodigy_storage::{OrphanedWorktree, Storage};
/// # let storage = Storage::in_memory()?;
/// let orphans = storage.repo("shop")?.job("mapreduce-7")?.orphans();
/// orphans.record(&OrphanedWorktree::new("agent-1", "item-3", "/src/shop-agent-1", "directory not empty"))?;
/// for orphan in orphans.list()? {
///     // Remove the worktree, and then:
///     assert!(orphans.remove(&orphan.worktree_path)?);
/// }
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Orphans {
    inner: Arc<Inner>,
    pub(crate) job: JobAddress,
    /// The fencing token that each write carries.
    fence: Option<Fence>,
}

impl Orphans {
    pub(crate) fn new(inner: Arc<Inner>, job: JobAddress, fence: Option<Fence>) -> Self {
        Self { inner, job, fence }
    }

    /// Records an orphaned worktree. An earlier record with the same path is replaced.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a path that is not Unicode;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if another program keeps the list;
    /// [`Timeout`](crate::ErrorKind::Timeout) if other processes change the list again and again.
    pub fn record(&self, orphan: &OrphanedWorktree) -> Result<()> {
        self.change("record orphaned worktree", |orphans| {
            match orphans
                .iter_mut()
                .find(|known| known.worktree_path == orphan.worktree_path)
            {
                Some(known) if known == orphan => return false,
                Some(known) => *known = orphan.clone(),
                None => orphans.push(orphan.clone()),
            }
            true
        })
        .map(drop)
    }

    /// The orphaned worktrees, in the order in which they were recorded.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), and the errors of the backend.
    pub fn list(&self) -> Result<Vec<OrphanedWorktree>> {
        Ok(
            read_orphans(&self.inner, &self.job)?
                .map_or_else(Vec::new, |(found, _)| found.orphaned_worktrees),
        )
    }

    /// Removes the record of the worktree at this path; returns false if no record has the path. The folder is not touched.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn remove(&self, worktree_path: impl AsRef<Path>) -> Result<bool> {
        let path = worktree_path.as_ref();
        self.change("remove orphaned worktree", |orphans| {
            let before = orphans.len();
            orphans.retain(|known| known.worktree_path != path);
            orphans.len() != before
        })
    }

    /// Removes the records that are older than `before`. Returns false if no record is older.
    pub(crate) fn remove_older(&self, before: Timestamp) -> Result<bool> {
        self.change("remove old orphaned worktrees", |orphans| {
            let count = orphans.len();
            orphans.retain(|known| known.timestamp >= before);
            orphans.len() != count
        })
    }

    /// Applies a change to the list, and repeats it if another process has changed the list meanwhile. Returns
    /// true if the list is different after the change.
    fn change(
        &self,
        operation: &'static str,
        mut change: impl FnMut(&mut Vec<OrphanedWorktree>) -> bool,
    ) -> Result<bool> {
        let deadline = self.inner.deadline();
        let mut pause = Duration::from_micros(200);
        loop {
            let (mut found, expected) = match read_with(&self.inner, &self.job, deadline)? {
                Some((found, revision)) => (found, Expected::Revision(revision)),
                None => (self.empty(), Expected::Absent),
            };
            if !change(&mut found.orphaned_worktrees) {
                return Ok(false);
            }
            let Err(error) = self.store(operation, &found, expected, deadline) else {
                return Ok(true);
            };
            if error.kind() != ErrorKind::Conflict {
                return Err(error);
            }
            deadline.check(
                operation,
                &self.job,
                "its turn: others change the record all the time",
            )?;
            std::thread::sleep(pause.min(deadline.remaining().unwrap_or(pause)));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn store(
        &self,
        operation: &'static str,
        orphans: &OrphansDocument,
        expected: Expected,
        deadline: Deadline,
    ) -> Result<()> {
        let document = Document::Orphans(self.job.clone());
        let durability = self.inner.config.durability;
        if orphans.orphaned_worktrees.is_empty() && orphans.extra.is_empty() {
            return self
                .inner
                .caller
                .delete(&document, expected, durability, self.fence.as_ref(), deadline)
                .map(drop);
        }
        let mut buffer = Vec::new();
        let body = Body::write(&mut buffer, orphans).map_err(|fault| fault.refused(operation, &self.job))?;
        let options = PutOptions::new(durability)
            .expect(expected)
            .fencing(self.fence.clone());
        self.inner
            .caller
            .put(&document, body, &options, deadline)
            .map(drop)
    }

    fn empty(&self) -> OrphansDocument {
        OrphansDocument {
            job_id: Some(self.job.job.to_string()),
            orphaned_worktrees: Vec::new(),
            extra: Map::new(),
        }
    }
}

/// The list of a job's orphaned worktrees, and its revision.
pub(crate) fn read_orphans(
    inner: &Inner,
    job: &JobAddress,
) -> Result<Option<(OrphansDocument, Revision)>, StorageError> {
    read_with(inner, job, inner.deadline())
}

fn read_with(
    inner: &Inner,
    job: &JobAddress,
    deadline: Deadline,
) -> Result<Option<(OrphansDocument, Revision)>> {
    let document = Document::Orphans(job.clone());
    let Some(stored) = inner.caller.get(&document, deadline)? else {
        return Ok(None);
    };
    let found = serde_json::from_slice(stored.body())
        .map_err(|error| other_shape("read orphaned worktrees", job, error))?;
    Ok(Some((found, stored.revision())))
}
