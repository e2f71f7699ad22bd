//! Finds the removals that are due for one job, and makes them.

use std::time::Duration;

use prodigy_storage_backend::{
    Change, Claim, Eligible, ErrorKind, Result, Select, Settled, Settlement, StorageError,
};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{JobAddress, Timestamp};

use super::ages::Ages;
use super::{Removal, RemovalKind};
use crate::checkpoints::{CheckpointId, PruneOptions};
use crate::job::{Job, JobState, JobStatus};
use crate::storage::Storage;

/// The result of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// This number of things was removed; another process has removed the others.
    Removed(u64),
    /// It was changed since it was found old, and is kept.
    Changed,
}

/// A removal that is due, with the data needed to make it.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) removal: Removal,
    pub(super) job: Job,
    act: Act,
}

#[derive(Debug)]
enum Act {
    /// Deletes the job, unless it was written to after this moment.
    Job(Timestamp),
    Events,
    Checkpoints(Vec<CheckpointId>),
    DeadLetters(Vec<Claim>),
    Orphans,
}

/// The files of other programs in a job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Foreign {
    /// True if nothing else is in the job.
    pub(super) is_all: bool,
    /// The bytes of these files that count as data of the job.
    pub(super) bytes: u64,
}

impl Foreign {
    pub(super) fn of(storage: &Storage, job: &JobAddress) -> Result<Self> {
        #[cfg(feature = "file")]
        if let Ok(doctor) = storage.doctor() {
            let left = doctor.left_of(job)?;
            return Ok(Self {
                is_all: left.is_only_foreign(),
                bytes: left.foreign_bytes,
            });
        }
        let _ = (storage, job);
        Ok(Self::default())
    }
}

/// The answer of the rules for a job.
#[derive(Debug, Default)]
pub(super) struct Dues {
    /// The removals that are due.
    pub(super) due: Vec<Due>,
    /// True if the whole job is old, and has only files of other programs.
    pub(super) is_foreign: bool,
}

/// The removals that are due for a job. Those that need no free space on the disk come first.
pub(super) fn of_job(storage: &Storage, job: &Job, rules: &RetentionSettings, ages: &Ages) -> Result<Dues> {
    let status = job.status()?;
    let mut due = Search {
        storage,
        job,
        ages,
        found: Dues::default(),
    };
    // If the job was moved to another store, only the whole job can be removed here.
    if due.whole_job(&status, rules)? || job.moved()?.is_some() {
        return Ok(due.found);
    }
    if let Some(age) = rules.events.filter(|_| status.state != JobState::Active) {
        let removable = job.events().removable_before(ages.before(age))?;
        let size = (removable.segments, removable.bytes);
        due.add(
            RemovalKind::Events,
            "retention.events.max_age",
            age,
            size,
            Act::Events,
        );
    }
    due.checkpoints(rules)?;
    due.dead_letters(rules)?;
    due.orphans(rules)?;
    Ok(due.found)
}

struct Search<'j> {
    storage: &'j Storage,
    job: &'j Job,
    ages: &'j Ages,
    found: Dues,
}

impl Search<'_> {
    fn add(&mut self, kind: RemovalKind, rule: &str, age: Duration, (count, bytes): (u64, u64), act: Act) {
        if count == 0 {
            return;
        }
        let removal = Removal::new(kind, rule, self.ages.before(age))
            .job(self.job.address().clone())
            .size(count, bytes);
        self.found.due.push(Due {
            removal,
            job: self.job.clone(),
            act,
        });
    }

    /// Adds the removal of the whole job, if that is due. Returns true if the job is old: nothing else of it is then removed.
    fn whole_job(&mut self, status: &JobStatus, rules: &RetentionSettings) -> Result<bool> {
        let (rule, age, last) = match status.state {
            JobState::Finished => {
                // If the time is still to come, the clock of the finish was ahead.
                let finished_at = status.finished_at.filter(|at| self.ages.is_past(*at));
                let last = finished_at.max(status.last_activity);
                ("retention.finished_jobs", rules.finished_jobs, last)
            }
            JobState::Open => ("retention.idle_jobs", rules.idle_jobs, status.last_activity),
            JobState::Active => return Ok(false),
        };
        let (Some(age), Some(last)) = (age, last) else {
            return Ok(false);
        };
        if last >= self.ages.before(age) {
            return Ok(false);
        }
        let foreign = Foreign::of(self.storage, self.job.address())?;
        self.found.is_foreign = foreign.is_all;
        if !foreign.is_all {
            let bytes = bytes_of(self.job)?.saturating_sub(foreign.bytes);
            self.add(RemovalKind::Job, rule, age, (1, bytes), Act::Job(last));
        }
        Ok(true)
    }

    fn checkpoints(&mut self, rules: &RetentionSettings) -> Result<()> {
        if rules.checkpoints.is_none() && rules.checkpoints_keep.is_none() {
            return Ok(());
        }
        let (rule, age) = match rules.checkpoints {
            Some(age) => ("retention.checkpoints.max_age", age),
            None => ("retention.checkpoints.keep", Duration::ZERO),
        };
        let keep = rules.checkpoints_keep.unwrap_or(1);
        let mut old = self
            .job
            .checkpoints()
            .prune(keep, PruneOptions::new().dry_run(true))?;
        old.retain(|entry| age.is_zero() || entry.modified < self.ages.before(age));
        let size = (old.len() as u64, old.iter().map(|entry| entry.bytes).sum());
        let ids = old.into_iter().map(|entry| entry.id).collect();
        self.add(RemovalKind::Checkpoints, rule, age, size, Act::Checkpoints(ids));
        Ok(())
    }

    fn dead_letters(&mut self, rules: &RetentionSettings) -> Result<()> {
        let Some(age) = rules.dead_letters else {
            return Ok(());
        };
        let cut = self.ages.before(age);
        let (mut claims, mut bytes) = (Vec::new(), 0);
        for item in self
            .job
            .dlq()
            .scan(&Select::any().with(Eligible::No).not_after(cut))?
        {
            let item = match item {
                Ok(item) => item,
                // Damage is left to the doctor, and items that are too large to be read are left to a person.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Damaged | ErrorKind::TooLarge | ErrorKind::Foreign
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let size = item.body.get().len() as u64;
            let claim = Claim::Revision(item.id.clone(), item.revision);
            // An item without a time is never old enough.
            if item.summary()?.last_attempt.is_some_and(|last| last < cut) {
                claims.push(claim);
                bytes += size;
            }
        }
        let size = (claims.len() as u64, bytes);
        let rule = "retention.dead_letters.max_age";
        self.add(
            RemovalKind::DeadLetters,
            rule,
            age,
            size,
            Act::DeadLetters(claims),
        );
        Ok(())
    }

    fn orphans(&mut self, rules: &RetentionSettings) -> Result<()> {
        let Some(age) = rules.orphans else { return Ok(()) };
        let cut = self.ages.before(age);
        let mut old = self.job.orphans().list()?;
        old.retain(|orphan| orphan.timestamp < cut);
        let size = (old.len() as u64, 0);
        self.add(
            RemovalKind::Orphans,
            "retention.orphans.max_age",
            age,
            size,
            Act::Orphans,
        );
        Ok(())
    }
}

impl Due {
    /// Makes the removal. An error is the reason why the data was kept.
    pub(super) fn make(&self) -> Result<Made> {
        match (self.try_once(), &self.act) {
            // The deletion of a job needs free space for new files. If the disk is full, the sealed segments and
            // the older checkpoints of the job are removed first, which needs no space.
            (Err(full), Act::Job(last)) if full.kind() == ErrorKind::DiskFull => {
                let status = self.job.status()?;
                // Without activity, its deletion has begun: only the second try is needed.
                let is_old = status.last_activity.is_some_and(|written| written <= *last);
                if is_old && status.state != JobState::Active {
                    self.job.events().remove_before(Timestamp::MAX)?;
                    self.job.checkpoints().prune(1, PruneOptions::new())?;
                }
                self.or_full(self.try_once()?, full)
            }
            (made, _) => made,
        }
    }

    /// Makes the removal again, after the full disk refused it with this error.
    pub(super) fn make_after(&self, full: StorageError) -> Result<Made> {
        self.or_full(self.make()?, full)
    }

    /// The outcome of a second try. If it was kept, the first try may have removed a part, so the full disk is given
    /// as the reason, and not the write that the second try found. What the second try no longer finds was removed by
    /// the first.
    fn or_full(&self, made: Made, full: StorageError) -> Result<Made> {
        match made {
            Made::Removed(_) => Ok(Made::Removed(self.removal.count)),
            Made::Changed => Err(full),
        }
    }

    /// The number and the bytes of what is left of the removal after it was kept, wholly or in part.
    pub(super) fn left(&self) -> Result<(u64, u64)> {
        let removal = &self.removal;
        Ok(match &self.act {
            // How much of it is freed is not known.
            Act::Job(_) if self.has_begun()? => (0, removal.bytes),
            Act::Job(_) => (1, bytes_of(&self.job)?),
            Act::Events => {
                let left = self.job.events().removable_before(removal.before)?;
                (left.segments, left.bytes)
            }
            Act::Checkpoints(ids) => {
                let (mut count, mut bytes) = (0, 0);
                for entry in self.job.checkpoints().list() {
                    let entry = entry?;
                    if ids.contains(&entry.id) {
                        count += 1;
                        bytes += entry.bytes;
                    }
                }
                (count, bytes)
            }
            Act::DeadLetters(claims) => {
                let ids = claims.iter().filter_map(|claim| match claim {
                    Claim::Revision(id, _) => Some(id.clone()),
                    _ => None,
                });
                let (mut count, mut bytes) = (0, 0);
                for item in self.job.dlq().scan(&Select::ids(ids))? {
                    count += 1;
                    bytes += item.map_or(0, |item| item.body.get().len() as u64);
                }
                (count, bytes)
            }
            Act::Orphans => {
                let mut old = self.job.orphans().list()?;
                old.retain(|orphan| orphan.timestamp < removal.before);
                (old.len() as u64, 0)
            }
        })
    }

    /// True if this is the removal of a job whose deletion has begun: readers no longer see the job.
    pub(super) fn has_begun(&self) -> Result<bool> {
        Ok(matches!(self.act, Act::Job(_)) && self.job.status()?.last_activity.is_none())
    }

    /// The time of the last write of the job that is removed. `None` if only a part of it is.
    pub(super) fn last_write(&self) -> Option<Timestamp> {
        match self.act {
            Act::Job(last) => Some(last),
            _ => None,
        }
    }

    fn try_once(&self) -> Result<Made> {
        Ok(match &self.act {
            Act::Job(last) => match self.job.delete_unless_written(*last)? {
                true => Made::Removed(1),
                false if self.has_begun()? => Made::Removed(0),
                false => Made::Changed,
            },
            Act::Events => Made::Removed(self.job.events().remove_before(self.removal.before)?.segments),
            Act::Checkpoints(ids) => {
                // A checkpoint that can't be deleted does not keep the others.
                let (mut count, mut deleted) = (0, Ok(()));
                for id in ids {
                    let outcome = self.job.checkpoints().delete(id);
                    deleted = deleted.and(outcome.map(|is_deleted| count += u64::from(is_deleted)));
                }
                deleted?;
                Made::Removed(count)
            }
            Act::DeadLetters(claims) => {
                let settlements: Vec<_> = claims
                    .iter()
                    .map(|claim| Settlement::new(claim.clone(), Change::Remove))
                    .collect();
                let settled = self.job.dlq().settle(&settlements)?;
                match settled.contains(&Settled::Changed) {
                    false => Made::Removed(settled.iter().filter(|settled| settled.is_done()).count() as u64),
                    true => Made::Changed,
                }
            }
            Act::Orphans => match self.job.orphans().remove_older(self.removal.before)? {
                true => Made::Removed(self.removal.count),
                false => Made::Removed(0),
            },
        })
    }
}

/// The bytes of a job's events, dead letters and checkpoints.
fn bytes_of(job: &Job) -> Result<u64> {
    let mut bytes = job.events().summary()?.bytes + job.dlq().summary()?.bytes;
    for entry in job.checkpoints().list() {
        bytes += entry?.bytes;
    }
    Ok(bytes)
}
