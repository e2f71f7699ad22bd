//! Runs a clean: records, makes and reports each removal.

use prodigy_storage_backend::{ErrorKind, Result, StorageError, UnfinishedDeletion};
use prodigy_storage_config::RetentionSettings;
use prodigy_storage_layout::{RepoName, Timestamp};

use super::ages::{self, Ages};
use super::due::{self, Due};
use super::{AUDIT, CleanOptions, CleanReport, Removal, RemovalKind, RemovalOutcome};
use crate::events::Events;
use crate::job::Job;
use crate::storage::Storage;

pub(super) fn run(storage: &Storage, options: CleanOptions) -> Result<CleanReport> {
    let rules = options.rules.clone();
    let mut clean = Clean {
        storage,
        rules: rules.unwrap_or_else(|| storage.config().retention.clone()),
        now: storage.now(),
        ages: Ages::by_clock(storage.now()),
        audit: storage.audit_log()?,
        options,
        report: CleanReport::default(),
        unrecorded: Vec::new(),
        postponed: Vec::new(),
    };
    if !clean.options.dry_run {
        storage.check_writable("clean")?;
    }
    // These need no rule, and free space for what follows.
    clean.unfinished_deletions()?;
    if clean.rules != RetentionSettings::default() {
        clean.by_rules()?;
    }
    // The removals that a full disk refused are made again: others have freed space since.
    for (due, full) in std::mem::take(&mut clean.postponed) {
        let outcome = due.make_after(full).unwrap_or_else(|error| kept(&error));
        clean.end_due(due, outcome);
    }
    clean.record(None);
    clean.report.unrecorded = clean.unrecorded.len() as u64;
    Ok(clean.report)
}

struct Clean<'s> {
    storage: &'s Storage,
    options: CleanOptions,
    rules: RetentionSettings,
    now: Timestamp,
    /// Trusts the clock at first. Once an unattended clean finds something due by the clock, trusts only the times
    /// of writes.
    ages: Ages,
    audit: Events,
    report: CleanReport,
    /// Removals that are not in the audit log yet, because an append to it failed.
    unrecorded: Vec<Removal>,
    /// Removals that the full disk refused, each with the error.
    postponed: Vec<(Due, StorageError)>,
}

impl Clean<'_> {
    /// Removes what is old by the rules.
    fn by_rules(&mut self) -> Result<()> {
        if !self.trusts_clock() {
            ages::note_run(self.storage, self.now);
        }
        self.quarantine()?;
        match self.options.repo.clone() {
            Some(repo) => self.repo(&repo),
            None => {
                for repo in self.storage.repositories() {
                    self.repo(&repo?)?;
                }
                Ok(())
            }
        }
    }

    /// Removes the rest of jobs whose deletion was cut short.
    fn unfinished_deletions(&mut self) -> Result<()> {
        for left in self.storage.unfinished_deletions() {
            let UnfinishedDeletion { job, bytes, .. } = left?;
            let (repo, id) = (&self.options.repo, &self.options.job);
            if repo.as_ref().is_some_and(|repo| *repo != job.repo)
                || id.as_ref().is_some_and(|id| *id != job.job)
            {
                continue;
            }
            let removal = self.of(RemovalKind::UnfinishedDeletion, "clean", self.now);
            let removal = removal.job(job.clone()).size(1, bytes);
            if self.options.dry_run {
                self.report.removals.push(removal);
                continue;
            }
            self.record(Some(&removal));
            match self.storage.finish_deletion(&job) {
                Ok(_) => self.end(removal, RemovalOutcome::Removed, (0, 0)),
                Err(error) => self.end(removal, kept(&error), (1, bytes)),
            }
        }
        Ok(())
    }

    fn repo(&mut self, repo: &RepoName) -> Result<()> {
        if repo.as_str() == AUDIT.0 {
            return Ok(());
        }
        let repo = self.storage.repo(repo)?;
        for id in repo.jobs() {
            let id = match id {
                Ok(id) => id,
                Err(error) if error.kind() == ErrorKind::Io && !error.is_transient() => {
                    let mut removal = self.of(RemovalKind::Job, "retention", self.now);
                    removal.repo = Some(repo.name().clone());
                    removal.outcome = kept(&error);
                    self.report.removals.push(removal);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.options.job.as_ref().is_some_and(|job| *job != id) {
                continue;
            }
            let job = repo.job(&id)?;
            match self.due(&job)? {
                Ok(due) => {
                    for due in due {
                        self.make(due)?;
                    }
                }
                Err(error) => {
                    let mut removal = self.of(RemovalKind::Job, "retention", self.now);
                    removal.job = Some(job.address().clone());
                    removal.outcome = kept(&error);
                    self.report.removals.push(removal);
                }
            }
        }
        Ok(())
    }

    fn of(&self, kind: RemovalKind, rule: &str, before: Timestamp) -> Removal {
        Removal::new(kind, rule, before)
    }

    /// Removes old files of the quarantine, if the backend has one.
    #[cfg(feature = "file")]
    fn quarantine(&mut self) -> Result<()> {
        let Some(age) = self.rules.quarantine else {
            return Ok(());
        };
        let Ok(doctor) = self.storage.doctor() else {
            return Ok(());
        };
        if self.options.repo.is_some() || self.options.job.is_some() {
            return Ok(());
        }
        let by_clock = Ages::by_clock(self.now).before(age);
        if !matches!(doctor.clear_quarantine(by_clock, true), Ok((0, _))) {
            self.look_at_writes()?;
        }
        let before = self.ages.before(age);
        let mut removal = self.of(RemovalKind::Quarantine, "retention.quarantine.max_age", before);
        match doctor.clear_quarantine(before, true) {
            Ok((0, _)) => return Ok(()),
            Ok((count, bytes)) => (removal.count, removal.bytes) = (count, bytes),
            Err(error) => removal.outcome = kept(&error),
        }
        if self.options.dry_run || removal.outcome != RemovalOutcome::Due {
            self.report.removals.push(removal);
            return Ok(());
        }
        self.record(Some(&removal));
        let (outcome, left) = match doctor.clear_quarantine(before, false) {
            Ok(_) => (RemovalOutcome::Removed, (0, 0)),
            Err(error) => {
                let left = doctor.clear_quarantine(before, true);
                (kept(&error), left.unwrap_or((removal.count, removal.bytes)))
            }
        };
        self.end(removal, outcome, left);
        Ok(())
    }

    #[cfg(not(feature = "file"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the same signature with and without files"
    )]
    fn quarantine(&mut self) -> Result<()> {
        Ok(())
    }

    /// True if ages are computed from the clock alone: a person has seen the plan, or nothing is removed.
    fn trusts_clock(&self) -> bool {
        self.options.dry_run || !self.options.unattended
    }

    /// The removals that are due for a job. An outer error ends the whole clean; an inner one concerns the job
    /// only.
    fn due(&mut self, job: &Job) -> Result<Result<Vec<Due>>> {
        let by_clock = match due::of_job(job, &self.rules, &Ages::by_clock(self.now)) {
            Ok(due) if !due.is_empty() && !self.trusts_clock() => due,
            other => return Ok(other),
        };
        self.look_at_writes()?;
        let due = due::of_job(job, &self.rules, &self.ages);
        if let Ok(due) = &due {
            self.report.held_back += by_clock.len().saturating_sub(due.len()) as u64;
        }
        Ok(due)
    }

    /// Before the first removal of an unattended clean, switches from the clock to the times of writes. Fails if
    /// no write is recent, since the clock may then be far ahead.
    fn look_at_writes(&mut self) -> Result<()> {
        if self.trusts_clock() || self.ages.is_by_writes() {
            return Ok(());
        }
        let (writes, unread) = self.writes()?;
        self.check_clock(writes.iter().copied().max(), unread)?;
        self.ages = Ages::by_writes(self.storage, self.now, writes)?;
        self.report.silence = self.ages.longest_silence();
        Ok(())
    }

    /// The time of the last write of each job that can be read, and the error of the first job that can't be.
    fn writes(&self) -> Result<(Vec<Timestamp>, Option<StorageError>)> {
        let (mut writes, mut unread) = (Vec::new(), None);
        for repo in self.storage.repositories() {
            for job in self.storage.repo(repo?)?.survey() {
                match job? {
                    Ok(job) => writes.extend(job.status.last_activity),
                    Err(error) => unread = unread.or(Some(error)),
                }
            }
        }
        Ok((writes, unread))
    }

    fn check_clock(&self, newest: Option<Timestamp>, unread: Option<StorageError>) -> Result<()> {
        let recent = Ages::by_clock(self.now).before(CleanOptions::RECENT);
        if newest.is_some_and(|written| written >= recent) {
            return Ok(());
        }
        // The recent write may be in the job that can't be read.
        if let Some(error) = unread {
            let why =
                "nothing was removed: the last write of a job can't be read, and no other write is recent";
            return Err(StorageError::new(error.kind(), "clean", "the store", why).with_source(error));
        }
        let newest = newest.map_or_else(String::new, |written| {
            format!(", the newest one at {}", written.to_rfc3339())
        });
        Err(StorageError::new(
            ErrorKind::Refused,
            "clean",
            "the store",
            format!(
                "nothing was removed: by the clock it is {}, and nothing in the store was written during the last {} days{newest}. A \
                 clock that is far ahead makes all data look old",
                self.now.to_rfc3339(),
                CleanOptions::RECENT.as_secs() / (24 * 60 * 60),
            ),
        )
        .with_hint("compare the clock with `date`; if it is right, look at the plan of `clean`, and remove with `clean --yes`"))
    }

    fn make(&mut self, due: Due) -> Result<()> {
        if self.options.dry_run {
            self.report.removals.push(due.removal);
            return Ok(());
        }
        self.record(Some(&due.removal));
        match due.make() {
            Ok(outcome) => self.end_due(due, outcome),
            Err(error) if error.kind() == ErrorKind::DiskFull => self.postponed.push((due, error)),
            Err(error) => self.end_due(due, kept(&error)),
        }
        Ok(())
    }

    fn end_due(&mut self, due: Due, mut outcome: RemovalOutcome) {
        if let RemovalOutcome::Kept { why } = &mut outcome
            && due.has_begun().unwrap_or(false)
        {
            why.push_str(
                "; its deletion has begun, so that readers no longer see the job: the next clean ends it, or \
                 `prodigy-storage clean --yes`",
            );
        }
        let left = match outcome {
            // If that can't be read, nothing shows that anything is gone.
            RemovalOutcome::Kept { .. } => due.left().unwrap_or((due.removal.count, due.removal.bytes)),
            _ => (0, 0),
        };
        self.end(due.removal, outcome, left);
    }

    /// Reports a removal. The part of a kept one that is gone is reported as a removal of its own.
    fn end(&mut self, mut removal: Removal, outcome: RemovalOutcome, left: (u64, u64)) {
        if matches!(outcome, RemovalOutcome::Kept { .. }) {
            let gone = (
                removal.count.saturating_sub(left.0),
                removal.bytes.saturating_sub(left.1),
            );
            if gone != (0, 0) {
                let part = removal.clone().size(gone.0, gone.1);
                self.report.removals.push(part.outcome(RemovalOutcome::Removed));
            }
            removal = removal.size(left.0, left.1);
        }
        removal.outcome = outcome;
        if removal.outcome != RemovalOutcome::Removed {
            self.record(Some(&removal));
        }
        self.report.removals.push(removal);
    }

    /// Appends a removal to the audit log, after those that could not be appended before. On failure it is kept
    /// for later.
    fn record(&mut self, removal: Option<&Removal>) {
        self.unrecorded.extend(removal.cloned());
        if self.unrecorded.is_empty() || self.options.dry_run {
            return;
        }
        match self.audit.append_batch(&self.unrecorded) {
            Ok(_) => {
                self.unrecorded.clear();
                self.report.unrecorded_why = None;
            }
            // The append is made again with the next removal.
            Err(error) => self.report.unrecorded_why = Some(format!("{error:#}")),
        }
    }
}

fn kept(error: &StorageError) -> RemovalOutcome {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
    RemovalOutcome::Kept {
        why: format!("{error:#}{hint}"),
    }
}
